//! `check`: the configuration alone. No network, nothing written, all problems at once.

use std::io::Write;

use crate::config::{Config, DomainsFrom, Servers, SourceKind};
use crate::error::Result;
use crate::exit::Exit;

/// Says what a good configuration amounts to; a bad one never gets here (`config::load`).
pub fn run(config: &Config, out: &mut dyn Write) -> Result<u8> {
    let _ = writeln!(out, "{}: good", config.path.display());
    let from = config.domains.from.map(|from| match from {
        DomainsFrom::Exchange => "the accepted domains of Exchange".to_owned(),
        DomainsFrom::Postfix => "relay_domains of the local Postfix".to_owned(),
    });
    let listed = config.domains.list.iter().map(ToString::to_string);
    let domains: Vec<String> = from.into_iter().chain(listed).collect();
    let _ = writeln!(out, "  domains  {}", domains.join(", "));
    for source in &config.sources {
        let kind = match &source.kind {
            SourceKind::Ldap(ldap) => {
                format!("ldap, {}", servers(&ldap.servers))
            }
            SourceKind::Ldif(file) => format!("ldif, {}", file.path.display()),
            SourceKind::List(file) => format!("list, {}", file.path.display()),
        };
        let _ = writeln!(out, "  source   {}: {kind}", source.name);
    }
    for table in &config.tables {
        for format in &table.formats {
            let _ = writeln!(
                out,
                "  table    {}: {}, {}",
                table.name,
                format.name(),
                table.file(*format).display()
            );
        }
    }
    for hook in config.all_hooks() {
        let _ = writeln!(out, "  hook     {}: {}", hook.name, hook.program.display());
    }
    Ok(Exit::Current.code())
}

fn servers(servers: &Servers) -> String {
    match servers {
        Servers::Listed(servers) => {
            let urls: Vec<&str> = servers.iter().map(|server| server.url.as_str()).collect();
            urls.join(", ")
        }
        Servers::Discovered(discovery) => format!(
            "DNS SRV {}",
            crate::directory::questions(discovery).join(", then ")
        ),
    }
}

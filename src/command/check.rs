//! `check`: the configuration alone. No network, nothing written, all problems at once.

use std::io::Write;

use crate::config::{Config, DomainsFrom, Servers, SourceKind};
use crate::error::Result;
use crate::exit::Exit;
use crate::report::GOOD;
use crate::report::page::Page;

/// Says what a good configuration amounts to; a bad one never gets here (`config::load`).
pub fn run(config: &Config, out: &mut dyn Write) -> Result<u8> {
    let from = config.domains.from.map(|from| match from {
        DomainsFrom::Exchange => "the accepted domains of Exchange".to_owned(),
        DomainsFrom::Postfix => "relay_domains of the local Postfix".to_owned(),
    });
    let listed = config.domains.list.iter().map(ToString::to_string);
    let domains: Vec<String> = from.into_iter().chain(listed).collect();
    let mut lines = vec![("domains", domains.join(", "))];
    for source in &config.sources {
        let kind = match &source.kind {
            SourceKind::Ldap(ldap) => {
                format!("ldap, {}", servers(&ldap.servers))
            }
            SourceKind::Ldif(file) => format!("ldif, {}", file.path.display()),
            SourceKind::List(file) => format!("list, {}", file.path.display()),
        };
        lines.push(("source", format!("{}: {kind}", source.name)));
    }
    for table in &config.tables {
        for format in &table.formats {
            let path = table.file(*format);
            lines.push((
                "table",
                format!("{}: {}, {}", table.name, format.name(), path.display()),
            ));
        }
    }
    for hook in config.all_hooks() {
        lines.push(("hook", format!("{}: {}", hook.name, hook.program.display())));
    }
    let page = &mut Page::stdout(out);
    let _ = page.line(format_args!(
        "{}: {GOOD}good{GOOD:#}",
        config.path.display()
    ));
    for (about, text) in lines {
        let _ = page.hanging(&format!("  {about:<9}"), &text);
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

//! What Postfix, Proxmox Mail Gateway and SMTP servers say.

use rcptsync::check::gather::pmg as files_of_pmg;
use rcptsync::postfix::relay_domains::tokens;
use rcptsync::postfix::{lookup, master, settings};
use rcptsync::smtp::{Endpoint, Incoming, Reply};
use tempfile::TempDir;

use crate::choice;

pub fn postfix(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let found: Vec<&str> = tokens(&text).collect();
    let is_between = |character: char| ", \t\r\n".contains(character);
    if !text.contains(['{', '}']) {
        let expected: Vec<&str> = text
            .split(is_between)
            .filter(|word| !word.is_empty())
            .collect();
        assert_eq!(found, expected);
    }
    for (name, value) in settings::parse(&text) {
        assert!(!name.contains(['\n', '=']) && !value.contains('\n'));
    }
    let (services, overrides) = text.split_once("\n\n").unwrap_or((&text, ""));
    for service in master::parse(services, overrides) {
        assert!(!service.name.is_empty() && !service.kind.contains(char::is_whitespace));
        let _ = service.is_open();
        for (parameter, value) in &service.overrides {
            assert!(!parameter.contains(['/', '\n']) && !value.contains('\n'));
        }
    }
    // Names alone: the others would be opened, or asked of postmap.
    if !text.contains(['/', ':']) {
        let names = ["a.example", "b.example"].map(str::to_owned);
        let listed = lookup::listed(&text, &names).expect("names alone");
        for name in &listed {
            assert!(found.iter().any(|word| {
                let word = word.trim_start_matches('!');
                word.eq_ignore_ascii_case(name)
            }));
        }
    }
}

const FILES_OF_PMG: [&str; 5] = [
    "etc/pmg/pmg.conf",
    "etc/pmg/cluster.conf",
    "etc/pmg/templates/main.cf.in",
    "var/lib/pmg/templates/main.cf.in",
    "etc/postfix/main.cf",
];

thread_local! {
    static ROOT: TempDir = {
        let root = tempfile::tempdir().expect("a directory");
        for file in FILES_OF_PMG {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(path, "").expect("written");
        }
        root
    };
}

/// Any of its files.
pub fn pmg(octets: &[u8]) {
    let (which, content) = choice(octets);
    ROOT.with(|root| {
        let path = root.path().join(FILES_OF_PMG[which % FILES_OF_PMG.len()]);
        std::fs::write(&path, content).expect("written");
        let found = files_of_pmg::look(root.path());
        let pmg = found.expect("the packaged template is there");
        for (key, value) in pmg.mail.iter().flatten() {
            assert!(!key.contains(char::is_whitespace) && !value.contains('\n'));
        }
        assert!(pmg.nodes.iter().all(|name| !name.contains('\n')));
        for name in pmg
            .template
            .iter()
            .flat_map(|template| template.includes.keys())
        {
            assert!(!name.contains('/'), "{name} leads elsewhere");
        }
        std::fs::write(path, "").expect("written");
    });
}

/// Replies are the same in whatever pieces they come.
pub fn smtp(octets: &[u8]) {
    let (size, octets) = choice(octets);
    let whole = replies(octets, octets.len().max(1));
    assert_eq!(replies(octets, size + 1), whole);
    if let Ok(text) = std::str::from_utf8(octets)
        && let Ok(endpoint) = text.parse::<Endpoint>()
    {
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
    }
}

/// The replies in them, and whether what follows is none.
fn replies(octets: &[u8], size: usize) -> (Vec<(u16, Vec<String>)>, bool) {
    let mut incoming = Incoming::default();
    let mut found = Vec::new();
    for piece in octets.chunks(size) {
        incoming.take(piece);
        loop {
            match incoming.reply() {
                Ok(Some((code, lines))) => {
                    assert!((200..600).contains(&code) && !lines.is_empty());
                    assert!(lines.iter().all(|line| !line.contains('\n')));
                    let reply = Reply {
                        code,
                        lines,
                        took: std::time::Duration::ZERO,
                    };
                    let _ = (reply.enhanced(), reply.to_string());
                    found.push((reply.code, reply.lines));
                }
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

//! What was measured where: the machine, the versions, and what is missing on it.

use std::path::Path;

use crate::common::process::command;
use crate::timed::is_there;

/// What a row needs that not every machine has.
struct Needed {
    name: &'static str,
    is_there: fn(&str) -> bool,
    packages: &'static str,
    rows: &'static [u8],
}

const SLAPD_ROWS: &[u8] = &[3, 4, 5, 6, 9, 10];

const NEEDED: [Needed; 12] = [
    Needed {
        name: "time",
        is_there,
        packages: "time",
        rows: &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    },
    Needed {
        name: "cdb",
        is_there,
        packages: "tinycdb",
        rows: &[1, 8],
    },
    Needed {
        name: "postmap",
        is_there,
        packages: "postfix postfix-cdb",
        rows: &[2, 4, 5, 11],
    },
    Needed {
        name: "/usr/lib/postfix/postfix-cdb.so",
        is_there: |path| Path::new(path).exists(),
        packages: "postfix-cdb",
        rows: &[2, 4, 5, 11],
    },
    Needed {
        name: "slapd",
        is_there,
        packages: "slapd",
        rows: SLAPD_ROWS,
    },
    Needed {
        name: "slapadd",
        is_there,
        packages: "slapd",
        rows: SLAPD_ROWS,
    },
    Needed {
        name: "ldapsearch",
        is_there,
        packages: "ldap-utils",
        rows: &[3, 4, 6, 9],
    },
    Needed {
        name: "openssl",
        is_there,
        packages: "openssl",
        rows: SLAPD_ROWS,
    },
    Needed {
        name: "samba",
        is_there,
        packages: "samba samba-ad-dc samba-ad-provision",
        rows: &[7],
    },
    Needed {
        name: "ldbadd",
        is_there,
        packages: "ldb-tools",
        rows: &[7],
    },
    Needed {
        name: "Net::LDAP",
        is_there: |module| {
            command("perl")
                .arg(format!("-M{module}"))
                .arg("-e1")
                .output()
                .is_ok_and(|ended| ended.status.success())
        },
        packages: "libnet-ldap-perl",
        rows: &[5],
    },
    Needed {
        name: "ldap3",
        is_there: |module| {
            command("/usr/bin/python3")
                .arg("-c")
                .arg(format!("import {module}"))
                .output()
                .is_ok_and(|ended| ended.status.success())
        },
        packages: "python3-ldap3",
        rows: &[5],
    },
];

/// What these rows need and this machine has not, and how to install it; `None` when nothing is missing.
pub fn missing(rows: &[u8]) -> Option<String> {
    let missing: Vec<&Needed> = NEEDED
        .iter()
        .filter(|needed| needed.rows.iter().any(|row| rows.contains(row)))
        .filter(|needed| !(needed.is_there)(needed.name))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let names: Vec<&str> = missing.iter().map(|needed| needed.name).collect();
    let packages: Vec<&str> = missing.iter().map(|needed| needed.packages).collect();
    Some(format!(
        "not found: {}\ninstall with: apt-get install --no-install-recommends {}",
        names.join(", "),
        packages.join(" ")
    ))
}

/// The head of the results.
pub fn head(arguments: &str) -> String {
    let packages = [
        "slapd",
        "samba",
        "postfix",
        "postfix-cdb",
        "tinycdb",
        "libnet-ldap-perl",
        "python3-ldap3",
        "time",
    ];
    let packages: Vec<String> = packages
        .iter()
        .map(|package| {
            let version = output("dpkg-query", &["-W", "-f", "${Version}", package]);
            format!("{package} {version}")
        })
        .collect();
    let directory = env!("CARGO_MANIFEST_DIR");
    let commit = output("git", &["-C", directory, "rev-parse", "--short", "HEAD"]);
    let changes = output(
        "git",
        &[
            "-C",
            directory,
            "status",
            "--porcelain",
            "--untracked-files=no",
        ],
    );
    let commit = match changes.as_str() {
        "" => commit,
        _ => format!("{commit} with changes"),
    };
    format!(
        "# Results\n\n\
         Made by `cargo run --release -p bench{arguments}`; what the rows are and why they are fair: [README](README.md).\n\
         Times are the median of all rounds, with the least and the most of them; processor time is user and system, the\n\
         median; memory is the peak of the largest process. Sides ran in turn.\n\n\
         - date: {date}\n\
         - machine: {processor}, {cores} cores, {memory}, Linux {kernel}\n\
         - rcptsync {commit}, {rustc}\n\
         - {packages}\n",
        date = output("date", &["--utc", "+%Y-%m-%d %H:%M UTC"]),
        processor = field("/proc/cpuinfo", "model name"),
        cores = std::thread::available_parallelism().map_or(0, usize::from),
        memory = field("/proc/meminfo", "MemTotal"),
        kernel = output("uname", &["-r"]),
        rustc = output("rustc", &["--version"]),
        packages = packages.join(", "),
    )
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = command(program).args(arguments).output();
    let output = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    output.unwrap_or_else(|_| "unknown".to_owned())
}

fn field(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_once(':'));
    line.map_or_else(
        || "unknown".to_owned(),
        |(_, value)| value.trim().to_owned(),
    )
}

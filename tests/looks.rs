//! How results look: every verb on a real terminal of 80 columns, plain and coloured, beside the files in `cases/looks`.
//!
//! One company lives through two nights at fixed times: a first publication; a change with a frozen source, a hook that
//! fails and changes that are held; an approval. What the program writes to the terminal (util-linux' `script`) must be what
//! the files say, and no line of it may be wider than the terminal or do anything to it. After a change that is meant,
//! `UPDATE_LOOKS=1 cargo test --test looks` writes the files anew; then look at them.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::rcptsync::Rcptsync;
use common::{ldif, process, require, skip, write_file};
use rcptsync::harmless::printable;
use textwrap::core::display_width;

const COLUMNS: usize = 80;

/// The first evening; nights are counted from here.
const EVENING: u64 = 1_795_219_200;

/// As long as every directory of a test, so that lines break in the same places.
const PLACE: &str = "/tmp/rcptsync-looks-PLACED";

const PLACES: [&str; 4] = [
    "OU=Vertrieb,OU=Köln",
    "OU=Einkauf,OU=Köln",
    "OU=Verwaltung,OU=Hamburg",
    "OU=Lager,OU=Bremen",
];

/// People with two addresses each, spread over places and domains; those of `is_gone` left, and `more` came.
fn company(people: usize, is_gone: impl Fn(usize) -> bool, more: &[(&str, &[&str])]) -> String {
    let mut text = String::from(
        "# extended LDIF\n#\n# LDAPv3\n# base <DC=corp,DC=example> with scope subtree\n\
         # filter: (proxyAddresses=smtp:*)\n# requesting: ALL\n#\n\n",
    );
    let mut count = 0;
    let mut push = |name: &str, place: &str, number: usize, addresses: &[String]| {
        ldif::push_line(
            &mut text,
            "dn",
            &format!("CN={name},{place},DC=corp,DC=example"),
        );
        ldif::push_bytes(&mut text, "objectGUID", &(number as u128 + 1).to_be_bytes());
        ldif::push_line(&mut text, "msExchRecipientTypeDetails", "1");
        for address in addresses {
            ldif::push_line(&mut text, "proxyAddresses", &format!("smtp:{address}"));
        }
        text.push('\n');
        count += 1;
    };
    let domains = [
        "example.com",
        "example.com",
        "example.org",
        "bücher.example",
    ];
    for number in (0..people).filter(|number| !is_gone(*number)) {
        let (domain, place) = (domains[number % 4], PLACES[number / 3 % 4]);
        let addresses = [
            format!("person{number}@{domain}"),
            format!("p.{number}@{domain}"),
        ];
        push(&format!("Person {number}"), place, number, &addresses);
    }
    for (number, (name, addresses)) in more.iter().enumerate() {
        let addresses: Vec<String> = addresses
            .iter()
            .map(|address| (*address).to_owned())
            .collect();
        push(name, PLACES[0], 10_000 + number, &addresses);
    }
    text.push_str(&format!(
        "# search result\nsearch: 2\nresult: 0 Success\ncontrol: 1.2.840.113556.1.4.319 false MAUCAQAEAA==\n\
         pagedresults: cookie=\n\n# numResponses: {}\n# numEntries: {count}\n",
        count + 1
    ));
    text
}

/// The company, and the file of each look.
struct Stage {
    program: Rcptsync,
    cases: PathBuf,
    is_update: bool,
}

impl Stage {
    fn configure(&self, more: &str) {
        self.program.configure(
            &["example.com", "example.org", "bücher.example"],
            "[source.corp]\nkind = \"ldif\"\npath = \"corp.ldif\"\nmax_age = \"none\"\n\
             [source.guests]\nkind = \"list\"\npath = \"guests.list\"\n",
            more,
        );
    }

    /// Writes a file an hour before a time.
    fn write(&self, name: &str, content: &str, at: u64) {
        let path = self.program.directory().join(name);
        write_file(&path, content);
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(at - 3_600);
        let file = std::fs::File::options().append(true).open(&path);
        file.and_then(|file| file.set_modified(written))
            .expect("a time of our own file");
    }

    /// What the program writes to a terminal at a time that stands still.
    #[track_caller]
    fn on_terminal(&self, at: u64, is_coloured: bool, arguments: &str, code: i32) -> String {
        if self.program.state_dir().exists() {
            self.program.forget_clocks();
        }
        let configuration = self.program.config_file();
        let mut script = process::command("script");
        script
            .args(["-qec"])
            .arg(format!(
                "stty cols {COLUMNS} rows 24; exec {} --config {} {arguments}",
                env!("CARGO_BIN_EXE_rcptsync"),
                configuration.display()
            ))
            .arg("/dev/null")
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .env("TZ", "UTC")
            // No Postfix of this machine is asked.
            .env("MAIL_CONFIG", self.program.directory())
            .env("NO_FAKE_STAT", "1")
            .env_remove("RCPTSYNC_CONFIG");
        if !is_coloured {
            script.env("NO_COLOR", "1");
        }
        let time =
            humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(at))
                .to_string();
        let time = time.replace('T', " ").replace('Z', "");
        let mut faketime = process::command("faketime");
        faketime
            .args(["-f", &time])
            .arg(script.get_program())
            .args(script.get_args());
        for (name, value) in script.get_envs() {
            match value {
                Some(value) => faketime.env(name, value),
                None => faketime.env_remove(name),
            };
        }
        let output = faketime.output().expect("faketime runs");
        let text = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        self.without_chance(&text)
    }

    /// Without what is another each time: where the test lies, and the number of a process in the id of a run.
    fn without_chance(&self, text: &str) -> String {
        let place = self.program.directory().display().to_string();
        let text = text.replace(&place, PLACE);
        // `20261121T000500Z-4711`: behind the time of the begin.
        let mut parts = text.split("Z-");
        let mut result = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let is_id = result.len() >= 7 && result.as_bytes()[result.len() - 7] == b'T';
            let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
            result.push_str("Z-");
            if is_id && rest.len() < part.len() {
                result.push_str("1234");
                result.push_str(rest);
            } else {
                result.push_str(part);
            }
        }
        result
    }

    /// A look beside its file.
    #[track_caller]
    fn compare(&self, name: &str, found: &str) {
        let path = self.cases.join(name);
        if self.is_update {
            write_file(&path, found);
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "{name} is not what {} says:\n{found}",
            path.display()
        );
    }

    /// What only reads, plain and in colours.
    #[track_caller]
    fn check(&self, name: &str, at: u64, arguments: &str, code: i32) {
        let coloured = self.on_terminal(at, true, arguments, code);
        let plain = self.on_terminal(at, false, arguments, code);
        self.check_both(name, &coloured, &plain);
    }

    /// What writes, and is therefore done once.
    #[track_caller]
    fn check_once(&self, name: &str, at: u64, arguments: &str, code: i32) {
        let coloured = self.on_terminal(at, true, arguments, code);
        self.check_both(name, &coloured, &without_colours(&coloured));
    }

    #[track_caller]
    fn check_both(&self, name: &str, coloured: &str, plain: &str) {
        assert_eq!(
            without_colours(coloured),
            plain,
            "{name}: colours are all that differs"
        );
        assert_ne!(coloured, plain, "{name}: nothing is coloured");
        assert_eq!(
            printable(plain.as_bytes()),
            plain,
            "{name}: something acts on the terminal"
        );
        for line in plain.lines().filter(|line| !line.starts_with("RCPTSYNC ")) {
            let longest = line.split(' ').map(display_width).max().unwrap_or(0);
            let indent = display_width(line) - display_width(line.trim_start());
            let is_one_word = indent + longest + 4 > COLUMNS;
            assert!(
                display_width(line) <= COLUMNS || is_one_word,
                "{name} is too wide: {line}"
            );
        }
        self.compare(&format!("{name}.txt"), plain);
        self.compare(
            &format!("{name}.colours.txt"),
            &coloured.replace('\u{1b}', "␛"),
        );
    }
}

/// Nothing but colours is taken away.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| !character.is_ascii_digit() && character != ';');
        match end.map(|end| part.split_at(end)) {
            Some((_, rest)) if rest.starts_with('m') => plain.push_str(&rest[1..]),
            Some(_) | None => plain.push_str(&format!("\u{1b}[{part}")),
        }
    }
    plain
}

#[test]
fn every_verb_looks_as_its_file_says() {
    if !require("script") || !require("faketime") {
        return;
    }
    let stage = Stage {
        program: Rcptsync::new("looks"),
        cases: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/looks"),
        is_update: std::env::var_os("UPDATE_LOOKS").is_some(),
    };
    if stage.program.directory().as_os_str().len() != PLACE.len() {
        skip("lines break elsewhere in a directory of another length");
        return;
    }
    let (first, second) = (EVENING, EVENING + 86_400);
    let guests: String = (0..8)
        .map(|number| format!("guest{number}@example.org\n"))
        .collect();
    stage.configure("");
    stage.write("guests.list", &guests, first);
    stage.write("corp.ldif", &company(300, |_| false, &[]), first);
    stage.check("check", first, "check", 0);
    stage.check("diff-first", first, "diff", 2);
    stage.check_once("sync-first", first, "sync", 0);
    stage.check_once("sync-unchanged", first + 300, "sync --full", 0);
    stage.check("status-good", first + 600, "status", 0);

    // A few come and go, under names that would like to act on the terminal.
    let long = format!("{}@example.com", "l".repeat(240));
    let hostile: [(&str, &[&str]); 3] = [
        (
            "Evil \u{1b}]0;owned\u{7}",
            &["evil\u{1b}[2J@example.com", "m\u{202e}oc@example.com"],
        ),
        ("Berg\\, Anna", &["anna@example.com", "日本@example.com"]),
        ("Long", &[&long, "x@elsewhere.example"]),
    ];
    let few = company(304, |number| number % 100 == 4, &hostile);
    stage.write("corp.ldif", &few, second);
    stage.check("diff-few", second, "diff", 2);

    // An organisational unit leaves, a source is frozen, a hook fails.
    stage.configure(
        "[guard]\nmust_contain = [\"helpdesk@example.com\"]\n\
         [[hook]]\nname = \"push-to-second-gateway\"\nrun = [\"/bin/false\"]\nwhen = \"changed\"\n",
    );
    let moved = company(304, |number| number / 3 % 4 == 1, &hostile);
    stage.write("corp.ldif", &moved, second);
    std::fs::remove_file(stage.program.directory().join("guests.list")).expect("removed");
    stage.check_once("sync-held", second, "sync", 65);
    stage.check("diff-held", second + 60, "diff", 65);
    stage.check("status-held", second + 3_600, "status", 2);
    stage.check(
        "explain",
        second + 3_600,
        "explain person0@example.com person3@bücher.example anna@example.com guest1@example.org x@elsewhere.example nobody",
        1,
    );
    stage.check("doctor", second + 3_600, "doctor", 1);
    stage.check("verify", second + 3_600, "verify", 0);
    stage.check("history", second + 3_600, "history", 0);
    stage.check("history-2", second + 3_600, "history 2", 0);
    stage.check("error", second + 3_600, "approve 123456789", 64);
    let digest = stage.program.holds().1.remove(0);
    stage.check_once(
        "approve",
        second + 3_600,
        &format!("approve {}", &digest[..12]),
        0,
    );
}

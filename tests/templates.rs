//! Tables for other mail systems, read by those mail systems.
//!
//! Every shipped template publishes the same hostile directory. The real reader (Exim, OpenSMTPD, Sendmail, Rspamd), or where
//! Debian has none a strict parser of what is documented (qmail, Haraka), must find exactly the recipients that are
//! meant, and nobody else. Own templates are tried for what they could do wrong.

mod common;

use std::path::{Path, PathBuf};

use common::mail_systems;
use common::rcptsync::Rcptsync;
use rcptsync::address::quoted;
use rcptsync::table::format::template::{Template, shipped};
use rcptsync::table::rows::{Facts, Rows, RowsBuilder};

/// Recipients, as a list source has them and as they are said at `RCPT TO`: everything that ends a key, begins a comment or
/// means something to one of the readers.
const RECIPIENTS: &[&str] = &[
    "anna@example.com",
    "o'brien@example.com",
    "plus+tag@example.com",
    "john.doe@xn--bcher-kva.example",
    "a/b=c?d_e~f`g|h^i%k&l@example.com",
    "b{r}ace@example.com",
    "star*@example.com",
    "in!side@example.com",
    "h#ash@example.com",
    "\"john doe\"@example.com",
    "\"a:b\"@example.com",
    "\"q\\\"q\"@example.com",
    "\"b\\\\s\"@example.com",
    "\"a@b\"@example.com",
    "\"a,b;c\"@example.com",
    "\"dots..dots\"@example.com",
    "\"<angle>\"@example.com",
    "\": OK\"@example.com",
    "#hash@example.com",
    "!bang@example.com",
    "^.*@example.com",
    "*x@example.com",
    "/etc/passwd@example.com",
    "$dollar@example.com",
    "${run{x}}@example.com",
    "\"@example.org\"@example.com",
    "-dash@example.com",
    "{{row.key}}@example.com",
    "müller@example.com",
];

/// Near misses: nobody may be found by a row of somebody else.
const STRANGERS: &[&str] = &[
    "nobody@example.com",
    "anna@example.net",
    "anna@sub.example.com",
    "ann@example.com",
    "xanna@example.com",
    "brien@example.com",
    "plus@example.com",
    "starx@example.com",
    "side@example.com",
    "h@example.com",
    "john@example.com",
    "doe@example.com",
    "a@example.com",
    "bang@example.com",
    "etc@example.com",
    "ok@example.com",
    "b@example.com",
    "hash@example.com",
    "dollar@example.com",
    "x@example.com",
];

/// An installation that has published the recipients with a template, and what it published.
fn published(template: &str, more: &str) -> (Rcptsync, PathBuf) {
    let program = Rcptsync::new("templates");
    // A list has comments.
    let line = |address: &&str| match address
        .strip_prefix('#')
        .and_then(|rest| rest.split_once('@'))
    {
        Some((local, domain)) => format!("\"#{local}\"@{domain}\n"),
        None => format!("{address}\n"),
    };
    let lines: String = RECIPIENTS.iter().map(line).collect();
    program.write_settled("staff.list", &lines);
    configure(&program, template, more);
    program.run(&["sync"]).expect_code(0);
    let table = program.directory().join("tables/recipients");
    (program, table)
}

fn configure(program: &Rcptsync, template: &str, more: &str) {
    program.write_config(&format!(
        "state_dir = \"state\"\n\
         [domains]\nlist = [\"example.com\", \"example.org\", \"bücher.example\"]\n\
         [source.staff]\nkind = \"list\"\npath = \"staff.list\"\n\
         [table.recipients]\npath = \"tables/recipients\"\n\
         formats = [\"template\"]\ntemplate = \"{template}\"\nfolding = \"unicode\"\n{more}\n"
    ));
}

/// Publishes with a template and asks its reader. `unsaid` are the recipients that it cannot be told; all others must be
/// found, and no stranger.
#[track_caller]
fn check(template: &str, unsaid: &[&str], ask: impl Fn(&PathBuf, &[String]) -> Vec<bool>) {
    let (program, table) = published(template, "");
    let asked: Vec<String> = (RECIPIENTS.iter().chain(STRANGERS))
        .map(|address| (*address).to_owned())
        .collect();
    let answers = ask(&table, &asked);
    let wrong: Vec<String> = asked
        .iter()
        .zip(answers)
        .filter_map(|(address, is_found)| {
            let is_meant =
                RECIPIENTS.contains(&address.as_str()) && !unsaid.contains(&address.as_str());
            (is_found != is_meant).then(|| format!("{address}: found {is_found}, meant {is_meant}"))
        })
        .collect();
    let text = std::fs::read_to_string(&table).expect("a text");
    assert!(wrong.is_empty(), "{template}: {wrong:#?}\n{text}");
    let report = program.run(&["diff", "--format", "json"]).json();
    let told = report["noted"]["not_in_template"].as_u64();
    assert_eq!(
        told.unwrap_or(0),
        unsaid.len() as u64,
        "{template}: {report:#}"
    );
    for address in unsaid {
        let explained = program.run(&["explain", "--", address]).expect_code(1);
        let why = "is left out of the template of recipients, which cannot say it to its reader";
        assert!(explained.stdout.contains(why), "{}", explained.stdout);
    }
}

#[test]
fn exim_finds_whom_it_shall_and_nobody_else() {
    if !mail_systems::is_available(&["exim4-daemon-light"]) {
        return;
    }
    let unsaid = [
        "\"a,b;c\"@example.com",
        "!bang@example.com",
        "^.*@example.com",
        "*x@example.com",
        "/etc/passwd@example.com",
        "$dollar@example.com",
        "${run{x}}@example.com",
        "\"@example.org\"@example.com",
    ];
    for lookup in ["lsearch", "lsearch*@"] {
        check("exim-lsearch", &unsaid, |table, asked| {
            let table = table.display();
            mail_systems::ask_exim(
                &format!("{{$local_part@$domain}} {lookup} {{{table}}}"),
                asked,
            )
        });
    }
}

#[test]
fn opensmtpd_finds_whom_it_shall_and_nobody_else() {
    if !mail_systems::is_available(&["opensmtpd"]) {
        return;
    }
    let quoted = RECIPIENTS.iter().filter(|address| address.starts_with('"'));
    let others = ["#hash@example.com", "müller@example.com"];
    let unsaid: Vec<&str> = quoted.copied().chain(others).collect();
    check("opensmtpd", &unsaid, |table, asked| {
        mail_systems::ask_opensmtpd(table, asked)
    });
}

#[test]
fn sendmail_finds_whom_it_shall_and_nobody_else() {
    if !mail_systems::is_available(&["sendmail-bin", "sendmail-cf"]) {
        return;
    }
    let quoted = RECIPIENTS.iter().filter(|address| address.starts_with('"'));
    let others = [
        "a/b=c?d_e~f`g|h^i%k&l@example.com",
        "in!side@example.com",
        "müller@example.com",
    ];
    let unsaid: Vec<&str> = quoted.copied().chain(others).collect();
    check("sendmail-access", &unsaid, |table, asked| {
        mail_systems::ask_sendmail(table, asked)
    });
}

#[test]
fn rspamd_finds_whom_it_shall_and_nobody_else() {
    if !mail_systems::is_available(&["rspamd"]) {
        return;
    }
    let unsaid: Vec<&str> = RECIPIENTS
        .iter()
        .filter(|address| address.starts_with(['"', '/']) || address.contains(['#', '+', 'ü']))
        .copied()
        .collect();
    check("rspamd", &unsaid, |table, asked| {
        mail_systems::ask_rspamd(table, asked)
    });
}

/// Every sign of ASCII at the beginning, in the middle and at the end of a local part: what the form says can be told is found,
/// and neither what lacks the sign nor what has another letter beside it is. `is_taken_anyway` are strangers that the mail
/// system takes whatever its table says.
#[track_caller]
fn check_signs(
    name: &str,
    packages: &[&str],
    is_taken_anyway: impl Fn(&str) -> bool,
    ask: impl Fn(&Path, &[String]) -> Vec<bool>,
) {
    if !mail_systems::is_available(packages) {
        return;
    }
    let signs = || ('!'..='~').filter(char::is_ascii_punctuation).chain([' ']);
    let key = |local: String| format!("{}@example.com", quoted(&local));
    let with = |letters: [&str; 3]| {
        let [before, between, behind] = letters;
        let of_sign = move |sign: char| {
            [
                format!("{sign}{before}"),
                format!("{between}{sign}{between}"),
                format!("{behind}{sign}"),
            ]
        };
        signs().flat_map(of_sign).map(key).collect::<Vec<String>>()
    };
    let mut rows = RowsBuilder::default();
    let recipients = with(["aa", "b", "cc"]);
    for key in &recipients {
        rows.push(key.as_bytes(), Facts::default());
    }
    let rows = rows.finish();
    let (template, table) = rendered(name, &rows);
    let mut asked = recipients.clone();
    asked.extend(with(["zz", "y", "xx"]));
    asked.extend(["aa", "bb", "cc", "b"].map(|local| format!("{local}@example.com")));
    let answers = ask(table.path(), &asked);
    let wrong: Vec<String> = (asked.iter().zip(answers))
        .filter(|(address, _)| !is_taken_anyway(address))
        .filter_map(|(address, is_found)| {
            let is_meant = recipients.contains(address) && template.can_say(address.as_bytes());
            (is_found != is_meant).then(|| format!("{address}: found {is_found}, meant {is_meant}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
}

/// What a shipped template makes of rows.
fn rendered(name: &str, rows: &Rows) -> (Template, tempfile::NamedTempFile) {
    let shipped = shipped().iter().find(|shipped| shipped.name == name);
    let shipped = shipped.expect("it comes with the program");
    let template = Template::new(name, shipped.text).expect("a template");
    let mut table = tempfile::NamedTempFile::new().expect("a file");
    common::set_mode(table.path(), 0o644);
    template.render(rows, "OK", &mut table).expect("written");
    (template, table)
}

#[test]
fn exim_knows_every_sign() {
    check_signs(
        "exim-lsearch",
        &["exim4-daemon-light"],
        |_| false,
        |table, asked| {
            let lookup = format!("{{$local_part@$domain}} lsearch {{{}}}", table.display());
            mail_systems::ask_exim(&lookup, asked)
        },
    );
}

#[test]
fn opensmtpd_knows_every_sign() {
    check_signs(
        "opensmtpd",
        &["opensmtpd"],
        |_| false,
        mail_systems::ask_opensmtpd,
    );
}

#[test]
fn sendmail_knows_every_sign() {
    let packages = ["sendmail-bin", "sendmail-cf"];
    let is_route_to_nowhere = |address: &str| address.starts_with('!') || address.contains("!@");
    check_signs(
        "sendmail-access",
        &packages,
        is_route_to_nowhere,
        mail_systems::ask_sendmail,
    );
}

#[test]
fn rspamd_knows_every_sign() {
    check_signs("rspamd", &["rspamd"], |_| false, mail_systems::ask_rspamd);
}

/// Where a domain is open by policy, every address of it is found, and no other's.
#[test]
fn a_wildcard_reaches_its_domain_and_no_further() {
    type Ask<'test> = &'test dyn Fn(&Path, &[String]) -> Vec<bool>;
    let exim: Ask<'_> = &|table, asked| {
        let lookup = format!("{{$local_part@$domain}} lsearch*@ {{{}}}", table.display());
        mail_systems::ask_exim(&lookup, asked)
    };
    let readers: [(&str, &[&str], Ask<'_>); 3] = [
        ("exim-lsearch", &["exim4-daemon-light"], exim),
        ("opensmtpd", &["opensmtpd"], &mail_systems::ask_opensmtpd),
        (
            "sendmail-access",
            &["sendmail-bin", "sendmail-cf"],
            &mail_systems::ask_sendmail,
        ),
    ];
    let mut rows = RowsBuilder::default();
    for key in ["@example.org", "anna@example.com", "anna@example.org"] {
        rows.push(key.as_bytes(), Facts::default());
    }
    let rows = rows.finish();
    let asked = [
        ("anybody@example.org", true),
        ("anna@example.org", true),
        ("anna@example.com", true),
        ("anybody@example.com", false),
        ("anybody@example.net", false),
        ("anybody@notexample.org", false),
        ("anybody@example.org.example.net", false),
    ];
    let addresses: Vec<String> = asked
        .iter()
        .map(|(address, _)| (*address).to_owned())
        .collect();
    for (name, packages, ask) in readers {
        if !mail_systems::is_available(packages) {
            return;
        }
        let (_, table) = rendered(name, &rows);
        let answers = ask(table.path(), &addresses);
        let expected: Vec<bool> = asked.iter().map(|(_, is_meant)| *is_meant).collect();
        assert_eq!(answers, expected, "{name}");
    }
}

/// qmail's validrcptto has no reader in Debian: an address a line, and nothing around it (validrcptto.cdb patch, J. Simpson).
#[test]
fn qmail_is_told_whole_lines() {
    let unsaid = RECIPIENTS.iter().filter(|address| {
        address.contains([' ']) || address.starts_with('#') || address.starts_with("\"@")
    });
    let unsaid: Vec<&str> = unsaid.copied().collect();
    check("qmail-validrcptto", &unsaid, |table, asked| {
        let text = std::fs::read_to_string(table).expect("a text");
        assert!(
            text.ends_with('\n') && !text.contains([' ', '\t', '\r']),
            "{text}"
        );
        let lines: Vec<&str> = text.lines().collect();
        let is_listed = |address: &String| lines.contains(&dequoted(address).as_str());
        asked.iter().map(is_listed).collect()
    });
}

/// Haraka reads a JSON object of its own accord; the plugin that asks it lies in `contrib`.
#[test]
fn haraka_is_told_in_json() {
    check(
        "haraka",
        &["\"@example.org\"@example.com"],
        |table, asked| {
            let text = std::fs::read_to_string(table).expect("a text");
            let listed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let listed = listed.as_object().expect("an object");
            let is_listed = |address: &String| {
                listed
                    .get(&dequoted(address))
                    .is_some_and(|value| value == "OK")
            };
            asked.iter().map(is_listed).collect()
        },
    );
}

/// An address without the quotes of its local part and in lower case, as a mail system looks it up.
fn dequoted(address: &str) -> String {
    let Some(quoted) = address.strip_prefix('"') else {
        return address.to_lowercase();
    };
    let (local, domain) = quoted.rsplit_once("\"@").expect("a quoted local part");
    format!(
        "{}@{domain}",
        local.replace("\\\"", "\"").replace("\\\\", "\\")
    )
    .to_lowercase()
}

/// Who asks the file of lsearch with a lookup that knows patterns finds nobody by somebody else's row, either.
#[test]
fn no_address_is_a_pattern_for_exim() {
    if !mail_systems::is_available(&["exim4-daemon-light"]) {
        return;
    }
    let (_program, table) = published("exim-lsearch", "");
    for kind in ["lsearch", "nwildlsearch", "wildlsearch"] {
        let lookup = format!("{{$sender_address}} {kind} {{{}}}", table.display());
        for (key, is_meant) in [
            ("anna@example.com", true),
            ("nobody@example.com", false),
            ("bang@example.com", false),
            ("starx@example.com", false),
            ("root@gateway.example", false),
        ] {
            let is_found = mail_systems::exim_finds(&lookup, key);
            assert_eq!(is_found, is_meant, "{kind} {key}");
        }
    }
}

/// The CDB of Postfix serves Exim as it is, if Exim asks in external form.
#[test]
fn exim_finds_everybody_in_our_cdb() {
    if !mail_systems::is_available(&["exim4-daemon-light"]) {
        return;
    }
    let (program, _) = published(
        "haraka",
        "[table.index]\npath = \"tables/index\"\nformats = [\"cdb\"]\nfolding = \"unicode\"",
    );
    let index = program.directory().join("tables/index.cdb");
    let asked: Vec<String> = (RECIPIENTS.iter().chain(STRANGERS))
        .map(|address| (*address).to_owned())
        .collect();
    let lookup = format!(
        "{{${{quote_local_part:$local_part}}@$domain}} cdb {{{}}}",
        index.display()
    );
    let answers = mail_systems::ask_exim(&lookup, &asked);
    let found: Vec<&str> = (asked.iter().zip(answers))
        .filter_map(|(address, is_found)| is_found.then_some(address.as_str()))
        .collect();
    // What Exim quotes and Postfix does not, and the other way round.
    let asks_otherwise = ["\"dots..dots\"@example.com", "müller@example.com"];
    let expected = RECIPIENTS
        .iter()
        .filter(|address| !asks_otherwise.contains(address));
    assert_eq!(found, expected.copied().collect::<Vec<_>>());
}

const OWN: &str = "{# escape: lines #}\n{% for row in rows %}\nuser={{ row.local }} at={{ row.domain }}\n{% endfor %}\n";

/// A template of the administrator's own, which nothing reads back.
#[test]
fn an_own_template_is_published_and_what_it_replaces_is_asked_about() {
    let program = Rcptsync::new("templates");
    program.write_settled("staff.list", "anna@example.com\n");
    std::fs::write(program.directory().join("own.j2"), OWN).expect("written");
    configure(&program, "./own.j2", "");
    let table = program.directory().join("tables/recipients");
    let content = || std::fs::read_to_string(&table).expect("a table");

    // Somebody else's file is left alone until that is approved.
    std::fs::write(&table, "user=carl at=example.com\n").expect("written");
    program.run_untouching(&["sync"], 65);
    let (holds, digests) = program.holds();
    assert_eq!(holds.len(), 1, "{holds:?}");
    assert!(holds[0].starts_with("foreign_unread "), "{holds:?}");
    program.run(&["approve", &digests[0]]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(content(), "user=anna at=example.com\n");
    program.run_untouching(&["sync"], 0);

    program.write_settled("staff.list", "anna@example.com\nbob@example.com\n");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(
        content(),
        "user=anna at=example.com\nuser=bob at=example.com\n"
    );

    // Another template makes the same rows anew, and a dry run says so.
    std::fs::write(
        program.directory().join("own.j2"),
        OWN.replace("user", "name"),
    )
    .expect("written");
    program.run_untouching(&["diff"], 2);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(
        content(),
        "name=anna at=example.com\nname=bob at=example.com\n"
    );
    program.run_untouching(&["sync"], 0);

    // By hand: asked about again.
    std::fs::write(&table, "name=mallory at=example.com\n").expect("written");
    program.run_untouching(&["sync"], 65);
}

#[track_caller]
fn check_refused(template: &str, more: &str, words: &[&str]) {
    let program = Rcptsync::new("templates");
    program.write_settled("staff.list", "anna@example.com\n");
    std::fs::write(program.directory().join("own.j2"), OWN).expect("written");
    std::fs::write(
        program.directory().join("bad.j2"),
        format!("{OWN}{{{{ rwos }}}}\n"),
    )
    .expect("written");
    configure(&program, template, more);
    let checked = program.run(&["check"]).expect_code(78);
    for word in words {
        assert!(checked.stderr.contains(word), "{word}: {}", checked.stderr);
    }
    program.run_untouching(&["sync"], 78);
}

#[test]
fn a_wrong_template_is_told_before_anything_is_done() {
    check_refused(
        "postfix",
        "",
        &[
            "line 10",
            "\"postfix\" is none of exim-lsearch, ",
            "nor a path",
        ],
    );
    check_refused("./missing.j2", "", &["missing.j2: No such file"]);
    check_refused("./bad.j2", "", &["./bad.j2: line 5: undefined value"]);
    let second =
        "[table.second]\npath = \"tables/second\"\nformats = [\"text\"]\ntemplate = \"rspamd\"";
    check_refused("./own.j2", second, &["means nothing unless"]);
    let both = "[table.second]\npath = \"tables/second\"\nformats = [\"cdb\", \"template\"]\ntemplate = \"rspamd\"";
    check_refused("./own.j2", both, &["stands alone"]);
    let same = "[table.second]\npath = \"tables/recipients\"\nformats = [\"text\"]";
    check_refused("./own.j2", same, &["stands there twice"]);
    let none = "[table.second]\npath = \"tables/second\"\nformats = [\"template\"]";
    check_refused("./own.j2", none, &["template: missing", "exim-lsearch"]);
}

/// A shipped template's file is read as its mail system reads it: rows that nobody knows are held like those of any table.
#[test]
fn a_file_of_a_shipped_template_is_taken_over() {
    let program = Rcptsync::new("templates");
    program.write_settled("staff.list", "anna@example.com\nbob@example.com\n");
    configure(&program, "exim-lsearch", "");
    let table = program.directory().join("tables/recipients");
    std::fs::write(
        &table,
        "# mine\nanna@example.com: OK\n\"carl x@example.com\": OK\n",
    )
    .expect("written");
    program.run(&["sync"]).expect_code(65);
    let content = std::fs::read_to_string(&table).expect("a table");
    assert!(content.starts_with("# Written by rcptsync."), "{content}");
    assert!(
        content
            .ends_with("\"carl x@example.com\": OK\nanna@example.com: OK\nbob@example.com: OK\n"),
        "{content}"
    );
    let (holds, _) = program.holds();
    assert_eq!(holds, ["foreign_table recipients: -\"carl x\""]);
}

/// An access map says more than who is taken; what it says would be lost.
#[test]
fn a_file_with_more_than_recipients_is_asked_about() {
    let program = Rcptsync::new("templates");
    program.write_settled("staff.list", "anna@example.com\n");
    configure(&program, "sendmail-access", "");
    let table = program.directory().join("tables/recipients");
    let theirs = "Connect:192.0.2\tOK\nTo:anna@example.com\tOK\n";
    std::fs::write(&table, theirs).expect("written");
    program.run_untouching(&["sync"], 65);
    let (holds, digests) = program.holds();
    assert!(holds[0].starts_with("foreign_unread "), "{holds:?}");
    program.run(&["approve", &digests[0]]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    let content = std::fs::read_to_string(&table).expect("a table");
    let domain = "To:example.com\tERROR:5.1.1:550 User unknown\n";
    assert!(
        content.ends_with(&format!("To:anna@example.com\tOK\n{domain}")),
        "{content}"
    );
    program.run_untouching(&["sync"], 0);
}

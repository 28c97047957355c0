//! The difference of a configuration as a step of CI: the script of `contrib/ci` with the program, and its report through the
//! Markdown that GitHub reads.
//!
//! Not here: what `diff` finds (`holds`, `exit_codes`); GitHub and GitLab themselves.
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::plain::STAFF;
use common::process::{command, succeed};
use common::rcptsync::Rcptsync;
use common::{require, write_file};

/// Runs the script on the proposed configuration; gives its code, what it said, and the report.
fn step(program: &Rcptsync, environment: &[(&str, &str)]) -> (i32, String, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/ci/recipients-diff.sh");
    let report = program.directory().join("report.md");
    let output = command("sh")
        .arg(script)
        .arg(&report)
        .arg(env!("CARGO_BIN_EXE_rcptsync"))
        .arg("--config")
        .arg(program.config_file())
        .env_remove("GITHUB_STEP_SUMMARY")
        .env_remove("GITHUB_ACTIONS")
        .envs(environment.iter().copied())
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = std::fs::read_to_string(report).unwrap_or_default();
    (output.status.code().expect("an end"), said, report)
}

/// The proposed sections come to this code, what is said begins so, and the report has this.
#[track_caller]
fn check(program: &Rcptsync, proposed: (&[&str], &str, &str), code: i32, said: &str, report: &str) {
    let (domains, sources, more) = proposed;
    program.configure(domains, sources, more);
    let before = program.seen();
    let found = step(program, &[]);
    assert_eq!(found.0, code, "{found:?}");
    assert!(
        found.1.starts_with(said) && found.2.contains(report),
        "{found:?}"
    );
    assert!(program.seen() == before, "a table was touched");
}

#[test]
fn each_outcome_of_a_proposed_configuration_has_its_code() {
    let program = Rcptsync::plain("ci", STAFF, "");
    let both: &[&str] = &["example.com", "example.org"];
    let one = &both[..1];
    program.staff("anna bob carl dora gast@example.org");
    program.configure(both, STAFF, "");
    program.run(&["sync"]).expect_code(0);
    // The directory is neither asked nor needed: what is stored counts.
    std::fs::remove_file(program.directory().join("staff.list")).expect("our own file");

    let stays = "notice: The tables stay";
    check(
        &program,
        (both, STAFF, ""),
        0,
        stays,
        "### Recipients: unchanged",
    );
    let always = "[recipients]\nalways = [\"postmaster\"]\n";
    let would = "notice: The tables would change";
    check(
        &program,
        (both, STAFF, always),
        0,
        would,
        "- `postmaster@example.com`\n",
    );
    let held = "error: Changes would be held";
    let not_all = "error: Not everything that";
    check(
        &program,
        (one, STAFF, ""),
        65,
        held,
        "- `gast@example.org`\n",
    );
    let more = format!("{STAFF}[source.more]\nkind = \"list\"\npath = \"more.list\"\n");
    check(
        &program,
        (both, &more, ""),
        75,
        not_all,
        "**Source `more`:** never",
    );
    let directory = "[source.staff]\nkind = \"ldap\"\nservers = [\"ldaps://dc.example\"]\nbind.method = \"anonymous\"\n";
    check(
        &program,
        (both, directory, ""),
        75,
        not_all,
        "**Source `staff`:** frozen",
    );
    check(
        &program,
        (both, "nothing = 1", ""),
        78,
        "error: The configuration",
        "",
    );

    program.configure(one, STAFF, "");
    let summary = program.directory().join("summary.md");
    write_file(&summary, "before\n");
    let path = summary.display().to_string();
    let on_github = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_STEP_SUMMARY", path.as_str()),
    ];
    let (code, said, report) = step(&program, &on_github);
    assert!(
        code == 65 && said.starts_with("::error::Changes would be held"),
        "{said}"
    );
    let summary = std::fs::read_to_string(&summary).expect("our own file");
    assert_eq!(summary, format!("before\n{report}"));
}

/// Local parts that anybody may write into the directory.
const HOSTILE: [&str; 14] = [
    "a`b",
    "a``b",
    "`",
    "a|b|c",
    "*a*_b_~c~",
    "{{x}}",
    "&lt",
    "a#1",
    "\"<img src=x onerror=alert(1)>\"",
    "\"</code></details><script>alert(1)</script>\"",
    "\"[a](https://evil.example)\"",
    "\"![a](https://evil.example/a.png)\"",
    "\"https://evil.example www.evil.example @admins\"",
    "\"` <b>\"",
];

/// What the report is made of.
const TAGS: [&str; 15] = [
    "h3", "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
    "ul", "li", "em",
];

#[test]
fn nothing_in_the_report_is_live() {
    if !require("cmark-gfm") {
        return;
    }
    let program = Rcptsync::plain("markdown", STAFF, "");
    let addresses: Vec<String> = (HOSTILE.iter())
        .map(|local| format!("{local}@example.com"))
        .collect();
    program.write_settled("staff.list", &format!("{}\n", addresses.join("\n")));
    // Rows of a file that somebody made by hand, whose domains are whatever he wrote.
    write_file(&program.table(), "x@a|b`c OK\ny@<i>z</i> OK\n");
    let report = program
        .run(&["diff", "--format", "markdown"])
        .expect_code(65)
        .stdout;
    let file = program.directory().join("report.md");
    write_file(&file, &report);
    let html = succeed(
        command("cmark-gfm")
            .arg("--unsafe")
            .args([
                "-e",
                "table",
                "-e",
                "autolink",
                "-e",
                "strikethrough",
                "-e",
                "tasklist",
            ])
            .arg(&file),
    );
    let html = String::from_utf8(html.stdout).expect("text");
    let named = |rest: &str| {
        let name = rest.trim_start_matches('/');
        let end = name.find(|character: char| !character.is_ascii_alphanumeric());
        name[..end.unwrap_or(name.len())].to_owned()
    };
    let tags: BTreeSet<String> = html.split('<').skip(1).map(named).collect();
    let strange: Vec<_> = (tags.iter())
        .filter(|tag| !TAGS.contains(&tag.as_str()))
        .collect();
    assert!(strange.is_empty(), "{strange:?} in {html}");
    let keys = addresses
        .iter()
        .map(String::as_str)
        .chain(["x@a|b`c", "y@<i>z</i>"]);
    for key in keys {
        let escaped = key
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let item = format!("<li><code>{}</code></li>", escaped.replace('"', "&quot;"));
        assert!(html.contains(&item), "{item} in {html}");
    }
    // A cell with a bar in it is one cell.
    assert!(html.contains("<td><code>a|b`c</code></td>"), "{html}");
}

#[test]
fn a_report_fits_into_a_comment() {
    let program = Rcptsync::plain("size", STAFF, "");
    let names: String = (0..3_000)
        .map(|number| format!("{}.{number} ", "y".repeat(50)))
        .collect();
    program.staff(&names);
    let report = program
        .run(&["diff", "--format", "markdown"])
        .expect_code(2)
        .stdout;
    assert!(report.len() <= 60_000, "{}", report.len());
    assert!(report.contains("- … and 2,800 more\n"), "{report}");
}

//! Broken configurations and what is said of them: one pair of files in `tests/cases/config` each.
//!
//! `NAME.toml` is the configuration, `NAME.expected` holds the lines that must follow `why:`, in their order. A case is
//! added by adding two files (a third, `NAME.FEATURE.expected`, where a build with a feature has other things to say);
//! with `UPDATE_EXPECTED=1` the second is written, to be read before it is believed.

mod common;

use std::path::{Path, PathBuf};

use common::plain::STAFF;
use common::rcptsync::Rcptsync;
use common::write_file;

/// The lines of the answer to "why".
fn problems(stderr: &str) -> String {
    let from_why = stderr
        .lines()
        .skip_while(|line| !line.starts_with("  why:"));
    let lines = from_why.take_while(|line| !line.starts_with("  in force:"));
    let text: Vec<&str> = lines
        .map(|line| line.get(12..).unwrap_or_default())
        .collect();
    text.join("\n") + "\n"
}

/// The lines expected of this build.
fn expected_file(case: &Path) -> PathBuf {
    let features = [
        ("gssapi", cfg!(feature = "gssapi")),
        ("postgresql", cfg!(feature = "postgresql")),
    ];
    let built = features.iter().filter(|(_, is_built)| *is_built);
    let mut of_features = built.map(|(name, _)| case.with_extension(format!("{name}.expected")));
    let of_feature = of_features.find(|file| file.exists());
    of_feature.unwrap_or_else(|| case.with_extension("expected"))
}

#[test]
fn every_problem_is_told_with_its_line_and_its_mend() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/config");
    let program = Rcptsync::new("configuration");
    let is_update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = String::new();
    let mut cases: Vec<_> = std::fs::read_dir(&directory)
        .expect("the cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 25, "{} cases", cases.len());
    for case in cases {
        let text = std::fs::read(&case).expect("a case");
        write_file(&program.config_file(), text);
        let outcome = program.run(&["check"]).expect_code(78);
        let name = case.file_stem().expect("a name").display();
        outcome.expect_answers(&["rcptsync.toml", "nothing was touched", "rcptsync check"]);
        assert_eq!(outcome.stdout, "", "{name}");
        let (found, expected) = (
            problems(&outcome.stderr)
                .replace(program.directory().to_str().expect("text"), "$DIRECTORY"),
            expected_file(&case),
        );
        let count = found.lines().filter(|line| !line.starts_with(' ')).count();
        let plural = format!("error: the configuration has {count} problems");
        assert!(
            outcome.stderr.starts_with(&plural)
                || (count == 1
                    && outcome
                        .stderr
                        .starts_with("error: the configuration has a problem")),
            "{name}: {}",
            outcome.stderr
        );
        if is_update {
            write_file(&expected, &found);
        }
        let expected = std::fs::read_to_string(expected).unwrap_or_default();
        if found != expected {
            wrong.push_str(&format!(
                "{name}:\n--- expected\n{expected}--- found\n{found}\n"
            ));
        }
        // The verbs refuse it alike, before they read or write anything.
        let sync = program.run(&["sync"]).expect_code(78);
        assert_eq!(sync.stderr, outcome.stderr, "{name}");
        assert!(!program.state_dir().exists(), "{name}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn one_source_one_domain_list_and_one_table_are_complete() {
    let program = Rcptsync::new("minimal");
    program.write_config(
        "state_dir = \"state\"\n\
         domains.list = [\"example.com\"]\n\
         source.staff = { kind = \"list\", path = \"staff.list\" }\n\
         table.relay_recipients = { path = \"tables/relay_recipients\", formats = [\"text\"] }\n",
    );
    let outcome = program.run(&["check"]).expect_code(0);
    let directory = program.directory().display();
    outcome.expect_output(&[
        &format!("{directory}/rcptsync.toml: good\n"),
        "  domains  example.com\n",
        &format!("  source   staff: list, {directory}/staff.list\n"),
        &format!("  table    relay_recipients: text, {directory}/tables/relay_recipients\n"),
    ]);
    // A check reads no source and writes nothing.
    assert!(!program.state_dir().exists());
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob");
}

/// Where servers are to be discovered, what will be asked is told, so that somebody can ask it by hand.
#[test]
fn a_check_names_the_question_to_dns() {
    let program = Rcptsync::new("questions");
    for (keys, expected) in [
        ("", "_ldap._tcp.dc._msdcs.corp.example"),
        (
            "site = \"Berlin\"\n",
            "_ldap._tcp.Berlin._sites.dc._msdcs.corp.example, then _ldap._tcp.dc._msdcs.corp.example",
        ),
        ("global_catalog = true\n", "_gc._tcp.corp.example"),
    ] {
        let source = format!(
            "[source.corp]\nkind = \"ldap\"\ndiscover = \"CORP.example\"\n{keys}bind = {{ method = \"anonymous\" }}\n"
        );
        program.configure(&["example.com"], STAFF, &source);
        let outcome = program.run(&["check"]).expect_code(0);
        outcome.expect_output(&[&format!("  source   corp: ldap, DNS SRV {expected}\n")]);
    }
}

#[test]
fn domains_from_elsewhere_need_no_list() {
    let program = Rcptsync::new("domains-from");
    let corp = "[source.corp]\nkind = \"ldap\"\nservers = [\"ldaps://dc1\", \"ldaps://dc2:1636\"]\n\
                bind = { method = \"anonymous\" }\n";
    for (domains, told) in [
        (
            "from = \"exchange\"",
            "  domains  the accepted domains of Exchange\n",
        ),
        (
            "from = \"postfix\"\nlist = [\"example.com\"]",
            "  domains  relay_domains of the local Postfix, example.com\n",
        ),
    ] {
        // Which domains there will be, only a run knows.
        program.write_config(&format!(
            "[domains]\n{domains}\n[domain.\"example.org\"]\ndirectory_is_complete = true\n{corp}\
             [table.t]\npath = \"t\"\nformats = [\"cdb\"]\n[guard]\nmust_contain = [\"a@example.net\"]\n"
        ));
        program
            .run(&["check"])
            .expect_code(0)
            .expect_output(&[told]);
    }
}

#[test]
fn good_configurations_are_good() {
    let program = Rcptsync::new("good");
    for more in [
        "",
        "[guard]\nremoved_percent_max = 2.5\nwindow = \"7d\"\nmust_contain = [\"Anna@EXAMPLE.com\"]\n",
        "[recipients]\nalways = [\"postmaster\", \"first last\"]\nexclude = [\"x@example.org\"]\ngrace = \"0s\"\n",
        "[recipients]\nexclude_dn = [\"OU=Leavers, DC=corp,DC=example\", \"CN=a\\\\,b,DC=x\"]\ninternal_only = \"accept\"\n",
        "[history]\nkeep = \"1year\"\n",
        "[[hook]]\nname = \"a-1\"\nrun = [\"/bin/true\"]\ninput = \"none\"\n[[hook]]\nname = \"a-2\"\nrun = [\"/bin/true\"]\n",
        "[source.guests]\nkind = \"ldif\"\npath = \"guests.ldif\"\nmax_age = \"none\"\n",
        "[source.corp]\nkind = \"ldap\"\nservers = [\"ldaps://dc1.corp.example\", \"ldaps://[2001:db8::1]:6360/\"]\n\
         bind = { method = \"simple\", name = \"a\", credential = \"corp.password\" }\n",
        "[source.corp]\nkind = \"ldap\"\nservers = [\"ldaps://dc1:3269\", \"ldaps://dc2:3269\"]\n\
         bind = { method = \"anonymous\" }\n",
        "[source.corp]\nkind = \"ldap\"\ndiscover = \"Corp.example\"\nsite = \"Berlin\"\nstarttls = true\n\
         bind = { method = \"simple\", name = \"a\", credential = \"corp.password\" }\n",
        "[source.corp]\nkind = \"ldap\"\ndiscover = \"corp\"\nglobal_catalog = true\n\
         bind = { method = \"anonymous\" }\n",
        "[source.corp]\nkind = \"ldap\"\nservers = [\"ldap://dc1\"]\nstarttls = true\n\
         bind = { method = \"simple\", name = \"a\", password_file = \"p\" }\n",
        "[source.corp]\nkind = \"ldap\"\nservers = [\"ldap://dc1\"]\nstarttls = true\n\
         bind = { method = \"external\", certificate_file = \"c\", key_file = \"k\" }\n",
        "[source.corp]\nkind = \"ldap\"\nservers = [\"ldaps://dc1\"]\n\
         bind = { method = \"external\", certificate_file = \"c\", key_credential = \"k\" }\n",
    ] {
        program.configure(&["example.com", "bücher.example"], STAFF, more);
        program.run(&["check"]).expect_code(0);
    }
    if cfg!(feature = "gssapi") {
        let source = "[source.corp]\nkind = \"ldap\"\nservers = [\"ldaps://dc1\"]\n\
                      bind = { method = \"gssapi\", principal = \"a@CORP.EXAMPLE\", keytab_credential = \"k\" }\n";
        program.configure(&["example.com"], STAFF, source);
        program.run(&["check"]).expect_code(0);
    }
    if cfg!(feature = "postgresql") {
        let table = "[table.shared]\nformats = [\"postgresql\"]\n\
                     postgresql = { host = \"2001:db8::1\", database = \"mail\", role = \"rcptsync\", credential = \"k\" }\n";
        program.configure(&["example.com"], STAFF, table);
        let outcome = program.run(&["check"]).expect_code(0);
        outcome.expect_output(&["postgresql://[2001:db8::1]:5432/mail/public.shared\n"]);
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/sample/rcptsync.toml");
    program.write_config("nonsense");
    // The last word on the command line counts.
    let sample = sample.to_str().expect("a path of text");
    program.run(&["check", "--config", sample]).expect_code(0);
    let output = common::process::command(env!("CARGO_BIN_EXE_rcptsync"))
        .arg("check")
        .env("RCPTSYNC_CONFIG", sample)
        .output()
        .expect("it runs");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

//! A table in PostgreSQL: what Postfix answers from it, what is written, and what remains in force when it fails.
#![cfg(feature = "postgresql")]

mod common;

use std::path::Path;

use common::plain::STAFF;
use common::postfix::{Gateway, Instance, Options};
use common::postgresql::{Database, PASSWORD, READER, Standby, WRITER, database, database_with};
use common::process::{command, succeed};
use common::rcptsync::Rcptsync;
use common::{SERVER_DEADLINE, poll_until, postfix, require, set_mode, write_file};

/// An installation whose table stands in a database.
fn install(database: &Database) -> Rcptsync {
    configured(&database.by_socket())
}

fn configured(section: &str) -> Rcptsync {
    let program = Rcptsync::new("postgresql");
    configure(&program, section);
    program
}

fn configure(program: &Rcptsync, section: &str) {
    configure_formats(program, "[\"postgresql\"]", section);
}

fn configure_formats(program: &Rcptsync, formats: &str, section: &str) {
    program.write_config(&format!(
        "state_dir = \"state\"\n[domains]\nlist = [\"example.com\", \"bücher.example\"]\n{STAFF}\n\
         [table.relay_recipients]\npath = \"tables/relay_recipients\"\nformats = {formats}\nfolding = \"unicode\"\n\
         {section}"
    ));
}

/// The rows with what tells whether anybody has written them.
fn written(database: &Database) -> String {
    database.ask(
        "SELECT ctid, xmin, address, value FROM relay_recipients ORDER BY address COLLATE \"C\"",
    )
}

fn keys(database: &Database) -> String {
    database.keys("relay_recipients")
}

#[test]
fn postfix_answers_from_it_and_learns_without_a_reload() {
    if !postfix::is_available() || !require("psql") {
        return;
    }
    let Some(database) = database() else { return };
    let program = Rcptsync::new("postgresql");
    let password = program.directory().join("password");
    write_file(&password, PASSWORD);
    set_mode(&password, 0o600);
    configure(
        &program,
        &database.by_network("localhost", WRITER, &database.ca_file(), &password),
    );
    program.staff("anna bob jürgen@bücher.example \"o'neil\\\\x\"@example.com");
    program.run(&["sync"]).expect_code(0);
    database.ask(&format!("GRANT SELECT ON relay_recipients TO {READER}"));

    let map_asking = |name: &str, address: &str| {
        let map = program.directory().join(name);
        let (port, database) = (database.port(), &database.name);
        let text = format!(
            "hosts = inet:127.0.0.1:{port}\ndbname = {database}\nuser = {READER}\npassword = {PASSWORD}\n\
             query = SELECT value FROM relay_recipients WHERE address = {address}\n"
        );
        write_file(&map, text);
        map
    };
    let map = map_asking("relay_recipients.cf", "'%s'");
    let map_latin = map_asking(
        "latin.cf",
        "convert_from(convert_to('%s', 'LATIN1'), 'UTF8')",
    );
    let options = Options {
        relay_domains: vec![
            "example.com".into(),
            "bücher.example".into(),
            "xn--bcher-kva.example".into(),
        ],
        ..Options::default()
    };
    let gateway = Gateway::start(&map, "pgsql", &options);
    let check = |address: &str, expected: u16| {
        let answer = gateway.rcpt(&[address]).remove(0);
        assert_eq!(
            answer.code,
            expected,
            "{address}: {} {}",
            answer.text,
            gateway.mail_log()
        );
    };
    check("anna@example.com", 250);
    check("Anna@EXAMPLE.com", 250);
    check("\"o'neil\\\\x\"@example.com", 250);
    check("cleo@example.com", 550);
    check("anna@xn--bcher-kva.example", 550);
    // Before 3.8, Postfix asks in LATIN1 whatever it is told, and the query must undo that.
    let version = String::from_utf8_lossy(
        &succeed(command("postconf").args(["-d", "-h", "mail_version"])).stdout,
    )
    .into_owned();
    let is_latin =
        version.starts_with("3.7") || version.starts_with("3.6") || version.starts_with("3.5");
    for (query_map, expected) in [(&map, !is_latin), (&map_latin, is_latin)] {
        let map = format!("pgsql:{}", query_map.display());
        let found = gateway.postmap(&["-q", "jürgen@bücher.example", &map]);
        assert_eq!(
            found.status.success(),
            expected,
            "{version} {map} {found:?}"
        );
    }
    program.staff("anna cleo jürgen@bücher.example");
    program.run(&["sync"]).expect_code(0);
    check("anna@example.com", 250);
    check("cleo@example.com", 250);
    check("bob@example.com", 550);
}

#[test]
fn only_the_difference_is_written_and_nothing_where_there_is_none() {
    let Some(database) = database() else { return };
    let program = install(&database);
    program.staff("anna bob cleo");
    let first = program.run(&["sync"]).expect_code(0);
    first.expect_output(&["published postgresql://"]);
    assert_eq!(keys(&database), "anna bob cleo");
    let before = written(&database);
    program
        .run(&["sync", "--full"])
        .expect_code(0)
        .expect_output(&["nothing changed"]);
    assert_eq!(written(&database), before);

    program.staff("anna cleo dora");
    program.run(&["diff"]).expect_code(2);
    assert_eq!(written(&database), before);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(keys(&database), "anna cleo dora");
    let after = written(&database);
    let kept = before.lines().filter(|line| !line.contains("bob@"));
    for line in kept {
        assert!(after.contains(line), "{line} was written again:\n{after}");
    }
    let history = program.run(&["history"]).expect_code(0);
    history.expect_output(&["+1 -1"]);
    let explained = program.run(&["explain", "dora@example.com"]).expect_code(0);
    explained.expect_output(&["postgresql"]);
}

/// What is recorded is what anybody can compute.
#[test]
fn the_digest_is_that_of_the_rows_as_postgresql_copies_them() {
    let Some(database) = database() else { return };
    let program = install(&database);
    program.staff("anna \"b\\\\c\"@example.com jürgen@bücher.example");
    program.run(&["sync"]).expect_code(0);
    let copied = database.ask(
        "COPY (SELECT address, value FROM relay_recipients ORDER BY address COLLATE \"C\") TO STDOUT",
    );
    let head = std::fs::read(program.state_dir().join("head.json")).expect("head.json");
    let head: serde_json::Value = serde_json::from_slice(&head).expect("JSON");
    let artefact = &head["tables"]["relay_recipients"]["artefacts"][0];
    assert_eq!(artefact["format"], "postgresql");
    assert_eq!(
        artefact["digest"],
        rcptsync::state::digest(format!("{copied}\n").as_bytes())
    );
}

#[test]
fn rows_that_somebody_else_wrote_are_held_and_those_he_took_are_put_back() {
    let Some(database) = database() else { return };
    let program = install(&database);
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    database.ask("INSERT INTO relay_recipients VALUES ('stranger@example.com', 'OK')");
    let held = program.run(&["sync"]).expect_code(65);
    assert!(
        held.stderr.contains("its original is kept as"),
        "{}",
        held.stderr
    );
    assert_eq!(keys(&database), "anna bob stranger");
    let (holds, _) = program.holds();
    assert_eq!(holds, ["foreign_table relay_recipients: -stranger"]);

    database.ask("DELETE FROM relay_recipients WHERE address LIKE 'anna@%'");
    program.staff("anna bob cleo");
    program.run(&["sync"]).expect_code(65);
    assert_eq!(keys(&database), "anna bob cleo stranger");

    let (_, mut digests) = program.holds();
    program.run(&["approve", &digests.remove(0)]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(keys(&database), "anna bob cleo");
    database.ask("UPDATE relay_recipients SET value = 'REJECT'");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(keys(&database), "anna bob cleo");
    database.ask("DROP TABLE relay_recipients");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(keys(&database), "anna bob cleo");
}

/// A gateway that asks a server near it learns what was published at the primary; nothing is written to the standby.
#[test]
fn a_standby_answers_gateways_and_is_no_place_to_publish_to() {
    let Some(database) = database() else { return };
    if !postfix::is_available() {
        return;
    }
    let program = install(&database);
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    database.ask(&format!("GRANT SELECT ON relay_recipients TO {READER}"));
    let standby = Standby::start();
    let map = program.directory().join("standby.cf");
    write_file(
        &map,
        format!(
            "hosts = inet:127.0.0.1:{}\ndbname = {}\nuser = {READER}\npassword = {PASSWORD}\n\
             query = SELECT value FROM relay_recipients WHERE address = '%s'\n",
            standby.port, database.name
        ),
    );
    let instance = Instance::for_postmap(true);
    let map = format!("pgsql:{}", map.display());
    let is_found = |name: &str| {
        let key = format!("{name}@example.com");
        let found = instance.postmap(&["-q", &key, &map]);
        assert!(found.stderr.is_empty(), "{found:?}");
        found.status.success()
    };
    assert!(is_found("anna") && is_found("bob") && !is_found("cleo"));
    program.staff("anna cleo");
    program.run(&["sync"]).expect_code(0);
    poll_until(SERVER_DEADLINE, "the standby follows", || {
        is_found("cleo").then_some(())
    });
    assert!(is_found("anna") && !is_found("bob"));

    let directory = standby.directory.display().to_string();
    configure(
        &program,
        &database.section(&directory, standby.port, WRITER, ""),
    );
    program.staff("anna cleo dora");
    let failed = program.run(&["sync"]).expect_code(73);
    failed.expect_answers(&["the server is a standby", "name the primary"]);
    // It offers no TLS, either.
    let ca_file = database.ca_file();
    let password = program.directory().join("password");
    write_file(&password, PASSWORD);
    set_mode(&password, 0o600);
    let more = format!(
        "ca_file = \"{}\"\npassword_file = \"{}\"",
        ca_file.display(),
        password.display()
    );
    configure(
        &program,
        &database.section("127.0.0.1", standby.port, WRITER, &more),
    );
    let failed = program.run(&["sync"]).expect_code(73);
    failed.expect_answers(&["server does not support TLS", "ssl = on"]);
}

#[test]
fn one_can_go_back() {
    let Some(database) = database() else { return };
    let program = install(&database);
    for names in ["anna bob", "anna cleo"] {
        program.staff(names);
        program.run(&["sync"]).expect_code(0);
    }
    program.run(&["rollback", "1"]).expect_code(0);
    assert_eq!(keys(&database), "anna bob");
    program.run(&["sync"]).expect_code(65);
    assert_eq!(keys(&database), "anna bob");
}

#[test]
fn it_stands_beside_files_and_a_table_that_fails_holds_no_other() {
    let Some(database) = database() else { return };
    let program = Rcptsync::new("postgresql");
    let formats = "[\"postgresql\", \"text\", \"cdb\"]";
    configure_formats(&program, formats, &database.by_socket());
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(
        (keys(&database), program.keys()),
        ("anna bob".into(), "anna bob".into())
    );

    // A failure before the decision leaves the files as they were, too.
    database.ask(&format!(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
         CREATE TRIGGER no BEFORE INSERT ON relay_recipients FOR EACH ROW EXECUTE FUNCTION no();
         GRANT EXECUTE ON FUNCTION no() TO {WRITER}"
    ));
    program.staff("anna bob cleo");
    let failed = program.run_untouching(&["sync"], 73);
    failed.expect_answers(&[
        "a relation could not be written",
        "not today (SQLSTATE P0001)",
    ]);
    assert_eq!(keys(&database), "anna bob");
    database.ask("DROP TRIGGER no ON relay_recipients");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(
        (keys(&database), program.keys()),
        ("anna bob cleo".into(), "anna bob cleo".into())
    );

    let other = "[table.other]\npath = \"tables/other\"\nformats = [\"text\"]\n";
    let dead = database.section("/nowhere", 5432, WRITER, "");
    configure_formats(&program, "[\"postgresql\"]", &format!("{dead}{other}"));
    program.staff("anna bob cleo dora");
    let failed = program.run(&["sync"]).expect_code(73);
    failed.expect_answers(&[
        "a relation cannot be looked at",
        "postgresql:///nowhere:5432/",
    ]);
    let text = std::fs::read_to_string(program.directory().join("tables/other")).expect("a table");
    assert!(text.contains("dora@example.com OK"), "{text}");
}

/// A trigger that changes what is written is found before COMMIT.
#[test]
fn what_is_not_what_was_meant_is_not_committed() {
    let Some(database) = database() else { return };
    let program = install(&database);
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    for body in ["NEW.value := 'REJECT'; RETURN NEW;", "RETURN NULL;"] {
        database.ask(&format!(
            "CREATE OR REPLACE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             CREATE OR REPLACE TRIGGER other BEFORE INSERT ON relay_recipients FOR EACH ROW EXECUTE FUNCTION other()"
        ));
        program.staff("anna bob cleo");
        let failed = program.run(&["sync"]).expect_code(73);
        failed.expect_answers(&["read back before COMMIT", "public.relay_recipients"]);
        assert_eq!(keys(&database), "anna bob");
    }
}

const END_SESSION: &str = "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL;";

/// Lets the server do something when a transaction that added rows is committed.
fn at_commit(database: &Database, body: &str) {
    database.ask(&format!(
        "CREATE OR REPLACE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON relay_recipients DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION late()"
    ));
}

/// At COMMIT the server ends the session, or refuses.
#[test]
fn a_commit_that_fails_is_told_and_made_good_by_the_next_run() {
    let Some(database) = database() else { return };
    for (body, in_force) in [
        (END_SESSION, "the connection was lost at COMMIT"),
        ("RAISE EXCEPTION 'not today';", "the old rows stay in force"),
    ] {
        database.ask("DROP TABLE IF EXISTS relay_recipients");
        let program = install(&database);
        program.staff("anna bob");
        program.run(&["sync"]).expect_code(0);
        at_commit(&database, body);
        program.staff("anna cleo");
        let failed = program.run(&["sync"]).expect_code(73);
        failed.expect_answers(&[
            "a relation could not be replaced",
            in_force,
            "finishes what was decided",
        ]);
        assert_eq!(keys(&database), "anna bob");
        // The generation is decided: the next run finishes it whatever the source says by now.
        database.ask("DROP TRIGGER late ON relay_recipients");
        let healed = program.run(&["sync"]).expect_code(0);
        assert!(healed.stderr.contains("are done now"), "{}", healed.stderr);
        assert_eq!(keys(&database), "anna cleo");
        let before = written(&database);
        program.run(&["sync"]).expect_code(0);
        assert_eq!(written(&database), before);
    }
}

/// Where nobody can be asked what became of it, the tables beside it go on.
#[test]
fn a_database_that_cannot_be_asked_holds_no_other_table() {
    let Some(database) = database() else { return };
    let program = Rcptsync::new("postgresql");
    let password = program.directory().join("password");
    let set_password = |text: &str| {
        write_file(&password, text);
        set_mode(&password, 0o600);
    };
    set_password(PASSWORD);
    let section = database.by_network("localhost", WRITER, &database.ca_file(), &password);
    let other = "[table.other]\npath = \"tables/other\"\nformats = [\"text\"]\n";
    configure(&program, &format!("{section}{other}"));
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    at_commit(&database, END_SESSION);
    program.staff("anna cleo");
    program.run(&["sync"]).expect_code(73);
    database.ask("DROP TRIGGER late ON relay_recipients");

    set_password("another");
    program.staff("anna cleo dora");
    let failed = program.run(&["sync"]).expect_code(77);
    failed.expect_answers(&["a relation cannot be looked at", "SQLSTATE 28P01"]);
    assert!(
        failed.stderr.contains("is not finished"),
        "{}",
        failed.stderr
    );
    let text = std::fs::read_to_string(program.directory().join("tables/other")).expect("a table");
    assert!(text.contains("dora@example.com OK"), "{text}");
    assert_eq!(keys(&database), "anna bob");

    set_password(PASSWORD);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(keys(&database), "anna cleo dora");
    let before = written(&database);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(written(&database), before);
}

/// Killed in front of each message to the server and of each rename: the old rows or the new ones, and one run heals.
#[test]
fn a_run_that_is_killed_leaves_the_old_rows_or_the_new_ones() {
    if !require("strace") {
        return;
    }
    let Some(database) = database() else { return };
    let mut outcomes = std::collections::BTreeMap::new();
    for calls in [
        "?rename,?renameat,renameat2",
        "?sendto,?sendmsg,?writev,?send",
    ] {
        for when in 1.. {
            database.ask("DROP TABLE IF EXISTS relay_recipients");
            let program = install(&database);
            program.staff("anna bob");
            program.run(&["sync"]).expect_code(0);
            program.staff("anna cleo");
            let killed = kill(&program, calls, when);
            let now = keys(&database);
            assert!(
                now == "anna bob" || now == "anna cleo",
                "{calls} {when}: {now}"
            );
            *outcomes.entry((calls, now)).or_insert(0) += 1;
            program.run(&["sync"]).expect_code(0);
            assert_eq!(keys(&database), "anna cleo", "{calls} {when}");
            let before = written(&database);
            program.run(&["sync"]).expect_code(0);
            assert_eq!(written(&database), before, "{calls} {when}");
            let head = std::fs::read_to_string(program.state_dir().join("head.json"));
            assert!(
                head.expect("head.json").contains("\"pending\": []"),
                "{calls} {when}"
            );
            if !killed {
                break;
            }
        }
    }
    // Both were seen on either side of COMMIT.
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    assert!(outcomes.values().sum::<i32>() > 15, "{outcomes:?}");
}

/// Runs the program and kills it in front of the how-manieth of these calls; whether it made so many.
fn kill(program: &Rcptsync, calls: &str, when: usize) -> bool {
    let inject = format!("--inject={calls}:signal=KILL:when={when}");
    let trace = program.directory().join("trace");
    let trace = trace.to_str().expect("text");
    let wrapper = [
        "strace",
        "-f",
        "-qq",
        "-o",
        trace,
        &format!("--trace={calls}"),
        &inject,
    ];
    program.run_under(&wrapper, &["sync"]).code != Some(0)
}

#[test]
fn what_is_wrong_is_told_with_its_mend() {
    let Some(database) = database() else { return };
    let program = Rcptsync::new("postgresql");
    program.staff("anna");
    let check = |section: &str, code: i32, parts: &[&str]| {
        configure(&program, section);
        let outcome = program.run(&["sync"]).expect_code(code);
        outcome.expect_answers(parts);
        assert!(!outcome.stderr.contains(PASSWORD), "{}", outcome.stderr);
    };
    let good = program.directory().join("good");
    let bad = program.directory().join("bad");
    for (path, content) in [(&good, PASSWORD), (&bad, "another")] {
        write_file(path, content);
        set_mode(path, 0o600);
    }
    let ca = database.ca_file();
    let by_network =
        |host, role, ca: &Path, password: &Path| database.by_network(host, role, ca, password);
    check(
        &by_network("localhost", WRITER, &ca, &bad),
        77,
        &["SQLSTATE 28P01", "password_file or pg_hba.conf"],
    );
    check(
        &by_network("localhost", "nobody_here", &ca, &good),
        77,
        &["SQLSTATE 28P01", "role nobody_here"],
    );
    check(
        &by_network("localhost", WRITER, &ca, &program.directory().join("none")),
        77,
        &["No such file", "password_file"],
    );
    check(
        &by_network("localhost", WRITER, &bad, &good),
        73,
        &["holds no certificate", "ca_file"],
    );
    // Another authority's certificate.
    let other = common::certificates::Authority::new(program.directory(), "another");
    check(
        &by_network("localhost", WRITER, &other.file(), &good),
        73,
        &["invalid peer certificate", "ca_file"],
    );
    // A name that is not in the certificate.
    check(
        &by_network("127.0.0.2", WRITER, &ca, &good),
        73,
        &["invalid peer certificate", "a relation cannot be looked at"],
    );
    let socket = database.socket_directory().display().to_string();
    let other_database = database.by_socket().replace(&database.name, "no_such");
    check(&other_database, 73, &["SQLSTATE 3D000", "make it"]);
    let stranger = database.section(&socket, database.port(), "stranger", "");
    check(
        &stranger,
        73,
        &[
            "SQLSTATE 42501",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON public.relay_recipients TO stranger",
        ],
    );
    let schema = database.section(
        &socket,
        database.port(),
        WRITER,
        "relation = \"mail.recipients\"",
    );
    check(
        &schema,
        73,
        &["SQLSTATE 3F000", "CREATE SCHEMA mail AUTHORIZATION writer"],
    );
    database.ask("CREATE TABLE relay_recipients (id integer)");
    database.ask(&format!("ALTER TABLE relay_recipients OWNER TO {WRITER}"));
    check(
        &database.by_socket(),
        73,
        &["SQLSTATE 42703", "not of our shape"],
    );
    database.ask(
        "DROP TABLE relay_recipients; CREATE VIEW relay_recipients AS SELECT 'a'::text AS address, 'OK'::text AS value",
    );
    check(
        &database.by_socket(),
        73,
        &["SQLSTATE 42P07", "not of our shape"],
    );
    database.ask(
        "DROP VIEW relay_recipients; CREATE TABLE relay_recipients (address text, value text)",
    );
    database.ask("INSERT INTO relay_recipients VALUES ('a@example.com', NULL)");
    database.ask(&format!("ALTER TABLE relay_recipients OWNER TO {WRITER}"));
    check(&database.by_socket(), 73, &["NULL", "value text NOT NULL"]);
    database.ask("DELETE FROM relay_recipients; INSERT INTO relay_recipients VALUES ('anna@example.com', 'OK'), ('anna@example.com', 'OK')");
    check(
        &database.by_socket(),
        73,
        &["two of its rows have one address"],
    );
    let Some(latin) = database_with("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0") else {
        return;
    };
    check(
        &latin.by_socket(),
        73,
        &["encoded in LATIN1", "must be UTF8"],
    );
}

#[test]
fn many_rows_come_and_go() {
    let Some(database) = database() else { return };
    let program = install(&database);
    let staff = |numbers: std::ops::Range<usize>| {
        let lines: String = numbers
            .map(|number| format!("person{number}@example.com\n"))
            .collect();
        program.write_settled("staff.list", &lines);
    };
    staff(0..25_000);
    program.run(&["sync"]).expect_code(0);
    let count = || database.ask("SELECT count(*) FROM relay_recipients");
    assert_eq!(count(), "25000");
    staff(24_000..48_000);
    program.run(&["sync"]).expect_code(65);
    for digest in program.holds().1 {
        program.run(&["approve", &digest]).expect_code(0);
    }
    program.run(&["sync"]).expect_code(0);
    assert_eq!(count(), "24000");
}

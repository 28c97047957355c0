//! Where in the directory changes are: what `diff` tells of rows that come, go and wait, and what is remembered of a hold
//! when the records no longer have those who left.

mod common;

use common::rcptsync::Rcptsync;

const COMPANY: &str = "[source.corp]\nkind = \"ldif\"\npath = \"corp.ldif\"\nmax_age = \"none\"\n\
                       [source.guests]\nkind = \"list\"\npath = \"guests.list\"\n";

/// Nothing goes while this address is missing.
const CANARY: &str = "[guard]\nmust_contain = [\"canary@example.com\"]\n";

/// Writes the company: `place: name name`, a person with one address each.
fn write(program: &Rcptsync, places: &[&str]) {
    let mut ldif = String::from("version: 1\n\n");
    for place in places {
        let (place, names) = place.split_once(": ").expect("a place and names");
        for name in names.split(' ') {
            let domain = if name.contains('@') {
                ""
            } else {
                "@example.com"
            };
            ldif.push_str(&format!(
                "dn: CN={name},{place}\nproxyAddresses: smtp:{name}{domain}\n\n"
            ));
        }
    }
    program.write_settled("corp.ldif", &ldif);
}

/// `SOURCE CONTAINER +added -removed`, in the order told.
fn told(places: &serde_json::Value) -> Vec<String> {
    let places = places.as_array().map_or(&[][..], Vec::as_slice);
    let text = |place: &serde_json::Value, key: &str| place[key].as_str().expect("text").to_owned();
    let line = |place: &serde_json::Value| {
        let (added, removed) = (&place["added"], &place["removed"]);
        let (source, container) = (text(place, "source"), text(place, "container"));
        format!("{source} {container} +{added} -{removed}")
    };
    places.iter().map(line).collect()
}

/// What `diff` tells of the table, and of its one hold.
#[track_caller]
fn check(program: &Rcptsync, table: &[&str], hold: &[&str]) {
    let report = program.run(&["diff", "--format", "json"]).json();
    assert_eq!(told(&report["tables"]["relay_recipients"]["places"]), table);
    assert_eq!(told(&report["holds"][0]["places"]), hold);
}

fn published() -> Rcptsync {
    let program = Rcptsync::new("places");
    program.configure(&["example.com", "example.org"], COMPANY, "");
    program.write_settled(
        "guests.list",
        "gwen@example.com\ngina@example.com\nguy@example.com\n",
    );
    write(
        &program,
        &[
            "OU=A,DC=corp: anna alf x@example.org",
            "OU=B,DC=corp: bob bea",
            "DC=corp: carl",
        ],
    );
    // Those of a first publication are everybody.
    check(&program, &[], &[]);
    program.run(&["sync"]).expect_code(0);
    program
}

#[test]
fn rows_that_come_and_go_are_told_by_their_place() {
    let program = published();
    write(
        &program,
        &[
            "OU=A,DC=corp: anna x@example.org",
            "OU=B,DC=corp: bob bea ben",
            "OU=A\\,C,DC=corp: cleo@example.org carl",
        ],
    );
    program.write_settled("guests.list", "gwen@example.com\ngina@example.com\n");
    let places = [
        "corp OU=A,DC=corp +0 -1",
        "corp OU=A\\,C,DC=corp +1 -0",
        "corp OU=B,DC=corp +1 -0",
        "guests  +0 -1",
    ];
    check(&program, &places, &[]);
    program.run(&["diff"]).expect_code(2).expect_output(&[
        "place in the directory",
        "OU=A\\,C",
        "source guests",
    ]);
    program.run(&["sync"]).expect_code(0);
    check(&program, &[], &[]);
}

#[test]
fn the_places_of_a_hold_are_remembered() {
    let program = published();
    program.configure(&["example.com", "example.org"], COMPANY, CANARY);
    write(
        &program,
        &[
            "OU=A,DC=corp: x@example.org",
            "OU=B,DC=corp: bob bea",
            "DC=corp: carl",
        ],
    );
    let first = ["corp OU=A,DC=corp +0 -2"];
    check(&program, &[], &first);
    // The records of the next run have them no more.
    for _ in 0..2 {
        program.run(&["sync"]).expect_code(65);
        check(&program, &[], &first);
    }
    program
        .run(&["status"])
        .expect_code(1)
        .expect_output(&["2 in OU=A\n"]);
    // It grows.
    write(
        &program,
        &[
            "OU=A,DC=corp: x@example.org",
            "OU=B,DC=corp: bea",
            "DC=corp: carl",
        ],
    );
    let both = ["corp OU=A,DC=corp +0 -2", "corp OU=B,DC=corp +0 -1"];
    check(&program, &[], &both);
    program.run(&["sync"]).expect_code(65);
    check(&program, &[], &both);
    // Somebody of it comes back, so nobody knows any more who of the others was where: what is told is what is known.
    write(
        &program,
        &[
            "OU=A,DC=corp: x@example.org anna",
            "OU=B,DC=corp: bea",
            "DC=corp: carl",
        ],
    );
    program.run(&["sync"]).expect_code(65);
    check(&program, &[], &[]);
}

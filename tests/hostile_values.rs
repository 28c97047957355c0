//! Whoever can write `proxyAddresses` of one object tries to let more pass than himself, or to write where he may not.
//!
//! Each value stands here with the keys it may have, and with what a real Postfix must answer to those who would gain by it.
//! The values come over LDAP from a server that sends any octets, from OpenLDAP, and from an export; the table they make is
//! asked in every format. What people and programs read of them must not act on a terminal, a page, a log or a shell.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::campaign;
use common::embedded::{self, BASE};
use common::ldif;
use common::postfix::{self, Gateway, Instance, Options};
use common::process::{command, succeed};
use common::rcptsync::{LdapConfig, Outcome, Rcptsync};
use common::slapd::{self, Slapd};
use common::{require, set_mode, write_file};
use ldap_server::Directory;
use rcptsync::config;
use rcptsync::domains::Domains;
use rcptsync::policy::{Policy, Reason};

/// What is listed. The gateway relays for more: nobody may be known there.
const DOMAINS: &[&str] = &[
    "example.com",
    "bücher.example",
    "straße.example",
    "kelvin.example",
];
const OTHER_DOMAINS: &[&str] = &["other.example", "office.example", "evil.test"];

/// A value, what becomes of it, and who asks.
struct Row {
    value: Vec<u8>,
    expected: Result<Vec<String>, Reason>,
    /// Addresses that must be accepted, as they are said at `RCPT TO`.
    accepted: Vec<String>,
    /// Addresses that must not be.
    refused: Vec<String>,
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// A value that gives these keys.
fn gives(value: &str, keys: &[&str], accepted: &[&str], refused: &[&str]) -> Row {
    Row {
        value: value.as_bytes().to_vec(),
        expected: Ok(texts(keys)),
        accepted: texts(accepted),
        refused: texts(refused),
    }
}

/// A value that gives one key, with which it is found.
fn gives_itself(value: &str, key: &str, refused: &[&str]) -> Row {
    gives(value, &[key], &[key], refused)
}

/// A value that gives nothing.
fn left_out(value: impl AsRef<[u8]>, reason: Reason, refused: &[&str]) -> Row {
    Row {
        value: value.as_ref().to_vec(),
        expected: Err(reason),
        accepted: Vec::new(),
        refused: texts(refused),
    }
}

fn rows() -> Vec<Row> {
    let mut rows = wildcards();
    rows.extend(line_ends());
    rows.extend(quotes());
    rows.extend(octets());
    rows.extend(look_alikes());
    rows.extend(routes());
    rows.extend(domains());
    rows.extend(types());
    rows.extend(words_for_others());
    rows
}

fn wildcards() -> Vec<Row> {
    use Reason::{ForeignDomain, Malformed, Wildcard};
    vec![
        left_out("smtp:@example.com", Wildcard, &["anyone@example.com"]),
        left_out("smtp:*@example.com", Wildcard, &["*@example.com"]),
        left_out("smtp:\"*\"@example.com", Wildcard, &["\"*\"@example.com"]),
        left_out("smtp:\"\"@example.com", Wildcard, &["\"\"@example.com"]),
        left_out("smtp:@", Wildcard, &[]),
        left_out("smtp:@*", Wildcard, &[]),
        left_out("smtp:@other.example", Wildcard, &["anyone@other.example"]),
        left_out("smtp:", Malformed, &[]),
        left_out("smtp:example.com", Malformed, &["anyone@example.com"]),
        left_out("smtp:.example.com", Malformed, &["anyone@sub.example.com"]),
        left_out("smtp:*", Malformed, &["anyone@example.com"]),
        left_out("smtp:anyone@", Malformed, &["anyone@example.com"]),
        left_out("smtp:anyone@*", Malformed, &["anyone@example.com"]),
        left_out(
            "smtp:anyone@*.example.com",
            Malformed,
            &["anyone@a.example.com"],
        ),
        left_out("smtp:anyone@com", ForeignDomain, &["anyone@example.com"]),
        gives(
            "smtp:%@example.com",
            &["%@example.com"],
            &[],
            &["%@example.com", "a%@example.com"],
        ),
        gives_itself("smtp:**@example.com", "**@example.com", &["xx@example.com"]),
        gives_itself("smtp:?@example.com", "?@example.com", &["x@example.com"]),
        gives_itself(
            "smtp:.*@example.com",
            "\".*\"@example.com",
            &["x@example.com"],
        ),
        gives_itself("smtp:^@example.com", "^@example.com", &["x@example.com"]),
        gives_itself(
            "smtp:/.*/@example.com",
            "/.*/@example.com",
            &["x@example.com"],
        ),
        gives_itself("smtp:_@example.com", "_@example.com", &["x@example.com"]),
    ]
}

fn line_ends() -> Vec<Row> {
    use Reason::{ControlCharacter, Malformed};
    let mut rows = Vec::new();
    for end in [
        "\n", "\r", "\r\n", "\u{85}", "\u{2028}", "\u{2029}", "\u{b}", "\u{c}", "\n ", "\n#", "\0",
    ] {
        for value in [
            format!("smtp:line@example.com{end}@example.com OK{end}line2@example.com"),
            format!("smtp:line{end}@example.com"),
            format!("smtp:\"line{end}@example.com OK{end}\"@example.com"),
            format!("smtp:{end}line@example.com"),
            format!("smtp:line@example.com{end}"),
            format!("smtp:line@exam{end}ple.com"),
        ] {
            rows.push(left_out(
                value,
                ControlCharacter,
                &[
                    "line@example.com",
                    "line2@example.com",
                    "anyone@example.com",
                ],
            ));
        }
    }
    rows.extend([
        gives(
            "smtp:a%0a@example.com",
            &["a%0a@example.com"],
            &[],
            &["a@example.com", "a%0a@example.com"],
        ),
        left_out(
            "smtp:e\\n@example.com",
            Malformed,
            &["e@example.com", "en@example.com"],
        ),
        gives_itself(
            "smtp:\"esc\\n\"@example.com",
            "escn@example.com",
            &["esc@example.com"],
        ),
        gives_itself(
            "smtp:\"esc\\\\n\"@example.com",
            "\"esc\\\\n\"@example.com",
            &["esc@example.com"],
        ),
        gives_itself(
            "smtp:ent&#10;ity@example.com",
            "\"ent&#10;ity\"@example.com",
            &["ent@example.com"],
        ),
        gives_itself(
            "smtp:qp=0Aqp@example.com",
            "qp=0aqp@example.com",
            &["qp@example.com"],
        ),
        gives_itself(
            "smtp:x OK y@example.com",
            "\"x ok y\"@example.com",
            &["x@example.com", "y@example.com"],
        ),
        gives_itself(
            "smtp:\" OK\"@example.com",
            "\" ok\"@example.com",
            &["ok@example.com"],
        ),
    ]);
    rows
}

fn quotes() -> Vec<Row> {
    use Reason::Malformed;
    vec![
        gives(
            "smtp:\"John Doe\"@example.com",
            &["\"john doe\"@example.com"],
            // The last is Postfix's: it asks for the internal form, too, and in that it is one with the key.
            &[
                "\"john doe\"@example.com",
                "\"john\\ doe\"@EXAMPLE.com",
                "\"\\\"john doe\\\"\"@example.com",
            ],
            &[
                "john@example.com",
                "doe@example.com",
                "johndoe@example.com",
                "john.doe@example.com",
            ],
        ),
        gives_itself(
            "smtp:ann bob@example.com",
            "\"ann bob\"@example.com",
            &["ann@example.com", "bob@example.com"],
        ),
        gives_itself(
            "smtp:\"plain\"@example.com",
            "plain@example.com",
            &["plai@example.com"],
        ),
        left_out("smtp:\"open@example.com", Malformed, &["open@example.com"]),
        left_out("smtp:open\"@example.com", Malformed, &["open@example.com"]),
        left_out(
            "smtp:\"open\"b@example.com",
            Malformed,
            &["openb@example.com"],
        ),
        left_out(
            "smtp:open\"b\"@example.com",
            Malformed,
            &["openb@example.com"],
        ),
        left_out(
            "smtp:\"open\\\"@example.com",
            Malformed,
            &["open@example.com"],
        ),
        left_out("smtp:open\\@example.com", Malformed, &["open@example.com"]),
        left_out(
            "smtp:\"open\"@b@example.com",
            Malformed,
            &["open@b", "b@example.com"],
        ),
        left_out(
            "smtp:\"open\"\"b\"@example.com",
            Malformed,
            &["openb@example.com"],
        ),
        left_out(
            "smtp:\"open\" @example.com",
            Malformed,
            &["open@example.com"],
        ),
        left_out("smtp:\"", Malformed, &[]),
        left_out("smtp:\"\\", Malformed, &[]),
        gives(
            "smtp:\"at@in\"@example.com",
            &["\"at@in\"@example.com"],
            &[],
            &["at@in", "\"at@in\"@example.com", "at@example.com"],
        ),
        gives(
            "smtp:two@at@example.com",
            &["\"two@at\"@example.com"],
            &[],
            &["two@at", "\"two@at\"@example.com", "two@example.com"],
        ),
        gives_itself(
            "smtp:kc(comment)@example.com",
            "\"kc(comment)\"@example.com",
            &[
                "kc@example.com",
                "kc(comment)@example.com",
                "(comment)kc@example.com",
            ],
        ),
        gives_itself(
            "smtp:()@example.com",
            "\"()\"@example.com",
            &["comment@example.com"],
        ),
        left_out(
            "smtp:angle@example.com(comment)",
            Malformed,
            &["angle@example.com"],
        ),
        left_out(
            "smtp:angle@(comment)example.com",
            Malformed,
            &["angle@example.com"],
        ),
        left_out(
            "smtp:<angle@example.com>",
            Malformed,
            &["angle@example.com"],
        ),
        left_out(
            "smtp:Name <angle@example.com>",
            Malformed,
            &["angle@example.com"],
        ),
        gives_itself(
            "smtp:com,ma@example.com",
            "\"com,ma\"@example.com",
            &["com@example.com", "ma@example.com"],
        ),
        gives(
            "smtp:one@example.com,two@example.com",
            &["\"one@example.com,two\"@example.com"],
            &[],
            &["one@example.com", "two@example.com"],
        ),
        gives_itself(
            "smtp:group:;@example.com",
            "\"group:;\"@example.com",
            &["group@example.com"],
        ),
        gives_itself(
            "smtp:colon:@example.com",
            "\"colon:\"@example.com",
            &["colon@example.com"],
        ),
        left_out("smtp: space@example.com", Malformed, &["space@example.com"]),
        left_out("smtp:space @example.com", Malformed, &["space@example.com"]),
        left_out("smtp:space@ example.com", Malformed, &["space@example.com"]),
        left_out("smtp:space@example.com ", Malformed, &["space@example.com"]),
        left_out(
            "smtp:space\t@example.com",
            Reason::ControlCharacter,
            &["space@example.com"],
        ),
        gives_itself(
            "smtp:\" \"@example.com",
            "\" \"@example.com",
            &["space@example.com"],
        ),
        gives_itself(
            "smtp:\" lead\"@example.com",
            "\" lead\"@example.com",
            &["lead@example.com"],
        ),
        gives_itself(
            "smtp:nb\u{a0}sp@example.com",
            "nb\u{a0}sp@example.com",
            &["nb@example.com", "nbsp@example.com"],
        ),
        gives_itself(
            "smtp:\u{3000}wide@example.com",
            "\u{3000}wide@example.com",
            &["wide@example.com"],
        ),
        // A comment to the text, not to the CDB.
        gives(
            "smtp:#hash@example.com",
            &["#hash@example.com"],
            &[],
            &["hash@example.com"],
        ),
        gives_itself(
            "smtp:\"# comment\"@example.com",
            "\"# comment\"@example.com",
            &["comment@example.com"],
        ),
        gives_itself(
            "smtp:in#side@example.com",
            "in#side@example.com",
            &["in@example.com"],
        ),
        gives_itself(
            "smtp:..@example.com",
            "\"..\"@example.com",
            &[".@example.com"],
        ),
        gives_itself(
            "smtp:.dot@example.com",
            "\".dot\"@example.com",
            &["dot@example.com"],
        ),
        gives_itself(
            "smtp:dot.@example.com",
            "\"dot.\"@example.com",
            &["dot@example.com"],
        ),
    ]
}

fn octets() -> Vec<Row> {
    use Reason::{ControlCharacter, Malformed, NotSmtp, TooLong};
    let long = |count: usize, first: char| -> String {
        (0..count)
            .map(|at| if at == 0 { first } else { 'l' })
            .collect()
    };
    let itself = |local: &str| {
        let key = format!("{local}@example.com");
        gives_itself(&format!("smtp:{key}"), &key, &[])
    };
    vec![
        left_out(
            "smtp:nul\0@example.com",
            ControlCharacter,
            &["nul@example.com"],
        ),
        left_out(
            "smtp:nul@example.com\0.evil.test",
            ControlCharacter,
            &["nul@example.com"],
        ),
        left_out("\0smtp:nul@example.com", NotSmtp, &["nul@example.com"]),
        left_out("smtp\0:nul@example.com", NotSmtp, &["nul@example.com"]),
        left_out(
            "smtp:\0nul@example.com",
            ControlCharacter,
            &["nul@example.com"],
        ),
        left_out(
            "smtp:\u{1b}[2Jesc@example.com",
            ControlCharacter,
            &["esc@example.com"],
        ),
        left_out(
            "smtp:\u{9b}2Jesc@example.com",
            ControlCharacter,
            &["esc@example.com"],
        ),
        left_out(
            "smtp:\u{7f}esc@example.com",
            ControlCharacter,
            &["esc@example.com"],
        ),
        left_out(
            "smtp:esc\u{8}\u{8}@example.com",
            ControlCharacter,
            &["esc@example.com"],
        ),
        left_out(
            b"smtp:high\xff@example.com",
            Malformed,
            &["high@example.com"],
        ),
        left_out(
            b"smtp:high\xfc@example.com",
            Malformed,
            &["highü@example.com"],
        ),
        left_out(
            b"smtp:high\xc0\xaf@example.com",
            Malformed,
            &["high/@example.com"],
        ),
        left_out(
            b"smtp:high\xc1\x80example.com",
            Malformed,
            &["high@example.com"],
        ),
        left_out(
            b"smtp:high\xed\xa0\x80@example.com",
            Malformed,
            &["high@example.com"],
        ),
        left_out(
            b"smtp:high\xf4\x90\x80\x80@example.com",
            Malformed,
            &["high@example.com"],
        ),
        left_out(
            b"smtp:high\xe2\x80@example.com",
            Malformed,
            &["high@example.com"],
        ),
        left_out(
            b"smtp:high@exam\xffple.com",
            Malformed,
            &["high@example.com"],
        ),
        left_out(b"s\0m\0t\0p\0:\0u\0@\0e\0", NotSmtp, &["u@example.com"]),
        itself(&long(64, 'a')),
        itself(&long(65, 'b')),
        itself(&long(242, 'c')),
        left_out(format!("smtp:{}@example.com", long(243, 'd')), TooLong, &[]),
        left_out(format!("smtp:{}@example.com", long(308, 'e')), TooLong, &[]),
        left_out(
            format!("smtp:{}@example.com", long(65_536, 'f')),
            TooLong,
            &[],
        ),
        left_out(
            format!("smtp:{}@example.com", long(1_000_000, 'g')),
            TooLong,
            &[],
        ),
        left_out(
            format!("smtp:g@{}.example.com", long(64, 'x')),
            Malformed,
            &[],
        ),
        left_out(
            format!("smtp:g@{}example.com", "x.".repeat(122)),
            Malformed,
            &[],
        ),
        left_out(format!("smtp:{}", long(100_000, 'h')), TooLong, &[]),
    ]
}

fn look_alikes() -> Vec<Row> {
    use Reason::{ForeignDomain, Malformed};
    vec![
        gives(
            "smtp:Groß@example.com",
            &["gross@example.com"],
            &[
                "gross@example.com",
                "groß@example.com",
                "GROSS@example.com",
                "GRO\u{1e9e}@example.com",
            ],
            &["gros@example.com"],
        ),
        gives(
            "smtp:\u{212a}elvin@example.com",
            &["kelvin@example.com"],
            &["kelvin@example.com", "\u{212a}ELVIN@example.com"],
            &[],
        ),
        gives(
            "smtp:lon\u{17f}@example.com",
            &["lons@example.com"],
            &["lons@example.com", "lon\u{17f}@example.com"],
            &[],
        ),
        gives_itself(
            "smtp:d\u{131}t@example.com",
            "d\u{131}t@example.com",
            &["dit@example.com", "DIT@example.com"],
        ),
        gives(
            "smtp:\u{130}st@example.com",
            &["i\u{307}st@example.com"],
            &["\u{130}st@example.com"],
            &["ist@example.com"],
        ),
        gives(
            "smtp:λόγος@example.com",
            &["λόγοσ@example.com"],
            &["λόγος@example.com", "ΛΌΓΟΣ@example.com"],
            &[],
        ),
        gives(
            "smtp:\u{fb01}n@example.com",
            &["fin@example.com"],
            &["fin@example.com", "\u{fb01}n@example.com"],
            &[],
        ),
        gives_itself(
            "smtp:caf\u{e9}@example.com",
            "caf\u{e9}@example.com",
            &["cafe\u{301}@example.com", "cafe@example.com"],
        ),
        gives_itself(
            "smtp:\u{430}dmin@example.com",
            "\u{430}dmin@example.com",
            &["admin@example.com"],
        ),
        gives_itself(
            "smtp:\u{ff41}b@example.com",
            "\u{ff41}b@example.com",
            &["ab@example.com"],
        ),
        gives_itself(
            "smtp:zw\u{200b}j@example.com",
            "zw\u{200b}j@example.com",
            &["zwj@example.com"],
        ),
        gives_itself(
            "smtp:so\u{ad}ft@example.com",
            "so\u{ad}ft@example.com",
            &["soft@example.com"],
        ),
        gives_itself(
            "smtp:\u{202e}ecila@example.com",
            "\u{202e}ecila@example.com",
            &["ecila@example.com", "alice@example.com"],
        ),
        gives_itself(
            "smtp:\u{2066}iso@example.com",
            "\u{2066}iso@example.com",
            &["iso@example.com"],
        ),
        gives_itself(
            "smtp:tag\u{e0041}@example.com",
            "tag\u{e0041}@example.com",
            &["tag@example.com"],
        ),
        gives_itself(
            "smtp:var\u{fe0f}@example.com",
            "var\u{fe0f}@example.com",
            &["var@example.com"],
        ),
        gives_itself(
            "smtp:\u{feff}bom@example.com",
            "\u{feff}bom@example.com",
            &["bom@example.com"],
        ),
        left_out(
            "smtp:full\u{ff20}example.com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@example\u{ff0e}com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@example\u{3002}com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@\u{24d4}xample.com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@\u{ff45}xample.com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@ex\u{ad}ample.com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@ex\u{200b}ample.com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@ex\u{200d}ample.com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@\u{202e}example.com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@\u{5d0}example.com",
            Malformed,
            &["full@example.com"],
        ),
        left_out(
            "smtp:full@ex\u{430}mple.com",
            ForeignDomain,
            &["full@example.com"],
        ),
        gives(
            "smtp:k1@\u{212a}ELVIN.example",
            &["k1@kelvin.example"],
            &["k1@kelvin.example", "k1@\u{212a}elvin.example"],
            &[],
        ),
        left_out(
            "smtp:k2@o\u{fb03}ce.example",
            ForeignDomain,
            &["k2@office.example"],
        ),
        // Postfix folds both domains to one. Whoever is in the listed one is found there; whoever is in the other is not.
        left_out(
            "smtp:k3@strasse.example",
            ForeignDomain,
            &["k3@strasse.example", "k3@straße.example"],
        ),
        gives(
            "smtp:k4@straße.example",
            &["k4@xn--strae-oqa.example", "k4@strasse.example"],
            &["k4@xn--strae-oqa.example", "k4@straße.example"],
            &[],
        ),
        gives(
            "smtp:k5@BÜCHER.example",
            &["k5@xn--bcher-kva.example", "k5@bücher.example"],
            &[
                "k5@xn--bcher-kva.example",
                "k5@bücher.example",
                "K5@XN--BCHER-KVA.EXAMPLE",
            ],
            &["k5@bucher.example", "k5@bu\u{308}cher.example"],
        ),
        gives(
            "smtp:k6@XN--BCHER-KVA.example",
            &["k6@xn--bcher-kva.example", "k6@bücher.example"],
            &["k6@xn--bcher-kva.example", "k6@bücher.example"],
            &[],
        ),
        left_out(
            "smtp:full@bu\u{308}cher.example",
            Malformed,
            &["full@bücher.example"],
        ),
        left_out(
            "smtp:full@xn--bücher-kva.example",
            Malformed,
            &["full@bücher.example"],
        ),
        left_out(
            "smtp:full@xn--example-.com",
            Malformed,
            &["full@example.com"],
        ),
        left_out("smtp:full@xn--.com", Malformed, &[]),
        left_out(
            "smtp:full@xn--bcher-kva\u{301}.example",
            Malformed,
            &["full@bücher.example"],
        ),
        left_out("smtp:full@xn--a.example.com", Malformed, &[]),
    ]
}

fn routes() -> Vec<Row> {
    use Reason::{ForeignDomain, Malformed, Wildcard};
    vec![
        gives(
            "smtp:victim%other.example@example.com",
            &["victim%other.example@example.com"],
            &[],
            &[
                "victim@other.example",
                "victim%other.example@example.com",
                "victim@example.com",
            ],
        ),
        gives(
            "smtp:other.example!victim@example.com",
            &["other.example!victim@example.com"],
            &[],
            &[
                "victim@other.example",
                "other.example!victim@example.com",
                "example.com!other.example!victim",
            ],
        ),
        gives(
            "smtp:@other.example,@evil.test:routed@example.com",
            &["\"@other.example,@evil.test:routed\"@example.com"],
            &[],
            &[
                "routed@example.com",
                "@other.example,@evil.test:routed@example.com",
            ],
        ),
        left_out(
            "smtp:@example.com:routed@other.example",
            ForeignDomain,
            &["routed@other.example"],
        ),
        left_out(
            "smtp:@example.com:@example.com:",
            Malformed,
            &["anyone@example.com"],
        ),
        left_out("smtp:@[192.0.2.1]", Wildcard, &[]),
        left_out("smtp:ip@[192.0.2.1]", Malformed, &["ip@[192.0.2.1]"]),
        left_out("smtp:ip@[127.0.0.1]", Malformed, &[]),
        left_out(
            "smtp:ip@[IPv6:2001:db8::1]",
            Malformed,
            &["ip@[IPv6:2001:db8::1]"],
        ),
        left_out("smtp:ip@192.0.2.1", ForeignDomain, &["ip@192.0.2.1"]),
        left_out("smtp:ip@#3221225985", Malformed, &[]),
        gives(
            "smtp:-dash@example.com",
            &["-dash@example.com"],
            &[],
            &["-dash@example.com", "dash@example.com"],
        ),
        gives(
            "smtp:plus+*@example.com",
            &["plus+*@example.com"],
            &["plus+*@example.com"],
            &["plus@example.com", "plus+x@example.com"],
        ),
        gives_itself(
            "smtp:+x@example.com",
            "+x@example.com",
            &["+y@example.com", "y+x@example.com", "x@example.com"],
        ),
        gives_itself(
            "smtp:+@example.com",
            "+@example.com",
            &["+any@example.com", "any+@example.com"],
        ),
        gives_itself(
            "smtp:postmaster@example.com",
            "postmaster@example.com",
            &["postmaster@other.example"],
        ),
        gives_itself(
            "smtp:double-bounce@example.com",
            "double-bounce@example.com",
            &["double-bounce@other.example"],
        ),
        gives_itself(
            "smtp:MAILER-DAEMON@example.com",
            "mailer-daemon@example.com",
            &["mailer-daemon@other.example"],
        ),
    ]
}

fn domains() -> Vec<Row> {
    use Reason::{ForeignDomain, Malformed};
    let mut rows = Vec::new();
    for (domain, reason) in [
        ("example.com.", Malformed),
        (".example.com", Malformed),
        ("-example.com", Malformed),
        ("example-.com", Malformed),
        ("example..com", Malformed),
        ("example.com:25", Malformed),
        ("example.com/", Malformed),
        ("example.com\\", Malformed),
        ("\"example.com\"", Malformed),
        ("example.com@", Malformed),
        ("example_com", Malformed),
        ("[example.com]", Malformed),
        ("%65xample.com", Malformed),
        ("evilexample.com", ForeignDomain),
        ("example.com.evil.test", ForeignDomain),
        ("sub.example.com", ForeignDomain),
        ("example.com-evil.test", ForeignDomain),
        ("exampleXcom", ForeignDomain),
        ("example", ForeignDomain),
        ("other.example", ForeignDomain),
        ("sub.kelvin.example", ForeignDomain),
    ] {
        let refused = format!("edge@{domain}");
        let refused = [
            refused.as_str(),
            "edge@example.com",
            "edge@sub.example.com",
            "edge@other.example",
        ];
        rows.push(left_out(format!("smtp:edge@{domain}"), reason, &refused));
    }
    rows
}

fn types() -> Vec<Row> {
    use Reason::NotSmtp;
    let mut rows = vec![
        gives_itself("sMtP:type1@example.com", "type1@example.com", &[]),
        gives_itself(
            "smtp:smtp:type@example.com",
            "\"smtp:type\"@example.com",
            &["type@example.com"],
        ),
        gives_itself(
            "smtp::type@example.com",
            "\":type\"@example.com",
            &["type@example.com"],
        ),
    ];
    for value in [
        "SMTP :type@example.com",
        " smtp:type@example.com",
        "\tsmtp:type@example.com",
        "smtp\u{a0}:type@example.com",
        "\u{17f}mtp:type@example.com",
        "smtps:type@example.com",
        "smtp;type@example.com",
        "smtp",
        "SIP:type@example.com",
        "X500:/o=x/cn=type@example.com",
        "X400:c=de;a= ;p=x;s=type@example.com",
        "type@example.com",
        "mailto:type@example.com",
        "{smtp}type@example.com",
        "smtp\n:type@example.com",
        "sip:x\nsmtp:type@example.com",
    ] {
        rows.push(left_out(value, NotSmtp, &["type@example.com"]));
    }
    rows
}

/// Local parts that mean something to a shell, a query, a template or a page.
fn words_for_others() -> Vec<Row> {
    [
        "x' OR '1'='1",
        "'; DROP TABLE relay_recipients; --",
        "$1",
        "${run{id}}",
        "$(id)",
        "`id`",
        "|id",
        "/etc/passwd",
        ":include:/etc/passwd",
        "{{7*7}}",
        "{% raw %}",
        "{#comment#}",
        "<%=7*7%>x",
        "=cmd|' /C calc'!A0",
        "[x](http://evil.test)",
        "![x](http://evil.test)",
        "<img/src=x/onerror=alert(1)>",
        "</code></details>",
        "<!--",
        "```",
        "` `` `",
        "|a|b|",
        "a\\|b",
        "- [x] done",
        "# heading",
        "+++ b/x",
        "--- a/x",
        "@@ -1 +1 @@",
        "\\.",
        "\\N",
        "\\t",
        "a,b",
        "a;b",
        "%s%n",
        "NULL",
        "true",
        "\u{1f600}",
        "a\u{301}\u{301}\u{301}\u{301}",
    ]
    .map(|local| {
        let quoted = format!("\"{}\"", local.replace('\\', "\\\\").replace('"', "\\\""));
        let key = format!(
            "{}@example.com",
            rcptsync::address::quoted(&local.to_lowercase())
        );
        let is_refused = local.contains(['%', '!', '@']) || local.starts_with('-');
        let accepted = if is_refused {
            Vec::new()
        } else {
            vec![key.as_str()]
        };
        gives(
            &format!("smtp:{quoted}@example.com"),
            &[key.as_str()],
            &accepted,
            &["id@example.com", "a@example.com"],
        )
    })
    .into()
}

/// Names of objects that a careless reader takes for something else.
const NAMES: &[&str] = &[
    "CN=plain",
    "CN=esc\u{1b}]0;owned\u{7}\u{1b}[2J",
    "CN=line\nrelay_recipients  0 in force\n+ root@example.com",
    "CN=bidi\u{202e}moc.elpmaxe@toor\u{2066}",
    "CN=`</code></details><script>alert(1)</script>|a|b|",
    "CN=\\0A\\22comma\\, and \\+ plus",
    "CN=[x](http://evil.test) ![x](http://evil.test) http://evil.test @everyone",
    "CN=\u{9b}31mred\u{85}next\u{2028}line",
    "CN=%s%n${HOME}$(id)`id`;DROP TABLE x",
    "not a name",
];

fn dn(number: usize) -> String {
    format!("{} {number},OU=Staff,{BASE}", NAMES[number % NAMES.len()])
}

/// Objects with these values, one each, as they come over the wire.
fn with_objects(mut directory: Directory, values: &[Vec<u8>]) -> Directory {
    for (number, value) in values.iter().enumerate() {
        let mut guid = vec![7; 12];
        guid.extend(u32::try_from(number).expect("few").to_be_bytes());
        let attributes = vec![
            ("objectGUID".to_owned(), vec![guid]),
            ("proxyAddresses".to_owned(), vec![value.clone()]),
        ];
        directory = directory.raw_entry(dn(number).as_bytes(), attributes);
    }
    directory
}

fn values_of(rows: &[Row]) -> Vec<Vec<u8>> {
    rows.iter().map(|row| row.value.clone()).collect()
}

fn keys_of(rows: &[Row]) -> BTreeSet<String> {
    rows.iter()
        .flat_map(|row| row.expected.iter().flatten())
        .cloned()
        .collect()
}

fn left_out_of(rows: &[Row]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for reason in rows.iter().filter_map(|row| row.expected.as_ref().err()) {
        *counts.entry(reason.name()).or_default() += 1;
    }
    counts
}

/// Lists all domains in the place of `example.com`, in every format.
fn adapt(program: &Rcptsync) {
    let path = program.config_file();
    let text = std::fs::read_to_string(&path).expect("our own file");
    let list = toml::Value::from(DOMAINS.to_vec());
    let text = text
        .replace("list = [\"example.com\"]", &format!("list = {list}"))
        .replace(
            "[\"text\", \"cdb\"]",
            "[\"text\", \"cdb\", \"hash\", \"lmdb\"]",
        );
    write_file(&path, text);
}

/// The keys of the published CDB.
fn published_keys(program: &Rcptsync) -> BTreeSet<String> {
    use rcptsync::{fold::Folding, table::format};
    let bytes = std::fs::read(program.table_cdb()).expect("a published table");
    let rows = format::read(config::Format::Cdb, &bytes, Folding::Unicode).expect("a CDB");
    rows.into_iter()
        .map(|(key, value)| {
            assert_eq!(value, b"OK");
            String::from_utf8(key).expect("a key is UTF-8")
        })
        .collect()
}

#[track_caller]
fn check_keys(program: &Rcptsync, expected: &BTreeSet<String>) {
    let found = published_keys(program);
    let too_many: Vec<&String> = found.difference(expected).collect();
    let missing: Vec<&String> = expected.difference(&found).collect();
    assert!(
        too_many.is_empty() && missing.is_empty(),
        "too many {too_many:?}, missing {missing:?}"
    );
}

#[test]
fn each_value_is_decided_by_itself() {
    let toml = format!(
        "[domains]\nlist = {}\n[source.a]\nkind = \"list\"\npath = \"a\"\n[table.t]\npath = \"t\"\nformats = [\"cdb\"]\n",
        toml::Value::from(DOMAINS.to_vec())
    );
    let config = config::parse(Path::new("/c"), &toml).expect("a configuration");
    let listed = Domains::exact(&config.domains.list);
    let policy = Policy::new(&config.recipients, &listed);
    let mut owners: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for row in rows() {
        let found = policy.address(&row.value).map(|address| {
            let keys = rcptsync::keys::Key::all_of(&address, rcptsync::fold::Folding::Unicode);
            keys.iter()
                .map(|key| key.as_str().to_owned())
                .collect::<Vec<_>>()
        });
        let shown = row.value.escape_ascii().to_string();
        assert_eq!(found, row.expected, "{}", &shown[..shown.len().min(300)]);
        // So that what all make together tells what each has made.
        for key in row.expected.into_iter().flatten() {
            let other = owners.insert(key.clone(), row.value.clone());
            assert_eq!(other, None, "{key} is given twice");
        }
    }
}

#[test]
fn a_real_postfix_lets_nobody_pass_who_is_not_meant() {
    if !postfix::is_available() {
        return;
    }
    let rows = rows();
    let directory = with_objects(Directory::new(BASE), &values_of(&rows));
    let (_server, mut program) = embedded::install("hostile", directory, "", "");
    let instance = Instance::for_postmap(true);
    program.mail_config = Some(instance.config_directory());
    adapt(&program);
    let report = program
        .run(&["diff", "--format", "json"])
        .expect_code(2)
        .json();
    let mut counts = left_out_of(&rows);
    // Values of other types without an "@" are counted, too.
    assert_eq!(
        report["left_out"],
        serde_json::to_value(&counts).expect("figures")
    );
    counts.clear();
    program.run(&["sync"]).expect_code(0);
    check_keys(&program, &keys_of(&rows));

    let mut relay_domains: Vec<String> = vec!["example.com".into(), "kelvin.example".into()];
    relay_domains.extend(texts(&[
        "bücher.example",
        "xn--bcher-kva.example",
        "straße.example",
        "xn--strae-oqa.example",
    ]));
    relay_domains.extend(texts(OTHER_DOMAINS));
    let mut answers_count = 0;
    for (map_type, recipient_delimiter) in [
        ("cdb", "+"),
        ("cdb", ""),
        ("hash", ""),
        ("lmdb", ""),
        ("texthash", ""),
    ] {
        let options = Options {
            recipient_delimiter,
            relay_domains: relay_domains.clone(),
            ..Options::default()
        };
        let gateway = Gateway::start(&program.table(), map_type, &options);
        answers_count += check_answers(&gateway, &rows, map_type);
    }
    campaign::tell(rows.len(), "hostile values, each decided as written down");
    campaign::tell(
        answers_count,
        "answers of a real Postfix (cdb, hash, lmdb, texthash) to those who would gain by them",
    );
}

fn check_answers(gateway: &Gateway, rows: &[Row], map_type: &str) -> usize {
    let mut asked: Vec<(&str, bool)> = vec![("#hash@example.com", map_type == "cdb")];
    for row in rows {
        asked.extend(row.accepted.iter().map(|address| (address.as_str(), true)));
        asked.extend(row.refused.iter().map(|address| (address.as_str(), false)));
    }
    let sayable = |address: &str| !address.contains(['\r', '\n', '\0']) && address.len() < 900;
    asked.retain(|(address, _)| sayable(address));
    let addresses: Vec<&str> = asked.iter().map(|(address, _)| *address).collect();
    let mut wrong = Vec::new();
    for ((address, is_accepted), answer) in asked.iter().zip(gateway.rcpt(&addresses)) {
        if (answer.code == 250) != *is_accepted || answer.text.contains("Temporary lookup failure")
        {
            wrong.push(format!(
                "{address:?}: {} {}, expected {is_accepted}",
                answer.code, answer.text
            ));
        }
    }
    assert!(wrong.is_empty(), "{map_type}: {wrong:#?}");
    asked.len()
}

/// An export of objects with these values.
fn export(rows: &[Row]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        ldif::push_bytes(&mut text, "dn", dn(number).as_bytes());
        ldif::push_bytes(&mut text, "proxyAddresses", &row.value);
        text.push('\n');
    }
    text
}

/// OpenLDAP takes what is UTF-8, and gives it back as it came.
#[test]
fn the_same_values_from_openldap_and_from_an_export_make_the_same_table() {
    let rows = rows();
    let program = Rcptsync::new("hostile-export");
    let source = "[source.corp]\nkind = \"ldif\"\npath = \"company.ldif\"\n";
    program.configure(DOMAINS, source, "");
    program.write_settled("company.ldif", &export(&rows));
    program.run(&["sync"]).expect_code(0);
    check_keys(&program, &keys_of(&rows));

    if !slapd::is_available() {
        return;
    }
    let taken: Vec<Row> = rows
        .into_iter()
        .filter(|row| std::str::from_utf8(&row.value).is_ok_and(|text| text.trim() == text))
        .collect();
    let mut entries = String::new();
    for (number, row) in taken.iter().enumerate() {
        entries.push_str(&format!(
            "dn: cn={number},{}\nobjectClass: user\ncn: {number}\n",
            common::directory::BASE
        ));
        ldif::push_bytes(&mut entries, "proxyAddresses", &row.value);
        entries.push('\n');
    }
    let slapd = Slapd::start(&entries);
    let program = Rcptsync::new("hostile-openldap");
    program.configure_ldap(&LdapConfig {
        server: slapd.ldaps_url(),
        starttls: false,
        ca_file: &slapd.ca_file(),
        bind_name: slapd::ACCOUNT,
        password_file: &slapd.password_file(),
        page_size: 100,
        source_more: "base = [\"DC=corp,DC=example\"]\nincremental = \"off\"\nfilter = \"(objectClass=user)\"",
        domains: DOMAINS,
        more: "",
    });
    program.run(&["sync"]).expect_code(0);
    check_keys(&program, &keys_of(&taken));
}

/// One object cannot take the table from the others, however much stands on it.
#[test]
fn an_object_with_too_much_on_it_removes_nobody() {
    let anna = || {
        Directory::new(BASE).entry(
            &format!("CN=anna,{BASE}"),
            &[
                ("objectGUID", &["0123456789abcdef"]),
                ("proxyAddresses", &["SMTP:anna@example.com"]),
            ],
        )
    };
    let (server, program) = embedded::install(
        "hostile-much",
        anna(),
        "",
        "[guard]\nadded_floor = 1000000\n",
    );
    program.run(&["sync"]).expect_code(0);
    let mut empty = None;
    server.change(|directory| {
        empty = Some(directory.clone());
        directory
    });
    let empty = empty.expect("it was just seen");
    let with = |values: Vec<Vec<u8>>| {
        let attributes = vec![
            ("objectGUID".to_owned(), vec![b"fedcba9876543210".to_vec()]),
            ("proxyAddresses".to_owned(), values),
        ];
        server.change(|_| {
            empty
                .clone()
                .raw_entry(format!("CN=much,{BASE}").as_bytes(), attributes)
        });
    };
    let many = |count: usize| {
        (0..count)
            .map(|number| format!("smtp:m{number}@example.com").into_bytes())
            .collect()
    };
    with(many(30_000));
    program.run(&["sync"]).expect_code(0);
    assert_eq!(published_keys(&program).len(), 30_001);
    // What cannot be read completely leaves everything as it is.
    with(many(100_000));
    let outcome = program.run_untouching(&["sync"], 75);
    outcome.expect_answers(&[]);
    with(vec![
        [&b"smtp:"[..], &vec![b'x'; 10_000_000], b"@example.com"].concat(),
    ]);
    program
        .run(&["sync"])
        .expect_code(65)
        .expect_output(&["left out  1 too_long"]);
    assert!(published_keys(&program).contains("anna@example.com"));
}

/// Characters that do something to a terminal, or that nobody sees (Default_Ignorable_Code_Point of Unicode).
fn acts(character: char) -> bool {
    character != '\n' && character.is_control()
        || matches!(u32::from(character),
            0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
            | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb
            | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

#[track_caller]
fn check_inert(what: &str, text: &str) {
    for (number, line) in text.lines().enumerate() {
        assert!(
            !line.contains(acts),
            "{what}, line {}: {line:?}",
            number + 1
        );
    }
}

#[track_caller]
fn check_output(what: &str, outcome: &Outcome) {
    check_inert(what, &outcome.stdout);
    check_inert(what, &outcome.stderr);
}

/// With colours there are escape sequences: ours, which end where they begin to be colours.
#[track_caller]
fn check_coloured(what: &str, outcome: &Outcome) {
    for text in [&outcome.stdout, &outcome.stderr] {
        let mut parts = text.split("\u{1b}[");
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|letter: char| !letter.is_ascii_digit() && letter != ';');
            let end = end.unwrap_or(part.len());
            assert_eq!(part.get(end..=end), Some("m"), "{what}: {part:?}");
            plain.push_str(&part[end + 1..]);
        }
        check_inert(what, &plain);
    }
}

/// A hook that keeps what it is given: its arguments, its environment, its standard input.
fn keeper(program: &Rcptsync, name: &str) -> String {
    let kept = program.directory().join(name);
    let script = program.directory().join(format!("{name}.sh"));
    let kept = kept.display();
    write_file(
        &script,
        format!("#!/bin/sh\nenv > {kept}.env\ncat > {kept}.in\n"),
    );
    set_mode(&script, 0o755);
    format!(
        "[[hook]]\nname = \"{name}\"\nrun = [\"{}\"]\n",
        script.display()
    )
}

fn kept(program: &Rcptsync, name: &str) -> String {
    let path = program.directory().join(name);
    std::fs::read_to_string(path).expect("the hook was run, and was given text")
}

/// An installation that knows Anna, and then is to learn everything else; what comes is held first.
fn about_to_learn(rows: &[Row]) -> (ldap_server::Server, Rcptsync, Instance) {
    let anna = Directory::new(BASE).entry(
        &format!("CN=anna,{BASE}"),
        &[
            ("objectGUID", &["0123456789abcdef"]),
            ("proxyAddresses", &["SMTP:anna@example.com"]),
        ],
    );
    let more = "[guard]\nadded_floor = 1\n[metrics]\ntextfile = \"rcptsync.prom\"\n";
    let (server, mut program) = embedded::install("hostile-shown", anna, "", more);
    let instance = Instance::for_postmap(true);
    program.mail_config = Some(instance.config_directory());
    adapt(&program);
    let told = keeper(&program, "told") + "when = [\"refused\"]\ninput = \"text\"\n";
    let told_json = keeper(&program, "told-json") + "when = [\"refused\"]\ninput = \"json\"\n";
    let changed = keeper(&program, "changed") + "input = \"json\"\n";
    let path = program.config_file();
    let text = std::fs::read_to_string(&path).expect("our own file");
    write_file(&path, text + &changed + &told + &told_json);
    program.run(&["sync"]).expect_code(0);
    let values = values_of(rows);
    server.change(|directory| with_objects(directory, &values));
    (server, program, instance)
}

#[test]
fn nothing_that_is_shown_acts_on_who_reads_it() {
    if !postfix::is_available() {
        return;
    }
    let rows = rows();
    let (_server, program, _instance) = about_to_learn(&rows);
    let keys = keys_of(&rows);
    let mut shown_count = 0;
    let mut check = |arguments: &[&str], code: i32| {
        let outcome = program.run(arguments).expect_code(code);
        check_output(&arguments.join(" "), &outcome);
        shown_count += 1;
        outcome
    };
    // All that comes is held.
    for format in ["text", "unified", "markdown", "json"] {
        check(&["diff", "--format", format], 65);
    }
    check(&["-v", "sync"], 65);
    check(&["status"], 1);
    let told = kept(&program, "told.in");
    check_inert("what a person is told", &told);
    assert!(told.contains("relay_recipients"), "{told}");
    check_inert("what a program is told", &kept(&program, "told-json.in"));
    serde_json::from_str::<serde_json::Value>(&kept(&program, "told-json.in")).expect("JSON");
    let (_, digests) = program.holds();
    check(&["approve", &digests[0]], 0);

    // Now it would be published.
    let unified = check(&["diff", "--format", "unified"], 2).stdout;
    check_unified(&unified, keys.len());
    let json = check(&["diff", "--format", "json"], 2).json();
    check_exact(&json["tables"]["relay_recipients"]["added"], &keys);
    check_markdown(
        &program,
        &check(&["diff", "--format", "markdown"], 2).stdout,
        keys.len(),
    );
    check(&["diff"], 2);
    let outcome = program.run(&["--color", "always", "diff"]).expect_code(2);
    check_coloured("diff in colours", &outcome);
    let log = check(&["-v", "--log-format", "json", "sync"], 0).stderr;
    for line in log.lines() {
        let parsed = serde_json::from_str::<serde_json::Value>(line);
        assert!(parsed.is_ok(), "{parsed:?}: {line}");
    }
    check_hook(&program, &keys);
    let json = check(&["history", "2", "--format", "json"], 0).json();
    check_exact(&json["tables"][0]["added"], &keys);
    for arguments in [
        &["history"][..],
        &["history", "2"],
        &["status", "--format", "json"],
        &["-v", "verify"],
    ] {
        let outcome = program.run(arguments);
        check_output(&arguments.join(" "), &outcome);
    }
    check_output("doctor", &program.run(&["doctor"]));
    check_inert(
        "metrics",
        &std::fs::read_to_string(program.directory().join("rcptsync.prom")).expect("metrics"),
    );

    // Whatever is asked for is shown with the objects that name it, whose names are hostile, too.
    let texts: Vec<&str> = rows
        .iter()
        .filter_map(|row| std::str::from_utf8(&row.value).ok())
        .filter(|value| !value.contains('\0') && value.len() < 4_000)
        .map(|value| value.split_once(':').map_or(value, |(_, rest)| rest))
        .collect();
    for colour in ["never", "always"] {
        let mut arguments = vec!["--color", colour, "explain", "--"];
        arguments.extend(&texts);
        let outcome = program.run(&arguments).expect_code(1);
        check_coloured("explain", &outcome);
        assert!(
            outcome.stdout.contains("CN=esc\\u{1b}]0;owned"),
            "{}",
            outcome.stdout
        );
    }
    campaign::tell(
        shown_count + texts.len(),
        "outputs full of hostile values that acted on nobody",
    );
}

/// What a program reads is what a gateway looks up.
#[track_caller]
fn check_exact(found: &serde_json::Value, keys: &BTreeSet<String>) {
    let found: BTreeSet<String> = serde_json::from_value(found.clone()).expect("a list of texts");
    assert_eq!(found, *keys);
}

/// Lines that a value wrote would be counted wrong, or begin with something else.
#[track_caller]
fn check_unified(text: &str, rows_count: usize) {
    let mut lines = text.lines();
    for head in ["--- /", "+++ /"] {
        let line = lines.next().unwrap_or_default();
        assert!(
            line.starts_with(head) && line.contains("/tables/relay_recipients ("),
            "{line}"
        );
    }
    let (mut announced, mut found) = (0, 0);
    for line in lines {
        if let Some(hunk) = line.strip_prefix("@@ -") {
            let count = hunk
                .split(" +")
                .nth(1)
                .and_then(|new| new.split([',', ' ']).nth(1));
            announced += count
                .and_then(|count| count.parse::<usize>().ok())
                .expect("a count");
        } else {
            assert!(line.starts_with('+') && line.ends_with(" OK"), "{line}");
            found += 1;
        }
    }
    assert_eq!((announced, found), (rows_count, rows_count));
}

#[track_caller]
fn check_markdown(program: &Rcptsync, text: &str, rows_count: usize) {
    if !require("cmark-gfm") {
        return;
    }
    let file = program.directory().join("report.md");
    write_file(&file, text);
    let mut render = command("cmark-gfm");
    render
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
        .arg(&file);
    let html = String::from_utf8(succeed(&mut render).stdout).expect("text");
    for tag in [
        "<a",
        "<img",
        "<script",
        "<input",
        "<!--",
        "<h1",
        "<h2",
        "<pre",
        "<del",
        "<blockquote",
        "<ol",
    ] {
        assert!(!html.contains(tag), "{tag} in {html}");
    }
    for tag in ["details", "summary", "ul", "li", "code", "table", "p"] {
        let count = |tag: String| html.matches(&tag).count();
        assert_eq!(
            count(format!("<{tag}>")),
            count(format!("</{tag}>")),
            "{tag} in {html}"
        );
    }
    // One item for each row, as far as there is room for them, and one for those beyond.
    let items_count = html.matches("<li><code>").count();
    assert!(
        items_count == rows_count || html.contains(" more</li>"),
        "{items_count} of {rows_count}: {html}"
    );
}

/// A hook learns the keys as they are, and nothing of them stands in its environment.
#[track_caller]
fn check_hook(program: &Rcptsync, keys: &BTreeSet<String>) {
    let given = kept(program, "changed.in");
    check_inert("what a hook is given", &given);
    let given: serde_json::Value = serde_json::from_str(&given).expect("JSON");
    let text = given.to_string();
    let missing: Vec<&String> = keys
        .iter()
        .filter(|key| !text.contains(serde_json::to_string(key).expect("a text").as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
    for line in kept(program, "changed.env").lines() {
        assert!(!line.contains('@'), "{line}");
    }
}

/// Values are values to a database: every key stands there as it is, once, and nothing else happened.
#[cfg(feature = "postgresql")]
#[test]
fn a_database_holds_the_keys_and_nothing_else() {
    let Some(database) = common::postgresql::database() else {
        return;
    };
    let rows = rows();
    let program = Rcptsync::new("hostile-postgresql");
    program.write_settled("company.ldif", &export(&rows));
    program.write_config(&format!(
        "state_dir = \"state\"\n[domains]\nlist = {}\n\
         [source.corp]\nkind = \"ldif\"\npath = \"company.ldif\"\n\
         [table.relay_recipients]\npath = \"tables/relay_recipients\"\nformats = [\"postgresql\"]\nfolding = \"unicode\"\n{}",
        toml::Value::from(DOMAINS.to_vec()),
        database.by_socket()
    ));
    program.run(&["sync"]).expect_code(0);
    let found =
        database.ask("SELECT json_agg(json_build_array(address, value)) FROM relay_recipients");
    let found: Vec<[String; 2]> = serde_json::from_str(&found).expect("JSON");
    let expected = keys_of(&rows);
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|[_, value]| value == "OK"));
    let found: BTreeSet<String> = found.into_iter().map(|[address, _]| address).collect();
    assert_eq!(found, expected);
    // What is read back is what was written.
    program.run(&["sync", "--full"]).expect_code(0);
    program.run(&["diff"]).expect_code(0);
}

//! What the program lets pass, beside what a second, slow implementation of the rules (`common::second`) lets pass, and
//! beside what a real Postfix answers at `RCPT TO`.
//!
//! Values are generated along the grammar of addresses, with everything that is odd about them, under random
//! configurations; near misses of what is accepted are tried as well. Where the three disagree, Postfix is right.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::campaign;
use common::postfix::{self, Instance, Options};
use common::random::Random;
use common::rcptsync::Rcptsync;
use common::second::{self, Folding, LETTERS, LETTERS_OF_LOCALS, Listed, Object, Rules};
use rcptsync::config::{self, FileSource, TableKind};
use rcptsync::current::SourceRecords;
use rcptsync::domain::Domain;
use rcptsync::domains::{Domains, Entry, Reach};
use rcptsync::records::Spool;
use rcptsync::snapshot::SourceProgress;
use rcptsync::source::{self, file};
use rcptsync::table::rows::Rows;
use rcptsync::table::wanted;
use rcptsync::time::Timestamp;
use rcptsync::{address, fold, lookup};

/// Values under one configuration.
const VALUES_A_CONFIGURATION: u64 = 500;

/// Domains to be listed. No two of them fold to one.
const DOMAINS: &[&str] = &[
    "example.com",
    "bücher.example",
    "straße.example",
    "σ日.example",
    "xn--caf-dma.example",
    "a-b.c1.example",
    "sub.example.com",
    "corp",
];

/// Domains that are not listed, or are none, and look as if they were.
const STRANGE_DOMAINS: &[&str] = &[
    "",
    "*",
    "*.example.com",
    "example.com.",
    ".example.com",
    "-example.com",
    "example-.com",
    "example..com",
    "evilexample.com",
    "example.com.evil.test",
    "exa mple.com",
    "example_x.com",
    "[192.0.2.1]",
    "[IPv6:2001:db8::1]",
    "192.0.2.1",
    "example.com:25",
    "example.com/",
    "example.com\\",
    "\"example.com\"",
    "example.com@example.net",
    "example.net,example.com",
    "strasse.example",
    "STRASSE.example",
    "bu\u{308}cher.example",
    "xn--bcher-kva.example",
    "XN--BCHER-KVA.EXAMPLE",
    "xn--strae-oqa.example",
    "xn--example-.com",
    "xn--example.com",
    "xn--.example.com",
    "xn--a.example.com",
    "xn--zzzzzzzz.example.com",
    "xn--BCHER-kva-.example",
    "ex\u{ad}ample.com",
    "ex\u{200b}ample.com",
    "exａmple.com",
    "example．com",
    "ⓐ-b.c1.example",
    "ex\u{430}mple.com",
    "\u{202e}moc.elpmaxe",
    "ab--cd.example.com",
    "com",
    "example",
];

/// Chance, with what the generator needs of it.
struct Generator {
    random: Random,
    letters: Vec<char>,
}

impl Generator {
    fn of(random: Random) -> Generator {
        let letters = LETTERS.iter().map(|(letter, ..)| *letter);
        let of_locals = LETTERS_OF_LOCALS.iter().map(|(letter, _)| *letter);
        Generator {
            random,
            letters: letters.chain(of_locals).collect(),
        }
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.random.below(count) == 0
    }

    fn pick<'list>(&mut self, list: &'list [&'list str]) -> &'list str {
        self.random.pick::<&str>(list)
    }

    /// A letter for a local part.
    fn letter(&mut self) -> char {
        match self.random.below(12) {
            0..=5 => *self
                .random
                .pick(&['a', 'b', 'k', 's', 'A', 'K', 'S', '7', 'z']),
            6 => *self
                .random
                .pick(&['.', '+', '-', '_', '\'', '#', '%', '!', '*', '&', '=', '/']),
            7 => *self
                .random
                .pick(&['?', '^', '`', '{', '|', '}', '~', '$', '=']),
            8 => *self.random.pick(&[
                ' ', '(', ')', '<', '>', '@', ',', ';', ':', '[', ']', '"', '\\',
            ]),
            9 if self.one_in(6) => *self.random.pick(&[
                '\0', '\t', '\n', '\r', '\u{b}', '\u{c}', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}',
                '\u{2028}', '\u{2029}',
            ]),
            _ => {
                let letters = std::mem::take(&mut self.letters);
                let letter = *self.random.pick(&letters);
                self.letters = letters;
                letter
            }
        }
    }

    fn word(&mut self) -> String {
        match self.random.below(8) {
            0 => self
                .pick(&[
                    "postmaster",
                    "owner-x",
                    "x-request",
                    "double-bounce",
                    "MAILER-DAEMON",
                    "anna",
                ])
                .to_owned(),
            1..=3 => self
                .pick(&["anna", "Anna", "ANNA", "bob", "kim", "strasse", "straße"])
                .to_owned(),
            _ => (0..=self.random.below(6)).map(|_| self.letter()).collect(),
        }
    }

    /// A local part, as it could be meant.
    fn local(&mut self) -> String {
        match self.random.below(14) {
            0 => format!("{}.{}", self.word(), self.word()),
            1 => format!("{}+{}", self.word(), self.word()),
            2 => format!("{}-{}", self.word(), self.word()),
            3 => format!("{} {}", self.word(), self.word()),
            4 => format!("{}@{}", self.word(), self.pick(DOMAINS)),
            5 => format!("#{}", self.word()),
            6 => format!("+{}", self.word()),
            7 if self.one_in(3) => {
                let count = 225 + self.random.below(30);
                let letter = *self.random.pick(&["a", "ü", "\u{390}", " ", "\"", "k"]);
                (0..count).map(|_| letter).collect()
            }
            8 => self
                .pick(&[
                    "", "*", " ", "\"", "\\", ".", "..", "@", "%", "-", "#", ":", "\u{a0}",
                ])
                .to_owned(),
            _ => self.word(),
        }
    }

    /// A domain as somebody may write it.
    fn domain(&mut self, listed: &[Listed]) -> String {
        let names: Vec<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
        match self.random.below(16) {
            0 | 1 => self.pick(STRANGE_DOMAINS).to_owned(),
            2 => format!(
                "{}.{}",
                self.pick(&["a", "sub", "x.sub", "ü", "-", "a_b", "SUB", ""]),
                self.pick(&names)
            ),
            3 => self.pick(DOMAINS).to_owned(),
            4 => {
                let name = self.pick(&names).to_owned();
                self.with_other_case(&name)
            }
            5 => second::domain(self.pick(&names)).map_or_else(String::new, |name| name.ascii),
            6 => {
                let mut name: Vec<char> = self.pick(&names).chars().collect();
                let at = usize::try_from(self.random.below(name.len() as u64)).expect("short");
                let letters: Vec<char> = LETTERS.iter().map(|(letter, ..)| *letter).collect();
                name[at] = match self.random.below(3) {
                    0 => *self
                        .random
                        .pick(&['-', '.', '_', ' ', '@', '*', 'x', '0', '"', '\\', '%']),
                    _ => *self.random.pick(&letters),
                };
                name.into_iter().collect()
            }
            _ => self.pick(&names).to_owned(),
        }
    }

    fn with_other_case(&mut self, text: &str) -> String {
        let other = |letter: char| match letter {
            'ü' => 'Ü',
            'σ' => *self.random.pick(&['Σ', 'ς', 'σ']),
            's' => *self.random.pick(&['S', 'ſ']),
            'k' => *self.random.pick(&['K', '\u{212a}']),
            other => other.to_ascii_uppercase(),
        };
        text.chars().map(other).collect()
    }

    /// A value of `proxyAddresses`.
    fn value(&mut self, listed: &[Listed]) -> Vec<u8> {
        let local = self.local();
        let written = match self.random.below(8) {
            // In quotes, as RFC 5321 has it.
            0 | 1 => format!("\"{}\"", local.replace('\\', "\\\\").replace('"', "\\\"")),
            // In quotes with more backslashes than needed, and sometimes broken.
            2 => {
                let escaped: String = local.chars().map(|letter| format!("\\{letter}")).collect();
                let end = self.pick(&["\"", "\"", "", "\"x", "\\\""]);
                format!("\"{escaped}{end}")
            }
            3 => second::quoted(&local),
            _ => local,
        };
        let prefix = match self.random.below(12) {
            0 => self.pick(&["SMTP:", "Smtp:", "sMtP:"]),
            1 => self.pick(&[
                "smtp :",
                " smtp:",
                "smtp:smtp:",
                "SIP:",
                "",
                "smtp",
                "x500:",
                "\0smtp:",
                "smtp\u{a0}:",
                "ſmtp:",
                "smtps:",
                "smtp: ",
                "smtp:\t",
                "smtp::",
                "smtp:<",
            ]),
            _ => "smtp:",
        };
        let text = format!("{prefix}{written}@{}", self.domain(listed));
        let mut value = self.mutated(text).into_bytes();
        if self.one_in(60) {
            let at = usize::try_from(self.random.below(value.len() as u64 + 1)).expect("short");
            // Not UTF-8: alone, overlong, a surrogate, cut off.
            let octets = *self.random.pick::<&[u8]>(&[
                &b"\xff"[..],
                &b"\xc0\xaf"[..],
                &b"\xed\xa0\x80"[..],
                &b"\xe2\x82"[..],
            ]);
            value.splice(at..at, octets.iter().copied());
        }
        value
    }

    /// Sometimes another letter, one more or one less. A domain keeps to letters that the second implementation knows there.
    fn mutated(&mut self, text: String) -> String {
        if !self.one_in(6) {
            return text;
        }
        let end_of_local = text.find('@').unwrap_or(text.len());
        let mut letters: Vec<char> = text[..end_of_local].chars().collect();
        let at = usize::try_from(self.random.below(letters.len() as u64 + 1)).expect("short");
        match self.random.below(3) {
            0 => letters.insert(at, self.letter()),
            1 if at < letters.len() => letters[at] = self.letter(),
            _ if at < letters.len() => {
                letters.remove(at);
            }
            _ => {}
        }
        letters.into_iter().collect::<String>() + &text[end_of_local..]
    }

    fn object(&mut self, listed: &[Listed], values_count: u64) -> Object {
        Object {
            recipient_type: match self.random.below(8) {
                0 => Some(*self.random.pick(&[
                    8192,
                    0x80_0000,
                    0x2000_0000,
                    0x10_0000_0000,
                    0x80_0000_0000,
                ])),
                1 => Some(
                    *self
                        .random
                        .pick(&[0, 999, 0x20_0000, 0x8000_0000, u64::MAX]),
                ),
                2..=4 => Some(1),
                _ => None,
            },
            is_internal_only: self.one_in(10),
            values: (0..values_count).map(|_| self.value(listed)).collect(),
        }
    }

    fn objects(&mut self, rules: &Rules, values_count: u64) -> Vec<Object> {
        let mut objects = Vec::new();
        let mut left = values_count;
        while left > 0 {
            let count = left.min(1 + self.random.below(8));
            objects.push(self.object(&rules.domains, count));
            left -= count;
        }
        objects
    }

    fn rules(&mut self) -> Rules {
        let mut domains = Vec::new();
        for name in DOMAINS {
            if self.one_in(2) && !domains.is_empty() {
                continue;
            }
            let reach = self.random.below(8);
            domains.push(Listed {
                name: (*name).to_owned(),
                is_itself: reach != 0,
                is_below: reach < 3,
                is_excluded: false,
            });
            if self.one_in(8) {
                let name = format!("{}.{name}", self.pick(&["sub", "a", "x.sub"]));
                let at =
                    usize::try_from(self.random.below(domains.len() as u64 + 1)).expect("short");
                let cut = Listed {
                    name,
                    is_itself: true,
                    is_below: self.one_in(2),
                    is_excluded: true,
                };
                domains.insert(at, cut);
            }
        }
        let mut exclude = Vec::new();
        while self.one_in(2) {
            let text = format!("{}@{}", second::quoted(&self.word()), self.pick(DOMAINS));
            exclude.extend(second::address(&text).map(|_| text));
        }
        Rules {
            domains,
            exclude,
            always: match self.one_in(3) {
                true => vec!["postmaster".into(), "Abuse".into(), "a b\"".into()],
                false => Vec::new(),
            },
            folding: *self
                .random
                .pick(&[Folding::Unicode, Folding::Ascii, Folding::Both]),
            leaves_out_system: !self.one_in(4),
            leaves_out_internal_only: !self.one_in(4),
        }
    }
}

/// `[recipients]` and the table, for the program.
fn sections(rules: &Rules) -> String {
    let treatment = |leaves_out| if leaves_out { "leave_out" } else { "accept" };
    let always: Vec<String> = rules
        .always
        .iter()
        .map(|local| second::quoted(local))
        .collect();
    let folding = match rules.folding {
        Folding::Unicode => "unicode",
        Folding::Ascii => "ascii",
        Folding::Both => "both",
    };
    format!(
        "[recipients]\nalways = {}\nexclude = {}\nsystem = \"{}\"\ninternal_only = \"{}\"\n\
         [guard]\nadded_floor = 1000000\n\
         [table.relay_recipients]\npath = \"tables/relay_recipients\"\n\
         formats = [\"text\", \"cdb\", \"hash\", \"lmdb\"]\nfolding = \"{folding}\"\n",
        toml::Value::from(always),
        toml::Value::from(rules.exclude.clone()),
        treatment(rules.leaves_out_system),
        treatment(rules.leaves_out_internal_only),
    )
}

/// The rows that the program wants.
fn rows(rules: &Rules, objects: &[Object]) -> Rows {
    let toml = format!(
        "state_dir = \"state\"\n[domains]\nlist = [\"example.com\"]\n[source.a]\nkind = \"list\"\npath = \"a\"\n{}",
        sections(rules)
    );
    let config = config::parse(Path::new("/c"), &toml).expect("a configuration");
    let entry = |listed: &Listed| Entry {
        domain: Domain::parse(&listed.name).expect("a domain"),
        reach: match (listed.is_itself, listed.is_below) {
            (true, false) => Reach::Itself,
            (true, true) => Reach::WithSubDomains,
            (false, _) => Reach::SubDomains,
        },
        is_excluded: listed.is_excluded,
    };
    let domains = Domains::of(rules.domains.iter().map(entry));
    let directory = common::temp_dir("differential");
    let path = directory.path().join("company.ldif");
    common::write_file(&path, ldif(objects));
    let source = FileSource {
        path,
        max_age: None,
    };
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    // A file that was written just now is not settled yet.
    let now = Timestamp::now().after(file::SETTLED * 2);
    let read = source::ldif::read(&source, now, Instant::now(), &mut spool, &progress);
    let records = SourceRecords::shown(read.expect("an export").take_records());
    let wanted = wanted::rows(
        &config,
        &config.tables[0],
        &domains,
        &[&records],
        folding_of(rules),
    );
    wanted.expect("records in memory").rows
}

fn folding_of(rules: &Rules) -> fold::Folding {
    match rules.folding {
        Folding::Unicode => fold::Folding::Unicode,
        Folding::Ascii => fold::Folding::Ascii,
        Folding::Both => fold::Folding::Both,
    }
}

/// What is asked: recipients and near misses of them, as local part and domain. Nothing that no SMTP line could hold.
fn questions(
    generator: &mut Generator,
    rules: &Rules,
    objects: &[Object],
) -> BTreeSet<(String, String)> {
    let mut asked = BTreeSet::new();
    for value in objects.iter().flat_map(|object| &object.values) {
        let Some((local, name)) = second::address_in(value) else {
            continue;
        };
        let domain = match generator.random.below(4) {
            0 => name.unicode.clone(),
            1 => generator.with_other_case(&name.unicode),
            _ => name.ascii.clone(),
        };
        let near = match generator.random.below(10) {
            0 => format!("{local}+tag"),
            1 => format!("{local}-tag"),
            2 => second::quoted(&local),
            3 => format!("x{local}"),
            4 => generator.with_other_case(&local),
            5 => generator.local(),
            6 => local.trim_matches(['"', ' ', '.']).to_owned(),
            7 => local.replace('\\', ""),
            _ => local.clone(),
        };
        let other = rules.domains[generator.random.below(rules.domains.len() as u64) as usize]
            .name
            .clone();
        asked.insert((near, domain.clone()));
        if generator.one_in(3) {
            asked.insert((local.clone(), other));
        }
        asked.insert((local, domain));
    }
    asked.retain(|(local, domain)| is_sayable(local) && is_sayable(domain));
    asked
}

fn is_sayable(text: &str) -> bool {
    !text.is_empty() && text.len() < 400 && !text.chars().any(address::is_control)
}

#[test]
fn the_table_is_what_a_second_implementation_makes_of_the_rules() {
    let (seed, random) = campaign::seeded(0x5EC0);
    let mut generator = Generator::of(random);
    let configurations_count = campaign::extent(200, 2_000);
    let (mut accepted_count, mut asked_count) = (0, 0);
    for number in 0..configurations_count {
        let rules = generator.rules();
        let objects = generator.objects(&rules, VALUES_A_CONFIGURATION);
        let rows = rows(&rules, &objects);
        let found: BTreeSet<String> = rows
            .keys()
            .map(|key| String::from_utf8(key.to_vec()).expect("a key is UTF-8"))
            .collect();
        let expected = rules.keys(&objects);
        let too_many: Vec<&String> = found.difference(&expected).collect();
        let missing: Vec<&String> = expected.difference(&found).collect();
        assert!(
            too_many.is_empty() && missing.is_empty(),
            "seed {seed}, configuration {number}: too many {too_many:?}, missing {missing:?}, {rules:?}"
        );
        accepted_count += expected.len();
        asked_count += check_lookups(&mut generator, &rules, &objects, &rows, seed);
    }
    assert!(accepted_count > 10_000, "{accepted_count} keys");
    let values_count = configurations_count * VALUES_A_CONFIGURATION;
    campaign::tell(
        values_count,
        "generated values decided as a second implementation decides them",
    );
    campaign::tell(
        asked_count,
        "generated addresses looked up as a second implementation of Postfix's lookup does",
    );
}

/// What `explain` looks up finds what Postfix would.
fn check_lookups(
    generator: &mut Generator,
    rules: &Rules,
    objects: &[Object],
    rows: &Rows,
    seed: u64,
) -> usize {
    let keys = rules.keys(objects);
    let gateway = second::Gateway {
        is_smtputf8: rules.folding != Folding::Ascii,
        delimiter: generator.random.pick::<&str>(&["", "+", "-", "+-"]),
    };
    let asked = questions(generator, rules, objects);
    for (local, domain) in &asked {
        let text = format!("{}@{domain}", second::quoted(local));
        let Ok(address) = address::Address::parse(&text) else {
            continue;
        };
        // One address stands for both forms of its domain there, so both are asked for.
        let name = address.domain();
        let expected = [name.ascii(), name.unicode()]
            .into_iter()
            .any(|form| gateway.accepts(&keys, local, form));
        let order = lookup::order(
            TableKind::Recipients,
            &address,
            folding_of(rules),
            gateway.delimiter,
        );
        let found = order.iter().any(|key| rows.find(key.as_bytes()).is_some())
            && !address.is_refused_by_postfix_anyway();
        // A table for gateways of both settings answers each of them.
        let is_for_both = rules.folding == Folding::Both;
        assert!(
            found == expected || is_for_both && found,
            "seed {seed}: {text} ({local:?}): {found}, expected {expected}, delimiter {:?}, {order:?}",
            gateway.delimiter
        );
    }
    asked.len()
}

/// LDIF of these objects, whatever their values hold.
fn ldif(objects: &[Object]) -> String {
    let mut ldif = String::new();
    for (number, object) in objects.iter().enumerate() {
        ldif.push_str(&format!("dn: CN={number},DC=corp,DC=example\n"));
        if let Some(kind) = object.recipient_type {
            ldif.push_str(&format!("msExchRecipientTypeDetails: {kind}\n"));
        }
        if object.is_internal_only {
            ldif.push_str("msExchRequireAuthToSendTo: TRUE\n");
        }
        for value in &object.values {
            ldif.push_str(&format!("proxyAddresses:: {}\n", STANDARD.encode(value)));
        }
        ldif.push('\n');
    }
    ldif
}

/// `relay_domains` of these rules, as a list in which a parent matches its sub-domains only where it says so.
fn relay_domains(rules: &Rules) -> Vec<String> {
    let mut patterns = Vec::new();
    for listed in &rules.domains {
        let sign = if listed.is_excluded { "!" } else { "" };
        let name = second::domain(&listed.name).expect("a listed domain is one");
        for form in BTreeSet::from([name.ascii, name.unicode]) {
            if listed.is_itself {
                patterns.push(format!("{sign}{form}"));
            }
            if listed.is_below {
                patterns.push(format!("{sign}.{form}"));
            }
        }
    }
    patterns
}

#[test]
fn a_real_postfix_answers_as_the_second_implementation_says() {
    if !postfix::is_available() {
        return;
    }
    let (seed, random) = campaign::seeded(0x9057);
    let mut generator = Generator::of(random);
    let turns = [("", "cdb"), ("+", "hash"), ("-", "lmdb")];
    let mut counts = (0, 0);
    for number in 0..campaign::extent(3, 30) {
        let (delimiter, format) = turns[usize::try_from(number).expect("few") % turns.len()];
        let mut rules = generator.rules();
        let is_smtputf8 = rules.folding != Folding::Ascii;
        rules.always.push("postmaster".into());
        let objects = generator.objects(&rules, 1_000);
        let asked: Vec<(String, String)> = questions(&mut generator, &rules, &objects)
            .into_iter()
            .collect();
        let gateway = second::Gateway {
            is_smtputf8,
            delimiter,
        };
        let formats: &[&str] = match campaign::is_long() {
            true => &["cdb", "hash", "lmdb"],
            false => &[format],
        };
        let (answers, accepted) = check_gateway(&rules, &objects, &asked, &gateway, formats, seed);
        counts = (counts.0 + answers, counts.1 + accepted);
    }
    assert!(counts.1 * 10 > counts.0, "{counts:?}");
    campaign::tell(
        counts.0,
        "answers of a real Postfix (cdb, hash, lmdb) as the rules say",
    );
}

/// Publishes with the program, and asks Postfix through every format.
fn check_gateway(
    rules: &Rules,
    objects: &[Object],
    asked: &[(String, String)],
    gateway: &second::Gateway,
    formats: &[&str],
    seed: u64,
) -> (usize, usize) {
    let options = Options {
        smtputf8: gateway.is_smtputf8,
        recipient_delimiter: gateway.delimiter,
        relay_domains: relay_domains(rules),
        parent_domain_matches_subdomains: Some(""),
        ..Options::default()
    };
    let settings = Instance::for_settings("static:OK", &options);
    let mut program = Rcptsync::new("differential");
    program.mail_config = Some(settings.config_directory());
    program.write_settled("company.ldif", &ldif(objects));
    // One may be listed itself, and once more with what is below it.
    let names: BTreeSet<&str> = (rules.domains.iter())
        .map(|listed| listed.name.as_str())
        .collect();
    let complete: String = (names.iter())
        .map(|name| format!("[domain.\"{name}\"]\ndirectory_is_complete = true\n"))
        .collect();
    program.write_config(&format!(
        "state_dir = \"state\"\n[domains]\nfrom = \"postfix\"\n{complete}\
         [source.corp]\nkind = \"ldif\"\npath = \"company.ldif\"\n{}",
        sections(rules)
    ));
    program.run(&["sync"]).expect_code(0);
    let keys = rules.keys(objects);
    let (mut answers_count, mut accepted_count) = (0, 0);
    for format in formats.iter().copied() {
        let postfix = postfix::Gateway::start(&program.table(), format, &options);
        let texts: Vec<String> = (asked.iter())
            .map(|(local, domain)| format!("{}@{domain}", second::quoted(local)))
            .collect();
        // What the text cannot say is not in what is built from it; LMDB has no longer keys.
        let kept: BTreeSet<String> = (keys.iter())
            .filter(|key| format == "cdb" || !key.starts_with('#'))
            .filter(|key| format != "lmdb" || key.len() <= 510)
            .cloned()
            .collect();
        let mut wrong = Vec::new();
        for ((text, (local, domain)), answer) in texts.iter().zip(asked).zip(postfix.rcpt(&texts)) {
            let expected = gateway.accepts(&kept, local, domain);
            answers_count += 1;
            accepted_count += usize::from(expected);
            if (answer.code == 250) != expected || answer.code / 100 == 4 {
                wrong.push(format!(
                    "{text}: {} {}, expected {expected}",
                    answer.code, answer.text
                ));
            }
        }
        assert!(
            wrong.is_empty(),
            "seed {seed}, {format}, {gateway:?}, {} of {}: {wrong:#?}\n{rules:?}",
            wrong.len(),
            asked.len()
        );
    }
    (answers_count, accepted_count)
}

//! The rules from a value of `proxyAddresses` to the answer at `RCPT TO`, written down a second time: slow, obvious, and
//! without a line of the program.
//!
//! From RFC 5321 (addresses), RFC 3492 and RFC 5891 (names of domains), the Unicode tables (folding, UTS 46) for the letters of
//! [`LETTERS`] alone, and Postfix's documentation and source (`quote_822_local.c`, `mail_addr_find.c`, `split_addr.c`,
//! access(5)). Not here: which addresses are tried.

use std::collections::BTreeSet;

/// Octets of the longest address that can be said (RFC 5321: a path of 256 with its angle brackets).
const ADDRESS_OCTETS_MAX: usize = 254;

/// A letter beyond ASCII: what Postfix folds it to, and what UTS 46 makes of it in a domain (`None`: no domain has it).
type Letter = (char, &'static str, Option<&'static str>);

/// All letters beyond ASCII that are known here.
pub const LETTERS: &[Letter] = &[
    ('ü', "ü", Some("ü")),
    ('Ü', "ü", Some("ü")),
    ('é', "é", Some("é")),
    ('É', "é", Some("é")),
    ('ß', "ss", Some("ß")),
    ('\u{1e9e}', "ss", Some("ß")),
    ('\u{212a}', "k", Some("k")),
    ('ſ', "s", Some("s")),
    ('ı', "ı", Some("ı")),
    ('İ', "i\u{307}", Some("i\u{307}")),
    ('Σ', "σ", Some("σ")),
    ('σ', "σ", Some("σ")),
    ('ς', "σ", Some("ς")),
    ('日', "日", Some("日")),
    ('ﬁ', "fi", Some("fi")),
    ('ﬀ', "ff", Some("ff")),
    ('Ａ', "ａ", Some("a")),
    ('ａ', "ａ", Some("a")),
    ('ⓐ', "ⓐ", Some("a")),
    ('Ⓐ', "ⓐ", Some("a")),
    ('．', "．", Some(".")),
    ('。', "。", Some(".")),
    ('＠', "＠", None),
    ('\u{ad}', "\u{ad}", Some("")),
    ('\u{200b}', "\u{200b}", Some("")),
    ('\u{202e}', "\u{202e}", None),
    ('\u{2066}', "\u{2066}", None),
    ('\u{fffd}', "\u{fffd}", None),
    ('а', "а", Some("а")),
    ('А', "а", Some("а")),
    ('\u{390}', "\u{3b9}\u{308}\u{301}", Some("\u{390}")),
    ('\u{a0}', "\u{a0}", None),
];

/// Letters that stand in local parts alone: combining marks would have to be composed in a domain.
pub const LETTERS_OF_LOCALS: &[(char, &str)] = &[
    ('\u{301}', "\u{301}"),
    ('\u{308}', "\u{308}"),
    ('\u{307}', "\u{307}"),
    ('\u{200d}', "\u{200d}"),
    ('\u{3b9}', "\u{3b9}"),
    ('\u{13a0}', "\u{13a0}"),
    ('\u{ab70}', "\u{13a0}"),
    ('\u{5d0}', "\u{5d0}"),
    ('😀', "😀"),
];

/// How a gateway folds what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folding {
    Unicode,
    Ascii,
    Both,
}

/// A listed domain, or one that is cut out of those listed after it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub name: String,
    pub is_itself: bool,
    pub is_below: bool,
    pub is_excluded: bool,
}

/// What a configuration says.
#[derive(Clone, Debug)]
pub struct Rules {
    pub domains: Vec<Listed>,
    pub exclude: Vec<String>,
    pub always: Vec<String>,
    pub folding: Folding,
    pub leaves_out_system: bool,
    pub leaves_out_internal_only: bool,
}

/// An object of a directory.
#[derive(Clone, Debug, Default)]
pub struct Object {
    pub recipient_type: Option<u64>,
    pub is_internal_only: bool,
    pub values: Vec<Vec<u8>>,
}

/// A domain in both its forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub ascii: String,
    pub unicode: String,
}

/// The kinds of mailboxes that are Exchange's own (`msExchRecipientTypeDetails`), from the table of the facts.
const SYSTEM_KINDS: [u64; 12] = [
    8192,
    16384,
    0x0040_0000,
    0x0080_0000,
    0x0100_0000,
    0x2000_0000,
    0x4000_0000,
    0x10_0000_0000,
    0x80_0000_0000,
    0x400_0000_0000,
    0x4000_0000_0000,
    0x8000_0000_0000,
];

impl Rules {
    /// The keys that a table of recipients must hold.
    pub fn keys(&self, objects: &[Object]) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for object in objects {
            let is_system = object
                .recipient_type
                .is_some_and(|kind| SYSTEM_KINDS.contains(&kind));
            if self.leaves_out_system && is_system
                || self.leaves_out_internal_only && object.is_internal_only
            {
                continue;
            }
            for value in &object.values {
                if let Some((local, name)) = self.recipient(value) {
                    keys.extend(self.keys_of(&local, &name));
                }
            }
        }
        for listed in self.listed().filter(|listed| listed.is_itself) {
            let name = domain(&listed.name).expect("a listed domain is one");
            for local in &self.always {
                keys.extend(self.keys_of(local, &name));
            }
        }
        keys
    }

    /// The domains that are listed by themselves.
    fn listed(&self) -> impl Iterator<Item = &Listed> {
        let is_first = |listed: &Listed| {
            let own = domain(&listed.name).expect("a listed domain is one");
            let first = self
                .domains
                .iter()
                .find(|other| speaks_of(other, &own.ascii));
            first.is_some_and(|first| std::ptr::eq(first, listed))
        };
        (self.domains.iter()).filter(move |listed| !listed.is_excluded && is_first(listed))
    }

    /// The recipient that a value of one object names, whatever the object is.
    pub fn recipient(&self, value: &[u8]) -> Option<(String, Name)> {
        let (local, name) = address_in(value)?;
        let excluded = (self.exclude.iter()).any(|excluded| {
            let (other_local, other_name) = address(excluded).expect("it is an address");
            name.ascii == other_name.ascii && fold(&local) == fold(&other_local)
        });
        (self.lists(&name.ascii) && !excluded).then_some((local, name))
    }

    /// Whether rows may exist for a domain: the first that speaks of it decides, as in the lists of Postfix.
    pub fn lists(&self, ascii: &str) -> bool {
        let first = (self.domains.iter()).find(|listed| speaks_of(listed, ascii));
        first.is_some_and(|listed| !listed.is_excluded)
    }

    fn keys_of(&self, local: &str, name: &Name) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for form in [&name.ascii, &name.unicode] {
            let whole = format!("{}@{form}", quoted(local));
            if whole.len() <= ADDRESS_OCTETS_MAX {
                if self.folding != Folding::Ascii {
                    keys.insert(fold(&whole));
                }
                if self.folding != Folding::Unicode {
                    keys.insert(whole.to_ascii_lowercase());
                }
            }
        }
        keys
    }
}

fn speaks_of(listed: &Listed, ascii: &str) -> bool {
    let own = domain(&listed.name).expect("a listed domain is one").ascii;
    listed.is_itself && own == ascii || listed.is_below && ascii.ends_with(&format!(".{own}"))
}

/// The address in a value; `None` where it is none that can be said, or of another type.
pub fn address_in(value: &[u8]) -> Option<(String, Name)> {
    let text = std::str::from_utf8(value).ok()?;
    let (kind, rest) = text.split_once(':')?;
    if !kind.eq_ignore_ascii_case("smtp") {
        return None;
    }
    address(rest)
}

/// Local part, unquoted, and domain of an address.
pub fn address(text: &str) -> Option<(String, Name)> {
    let is_forbidden =
        |letter: char| matches!(u32::from(letter), 0..=0x1f | 0x7f..=0x9f | 0x2028 | 0x2029);
    if text.chars().any(is_forbidden) {
        return None;
    }
    let (local, domain_text) = if let Some(rest) = text.strip_prefix('"') {
        // A quoted string: a backslash protects the next letter, the first bare quote ends it.
        let mut local = String::new();
        let mut letters = rest.chars();
        loop {
            match letters.next()? {
                '\\' => local.push(letters.next()?),
                '"' => break,
                other => local.push(other),
            }
        }
        (local, letters.as_str().strip_prefix('@')?)
    } else {
        let at = text.rfind('@')?;
        let local = &text[..at];
        let is_broken = local.contains('"')
            || local.contains('\\')
            || local.starts_with(' ')
            || local.ends_with(' ');
        if is_broken {
            return None;
        }
        (local.to_owned(), &text[at + 1..])
    };
    if local.is_empty() || local == "*" {
        return None;
    }
    let name = domain(domain_text)?;
    let shortest = name.ascii.len().min(name.unicode.len());
    (quoted(&local).len() + 1 + shortest <= ADDRESS_OCTETS_MAX).then_some((local, name))
}

/// A local part as it is said: in quotes unless it is atoms joined by single dots (RFC 5321 section 4.1.2).
pub fn quoted(local: &str) -> String {
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && !atom
                .chars()
                .any(|letter| " ()<>@,;:\\\"[]".contains(letter))
    };
    if local.split('.').all(is_atom) {
        return local.to_owned();
    }
    let escaped = local.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// A domain in both forms; `None` where the text is neither of them, but for its case.
pub fn domain(text: &str) -> Option<Name> {
    if text.is_empty() || text.ends_with('.') {
        return None;
    }
    let mapped = mapped(text)?;
    let labels = mapped.split('.').map(label).collect::<Option<Vec<_>>>()?;
    let join =
        |form: fn(&(String, String)) -> &str| labels.iter().map(form).collect::<Vec<_>>().join(".");
    let (ascii, unicode) = (join(|label| &label.0), join(|label| &label.1));
    if ascii.len() > 253 {
        return None;
    }
    // Look-alikes are not the domain that they resemble.
    let folded = fold(text);
    (folded == ascii || folded == fold(&unicode)).then_some(Name { ascii, unicode })
}

/// What UTS 46 makes of a name before it is taken apart.
fn mapped(text: &str) -> Option<String> {
    let mut mapped = String::new();
    for letter in text.chars() {
        match letter {
            'a'..='z' | '0'..='9' | '-' | '.' => mapped.push(letter),
            'A'..='Z' => mapped.push(letter.to_ascii_lowercase()),
            _ if letter.is_ascii() => return None,
            _ => mapped.push_str(of_domain(letter)?),
        }
    }
    Some(mapped.replace("u\u{308}", "ü"))
}

fn of_domain(letter: char) -> Option<&'static str> {
    match LETTERS.iter().find(|(known, ..)| *known == letter) {
        Some((_, _, idna)) => *idna,
        None if letter == '\u{308}' => Some("\u{308}"),
        None => panic!("U+{:04X} is not in the table", u32::from(letter)),
    }
}

/// One label in both forms.
fn label(text: &str) -> Option<(String, String)> {
    let (ascii, unicode) = if let Some(code) = text.strip_prefix("xn--") {
        let decoded = punycode_decoded(code)?;
        let is_own = |letter: char| {
            letter.is_ascii()
                || LETTERS.iter().any(|(known, _, idna)| {
                    *known == letter && idna.is_some_and(|idna| idna.chars().eq([letter]))
                })
        };
        // What decodes to plain ASCII, to what is mapped, or to what is written otherwise is no U-label.
        if decoded.is_ascii() || !decoded.chars().all(is_own) || punycode(&decoded) != code {
            return None;
        }
        (text.to_owned(), decoded)
    } else if text.is_ascii() {
        (text.to_owned(), text.to_owned())
    } else {
        (format!("xn--{}", punycode(text)), text.to_owned())
    };
    let has_hyphens = unicode.starts_with('-')
        || unicode.ends_with('-')
        || unicode.chars().skip(2).take(2).eq(['-', '-']);
    let is_good = !ascii.is_empty() && ascii.len() <= 63 && !has_hyphens;
    is_good.then_some((ascii, unicode))
}

const BASE: u32 = 36;

fn threshold(k: u32, bias: u32) -> u32 {
    k.saturating_sub(bias).clamp(1, 26)
}

fn adapted(delta: u32, count: u32, is_first: bool) -> u32 {
    let mut delta = if is_first { delta / 700 } else { delta / 2 };
    delta += delta / count;
    let mut k = 0;
    while delta > 455 {
        delta /= 35;
        k += BASE;
    }
    k + 36 * delta / (delta + 38)
}

/// RFC 3492 section 6.3.
fn punycode(text: &str) -> String {
    let letters: Vec<u32> = text.chars().map(u32::from).collect();
    let mut code: String = text.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(code.len()).expect("a short label");
    if basic > 0 {
        code.push('-');
    }
    let total = u32::try_from(letters.len()).expect("a short label");
    let (mut n, mut delta, mut bias, mut done) = (128, 0, 72, basic);
    while done < total {
        let next = letters.iter().copied().filter(|letter| *letter >= n).min();
        let next = next.expect("some are left");
        delta += (next - n) * (done + 1);
        n = next;
        for letter in &letters {
            delta += u32::from(*letter < n);
            if *letter == n {
                let (mut q, mut k) = (delta, BASE);
                while q >= threshold(k, bias) {
                    let t = threshold(k, bias);
                    code.push(digit(t + (q - t) % (BASE - t)));
                    q = (q - t) / (BASE - t);
                    k += BASE;
                }
                code.push(digit(q));
                bias = adapted(delta, done + 1, done == basic);
                delta = 0;
                done += 1;
            }
        }
        delta += 1;
        n += 1;
    }
    code
}

fn digit(number: u32) -> char {
    char::from_digit(number, BASE).map_or('?', |found| match number {
        // Letters come before digits (RFC 3492 section 5).
        0..=25 => char::from(b'a' + u8::try_from(number).expect("below 26")),
        26..=35 => char::from(b'0' + u8::try_from(number - 26).expect("below 10")),
        _ => found,
    })
}

/// RFC 3492 section 6.2.
fn punycode_decoded(code: &str) -> Option<String> {
    let (basic, rest) = code.rsplit_once('-').unwrap_or(("", code));
    let mut letters: Vec<char> = basic.chars().collect();
    let (mut n, mut i, mut bias): (u32, u32, u32) = (128, 0, 72);
    let mut digits = rest.chars().peekable();
    while digits.peek().is_some() {
        let (before, mut weight, mut k) = (i, 1_u32, BASE);
        loop {
            let number = match digits.next()? {
                letter @ 'a'..='z' => u32::from(letter) - u32::from('a'),
                letter @ '0'..='9' => u32::from(letter) - u32::from('0') + 26,
                _ => return None,
            };
            i = i.checked_add(number.checked_mul(weight)?)?;
            let t = threshold(k, bias);
            if number < t {
                break;
            }
            weight = weight.checked_mul(BASE - t)?;
            k += BASE;
        }
        let count = u32::try_from(letters.len()).ok()? + 1;
        bias = adapted(i - before, count, before == 0);
        n = n.checked_add(i / count)?;
        i %= count;
        letters.insert(usize::try_from(i).ok()?, char::from_u32(n)?);
        i += 1;
    }
    Some(letters.into_iter().collect())
}

/// Case folding as Unicode has it, for the letters that are known here.
pub fn fold(text: &str) -> String {
    let mut folded = String::new();
    for letter in text.chars() {
        if letter.is_ascii() {
            folded.push(letter.to_ascii_lowercase());
            continue;
        }
        let known = LETTERS.iter().map(|(known, folded, _)| (*known, *folded));
        let known = known.chain(LETTERS_OF_LOCALS.iter().copied());
        let found = known.into_iter().find(|(known, _)| *known == letter);
        folded.push_str(
            found
                .unwrap_or_else(|| panic!("U+{:04X} is not in the table", u32::from(letter)))
                .1,
        );
    }
    folded
}

/// A gateway that asks a table of recipients.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub is_smtputf8: bool,
    pub delimiter: &'static str,
}

impl Gateway {
    /// Whether `RCPT TO:<quoted(local)@domain>` is answered with 250, where mail for the domain is relayed.
    pub fn accepts(&self, keys: &BTreeSet<String>, local: &str, domain: &str) -> bool {
        // allow_min_user, allow_untrusted_routing
        if local.starts_with('-') || local.contains(['%', '!', '@']) {
            return false;
        }
        // Without SMTPUTF8, a domain is ASCII or a mistake in syntax; the local part passes.
        if !self.is_smtputf8 && !domain.is_ascii() {
            return false;
        }
        let folded = |text: String| {
            if self.is_smtputf8 {
                fold(&text)
            } else {
                text.to_ascii_lowercase()
            }
        };
        // mail_addr_find: the address, without its extension, the domain; in external form, then in internal form.
        let mut locals = vec![local];
        locals.extend(self.without_extension(local));
        let mut asked = Vec::new();
        for local in locals {
            asked.push(format!("{}@{domain}", quoted(local)));
            asked.push(format!("{local}@{domain}"));
        }
        asked.push(format!("@{domain}"));
        asked.into_iter().any(|asked| keys.contains(&folded(asked)))
    }

    /// What stands before the first delimiter (`split_addr.c`).
    fn without_extension<'local>(&self, local: &'local str) -> Option<&'local str> {
        let lower = local.to_ascii_lowercase();
        if ["postmaster", "mailer-daemon", "double-bounce"].contains(&lower.as_str()) {
            return None;
        }
        let is_of_a_list = lower.starts_with("owner-") || lower.ends_with("-request");
        if self.delimiter.contains('-') && is_of_a_list {
            return None;
        }
        let at = local.find(|letter| self.delimiter.contains(letter))?;
        (at > 0).then(|| &local[..at])
    }
}

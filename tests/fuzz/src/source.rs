//! Files that are sources: how they are decoded, LDIF, lists.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcptsync::address::Address;
use rcptsync::record::{Record, RecordRef};
use rcptsync::records::{Records, Spool};
use rcptsync::snapshot::SourceProgress;
use rcptsync::source::{file, ldif, list};

/// The text of a file, if it has one; the same text in every encoding.
fn decoded(octets: &[u8]) -> Option<String> {
    let text = file::decode(octets.to_vec()).ok()?;
    assert!(text.ends_with('\n') && !text.contains('\0'));
    let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(unit).collect()
    };
    let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let mut encodings = vec![marked, utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)];
    if !text.starts_with('\u{feff}') {
        encodings.push(text.clone().into_bytes());
    }
    for encoded in encodings {
        let again = file::decode(encoded.clone()).expect("text");
        assert_eq!(again, text, "as {}", encoded.escape_ascii());
    }
    Some(text)
}

pub fn ldif(octets: &[u8]) {
    let Some(text) = decoded(octets) else { return };
    let Some(records) = parsed(&text) else { return };
    assert_eq!(records.len(), entries_count(&text), "entries of\n{text}");
    let mut written = "version: 1\n\n".to_owned();
    records
        .for_each(|record| write(&mut written, record))
        .expect("memory");
    let again = parsed(&written).expect("what was written");
    assert_eq!(
        again.all().expect("memory"),
        records.all().expect("memory"),
        "{written}"
    );
}

fn parsed(text: &str) -> Option<Records> {
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    ldif::parse(text, &mut spool, &progress).ok()?;
    let records = spool.finish(&[]).expect("memory");
    assert_eq!(records.len(), progress.entries_count());
    Some(records)
}

/// As many as lines that begin an entry.
fn entries_count(text: &str) -> u64 {
    let unfolded = text.replace("\r\n", "\n").replace("\n ", "");
    let begins = |line: &&str| {
        line.get(..3)
            .is_some_and(|name| name.eq_ignore_ascii_case("dn:"))
    };
    unfolded.split('\n').filter(begins).count() as u64
}

fn write(text: &mut String, record: RecordRef<'_>) {
    let mut attribute = |name: &str, value: &[u8]| {
        text.push_str(&format!("{name}:: {}\n", BASE64.encode(value)));
    };
    attribute("dn", record.dn().as_bytes());
    if !record.guid().is_empty() {
        attribute("objectGUID", record.guid());
    }
    if let Some(kind) = record.recipient_type() {
        attribute("msExchRecipientTypeDetails", kind.to_string().as_bytes());
    }
    if record.is_internal_only() {
        attribute("msExchRequireAuthToSendTo", b"TRUE");
    }
    for value in record.proxy_addresses() {
        attribute("proxyAddresses", value);
    }
    for _ in 0..record.other_values_count() {
        attribute("proxyAddresses", b"X500:/o=x");
    }
    text.push('\n');
}

pub fn list(octets: &[u8]) {
    let Some(text) = decoded(octets) else { return };
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    list::parse(&text, &mut spool, &progress).expect("memory");
    let records = spool.finish(&[]).expect("memory").all().expect("memory");
    let lines: Vec<&str> = text.lines().collect();
    let is_told = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    assert_eq!(
        records.len(),
        lines.iter().filter(|line| is_told(line)).count()
    );
    for record in &records {
        check_line(record, &lines);
    }
}

/// A line means the one address that stands there, or none.
fn check_line(record: &Record, lines: &[&str]) {
    let record = record.view();
    let number = record.dn().strip_prefix("line ");
    let number: usize = number.and_then(|text| text.parse().ok()).expect("a number");
    let line = lines[number - 1].trim_start();
    let mut values = record.proxy_addresses();
    let (value, None) = (values.next().expect("a value"), values.next()) else {
        assert!(line.is_empty(), "{line:?} became several");
        return;
    };
    let address = std::str::from_utf8(&value[5..]).expect("text");
    assert!(
        line.starts_with(address.trim_start()),
        "{line:?}: {address:?}"
    );
    let Ok(address) = Address::parse(address) else {
        return;
    };
    if !line.starts_with('"') {
        let is_plain = !address
            .local()
            .contains([' ', ',', ';', '<', '>', '"', '@']);
        assert!(is_plain, "{line:?} became {address}");
    }
}

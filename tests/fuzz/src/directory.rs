//! What an LDAP server sends, from single messages to whole sessions.

use std::time::{Duration, Instant};

use rcptsync::directory::ber::{self, Elements, Limits};
use rcptsync::directory::message::{
    self, Awaited, FRAME_DEPTH_MAX, FRAME_ELEMENTS_MAX, Found, Passed, Request,
};
use rcptsync::directory::paged;
use rcptsync::directory::range;
use rcptsync::directory::session::{Patience, Session};
use rcptsync::entry::Entry;
use rcptsync::record::Record;
use rcptsync::snapshot::SourceProgress;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::choice;

const LIMITS: Limits = Limits {
    depth_max: FRAME_DEPTH_MAX,
    elements_max: FRAME_ELEMENTS_MAX,
};

/// One frame, and the values of controls.
pub fn message(octets: &[u8]) {
    controls(octets);
    let (asked, frame) = choice(octets);
    let awaited = match asked % 3 {
        0 => None,
        1 => Some(Request::Bind),
        _ => Some(Request::Search),
    };
    let id = u32::from(frame.get(4).copied().unwrap_or(1));
    let awaited = awaited.map(|request| Awaited { id, request });
    let is_frame = ber::check_frame(frame, &LIMITS).is_ok();
    assert_eq!(is_frame, walks(frame), "{}", frame.escape_ascii());
    let _ = message::start_tls_outcome(frame);
    let bind = message::bind_answer(frame, id);
    let Ok(passed) = message::check_response(frame, awaited) else {
        return;
    };
    assert!(is_frame);
    match (passed, awaited.map(|awaited| awaited.request)) {
        (Passed::Found, Some(Request::Search)) => found(frame),
        (Passed::Last { not_text }, Some(request)) => {
            assert!(request == Request::Search || bind.is_ok(), "{bind:?}");
            if let Some(range) = not_text {
                let mut blotted = frame.to_vec();
                blotted[range].fill(b'?');
                let again = message::check_response(&blotted, awaited);
                assert_eq!(again, Ok(Passed::Last { not_text: None }));
            }
        }
        (passed, request) => assert!(request.is_some(), "{passed:?} though nobody asked"),
    }
}

/// An entry is written as a message that holds the same.
fn found(frame: &[u8]) {
    let whole = |frame| Elements::of(frame, 0).read().expect("a frame");
    let mut entry = Entry::default();
    match message::found(whole(frame).expect("one"), &mut entry) {
        Ok(Found::Entry) => {}
        Ok(Found::Reference(urls)) => {
            let octets: usize = urls.iter().map(String::len).sum();
            assert!(octets < frame.len());
            return;
        }
        Err(_) => return,
    }
    assert!(entry.bytes_count() < frame.len() && entry.values_count() < frame.len());
    let record = Record::from_entry(&entry);
    assert_eq!(record.view().dn(), entry.dn());
    let octet_string = |octets: &[u8]| ber::element(ber::OCTET_STRING, octets);
    let names: Vec<&str> = entry.names().collect();
    let is_again = |(at, name): (usize, &&str)| {
        let mut before = names[..at].iter();
        before.any(|other| other.eq_ignore_ascii_case(name))
    };
    if names.len() > 30 || names.iter().enumerate().any(is_again) {
        return;
    }
    let attributes = names.iter().map(|name| {
        let values: Vec<u8> = entry.values(name).flat_map(octet_string).collect();
        let parts = [
            octet_string(name.as_bytes()),
            ber::element(ber::SET, &values),
        ];
        ber::element(ber::SEQUENCE, &parts.concat())
    });
    let attributes: Vec<u8> = attributes.flatten().collect();
    let parts = [
        octet_string(entry.dn().as_bytes()),
        ber::element(ber::SEQUENCE, &attributes),
    ];
    let operation = ber::element(0x64, &parts.concat());
    let content = [ber::element(ber::INTEGER, &[1]), operation].concat();
    let written = ber::element(ber::SEQUENCE, &content);
    let mut again = Entry::default();
    let read = message::found(whole(&written).expect("one"), &mut again);
    assert_eq!((read, again), (Ok(Found::Entry), entry));
}

/// A straightforward walk that descends. Not deeper than the limit, which is why it may.
fn walks(frame: &[u8]) -> bool {
    fn element(octets: &[u8], depth: usize, left: &mut usize) -> Option<usize> {
        *left = left.checked_sub(1)?;
        let (tag, first) = (*octets.first()?, *octets.get(1)?);
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (header, content) = match first {
            0..=0x7f => (2, usize::from(first)),
            0x81..=0x84 => {
                let count = usize::from(first - 0x80);
                let digits = octets.get(2..2 + count)?;
                let length = digits
                    .iter()
                    .fold(0, |sum, octet| sum * 256 + usize::from(*octet));
                (2 + count, length)
            }
            _ => return None,
        };
        let end = header + content;
        let content = octets.get(header..end)?;
        if tag & 0x20 != 0 {
            let depth = depth.checked_sub(1)?;
            let mut at = 0;
            while at < content.len() {
                at += element(&content[at..], depth, left)?;
            }
        }
        Some(end)
    }
    let mut left = FRAME_ELEMENTS_MAX;
    element(frame, FRAME_DEPTH_MAX, &mut left) == Some(frame.len())
}

fn controls(octets: &[u8]) {
    if let Ok(cookie) = message::paging_cookie(octets) {
        let parts = [
            ber::element(ber::INTEGER, &[0]),
            ber::element(ber::OCTET_STRING, &cookie),
        ];
        let written = ber::element(ber::SEQUENCE, &parts.concat());
        assert_eq!(message::paging_cookie(&written), Ok(cookie));
    }
    if let Ok(end) = message::dirsync_end(octets) {
        assert!(!end.cookie.is_empty());
        let request = message::dirsync_request(&end.cookie);
        let again = message::dirsync_end(&request).expect("built alike");
        assert_eq!(again.cookie, end.cookie);
    }
}

/// The name of an attribute that comes in pieces.
pub fn range(octets: &[u8]) {
    let Ok(name) = std::str::from_utf8(octets) else {
        return;
    };
    let split = range::split_name(name);
    let lower = name.to_ascii_lowercase();
    let naive = lower.split_once(";range=").and_then(|(base, rest)| {
        let (from, to) = rest.split_once('-')?;
        let is_number =
            |text: &str| text.len() < 9 && text.parse::<u32>().is_ok() && !text.starts_with('+');
        (!base.contains(';') && is_number(from) && (to == "*" || is_number(to))).then_some(())
    });
    if naive.is_some() {
        assert!(matches!(split, Some((_, Some(_)))), "{name} comes whole");
    }
    let Some((base, range)) = split else {
        return;
    };
    assert!(!base.contains(';') && name.starts_with(base));
    if let Some(range) = range {
        let to = range.to.map_or("*".to_owned(), |to| to.to_string());
        let plain = format!("{base};range={}-{to}", range.from);
        assert_eq!(range::split_name(&plain), Some((base, Some(range))));
    }
}

/// Divides what a server answers to one request from what it answers to the next.
const NEXT: &[u8] = b"\xff\xff";

/// A whole paged search, on a server that answers request after request with these octets and then hangs up. Where it counts as
/// complete, every page ended in success, the last one with an empty cookie, and every entry sent is a record.
pub fn session(octets: &[u8]) {
    let (size, octets) = choice(octets);
    let mut answers = Vec::new();
    let mut rest = octets;
    while let Some(at) = rest.windows(NEXT.len()).position(|window| window == NEXT) {
        answers.push(&rest[..at]);
        rest = &rest[at + NEXT.len()..];
    }
    answers.push(rest);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .expect("a runtime");
    let read = runtime.block_on(read_from(&answers, size * 8 + 1));
    runtime.shutdown_background();
    let sent = sent(&answers);
    // It may be refused for more reasons than the naive reader knows.
    if let Some(records_count) = read {
        let sent = sent.expect("a search that was not complete counts as one");
        assert_eq!(records_count, sent, "records");
    }
}

/// How many records there are, where the search counts as complete.
async fn read_from(answers: &[&[u8]], size: usize) -> Option<usize> {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let patience = Patience {
        answer: Duration::from_secs(20),
        deadline: Instant::now() + Duration::from_secs(20),
    };
    let reading = async {
        let mut session = Session::over(Box::new(ours), patience).await.ok()?;
        let mut count = 0;
        let mut sink = |_: Record| {
            count += 1;
            Ok(())
        };
        let mut found = paged::Found::into(&mut sink);
        let progress = SourceProgress::default();
        let read = paged::read_base(
            &mut session,
            "DC=x",
            "(proxyAddresses=smtp:*)",
            1000,
            &mut found,
            &progress,
        );
        let read = read.await;
        assert!(
            patience.deadline > Instant::now(),
            "a server that hung up is waited for"
        );
        read.ok().map(|()| count)
    };
    let (read, ()) = tokio::join!(reading, answer(theirs, answers, size));
    read
}

async fn answer(mut stream: DuplexStream, answers: &[&[u8]], size: usize) {
    let mut request = vec![0; 4096];
    for answer in answers {
        match stream.read(&mut request).await {
            Ok(count) if count > 0 => {}
            Ok(_) | Err(_) => return,
        }
        for piece in answer.chunks(size) {
            if stream.write_all(piece).await.is_err() {
                return;
            }
        }
        // Without it no further request comes, and nobody wants to see how long a silent server is waited for.
        if !has_result(answer) {
            return;
        }
    }
}

/// Whether one of the messages is a result.
fn has_result(answer: &[u8]) -> bool {
    let mut messages = Elements::of(answer, 0);
    while let Ok(Some(message)) = messages.read() {
        let mut parts = message.elements();
        let operation = parts.read().and_then(|_| parts.read());
        if operation.is_ok_and(|operation| operation.is_some_and(|part| part.tag == 0x65)) {
            return true;
        }
    }
    false
}

/// How many entries the server sent, if all that it sent is a complete search.
fn sent(answers: &[&[u8]]) -> Option<usize> {
    let mut entries_count = 0;
    for answer in answers {
        let mut messages = Elements::of(answer, 0);
        loop {
            let mut parts = messages.read().ok()??.elements();
            parts.read().ok()??;
            let operation = parts.read().ok()??;
            match operation.tag {
                0x64 => entries_count += 1,
                0x73 => {}
                0x65 => {
                    let code = operation.elements().read().ok()??;
                    if code.content.iter().any(|octet| *octet != 0) {
                        return None;
                    }
                    let controls = parts.read().ok()??;
                    match cookie(controls)? {
                        [] => return Some(entries_count),
                        _ => break,
                    }
                }
                _ => return None,
            }
        }
    }
    None
}

/// The cookie of the first paging control.
fn cookie(controls: ber::Element<'_>) -> Option<&[u8]> {
    let mut controls = controls.elements();
    loop {
        let mut parts = controls.read().ok()??.elements();
        let name = parts.read().ok()??;
        if name.content != b"1.2.840.113556.1.4.319" {
            continue;
        }
        let mut value = parts.read().ok()??;
        if value.tag == ber::BOOLEAN {
            value = parts.read().ok()??;
        }
        let mut parts = value.elements().read().ok()??.elements();
        parts.read().ok()??;
        return Some(parts.read().ok()??.content);
    }
}

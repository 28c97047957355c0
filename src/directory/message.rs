//! The shape of LDAP messages (RFC 4511): which of them may pass on to the LDAP crate, and the few we read ourselves.
//!
//! The crate panics where a message is not as it expects it (a control without a type, a result without a code, text that
//! is not UTF-8, an answer of another kind than was asked for). [`check_response`] passes only what cannot make it panic.
//! Entries and references never get there: [`found`] takes them apart, into an entry that is used again and again.

use std::ops::Range;

use crate::entry::Entry;

use super::ber::{
    self, BOOLEAN, BerError, ENUMERATED, Element, Elements, INTEGER, Limits, OCTET_STRING,
    SEQUENCE, SET,
};

/// An entry needs 5 levels (message, entry, attributes, attribute, values), a control 4. Thrice that is generous, and a
/// recursive parser survives it easily.
pub const FRAME_DEPTH_MAX: usize = 16;

/// Active Directory gives at most 5,000 values of an attribute in one answer, whatever its policy says; other servers
/// give all of them. Every element of a result costs the LDAP crate some 100 octets of memory, however small it is.
pub const FRAME_ELEMENTS_MAX: usize = 100_000;

const FRAME_LIMITS: Limits = Limits {
    depth_max: FRAME_DEPTH_MAX,
    elements_max: FRAME_ELEMENTS_MAX,
};

/// A cookie of DirSync is kept between runs. It has some octets for each controller that ever was in a domain: a hundred for the first.
const COOKIE_OCTETS_MAX: usize = 1024 * 1024;

/// Active Directory's names of parts have 255 characters at most; whoever takes a name apart has to hold each of its parts.
const DN_OCTETS_MAX: usize = 64 * 1024;

/// ExtendedRequest with message id 1 and the name of StartTLS, 1.3.6.1.4.1.1466.20037 (RFC 4511 section 4.14.1).
pub const START_TLS_REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
/// The message id in [`START_TLS_REQUEST`].
pub const START_TLS_ID: u32 = 1;

const BIND_REQUEST: u8 = 0x60;
const SEARCH_REQUEST: u8 = 0x63;
const BIND_RESPONSE: u8 = 0x61;
const SEARCH_RESULT_ENTRY: u8 = 0x64;
const SEARCH_RESULT_DONE: u8 = 0x65;
const SEARCH_RESULT_REFERENCE: u8 = 0x73;
const EXTENDED_RESPONSE: u8 = 0x78;
const CONTROLS: u8 = 0xa0;
const REFERRAL: u8 = 0xa3;
const SERVER_SASL_CREDENTIALS: u8 = 0x87;
const RESPONSE_NAME: u8 = 0x8a;
const RESPONSE_VALUE: u8 = 0x8b;

/// How an operation ended, as the server told it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The result code; 0 is success.
    pub code: u32,
    /// How much of the name the server found.
    pub matched: String,
    /// The server's own words, as received.
    pub diagnostic: String,
    /// Where else to ask.
    pub referrals: Vec<String>,
}

/// What the LDAP crate waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The message id of the request.
    pub id: u32,
    /// What it asked.
    pub request: Request,
}

/// The requests that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// One BindResponse.
    Bind,
    /// Any number of entries and references, then a SearchResultDone.
    Search,
}

/// What may pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// An entry or a reference: the search goes on.
    Found,
    /// The result: nothing more belongs to the request.
    Last {
        /// Where the server's own words stand that are not UTF-8; the caller blots them out, so that the result code is
        /// not lost with them.
        not_text: Option<Range<usize>>,
    },
}

/// Why a message may not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not the BER of a message.
    #[error("{0}")]
    Ber(#[from] BerError),
    /// Names and addresses are UTF-8.
    #[error("{0} that is not UTF-8")]
    NotText(&'static str),
    /// An answer to a question that nobody asked, or of another kind.
    #[error("an answer of kind 0x{tag:02x} to request {id}, which does not wait for one")]
    Unasked {
        /// Its message id.
        id: u32,
        /// Its identifier octet.
        tag: u8,
    },
    /// Not an error of form: the server says that it ends the connection (RFC 4511 section 4.4.1).
    #[error("notice of disconnection, code {}", .0.code)]
    Notice(Outcome),
}

/// Checks a whole message from the server.
pub fn check_response(frame: &[u8], awaited: Option<Awaited>) -> Result<Passed, MessageError> {
    ber::check_frame(frame, &FRAME_LIMITS)?;
    let (id, operation, mut rest) = open(frame)?;
    if id == 0 && operation.tag == EXTENDED_RESPONSE {
        // Active Directory puts the name of the notice behind the operation, where controls belong: not looked at.
        let (outcome, not_text) = read_result(operation)?;
        let readable = not_text.is_none();
        return Err(MessageError::Notice(Outcome {
            diagnostic: if readable {
                outcome.diagnostic
            } else {
                String::new()
            },
            ..outcome
        }));
    }
    if let Some(controls) = rest.read()? {
        check_controls(controls)?;
        if rest.read()?.is_some() {
            return Err(BerError::Missing("end of the message").into());
        }
    }
    let request = awaited
        .filter(|awaited| awaited.id == id)
        .map(|awaited| awaited.request);
    match (request, operation.tag) {
        (Some(Request::Bind), BIND_RESPONSE) | (Some(Request::Search), SEARCH_RESULT_DONE) => {
            let (_, not_text) = read_result(operation)?;
            Ok(Passed::Last { not_text })
        }
        (Some(Request::Search), SEARCH_RESULT_ENTRY | SEARCH_RESULT_REFERENCE) => Ok(Passed::Found),
        (_, tag) => Err(MessageError::Unasked { id, tag }),
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An object; it stands in the entry that was handed in.
    Entry,
    /// URLs of a subtree that the server does not hold.
    Reference(Vec<String>),
}

/// Takes apart a message that [`check_response`] let pass as [`Passed::Found`]. The error says what is wrong with it.
pub fn found(message: Element<'_>, entry: &mut Entry) -> Result<Found, &'static str> {
    const DAMAGED: &str = "an answer that is no message";
    let mut parts = message.elements();
    let (Ok(Some(_)), Ok(Some(operation))) = (parts.read(), parts.read()) else {
        return Err(DAMAGED);
    };
    match operation.tag {
        SEARCH_RESULT_ENTRY => read_entry(operation, entry).map(|()| Found::Entry),
        SEARCH_RESULT_REFERENCE => read_reference(operation).map(Found::Reference),
        _ => Err(DAMAGED),
    }
}

/// `SearchResultEntry ::= SEQUENCE { name, SEQUENCE OF SEQUENCE { type, SET OF value } }`, all of them OCTET STRING.
fn read_entry(operation: Element<'_>, entry: &mut Entry) -> Result<(), &'static str> {
    const DAMAGED: &str = "an entry that is not built as one";
    fn expect<'frame>(
        elements: &mut Elements<'frame>,
        tag: u8,
    ) -> Result<Element<'frame>, &'static str> {
        elements
            .expect(tag, "part of an entry")
            .map_err(|_| DAMAGED)
    }
    let mut parts = operation.elements();
    let dn = std::str::from_utf8(expect(&mut parts, OCTET_STRING)?.content)
        .map_err(|_| "an entry whose DN is not UTF-8")?;
    if dn.len() > DN_OCTETS_MAX {
        return Err("an entry whose DN is longer than any directory's");
    }
    entry.begin(dn);
    let mut attributes = expect(&mut parts, SEQUENCE)?.elements();
    if !parts.is_over() {
        return Err(DAMAGED);
    }
    while !attributes.is_over() {
        let mut attribute = expect(&mut attributes, SEQUENCE)?.elements();
        let name = std::str::from_utf8(expect(&mut attribute, OCTET_STRING)?.content)
            .map_err(|_| "an attribute whose name is not UTF-8")?;
        entry.add_name(name);
        let mut values = expect(&mut attribute, SET)?.elements();
        if !attribute.is_over() {
            return Err(DAMAGED);
        }
        while !values.is_over() {
            entry.add_value(expect(&mut values, OCTET_STRING)?.content);
        }
    }
    Ok(())
}

/// `SearchResultReference ::= SEQUENCE OF uri`
fn read_reference(operation: Element<'_>) -> Result<Vec<String>, &'static str> {
    let mut urls = Vec::new();
    let mut elements = operation.elements();
    while !elements.is_over() {
        let url = elements.expect(OCTET_STRING, "URL");
        let url = url.map_err(|_| "a search reference that is not built as one")?;
        let url = std::str::from_utf8(url.content);
        urls.push(
            url.map_err(|_| "a search reference that is not UTF-8")?
                .to_owned(),
        );
    }
    Ok(urls)
}

/// What a request of ours will wait for; `None` where nothing answers it (unbind, abandon).
pub fn awaited_by(frame: &[u8]) -> Option<Awaited> {
    let (id, operation, _) = open(frame).ok()?;
    let request = match operation.tag {
        BIND_REQUEST => Request::Bind,
        SEARCH_REQUEST => Request::Search,
        _ => return None,
    };
    Some(Awaited { id, request })
}

/// The server's answer to [`START_TLS_REQUEST`].
pub fn start_tls_outcome(frame: &[u8]) -> Result<Outcome, MessageError> {
    ber::check_frame(frame, &FRAME_LIMITS)?;
    let (id, operation, _) = open(frame)?;
    if operation.tag != EXTENDED_RESPONSE || (id != START_TLS_ID && id != 0) {
        return Err(MessageError::Unasked {
            id,
            tag: operation.tag,
        });
    }
    let (outcome, _) = read_result(operation)?;
    if id == 0 {
        return Err(MessageError::Notice(outcome));
    }
    Ok(outcome)
}

/// An answer to one turn of a bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAnswer {
    /// The result; code 14 asks for the next turn.
    pub outcome: Outcome,
    /// The server's token.
    pub credentials: Option<Vec<u8>>,
}

/// The server's answer to a bind request with this id.
pub fn bind_answer(frame: &[u8], request_id: u32) -> Result<BindAnswer, MessageError> {
    ber::check_frame(frame, &FRAME_LIMITS)?;
    let (id, operation, _) = open(frame)?;
    let is_notice = id == 0 && operation.tag == EXTENDED_RESPONSE;
    if !is_notice && (id != request_id || operation.tag != BIND_RESPONSE) {
        return Err(MessageError::Unasked {
            id,
            tag: operation.tag,
        });
    }
    let (outcome, _) = read_result(operation)?;
    if is_notice {
        return Err(MessageError::Notice(outcome));
    }
    let mut credentials = None;
    let mut elements = operation.elements();
    while let Some(element) = elements.read()? {
        if element.tag == SERVER_SASL_CREDENTIALS {
            credentials = Some(element.content.to_vec());
        }
    }
    Ok(BindAnswer {
        outcome,
        credentials,
    })
}

/// The cookie in the value of a paged results control (RFC 2696): `SEQUENCE { size INTEGER, cookie OCTET STRING }`.
pub fn paging_cookie(value: &[u8]) -> Result<Vec<u8>, BerError> {
    let mut outer = Elements::of(value, 0);
    let mut elements = outer.expect(SEQUENCE, "paging control")?.elements();
    elements.expect(INTEGER, "size in the paging control")?;
    let cookie = elements.expect(OCTET_STRING, "cookie in the paging control")?;
    if cookie.content.len() > COOKIE_OCTETS_MAX {
        return Err(BerError::Missing(
            "cookie of believable size in the paging control",
        ));
    }
    match (elements.read()?, outer.read()?) {
        (None, None) => Ok(cookie.content.to_vec()),
        (Some(_), _) | (_, Some(_)) => Err(BerError::Missing("end of the paging control")),
    }
}

/// The value of a DirSync request (MS-ADTS 3.1.1.3.4.1.3): `SEQUENCE { Flags, MaxBytes, Cookie }`. The account sees what it
/// may read (OBJECT_SECURITY), and as much at once as the server likes.
pub fn dirsync_request(cookie: &[u8]) -> Vec<u8> {
    const OBJECT_SECURITY: &[u8] = &[INTEGER, 1, 1];
    const ANY_SIZE: &[u8] = &[INTEGER, 4, 0x7f, 0xff, 0xff, 0xff];
    let content = [
        OBJECT_SECURITY,
        ANY_SIZE,
        &ber::element(OCTET_STRING, cookie),
    ]
    .concat();
    ber::element(SEQUENCE, &content)
}

/// What a DirSync answer ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirSyncEnd {
    /// The server has more to tell now.
    pub has_more: bool,
    /// From where to go on.
    pub cookie: Vec<u8>,
}

/// The value of a DirSync answer: `SEQUENCE { MoreResults, unused, CookieServer }`.
pub fn dirsync_end(value: &[u8]) -> Result<DirSyncEnd, BerError> {
    let mut outer = Elements::of(value, 0);
    let mut elements = outer.expect(SEQUENCE, "DirSync control")?.elements();
    let more = elements.expect(INTEGER, "MoreResults in the DirSync control")?;
    elements.expect(INTEGER, "second number in the DirSync control")?;
    let cookie = elements.expect(OCTET_STRING, "cookie in the DirSync control")?;
    // An empty one would mean the beginning, and the changes told so far would count as all there are.
    if cookie.content.is_empty() || cookie.content.len() > COOKIE_OCTETS_MAX {
        return Err(BerError::Missing(
            "cookie of believable size in the DirSync control",
        ));
    }
    match (elements.read()?, outer.read()?) {
        (None, None) => Ok(DirSyncEnd {
            // Any octet: some servers count what is left, and MaxInt is no small number.
            has_more: more.content.iter().any(|octet| *octet != 0),
            cookie: cookie.content.to_vec(),
        }),
        (Some(_), _) | (_, Some(_)) => Err(BerError::Missing("end of the DirSync control")),
    }
}

/// Message id, operation, and what follows them.
fn open(frame: &[u8]) -> Result<(u32, Element<'_>, Elements<'_>), BerError> {
    let mut elements = Elements::of(frame, 0)
        .expect(SEQUENCE, "message")?
        .elements();
    let id = ber::small_number(elements.expect(INTEGER, "message id")?.content)?;
    let operation = elements.read()?.ok_or(BerError::Missing("operation"))?;
    Ok((id, operation, elements))
}

/// Reads an LDAPResult and what may follow it in a response. The second value says where its text is not UTF-8.
fn read_result(operation: Element<'_>) -> Result<(Outcome, Option<Range<usize>>), MessageError> {
    let mut elements = operation.elements();
    let code = ber::small_number(elements.expect(ENUMERATED, "result code")?.content)?;
    let matched = text(elements.expect(OCTET_STRING, "matched name")?, "a name")?;
    let diagnostic = elements.expect(OCTET_STRING, "diagnostic text")?;
    let (diagnostic, not_text) = match std::str::from_utf8(diagnostic.content) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (
            String::from_utf8_lossy(diagnostic.content).into_owned(),
            Some(diagnostic.content_at..diagnostic.content_at + diagnostic.content.len()),
        ),
    };
    let mut referrals = Vec::new();
    while let Some(element) = elements.read()? {
        match element.tag {
            REFERRAL => {
                let mut urls = element.elements();
                while let Some(url) = urls.read()? {
                    expect_tag(url, OCTET_STRING, "referral")?;
                    referrals.push(text(url, "a referral")?);
                }
            }
            RESPONSE_NAME => {
                text(element, "the name of a response")?;
            }
            SERVER_SASL_CREDENTIALS | RESPONSE_VALUE => {}
            // RFC 4511 lets results grow; but these numbers in another class would be taken for the above.
            other if matches!(other & 0x1f, 3 | 7 | 10 | 11) => {
                return Err(BerError::Missing("end of the result").into());
            }
            _ => {}
        }
    }
    let outcome = Outcome {
        code,
        matched,
        diagnostic,
        referrals,
    };
    Ok((outcome, not_text))
}

/// `Controls ::= SEQUENCE OF SEQUENCE { type OCTET STRING, criticality BOOLEAN DEFAULT FALSE, value OCTET STRING OPTIONAL }`
fn check_controls(controls: Element<'_>) -> Result<(), MessageError> {
    expect_tag(controls, CONTROLS, "controls")?;
    let mut controls = controls.elements();
    while let Some(control) = controls.read()? {
        expect_tag(control, SEQUENCE, "control")?;
        let mut parts = control.elements();
        text(
            parts.expect(OCTET_STRING, "type of a control")?,
            "the type of a control",
        )?;
        let mut value = parts.read()?;
        if let Some(criticality) = value.filter(|part| part.tag == BOOLEAN) {
            if criticality.content.len() != 1 {
                return Err(BerError::Missing("criticality of a control").into());
            }
            value = parts.read()?;
        }
        if let Some(value) = value {
            expect_tag(value, OCTET_STRING, "value of a control")?;
        }
        if parts.read()?.is_some() {
            return Err(BerError::Missing("end of a control").into());
        }
    }
    Ok(())
}

fn expect_tag(element: Element<'_>, tag: u8, name: &'static str) -> Result<(), BerError> {
    if element.tag == tag {
        Ok(())
    } else {
        Err(BerError::Missing(name))
    }
}

fn text(element: Element<'_>, name: &'static str) -> Result<String, MessageError> {
    match std::str::from_utf8(element.content) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(MessageError::NotText(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut bytes = vec![tag, u8::try_from(content.len()).expect("a short element")];
        bytes.extend(content);
        bytes
    }

    fn result(tag: u8, code: u8, diagnostic: &[u8], rest: &[&[u8]]) -> Vec<u8> {
        let mut parts = vec![
            element(ENUMERATED, &[&[code]]),
            element(OCTET_STRING, &[]),
            element(OCTET_STRING, &[diagnostic]),
        ];
        parts.extend(rest.iter().map(|part| part.to_vec()));
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        element(tag, &parts)
    }

    fn message(id: u8, parts: &[&[u8]]) -> Vec<u8> {
        let id = element(INTEGER, &[&[id]]);
        let mut all: Vec<&[u8]> = vec![&id];
        all.extend(parts);
        element(SEQUENCE, &all)
    }

    fn controls(parts: &[&[u8]]) -> Vec<u8> {
        element(CONTROLS, &[&element(SEQUENCE, parts)])
    }

    #[track_caller]
    fn check(frame: &[u8], expected: &str) {
        let awaited = Awaited {
            id: 7,
            request: Request::Search,
        };
        let found = match check_response(frame, Some(awaited)) {
            Ok(Passed::Last { .. }) => "last".to_owned(),
            Ok(Passed::Found) => "more".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn only_well_formed_answers_pass() {
        let done = result(SEARCH_RESULT_DONE, 0, b"", &[]);
        let oid = element(OCTET_STRING, &[b"1.2"]);
        check(&message(7, &[&done]), "last");
        check(&message(7, &[&element(SEARCH_RESULT_ENTRY, &[])]), "more");
        check(
            &message(7, &[&result(SEARCH_RESULT_DONE, 4, b"\xff", &[])]),
            "last",
        );
        check(&message(7, &[&done, &controls(&[&oid])]), "last");
        check(
            &message(7, &[&done, &controls(&[&oid, &[BOOLEAN, 1, 0xff], &oid])]),
            "last",
        );
        check(
            &message(7, &[&done, &controls(&[&oid, &[BOOLEAN, 0]])]),
            "no criticality of a control where one belongs",
        );
        check(
            &message(7, &[&done, &controls(&[&[OCTET_STRING, 1, 0xff]])]),
            "the type of a control that is not UTF-8",
        );
        check(
            &message(7, &[&done, &controls(&[])]),
            "no type of a control where one belongs",
        );
        check(&message(7, &[&done, &oid]), "no controls where one belongs");
        check(&message(7, &[]), "no operation where one belongs");
        check(
            &message(7, &[&[SEARCH_RESULT_DONE, 0]]),
            "no result code where one belongs",
        );
        check(
            &message(8, &[&done]),
            "an answer of kind 0x65 to request 8, which does not wait for one",
        );
        check(
            &message(7, &[&result(BIND_RESPONSE, 0, b"", &[])]),
            "an answer of kind 0x61 to request 7, which does not wait for one",
        );
        check(
            &message(7, &[&[0x79, 0]]),
            "an answer of kind 0x79 to request 7, which does not wait for one",
        );
    }

    /// Both the standard's form and Active Directory's, which has the name behind the operation.
    #[test]
    fn a_notice_of_disconnection_is_told() {
        let name = element(RESPONSE_NAME, &[b"1.3.6.1.4.1.1466.20036"]);
        let good = result(EXTENDED_RESPONSE, 52, b"going down", &[&name]);
        let bad = result(EXTENDED_RESPONSE, 52, b"going down", &[]);
        let expected = MessageError::Notice(Outcome {
            code: 52,
            diagnostic: "going down".into(),
            ..Outcome::default()
        });
        for frame in [message(0, &[&good]), message(0, &[&bad, &name])] {
            assert_eq!(check_response(&frame, None), Err(expected.clone()));
        }
    }

    #[track_caller]
    fn check_found(operation: &[u8], expected: Result<Found, &'static str>) -> Entry {
        let frame = message(7, &[operation]);
        let outer = Elements::of(&frame, 0).read().expect("BER").expect("one");
        let mut entry = Entry::named("CN=before");
        entry.add_name("left");
        assert_eq!(found(outer, &mut entry), expected);
        entry
    }

    #[test]
    fn entries_and_references_are_taken_apart() {
        let octets = |content: &[u8]| element(OCTET_STRING, &[content]);
        let values = element(SET, &[&octets(b"smtp:a@x"), &octets(b"")]);
        let attribute = element(SEQUENCE, &[&octets(b"proxyAddresses"), &values]);
        let empty = element(SEQUENCE, &[&octets(b"mail"), &element(SET, &[])]);
        let attributes = element(SEQUENCE, &[&attribute, &empty]);
        let whole = element(SEARCH_RESULT_ENTRY, &[&octets(b"CN=a"), &attributes]);
        let entry = check_found(&whole, Ok(Found::Entry));
        assert_eq!(entry.dn(), "CN=a");
        assert_eq!(
            entry.names().collect::<Vec<_>>(),
            ["proxyAddresses", "mail"]
        );
        let found_values: Vec<&[u8]> = entry.values("proxyaddresses").collect();
        assert_eq!(found_values, [&b"smtp:a@x"[..], b""]);

        let url = octets(b"ldap://x/");
        let reference = element(SEARCH_RESULT_REFERENCE, &[&url, &url]);
        let urls = vec!["ldap://x/".to_owned(); 2];
        check_found(&reference, Ok(Found::Reference(urls)));
        let reference = element(SEARCH_RESULT_REFERENCE, &[&element(SEQUENCE, &[&url])]);
        check_found(
            &reference,
            Err("a search reference that is not built as one"),
        );
        check_found(
            &result(SEARCH_RESULT_DONE, 0, b"", &[]),
            Err("an answer that is no message"),
        );
        // Every other tag at every level is refused.
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x20;
            let outer = message(7, &[&changed]);
            let is_sound = ber::check_frame(&outer, &FRAME_LIMITS).is_ok();
            let is_structure = [SEQUENCE, SET, OCTET_STRING].contains(&whole[at]);
            if is_sound && is_structure {
                let outer = Elements::of(&outer, 0).read().expect("BER").expect("one");
                assert!(found(outer, &mut Entry::default()).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn text_that_is_none_keeps_its_place() {
        let awaited = Awaited {
            id: 7,
            request: Request::Bind,
        };
        let frame = message(7, &[&result(BIND_RESPONSE, 49, b"a\xffb", &[])]);
        let passed = check_response(&frame, Some(awaited));
        let Ok(Passed::Last { not_text: Some(at) }) = passed else {
            unreachable!("{passed:?}")
        };
        assert_eq!(&frame[at], b"a\xffb");
    }

    #[test]
    fn start_tls_is_answered_by_an_extended_response() {
        assert_eq!(ber::check_frame(START_TLS_REQUEST, &FRAME_LIMITS), Ok(()));
        let answer = message(1, &[&result(EXTENDED_RESPONSE, 2, b"no", &[])]);
        assert_eq!(
            start_tls_outcome(&answer).map(|outcome| outcome.code),
            Ok(2)
        );
        let other = message(1, &[&result(BIND_RESPONSE, 0, b"", &[])]);
        assert!(start_tls_outcome(&other).is_err());
        let notice = message(0, &[&result(EXTENDED_RESPONSE, 52, b"", &[])]);
        assert!(matches!(
            start_tls_outcome(&notice),
            Err(MessageError::Notice(_))
        ));
    }

    #[test]
    fn a_bind_is_answered_with_a_token_or_without() {
        let token = element(SERVER_SASL_CREDENTIALS, &[b"token"]);
        for (rest, expected) in [
            (vec![token.as_slice()], Some(b"token".to_vec())),
            (vec![], None),
        ] {
            let frame = message(2, &[&result(BIND_RESPONSE, 14, b"\xff", &rest)]);
            let answer = bind_answer(&frame, 2).expect("an answer");
            assert_eq!((answer.outcome.code, answer.credentials), (14, expected));
            assert!(bind_answer(&frame, 3).is_err());
            for at in 0..frame.len() {
                assert!(bind_answer(&frame[..at], 2).is_err(), "{at}");
            }
        }
        let other = message(2, &[&result(SEARCH_RESULT_DONE, 0, b"", &[])]);
        assert!(bind_answer(&other, 2).is_err());
        let notice = message(0, &[&result(EXTENDED_RESPONSE, 52, b"", &[])]);
        assert!(matches!(
            bind_answer(&notice, 2),
            Err(MessageError::Notice(_))
        ));
    }

    #[test]
    fn the_cookie_is_read_in_every_form_of_length() {
        assert_eq!(paging_cookie(&[0x30, 5, 2, 1, 0, 4, 0]), Ok(vec![]));
        assert_eq!(
            paging_cookie(&[0x30, 0x84, 0, 0, 0, 7, 2, 1, 0, 4, 2, 1, 2]),
            Ok(vec![1, 2])
        );
        for broken in [
            &[0x30, 3, 2, 1, 0][..],
            &[0x30, 5, 4, 0, 2, 1, 0],
            &[0x30, 7, 2, 1, 0, 4, 0, 4, 0],
            &[0x30, 5, 2, 1, 0, 4, 0, 0],
            &[],
        ] {
            assert!(paging_cookie(broken).is_err(), "{broken:02x?}");
        }
    }

    #[test]
    fn dirsync_is_asked_and_answered() {
        assert_eq!(
            dirsync_request(&[7, 8]),
            [0x30, 13, 2, 1, 1, 2, 4, 0x7f, 0xff, 0xff, 0xff, 4, 2, 7, 8]
        );
        assert_eq!(ber::element(OCTET_STRING, &[1; 300])[..4], [4, 0x82, 1, 44]);
        for (value, has_more, cookie) in [
            (&[0x30, 9, 2, 1, 0, 2, 1, 0, 4, 1, 5][..], false, &[5][..]),
            (
                &[0x30, 0x84, 0, 0, 0, 11, 2, 2, 1, 0, 2, 1, 0, 4, 2, 5, 6],
                true,
                &[5, 6],
            ),
        ] {
            let cookie = cookie.to_vec();
            assert_eq!(dirsync_end(value), Ok(DirSyncEnd { has_more, cookie }));
            for at in 0..value.len() {
                assert!(dirsync_end(&value[..at]).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn cut_or_changed_answers_never_panic() {
        let oid = element(OCTET_STRING, &[b"1.2"]);
        let referral = element(REFERRAL, &[&oid]);
        let done = result(SEARCH_RESULT_DONE, 10, b"x", &[&referral]);
        let frame = message(7, &[&done, &controls(&[&oid, &[BOOLEAN, 1, 1], &oid])]);
        check(&frame, "last");
        let awaited = Some(Awaited {
            id: 7,
            request: Request::Search,
        });
        let mut entry = Entry::default();
        for at in 0..frame.len() {
            assert!(check_response(&frame[..at], awaited).is_err(), "{at}");
            for octet in 0..=u8::MAX {
                let mut changed = frame.clone();
                changed[at] = octet;
                let _ = check_response(&changed, awaited);
                if let Ok(Some(message)) = Elements::of(&changed, 0).read() {
                    let _ = found(message, &mut entry);
                }
                let _ = start_tls_outcome(&changed);
                let _ = awaited_by(&changed);
            }
        }
    }
}

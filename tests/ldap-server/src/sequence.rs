//! A script of what becomes of a server's answers on their way out: any number of twists of any messages, and how the
//! octets are cut into writes.
//!
//! A script is a value: it is drawn from numbers ([`Script::draw`]), printed when something fails, and applied to every
//! connection alike. Answers are counted from 1 on each connection, whatever they answer. What a twist does to an entry so
//! that the entry was never told as the directory has it, is noted ([`Twisted::touched`]); every other entry was told. Not
//! here: what is answered (`connection`).

use crate::NoticeForm;
use crate::ber::{Reader, element, header, number};
use crate::connection::notice;
use crate::hostile;

const ENTRY: u8 = 0x64;
const DONE: u8 = 0x65;
const CONTROLS: u8 = 0xa0;

/// Twists, each of one answer.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Which answer, and what becomes of it.
    pub twists: Vec<(u32, Twist)>,
    /// How everything is written.
    pub pieces: Pieces,
}

/// How octets are cut into writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pieces {
    /// An answer at once.
    #[default]
    Answers,
    /// So many octets at a time.
    Octets(usize),
}

/// What becomes of an answer. Places are taken modulo what there is: `u64` octets or messages of the answer.
#[derive(Clone, Debug)]
pub enum Twist {
    /// It ends in front of this octet, and so does the connection.
    Cut(u64, End),
    /// A message is left out.
    Drop(u64),
    /// A reference to somewhere else comes in the place of a message.
    Refer(u64),
    /// A message comes so many times more.
    Again(u64, u32),
    /// Two messages change places.
    Swap(u64, u64),
    /// These bits of an octet are turned; those of a cookie are left alone.
    Flip(u64, u8),
    /// Something stands in front of a message.
    Insert(u64, Stray),
    /// A message has another id.
    Id(u64, u32),
    /// The operation in a message has another tag.
    Tag(u64, u8),
    /// The result has this code; everything else stays.
    Code(u32),
    /// The result has no controls.
    NoControls,
    /// The result has its control twice: the second one, or the first, has another cookie.
    TwoControls {
        /// The one that stands first.
        is_other_first: bool,
        /// The other cookie; none means that nothing follows.
        cookie: Vec<u8>,
    },
    /// The value of the control is this.
    ControlValue(Vec<u8>),
    /// The first number in the value of the control is this: the size of a page, or whether DirSync has more.
    ControlNumber(u32),
    /// The lengths of a message and its operation take so many octets: none is the indefinite form, over four is more than
    /// LDAP needs.
    Lengths(u64, u8),
    /// An entry has attributes that nobody asked for.
    ExtraAttributes(u64),
    /// One digit of a range is this octet.
    Range(u64, u8),
    /// The answer before this one comes once more in front of it.
    Replay,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Close,
    /// With a reset.
    Reset,
    /// It does not; nothing comes any more.
    Silence,
}

/// What is slipped in.
#[derive(Clone, Debug)]
pub enum Stray {
    /// Whatever.
    Octets(Vec<u8>),
    /// So many headers, each around the next.
    Nested(usize),
    /// A notice of disconnection.
    Notice(NoticeForm),
    /// An operation of this tag and nothing in it: for the same request, or for another by so much.
    Operation(u8, u32),
    /// The entry of nobody, in answer to the same request or to another by so much.
    Stranger(u32),
    /// A search reference.
    Reference,
    /// A result of success without a control, or with one that says that nothing follows.
    Result {
        /// Whether it has a control.
        has_control: bool,
    },
    /// The success of a bind.
    Bound,
}

/// The name of the entry of nobody.
pub const STRANGER: &str = "CN=stranger";

/// An answer as it goes out.
#[derive(Debug, Default)]
pub(crate) struct Twisted {
    pub(crate) octets: Vec<u8>,
    /// Names of entries that were not told as they are; an empty one for the root DSE, and for what a result tells.
    pub(crate) touched: Vec<Vec<u8>>,
    pub(crate) end: Option<End>,
}

/// A message taken apart.
struct Message {
    id: u32,
    tag: u8,
    content: Vec<u8>,
    controls: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Script {
    /// A script of up to three twists among the first answers of a connection. `below(n)` is a number from 0 to `n` - 1.
    pub fn draw(below: &mut dyn FnMut(u64) -> u64) -> Script {
        const ANSWERS: u64 = 10;
        let pieces = match below(6) {
            0 => Pieces::Octets(1),
            1 => Pieces::Octets(2 + size(below(40))),
            _ => Pieces::Answers,
        };
        let count = [0, 1, 1, 1, 1, 2, 2, 3][size(below(8))];
        let twists = (0..count).map(|_| (1 + small(below(ANSWERS)), Twist::draw(below)));
        Script {
            twists: twists.collect(),
            pieces,
        }
    }

    /// Whether a sound reader gets everything all the same.
    pub fn is_harmless(&self) -> bool {
        self.twists.iter().all(|(_, twist)| {
            matches!(
                twist,
                Twist::Lengths(_, 1..=4) | Twist::ExtraAttributes(_) | Twist::Again(_, 0)
            )
        })
    }

    /// Whether a reader may wait for octets that never come.
    pub fn may_stall(&self) -> bool {
        self.twists.iter().any(|(_, twist)| {
            matches!(
                twist,
                Twist::Cut(_, End::Silence)
                    | Twist::Drop(_)
                    | Twist::Refer(_)
                    | Twist::Swap(..)
                    | Twist::Flip(..)
                    | Twist::Insert(_, Stray::Octets(_) | Stray::Nested(_))
                    | Twist::Tag(..)
            )
        })
    }

    /// What becomes of an answer, which consists of whole messages.
    pub(crate) fn apply(&self, answer: u32, octets: &[u8], before: &[u8]) -> Twisted {
        let mut messages = split(octets);
        let mut twisted = Twisted::default();
        let mut cut = None;
        let mine = self.twists.iter().filter(|(number, _)| *number == answer);
        for (_, twist) in mine {
            match twist {
                Twist::Cut(at, end) => cut = Some((*at, *end)),
                Twist::Replay => messages.insert(0, before.to_vec()),
                _ => twist.apply(&mut messages, &mut twisted.touched),
            }
        }
        twisted.octets = messages.concat();
        if let Some((at, end)) = cut {
            twisted.octets.truncate(place(at, twisted.octets.len()));
            twisted.end = Some(end);
        }
        twisted
    }
}

impl Twist {
    fn draw(below: &mut dyn FnMut(u64) -> u64) -> Twist {
        let at = below(1 << 20);
        match below(23) {
            0..=2 => Twist::Cut(at, End::draw(below)),
            3 if below(2) == 0 => Twist::Refer(at),
            3 => Twist::Drop(at),
            4 => Twist::Again(at, 1 + small(below(8))),
            5..=6 => Twist::Swap(at, below(1 << 20)),
            7..=9 => Twist::Flip(at, 1 << below(8)),
            10..=12 => Twist::Insert(at, Stray::draw(below)),
            13 => Twist::Id(at, small(below(16))),
            14 => {
                const TAGS: [u8; 9] = [0x61, 0x64, 0x65, 0x73, 0x78, 0x79, 0x7a, 0x42, 0x04];
                Twist::Tag(at, TAGS[size(below(9))])
            }
            15 => Twist::Code(
                [1, 2, 3, 4, 10, 11, 12, 14, 32, 49, 50, 51, 53, 80, 4711][size(below(15))],
            ),
            16 => Twist::NoControls,
            17 => Twist::TwoControls {
                is_other_first: below(2) == 0,
                cookie: [vec![], vec![7; 8], vec![0; 44]][size(below(3))].clone(),
            },
            18 => Twist::ControlValue(octets(below, 12)),
            19 => Twist::ControlNumber([0, 1, 2, 255, 0x7fff_ffff][size(below(5))]),
            20 => Twist::Lengths(at, [0, 1, 2, 3, 4, 5, 8, 127][size(below(8))]),
            21 if below(2) == 0 => Twist::ExtraAttributes(at),
            21 => Twist::Replay,
            _ => Twist::Range(
                at,
                *b"0123456789*-"[size(below(12))..].first().unwrap_or(&b'*'),
            ),
        }
    }

    fn apply(&self, messages: &mut Vec<Vec<u8>>, touched: &mut Vec<Vec<u8>>) {
        let count = messages.len();
        if count == 0 {
            return;
        }
        match self {
            Twist::Cut(..) | Twist::Replay => {}
            Twist::Drop(at) => touched.push(name(&messages.remove(place(*at, count)))),
            Twist::Refer(at) => {
                let at = place(*at, count);
                touched.push(name(&messages[at]));
                messages[at] = Stray::Reference.octets(Message::read(&messages[at]).id);
            }
            Twist::Again(at, times) => {
                let at = place(*at, count);
                let message = messages[at].clone();
                for _ in 0..*times {
                    messages.insert(at, message.clone());
                }
            }
            Twist::Swap(one, other) => messages.swap(place(*one, count), place(*other, count)),
            Twist::Flip(at, bits) => flip(messages, *at, *bits, touched),
            Twist::Insert(at, stray) => {
                let id = messages.first().map_or(0, |first| Message::read(first).id);
                if let Stray::Stranger(_) = stray {
                    touched.push(STRANGER.into());
                }
                messages.insert(place(*at, count + 1), stray.octets(id));
            }
            Twist::Id(at, id) => edit(messages, *at, |message| message.id = *id),
            Twist::Tag(at, tag) => edit(messages, *at, |message| message.tag = *tag),
            Twist::Code(code) => edit_result(messages, |result| {
                let mut parts = Reader(&result.content);
                let _code = parts.read();
                result.content = [number(0x0a, *code), parts.0.to_vec()].concat();
            }),
            Twist::NoControls => edit_result(messages, |result| result.controls.clear()),
            Twist::TwoControls {
                is_other_first,
                cookie,
            } => edit_result(messages, |result| {
                if let Some((oid, value)) = result.controls.first().cloned() {
                    let other = (oid, with_cookie(&value, cookie));
                    let at = if *is_other_first { 0 } else { 1 };
                    result.controls.insert(at, other);
                }
            }),
            Twist::ControlValue(value) => edit_result(messages, |result| {
                for (_, old) in &mut result.controls {
                    old.clone_from(value);
                }
            }),
            Twist::ControlNumber(value) => {
                // Who says that there is no more where there is more has told less.
                touched.push(Vec::new());
                edit_result(messages, |result| {
                    for (_, old) in &mut result.controls {
                        *old = with_number(old, *value);
                    }
                });
            }
            Twist::Lengths(at, octets) => {
                let at = place(*at, count);
                messages[at] = with_lengths(&messages[at], *octets);
            }
            Twist::ExtraAttributes(at) => edit(messages, *at, add_attributes),
            Twist::Range(at, digit) => {
                let at = place(*at, count);
                let found = messages[at].windows(6).position(|word| word == b"range=");
                if let Some(octet) = found.and_then(|found| messages[at].get_mut(found + 6)) {
                    *octet = *digit;
                    touched.push(name(&messages[at]));
                }
            }
        }
    }
}

impl End {
    fn draw(below: &mut dyn FnMut(u64) -> u64) -> End {
        match below(40) {
            0 => End::Silence,
            1..=12 => End::Reset,
            _ => End::Close,
        }
    }
}

impl Stray {
    fn draw(below: &mut dyn FnMut(u64) -> u64) -> Stray {
        const HEADERS: [&[u8]; 9] = [
            &[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x84, 0x01, 0x00, 0x00, 0x00],
            &[0x30, 0x84, 0x00, 0xff, 0xff, 0xf0],
            &[0x30, 0x80],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x3f, 0x81, 0x00],
            &[0x30, 0x00],
        ];
        let by = || [0, 0, 1, 2, 77];
        match below(12) {
            0..=1 => Stray::Octets(octets(below, 40)),
            2 => Stray::Octets(HEADERS[size(below(9))].to_vec()),
            3 => Stray::Nested([15, 17, 1_000, 20_000][size(below(4))]),
            4 => Stray::Notice(NoticeForm::Standard),
            5 => Stray::Notice(NoticeForm::ActiveDirectory),
            6 => {
                const TAGS: [u8; 6] = [0x61, 0x64, 0x65, 0x73, 0x78, 0x79];
                Stray::Operation(TAGS[size(below(6))], by()[size(below(5))])
            }
            7 => Stray::Stranger(by()[size(below(5))]),
            8 => Stray::Reference,
            9 => Stray::Result { has_control: false },
            10 => Stray::Result { has_control: true },
            _ => Stray::Bound,
        }
    }

    fn octets(&self, id: u32) -> Vec<u8> {
        match self {
            Stray::Octets(octets) => octets.clone(),
            Stray::Nested(count) => hostile::nested_headers(*count),
            Stray::Notice(form) => notice(*form),
            Stray::Operation(tag, by) => hostile::message(id + by, *tag),
            Stray::Stranger(by) => hostile::entry(
                id + by,
                STRANGER.as_bytes(),
                &[("proxyAddresses", &["smtp:stranger@example.com"])],
            ),
            Stray::Reference => {
                let url = element(0x04, &[b"ldap://elsewhere.example/DC=elsewhere,DC=example"]);
                hostile::operation(id, 0x73, &url)
            }
            Stray::Result { has_control } => {
                let result = [number(0x0a, 0), element(0x04, &[]), element(0x04, &[])];
                let mut message = Message {
                    id,
                    tag: DONE,
                    content: result.concat(),
                    controls: Vec::new(),
                };
                if *has_control {
                    let value = [number(0x02, 0), element(0x04, &[])].concat();
                    let oid = b"1.2.840.113556.1.4.319".to_vec();
                    message.controls.push((oid, element(0x30, &[&value])));
                }
                message.write()
            }
            Stray::Bound => hostile::bind_success(id),
        }
    }
}

impl Message {
    /// Of a whole message of ours; of anything else, whatever comes of it.
    fn read(octets: &[u8]) -> Message {
        let mut parts = Reader(Reader(octets).read().unwrap_or_default().1);
        let id = parts.read_number().unwrap_or_default();
        let (tag, content) = parts.read().unwrap_or_default();
        let mut controls = Vec::new();
        let mut list = Reader(parts.read().unwrap_or_default().1);
        while let Some((_, control)) = list.read() {
            let mut parts = Reader(control);
            let (_, oid) = parts.read().unwrap_or_default();
            let (_, value) = parts.read().unwrap_or_default();
            controls.push((oid.to_vec(), value.to_vec()));
        }
        let content = content.to_vec();
        Message {
            id,
            tag,
            content,
            controls,
        }
    }

    fn write(&self) -> Vec<u8> {
        let controls: Vec<u8> = (self.controls.iter())
            .flat_map(|(oid, value)| {
                element(0x30, &[&element(0x04, &[oid]), &element(0x04, &[value])])
            })
            .collect();
        let controls = match controls.as_slice() {
            [] => Vec::new(),
            controls => element(CONTROLS, &[controls]),
        };
        let operation = element(self.tag, &[&self.content]);
        element(0x30, &[&number(0x02, self.id), &operation, &controls])
    }

    /// How many octets the cookie has, which stands at the end of a result.
    fn cookie_octets(&self) -> usize {
        let value = self.controls.first().map(|(_, value)| value.as_slice());
        cookie(value.unwrap_or_default()).len()
    }
}

fn split(mut octets: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((header_octets, content_octets)) = header(octets) {
        let (message, rest) = octets.split_at(header_octets + content_octets);
        messages.push(message.to_vec());
        octets = rest;
    }
    messages
}

fn edit(messages: &mut [Vec<u8>], at: u64, change: impl FnOnce(&mut Message)) {
    let at = place(at, messages.len());
    let mut message = Message::read(&messages[at]);
    change(&mut message);
    messages[at] = message.write();
}

fn edit_result(messages: &mut [Vec<u8>], change: impl FnOnce(&mut Message)) {
    if let Some(last) = messages.last_mut() {
        let mut message = Message::read(last);
        if message.tag == DONE {
            change(&mut message);
            *last = message.write();
        }
    }
}

fn flip(messages: &mut [Vec<u8>], at: u64, bits: u8, touched: &mut Vec<Vec<u8>>) {
    let total: usize = messages.iter().map(Vec::len).sum();
    let mut at = place(at, total);
    for message in messages {
        if at >= message.len() {
            at -= message.len();
            continue;
        }
        let parsed = Message::read(message);
        if parsed.tag != DONE || at < message.len() - parsed.cookie_octets() {
            touched.push(name(message));
            message[at] ^= bits;
        }
        return;
    }
}

/// The name of an entry; empty for everything else.
fn name(message: &[u8]) -> Vec<u8> {
    let message = Message::read(message);
    if message.tag != ENTRY {
        return Vec::new();
    }
    let name = Reader(&message.content).read();
    name.map_or_else(Vec::new, |(_, name)| name.to_vec())
}

fn add_attributes(message: &mut Message) {
    let mut parts = Reader(&message.content);
    if let (ENTRY, Some((_, dn)), Some((_, attributes))) = (message.tag, parts.read(), parts.read())
    {
        let value = element(0x31, &[&element(0x04, &[b"\xff\0smtp:x@example.com"])]);
        let more: Vec<u8> = [&b"mail"[..], b"member;range=0-0", b"x;y;z", b""]
            .iter()
            .flat_map(|name| element(0x30, &[&element(0x04, &[name]), &value]))
            .collect();
        message.content = [
            element(0x04, &[dn]),
            element(0x30, &[&more, attributes, &more]),
        ]
        .concat();
    }
}

/// The cookie in the value of a control: the last of its parts.
fn cookie(value: &[u8]) -> &[u8] {
    let mut parts = Reader(Reader(value).read().unwrap_or_default().1);
    let mut last: &[u8] = &[];
    while let Some((_, part)) = parts.read() {
        last = part;
    }
    last
}

fn with_cookie(value: &[u8], other: &[u8]) -> Vec<u8> {
    let parts = Reader(value).read().unwrap_or_default().1;
    let numbers = parts
        .len()
        .saturating_sub(element(0x04, &[cookie(value)]).len());
    element(0x30, &[&parts[..numbers], &element(0x04, &[other])])
}

fn with_number(value: &[u8], other: u32) -> Vec<u8> {
    let mut parts = Reader(Reader(value).read().unwrap_or_default().1);
    let _number = parts.read();
    element(0x30, &[&number(0x02, other), parts.0])
}

fn with_lengths(message: &[u8], octets: u8) -> Vec<u8> {
    let mut parts = Reader(Reader(message).read().unwrap_or_default().1);
    let (_, id) = parts.read().unwrap_or_default();
    let (tag, content) = parts.read().unwrap_or_default();
    let operation = with_length(tag, octets, content);
    let id = with_length(0x02, octets, id);
    with_length(0x30, octets, &[&id, &operation, parts.0].concat())
}

/// With as many octets as its length needs at least, unless the form is none that LDAP has.
fn with_length(tag: u8, octets: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let needed = length
        .iter()
        .skip_while(|octet| **octet == 0)
        .count()
        .max(1);
    let count = match size(octets.into()) {
        0 => 0,
        count => count.max(needed),
    };
    let mut out = vec![tag, 0x80 | u8::try_from(count).unwrap_or(0x7f)];
    out.extend(std::iter::repeat_n(0, count.saturating_sub(length.len())));
    out.extend(&length[length.len() - count.min(length.len())..]);
    out.extend(content);
    out
}

fn octets(below: &mut dyn FnMut(u64) -> u64, count_max: u64) -> Vec<u8> {
    let count = 1 + below(count_max);
    let octet = |_| u8::try_from(below(256)).unwrap_or(0);
    (0..count).map(octet).collect()
}

fn place(at: u64, length: usize) -> usize {
    size(at) % length.max(1)
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("64 bits")
}

fn small(number: u64) -> u32 {
    u32::try_from(number).expect("a small number")
}

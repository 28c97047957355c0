//! BER, as far as LDAP uses it: definite lengths, low tag numbers (RFC 4511 section 5.1, X.690).
//!
//! The LDAP crate's own parser recurses once per nesting level and believes every length, so a hostile or broken server
//! could overflow the stack or fill the memory. Here a whole message is walked with a loop and a bounded stack before
//! that parser sees it. Not here: what the elements mean (`message`).
//!
//! Invariant: nothing in this file recurses, and nothing allocates by a length that was only claimed.

/// `BOOLEAN`
pub const BOOLEAN: u8 = 0x01;
/// `INTEGER`
pub const INTEGER: u8 = 0x02;
/// `OCTET STRING`
pub const OCTET_STRING: u8 = 0x04;
/// `ENUMERATED`
pub const ENUMERATED: u8 = 0x0a;
/// `SEQUENCE`
pub const SEQUENCE: u8 = 0x30;
/// `SET`
pub const SET: u8 = 0x31;

/// Four octets say lengths up to 4 GiB, far beyond every frame that is accepted; Active Directory always writes four.
const LENGTH_OCTETS_MAX: u8 = 4;
const TAG_NUMBER_MASK: u8 = 0x1f;
const CONSTRUCTED: u8 = 0x20;

/// Why octets are not the BER that LDAP allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BerError {
    /// A tag number above 30, which LDAP does not have.
    #[error("a tag of the long form")]
    LongTag,
    /// RFC 4511 section 5.1 allows the definite form only.
    #[error("a length of the indefinite form")]
    IndefiniteLength,
    /// A length of lengths that no message needs.
    #[error("a length written with more than {LENGTH_OCTETS_MAX} octets")]
    WideLength,
    /// An element that ends behind the element around it, or before it where nothing else may follow.
    #[error("an element whose length does not fit what is around it")]
    Misfit,
    /// Deeper than the limit.
    #[error("elements nested deeper than {0} levels")]
    TooDeep(usize),
    /// More elements than the limit.
    #[error("more than {0} elements in one message")]
    TooManyElements(usize),
    /// Which of them counts, nobody can say.
    #[error("it is there twice")]
    Twice,
    /// Not the element that belongs here.
    #[error("no {0} where one belongs")]
    Missing(&'static str),
}

/// The tag and the length in front of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The identifier octet.
    pub tag: u8,
    /// How many octets tag and length take.
    pub header_octets: usize,
    /// How many octets the content takes.
    pub content_octets: usize,
}

impl Header {
    /// The element's whole length; the largest number when it has none that fits.
    pub fn total_octets(&self) -> usize {
        self.header_octets.saturating_add(self.content_octets)
    }
}

/// Bounds of one message.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Levels of constructed elements.
    pub depth_max: usize,
    /// Elements of any kind.
    pub elements_max: usize,
}

/// One element inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'bytes> {
    /// The identifier octet.
    pub tag: u8,
    /// What it holds.
    pub content: &'bytes [u8],
    /// Where the content begins, counted as [`Elements::of`] was told.
    pub content_at: usize,
}

impl<'bytes> Element<'bytes> {
    /// The elements it holds.
    pub fn elements(&self) -> Elements<'bytes> {
        Elements::of(self.content, self.content_at)
    }
}

/// The elements of one level, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'bytes> {
    rest: &'bytes [u8],
    rest_at: usize,
}

impl<'bytes> Elements<'bytes> {
    /// Reads the elements in `content`, which begins at offset `content_at` of something larger.
    pub fn of(content: &'bytes [u8], content_at: usize) -> Self {
        Elements {
            rest: content,
            rest_at: content_at,
        }
    }

    /// Whether all were read.
    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, or `None` when all were read.
    pub fn read(&mut self) -> Result<Option<Element<'bytes>>, BerError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let header = header(self.rest)?.ok_or(BerError::Misfit)?;
        let (element, rest) = self
            .rest
            .split_at_checked(header.total_octets())
            .ok_or(BerError::Misfit)?;
        let content = &element[header.header_octets..];
        let content_at = self.rest_at + header.header_octets;
        self.rest = rest;
        self.rest_at = content_at + header.content_octets;
        Ok(Some(Element {
            tag: header.tag,
            content,
            content_at,
        }))
    }

    /// The next element, which must have this tag.
    pub fn expect(&mut self, tag: u8, name: &'static str) -> Result<Element<'bytes>, BerError> {
        match self.read()? {
            Some(element) if element.tag == tag => Ok(element),
            Some(_) | None => Err(BerError::Missing(name)),
        }
    }
}

/// Writes an element.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => bytes.push(short),
        Ok(_) | Err(_) => {
            let zeros = length.iter().take_while(|octet| **octet == 0).count();
            let octets = &length[zeros..];
            // At most eight octets say how long a slice is.
            bytes.push(0x80 | u8::try_from(octets.len()).unwrap_or(8));
            bytes.extend(octets);
        }
    }
    bytes.extend(content);
    bytes
}

/// Reads the header at the beginning of `bytes`; `None` means that more octets are needed.
pub fn header(bytes: &[u8]) -> Result<Option<Header>, BerError> {
    let Some((&tag, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    // The LDAP crate reads a long tag as a short one and goes astray.
    if tag & TAG_NUMBER_MASK == TAG_NUMBER_MASK {
        return Err(BerError::LongTag);
    }
    let Some((&first, rest)) = rest.split_first() else {
        return Ok(None);
    };
    if first < 0x80 {
        return Ok(Some(Header {
            tag,
            header_octets: 2,
            content_octets: usize::from(first),
        }));
    }
    let count = first & 0x7f;
    if count == 0 {
        return Err(BerError::IndefiniteLength);
    }
    if count > LENGTH_OCTETS_MAX {
        return Err(BerError::WideLength);
    }
    let Some(octets) = rest.get(..usize::from(count)) else {
        return Ok(None);
    };
    let content_octets = octets
        .iter()
        .fold(0, |length, octet| length << 8 | usize::from(*octet));
    Ok(Some(Header {
        tag,
        header_octets: 2 + usize::from(count),
        content_octets,
    }))
}

/// Walks a whole message: `frame` is exactly one element, and at every level the elements fill exactly what is around
/// them.
pub fn check_frame(frame: &[u8], limits: &Limits) -> Result<(), BerError> {
    let whole = header(frame)?.ok_or(BerError::Misfit)?;
    if whole.total_octets() != frame.len() {
        return Err(BerError::Misfit);
    }
    // Where the constructed elements end that the walk is inside of, the outermost first.
    let mut open_ends: Vec<usize> = Vec::with_capacity(limits.depth_max);
    let mut at = 0;
    let mut elements_count = 0;
    while at < frame.len() {
        while open_ends.last() == Some(&at) {
            open_ends.pop();
        }
        let outer_end = open_ends.last().copied().unwrap_or(frame.len());
        let header = header(&frame[at..outer_end])?.ok_or(BerError::Misfit)?;
        elements_count += 1;
        if elements_count > limits.elements_max {
            return Err(BerError::TooManyElements(limits.elements_max));
        }
        if header.total_octets() > outer_end - at {
            return Err(BerError::Misfit);
        }
        if header.tag & CONSTRUCTED == 0 {
            at += header.total_octets();
            continue;
        }
        if open_ends.len() == limits.depth_max {
            return Err(BerError::TooDeep(limits.depth_max));
        }
        open_ends.push(at + header.total_octets());
        at += header.header_octets;
    }
    Ok(())
}

/// The value of an `INTEGER` or `ENUMERATED` that is not negative and fits 31 bits, as all of LDAP's do.
pub fn small_number(content: &[u8]) -> Result<u32, BerError> {
    let (&first, _) = content.split_first().ok_or(BerError::Missing("number"))?;
    if first >= 0x80 || content.len() > 4 {
        return Err(BerError::Missing("number from 0 to 2147483647"));
    }
    Ok(content
        .iter()
        .fold(0, |number, octet| number << 8 | u32::from(*octet)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        depth_max: 4,
        elements_max: 8,
    };

    #[track_caller]
    fn check(frame: &[u8], expected: Result<(), BerError>) {
        assert_eq!(check_frame(frame, &LIMITS), expected);
    }

    #[test]
    fn a_frame_fits_at_every_level() {
        check(&[0x30, 0x00], Ok(()));
        check(&[0x30, 0x03, 0x02, 0x01, 0x07], Ok(()));
        check(&[0x30, 0x04, 0x30, 0x00, 0x30, 0x00], Ok(()));
        // Active Directory writes every length with four octets.
        check(&[0x30, 0x84, 0, 0, 0, 7, 0x02, 0x84, 0, 0, 0, 1, 7], Ok(()));
        check(&[], Err(BerError::Misfit));
        check(&[0x30], Err(BerError::Misfit));
        check(&[0x30, 0x01, 0x02], Err(BerError::Misfit));
        check(&[0x30, 0x03, 0x02, 0x02, 0x07], Err(BerError::Misfit));
        check(
            &[0x30, 0x05, 0x30, 0x02, 0x02, 0x01, 0x07],
            Err(BerError::Misfit),
        );
        check(&[0x30, 0x00, 0x00], Err(BerError::Misfit));
        check(&[0x30, 0x80, 0x00, 0x00], Err(BerError::IndefiniteLength));
        check(
            &[0x30, 0x85, 0, 0, 0, 0, 1, 0x05],
            Err(BerError::WideLength),
        );
        check(&[0x30, 0xff, 0x00], Err(BerError::WideLength));
        check(&[0x3f, 0x10, 0x00], Err(BerError::LongTag));
        check(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], Err(BerError::Misfit));
        check(
            &[0x30, 8, 0x30, 6, 0x30, 4, 0x30, 2, 0x30, 0],
            Err(BerError::TooDeep(4)),
        );
        check(&[0x30, 6, 0x30, 4, 0x30, 2, 0x30, 0], Ok(()));
        let mut many = vec![0x30, 16];
        many.extend([0x05, 0x00].repeat(8));
        check(&many, Err(BerError::TooManyElements(8)));
    }

    #[test]
    fn a_header_waits_for_its_octets() {
        let header_of = |bytes: &[u8]| header(bytes).map(|header| header.map(|h| h.total_octets()));
        assert_eq!(header_of(&[]), Ok(None));
        assert_eq!(header_of(&[0x30]), Ok(None));
        assert_eq!(header_of(&[0x30, 0x84, 0, 0]), Ok(None));
        assert_eq!(header_of(&[0x30, 0x84, 0, 1, 0, 0]), Ok(Some(65_542)));
        assert_eq!(header_of(&[0x30, 0x05]), Ok(Some(7)));
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let bytes = element(OCTET_STRING, &vec![7; length]);
            let header = header(&bytes).expect("a header").expect("whole");
            assert_eq!(header.content_octets, length);
            check(&bytes, Ok(()));
        }
    }

    #[test]
    fn numbers_are_small_and_not_negative() {
        assert_eq!(small_number(&[0x31]), Ok(49));
        assert_eq!(small_number(&[0, 0, 0, 4]), Ok(4));
        assert_eq!(small_number(&[0x7f, 0xff, 0xff, 0xff]), Ok(0x7fff_ffff));
        assert!(small_number(&[]).is_err());
        assert!(small_number(&[0xff]).is_err());
        assert!(small_number(&[0, 0, 0, 0, 1]).is_err());
    }

    /// Random octets and every cut of a good frame: an answer always, a panic never.
    #[test]
    fn garbage_is_refused_calmly() {
        let good = [
            0x30, 12, 0x02, 1, 7, 0x64, 7, 0x04, 1, b'x', 0x30, 2, 0x05, 0,
        ];
        check(&good, Ok(()));
        for cut in 0..good.len() {
            assert!(check_frame(&good[..cut], &LIMITS).is_err(), "cut at {cut}");
        }
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for length in (0..64).cycle().take(200_000) {
            let bytes: Vec<u8> = (0..length)
                .map(|at| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    // Mostly octets that look like structure, so that the walk gets somewhere.
                    let structural = [0x30, 0x02, 0x04, 0x84, 0x01, 0x00, 0x0a, 0x64];
                    match (state.to_le_bytes()[0], at) {
                        (_, 0) => 0x30,
                        (octet, _) if octet < 200 => structural[usize::from(octet % 8)],
                        (octet, _) => octet,
                    }
                })
                .collect();
            let checked = check_frame(&bytes, &LIMITS);
            let mut elements = Elements::of(&bytes, 0);
            let read = elements.read();
            assert!(
                checked.is_err() || read.is_ok(),
                "{bytes:02x?}: {checked:?} {read:?}"
            );
        }
    }
}

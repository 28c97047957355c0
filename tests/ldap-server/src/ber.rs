//! As much BER as the server needs: writing with lengths as Active Directory writes them, reading requests.
//!
//! Written on its own, so that a mistake in the program's reader is not repeated here.

/// One element; every length takes four octets, as with Active Directory.
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(content_bytes).expect("test data is below 4 GiB");
    let mut out = Vec::with_capacity(content_bytes + 6);
    out.push(tag);
    out.push(0x84);
    out.extend(length.to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// An `INTEGER` or `ENUMERATED`.
pub fn number(tag: u8, value: u32) -> Vec<u8> {
    let octets = value.to_be_bytes();
    let first = octets.iter().position(|octet| *octet != 0).unwrap_or(3);
    let mut content = octets[first..].to_vec();
    if content[0] >= 0x80 {
        content.insert(0, 0);
    }
    element(tag, &[&content])
}

/// Reads elements; `None` where there is none, or a broken one.
#[derive(Clone, Copy)]
pub struct Reader<'bytes>(pub &'bytes [u8]);

impl<'bytes> Reader<'bytes> {
    /// The next element's tag and content.
    pub fn read(&mut self) -> Option<(u8, &'bytes [u8])> {
        let (header_octets, content_octets) = header(self.0)?;
        let tag = *self.0.first()?;
        let element = self.0.get(..header_octets + content_octets)?;
        self.0 = &self.0[element.len()..];
        Some((tag, &element[header_octets..]))
    }

    /// The next element's content as a number.
    pub fn read_number(&mut self) -> Option<u32> {
        let (_, content) = self.read()?;
        Some(
            content
                .iter()
                .fold(0, |number, octet| number << 8 | u32::from(*octet)),
        )
    }

    /// The next element's content as text.
    pub fn read_text(&mut self) -> Option<String> {
        let (_, content) = self.read()?;
        Some(String::from_utf8_lossy(content).into_owned())
    }
}

/// Octets of the header, octets of the content; `None` when more is needed.
pub fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.get(1)?;
    if first < 0x80 {
        return Some((2, usize::from(first)));
    }
    let count = usize::from(first & 0x7f);
    let octets = bytes.get(2..2 + count)?;
    let length = octets
        .iter()
        .fold(0, |length, octet| length << 8 | usize::from(*octet));
    Some((2 + count, length))
}

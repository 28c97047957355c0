//! What postmap builds (`hash`, `btree`, `lmdb`), as far as we look into it: which keys it holds, by which octets a file of
//! each type is known, and whether the end of one is missing. Building, reading and proving are postmap's and
//! `publish::built`'s.

use crate::config::{Format, MapType};
use crate::table::format::text;

/// Longer keys are refused by LMDB: 511 octets, one of them the NUL that Postfix puts behind a key.
const LMDB_KEY_OCTETS_MAX: usize = 510;

/// Whether a table that is built in this format holds a key: the text that it is built from must be able to say it.
pub fn can_say(format: Format, key: &[u8]) -> bool {
    text::can_say(key) && (format != Format::Lmdb || key.len() <= LMDB_KEY_OCTETS_MAX)
}

/// The type of a file, by the number that stands near its beginning, in either order of octets.
pub fn map_type(file: &[u8]) -> Option<MapType> {
    let number_at = |at: usize| -> Option<[u8; 4]> { file.get(at..at + 4)?.try_into().ok() };
    let is_at = |at: usize, magic: u32| {
        let number = number_at(at);
        number == Some(magic.to_le_bytes()) || number == Some(magic.to_be_bytes())
    };
    if is_at(12, 0x0006_1561) {
        Some(MapType::Hash)
    } else if is_at(12, 0x0005_3162) {
        Some(MapType::Btree)
    } else if is_at(16, 0xBEEF_C0DE) || is_at(12, 0xBEEF_C0DE) {
        // Behind the head of a page, which is shorter where words have 32 bits.
        Some(MapType::Lmdb)
    } else {
        None
    }
}

/// Whether a file of Berkeley DB is shorter than it says. postmap lists such a one with exit status 0, without the rows that
/// are missing.
pub fn is_cut(file: &[u8]) -> bool {
    let number_at = |at: usize| -> Option<[u8; 4]> { file.get(at..at + 4)?.try_into().ok() };
    let octets_meant = || {
        let is_little = u32::from_le_bytes(number_at(12)?) < 0x0010_0000;
        let number = |at: usize| {
            let number = number_at(at)?;
            Some(u64::from(if is_little {
                u32::from_le_bytes(number)
            } else {
                u32::from_be_bytes(number)
            }))
        };
        let (page_octets, last_page) = (number(20)?, number(32)?);
        page_octets.checked_mul(last_page + 1)
    };
    octets_meant().is_none_or(|octets| (file.len() as u64) < octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_number() {
        let file = |at: usize, magic: u32| {
            let mut file = vec![0; 64];
            file[at..at + 4].copy_from_slice(&magic.to_le_bytes());
            file
        };
        for (file, expected) in [
            (file(12, 0x0006_1561), Some(MapType::Hash)),
            (file(12, 0x6115_0600), Some(MapType::Hash)),
            (file(12, 0x0005_3162), Some(MapType::Btree)),
            (file(16, 0xBEEF_C0DE), Some(MapType::Lmdb)),
            (file(12, 0xBEEF_C0DE), Some(MapType::Lmdb)),
            (file(0, 0x0006_1561), None),
            (file(16, 0x0006_1561), None),
            (Vec::new(), None),
            (b"garbage of fourteen".to_vec(), None),
        ] {
            assert_eq!(map_type(&file), expected, "{file:?}");
        }
    }

    #[test]
    fn a_file_without_its_last_page_is_cut() {
        for (is_little, length, expected) in [
            (true, 3 * 512, false),
            (true, 3 * 512 + 1, false),
            (true, 3 * 512 - 1, true),
            (true, 40, true),
            (true, 20, true),
            (false, 3 * 512, false),
            (false, 3 * 512 - 1, true),
        ] {
            let mut file = vec![0; 2048];
            for (at, number) in [(12, 0x0006_1561_u32), (20, 512), (32, 2)] {
                let octets = if is_little {
                    number.to_le_bytes()
                } else {
                    number.to_be_bytes()
                };
                file[at..at + 4].copy_from_slice(&octets);
            }
            file.truncate(length);
            assert_eq!(is_cut(&file), expected, "{is_little} {length}");
        }
    }

    #[test]
    fn a_key_too_long_for_lmdb_is_in_the_others() {
        let key = |octets: usize| [vec![b'a'; octets - 2], b"@x".to_vec()].concat();
        for (format, octets, expected) in [
            (Format::Hash, 2000, true),
            (Format::Btree, 2000, true),
            (Format::Lmdb, 510, true),
            (Format::Lmdb, 511, false),
        ] {
            assert_eq!(
                can_say(format, &key(octets)),
                expected,
                "{format:?} {octets}"
            );
        }
        assert!(!can_say(Format::Hash, b"#a@x"));
    }
}

//! Numbers in as few octets as they need (LEB128): seven bits an octet, the lowest first, each octet but the last with its
//! high bit set. Records and rows are full of small numbers.

/// Appends a number.
pub fn push(octets: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        octets.push(number as u8 | 0x80);
        number >>= 7;
    }
    octets.push(number as u8);
}

/// How many octets a number takes.
pub fn octets_of(number: u64) -> usize {
    let bits = u64::BITS - number.leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

/// Takes the number off that `rest` begins with; `None` where there is no whole one, or one of more than 64 bits.
#[inline]
pub fn take(rest: &mut &[u8]) -> Option<u64> {
    let (first, behind) = rest.split_first()?;
    if *first < 0x80 {
        *rest = behind;
        return Some(u64::from(*first));
    }
    take_long(rest)
}

fn take_long(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let octet = *rest.split_off_first()?;
        let bits = u64::from(octet & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if octet < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        let numbers = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, u64::MAX >> bit]);
        for number in numbers {
            let mut octets = Vec::new();
            push(&mut octets, number);
            assert_eq!(octets.len(), octets_of(number), "{number}");
            for length in 0..octets.len() {
                assert_eq!(
                    take(&mut &octets[..length]),
                    None,
                    "{number} cut at {length}"
                );
            }
            octets.push(7);
            let mut rest = octets.as_slice();
            assert_eq!((take(&mut rest), rest), (Some(number), [7].as_slice()));
        }
        let too_large = [[0xff; 9].as_slice(), &[0x02]].concat();
        assert_eq!(take(&mut too_large.as_slice()), None);
    }
}

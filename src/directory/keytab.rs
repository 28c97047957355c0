//! The format of a keytab (version 5.2, as MIT Kerberos, Samba and `ktpass` write it). Pure.
//!
//! Not here: which of the keys is used (`gssapi`), and who may read the file (`config::secret`).

/// A key of a principal. It does not show itself: no `Debug`.
pub struct Entry {
    /// Its name with its realm.
    pub principal: String,
    /// The version of the key (kvno).
    pub version: u32,
    /// RFC 3961: 17 and 18 are AES, 23 is RC4.
    pub encryption_type: i32,
    /// The key itself.
    pub key: Vec<u8>,
}

/// Why octets are no keytab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeytabError {
    /// Another file, or a version of the last century.
    #[error("it does not begin with 05 02")]
    Version,
    /// Ends within an entry.
    #[error("it is cut or damaged")]
    Damaged,
}

const VERSION: [u8; 2] = [5, 2];

/// Reads all keys.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, KeytabError> {
    let mut rest = bytes.strip_prefix(&VERSION).ok_or(KeytabError::Version)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let length = i32::from_be_bytes(array(&mut rest)?);
        // A negative length is a hole that a removed entry left; zero ends the file.
        let octets = usize::try_from(length.unsigned_abs()).map_err(|_| KeytabError::Damaged)?;
        let entry = take(&mut rest, octets)?;
        if length == 0 {
            break;
        }
        if length > 0 {
            entries.push(read_entry(entry)?);
        }
    }
    Ok(entries)
}

fn read_entry(mut rest: &[u8]) -> Result<Entry, KeytabError> {
    let rest = &mut rest;
    let components_count = u16::from_be_bytes(array(rest)?);
    let realm = text(rest)?;
    let mut components = Vec::new();
    for _ in 0..components_count {
        components.push(text(rest)?);
    }
    let _name_type = array::<4>(rest)?;
    let _written = array::<4>(rest)?;
    let [short_version] = array(rest)?;
    let encryption_type = i32::from(u16::from_be_bytes(array(rest)?));
    let key_octets = usize::from(u16::from_be_bytes(array(rest)?));
    let key = take(rest, key_octets)?.to_vec();
    // Later writers append the version in full, because one octet overflows.
    let version = match array(rest) {
        Ok(version) if version != [0; 4] => u32::from_be_bytes(version),
        Ok(_) | Err(_) => u32::from(short_version),
    };
    Ok(Entry {
        principal: format!("{}@{realm}", components.join("/")),
        version,
        encryption_type,
        key,
    })
}

/// Whose keys these are, for a message.
pub fn principals(entries: &[Entry]) -> String {
    let mut names: Vec<&str> = entries
        .iter()
        .map(|entry| entry.principal.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}

fn take<'bytes>(rest: &mut &'bytes [u8], octets: usize) -> Result<&'bytes [u8], KeytabError> {
    let (taken, behind) = rest.split_at_checked(octets).ok_or(KeytabError::Damaged)?;
    *rest = behind;
    Ok(taken)
}

fn array<const OCTETS: usize>(rest: &mut &[u8]) -> Result<[u8; OCTETS], KeytabError> {
    let taken = take(rest, OCTETS)?;
    taken.try_into().map_err(|_| KeytabError::Damaged)
}

fn text(rest: &mut &[u8]) -> Result<String, KeytabError> {
    let octets = usize::from(u16::from_be_bytes(array(rest)?));
    let text = take(rest, octets)?.to_vec();
    String::from_utf8(text).map_err(|_| KeytabError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Vec<u8> {
        let length = u16::try_from(text.len()).expect("short").to_be_bytes();
        [&length, text.as_bytes()].concat()
    }

    fn entry(name: &[&str], version: &[u8], key: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, u8::try_from(name.len()).expect("few")];
        bytes.extend(counted("CORP.EXAMPLE"));
        for component in name {
            bytes.extend(counted(component));
        }
        bytes.extend([0, 0, 0, 1, 1, 2, 3, 4, 2, 0, 18]);
        bytes.extend(u16::try_from(key.len()).expect("short").to_be_bytes());
        bytes.extend([key, version].concat());
        let length = i32::try_from(bytes.len()).expect("short").to_be_bytes();
        [&length, bytes.as_slice()].concat()
    }

    fn keytab(parts: &[&[u8]]) -> Vec<u8> {
        [&VERSION, parts.concat().as_slice()].concat()
    }

    #[test]
    fn keys_are_read_and_holes_are_not() {
        let hole = [0xff, 0xff, 0xff, 0xfd, 1, 2, 3];
        let bytes = keytab(&[
            &entry(&["rcptsync"], &[], &[7; 32]),
            &hole,
            &entry(&["ldap", "dc1"], &[0, 0, 1, 4], &[8; 32]),
            &entry(&["old"], &[0, 0, 0, 0], &[9; 32]),
        ]);
        let entries = read(&bytes).expect("a keytab");
        let told: Vec<_> = entries
            .iter()
            .map(|entry| (entry.principal.as_str(), entry.version, entry.key[0]))
            .collect();
        assert_eq!(
            told,
            [
                ("rcptsync@CORP.EXAMPLE", 2, 7),
                ("ldap/dc1@CORP.EXAMPLE", 260, 8),
                ("old@CORP.EXAMPLE", 2, 9),
            ]
        );
        assert!(entries.iter().all(|entry| entry.encryption_type == 18));
        assert_eq!(
            principals(&entries),
            "ldap/dc1@CORP.EXAMPLE, old@CORP.EXAMPLE, rcptsync@CORP.EXAMPLE"
        );
        assert!(read(&keytab(&[])).is_ok_and(|entries| entries.is_empty()));
    }

    #[test]
    fn damage_is_told_calmly() {
        assert_eq!(read(b"").err(), Some(KeytabError::Version));
        assert_eq!(read(b"\x05\x01").err(), Some(KeytabError::Version));
        let good = keytab(&[&entry(&["rcptsync"], &[0, 0, 0, 2], &[7; 32])]);
        for cut in VERSION.len() + 1..good.len() {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in VERSION.len()..good.len() {
            for octet in 0..=u8::MAX {
                let mut changed = good.clone();
                changed[at] = octet;
                let _ = read(&changed);
            }
        }
        let endless = keytab(&[&[0x80, 0, 0, 0]]);
        assert_eq!(read(&endless).err(), Some(KeytabError::Damaged));
    }
}

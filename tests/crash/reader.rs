//! What a gateway finds in the files of tables: real Postfix looks a recipient up in each, and lists what else tells no octets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use rcptsync::state::digest;

use crate::common::postfix::Instance;

/// Somebody who is in every table of every scene, before and after.
pub const EVERYWHERE: &str = "person1@example.com";

/// Asks Postfix, and no question about the same octets twice.
pub struct Reader {
    pub instance: Instance,
    known: RefCell<HashMap<(String, String), Vec<u8>>>,
}

impl Reader {
    pub fn new() -> Reader {
        Reader {
            instance: Instance::for_postmap(true),
            known: RefCell::default(),
        }
    }

    /// What a table says: its octets, or for Berkeley DB, whose octets are others each time, its rows. Fails where Postfix
    /// does not find in it who is everywhere.
    #[track_caller]
    pub fn read(&self, path: &Path, map_type: Option<&str>, what: &str) -> Option<Vec<u8>> {
        let octets = std::fs::read(path).ok()?;
        let Some(map_type) = map_type else {
            return Some(octets);
        };
        let name = (map_type.to_owned(), digest(&octets));
        if let Some(said) = self.known.borrow().get(&name) {
            return Some(said.clone());
        }
        let suffix = path.extension().map_or(0, |suffix| suffix.len() + 1);
        let path = path.display().to_string();
        let map = format!("{map_type}:{}", &path[..path.len() - suffix]);
        let found = self.instance.postmap(&["-q", EVERYWHERE, &map]);
        assert!(
            found.stdout == b"OK\n" && found.status.success(),
            "{what}: Postfix does not load {path}: {}",
            String::from_utf8_lossy(&found.stderr)
        );
        let said = match map_type {
            "hash" => {
                let listed = self.instance.postmap(&["-s", &map]);
                assert!(listed.status.success(), "{what}: {path}");
                let mut rows: Vec<&[u8]> = listed.stdout.split(|octet| *octet == b'\n').collect();
                rows.sort_unstable();
                rows.join(&b'\n')
            }
            _ => octets,
        };
        self.known.borrow_mut().insert(name, said.clone());
        Some(said)
    }
}

//! One directory object as received: its DN and its attributes, nothing interpreted.
//!
//! Made by the LDAP reader and by the LDIF reader alike, so that everything after them is the same for both.
//! Attribute names are compared without case (RFC 4512 section 2.5); a name with an option (`;range=0-1499`) is another
//! name here, and both readers see to it that no such name is left when they hand an entry on.

/// An object with the attributes that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The distinguished name, as the directory wrote it.
    pub dn: String,
    /// Attribute names and values in the order received. Values are bytes: `objectGUID` is not text.
    pub attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// All values of one attribute; empty when it is absent.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.attributes
            .iter()
            .filter(move |(attribute, _)| attribute.eq_ignore_ascii_case(name))
            .flat_map(|(_, values)| values.iter().map(Vec::as_slice))
    }
}

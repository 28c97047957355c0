//! One directory object as received: its DN and its attributes, nothing interpreted.
//!
//! Made by the LDAP reader and by the LDIF reader alike, so that everything after them is the same for both. An entry
//! keeps all it has in three buffers, which the next one can take over ([`Entry::begin`]): a directory has millions of them.
//! Attribute names are compared without case (RFC 4512 section 2.5); a name with an option (`;range=0-1499`) is another
//! name here, and both readers see to it that no such name is left when they hand an entry on.
//!
//! Invariant: `parts` divides all that stands behind the DN in `text`, and all of `octets`, without a gap.

/// An object with the attributes that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The DN, then the names.
    text: String,
    dn_bytes: usize,
    /// The values. They are no text: `objectGUID` is not.
    octets: Vec<u8>,
    /// In the order received: a name, then the values that belong to it.
    parts: Vec<Part>,
}

/// Where a name or a value ends; it begins where the one of its kind before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Name { text_end: usize },
    Value { octets_end: usize },
}

impl Entry {
    /// An object without attributes so far.
    pub fn named(dn: &str) -> Entry {
        let mut entry = Entry::default();
        entry.begin(dn);
        entry
    }

    /// Becomes another object, without attributes so far.
    pub fn begin(&mut self, dn: &str) {
        self.text.clear();
        self.text.push_str(dn);
        self.dn_bytes = dn.len();
        self.octets.clear();
        self.parts.clear();
    }

    /// Adds an attribute; the values that are added next are its own. The same name may be added again.
    pub fn add_name(&mut self, name: &str) {
        self.text.push_str(name);
        let text_end = self.text.len();
        self.parts.push(Part::Name { text_end });
    }

    /// Adds a value to the attribute that was added last.
    pub fn add_value(&mut self, value: &[u8]) {
        self.octets.extend_from_slice(value);
        let octets_end = self.octets.len();
        self.parts.push(Part::Value { octets_end });
    }

    /// The distinguished name, as the directory wrote it.
    pub fn dn(&self) -> &str {
        &self.text[..self.dn_bytes]
    }

    /// All values of one attribute; empty when it is absent.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let mut is_wanted = false;
        self.parts().filter_map(move |part| match part {
            (found, None) => {
                is_wanted = found.eq_ignore_ascii_case(name);
                None
            }
            (_, value) => value.filter(|_| is_wanted),
        })
    }

    /// The attributes by their names, as often as they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts()
            .filter_map(|(name, value)| value.is_none().then_some(name))
    }

    /// The same object with those attributes alone whose names are let through.
    pub fn only(&self, is_wanted: impl Fn(&str) -> bool) -> Entry {
        let mut kept = Entry::named(self.dn());
        for (name, value) in self.parts().filter(|(name, _)| is_wanted(name)) {
            match value {
                None => kept.add_name(name),
                Some(value) => kept.add_value(value),
            }
        }
        kept
    }

    /// How many values there are, of all attributes.
    pub fn values_count(&self) -> usize {
        self.parts.len() - self.names().count()
    }

    /// How many bytes DN, names and values have together.
    pub fn bytes_count(&self) -> usize {
        self.text.len() + self.octets.len()
    }

    /// Names and values in the order received: a name alone, then its values with it.
    fn parts(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let (mut name, mut text_from, mut octets_from) = ("", self.dn_bytes, 0);
        self.parts.iter().map(move |part| match *part {
            Part::Name { text_end } => {
                name = &self.text[text_from..text_end];
                text_from = text_end;
                (name, None)
            }
            Part::Value { octets_end } => {
                let value = &self.octets[octets_from..octets_end];
                octets_from = octets_end;
                (name, Some(value))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entry: &Entry, name: &str, expected: &[&[u8]]) {
        let found: Vec<&[u8]> = entry.values(name).collect();
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn values_are_found_by_any_spelling_of_their_name() {
        let mut entry = Entry::named("CN=Jörg");
        check(&entry, "mail", &[]);
        entry.add_name("mail");
        entry.add_value(b"j@x");
        entry.add_name("empty");
        entry.add_name("objectGUID");
        entry.add_value(&[0xff, 0]);
        entry.add_value(b"");
        entry.add_name("MAIL");
        entry.add_value(b"k@x");
        assert_eq!(entry.dn(), "CN=Jörg");
        check(&entry, "Mail", &[b"j@x", b"k@x"]);
        check(&entry, "objectguid", &[&[0xff, 0], b""]);
        check(&entry, "empty", &[]);
        check(&entry, "", &[]);
        check(&entry, "CN=Jörg", &[]);
        let names: Vec<&str> = entry.names().collect();
        assert_eq!(names, ["mail", "empty", "objectGUID", "MAIL"]);
        assert_eq!((entry.values_count(), entry.bytes_count()), (4, 8 + 23 + 8));
        // Nothing is left of it in the next.
        entry.begin("CN=a");
        assert_eq!(entry, Entry::named("CN=a"));
    }
}

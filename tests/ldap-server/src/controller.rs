//! A controller of Active Directory: its root DSE, its changes and their numbers, and DirSync.
//!
//! Every change has the next number. The rounds of DirSync give the entries that changed after the number in the cookie, in
//! the order of their last change: of each the attributes that changed and were asked for, with all their values or with
//! none, and always its GUID. The filter sees the present state alone. Moving an entry changes nothing below it. Deletions
//! are told only where the account may see them. All this as measured with Samba and as Microsoft describes it.

use crate::ber::{element, number};
use crate::filter::Filter;
use crate::{DIR_SYNC, Directory, Object};

/// The controller's own object.
const SERVICE: &str = "CN=NTDS Settings,CN=DC1,CN=Servers,CN=Site,CN=Sites,CN=Configuration";

const SUPPORTED_CONTROLS: [&str; 3] = [
    "1.2.840.113556.1.4.319",
    "1.2.840.113556.1.4.417",
    "1.2.840.113556.1.4.841",
];

/// The container of the deleted: its name in every domain, and its GUID here.
const DELETED_WELL_KNOWN: &str = "18E2EA80684F11D2B9AA00C04F79F805";
const DELETED_GUID: [u8; 16] = [0xde; 16];

/// The GUID of the naming context, which is no entry here.
const BASE_GUID: [u8; 16] = [0x0c; 16];

/// What a cookie begins with.
const COOKIE: &[u8; 4] = b"MSDS";

/// The cookie is not one of ours.
const UNAVAILABLE_CRITICAL_EXTENSION: u32 = 12;

/// One round of DirSync.
pub(crate) struct Round {
    pub(crate) entries: Vec<Object>,
    pub(crate) has_more: bool,
    pub(crate) cookie: Vec<u8>,
}

/// The value of the control of an answer.
pub(crate) fn control_value(has_more: bool, cookie: &[u8]) -> Vec<u8> {
    let has_more = number(0x02, u32::from(has_more));
    element(
        0x30,
        &[&has_more, &number(0x02, 0), &element(0x04, &[cookie])],
    )
}

/// Where a cookie leads.
struct Position {
    /// What the client knew when the first of the rounds began; `None`: nothing.
    since: Option<u64>,
    /// Told so far: all entries before this number of a change ...
    reached: u64,
    /// ... and those with exactly this number that lie before this place among all.
    place: u64,
}

impl Position {
    fn read(cookie: &[u8], directory: &Directory) -> Result<Position, u32> {
        let beginning = Position {
            since: None,
            reached: 0,
            place: 0,
        };
        if cookie.is_empty() {
            return Ok(beginning);
        }
        if let Some(code) = directory.evicted {
            return Err(code);
        }
        let rest = cookie.strip_prefix(COOKIE);
        let (id, numbers) = rest
            .filter(|rest| rest.len() == 16 + 3 * 8)
            .ok_or(UNAVAILABLE_CRITICAL_EXTENSION)?
            .split_at(16);
        if id != directory.invocation_id {
            // The numbers of another controller, or of this one before it was restored, say nothing here.
            return Ok(beginning);
        }
        let number = |at: usize| {
            let octets = numbers.iter().skip(8 * at).take(8);
            octets.fold(0, |number, octet| number << 8 | u64::from(*octet))
        };
        Ok(Position {
            since: number(0).checked_sub(1),
            reached: number(1),
            place: number(2),
        })
    }

    fn write(&self, directory: &Directory) -> Vec<u8> {
        let since = self.since.map_or(0, |since| since + 1);
        let numbers = [since, self.reached, self.place].map(u64::to_be_bytes);
        [
            COOKIE.as_slice(),
            &directory.invocation_id,
            &numbers.concat(),
        ]
        .concat()
    }
}

/// The next round after a cookie, or the code that refuses it.
pub(crate) fn round(
    directory: &Directory,
    cookie: &[u8],
    filter: &Filter,
    wanted: &[String],
) -> Result<Round, u32> {
    let usn = directory.usn.filter(|_| !directory.lacks_dir_sync);
    let usn = usn.ok_or(UNAVAILABLE_CRITICAL_EXTENSION)?;
    let mut position = Position::read(cookie, directory)?;
    let places = directory.objects.iter().zip(0..);
    let mut waiting: Vec<(u64, u64, &Object)> = places
        .map(|(object, place)| (object.changed_at(), place, object))
        .filter(|(number, place, _)| (*number, *place) >= (position.reached, position.place))
        .collect();
    waiting.sort_by_key(|(number, place, _)| (*number, *place));
    let mut entries = Vec::new();
    let mut has_more = false;
    for (number, place, object) in waiting {
        let is_seen = !object.is_deleted || directory.sees_deletions;
        let told = (is_seen && filter.matches(object))
            .then(|| directory.told(object, position.since, wanted))
            .flatten();
        has_more = told.is_some() && directory.dir_sync_round == Some(entries.len());
        if has_more {
            break;
        }
        entries.extend(told);
        (position.reached, position.place) = (number, place + 1);
    }
    if !has_more {
        position = Position {
            since: Some(usn),
            reached: usn + 1,
            place: 0,
        };
    }
    Ok(Round {
        entries,
        has_more,
        cookie: position.write(directory),
    })
}

impl Object {
    pub(crate) fn values(&self, name: &str) -> &[Vec<u8>] {
        self.attributes
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map_or(&[], |(_, values)| values)
    }

    fn set(&mut self, name: &str, values: Vec<Vec<u8>>) {
        self.attributes
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        if !values.is_empty() {
            self.attributes.push((name.to_owned(), values));
        }
    }

    fn mark(&mut self, name: &str, usn: u64) {
        self.changes
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.changes.push((name.to_owned(), usn));
    }

    fn changed_at(&self) -> u64 {
        self.changes.iter().map(|(_, usn)| *usn).max().unwrap_or(0)
    }
}

impl Directory {
    /// Is a controller whose last change has this number.
    pub fn usn(mut self, usn: u64) -> Directory {
        self.usn = Some(usn);
        self
    }

    /// Counts its changes under this identity: another one after a restore, and on every other controller.
    pub fn invocation_id(mut self, id: [u8; 16]) -> Directory {
        self.invocation_id = id;
        self
    }

    /// Tells deletions.
    pub fn sees_deletions(mut self) -> Directory {
        self.sees_deletions = true;
        self
    }

    /// Gives at most so many entries in a round of DirSync, and says that there is more.
    pub fn dir_sync_round(mut self, entries_count: usize) -> Directory {
        self.dir_sync_round = Some(entries_count);
        self
    }

    /// Refuses every cookie with this code from now on: 12 or 53.
    pub fn evicts_cookies(mut self, code: u32) -> Directory {
        self.evicted = Some(code);
        self
    }

    /// Does not know DirSync.
    pub fn no_dir_sync(mut self) -> Directory {
        self.lacks_dir_sync = true;
        self
    }

    /// With other values of an attribute; none removes it.
    pub fn changed(mut self, dn: &str, name: &str, values: &[&str]) -> Directory {
        let usn = self.next_usn();
        let object = self.object(dn);
        let values = values.iter().map(|value| value.as_bytes().to_vec());
        object.set(name, values.collect());
        object.mark(name, usn);
        self
    }

    /// With one more entry. Its GUID, if it brings none, is made from the number of the change.
    pub fn added(mut self, dn: &str, attributes: &[(&str, &[&str])]) -> Directory {
        let usn = self.next_usn();
        self = self.entry(dn, attributes);
        let object = self.object(dn);
        if object.values("objectGUID").is_empty() {
            let guid = format!("added{usn:011}").into_bytes();
            object.set("objectGUID", vec![guid]);
        }
        for name in attributes.iter().map(|(name, _)| *name).chain(["name"]) {
            object.mark(name, usn);
        }
        self
    }

    /// With an entry, and all that lies below it, under another name or elsewhere. Only the entry itself has changed.
    pub fn moved(mut self, dn: &str, to: &str) -> Directory {
        let usn = self.next_usn();
        self.object(dn).mark("name", usn);
        let below = format!(",{dn}");
        for object in &mut self.objects {
            let text = String::from_utf8_lossy(&object.dn).into_owned();
            if text == dn {
                object.dn = to.as_bytes().to_vec();
            } else if let Some(relative) = text.strip_suffix(&below) {
                object.dn = format!("{relative},{to}").into_bytes();
            }
        }
        self
    }

    /// With an entry that was deleted: nothing is left of it but its GUID, and it lies with the deleted ones.
    pub fn deleted(mut self, dn: &str) -> Directory {
        let usn = self.next_usn();
        let base = self.base.clone();
        let object = self.object(dn);
        let guid = object.values("objectGUID").to_vec();
        let relative = dn.split(',').next().unwrap_or_default().to_owned();
        let guid_text = guid.first().map(|guid| guid_text(guid)).unwrap_or_default();
        object.dn = format!("{relative}\\0ADEL:{guid_text},CN=Deleted Objects,{base}").into_bytes();
        let names: Vec<String> = object.attributes.drain(..).map(|(name, _)| name).collect();
        for name in names
            .iter()
            .map(String::as_str)
            .chain(["isDeleted", "name"])
        {
            if name != "objectGUID" {
                object.mark(name, usn);
            }
        }
        object.set("objectGUID", guid);
        object.set("isDeleted", vec![b"TRUE".to_vec()]);
        object.is_deleted = true;
        self
    }

    /// With a deleted entry back under a name: it has its old GUID, and nothing else until it is given anew.
    pub fn undeleted(mut self, guid: &[u8], to: &str) -> Directory {
        let usn = self.next_usn();
        let found = self
            .objects
            .iter_mut()
            .find(|object| object.is_deleted && object.values("objectGUID").concat() == guid);
        let object = found.expect("a deleted entry with this GUID");
        object.dn = to.as_bytes().to_vec();
        object.is_deleted = false;
        object.set("isDeleted", Vec::new());
        object.mark("isDeleted", usn);
        object.mark("name", usn);
        self
    }

    /// With a change of something that nobody reads.
    pub fn changed_elsewhere(mut self) -> Directory {
        self.next_usn();
        self
    }

    fn next_usn(&mut self) -> u64 {
        let usn = self.usn.as_mut().expect("a controller: set usn first");
        *usn += 1;
        *usn
    }

    fn object(&mut self, dn: &str) -> &mut Object {
        let found = self
            .objects
            .iter_mut()
            .find(|object| object.dn.eq_ignore_ascii_case(dn.as_bytes()));
        found.expect("an entry of this name")
    }

    /// The root DSE.
    pub(crate) fn root_entry(&self) -> Object {
        let text = |text: &str| vec![text.as_bytes().to_vec()];
        let mut attributes = vec![("defaultNamingContext".to_owned(), text(&self.base))];
        if let Some(usn) = self.usn {
            let controls = SUPPORTED_CONTROLS
                .iter()
                .filter(|oid| !(self.lacks_dir_sync && oid.as_bytes() == DIR_SYNC));
            let controls = controls.map(|oid| oid.as_bytes().to_vec()).collect();
            attributes.extend([
                ("rootDomainNamingContext".to_owned(), text(&self.base)),
                ("namingContexts".to_owned(), text(&self.base)),
                ("highestCommittedUSN".to_owned(), text(&usn.to_string())),
                ("dsServiceName".to_owned(), text(&self.service_dn())),
                ("dnsHostName".to_owned(), text("dc1.corp.example")),
                ("supportedControl".to_owned(), controls),
            ]);
        }
        attributes.extend(self.root.iter().cloned());
        Object {
            attributes,
            ..Object::default()
        }
    }

    fn service_dn(&self) -> String {
        format!("{SERVICE},{}", self.base)
    }

    /// The controller's own object; found by its name only.
    pub(crate) fn service(&self) -> Option<Object> {
        self.usn.map(|_| Object {
            dn: self.service_dn().into_bytes(),
            attributes: vec![("invocationId".to_owned(), vec![self.invocation_id.to_vec()])],
            ..Object::default()
        })
    }

    /// Where deleted entries lie. It is deleted itself; whoever may not see them sees that it is there, and nothing of it.
    pub(crate) fn container_of_deleted(&self) -> Option<Object> {
        self.usn?;
        let attributes = [
            ("objectGUID", DELETED_GUID.as_slice()),
            ("name", b"Deleted Objects"),
            ("isDeleted", b"TRUE"),
        ];
        let attributes = attributes
            .iter()
            .filter(|_| self.sees_deletions)
            .map(|(name, value)| ((*name).to_owned(), vec![value.to_vec()]));
        Some(Object {
            dn: self.dn_of_deleted().into_bytes(),
            attributes: attributes.collect(),
            is_deleted: true,
            ..Object::default()
        })
    }

    pub(crate) fn dn_of_deleted(&self) -> String {
        format!("CN=Deleted Objects,{}", self.base)
    }

    /// The distinguished name behind a base, which may be `<GUID=…>` in either of its forms, or the well-known name of the
    /// container of the deleted.
    pub(crate) fn resolve(&self, base: &str, shows_deleted: bool) -> Option<String> {
        if base.eq_ignore_ascii_case(&format!("<WKGUID={DELETED_WELL_KNOWN},{}>", self.base)) {
            return Some(self.dn_of_deleted());
        }
        let Some(guid) = base
            .strip_prefix("<GUID=")
            .and_then(|rest| rest.strip_suffix('>'))
        else {
            return Some(base.to_owned());
        };
        let guid = guid_octets(guid)?;
        self.objects
            .iter()
            .filter(|object| !object.is_deleted || (shows_deleted && self.sees_deletions))
            .find(|object| object.values("objectGUID").concat() == guid)
            .map(|object| String::from_utf8_lossy(&object.dn).into_owned())
    }

    /// An entry as DirSync tells it; `None` when nothing that was asked for has changed.
    fn told(&self, object: &Object, since: Option<u64>, wanted: &[String]) -> Option<Object> {
        let is_new = |name: &str| {
            since.is_none_or(|since| {
                let mut changes = object.changes.iter();
                changes.any(|(other, usn)| other.eq_ignore_ascii_case(name) && *usn > since)
            })
        };
        let mut attributes = vec![
            (
                "objectGUID".to_owned(),
                object.values("objectGUID").to_vec(),
            ),
            ("instanceType".to_owned(), vec![b"4".to_vec()]),
        ];
        for name in wanted {
            let values = match name.to_ascii_lowercase().as_str() {
                "objectguid" | "instancetype" => continue,
                "name" if is_new("name") => vec![relative_value(&object.dn)],
                "parentguid" if is_new("name") => self.parent_guid(object),
                "name" | "parentguid" => continue,
                _ if is_new(name) => object.values(name).to_vec(),
                _ => continue,
            };
            // What was never there is not told in a first answer.
            if since.is_some() || !values.is_empty() {
                attributes.push((name.clone(), values));
            }
        }
        let is_told = since.is_none() || attributes.len() > 2;
        is_told.then(|| Object {
            dn: object.dn.clone(),
            attributes,
            ..Object::default()
        })
    }

    fn parent_guid(&self, object: &Object) -> Vec<Vec<u8>> {
        let comma = unescaped_comma(&object.dn);
        let parent = object.dn.get(comma + 1..).unwrap_or_default();
        let found = self.objects.iter().find(|other| other.dn == parent);
        found.map_or_else(
            || {
                let guid = if object.is_deleted {
                    DELETED_GUID
                } else {
                    BASE_GUID
                };
                vec![guid.to_vec()]
            },
            |parent| parent.values("objectGUID").to_vec(),
        )
    }
}

/// Where the relative name ends.
fn unescaped_comma(dn: &[u8]) -> usize {
    let is_end = |at: &usize| dn[*at] == b',' && (*at == 0 || dn[*at - 1] != b'\\');
    (0..dn.len()).find(is_end).unwrap_or(dn.len())
}

fn relative_value(dn: &[u8]) -> Vec<u8> {
    let relative = &dn[..unescaped_comma(dn)];
    let equals = relative.iter().position(|octet| *octet == b'=');
    relative[equals.map_or(0, |at| at + 1)..].to_vec()
}

/// The first eight octets of a GUID are written from behind, in groups of four, two and two.
const GUID_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

fn guid_text(guid: &[u8]) -> String {
    let mut text = String::new();
    for (number, at) in GUID_ORDER.into_iter().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", guid.get(at).unwrap_or(&0)));
    }
    text
}

/// `6f6e…` as the octets lie, or with hyphens as people write it.
fn guid_octets(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    if digits.len() != 32 {
        return None;
    }
    let octet = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
    let octets: Vec<u8> = (0..16).map(octet).collect::<Option<_>>()?;
    if !text.contains('-') {
        return Some(octets);
    }
    let mut ordered = vec![0; 16];
    for (number, at) in GUID_ORDER.into_iter().enumerate() {
        ordered[at] = octets[number];
    }
    Some(ordered)
}

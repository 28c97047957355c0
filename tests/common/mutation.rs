//! A company that goes on changing: batches of mixed mutations from a seed, as LDIF for `ldapmodify`, and the truth after
//! each.
//!
//! It begins with the objects of a [`Company`] and knows from then on where everything lies and which addresses everybody
//! has, because it made every change itself; like the company it parses no name and no address. Organizational units are
//! nested, renamed, moved and deleted whole; two of them are bases of the search, one is excluded, the others lie outside.
//! What was touched lately is touched again more often than the rest: mistakes live where two changes meet.

use std::collections::{BTreeMap, BTreeSet};

use super::directory::{BASE, Class, Company, LEAVERS, Truth, Unit, Value};
use super::ldif;
use super::random::Random;

/// `base` of the source: what lies elsewhere counts for nothing.
pub const BASES: [Unit; 2] = [Unit::Staff, Unit::Groups];

/// The name of the unit below [`Unit::Staff`] that is excluded, as long as one is called so.
const FORMER: &str = "Former";

/// Kinds of recipients, and of Exchange's own mailboxes.
const RECIPIENT_TYPES: [u64; 8] = [1, 2, 4, 16, 64, 256, 0x8000_0000, 1 << 52];
const SYSTEM_TYPES: [u64; 4] = [0x80_0000, 0x2000_0000, 0x10_0000_0000, 0x80_0000_0000];

const TREE_DELETE: &str = "1.2.840.113556.1.4.805";
const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";

/// A deleted unit takes no more recipients with it: a domain must not be emptied.
const LEAVES_DELETED_MAX: usize = 25;
const DEPTH_MAX: usize = 4;

/// How many of the nodes touched last are preferred.
const HOT_COUNT: usize = 30;

/// What `recipients.exclude_dn` says.
pub fn excluded() -> [String; 2] {
    [
        format!("OU={FORMER},{}", Unit::Staff.dn()),
        LEAVERS.to_owned(),
    ]
}

/// The directory as it is now.
#[derive(Clone, Debug)]
pub struct Changes {
    random: Random,
    nodes: Vec<Node>,
    next_number: u64,
    touched: Vec<usize>,
}

/// One batch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// All of it, for one `ldapmodify`.
    pub ldif: String,
    /// Each mutation in words, in the order of the LDIF.
    pub said: Vec<String>,
    /// How many objects it deletes.
    pub deletions_count: usize,
}

#[derive(Clone, Debug)]
struct Node {
    /// The value of its relative name: different from every other one, but for units called [`FORMER`].
    name: String,
    /// `None`: the domain.
    parent: Option<usize>,
    is_there: bool,
    /// Made with the company: neither renamed nor moved nor deleted.
    is_fixed: bool,
    /// `None`: a unit.
    leaf: Option<Leaf>,
    /// The keys that it had in the table when the last batch ended before it was deleted.
    keys_before: Vec<String>,
}

#[derive(Clone, Debug)]
struct Leaf {
    class: Class,
    recipient_type: Option<u64>,
    is_internal_only: bool,
    values: Vec<Value>,
}

impl Leaf {
    fn keys(&self) -> impl Iterator<Item = &String> {
        self.values
            .iter()
            .filter_map(|value| match &value.truth {
                Truth::Address { keys } => Some(keys),
                Truth::Never { .. } => None,
            })
            .flatten()
    }

    fn is_left_out(&self) -> bool {
        self.is_internal_only
            || self
                .recipient_type
                .is_some_and(|recipient_type| SYSTEM_TYPES.contains(&recipient_type))
    }

    fn has(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.values
            .iter()
            .any(|value| value.text.to_lowercase() == text)
    }
}

/// How often of all, its name, and what does it; `None` where nothing fits it at the moment.
type Mutation = (
    u64,
    &'static str,
    fn(&mut Changes, &Graveyard, &mut Batch) -> Option<String>,
);

/// Where deleted objects lie: the name each had, as it stands in a distinguished name, and its present one.
pub type Graveyard = BTreeMap<String, String>;

#[rustfmt::skip]
const MUTATIONS: &[Mutation] = &[
    (12, "an address more", Changes::add_address),
    (12, "an address less", Changes::remove_address),
    (6, "other addresses", Changes::replace_addresses),
    (6, "another primary address", Changes::swap_primary),
    (5, "the same addresses in other letters", Changes::change_case),
    (5, "an address that is no mail address", Changes::add_noise),
    (7, "another kind", Changes::change_type),
    (7, "another rule for outside senders", Changes::change_internal_only),
    (8, "a new object", Changes::add_object),
    (1, "many new objects", Changes::add_many),
    (7, "a deletion", Changes::delete),
    (7, "an undeletion", Changes::undelete),
    (7, "another name", Changes::rename),
    (10, "another place", Changes::move_leaf),
    (4, "a unit with another name", Changes::rename_unit),
    (4, "a unit in another place", Changes::move_unit),
    (2, "a unit deleted with all in it", Changes::delete_unit),
    (3, "an empty unit", Changes::add_unit),
    (4, "a mailbox less", Changes::strip),
    (3, "something that nobody asks about", Changes::change_description),
];

impl Changes {
    /// Begins with a company as it lies in the directory, and gives the batch that makes the nested units.
    pub fn new(seed: u64, company: &Company) -> (Changes, Batch) {
        let mut changes = Changes {
            random: Random::new(seed),
            nodes: Vec::new(),
            next_number: 0,
            touched: Vec::new(),
        };
        for unit in Unit::ALL {
            changes.nodes.push(Node {
                name: unit.name().to_owned(),
                parent: None,
                is_there: true,
                is_fixed: true,
                leaf: None,
                keys_before: Vec::new(),
            });
        }
        for object in company.objects() {
            changes.nodes.push(Node {
                name: object.name.clone(),
                parent: Some(place_of(object.unit)),
                is_there: true,
                is_fixed: false,
                leaf: Some(Leaf {
                    class: object.class,
                    recipient_type: object.recipient_type,
                    is_internal_only: object.is_internal_only,
                    values: object.values.clone(),
                }),
                keys_before: Vec::new(),
            });
        }
        let mut batch = Batch::default();
        changes.make_units(&mut batch);
        changes.remember_keys();
        (changes, batch)
    }

    /// Nested units inside and outside of the bases, with some of the staff in them.
    fn make_units(&mut self, batch: &mut Batch) {
        let staff = place_of(Unit::Staff);
        let inside = [
            self.push_unit(FORMER, staff, batch),
            self.push_unit("Office", staff, batch),
            self.push_unit("Lists", place_of(Unit::Groups), batch),
            self.push_unit("Partners", place_of(Unit::Branch), batch),
        ];
        let deeper = [
            self.push_unit("Team", inside[1], batch),
            self.push_unit("Guests", inside[3], batch),
        ];
        let deepest = self.push_unit("Desk", deeper[0], batch);
        for unit in inside.into_iter().chain(deeper).chain([deepest]) {
            for _ in 0..6 {
                let leaf = self.pick(|node| node.leaf.is_some()).expect("a company");
                self.place(leaf, None, Some(unit), batch);
            }
        }
    }

    /// The next batch, of so many mutations or a few more.
    pub fn batch(&mut self, mutations_count: usize, graveyard: &Graveyard) -> Batch {
        let shares: u64 = MUTATIONS.iter().map(|(share, ..)| share).sum();
        let mut batch = Batch::default();
        while batch.said.len() < mutations_count {
            let mut at = self.random.below(shares);
            let (_, name, mutate) = MUTATIONS
                .iter()
                .find(|(share, ..)| {
                    let is_here = at < *share;
                    at = at.saturating_sub(*share);
                    is_here
                })
                .expect("a number below the sum of the shares falls into one of them");
            if let Some(what) = mutate(self, graveyard, &mut batch) {
                batch.said.push(format!("{name}: {what}"));
            }
        }
        batch
    }

    /// The keys that must stand in the table, and no others.
    pub fn expected_accepted(&self) -> BTreeSet<String> {
        (0..self.nodes.len()).flat_map(|at| self.keys(at)).collect()
    }

    /// The keys that the objects deleted since [`Changes::forget_deleted`] had when somebody could last see them.
    pub fn keys_of_deleted(&self) -> BTreeSet<String> {
        self.nodes
            .iter()
            .filter(|node| !node.is_there)
            .flat_map(|node| node.keys_before.iter().cloned())
            .collect()
    }

    /// Somebody read the directory: what a deletion in the next batch takes away is what is there now.
    pub fn remember_keys(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_there {
                self.nodes[at].keys_before = self.keys(at);
            }
        }
    }

    /// Somebody read the directory completely: whoever was deleted until now is gone.
    pub fn forget_deleted(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| !node.is_there) {
            node.keys_before.clear();
        }
    }

    /// The keys of one object that belong in the table.
    fn keys(&self, at: usize) -> Vec<String> {
        let node = &self.nodes[at];
        let Some(leaf) = node.leaf.as_ref().filter(|leaf| !leaf.is_left_out()) else {
            return Vec::new();
        };
        if !node.is_there || !self.is_below_a_base(at) || self.is_excluded(at) {
            return Vec::new();
        }
        leaf.keys().cloned().collect()
    }

    /// From the node itself up to a child of the domain.
    fn line(&self, at: usize) -> Vec<usize> {
        std::iter::successors(Some(at), |at| self.nodes[*at].parent).collect()
    }

    fn is_below_a_base(&self, at: usize) -> bool {
        let line = self.line(at);
        BASES.into_iter().any(|unit| line.contains(&place_of(unit)))
    }

    fn is_excluded(&self, at: usize) -> bool {
        let line = self.line(at);
        line.contains(&place_of(Unit::Leavers))
            || line.into_iter().any(|at| self.is_called_former(at))
    }

    fn is_called_former(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.leaf.is_none()
            && node.parent == Some(place_of(Unit::Staff))
            && node.name.eq_ignore_ascii_case(FORMER)
    }

    fn relative_name(&self, at: usize) -> String {
        let node = &self.nodes[at];
        let is_container = at == place_of(Unit::ExchangeSystem);
        let attribute = if node.leaf.is_some() || is_container {
            "CN"
        } else {
            "OU"
        };
        format!("{attribute}={}", ldif::escape_name(&node.name))
    }

    fn dn(&self, at: usize) -> String {
        let names = self.line(at).into_iter().map(|at| self.relative_name(at));
        names.chain([BASE.to_owned()]).collect::<Vec<_>>().join(",")
    }

    /// One of the nodes that are there and fit, preferably one that was touched lately.
    fn pick(&mut self, fits: impl Fn(&Node) -> bool) -> Option<usize> {
        let is_good = |at: &usize| {
            let node = &self.nodes[*at];
            node.is_there && !node.is_fixed && fits(node)
        };
        let hot = self.touched.iter().rev().take(HOT_COUNT);
        let hot: Vec<usize> = hot.copied().filter(is_good).collect();
        let all: Vec<usize> = (0..self.nodes.len()).filter(is_good).collect();
        let list = match self.random.below(3) {
            0 if !hot.is_empty() => hot,
            _ => all,
        };
        (!list.is_empty()).then(|| *self.random.pick(&list))
    }

    fn pick_leaf(&mut self) -> Option<usize> {
        self.pick(|node| node.leaf.is_some())
    }

    fn pick_recipient(&mut self) -> Option<usize> {
        self.pick(|node| {
            node.leaf
                .as_ref()
                .is_some_and(|leaf| !leaf.values.is_empty())
        })
    }

    /// Where something can be put: half of the time a unit that is there from the beginning.
    fn pick_place(&mut self) -> usize {
        let is_unit = |at: &usize| self.nodes[*at].is_there && self.nodes[*at].leaf.is_none();
        let units: Vec<usize> = (0..self.nodes.len()).filter(is_unit).collect();
        *self.random.pick(&units)
    }

    /// Where a unit can be put: a container takes none.
    fn pick_place_of_unit(&mut self) -> Option<usize> {
        let parent = self.pick_place();
        let is_good =
            parent != place_of(Unit::ExchangeSystem) && self.line(parent).len() < DEPTH_MAX;
        is_good.then_some(parent)
    }

    fn touch(&mut self, at: usize) {
        self.touched.push(at);
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn leaf(&mut self, at: usize) -> &mut Leaf {
        self.nodes[at].leaf.as_mut().expect("not a unit")
    }

    /// A value of type SMTP that nobody has, or in one of eight cases one that somebody else has too.
    fn new_value(&mut self, prefix: &str) -> Value {
        if self.random.below(8) == 0
            && let Some(other) = self.pick_recipient()
        {
            let values = self.leaf(other).values.clone();
            return self.random.pick(&values).clone();
        }
        let number = self.number();
        let local = match self.random.below(4) {
            0 => format!("New.Name{number}"),
            1 => format!("o'neill+{number}"),
            2 => format!("jörg{number}"),
            _ => format!("new{number}"),
        };
        let domains: &[&str] = match self.random.below(8) {
            0 => &["bücher.example", "xn--bcher-kva.example"],
            1 | 2 => &["sub.example.com"],
            3 => &[],
            _ => &["example.com"],
        };
        let domain = domains.first().unwrap_or(&"partner.example.org");
        let key = |domain: &&str| format!("{}@{domain}", local.to_lowercase());
        let truth = if domains.is_empty() {
            Truth::Never {
                said: None,
                why: "foreign_domain",
            }
        } else {
            Truth::Address {
                keys: domains.iter().map(key).collect(),
            }
        };
        Value {
            text: format!("{prefix}{local}@{domain}"),
            truth,
        }
    }

    fn new_values(&mut self) -> Vec<Value> {
        let mut values = vec![self.new_value("SMTP:")];
        for _ in 0..self.random.below(4) {
            let value = self.new_value("smtp:");
            let text = value.text.to_lowercase();
            if values.iter().all(|other| other.text.to_lowercase() != text) {
                values.push(value);
            }
        }
        values
    }

    /// The LDIF that writes all addresses of an object anew.
    fn write_values(&mut self, at: usize, batch: &mut Batch) -> String {
        self.touch(at);
        let dn = self.dn(at);
        let texts: Vec<String> = self
            .leaf(at)
            .values
            .iter()
            .map(|v| v.text.clone())
            .collect();
        push_modify(&mut batch.ldif, &dn, "replace", "proxyAddresses", &texts);
        dn
    }

    fn add_address(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_recipient()?;
        let value = self.new_value("smtp:");
        if self.leaf(at).has(&value.text) {
            return None;
        }
        self.touch(at);
        let dn = self.dn(at);
        push_modify(
            &mut batch.ldif,
            &dn,
            "add",
            "proxyAddresses",
            &[&value.text],
        );
        let what = format!("{} to {dn}", value.text);
        self.leaf(at).values.push(value);
        Some(what)
    }

    fn remove_address(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_recipient()?;
        self.touch(at);
        let count = self.leaf(at).values.len();
        let number = usize::try_from(self.random.below(u64::try_from(count).ok()?)).ok()?;
        let value = self.leaf(at).values.remove(number);
        let dn = self.dn(at);
        push_modify(
            &mut batch.ldif,
            &dn,
            "delete",
            "proxyAddresses",
            &[&value.text],
        );
        Some(format!("{} of {dn}", value.text))
    }

    fn replace_addresses(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_leaf()?;
        let values = self.new_values();
        self.leaf(at).values = values;
        Some(self.write_values(at, batch))
    }

    fn swap_primary(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick(|node| node.leaf.as_ref().is_some_and(|leaf| leaf.values.len() > 1))?;
        let values = &mut self.leaf(at).values;
        values.rotate_left(1);
        for (number, value) in values.iter_mut().enumerate() {
            if let Some(rest) = without_prefix(&value.text) {
                let prefix = if number == 0 { "SMTP:" } else { "smtp:" };
                value.text = format!("{prefix}{rest}");
            }
        }
        Some(self.write_values(at, batch))
    }

    fn change_case(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_recipient()?;
        let upper = self.random.below(2) == 0;
        for value in &mut self.leaf(at).values {
            // Quoted and odd ones stay as they are: only letters may change.
            let Some(rest) = without_prefix(&value.text).filter(|rest| rest.is_ascii()) else {
                continue;
            };
            value.text = match upper {
                true => format!("SMTP:{}", rest.to_ascii_uppercase()),
                false => format!("Smtp:{}", rest.to_ascii_lowercase()),
            };
        }
        Some(self.write_values(at, batch))
    }

    fn add_noise(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_leaf()?;
        self.touch(at);
        let number = self.number();
        let text = match self.random.below(3) {
            0 => format!("SIP:noise{number}@example.com"),
            1 => format!("X500:/o=Corp/ou=First/cn=Recipients/cn=noise{number}"),
            _ => format!("x500:/o=Corp/ou=First/cn=Recipients/cn=noise{number}@example.com"),
        };
        let dn = self.dn(at);
        push_modify(&mut batch.ldif, &dn, "add", "proxyAddresses", &[&text]);
        let what = format!("{text} to {dn}");
        self.leaf(at).values.push(Value {
            text,
            truth: Truth::Never {
                said: None,
                why: "not_smtp",
            },
        });
        Some(what)
    }

    fn change_type(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_leaf()?;
        self.touch(at);
        let recipient_type = match self.random.below(5) {
            0 => None,
            1 => Some(*self.random.pick(&SYSTEM_TYPES)),
            _ => Some(*self.random.pick(&RECIPIENT_TYPES)),
        };
        self.leaf(at).recipient_type = recipient_type;
        let dn = self.dn(at);
        let values: Vec<String> = recipient_type.iter().map(u64::to_string).collect();
        let name = "msExchRecipientTypeDetails";
        push_modify(&mut batch.ldif, &dn, "replace", name, &values);
        Some(format!("{recipient_type:?} for {dn}"))
    }

    fn change_internal_only(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_leaf()?;
        self.touch(at);
        let (is_internal_only, values): (bool, &[&str]) = match self.random.below(4) {
            0 => (false, &["FALSE"]),
            1 => (false, &[]),
            _ => (true, &["TRUE"]),
        };
        // As often away as there: whoever is closed opens.
        let is_open = !self.leaf(at).is_internal_only;
        let (is_internal_only, values) = if is_open {
            (is_internal_only, values)
        } else {
            (false, [].as_slice())
        };
        self.leaf(at).is_internal_only = is_internal_only;
        let dn = self.dn(at);
        let name = "msExchRequireAuthToSendTo";
        push_modify(&mut batch.ldif, &dn, "replace", name, values);
        Some(format!("{values:?} for {dn}"))
    }

    fn add_object(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let number = self.number();
        let (class, recipient_type) = *self.random.pick(&[
            (Class::User, 1),
            (Class::User, 1),
            (Class::User, 4),
            (Class::Contact, 64),
            (Class::Group, 256),
            (Class::PublicFolder, 4096),
            (Class::DynamicGroup, 2048),
        ]);
        let parent = self.pick_place();
        let values = self.new_values();
        let leaf = Leaf {
            class,
            recipient_type: (!number.is_multiple_of(7)).then_some(recipient_type),
            is_internal_only: number.is_multiple_of(9),
            values,
        };
        let at = self.nodes.len();
        self.nodes.push(Node {
            name: format!("New, {class:?} {number}"),
            parent: Some(parent),
            is_there: true,
            is_fixed: false,
            leaf: Some(leaf),
            keys_before: Vec::new(),
        });
        self.touch(at);
        let dn = self.dn(at);
        push_new(&mut batch.ldif, &dn, number, self.leaf(at));
        Some(dn)
    }

    fn add_many(&mut self, graveyard: &Graveyard, batch: &mut Batch) -> Option<String> {
        let count = 10 + self.random.below(20);
        for _ in 1..count {
            let what = self.add_object(graveyard, batch)?;
            batch.said.push(format!("one of many new objects: {what}"));
        }
        self.add_object(graveyard, batch)
    }

    fn delete(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_leaf()?;
        let dn = self.dn(at);
        self.nodes[at].is_there = false;
        ldif::push_line(&mut batch.ldif, "dn", &dn);
        batch.ldif.push_str("changetype: delete\n\n");
        batch.deletions_count += 1;
        Some(dn)
    }

    /// Tombstone reanimation: the addresses are lost with the deletion and are given anew.
    fn undelete(&mut self, graveyard: &Graveyard, batch: &mut Batch) -> Option<String> {
        let dead: Vec<usize> = (0..self.nodes.len())
            .filter(|at| {
                let node = &self.nodes[*at];
                let can_come_back = node.leaf.as_ref().is_some_and(|leaf| {
                    matches!(leaf.class, Class::User | Class::Group | Class::Contact)
                });
                !node.is_there
                    && can_come_back
                    && graveyard.contains_key(&ldif::escape_name(&node.name))
            })
            .collect();
        if dead.is_empty() {
            return None;
        }
        let at = *self.random.pick(&dead);
        let tombstone = graveyard.get(&ldif::escape_name(&self.nodes[at].name))?;
        let parent = self.pick_place();
        if self.random.below(2) == 0 {
            self.leaf(at).values = self.new_values();
        }
        self.leaf(at).recipient_type = None;
        self.leaf(at).is_internal_only = false;
        self.nodes[at].is_there = true;
        self.nodes[at].parent = Some(parent);
        self.touch(at);
        let dn = self.dn(at);
        let text = &mut batch.ldif;
        ldif::push_line(text, "dn", tombstone);
        text.push_str(&format!("control: {SHOW_DELETED} true\n"));
        text.push_str("changetype: modify\ndelete: isDeleted\n-\nreplace: distinguishedName\n");
        ldif::push_line(text, "distinguishedName", &dn);
        text.push_str("-\nreplace: proxyAddresses\n");
        for value in &self.nodes[at].leaf.as_ref()?.values {
            ldif::push_line(text, "proxyAddresses", &value.text);
        }
        text.push_str("-\n\n");
        Some(dn)
    }

    /// A new name, a new parent or both, and the LDIF for it.
    fn place(
        &mut self,
        at: usize,
        name: Option<String>,
        parent: Option<usize>,
        batch: &mut Batch,
    ) -> String {
        self.touch(at);
        let old = self.dn(at);
        if let Some(name) = name {
            self.nodes[at].name = name;
        }
        ldif::push_line(&mut batch.ldif, "dn", &old);
        batch.ldif.push_str("changetype: modrdn\n");
        ldif::push_line(&mut batch.ldif, "newrdn", &self.relative_name(at));
        batch.ldif.push_str("deleteoldrdn: 1\n");
        if let Some(parent) = parent {
            self.nodes[at].parent = Some(parent);
            ldif::push_line(&mut batch.ldif, "newsuperior", &self.dn(parent));
        }
        batch.ldif.push('\n');
        format!("{old} becomes {}", self.dn(at))
    }

    fn rename(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_leaf()?;
        let name = match self.random.below(4) {
            0 => self.nodes[at].name.to_uppercase(),
            _ => format!("Renamed, again {}", self.number()),
        };
        Some(self.place(at, Some(name), None, batch))
    }

    fn move_leaf(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_leaf()?;
        let parent = self.pick_place();
        if self.nodes[at].parent == Some(parent) {
            return None;
        }
        let name = (self.random.below(4) == 0).then(|| format!("Moved {}", self.number()));
        Some(self.place(at, name, Some(parent), batch))
    }

    /// Whether no other unit of this parent is called so.
    fn is_free(&self, name: &str, parent: Option<usize>, but: usize) -> bool {
        let has_it = |(at, node): (usize, &Node)| {
            at != but
                && node.is_there
                && node.parent == parent
                && node.name.eq_ignore_ascii_case(name)
        };
        !self.nodes.iter().enumerate().any(has_it)
    }

    fn pick_unit(&mut self) -> Option<usize> {
        self.pick(|node| node.leaf.is_none())
    }

    fn rename_unit(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_unit()?;
        let name = match self.random.below(4) {
            0 => self.nodes[at].name.to_uppercase(),
            1 => FORMER.to_owned(),
            _ => format!("Unit {}", self.number()),
        };
        let is_free = self.is_free(&name, self.nodes[at].parent, at);
        (is_free && self.nodes[at].name != name).then(|| self.place(at, Some(name), None, batch))
    }

    fn move_unit(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_unit()?;
        let parent = self.pick_place_of_unit()?;
        let is_good = self.nodes[at].parent != Some(parent)
            && !self.line(parent).contains(&at)
            && self.is_free(&self.nodes[at].name, Some(parent), at);
        is_good.then(|| self.place(at, None, Some(parent), batch))
    }

    fn delete_unit(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_unit()?;
        let is_in_it =
            |other: &usize| self.nodes[*other].is_there && self.line(*other).contains(&at);
        let all: Vec<usize> = (0..self.nodes.len()).filter(is_in_it).collect();
        if all.len() > LEAVES_DELETED_MAX {
            return None;
        }
        let dn = self.dn(at);
        for other in &all {
            self.nodes[*other].is_there = false;
        }
        batch.deletions_count += all.len();
        ldif::push_line(&mut batch.ldif, "dn", &dn);
        batch
            .ldif
            .push_str(&format!("control: {TREE_DELETE} true\n"));
        batch.ldif.push_str("changetype: delete\n\n");
        Some(format!("{dn} and {} below it", all.len() - 1))
    }

    fn add_unit(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let parent = self.pick_place_of_unit()?;
        let name = format!("Unit {}", self.number());
        let at = self.push_unit(&name, parent, batch);
        Some(self.dn(at))
    }

    fn push_unit(&mut self, name: &str, parent: usize, batch: &mut Batch) -> usize {
        let at = self.nodes.len();
        self.nodes.push(Node {
            name: name.to_owned(),
            parent: Some(parent),
            is_there: true,
            is_fixed: false,
            leaf: None,
            keys_before: Vec::new(),
        });
        self.touch(at);
        ldif::push_line(&mut batch.ldif, "dn", &self.dn(at));
        batch
            .ldif
            .push_str("changetype: add\nobjectClass: organizationalUnit\n\n");
        at
    }

    /// What Exchange does when a mailbox is disabled: the account stays, and nothing of Exchange on it.
    fn strip(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_recipient()?;
        self.touch(at);
        let leaf = self.leaf(at);
        leaf.values.clear();
        leaf.recipient_type = None;
        leaf.is_internal_only = false;
        let dn = self.dn(at);
        ldif::push_line(&mut batch.ldif, "dn", &dn);
        batch.ldif.push_str("changetype: modify\n");
        for name in [
            "proxyAddresses",
            "msExchRecipientTypeDetails",
            "msExchRequireAuthToSendTo",
        ] {
            batch.ldif.push_str(&format!("replace: {name}\n-\n"));
        }
        batch.ldif.push('\n');
        Some(dn)
    }

    fn change_description(&mut self, _: &Graveyard, batch: &mut Batch) -> Option<String> {
        let at = self.pick_leaf()?;
        let dn = self.dn(at);
        let number = self.number();
        let values = [format!("note {number}")];
        push_modify(&mut batch.ldif, &dn, "replace", "description", &values);
        Some(dn)
    }
}

/// The node of a unit of the company: they come first, in their order.
fn place_of(unit: Unit) -> usize {
    let found = Unit::ALL.iter().position(|other| *other == unit);
    found.expect("one of all units")
}

/// What follows `smtp:` in any letters.
fn without_prefix(text: &str) -> Option<String> {
    let (prefix, rest) = text.split_at_checked(5)?;
    prefix
        .eq_ignore_ascii_case("smtp:")
        .then(|| rest.to_owned())
}

fn push_modify(text: &mut String, dn: &str, change: &str, name: &str, values: &[impl AsRef<str>]) {
    ldif::push_line(text, "dn", dn);
    text.push_str("changetype: modify\n");
    ldif::push_line(text, change, name);
    for value in values {
        ldif::push_line(text, name, value.as_ref());
    }
    text.push_str("-\n\n");
}

fn push_new(text: &mut String, dn: &str, number: u64, leaf: &Leaf) {
    ldif::push_line(text, "dn", dn);
    text.push_str("changetype: add\n");
    let more = match leaf.class {
        Class::User => format!("user\nsAMAccountName: nu{number}\nuserAccountControl: 544\n"),
        Class::Group => format!("group\nsAMAccountName: ng{number}\ngroupType: 8\n"),
        Class::Contact => "contact\n".to_owned(),
        Class::PublicFolder => "publicFolder\n".to_owned(),
        Class::DynamicGroup => "msExchDynamicDistributionList\n".to_owned(),
    };
    text.push_str(&format!("objectClass: {more}"));
    if let Some(recipient_type) = leaf.recipient_type {
        text.push_str(&format!("msExchRecipientTypeDetails: {recipient_type}\n"));
    }
    if leaf.is_internal_only {
        text.push_str("msExchRequireAuthToSendTo: TRUE\n");
    }
    for value in &leaf.values {
        ldif::push_line(text, "proxyAddresses", &value.text);
    }
    text.push('\n');
}

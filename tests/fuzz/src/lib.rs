//! What must hold of everything that parses octets which somebody else can write: one target a parser.
//!
//! A target takes any octets and panics where the parser breaks a promise: not only "no panic", but that what was accepted
//! keeps its invariant, that what is written is read back as the same, and that it does not matter in which pieces octets
//! come. Where it is cheap, a straightforward second reader in the target says what the answer must be.
//!
//! The same functions are called with every seed and with mutations of them by an ordinary test (`tests/parsers.rs`), and with
//! what libFuzzer makes of them by `run`. Not here: engines, and where the octets come from.

mod configuration;
mod credentials;
mod directory;
mod gateway;
mod names;
mod source;
mod state;
mod table;

/// A parser, and what must hold of it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of its folder of seeds.
    pub name: &'static str,
    /// Panics where it does not hold.
    pub check: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target::new("address", names::address),
    Target::new("certificate", credentials::certificate),
    Target::new("configuration", configuration::configuration),
    Target::new("copy", table::copy),
    Target::new("domain", names::domain),
    Target::new("found-cdb", table::found_cdb),
    Target::new("head", state::head),
    #[cfg(feature = "gssapi")]
    Target::new("keytab", credentials::keytab),
    Target::new("ldif", source::ldif),
    Target::new("list", source::list),
    Target::new("message", directory::message),
    Target::new("name", names::distinguished_name),
    Target::new("pmg", gateway::pmg),
    Target::new("postfix", gateway::postfix),
    Target::new("proven-cdb", table::proven_cdb),
    Target::new("range", directory::range),
    Target::new("records", state::records),
    Target::new("remembered", state::remembered),
    Target::new("rows", table::rows),
    Target::new("sealed", state::sealed),
    Target::new("session", directory::session),
    Target::new("smtp", gateway::smtp),
    Target::new("template", table::template),
    Target::new("text", table::text),
    Target::new("value", names::value),
];

impl Target {
    const fn new(name: &'static str, check: fn(&[u8])) -> Target {
        Target { name, check }
    }

    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

/// Takes a number off the beginning: a choice that the octets make.
fn choice(octets: &[u8]) -> (usize, &[u8]) {
    match octets.split_first() {
        Some((first, rest)) => (usize::from(*first), rest),
        None => (0, octets),
    }
}

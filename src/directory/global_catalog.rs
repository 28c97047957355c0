//! What must be known of a global catalog before it is read: that it shows what recipients are made of.
//!
//! A global catalog holds every object of the forest, with those attributes only that the schema marks as members of the
//! partial attribute set. `proxyAddresses` is one because Exchange made it so. Asked for an attribute that is none, a
//! catalog does not refuse: it answers success, without it. So the schema is read first.
//!
//! The mark itself is in no partial attribute set, so that a catalog may keep it back like any other; the same machine's
//! ordinary port is asked then. `objectGUID`, a member in every forest, tells the one case from the other.
//!
//! Invariant: [`check`] succeeds only if the schema of this very server was seen to mark every attribute of ours that it
//! has, and the server calls itself complete.

use crate::config::ServerAddress;
use crate::dn::DistinguishedName;
use crate::entry::Entry;
use crate::record::{ATTRIBUTES, PROXY_ADDRESSES};

use super::failure::{Cause, Step, Trouble};
use super::rootdse::RootDse;
use super::session::{Answer, Query, Reach, Session, success};

/// The whole forest: a base that nobody but a global catalog answers.
pub const FOREST: &str = "";

const NAME: &str = "lDAPDisplayName";
const IS_MEMBER: &str = "isMemberOfPartialAttributeSet";
/// Active Directory does not let it be anything but a member.
const ALWAYS_MEMBER: &str = "objectGUID";

/// What is known of a catalog that may be read.
pub struct Catalog {
    configuration: DistinguishedName,
}

/// What the marks in a schema come to.
#[derive(Debug, PartialEq, Eq)]
enum Marks {
    /// All of ours that exist are members.
    Complete,
    /// These are not.
    Lacking(Vec<&'static str>),
    /// Not even a certain member is marked.
    Hidden,
}

/// Checks the catalog behind a session that is bound, by what it says about itself. `elsewhere` opens a session with
/// the ordinary port of the same server, for a catalog that shows no marks.
pub async fn check<Opened: Future<Output = Result<Session, Trouble>>>(
    session: &mut Session,
    root: &RootDse,
    server: &ServerAddress,
    elsewhere: impl FnOnce(ServerAddress) -> Opened,
) -> Result<Catalog, Trouble> {
    let trouble = |cause| Trouble::new(Step::GlobalCatalog, cause);
    let (schema, configuration) = places(root).map_err(trouble)?;
    let mut marks = read_marks(session, schema).await.map_err(trouble)?;
    if marks == Marks::Hidden {
        let ordinary = ordinary_port(server);
        let url = ordinary.url.clone();
        let read = async {
            let mut session = elsewhere(ordinary).await?;
            let marks = read_marks(&mut session, schema).await;
            session.close().await;
            marks.map_err(trouble)
        };
        marks = read.await.map_err(|inner| {
            trouble(Cause::SchemaElsewhere {
                server: url,
                trouble: Box::new(inner),
            })
        })?;
    }
    match marks {
        Marks::Complete => Ok(Catalog { configuration }),
        Marks::Lacking(attributes) => Err(trouble(Cause::NotInGlobalCatalog(attributes))),
        Marks::Hidden => Err(trouble(Cause::NoGlobalCatalog("the marks of its schema"))),
    }
}

impl Catalog {
    /// Whether an object is left out: what the forest holds beside its domains, unless it was asked for by name. System objects of Exchange's
    /// configuration have addresses too; the read of a domain never meets them, because its controller keeps them apart,
    /// and a catalog does not.
    pub fn leaves_out(&self, bases: &[String]) -> impl Fn(&str) -> bool {
        let is_configuration = |dn: &str| {
            DistinguishedName::parse(dn).is_ok_and(|dn| dn.is_at_or_under(&self.configuration))
        };
        let is_asked_for = bases.iter().any(|base| is_configuration(base));
        move |dn| !is_asked_for && is_configuration(dn)
    }
}

/// Where the schema and the configuration of its forest lie.
fn places(root: &RootDse) -> Result<(&str, DistinguishedName), Cause> {
    // A controller that has just become one answers before it holds every domain.
    if !root.is_catalog_ready {
        return Err(Cause::NoGlobalCatalog("isGlobalCatalogReady: TRUE"));
    }
    let schema = root.schema_naming_context.as_deref();
    let configuration = root
        .configuration_naming_context
        .as_deref()
        .and_then(|configuration| DistinguishedName::parse(configuration).ok());
    Ok((
        schema.ok_or(Cause::NoGlobalCatalog("schemaNamingContext"))?,
        configuration.ok_or(Cause::NoGlobalCatalog("configurationNamingContext"))?,
    ))
}

async fn read_marks(session: &mut Session, schema: &str) -> Result<Marks, Cause> {
    let names: String = ATTRIBUTES
        .iter()
        .map(|name| format!("({NAME}={name})"))
        .collect();
    let filter = format!("(|{names})");
    let query = Query {
        base: schema,
        reach: Reach::Subtree,
        filter: &filter,
        attributes: vec![NAME.to_owned(), IS_MEMBER.to_owned()],
    };
    let mut answers = session.search(&query, &[]).await?;
    let mut entries = Vec::new();
    loop {
        match answers.next().await? {
            Answer::Entry(entry) => {
                entries.push(entry.clone());
                if entries.len() > ATTRIBUTES.len() {
                    let asked = u32::try_from(ATTRIBUTES.len()).unwrap_or(u32::MAX);
                    return Err(Cause::TooManyEntries { asked });
                }
            }
            Answer::Reference(_) => {}
            Answer::End(end) => {
                success(end.outcome)?;
                return Ok(marks(&entries));
            }
        }
    }
}

/// Attributes that the schema does not have are on no object: a forest without Exchange has none of Exchange's.
fn marks(schema: &[Entry]) -> Marks {
    let entry_of = |name: &str| {
        schema.iter().find(|entry| {
            first_text(entry, NAME).is_some_and(|found| found.eq_ignore_ascii_case(name))
        })
    };
    let is_member = |entry: &Entry| {
        first_text(entry, IS_MEMBER).is_some_and(|mark| mark.eq_ignore_ascii_case("TRUE"))
    };
    if !entry_of(ALWAYS_MEMBER).is_some_and(is_member) {
        return Marks::Hidden;
    }
    let lacking: Vec<&'static str> = ATTRIBUTES
        .iter()
        .copied()
        .filter(|name| match entry_of(name) {
            Some(entry) => !is_member(entry),
            None => *name == PROXY_ADDRESSES,
        })
        .collect();
    if lacking.is_empty() {
        Marks::Complete
    } else {
        Marks::Lacking(lacking)
    }
}

fn first_text<'entry>(entry: &'entry Entry, name: &str) -> Option<&'entry str> {
    let value = entry.values(name).next()?;
    std::str::from_utf8(value).ok()
}

/// The same controller as a controller: 636 for 3269, 389 for 3268.
fn ordinary_port(catalog: &ServerAddress) -> ServerAddress {
    let (scheme, port) = if catalog.is_ldaps {
        ("ldaps", 636)
    } else {
        ("ldap", 389)
    };
    let host = &catalog.host;
    let url = if host.contains(':') {
        format!("{scheme}://[{host}]:{port}")
    } else {
        format!("{scheme}://{host}:{port}")
    };
    ServerAddress {
        url,
        is_ldaps: catalog.is_ldaps,
        host: host.clone(),
        port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(marks: &[(&str, &str)]) -> Vec<Entry> {
        let entry = |(name, mark): &(&str, &str)| {
            let mut entry = Entry::named(&format!("CN={name},CN=Schema"));
            for (attribute, value) in [("ldapdisplayname", name), (IS_MEMBER, mark)] {
                entry.add_name(attribute);
                if !value.is_empty() {
                    entry.add_value(value.as_bytes());
                }
            }
            entry
        };
        marks.iter().map(entry).collect()
    }

    #[test]
    fn what_a_schema_says_of_our_attributes() {
        let guid = ("objectGUID", "TRUE");
        let system = "msExchRecipientTypeDetails";
        for (found, expected) in [
            (vec![], Marks::Hidden),
            // A catalog that keeps the mark back, for every attribute alike.
            (
                vec![("objectGUID", ""), ("proxyAddresses", "")],
                Marks::Hidden,
            ),
            (vec![("proxyAddresses", "TRUE")], Marks::Hidden),
            (vec![guid, ("PROXYADDRESSES", "true")], Marks::Complete),
            (
                vec![guid, ("proxyAddresses", "TRUE"), (system, "TRUE")],
                Marks::Complete,
            ),
            (vec![guid], Marks::Lacking(vec!["proxyAddresses"])),
            (
                vec![guid, ("proxyAddresses", "")],
                Marks::Lacking(vec!["proxyAddresses"]),
            ),
            (
                vec![guid, ("proxyAddresses", "FALSE"), (system, "")],
                Marks::Lacking(vec!["proxyAddresses", system]),
            ),
            // Who is a system mailbox must be seen as well, or such get a row.
            (
                vec![guid, ("proxyAddresses", "TRUE"), (system, "FALSE")],
                Marks::Lacking(vec![system]),
            ),
        ] {
            assert_eq!(marks(&schema(&found)), expected, "{found:?}");
        }
    }

    #[test]
    fn the_same_server_at_its_ordinary_port() {
        for (is_ldaps, host, port, expected) in [
            (true, "dc1", 3269, "ldaps://dc1:636"),
            (false, "dc1", 3268, "ldap://dc1:389"),
            (true, "2001:db8::1", 3269, "ldaps://[2001:db8::1]:636"),
        ] {
            let found = ordinary_port(&ServerAddress {
                url: String::new(),
                is_ldaps,
                host: host.into(),
                port,
            });
            assert_eq!(found.url, expected);
            assert!(expected.ends_with(&found.port.to_string()));
            assert!(!found.is_global_catalog());
        }
    }
}

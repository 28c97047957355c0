//! What a server says about itself: the root of its tree (RFC 4512 section 5.1, MS-ADTS 3.1.1.3.2).

use crate::current::Controller;
use crate::entry::Entry;

use super::failure::Cause;
use super::session::{DIRSYNC, Session};

const DEFAULT_NAMING_CONTEXT: &str = "defaultNamingContext";
const CONFIGURATION_NAMING_CONTEXT: &str = "configurationNamingContext";
const SCHEMA_NAMING_CONTEXT: &str = "schemaNamingContext";
const CATALOG_READY: &str = "isGlobalCatalogReady";
const NAMING_CONTEXTS: &str = "namingContexts";
const SERVICE_NAME: &str = "dsServiceName";
const HIGHEST_USN: &str = "highestCommittedUSN";
const SUPPORTED_CONTROL: &str = "supportedControl";
/// Of the entry that `dsServiceName` names.
const INVOCATION_ID: &str = "invocationId";

/// A server about itself; every answer may be missing.
#[derive(Debug, Default)]
pub struct RootDse {
    /// What it proposes as base.
    pub default_naming_context: Option<String>,
    /// Where what is one for the whole forest lies.
    pub configuration_naming_context: Option<String>,
    /// Where the schema lies.
    pub schema_naming_context: Option<String>,
    /// Whether it is a global catalog that holds every domain by now.
    pub is_catalog_ready: bool,
    /// All that it holds: the configuration of a forest has a name below that of the domain, and is none of its parts.
    pub naming_contexts: Vec<String>,
    /// Whether it tells what changed (DirSync).
    pub offers_dirsync: bool,
    highest_usn: Option<u64>,
    invocation_id: Option<String>,
}

impl RootDse {
    /// Asks. A server that does not answer such questions says nothing about itself; that is no error.
    pub async fn read(session: &mut Session) -> Result<RootDse, Cause> {
        let names = [
            DEFAULT_NAMING_CONTEXT,
            CONFIGURATION_NAMING_CONTEXT,
            SCHEMA_NAMING_CONTEXT,
            CATALOG_READY,
            NAMING_CONTEXTS,
            SERVICE_NAME,
            HIGHEST_USN,
            SUPPORTED_CONTROL,
        ];
        let Some(root) = entry(session, "", &names).await? else {
            return Ok(RootDse::default());
        };
        let service = match text(&root, SERVICE_NAME) {
            Some(service) => entry(session, &service, &[INVOCATION_ID]).await?,
            None => None,
        };
        let invocation_id = service
            .as_ref()
            .and_then(|service| service.values(INVOCATION_ID).next())
            .filter(|id| id.len() == 16)
            .map(crate::hold::hex);
        let name = |attribute| text(&root, attribute).filter(|name| !name.is_empty());
        Ok(RootDse {
            default_naming_context: name(DEFAULT_NAMING_CONTEXT),
            configuration_naming_context: name(CONFIGURATION_NAMING_CONTEXT),
            schema_naming_context: name(SCHEMA_NAMING_CONTEXT),
            is_catalog_ready: text(&root, CATALOG_READY)
                .is_some_and(|ready| ready.eq_ignore_ascii_case("TRUE")),
            naming_contexts: (root.values(NAMING_CONTEXTS))
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
            offers_dirsync: root
                .values(SUPPORTED_CONTROL)
                .any(|control| control == DIRSYNC.as_bytes()),
            highest_usn: text(&root, HIGHEST_USN).and_then(|number| number.parse().ok()),
            invocation_id,
        })
    }

    /// Which controller this is, and as of when.
    pub fn controller(&self, url: &str) -> Controller {
        match &self.invocation_id {
            Some(identity) => Controller {
                identity: identity.clone(),
                usn: self.highest_usn,
            },
            // One database behind each URL is the best guess for other servers.
            None => Controller {
                identity: url.to_owned(),
                usn: None,
            },
        }
    }

    /// Whether its changes can be followed: without a count of its own nothing says that a cookie still holds.
    pub fn counts_changes(&self) -> bool {
        self.offers_dirsync && self.invocation_id.is_some() && self.highest_usn.is_some()
    }
}

/// One entry by its name; `None` where the server refuses to show it.
async fn entry(session: &mut Session, dn: &str, names: &[&str]) -> Result<Option<Entry>, Cause> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    match session.read_entry(dn, names).await {
        Ok(entries) => Ok(entries.into_iter().next()),
        Err(Cause::Refused(_)) => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn text(entry: &Entry, name: &str) -> Option<String> {
    let value = entry.values(name).next()?;
    String::from_utf8(value.to_vec()).ok()
}

//! The first conversation with a directory, step by step, for `init`: who answers under a name and with which certificates,
//! what a server says about itself, whether it takes the account, what its first page holds.
//!
//! Each step is a connection of its own, so that a person may think between two of them. Nothing read here becomes a snapshot.
//!
//! Invariant: what is said about the account (its name, its password) is said only inside a connection that the configuration
//! trusts, and an account that was refused is not tried on another server.

use std::net::IpAddr;
use std::time::Instant;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::address::Address;
use crate::config::{LdapSource, ServerAddress};
use crate::entry::Entry;
use crate::error::Failure;
use crate::exchange::Organisation;
use crate::record::Record;
use crate::trust::{self, TrustError};

use super::failure::{Attempt, Cause, NOT_TRIED_AGAIN, ReadFailure, Reason, Step, Trouble};
use super::paged::read_first_page;
use super::rootdse::RootDse;
use super::session::{Patience, Query, Reach, Session};
use super::{Credentials, discover, domains, global_catalog, refuse_to_bind_in_clear, wire};

/// Who answers under a name.
#[derive(Debug)]
pub struct Shown {
    /// The addresses of the name.
    pub addresses: Vec<IpAddr>,
    /// The certificates that were shown, the server's own first (DER).
    pub certificates: Vec<CertificateDer<'static>>,
    /// Why it is not to be trusted, or could not be reached at all.
    pub refusal: Option<Box<Failure>>,
    /// Whether nothing is wrong but that nobody knows the authority.
    pub is_authority_unknown: bool,
    /// Whether trust in the last certificate that was shown would mend that.
    pub shows_its_authority: bool,
}

/// What a server said about itself, to somebody whom it let in.
#[derive(Debug)]
pub struct Met {
    /// Its URL.
    pub server: String,
    /// What it is: "Active Directory", "OpenLDAP".
    pub product: &'static str,
    /// The base that it proposes, or the only one that it has.
    pub base: Option<String>,
    /// Whether that is where a run searches when it is told no base.
    pub is_default_base: bool,
    /// Whether it serves a part of a whole forest, which has no base.
    pub is_global_catalog: bool,
    /// Whether it offers to tell changes (DirSync).
    pub offers_dirsync: bool,
}

/// The beginning of what there is to read.
#[derive(Debug)]
pub struct FirstPage {
    /// Its records.
    pub records: Vec<Record>,
    /// Whether more follow.
    pub has_more: bool,
    /// What is visible of Exchange.
    pub organisation: Option<Organisation>,
}

/// Why a step failed.
#[derive(Debug)]
pub struct Refused {
    /// The five answers.
    pub failure: Box<Failure>,
    /// Whether the directory refused the account: after a few more of these it may lock it.
    pub is_of_account: bool,
}

/// A source that is being introduced.
#[derive(Clone, Copy, Debug)]
pub struct Introduction<'run> {
    /// Its name in the configuration.
    pub source_name: &'run str,
    /// How it is to be read.
    pub source: &'run LdapSource,
    /// An authority that is to be trusted and lies in no file yet, instead of `ca_file`.
    pub authority: Option<&'run CertificateDer<'static>>,
    /// The end of all patience.
    pub deadline: Instant,
}

impl Introduction<'_> {
    /// Its servers: those that are named, or those that DNS names now.
    pub fn servers(&self) -> Result<Vec<ServerAddress>, Box<Failure>> {
        let found = discover::servers(self.source_name, self.source, self.deadline);
        let found = in_a_runtime(async { found.await.map_err(Reason::Discovery) });
        found.map_err(|reason| self.failed(reason).failure)
    }

    /// Connects to one of them, and looks at its certificates.
    pub fn shown_by(&self, server: &ServerAddress) -> Shown {
        let looked = in_a_runtime(async {
            let trouble = |cause| Trouble::new(Step::Connect, cause);
            let addresses = match self.patience().wait(wire::addresses(server)).await {
                Ok(Ok(addresses)) => addresses,
                Ok(Err(cause)) | Err(cause) => {
                    return Ok((Vec::new(), Vec::new(), Err(trouble(cause))));
                }
            };
            let roots = self.roots().map_err(Reason::Trust)?;
            let shown = wire::shown_by(server, self.source, roots);
            let bounded = tokio::time::timeout(self.source.connect_timeout, shown);
            let (certificates, outcome) = match bounded.await {
                Ok(shown) => shown?,
                Err(_) => {
                    let cause = Cause::ConnectTimeout(self.source.connect_timeout);
                    (Vec::new(), Err(trouble(cause)))
                }
            };
            Ok((addresses, certificates, outcome))
        });
        let (addresses, certificates, outcome) = match looked {
            Ok(looked) => looked,
            Err(reason) => return Shown::nothing(self.failed(reason).failure),
        };
        let is_authority_unknown = outcome.as_ref().is_err_and(Trouble::is_unknown_authority);
        let shows_its_authority = is_authority_unknown
            && (certificates.last())
                .is_some_and(|last| wire::is_trusted_through(last, &certificates, server));
        Shown {
            addresses,
            certificates,
            refusal: outcome.err().map(|trouble| {
                self.failed(Reason::Servers(vec![attempt(server, trouble)]))
                    .failure
            }),
            is_authority_unknown,
            shows_its_authority,
        }
    }

    /// Lets a server know who asks, and asks it about itself.
    pub fn meet(&self, credentials: &Credentials) -> Result<Met, Refused> {
        self.ask(credentials, async |session, server| {
            let root = read_root(session).await?;
            let is_global_catalog = server.is_global_catalog();
            let only = match root.naming_contexts.as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            };
            Ok(Met {
                server: server.url.clone(),
                product: product(session).await?,
                is_default_base: is_global_catalog || root.default_naming_context.is_some(),
                base: match is_global_catalog {
                    true => Some(global_catalog::FOREST.to_owned()),
                    false => root.default_naming_context.or(only),
                },
                is_global_catalog,
                offers_dirsync: root.offers_dirsync && !is_global_catalog,
            })
        })
    }

    /// Reads the first page below a base, and what is visible of Exchange.
    pub fn first_page(&self, base: &str, credentials: &Credentials) -> Result<FirstPage, Refused> {
        self.ask(credentials, async |session, server| {
            let root = read_root(session).await?;
            let source = self.source;
            let (records, has_more) =
                read_first_page(session, base, &source.filter, source.page_size).await?;
            let configuration = root.configuration_naming_context.as_deref();
            let configuration = configuration.filter(|_| !server.is_global_catalog());
            // That it cannot be seen is no fault: `doctor` says more about that.
            let organisation = domains::read(session, configuration, source).await.ok();
            Ok(FirstPage {
                records,
                has_more,
                organisation,
            })
        })
    }

    /// Whether anything below a base has this address.
    pub fn has_address(
        &self,
        base: &str,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<bool, Refused> {
        let filter = format!("(proxyAddresses=smtp:{})", escaped(&address.to_string()));
        self.ask(credentials, async |session, _| {
            let query = Query {
                base,
                reach: Reach::Subtree,
                filter: &filter,
                attributes: vec!["1.1".to_owned()],
            };
            let step = Step::Page {
                base: base.to_owned(),
                number: 1,
            };
            match session.read_query(&query).await {
                Ok(entries) => Ok(!entries.is_empty()),
                // Two objects with one address: it is there all the same.
                Err(Cause::TooManyEntries { .. }) => Ok(true),
                Err(cause) => Err(Trouble::new(step, cause)),
            }
        })
    }

    /// Asks the first server that can be asked.
    fn ask<Answer>(
        &self,
        credentials: &Credentials,
        mut question: impl AsyncFnMut(&mut Session, &ServerAddress) -> Result<Answer, Trouble>,
    ) -> Result<Answer, Refused> {
        let asked = in_a_runtime(async {
            refuse_to_bind_in_clear(self.source)?;
            let settings = self.roots().and_then(trust::trusting);
            let tls = wire::tls_settings_trusting(settings, credentials)?;
            let servers = discover::servers(self.source_name, self.source, self.deadline)
                .await
                .map_err(Reason::Discovery)?;
            let mut attempts = Vec::new();
            for server in &servers {
                let opened =
                    Session::open(server, self.source, &tls, credentials, self.patience()).await;
                let answer = match opened {
                    Ok(mut session) => {
                        let answer = question(&mut session, server).await;
                        session.close().await;
                        answer
                    }
                    Err(trouble) => Err(trouble),
                };
                match answer {
                    Ok(answer) => return Ok(answer),
                    Err(trouble) => {
                        let is_final = trouble.is_refused_account();
                        attempts.push(attempt(server, trouble));
                        if is_final {
                            break;
                        }
                    }
                }
            }
            Err(Reason::Servers(attempts))
        });
        asked.map_err(|reason| self.failed(reason))
    }

    fn roots(&self) -> Result<RootCertStore, TrustError> {
        let Some(authority) = self.authority else {
            return trust::roots(self.source.ca_file.as_deref());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(TrustError::Library)?;
        Ok(roots)
    }

    fn patience(&self) -> Patience {
        Patience {
            answer: self.source.timeout,
            deadline: self.deadline,
        }
    }

    fn failed(&self, reason: Reason) -> Refused {
        let is_of_account = matches!(
            &reason,
            Reason::Servers(attempts) if attempts.iter().any(|attempt| attempt.trouble.is_refused_account())
        );
        let source_name = self.source_name.to_owned();
        let read = ReadFailure {
            source_name,
            reason,
        };
        let mut failure = Box::new(read.failure("nothing was written"));
        // There is one source, and here the account may well be tried again.
        let told = failure
            .what
            .strip_prefix(&format!("source {}: ", self.source_name));
        failure.what = told.unwrap_or(&failure.what).to_owned();
        failure.next = failure.next.replace(NOT_TRIED_AGAIN, "");
        Refused {
            failure,
            is_of_account,
        }
    }
}

impl Shown {
    fn nothing(refusal: Box<Failure>) -> Shown {
        Shown {
            addresses: Vec::new(),
            certificates: Vec::new(),
            refusal: Some(refusal),
            is_authority_unknown: false,
            shows_its_authority: false,
        }
    }
}

fn in_a_runtime<Answer>(
    work: impl Future<Output = Result<Answer, Reason>>,
) -> Result<Answer, Reason> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(Reason::Runtime)?;
    let answer = runtime.block_on(work);
    // Not dropped: a name resolution that hangs would be waited for.
    runtime.shutdown_background();
    answer
}

fn attempt(server: &ServerAddress, trouble: Trouble) -> Attempt {
    Attempt {
        server: server.url.clone(),
        trouble,
    }
}

async fn read_root(session: &mut Session) -> Result<RootDse, Trouble> {
    let root = RootDse::read(session).await;
    root.map_err(|cause| Trouble::new(Step::RootDse, cause))
}

/// What answers, as far as its root tells (MS-ADTS 3.1.1.3.4.3; OpenLDAP's `objectClass`; RFC 3045).
async fn product(session: &mut Session) -> Result<&'static str, Trouble> {
    const CAPABILITIES: &str = "supportedCapabilities";
    const CLASS: &str = "objectClass";
    const VENDOR: &str = "vendorName";
    let names = [CAPABILITIES, CLASS, VENDOR].map(str::to_owned).to_vec();
    let root = session.read_entry("", names).await;
    let root = root.map_err(|cause| Trouble::new(Step::RootDse, cause))?;
    let has = |attribute: &str, part: &str| {
        let values = root
            .first()
            .into_iter()
            .flat_map(|root: &Entry| root.values(attribute));
        values
            .into_iter()
            .any(|value| String::from_utf8_lossy(value).contains(part))
    };
    Ok(if has(VENDOR, "Samba") {
        "a Samba domain controller"
    } else if has(CAPABILITIES, "1.2.840.113556.1.4.1851") {
        "Active Directory Lightweight Directory Services"
    } else if has(CAPABILITIES, "1.2.840.113556.1.4.800") {
        "an Active Directory domain controller"
    } else if has(CLASS, "OpenLDAProotDSE") {
        "OpenLDAP"
    } else {
        "an LDAP server that does not say what it is"
    })
}

/// A value inside a filter (RFC 4515 section 3).
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '*' | '(' | ')' | '\\' | '\0' => {
                text.push_str(&format!("\\{:02x}", u32::from(character)))
            }
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_filter_is_an_address_and_no_filter() {
        for (address, expected) in [
            ("anna@example.com", "anna@example.com"),
            ("a*)(b@example.com", "a\\2a\\29\\28b@example.com"),
            ("\"a\\\\b\"@example.com", "\"a\\5c\\5cb\"@example.com"),
        ] {
            assert_eq!(escaped(address), expected);
        }
    }
}

//! A look at every server of a source, one by one, for `doctor`: connected, bound, asked about itself and its clock; and, of
//! the first that has it, what Exchange is set to do with mail that it refuses.
//!
//! A read is content with the first server that answers; here each one is tried, so that the one that only stands by is known
//! to work too. A refusal of the account ends it: a password is not tried against one server after the other. Nothing read
//! here decides about a recipient.

use std::time::Instant;

use crate::config::{LdapSource, ServerAddress};
use crate::entry::Entry;
use crate::error::Failure;
use crate::exchange::{self, ACCEPTED_DOMAIN_CLASS, FLAGS, NAME, Relation};
use crate::time::Timestamp;

use super::failure::{Attempt, Cause, ReadFailure, Reason, Step, Trouble};
use super::paged::{Budget, read_entries};
use super::rootdse::RootDse;
use super::session::{Patience, Query, Reach, Session};
use super::{Credentials, discover, refuse_to_bind_in_clear, wire};

/// What was found on one server.
#[derive(Debug)]
pub struct ServerSeen {
    /// Its URL.
    pub url: String,
    /// Its clock, and this machine's time when it said so; or why it could not be asked.
    pub clock: Result<Option<Clock>, Box<Failure>>,
}

/// What a server takes the time to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Its time.
    pub theirs: Timestamp,
    /// When the answer came.
    pub at: Instant,
}

/// What was found behind a source.
#[derive(Debug, Default)]
pub struct SourceSeen {
    /// Its servers in their order, up to one that refused the account.
    pub servers: Vec<ServerSeen>,
    /// What is known of Exchange there; `None` where nothing of it is visible.
    pub posture: Option<Posture>,
}

/// What Exchange does with mail for recipients it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posture {
    /// Per remote domain (`*` is the default), whether non-delivery reports go there.
    pub remote_domains: Vec<RemoteDomain>,
    /// `msExchAgentsFlags` of the recipient filter.
    pub recipient_filter: Option<i64>,
    /// Authoritative domains for which Exchange does not look recipients up (`AddressBookEnabled` is off).
    pub without_look_up: Vec<String>,
}

/// A remote domain of Exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteDomain {
    /// Whom it is about.
    pub name: String,
    /// Whether non-delivery reports are sent there.
    pub sends_reports: bool,
}

const CURRENT_TIME: &str = "currentTime";
const REMOTE_DOMAIN_CLASS: &str = "msExchDomainContentConfig";
const REMOTE_DOMAIN_NAME: &str = "domainName";
const ACCEPTED_MESSAGES: &str = "msExchRoutingAcceptMessageType";
const FILTER_CLASS: &str = "msExchMessageHygieneRecipientFilterConfig";
const AGENT_FLAGS: &str = "msExchAgentsFlags";

/// Non-delivery reports, of `msExchRoutingAcceptMessageType`.
const REPORTS_BIT: i64 = 0x10;
/// What that attribute means where it is absent.
const ACCEPTED_BY_DEFAULT: i64 = 30;
const LOOK_UP_BIT: i64 = 0x8;

/// Looks at all servers of a source.
pub fn look(
    source_name: &str,
    source: &LdapSource,
    deadline: Instant,
) -> Result<SourceSeen, Box<Failure>> {
    let failed = |reason| {
        let source_name = source_name.to_owned();
        let failure = ReadFailure {
            source_name,
            reason,
        };
        Box::new(failure.failure(""))
    };
    let prepared = || -> Result<_, Reason> {
        refuse_to_bind_in_clear(source)?;
        let credentials = Credentials::read(&source.bind).map_err(Reason::Credentials)?;
        let tls = wire::tls_settings(source, &credentials)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(Reason::Runtime)?;
        Ok((credentials, tls, runtime))
    };
    let (credentials, tls, runtime) = prepared().map_err(failed)?;
    let patience = Patience {
        answer: source.timeout,
        deadline,
    };
    let seen = runtime.block_on(async {
        let servers = discover::servers(source_name, source, deadline)
            .await
            .map_err(|failure| failed(Reason::Discovery(failure)))?;
        let mut seen = SourceSeen::default();
        for server in &servers {
            let opened = Session::open(server, source, &tls, &credentials, patience).await;
            let is_posture_known = seen.posture.is_some();
            let asked = match opened {
                Ok(session) => ask(session, server, source, is_posture_known).await,
                Err(trouble) => Err(trouble),
            };
            let is_refused = asked.as_ref().is_err_and(Trouble::is_refused_account);
            let clock = asked.map(|(clock, posture)| {
                seen.posture = seen.posture.take().or(posture);
                clock
            });
            seen.servers.push(ServerSeen {
                url: server.url.clone(),
                clock: clock.map_err(|trouble| {
                    failed(Reason::Servers(vec![Attempt {
                        server: server.url.clone(),
                        trouble,
                    }]))
                }),
            });
            if is_refused {
                break;
            }
        }
        Ok(seen)
    });
    // Not dropped: a name resolution that hangs would be waited for.
    runtime.shutdown_background();
    seen
}

async fn ask(
    mut session: Session,
    server: &ServerAddress,
    source: &LdapSource,
    is_posture_known: bool,
) -> Result<(Option<Clock>, Option<Posture>), Trouble> {
    let trouble = |cause| Trouble::new(Step::RootDse, cause);
    let asked = async {
        let root = RootDse::read(&mut session).await.map_err(trouble)?;
        let clock = session.read_entry("", vec![CURRENT_TIME.to_owned()]).await;
        let clock = match clock {
            Ok(entries) => entries.first().and_then(time_of),
            Err(Cause::Refused(_)) => None,
            Err(cause) => return Err(trouble(cause)),
        };
        let clock = clock.map(|theirs| Clock {
            theirs,
            at: Instant::now(),
        });
        let posture = match &root.configuration_naming_context {
            Some(base) if !is_posture_known && !server.is_global_catalog() => {
                read_posture(&mut session, base, source.page_size).await
            }
            _ => None,
        };
        Ok((clock, posture))
    };
    let asked = asked.await;
    session.close().await;
    asked
}

/// `None` where nothing of it is visible: that the account may not see it is no fault.
async fn read_posture(session: &mut Session, base: &str, page_size: u32) -> Option<Posture> {
    let mut posture = Posture::default();
    let budget = &mut Budget::default();
    let questions = [
        (REMOTE_DOMAIN_CLASS, [REMOTE_DOMAIN_NAME, ACCEPTED_MESSAGES]),
        (FILTER_CLASS, ["cn", AGENT_FLAGS]),
        (ACCEPTED_DOMAIN_CLASS, [NAME, FLAGS]),
    ];
    let mut is_anything_visible = false;
    for (class, attributes) in questions {
        let filter = format!("(objectClass={class})");
        let query = Query {
            base,
            reach: Reach::Subtree,
            filter: &filter,
            attributes: attributes.map(str::to_owned).to_vec(),
        };
        let entries = match read_entries(session, &query, page_size, budget).await {
            Ok(entries) => entries,
            Err(trouble) => {
                tracing::debug!("no look for objects of class {class}: {}", trouble.cause);
                // An error of the connection is final, so nothing is asked behind one.
                if matches!(trouble.cause, Cause::Refused(_)) {
                    continue;
                }
                break;
            }
        };
        is_anything_visible |= !entries.is_empty();
        for entry in &entries {
            add(&mut posture, class, entry);
        }
    }
    is_anything_visible.then_some(posture)
}

fn add(posture: &mut Posture, class: &str, entry: &Entry) {
    match class {
        REMOTE_DOMAIN_CLASS => posture.remote_domains.extend(remote_domain(entry)),
        FILTER_CLASS => posture.recipient_filter = number(entry, AGENT_FLAGS),
        _ => {
            if let Ok(accepted) = exchange::accepted_domain(entry)
                && accepted.relation == Relation::Authoritative
                && number(entry, FLAGS).is_none_or(|flags| flags & LOOK_UP_BIT == 0)
            {
                posture.without_look_up.push(accepted.domain.to_string());
            }
        }
    }
}

fn remote_domain(entry: &Entry) -> Option<RemoteDomain> {
    let accepted = number(entry, ACCEPTED_MESSAGES).unwrap_or(ACCEPTED_BY_DEFAULT);
    Some(RemoteDomain {
        name: text(entry, REMOTE_DOMAIN_NAME)?,
        sends_reports: accepted & REPORTS_BIT != 0,
    })
}

fn text(entry: &Entry, attribute: &str) -> Option<String> {
    let value = entry.values(attribute).next()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn number(entry: &Entry, attribute: &str) -> Option<i64> {
    text(entry, attribute)?.parse().ok()
}

fn time_of(root: &Entry) -> Option<Timestamp> {
    generalized_time(&text(root, CURRENT_TIME)?)
}

/// `20261126001300.0Z`, as directories say it: in UTC.
fn generalized_time(text: &str) -> Option<Timestamp> {
    let (digits, rest) = text.split_at_checked(14)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !rest.ends_with('Z') {
        return None;
    }
    let part = |at: std::ops::Range<usize>| digits.get(at).unwrap_or_default();
    let (year, month, day) = (part(0..4), part(4..6), part(6..8));
    let (hour, minute, second) = (part(8..10), part(10..12), part(12..14));
    let readable = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    let time = humantime::parse_rfc3339(&readable).ok()?;
    Some(Timestamp::from(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_directory() {
        let at = |text| generalized_time(text).map(|time| time.to_string());
        let expected = Some("2026-11-26T00:13:00Z".to_owned());
        assert_eq!(at("20261126001300.0Z"), expected);
        assert_eq!(at("20261126001300Z"), expected);
        for text in [
            "",
            "2026",
            "20261326001300Z",
            "2026112600130x.0Z",
            "20261126001300+0100",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn reports_go_out_unless_the_bit_is_clear() {
        for (accepted, sends_reports) in [
            (None, true),
            (Some("30"), true),
            (Some("14"), false),
            (Some("x"), true),
        ] {
            let mut entry = Entry::named("CN=Default");
            entry.add_name(REMOTE_DOMAIN_NAME);
            entry.add_value(b"*");
            if let Some(accepted) = accepted {
                entry.add_name(ACCEPTED_MESSAGES);
                entry.add_value(accepted.as_bytes());
            }
            let expected = RemoteDomain {
                name: "*".into(),
                sends_reports,
            };
            assert_eq!(remote_domain(&entry), Some(expected), "{accepted:?}");
        }
    }
}

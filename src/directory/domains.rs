//! What the directory says of its Exchange organisation, read on the session that read the recipients.
//!
//! Accepted domains and a hybrid configuration lie below the configuration naming context; public folders lie where a
//! narrow `base` may not reach them. Accepted domains are read by the same paging as recipients, so an answer is all of
//! them or an error. That none is visible may mean that the account may not see them: what is made of that is not decided
//! here.

use crate::config::{LdapSource, ServerAddress};
use crate::dn::DistinguishedName;
use crate::entry::Entry;
use crate::error::Failure;
use crate::exchange::{
    self, ACCEPTED_DOMAIN_CLASS, AcceptedDomain, FLAGS, HYBRID_CLASS, NAME, Organisation, Unusable,
};

use super::failure::{Attempt, Cause, ReadFailure, Reason, Step, Trouble, safe};
use super::paged::{Budget, read_entries};
use super::session::{Query, Reach, Session};

/// Where Exchange keeps its own objects in each domain, public folders among them.
const SYSTEM_OBJECTS: &str = "CN=Microsoft Exchange System Objects";

/// Reads everything there is to know, where the server named its `configuration`. An error is one of the accepted
/// domains; the rest is looked for as far as it can be seen.
pub async fn read(
    session: &mut Session,
    configuration: Option<&str>,
    source: &LdapSource,
) -> Result<Organisation, Trouble> {
    let mut organisation = Organisation::default();
    // Not Active Directory.
    let Some(configuration) = configuration else {
        return Ok(organisation);
    };
    let budget = &mut Budget::default();
    let filter = format!("(objectClass={ACCEPTED_DOMAIN_CLASS})");
    let entries = read_entries(
        session,
        &query(configuration, &filter, &[NAME, FLAGS]),
        source.page_size,
        budget,
    )
    .await?;
    for entry in &entries {
        let base = configuration.to_owned();
        let trouble = |cause| Trouble::new(Step::Page { base, number: 1 }, cause);
        organisation
            .accepted_domains
            .extend(accepted(entry).map_err(trouble)?);
    }
    // An error of the connection is final, so nothing is asked behind one.
    let filter = format!("(objectClass={HYBRID_CLASS})");
    let hybrid = query(configuration, &filter, &["cn"]);
    match read_entries(session, &hybrid, source.page_size, budget).await {
        Ok(entries) => organisation.is_hybrid = Some(!entries.is_empty()),
        Err(trouble) if is_refusal(&trouble) => {
            tracing::debug!("no look for a hybrid configuration: {}", trouble.cause)
        }
        Err(trouble) => {
            tracing::debug!("no look for a hybrid configuration: {}", trouble.cause);
            return Ok(organisation);
        }
    }
    organisation.folders_out_of_reach = folders_out_of_reach(session, source, budget).await;
    Ok(organisation)
}

fn query<'query>(base: &'query str, filter: &'query str, attributes: &[&str]) -> Query<'query> {
    Query {
        base,
        reach: Reach::Subtree,
        filter,
        attributes: attributes.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn is_refusal(trouble: &Trouble) -> bool {
    matches!(trouble.cause, Cause::Refused(_))
}

/// `None` for a name that lists nothing, which is told.
fn accepted(entry: &Entry) -> Result<Option<AcceptedDomain>, Cause> {
    match exchange::accepted_domain(entry) {
        Ok(domain) => Ok(Some(domain)),
        Err(Unusable::Name(name)) => {
            tracing::warn!(
                "the accepted domain \"{}\" ({}) is no domain that could be listed",
                safe(&name),
                safe(entry.dn())
            );
            Ok(None)
        }
        Err(Unusable::Flags) => Err(Cause::Entry(
            "an accepted domain whose flags are not a number",
        )),
    }
}

/// The containers beside every base in which a recipient lies that no base reaches.
async fn folders_out_of_reach(
    session: &mut Session,
    source: &LdapSource,
    budget: &mut Budget,
) -> Vec<String> {
    let mut found = Vec::new();
    for container in containers_out_of_reach(&source.bases) {
        let folders = query(
            &container,
            "(&(objectClass=publicFolder)(proxyAddresses=smtp:*))",
            &["cn"],
        );
        match read_entries(session, &folders, source.page_size, budget).await {
            Ok(entries) if entries.is_empty() => {}
            Ok(_) => found.push(container),
            Err(trouble) if is_refusal(&trouble) => {}
            Err(_) => break,
        }
    }
    found
}

/// Per domain that a base lies in, the container of Exchange's own objects that no base holds.
fn containers_out_of_reach(bases: &[String]) -> Vec<String> {
    let parsed: Vec<DistinguishedName> = bases
        .iter()
        .filter_map(|base| DistinguishedName::parse(base).ok())
        .collect();
    let mut containers: Vec<String> = Vec::new();
    for base in &parsed {
        let Some(domain) = base.domain() else {
            continue;
        };
        let container = format!("{SYSTEM_OBJECTS},{domain}");
        let is_reached = DistinguishedName::parse(&container)
            .is_ok_and(|container| parsed.iter().any(|base| container.is_at_or_under(base)));
        if !is_reached && !containers.contains(&container) {
            containers.push(container);
        }
    }
    containers
}

/// The failure of a look at the accepted domains. The caller says what remains in force.
pub fn failure(source_name: &str, server: &ServerAddress, trouble: Trouble) -> Box<Failure> {
    let read = ReadFailure {
        source_name: source_name.to_owned(),
        reason: Reason::Servers(vec![Attempt {
            server: server.url.clone(),
            trouble,
        }]),
    };
    let mut failure = Box::new(read.failure(""));
    let told = failure
        .what
        .strip_prefix(&format!("source {source_name}: "));
    failure.why = format!("{}: {}", told.unwrap_or(&failure.what), failure.why);
    failure.what = format!("source {source_name}: the accepted domains could not be read");
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bases: &[&str], expected: &[&str]) {
        let bases: Vec<String> = bases.iter().map(|base| (*base).to_owned()).collect();
        assert_eq!(containers_out_of_reach(&bases), expected, "{bases:?}");
    }

    #[test]
    fn a_narrow_base_does_not_reach_public_folders() {
        let container = "CN=Microsoft Exchange System Objects,dc=corp,dc=example";
        check(&[], &[]);
        check(&["DC=corp,DC=example"], &[]);
        check(&["OU=Staff,DC=corp,DC=example"], &[container]);
        check(
            &["OU=Staff,DC=corp,DC=example", "OU=Rooms,dc=CORP,dc=example"],
            &[container],
        );
        check(&["OU=Staff,DC=corp,DC=example", "dc=corp,dc=example"], &[]);
        check(
            &[
                "OU=Staff,DC=corp,DC=example",
                "cn=microsoft exchange system objects,DC=corp,DC=example",
            ],
            &[],
        );
        check(
            &["DC=corp,DC=example", "OU=x,DC=child,DC=corp,DC=example"],
            &[],
        );
        check(&["o=corp"], &[]);
    }
}

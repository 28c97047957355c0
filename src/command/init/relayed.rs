//! Domains that this Postfix relays, beside those that the published table knows recipients of.
//!
//! A domain that is relayed today and has no recipient in the table would lose all its mail in the moment in which Postfix asks
//! the table. So it is told before anything is set.

use crate::config::{Config, Table};
use crate::domains::{Domains, Numbering};
use crate::error::Result;
use crate::fold::Folding;
use crate::postfix::relay_domains::{RelayDomainsError, relay_domains};
use crate::state::State;
use crate::table::rows::{Row, Rows};

/// What stands in the way of asking the table, a sentence each.
pub fn conflicts(config: &Config, table: &Table) -> Result<Vec<String>> {
    let entries = match relay_domains() {
        Ok(entries) => entries,
        // Nothing is relayed yet, so nothing can be lost.
        Err(RelayDomainsError::Empty | RelayDomainsError::NoPostfix) => return Ok(Vec::new()),
        Err(error) => {
            return Ok(vec![format!(
                "relay_domains cannot be listed ({error}), so nobody can say whether the table knows recipients of each domain; \
                 make sure of it, then set the parameters by hand: `rcptsync init postfix --print` shows them"
            )]);
        }
    };
    let state = State::view(&config.state_dir);
    let head = state.head()?;
    let published = head.tables.get(&table.name);
    let ledger = published.and_then(|known| state.ledger(&table.name, known).ok());
    let Some(ledger) = ledger else {
        return Ok(vec![format!(
            "table {} is no table of ours yet: publish it first (`rcptsync sync`)",
            table.name
        )]);
    };
    let without = without_recipients(&Domains::of(entries), &ledger.rows);
    let sentence = |name: String| {
        format!(
            "{name} is relayed, and the table has no recipient of it: all its mail would be refused. Give it a source (kind = \
             \"list\") or a policy ([domain.\"{name}\"]), or take it out of relay_domains"
        )
    };
    Ok(without.into_iter().map(sentence).collect())
}

/// Listed domains that no row accepts anybody of, but for what the configuration adds to every domain.
fn without_recipients(relayed: &Domains, rows: &Rows) -> Vec<String> {
    let forms = relayed.forms(Folding::Both);
    let mut numbering = Numbering::of(&forms);
    let mut are_known = vec![false; numbering.listed_count()];
    for row in rows.iter().filter(accepts_somebody) {
        if let Some(is_known) = are_known.get_mut(numbering.number_of(row.key)) {
            *is_known = true;
        }
    }
    let names = forms.names().iter().zip(are_known);
    names
        .filter(|(_, is_known)| !is_known)
        .map(|(name, _)| name.clone())
        .collect()
}

fn accepts_somebody(row: &Row<'_>) -> bool {
    let facts = row.facts();
    facts.counts() || facts.is_foreign || row.key.starts_with(b"@")
}

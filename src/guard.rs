//! The limits on a change: what flows, and what is held until somebody has looked.
//!
//! The guard gets the table in force, the wanted one, and what is known of the sources; it gives back the rows to
//! publish, which it alone can make ([`Approved`]), and the holds. Every held removal stays in the table, every held
//! addition stays out, everything else flows. It judges from the narrow to the wide: what a domain's limit holds back is
//! not counted again against its source or the table, so each row waits in one hold only and one collapsed domain does
//! not stop the leavers of the others.
//!
//! Pure: the time, the approvals and the removals of the window are values. Dry runs are judged by the same call.
//!
//! Invariant: [`Approved`] owns the very rows that were judged.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Limits, TableKind};
use crate::domains::{Forms, Numbering};
use crate::elsewhere::Elsewhere;
use crate::hold::{Cause, Hold, Released, Standing};
use crate::table::rows::{Facts, Row, Rows, RowsBuilder};
use crate::table::value::Meaning;
use crate::time::Timestamp;

/// Everything the guard judges by, for one table.
#[derive(Debug)]
pub struct Evidence<'run> {
    /// The table's name.
    pub table: &'run str,
    /// What the gateway asks it.
    pub kind: TableKind,
    /// What the gateway reads now.
    pub in_force: &'run Rows,
    /// What the sources and the configuration want it to read.
    pub wanted: &'run Rows,
    /// Whether this program has never published the table.
    pub is_first: bool,
    /// Whether a foreign file has values that differ from row to row.
    pub values_vary: bool,
    /// The beginning of the digest of a foreign file that cannot be read, so that nobody knows what would go.
    pub unread: Option<&'run str>,
    /// The sources that rows name, by number.
    pub sources: &'run [SourceEvidence],
    /// The listed domains, as they stand in keys.
    pub domains: &'run Forms,
    /// Origins of domains that were never read.
    pub domains_never_read: &'run [String],
    /// Listed domains with signs that recipients of theirs live elsewhere.
    pub elsewhere: &'run [Elsewhere],
    /// Canaries that no source gives.
    pub canaries_missing: &'run [String],
    /// The configured limits.
    pub limits: &'run Limits,
    /// How long a vanished address stays.
    pub grace: Duration,
    /// Removals of the window that nobody approved, before this run.
    pub window: &'run Counts,
    /// What approvals release.
    pub released: &'run Released,
    /// Changes that were undone before.
    pub standing: &'run [Standing],
    /// The time of the run.
    pub now: Timestamp,
    /// Rows that are leaving have been so since then at the longest: the clock was set ahead.
    pub steady_since: Timestamp,
}

/// What the guard must know of a source.
#[derive(Clone, Debug, Default)]
pub struct SourceEvidence {
    /// Its name.
    pub name: String,
    /// Not in the configuration any more.
    pub is_removed: bool,
    /// Never read completely.
    pub is_never_complete: bool,
    /// Read completely, and there was nothing; nobody has approved of that.
    pub is_empty: bool,
    /// Search references of its last complete read that no source covers.
    pub uncovered_referrals: Vec<String>,
}

/// Counts of rows, per scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// In the table.
    pub table: u64,
    /// Per domain name.
    pub domains: BTreeMap<String, u64>,
    /// Per source name.
    pub sources: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds other counts to these.
    pub fn add(&mut self, other: &Counts) {
        self.table += other.table;
        for (domain, count) in &other.domains {
            *self.domains.entry(domain.clone()).or_default() += count;
        }
        for (source, count) in &other.sources {
            *self.sources.entry(source.clone()).or_default() += count;
        }
    }

    /// Whether they count nothing.
    pub fn is_zero(&self) -> bool {
        self.table == 0
    }
}

/// What may be published: made by [`judge`] alone, and the only thing that publishing accepts.
#[derive(Debug)]
pub struct Approved {
    rows: Rows,
    removed: Counts,
}

impl Approved {
    /// The rows of an earlier generation, which were approved then.
    pub fn again(rows: Rows) -> Approved {
        Approved {
            rows,
            removed: Counts::default(),
        }
    }

    /// The rows of the table after the change.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The removals that nobody approved, to be counted in the window.
    pub fn removed(&self) -> &Counts {
        &self.removed
    }
}

/// The guard's judgement of one table.
#[derive(Debug)]
pub struct Judgement {
    /// What flows.
    pub approved: Approved,
    /// What waits.
    pub holds: Vec<Hold>,
}

impl Judgement {
    /// Whether the table may serve as another kind of map, and is left as it is altogether, values included.
    pub fn leaves_alone(&self) -> bool {
        self.holds
            .iter()
            .any(|hold| matches!(hold.cause, Cause::ForeignValues | Cause::ForeignUnread))
    }
}

/// Judges the change from the table in force to the wanted one.
pub fn judge(evidence: &Evidence<'_>) -> Judgement {
    let mut bench = Bench::new(evidence);
    if evidence.values_vary {
        bench.hold_foreign(Cause::ForeignValues, evidence.table);
    }
    if let Some(digest) = evidence.unread {
        bench.hold_foreign(Cause::ForeignUnread, digest);
    }
    bench.hold_what_was_undone();
    bench.hold_by_unknown_domains();
    bench.hold_by_origin();
    if evidence.kind.has_addresses() {
        bench.hold_by_source_state();
    }
    if evidence.kind.decides_on_recipients() {
        bench.hold_by_signs();
        bench.hold_by_expectation();
        bench.hold_by_domain();
    }
    if evidence.kind.has_addresses() {
        bench.hold_by_source();
        bench.hold_by_table();
        bench.hold_additions();
    }
    if evidence.kind.decides_on_recipients() {
        bench.hold_without_successors();
        bench.hold_refusals_of_everybody();
    }
    bench.rise()
}

/// A removal or an addition under judgement.
#[derive(Clone, Copy, Debug)]
struct Candidate<'run> {
    row: Row<'run>,
    domain: usize,
    is_held: bool,
}

/// Counts by number; [`Bench::named`] gives them their names.
#[derive(Clone, Default)]
struct Tally {
    table: u64,
    domains: Vec<u64>,
    sources: Vec<u64>,
}

impl Tally {
    fn count(&mut self, domain: usize, facts: Facts) {
        self.table += 1;
        bump(&mut self.domains, domain);
        for source in facts.sources.numbers() {
            bump(&mut self.sources, source);
        }
    }

    fn domain(&self, number: usize) -> u64 {
        self.domains.get(number).copied().unwrap_or(0)
    }

    fn source(&self, number: usize) -> u64 {
        self.sources.get(number).copied().unwrap_or(0)
    }
}

fn bump(counts: &mut Vec<u64>, at: usize) {
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    counts[at] += 1;
}

struct Bench<'run> {
    evidence: &'run Evidence<'run>,
    domains: Numbering<'run>,
    /// Removals that are neither approved, nor free, nor already leaving.
    removals: Vec<Candidate<'run>>,
    additions: Vec<Candidate<'run>>,
    /// Counted rows in force that are not leaving.
    in_force: Tally,
    /// Rows in force that we published for a source, leaving or not.
    published: Tally,
    /// Counted rows wanted.
    wanted: Tally,
    /// Domains whose first publication waits: what stands there is not ours yet.
    not_ours: Vec<usize>,
    holds: Vec<Hold>,
}

impl<'run> Bench<'run> {
    fn new(evidence: &'run Evidence<'run>) -> Self {
        let mut bench = Bench {
            evidence,
            domains: Numbering::of(evidence.domains),
            removals: Vec::new(),
            additions: Vec::new(),
            in_force: Tally::default(),
            published: Tally::default(),
            wanted: Tally::default(),
            not_ours: Vec::new(),
            holds: Vec::new(),
        };
        for (was, is) in evidence.in_force.walk(evidence.wanted) {
            let Some(row) = was.or(is) else { continue };
            let domain = bench.domains.number_of(row.key);
            if let Some(facts) = was.map(|row| row.facts()) {
                if facts.counts() && facts.leaving_since.is_none() {
                    bench.in_force.count(domain, facts);
                }
                if !facts.sources.is_empty() {
                    bench.published.count(domain, facts);
                }
            }
            if let Some(facts) = is.map(|row| row.facts())
                && facts.counts()
            {
                bench.wanted.count(domain, facts);
            }
            let candidate = Candidate {
                row,
                domain,
                is_held: false,
            };
            match (was, is) {
                (Some(was), is) if loses(was, is) && bench.needs_judgement(was, domain) => {
                    bench.removals.push(candidate);
                }
                (Some(was), Some(is)) if loses(is, Some(was)) => {
                    bench.additions.push(Candidate {
                        row: is,
                        ..candidate
                    });
                }
                (None, Some(_)) => bench.additions.push(candidate),
                _ => {}
            }
        }
        bench
    }

    /// Rows of the configuration itself go freely, unless a whole domain goes with them; a row that began to leave was judged
    /// then.
    fn needs_judgement(&self, row: Row<'_>, domain: usize) -> bool {
        let is_listed =
            domain < self.domains.listed_count() && !opens_domain(self.evidence.kind, row);
        let is_undone = (self.evidence.standing.iter()).any(|one| one.holds_removal(row.key));
        let is_free =
            row.facts().is_always && row.facts().sources.is_empty() && is_listed && !is_undone;
        !is_free && row.facts().leaving_since.is_none() && !self.evidence.released.removal(row.key)
    }

    /// Removals not held so far.
    fn remaining(&self) -> Tally {
        let mut tally = Tally::default();
        for removal in self.removals.iter().filter(|removal| !removal.is_held) {
            tally.count(removal.domain, removal.row.facts());
        }
        tally
    }

    fn named(&self, tally: &Tally) -> Counts {
        let names = |counts: &[u64], name: &dyn Fn(usize) -> Option<String>| {
            let counted = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            counted
                .filter_map(|(number, count)| Some((name(number)?, *count)))
                .collect()
        };
        Counts {
            table: tally.table,
            domains: names(&tally.domains, &|number| {
                self.domains.names().get(number).cloned()
            }),
            sources: names(&tally.sources, &|number| {
                Some(self.evidence.sources.get(number)?.name.clone())
            }),
        }
    }

    /// Holds every removal not yet held that `is_meant`; without any, the hold is made only if `is_condition`.
    fn hold_removals(
        &mut self,
        case: Case<'_>,
        is_condition: bool,
        is_meant: impl Fn(&Candidate<'run>) -> bool,
    ) {
        // An approval acknowledges the condition and releases the rows it named; removals that came later wait anew. What a
        // source that was never read would add, nobody can acknowledge.
        let is_acknowledged =
            !case.cause.is_ignorance() && self.evidence.released.condition(case.cause, case.scope);
        let is_news = is_condition && !is_acknowledged;
        let mut removed = Vec::new();
        for removal in self
            .removals
            .iter_mut()
            .filter(|removal| !removal.is_held && is_meant(removal))
        {
            removal.is_held = true;
            removed.push(removal.row.key.to_vec());
        }
        let added = if is_news && self.is_onto_nothing() {
            self.hold_additions_where(|_| true)
        } else {
            Vec::new()
        };
        if is_news || !removed.is_empty() {
            self.holds.push(Hold {
                table: self.evidence.table.to_owned(),
                cause: case.cause,
                scope: case.scope.to_owned(),
                found: case.found,
                allowed: case.allowed,
                added,
                removed,
            });
        }
    }

    /// Where nothing is in force yet, the first table is itself a removal: from then on the gateway refuses everybody
    /// who is not in it. So whatever holds all removals holds the first publication too.
    fn is_onto_nothing(&self) -> bool {
        self.evidence.is_first && self.evidence.in_force.is_empty()
    }

    fn hold_additions_where(&mut self, is_meant: impl Fn(Row<'run>) -> bool) -> Vec<Vec<u8>> {
        let mut held = Vec::new();
        for addition in self
            .additions
            .iter_mut()
            .filter(|addition| !addition.is_held && is_meant(addition.row))
        {
            addition.is_held = true;
            held.push(addition.row.key.to_vec());
        }
        held
    }

    /// A file that may be more than a table of recipients is left alone altogether.
    fn hold_foreign(&mut self, cause: Cause, scope: &str) {
        if self.evidence.released.condition(cause, scope) {
            return;
        }
        self.hold_removals(Case::of(cause, scope), true, |_| true);
        let added = self.hold_additions_where(|_| true);
        if let Some(hold) = self.holds.last_mut() {
            hold.added.extend(added);
        }
    }

    /// Changes that were put back once wait until somebody releases them.
    fn hold_what_was_undone(&mut self) {
        let evidence = self.evidence;
        for standing in evidence.standing {
            let added = self.hold_additions_where(|row| {
                standing.holds_addition(row.key) && !evidence.released.addition(row.key)
            });
            let mut removed = Vec::new();
            for removal in &mut self.removals {
                if !removal.is_held && standing.holds_removal(removal.row.key) {
                    removal.is_held = true;
                    removed.push(removal.row.key.to_vec());
                }
            }
            if !added.is_empty() || !removed.is_empty() {
                let case = Case::of(standing.cause, &standing.scope);
                self.holds.push(Hold {
                    removed,
                    ..case.hold(evidence.table, added)
                });
            }
        }
    }

    /// Any row may lie in a domain that nobody could name yet.
    fn hold_by_unknown_domains(&mut self) {
        for origin in self.evidence.domains_never_read {
            let is_condition = self.is_onto_nothing();
            let case = Case::of(Cause::DomainsNeverRead, origin);
            self.hold_removals(case, is_condition, |_| true);
        }
    }

    /// Domains of which a first table would refuse people whom no source knows. One that we publish already is told of
    /// elsewhere, and goes on.
    fn hold_by_signs(&mut self) {
        let evidence = self.evidence;
        for elsewhere in evidence.elsewhere {
            let Ok(domain) = self.domains.names()[..self.domains.listed_count()]
                .binary_search(&elsewhere.domain)
            else {
                continue;
            };
            let cause = Cause::RecipientsElsewhere;
            let is_published = !evidence.is_first && self.published.domain(domain) > 0;
            if is_published || evidence.released.condition(cause, &elsewhere.domain) {
                continue;
            }
            let case = Case::of(cause, &elsewhere.domain).counting(elsewhere.remote_count(), 0);
            if self.is_onto_nothing() {
                self.hold_removals(case, true, |_| false);
                continue;
            }
            let added = self.hold_additions_of(domain);
            if !added.is_empty() {
                self.not_ours.push(domain);
                self.holds.push(case.hold(evidence.table, added));
            }
        }
    }

    fn hold_additions_of(&mut self, domain: usize) -> Vec<Vec<u8>> {
        let mut held = Vec::new();
        let waiting = self
            .additions
            .iter_mut()
            .filter(|addition| !addition.is_held);
        for addition in waiting.filter(|addition| addition.domain == domain) {
            addition.is_held = true;
            held.push(addition.row.key.to_vec());
        }
        held
    }

    /// Rows whose origin is gone from the configuration, or that never had one.
    fn hold_by_origin(&mut self) {
        self.hold_removals(
            Case::of(Cause::ForeignTable, self.evidence.table),
            false,
            |removal| removal.row.facts().is_foreign,
        );
        // A foreign file may name a million domains, and its rows are held already.
        let remaining = self.remaining();
        for domain in self.domains.listed_count()..self.domains.names().len() {
            if remaining.domain(domain) == 0 {
                continue;
            }
            let name = self.domains.names()[domain].clone();
            self.hold_removals(Case::of(Cause::DomainRemoved, &name), false, |removal| {
                removal.domain == domain
            });
        }
        for domain in 0..self.domains.listed_count() {
            let name = self.domains.names()[domain].clone();
            let kind = self.evidence.kind;
            let case = Case::of(Cause::DomainNarrowed, &name);
            self.hold_removals(case, false, |removal| {
                removal.domain == domain && opens_domain(kind, removal.row)
            });
        }
        for (number, source) in self
            .evidence
            .sources
            .iter()
            .enumerate()
            .filter(|(_, source)| source.is_removed)
        {
            let case = Case::of(Cause::SourceRemoved, &source.name);
            self.hold_removals(case, false, |removal| {
                removal.row.facts().sources.contains(number)
            });
        }
    }

    fn hold_by_source_state(&mut self) {
        for (number, source) in self.evidence.sources.iter().enumerate() {
            if source.is_never_complete {
                // What it holds is unknown, so any row may be its.
                let is_condition = self.is_onto_nothing();
                self.hold_removals(
                    Case::of(Cause::SourceNeverComplete, &source.name),
                    is_condition,
                    |_| true,
                );
                self.hold_refusals_for(source);
            }
            if source.is_empty {
                let case = Case::of(Cause::SourceEmpty, &source.name);
                self.hold_removals(case, true, |removal| {
                    removal.row.facts().sources.contains(number)
                });
            }
            // All of them in one hold: whoever approves of it has seen each.
            if self.evidence.is_first && !source.uncovered_referrals.is_empty() {
                let referrals = source.uncovered_referrals.join(", ");
                let case = Case::of(Cause::UncoveredReferral, &referrals);
                self.hold_removals(case, true, |_| true);
            }
        }
    }

    /// A refusal of all others in a domain must not come while recipients of it may be in a source that nobody has read.
    fn hold_refusals_for(&mut self, source: &SourceEvidence) {
        if self.evidence.kind != TableKind::Access {
            return;
        }
        let keys = self.hold_additions_where(|row| row.meaning() == Meaning::Domain);
        if !keys.is_empty() {
            let case = Case::of(Cause::SourceNeverComplete, &source.name);
            self.holds.push(case.hold(self.evidence.table, keys));
        }
    }

    /// What the administrator expects of any believable table.
    fn hold_by_expectation(&mut self) {
        for canary in self.evidence.canaries_missing {
            self.hold_removals(Case::of(Cause::MustContain, canary), true, |_| true);
        }
        let (found, allowed) = (self.wanted.table, self.evidence.limits.recipients_min);
        if found < allowed {
            let case = Case::of(Cause::RecipientsMin, self.evidence.table).counting(found, allowed);
            self.hold_removals(case, true, |_| true);
        }
    }

    fn hold_by_domain(&mut self) {
        let remaining = self.remaining();
        for domain in 0..self.domains.names().len() {
            let removed = remaining.domain(domain);
            if removed == 0 {
                continue;
            }
            let name = self.domains.names()[domain].clone();
            let earlier = self
                .evidence
                .window
                .domains
                .get(&name)
                .copied()
                .unwrap_or(0);
            let (gone, base) = (removed + earlier, self.in_force.domain(domain) + earlier);
            let case = if self.wanted.domain(domain) == 0 {
                Some(Case::of(Cause::DomainEmptied, &name).counting(0, 1))
            } else if base >= 4 && gone * 2 >= base {
                Some(Case::of(Cause::DomainHalved, &name).found(percent(gone, base), 50.0))
            } else {
                self.over_percentage(&name, gone, base)
            };
            if let Some(case) = case {
                self.hold_removals(case, false, |removal| removal.domain == domain);
            }
        }
    }

    fn hold_by_source(&mut self) {
        let remaining = self.remaining();
        for (number, source) in self.evidence.sources.iter().enumerate() {
            let removed = remaining.source(number);
            let earlier = self
                .evidence
                .window
                .sources
                .get(&source.name)
                .copied()
                .unwrap_or(0);
            let base = self.in_force.source(number) + earlier;
            if removed > 0
                && let Some(case) = self.over_percentage(&source.name, removed + earlier, base)
            {
                self.hold_removals(case, false, |removal| {
                    removal.row.facts().sources.contains(number)
                });
            }
        }
    }

    fn hold_by_table(&mut self) {
        let (removed, earlier) = (self.remaining().table, self.evidence.window.table);
        let base = self.in_force.table + earlier;
        if removed > 0
            && let Some(case) = self.over_percentage(self.evidence.table, removed + earlier, base)
        {
            self.hold_removals(case, false, |_| true);
        }
    }

    fn over_percentage<'scope>(
        &self,
        scope: &'scope str,
        gone: u64,
        base: u64,
    ) -> Option<Case<'scope>> {
        let limits = self.evidence.limits;
        let found = percent(gone, base);
        (gone > limits.removed_floor && found > limits.removed_percent_max).then(|| {
            Case::of(Cause::RemovedPercentMax, scope).found(found, limits.removed_percent_max)
        })
    }

    /// Growth, which a first publication is by nature.
    fn hold_additions(&mut self) {
        let evidence = self.evidence;
        let limits = evidence.limits;
        // An approval of additions answers for their number, not for what made all of them wait.
        let is_meant = |row: Row<'_>| row.facts().counts() && !evidence.released.addition(row.key);
        let added = self
            .additions
            .iter()
            .filter(|addition| !addition.is_held && is_meant(addition.row))
            .count() as u64;
        let found = percent(added, self.in_force.table);
        if self.evidence.is_first
            || added <= limits.added_floor
            || found <= limits.added_percent_max
        {
            return;
        }
        let keys = self.hold_additions_where(is_meant);
        let case = Case::of(Cause::AddedPercentMax, evidence.table);
        let case = case.found(found, limits.added_percent_max);
        self.holds.push(case.hold(evidence.table, keys));
    }

    /// A domain whose new addresses wait must keep old ones: between the two it would have none at all.
    fn hold_without_successors(&mut self) {
        if !self.additions.iter().any(|addition| addition.is_held) {
            return;
        }
        let is_address =
            |facts: Facts| matches!(facts.meaning, Meaning::Recipient | Meaning::Remote);
        let stays = self.stays(is_address);
        let remaining = self.remaining();
        for domain in 0..self.domains.names().len() {
            if remaining.domain(domain) > 0 && stays.domain(domain) == 0 {
                let name = self.domains.names()[domain].clone();
                let case = Case::of(Cause::DomainEmptied, &name).counting(0, 1);
                self.hold_removals(case, false, |removal| removal.domain == domain);
            }
        }
    }

    /// Counted rows that the table will have; of those that wait or come, the ones that `is_meant`.
    fn stays(&mut self, is_meant: impl Fn(Facts) -> bool) -> Tally {
        let evidence = self.evidence;
        let mut stays = Tally::default();
        for (was, is) in evidence.in_force.walk(evidence.wanted) {
            if let (Some(was), Some(row)) = (was, is)
                && row.facts().counts()
                && was.facts().counts()
            {
                let domain = self.domains.number_of(row.key);
                stays.count(domain, row.facts());
            }
        }
        let held = self.removals.iter().filter(|removal| removal.is_held);
        let come = self.additions.iter().filter(|addition| !addition.is_held);
        for candidate in held.chain(come) {
            if is_meant(candidate.row.facts()) {
                stays.count(candidate.domain, candidate.row.facts());
            }
        }
        stays
    }

    /// A row that refuses whoever has none must not come for a domain of which nobody would have one.
    fn hold_refusals_of_everybody(&mut self) {
        let evidence = self.evidence;
        if evidence.kind != TableKind::Access {
            return;
        }
        let is_refusal =
            |row: Row<'_>| row.meaning() == Meaning::Domain && !evidence.released.addition(row.key);
        if !(self.additions.iter()).any(|one| !one.is_held && is_refusal(one.row)) {
            return;
        }
        let stays = self.stays(Facts::counts);
        for domain in 0..self.domains.names().len() {
            if stays.domain(domain) > 0 {
                continue;
            }
            let mut keys = Vec::new();
            for addition in &mut self.additions {
                if !addition.is_held && addition.domain == domain && is_refusal(addition.row) {
                    addition.is_held = true;
                    keys.push(addition.row.key.to_vec());
                }
            }
            if !keys.is_empty() {
                let name = self.domains.names()[domain].clone();
                let case = Case::of(Cause::DomainEmptied, &name).counting(0, 1);
                self.holds.push(case.hold(evidence.table, keys));
            }
        }
    }

    /// Whether a row in force stays whatever it is, because its domain is not published yet.
    fn is_not_ours(&mut self, row: Row<'_>) -> bool {
        row.facts().sources.is_empty()
            && !self.not_ours.is_empty()
            && self.not_ours.contains(&self.domains.number_of(row.key))
    }

    /// Puts the table together from what flows and what waits.
    fn rise(mut self) -> Judgement {
        let removed = self.named(&self.remaining());
        let rows = if self.is_as_wanted() {
            self.evidence.wanted.clone()
        } else {
            self.rows()
        };
        Judgement {
            approved: Approved { rows, removed },
            holds: self.holds,
        }
    }

    /// Whether everything flows, and nothing that goes stays for its grace.
    fn is_as_wanted(&self) -> bool {
        let is_held = |candidates: &[Candidate<'_>]| candidates.iter().any(|one| one.is_held);
        let has_grace = !self.evidence.grace.is_zero();
        !is_held(&self.removals)
            && !is_held(&self.additions)
            && self.not_ours.is_empty()
            && !has_grace
    }

    fn rows(&mut self) -> Rows {
        let evidence = self.evidence;
        let held = |candidates: &[Candidate<'run>], key: &[u8]| {
            let found = candidates.binary_search_by(|candidate| candidate.row.key.cmp(key));
            found.is_ok_and(|at| candidates[at].is_held)
        };
        let mut rows = RowsBuilder::default();
        for (was, is) in evidence.in_force.walk(evidence.wanted) {
            match (was, is) {
                (Some(was), Some(_)) if self.is_not_ours(was) => rows.push(was.key, was.facts()),
                (Some(was), Some(is)) => {
                    let is_other = was.meaning() != is.meaning();
                    let waits = is_other
                        && (held(&self.removals, was.key) || held(&self.additions, was.key));
                    rows.push(was.key, if waits { was } else { is }.facts());
                }
                (None, Some(row)) => {
                    if !held(&self.additions, row.key) {
                        rows.push(row.key, row.facts());
                    }
                }
                (Some(row), None) if held(&self.removals, row.key) => {
                    rows.push(row.key, row.facts());
                }
                (Some(row), None) => {
                    if let Some(since) = leaving_since(row.facts(), evidence) {
                        let facts = Facts {
                            leaving_since: Some(since),
                            ..row.facts()
                        };
                        rows.push(row.key, facts);
                    }
                }
                (None, None) => {}
            }
        }
        rows.finish()
    }
}

/// Whether a row lets mail to a whole domain pass.
fn opens_domain(kind: TableKind, row: Row<'_>) -> bool {
    row.meaning() == Meaning::Domain && kind != TableKind::Access
}

/// Whether mail that passes by a row does not any more.
fn loses(was: Row<'_>, is: Option<Row<'_>>) -> bool {
    let passes = |row: Row<'_>| row.meaning() != Meaning::InternalOnly;
    passes(was) && is.is_none_or(|is| !passes(is))
}

/// When a row whose removal flows began to leave, if its grace is not over yet.
fn leaving_since(facts: Facts, evidence: &Evidence<'_>) -> Option<Timestamp> {
    // A clock that was ahead when the row began to leave must not make its grace longer, and one that was set ahead since
    // must not make it shorter.
    let since = facts.leaving_since.map_or(evidence.now, |since| {
        since.max(evidence.steady_since).min(evidence.now)
    });
    let stays = facts.counts() && evidence.now < since.after(evidence.grace);
    stays.then_some(since)
}

/// The figures of a hold in the making.
#[derive(Clone, Copy)]
struct Case<'scope> {
    cause: Cause,
    scope: &'scope str,
    found: f64,
    allowed: f64,
}

impl<'scope> Case<'scope> {
    fn of(cause: Cause, scope: &'scope str) -> Self {
        Case {
            cause,
            scope,
            found: 0.0,
            allowed: 0.0,
        }
    }

    fn found(self, found: f64, allowed: f64) -> Self {
        Case {
            found,
            allowed,
            ..self
        }
    }

    /// The hold of additions alone.
    fn hold(self, table: &str, added: Vec<Vec<u8>>) -> Hold {
        Hold {
            table: table.to_owned(),
            cause: self.cause,
            scope: self.scope.to_owned(),
            found: self.found,
            allowed: self.allowed,
            added,
            removed: Vec::new(),
        }
    }

    fn counting(self, found: u64, allowed: u64) -> Self {
        self.found(found as f64, allowed as f64)
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        if part == 0 { 0.0 } else { 100.0 * part as f64 }
    } else {
        100.0 * part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Domain;
    use crate::domains::{Entry, Reach};
    use crate::fold::Folding;
    use crate::table::rows::SourceSet;

    /// One situation; everything not said is as on an ordinary day.
    struct Situation {
        kind: TableKind,
        in_force: Rows,
        wanted: Rows,
        domains: crate::domains::Domains,
        is_first: bool,
        values_vary: bool,
        unread: Option<&'static str>,
        sources: Vec<SourceEvidence>,
        domains_never_read: Vec<String>,
        elsewhere: Vec<Elsewhere>,
        canaries_missing: Vec<String>,
        limits: Limits,
        grace: Duration,
        window: Counts,
        released: Released,
        standing: Vec<Standing>,
        steady_since: Timestamp,
    }

    const NOW: Timestamp = Timestamp(1_000_000);

    fn rows(keys: impl IntoIterator<Item = String>, facts: Facts) -> Rows {
        let mut builder = RowsBuilder::default();
        for key in keys {
            builder.push(key.as_bytes(), facts);
        }
        builder.finish()
    }

    fn from_source(number: usize) -> Facts {
        Facts {
            sources: SourceSet::of(number),
            ..Facts::default()
        }
    }

    fn listed(names: &[(&str, Reach)]) -> crate::domains::Domains {
        crate::domains::Domains::of(names.iter().map(|(name, reach)| Entry {
            domain: Domain::parse(name).expect("a domain"),
            reach: *reach,
            is_excluded: false,
        }))
    }

    /// `r0@x … r(count-1)@x`
    fn numbered(range: std::ops::Range<usize>, domain: &str) -> Vec<String> {
        range.map(|number| format!("r{number}@{domain}")).collect()
    }

    fn situation(in_force: Vec<String>, wanted: Vec<String>) -> Situation {
        Situation {
            kind: TableKind::Recipients,
            in_force: rows(in_force, from_source(0)),
            wanted: rows(wanted, from_source(0)),
            domains: listed(&[(X, Reach::Itself), (Y, Reach::Itself)]),
            is_first: false,
            values_vary: false,
            unread: None,
            sources: vec![SourceEvidence {
                name: "corp".into(),
                ..SourceEvidence::default()
            }],
            domains_never_read: Vec::new(),
            elsewhere: Vec::new(),
            canaries_missing: Vec::new(),
            limits: Limits {
                removed_percent_max: 5.0,
                removed_floor: 10,
                window: Duration::from_secs(86_400),
                added_percent_max: 100.0,
                added_floor: 1000,
                recipients_min: 1,
                must_contain: Vec::new(),
            },
            grace: Duration::ZERO,
            window: Counts::default(),
            released: Released::default(),
            standing: Vec::new(),
            steady_since: Timestamp(0),
        }
    }

    impl Situation {
        fn judge(&self) -> Judgement {
            let domains = self.domains.forms(Folding::Unicode);
            judge(&Evidence {
                table: "t",
                kind: self.kind,
                in_force: &self.in_force,
                wanted: &self.wanted,
                is_first: self.is_first,
                values_vary: self.values_vary,
                unread: self.unread,
                sources: &self.sources,
                domains: &domains,
                domains_never_read: &self.domains_never_read,
                elsewhere: &self.elsewhere,
                canaries_missing: &self.canaries_missing,
                limits: &self.limits,
                grace: self.grace,
                window: &self.window,
                released: &self.released,
                standing: &self.standing,
                now: NOW,
                steady_since: self.steady_since,
            })
        }
    }

    /// `expected`: the number of rows after the change, then each hold as `cause scope +added -removed`.
    #[track_caller]
    fn check(situation: &Situation, rows_expected: usize, holds_expected: &[&str]) {
        let judgement = situation.judge();
        let holds: Vec<String> = judgement
            .holds
            .iter()
            .map(|hold| {
                format!(
                    "{} {} +{} -{}",
                    hold.cause.name(),
                    hold.scope,
                    hold.added.len(),
                    hold.removed.len()
                )
            })
            .collect();
        assert_eq!(holds, holds_expected);
        assert_eq!(judgement.approved.rows().len(), rows_expected);
    }

    const X: &str = "x.example";
    const Y: &str = "y.example";

    #[test]
    fn small_changes_flow() {
        check(
            &situation(numbered(0..100, X), numbered(5..105, X)),
            100,
            &[],
        );
        // At the floor whatever the percentage, as long as the domain keeps more than half.
        check(&situation(numbered(0..30, X), numbered(10..30, X)), 20, &[]);
        // Exactly the percentage.
        check(
            &situation(numbered(0..400, X), numbered(20..400, X)),
            380,
            &[],
        );
    }

    #[test]
    fn removals_over_the_percentage_wait_and_additions_flow() {
        let over = situation(numbered(0..400, X), numbered(21..410, X));
        check(&over, 410, &["removed_percent_max x.example +0 -21"]);
        let eleven_of_a_hundred = situation(numbered(0..100, X), numbered(11..100, X));
        check(
            &eleven_of_a_hundred,
            100,
            &["removed_percent_max x.example +0 -11"],
        );
    }

    #[test]
    fn a_slow_drain_is_a_drain() {
        let mut drain = situation(numbered(0..380, X), numbered(1..380, X));
        drain.window = Counts {
            table: 20,
            domains: [(X.into(), 20)].into(),
            sources: [("corp".into(), 20)].into(),
        };
        check(&drain, 380, &["removed_percent_max x.example +0 -1"]);
    }

    #[test]
    fn a_domain_is_not_emptied_or_halved_whatever_the_floor() {
        let both = |x: usize, y: usize| [numbered(0..x, X), numbered(0..y, Y)].concat();
        check(
            &situation(both(100, 3), both(100, 0)),
            103,
            &["domain_emptied y.example +0 -3"],
        );
        check(
            &situation(both(100, 1), both(100, 0)),
            101,
            &["domain_emptied y.example +0 -1"],
        );
        check(
            &situation(both(100, 4), both(100, 2)),
            104,
            &["domain_halved y.example +0 -2"],
        );
        check(&situation(both(100, 3), both(100, 1)), 101, &[]);
        // One collapsed domain does not stop the leavers of another.
        let collapsed_and_leaver = situation(both(100, 20), both(99, 0));
        check(
            &collapsed_and_leaver,
            119,
            &["domain_emptied y.example +0 -20"],
        );
    }

    #[test]
    fn sub_domains_are_counted_under_the_listed_domain() {
        let both = |below: usize| [numbered(0..100, X), numbered(0..below, "a.x.example")].concat();
        let mut flagged = situation(both(3), both(0));
        // Without the flag it is a domain of its own, and nobody lists it.
        check(&flagged, 103, &["domain_removed a.x.example +0 -3"]);
        flagged.domains = listed(&[(X, Reach::WithSubDomains)]);
        check(&flagged, 100, &[]);
        flagged.wanted = rows(numbered(0..50, X), from_source(0));
        check(&flagged, 103, &["domain_halved x.example +0 -53"]);
    }

    #[test]
    fn domains_that_nobody_could_read_hold_every_removal() {
        let mut unread = situation(numbered(0..100, X), numbered(1..101, X));
        unread.domains_never_read.push("corp".into());
        check(&unread, 101, &["domains_never_read corp +0 -1"]);
        // A domain that is missing in the list is not one that left it.
        unread.domains = listed(&[]);
        unread.wanted = Rows::default();
        check(
            &unread,
            100,
            &["domains_never_read corp +0 -100", "recipients_min t +0 -0"],
        );
        unread.is_first = true;
        unread.in_force = Rows::default();
        unread.wanted = rows(numbered(0..3, X), from_source(0));
        check(&unread, 0, &["domains_never_read corp +3 -0"]);
        let hold = unread.judge().holds.remove(0);
        unread.released.release(hold);
        check(&unread, 0, &["domains_never_read corp +3 -0"]);
    }

    fn signs(domain: &str) -> Elsewhere {
        Elsewhere {
            domain: domain.into(),
            signs: vec![crate::elsewhere::Sign::RemoteMailboxes(7)],
        }
    }

    #[test]
    fn a_domain_with_recipients_elsewhere_waits_until_it_is_published() {
        let both = |x: usize, y: usize| [numbered(0..x, X), numbered(0..y, Y)].concat();
        let mut second = situation(both(100, 0), both(101, 3));
        second.elsewhere = vec![signs(X), signs(Y)];
        check(&second, 101, &["recipients_elsewhere y.example +3 -0"]);
        let hold = second.judge().holds.remove(0);
        assert_eq!((hold.found, hold.allowed), (7.0, 0.0));
        second.released.release(hold);
        second.wanted = rows(both(101, 4), from_source(0));
        check(&second, 105, &[]);
        second.in_force = rows(both(101, 4), from_source(0));
        second.released = Released::default();
        second.wanted = rows(both(101, 5), from_source(0));
        check(&second, 106, &[]);

        let mut first = situation(Vec::new(), both(100, 3));
        first.is_first = true;
        first.elsewhere = vec![signs(Y)];
        check(&first, 0, &["recipients_elsewhere y.example +103 -0"]);
        first.elsewhere = vec![signs(X), signs(Y)];
        let judgement = first.judge();
        check(
            &first,
            0,
            &[
                "recipients_elsewhere x.example +103 -0",
                "recipients_elsewhere y.example +0 -0",
            ],
        );
        // Both at once, by the digests of one report.
        judgement
            .holds
            .into_iter()
            .for_each(|hold| first.released.release(hold));
        check(&first, 103, &[]);
    }

    #[test]
    fn a_table_taken_over_is_not_a_publication_of_a_waiting_domain() {
        let made_by_hand = Facts::default();
        let mut taken = situation(Vec::new(), numbered(0..5, Y));
        taken.in_force = rows(numbered(0..3, Y), made_by_hand);
        taken.is_first = true;
        taken.elsewhere = vec![signs(Y)];
        for _ in 0..2 {
            check(&taken, 3, &["recipients_elsewhere y.example +2 -0"]);
            taken.in_force = taken.judge().approved.rows().clone();
            taken.is_first = false;
        }
        // Old addresses stay while all new ones wait.
        taken.wanted = rows(numbered(3..6, Y), from_source(0));
        check(
            &taken,
            3,
            &[
                "recipients_elsewhere y.example +3 -0",
                "domain_emptied y.example +0 -3",
            ],
        );
    }

    #[test]
    fn many_small_domains_are_still_one_table() {
        // 8 of 100 in each domain: under the floor there, over it together.
        let both = |first: usize| [numbered(first..100, X), numbered(first..100, Y)].concat();
        let mut split = situation(both(0), both(8));
        check(&split, 200, &["removed_percent_max corp +0 -16"]);
        split.in_force = rows(both(0), Facts::default());
        check(&split, 200, &["removed_percent_max t +0 -16"]);
    }

    #[test]
    fn growth_waits_but_not_the_first() {
        let mut growth = situation(numbered(0..600, X), numbered(0..1701, X));
        check(&growth, 600, &["added_percent_max t +1101 -0"]);
        growth.is_first = true;
        check(&growth, 1701, &[]);
        check(
            &situation(numbered(0..600, X), numbered(0..1600, X)),
            1600,
            &[],
        );
    }

    #[test]
    fn a_domain_keeps_its_old_addresses_while_its_new_ones_wait() {
        let both =
            |x: usize, y: std::ops::Range<usize>| [numbered(0..x, X), numbered(y, Y)].concat();
        let mut renamed = situation(both(600, 0..3), both(1701, 10..13));
        check(
            &renamed,
            603,
            &[
                "added_percent_max t +1104 -0",
                "domain_emptied y.example +0 -3",
            ],
        );
        // With one that stays, the others may go.
        renamed.wanted = rows(both(1701, 2..13), from_source(0));
        check(&renamed, 601, &["added_percent_max t +1111 -0"]);
    }

    #[test]
    fn success_with_nothing_holds_even_the_first_publication() {
        let mut emptied = situation(numbered(0..5, X), Vec::new());
        emptied.sources[0].is_empty = true;
        check(
            &emptied,
            5,
            &["source_empty corp +0 -5", "recipients_min t +0 -0"],
        );

        let mut first = situation(Vec::new(), numbered(0..5, X));
        first.is_first = true;
        first.sources.push(SourceEvidence {
            name: "partners".into(),
            is_empty: true,
            ..SourceEvidence::default()
        });
        check(&first, 0, &["source_empty partners +5 -0"]);
    }

    #[test]
    fn a_source_never_complete_holds_every_removal() {
        let mut never = situation(numbered(0..100, X), numbered(1..101, X));
        never.sources.push(SourceEvidence {
            name: "new".into(),
            is_never_complete: true,
            ..SourceEvidence::default()
        });
        check(&never, 101, &["source_never_complete new +0 -1"]);
        never.is_first = true;
        never.in_force = Rows::default();
        check(&never, 0, &["source_never_complete new +100 -0"]);
    }

    #[test]
    fn removed_sources_and_domains_wait() {
        let mut gone = situation(numbered(0..100, X), numbered(0..100, X));
        let mut more = RowsBuilder::default();
        for key in numbered(0..100, X) {
            more.push(key.as_bytes(), from_source(0));
        }
        more.push(b"a@x.example", from_source(1));
        more.push(b"b@other.example", from_source(0));
        gone.in_force = more.finish();
        gone.sources.push(SourceEvidence {
            name: "old".into(),
            is_removed: true,
            ..SourceEvidence::default()
        });
        check(
            &gone,
            102,
            &[
                "domain_removed other.example +0 -1",
                "source_removed old +0 -1",
            ],
        );
    }

    #[test]
    fn hand_made_rows_wait_and_are_not_counted() {
        let mut foreign = situation(numbered(0..20, X), numbered(0..20, X));
        let mut more = RowsBuilder::default();
        for key in numbered(0..20, X) {
            more.push(key.as_bytes(), from_source(0));
        }
        more.push(
            b"@x.example",
            Facts {
                is_foreign: true,
                ..Facts::default()
            },
        );
        foreign.in_force = more.finish();
        check(&foreign, 21, &["foreign_table t +0 -1"]);
        foreign.values_vary = true;
        check(&foreign, 21, &["foreign_values t +0 -1"]);
        foreign.values_vary = false;
        foreign.unread = Some("4f7c");
        check(&foreign, 21, &["foreign_unread 4f7c +0 -1"]);
    }

    #[test]
    fn what_the_configuration_gives_it_may_take() {
        let mut always = situation(Vec::new(), numbered(0..2, X));
        let mut rows = RowsBuilder::default();
        for key in numbered(0..2, X) {
            rows.push(key.as_bytes(), from_source(0));
        }
        rows.push(
            b"postmaster@x.example",
            Facts {
                is_always: true,
                ..Facts::default()
            },
        );
        always.in_force = rows.finish();
        check(&always, 2, &[]);
    }

    #[test]
    fn expectations_hold_every_removal_and_the_first_publication() {
        let mut canary = situation(numbered(0..100, X), numbered(1..101, X));
        canary.canaries_missing.push("helpdesk@x.example".into());
        check(&canary, 101, &["must_contain helpdesk@x.example +0 -1"]);
        canary.in_force = Rows::default();
        canary.is_first = true;
        check(&canary, 0, &["must_contain helpdesk@x.example +100 -0"]);

        let mut few = situation(numbered(0..100, X), numbered(1..100, X));
        few.limits.recipients_min = 100;
        check(&few, 100, &["recipients_min t +0 -1"]);
    }

    #[test]
    fn an_approved_condition_goes_on_holding_what_it_did_not_name() {
        let mut canary = situation(numbered(0..100, X), numbered(1..101, X));
        canary.canaries_missing.push("helpdesk@x.example".into());
        let hold = canary.judge().holds.remove(0);
        canary.released.release(hold);
        check(&canary, 100, &[]);
        canary.wanted = rows(numbered(2..101, X), from_source(0));
        check(&canary, 100, &["must_contain helpdesk@x.example +0 -1"]);
    }

    #[test]
    fn an_uncovered_referral_holds_the_first_publication_only() {
        let mut referral = situation(Vec::new(), numbered(0..3, X));
        referral.sources[0]
            .uncovered_referrals
            .push("ldap://child".into());
        check(&referral, 3, &[]);
        referral.is_first = true;
        check(&referral, 0, &["uncovered_referral ldap://child +3 -0"]);
    }

    #[test]
    fn an_approval_releases_what_it_named_and_no_more() {
        let mut emptied = situation(
            [numbered(0..50, X), numbered(0..3, Y)].concat(),
            numbered(0..50, X),
        );
        let hold = emptied.judge().holds.remove(0);
        emptied.released.release(hold.clone());
        check(&emptied, 50, &[]);
        assert!(
            emptied.judge().approved.removed().is_zero(),
            "approved removals do not count in the window"
        );
        // The directory went on: two more rows vanished meanwhile, and are judged anew.
        emptied.wanted = rows(numbered(2..50, X), from_source(0));
        check(&emptied, 48, &[]);
        emptied.wanted = rows(numbered(20..50, X), from_source(0));
        check(&emptied, 50, &["removed_percent_max x.example +0 -20"]);
        assert_eq!(hold.digest().len(), 64);
    }

    #[test]
    fn a_leaver_stays_for_its_grace_and_counts_when_it_begins_to_leave() {
        let mut leaving = situation(numbered(0..100, X), numbered(1..100, X));
        leaving.grace = Duration::from_secs(10);
        let judgement = leaving.judge();
        assert_eq!(judgement.approved.removed().table, 1);
        let row = judgement
            .approved
            .rows()
            .find(b"r0@x.example")
            .expect("it stays");
        assert_eq!(row.facts().leaving_since, Some(NOW));

        let long_ago = NOW.before(leaving.grace);
        for (began, steady_since, rows_expected) in [
            (NOW.before(Duration::from_secs(9)), Timestamp(0), 100),
            (long_ago, Timestamp(0), 99),
            (long_ago, NOW.before(Duration::from_secs(9)), 100),
            (long_ago, long_ago, 99),
            (NOW.after(Duration::from_secs(1_000_000)), Timestamp(0), 100),
        ] {
            leaving.steady_since = steady_since;
            let mut in_force = RowsBuilder::default();
            for key in numbered(1..100, X) {
                in_force.push(key.as_bytes(), from_source(0));
            }
            in_force.push(
                b"r0@x.example",
                Facts {
                    leaving_since: Some(began),
                    ..from_source(0)
                },
            );
            leaving.in_force = in_force.finish();
            check(&leaving, rows_expected, &[]);
            let judgement = leaving.judge();
            let row = judgement.approved.rows().find(b"r0@x.example");
            assert!(
                row.is_none_or(|row| row.facts().leaving_since <= Some(NOW)),
                "a clock that was ahead"
            );
            assert!(leaving.judge().approved.removed().is_zero());
        }
    }

    /// Rows of several meanings in a table of a kind, `in_force` and `wanted`.
    fn of_kind(
        kind: TableKind,
        in_force: &[(&[String], Meaning)],
        wanted: &[(&[String], Meaning)],
    ) -> Situation {
        let rows = |parts: &[(&[String], Meaning)]| {
            let mut builder = RowsBuilder::default();
            for (keys, meaning) in parts {
                let is_own = *meaning == Meaning::Domain;
                let facts = Facts {
                    meaning: *meaning,
                    is_always: is_own,
                    ..if is_own {
                        Facts::default()
                    } else {
                        from_source(0)
                    }
                };
                keys.iter()
                    .for_each(|key| builder.push(key.as_bytes(), facts));
            }
            builder.finish()
        };
        Situation {
            kind,
            in_force: rows(in_force),
            wanted: rows(wanted),
            ..situation(Vec::new(), Vec::new())
        }
    }

    fn meanings(situation: &Situation, meaning: Meaning) -> usize {
        let judgement = situation.judge();
        let rows = judgement.approved.rows().iter();
        rows.filter(|row| row.meaning() == meaning).count()
    }

    #[test]
    fn who_is_refused_by_name_is_removed_from_those_who_are_accepted() {
        use Meaning::{Domain, InternalOnly, Recipient};
        let (all, domain) = (numbered(0..100, X), [X.to_owned()]);
        let change = |refused: usize| {
            of_kind(
                TableKind::Access,
                &[(&all, Recipient), (&domain, Domain)],
                &[
                    (&all[..refused], InternalOnly),
                    (&all[refused..], Recipient),
                    (&domain, Domain),
                ],
            )
        };
        check(&change(10), 101, &[]);
        assert_eq!(meanings(&change(10), InternalOnly), 10);
        check(&change(11), 101, &["removed_percent_max x.example +0 -11"]);
        assert_eq!(meanings(&change(11), InternalOnly), 0);
        check(&change(99), 101, &["domain_halved x.example +0 -99"]);
        let gone = of_kind(
            TableKind::Access,
            &[(&all[..60], InternalOnly), (&all[60..], Recipient)],
            &[(&all[60..], Recipient)],
        );
        check(&gone, 40, &[]);
        let accepted = of_kind(
            TableKind::Access,
            &[(&all[..60], InternalOnly), (&all[60..], Recipient)],
            &[(&all, Recipient)],
        );
        check(&accepted, 100, &[]);
        let mut limited = accepted;
        (limited.limits.added_floor, limited.limits.added_percent_max) = (59, 100.0);
        check(&limited, 100, &["added_percent_max t +60 -0"]);
        assert_eq!(meanings(&limited, InternalOnly), 60);
    }

    #[test]
    fn nobody_is_refused_for_a_domain_of_which_nobody_is_known() {
        use Meaning::{Domain, Recipient};
        let (all, domains) = (numbered(0..10, X), [X.to_owned(), Y.to_owned()]);
        let mut first = of_kind(
            TableKind::Access,
            &[(&all, Recipient)],
            &[(&all, Recipient), (&domains, Domain)],
        );
        check(&first, 11, &["domain_emptied y.example +1 -0"]);
        first.released.release(first.judge().holds.remove(0));
        check(&first, 12, &[]);
    }

    #[test]
    fn nobody_is_refused_while_a_source_was_never_read() {
        use Meaning::{Domain, Recipient};
        let (all, domain) = (numbered(0..10, X), [X.to_owned()]);
        let mut first = of_kind(
            TableKind::Access,
            &[(&all, Recipient)],
            &[(&all, Recipient), (&domain, Domain)],
        );
        check(&first, 11, &[]);
        first.sources[0].is_never_complete = true;
        check(&first, 10, &["source_never_complete corp +1 -0"]);
    }

    #[test]
    fn a_domain_that_was_open_is_closed_by_approval_alone() {
        use Meaning::{Domain, Recipient};
        let (all, open) = (numbered(0..10, X), [format!("@{X}")]);
        let opened = of_kind(
            TableKind::Recipients,
            &[(&all, Recipient)],
            &[(&all, Recipient), (&open, Domain)],
        );
        check(&opened, 11, &[]);
        let mut closed = of_kind(
            TableKind::Recipients,
            &[(&all, Recipient), (&open, Domain)],
            &[(&all, Recipient)],
        );
        check(&closed, 11, &["domain_narrowed x.example +0 -1"]);
        closed.released.release(closed.judge().holds.remove(0));
        check(&closed, 10, &[]);
    }

    #[test]
    fn domains_and_transports_are_no_lists_of_recipients() {
        use Meaning::{Domain, Remote};
        let (both, other) = ([X.to_owned(), Y.to_owned()], ["z.example".to_owned()]);
        let mut domains = of_kind(TableKind::Domains, &[(&other, Domain)], &[(&both, Domain)]);
        check(&domains, 3, &["domain_removed z.example +0 -1"]);
        domains.released.release(domains.judge().holds.remove(0));
        check(&domains, 2, &[]);
        let remote = numbered(0..10, X);
        let transport = |kept: usize| {
            of_kind(
                TableKind::Transport,
                &[(&both, Domain), (&remote, Remote)],
                &[(&both, Domain), (&remote[..kept], Remote)],
            )
        };
        check(&transport(0), 2, &[]);
        let mut many = transport(0);
        many.limits.removed_floor = 9;
        check(&many, 12, &["removed_percent_max corp +0 -10"]);
    }

    #[test]
    fn what_was_undone_waits_until_it_is_released_or_taken_back() {
        let undone = |added: &[String], removed: &[String]| {
            let octets = |keys: &[String]| keys.iter().map(|key| key.as_bytes().to_vec()).collect();
            Standing::of(Hold {
                table: "t".into(),
                cause: Cause::Rollback,
                scope: "generation 3".into(),
                found: 0.0,
                allowed: 0.0,
                added: octets(added),
                removed: octets(removed),
            })
        };
        let (all, keys) = (numbered(0..100, X), numbered(0..110, X));
        let mut change = situation(all.clone(), keys[2..].to_vec());
        change.standing = vec![undone(&keys[100..105], &keys[..1])];
        check(&change, 104, &["rollback generation 3 +5 -1"]);
        change
            .standing
            .push(Standing::lost(Cause::Proof, "generation 4"));
        let both = ["rollback generation 3 +5 -1", "proof generation 4 +5 -1"];
        check(&change, 100, &both);
        change.released.release(change.judge().holds.remove(0));
        check(&change, 104, &["proof generation 4 +5 -1"]);
        let mut taken_back = situation(all.clone(), all);
        taken_back.standing = vec![undone(&keys[100..105], &keys[..1])];
        check(&taken_back, 100, &[]);
    }
}

//! Proof after publishing: whether gateways answer as the new tables say, by a few lookups through `postmap -q` and a few
//! questions at `RCPT TO`. Only a positive contradiction counts, and only one that lasts and that the generation before does not
//! show: silence, greylisting and every other delay are told as warnings.
//!
//! The questions are chosen, and the generation before is asked, before anything is replaced; both stand in head.json with
//! the decision, so that a run that dies, or whose hooks fail, leaves its proof to the next one.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Instant;

use super::plan::{Plan, Run, TablePlan};
use crate::address::Address;
use crate::config::{DomainPolicy, Format, TableKind, Verify};
use crate::diff::Values;
use crate::domain::Domain;
use crate::harmless::key;
use crate::keys::domain_part;
use crate::postfix::{self, lookup};
use crate::probe::verdict::{Expected, Side, Verdict};
use crate::probe::{self, Question, random, sample};
use crate::publish::on_disk::Content;
use crate::smtp::Endpoint;
use crate::state::head::{LookupToProve, ToProve};
use crate::table::rows::{Row, Rows};
use crate::table::value::Meaning;

/// What a gateway says counts when it says it again after each of these pauses, which are parts of `patience`. After a reload, or
/// from a standby of a database, it learns of new rows a moment later; from a table of domains or transports within 10 s
/// (`trivial-rewrite.c`), and through proxymap once nobody has used a connection to that for 5 s (`ipc_idle`).
const PAUSES: [u32; 3] = [1, 3, 7];

/// What speaks against a table, in a sentence.
type Contradictions = BTreeSet<String>;

/// What is to be asked once a plan is carried out, and what speaks against the tables in force already.
pub fn prepare(run: &Run<'_>, plan: &Plan<'_>) -> Option<ToProve> {
    let verify = run.config.verify.as_ref().filter(|_| plan.is_change())?;
    let mut to_prove = ToProve::default();
    let mut before = ToProve::default();
    for table in plan.tables.iter().filter(|table| !table.writes.is_empty()) {
        if verify.postmap {
            choose_lookups(table, verify, &mut to_prove, &mut before);
        }
    }
    if verify.smtp.is_some()
        && let Some(table) = deciding(plan)
    {
        choose_addresses(run, plan, table, verify, &mut to_prove, &mut before);
    }
    to_prove.contradicted_before = ask(run, verify, &before);
    Some(to_prove)
}

/// The table that decides on recipients.
fn deciding<'plan, 'run>(plan: &'plan Plan<'run>) -> Option<&'plan TablePlan<'run>> {
    let of_kind = |kind| {
        let mut tables = plan.tables.iter();
        tables.find(move |table| table.table.kind == kind)
    };
    of_kind(TableKind::Recipients).or_else(|| of_kind(TableKind::Access))
}

/// A few rows of each file: new ones first.
fn choose_lookups(
    table: &TablePlan<'_>,
    verify: &Verify,
    to_prove: &mut ToProve,
    before: &mut ToProve,
) {
    let rows = table.judgement.approved.rows();
    for format in &table.table.formats {
        let Some(map_type) = map_type(*format) else {
            continue;
        };
        let said = table.table.said(*format, rows);
        let is_askable = |row: &Row<'_>| said.has(row) && std::str::from_utf8(row.key).is_ok();
        let few = |rows: &Rows, count: usize| {
            let mut few = sample::Reservoir::new(count);
            for row in rows.iter().filter(is_askable) {
                few.offer(&mut random, || row.key.to_vec());
            }
            few.into_kept()
        };
        let mut keys = few(&table.diff.added, verify.samples.div_ceil(2));
        keys.extend(few(rows, verify.samples - keys.len()));
        for key in keys {
            let Some(row) = rows.find(&key) else { continue };
            let lookup = LookupToProve {
                map: format!("{map_type}:{}", table.table.path.display()),
                key: String::from_utf8_lossy(&key).into_owned(),
                value: table.table.values.of(row.meaning()).to_owned(),
            };
            if is_in_force(table, *format, &lookup) {
                before.lookups.push(lookup.clone());
            }
            to_prove.lookups.push(lookup);
        }
    }
}

/// Whether the file in force says the same, as far as we know.
fn is_in_force(table: &TablePlan<'_>, format: Format, lookup: &LookupToProve) -> bool {
    let values: &Values = &table.values;
    let row = table.in_force.find(lookup.key.as_bytes());
    let is_there = |content: &Content| !matches!(content, Content::Missing | Content::NoTable(..));
    let said = table.table.said(format, &table.in_force);
    row.is_some_and(|row| said.has(&row) && values.of(&row) == lookup.value.as_bytes())
        && (table.on_disk.iter()).any(|file| file.format == format && is_there(&file.content))
}

/// The type under which Postfix knows a file of a format.
fn map_type(format: Format) -> Option<&'static str> {
    match format {
        Format::Text => Some("texthash"),
        Format::Cdb => Some("cdb"),
        Format::Hash | Format::Btree | Format::Lmdb => Some(format.name()),
        Format::Template => None,
        // `pgsql:` names a file of the administrator; what is in the relation was read back before COMMIT.
        Format::Postgresql => None,
    }
}

/// A few addresses that have a row, new ones first, and one that nobody has for each of a few domains.
fn choose_addresses(
    run: &Run<'_>,
    plan: &Plan<'_>,
    table: &TablePlan<'_>,
    verify: &Verify,
    to_prove: &mut ToProve,
    before: &mut ToProve,
) {
    let rows = table.judgement.approved.rows();
    let known = |rows: &Rows, count: usize| -> Vec<String> {
        let mut is_ours = sample::of_listed(&plan.domains.listed);
        let addresses = rows
            .iter()
            .filter(|row| row.meaning() == Meaning::Recipient);
        let keys = addresses.map(|row| row.key);
        let keys = keys.filter(|key| is_ours(domain_part(key)));
        let chosen = sample::known(keys, count, &mut random);
        chosen.iter().map(ToString::to_string).collect()
    };
    let mut accepted = known(&table.diff.added, verify.samples.div_ceil(2));
    let others = known(rows, verify.samples - accepted.len());
    accepted.extend(others);
    accepted.sort();
    accepted.dedup();
    before.accepted = (accepted.iter())
        .filter(|address| table.in_force.find(address.as_bytes()).is_some())
        .cloned()
        .collect();
    to_prove.accepted = accepted;
    let is_listed = |domain: &Domain| run.config.domains.policy_of(domain) == DomainPolicy::List;
    let mut domains = sample::Reservoir::new(verify.samples);
    for listed in plan.domains.listed.iter() {
        if listed.reach.is_itself() && is_listed(&listed.domain) {
            domains.offer(&mut random, || listed.domain.clone());
        }
    }
    to_prove.refused = (domains.into_kept().iter())
        .filter_map(|domain| sample::unknown(domain, &mut random))
        .map(|address| address.to_string())
        .collect();
    if !table.in_force.is_empty() {
        before.refused.clone_from(&to_prove.refused);
    }
}

/// What speaks against the tables now, and did not before they were published.
pub fn contradictions(run: &Run<'_>, verify: &Verify, to_prove: &ToProve) -> Contradictions {
    let mut found = ask(run, verify, to_prove);
    for part in PAUSES {
        let pause = verify.patience / PAUSES.iter().sum::<u32>() * part;
        let is_news = !found.is_subset(&to_prove.contradicted_before);
        if verify.smtp.is_none()
            || !is_news
            || run.deadline.saturating_duration_since(Instant::now()) <= pause
        {
            break;
        }
        tracing::warn!(
            "verify: a gateway may learn of new rows a little later; asked again in {:.1} s",
            pause.as_secs_f64()
        );
        sleep(pause);
        let again = ask(run, verify, to_prove);
        found.retain(|sentence| again.contains(sentence));
    }
    let (old, new): (Contradictions, Contradictions) =
        (found.into_iter()).partition(|found| to_prove.contradicted_before.contains(found));
    for sentence in old {
        tracing::warn!("verify: {sentence}, as before this generation");
    }
    new
}

fn ask(run: &Run<'_>, verify: &Verify, questions: &ToProve) -> Contradictions {
    let mut found = Contradictions::new();
    if postfix::main_cf().exists() {
        look_up(&questions.lookups, &mut found);
    } else if !questions.lookups.is_empty() {
        tracing::warn!("verify: no Postfix is configured on this machine to look rows up");
    }
    if let Some(endpoint) = &verify.smtp {
        ask_gateway(run, verify, endpoint, questions, &mut found);
    }
    found
}

fn look_up(lookups: &[LookupToProve], found: &mut Contradictions) {
    for LookupToProve {
        map,
        key: wanted,
        value,
    } in lookups
    {
        let shown = key(wanted.as_bytes());
        match lookup::look_up(map, std::slice::from_ref(wanted)) {
            Ok(rows) => match rows.into_values().next() {
                Some(said) if said == *value => {}
                Some(other) => {
                    let other = key(other.as_bytes());
                    found.insert(format!("{map} says {other:?} of {shown}, not {value:?}"));
                }
                None => {
                    found.insert(format!("{map} does not have {shown}"));
                }
            },
            Err(why) => {
                tracing::warn!("verify: {map} could not be asked: {why}");
                return;
            }
        }
    }
}

fn ask_gateway(
    run: &Run<'_>,
    verify: &Verify,
    endpoint: &Endpoint,
    asked: &ToProve,
    found: &mut Contradictions,
) {
    let question = |expected| {
        move |text: &String| {
            let address = Address::parse(text).ok()?;
            Some(Question { address, expected })
        }
    };
    let accepted = asked
        .accepted
        .iter()
        .filter_map(question(Expected::Accepted));
    let refused = asked.refused.iter().filter_map(question(Expected::Refused));
    let questions: Vec<Question> = accepted.chain(refused).collect();
    if questions.is_empty() {
        return;
    }
    let options = probe::Options {
        sender: None,
        helo: None,
        timeout: verify.timeout,
        deadline: run.deadline,
    };
    let interview = match probe::ask(endpoint, &questions, &options) {
        Ok(interview) => interview,
        Err(failure) => {
            tracing::warn!("verify: {}: {}", failure.what, failure.why);
            return;
        }
    };
    for answer in interview.answers {
        let Question { address, expected } = &answer.question;
        let address = key(address.to_string().as_bytes());
        let said = answer.reply.map_or_else(
            || answer.trouble.unwrap_or_default(),
            |reply| key(reply.to_string().as_bytes()),
        );
        match (answer.verdict, expected) {
            (Verdict::Agrees, _) => {}
            (Verdict::Contradicts, Expected::Accepted) => {
                found.insert(format!("{endpoint} refuses {address}, which the table has"));
                tracing::warn!("verify: {endpoint} said to {address}: {said}");
            }
            // Which random address it was would hide that it is the same contradiction.
            (Verdict::Contradicts, Expected::Refused) => {
                let domain = domain_part(address.as_bytes());
                found.insert(format!(
                    "{endpoint} accepts addresses in {} that nobody has",
                    String::from_utf8_lossy(domain)
                ));
            }
            (Verdict::Undecided(_), _) => {
                let why = answer.verdict.sentence(*expected, Side::Gateway);
                tracing::warn!(
                    "verify: {endpoint} decides nothing about {address}: {said}; {}",
                    why.unwrap_or_default()
                );
            }
        }
    }
}

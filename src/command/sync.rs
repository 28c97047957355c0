//! `sync`: one run. The pipeline of the whole program, with one exit.
//!
//! Lock and recover; read, decide, judge (`plan`); prepare and prove; write the generation; decide (head.json with the
//! pending renames); rename; commit (head.json without them); hooks, each marked when done; the record of the run. A run
//! that dies anywhere leaves the old table or the new one in force, and the next run does what was owed.

use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::plan::{Plan, Planned, places, settled};
use super::publication::{self, Published};
use super::{diff, ended, facts, notices, owed, plan, proof};
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::hold::Cause;
use crate::log::Results;
use crate::postfix::map_types;
use crate::publish;
use crate::report::difference::{Difference, Outcome};
use crate::report::text::{self, Told};
use crate::report::{self, GOOD, HELD, logged, progress};
use crate::snapshot::Progress;
use crate::state::State;
use crate::state::head::Head;
use crate::state::runs::{RunRecord, Stage, Stages};
use crate::table::rows::Rows;

/// What the command line says of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Plan only, and print what `diff` prints.
    pub is_dry_run: bool,
    /// Read everything, whatever could be followed.
    pub is_full: bool,
    /// Nothing on standard output, no progress bar.
    pub is_quiet: bool,
    /// Read nothing, and go back to this generation (`rollback`).
    pub back_to: Option<u64>,
    /// Where the result goes.
    pub results: Results,
}

/// What a run did, beside its failures.
#[derive(Default)]
struct Done {
    difference: Option<Difference>,
    published: Option<Published>,
    exits: Vec<Exit>,
    record: Option<RunRecord>,
    stages: Stages,
}

/// Runs, prints what was done, and gives the exit code.
pub fn run(config: &Config, options: Options, out: &mut dyn Write) -> Result<u8> {
    if options.is_dry_run {
        let options = diff::Options {
            format: diff::Format::Text,
            is_full: options.is_full,
            is_stored: false,
            is_quiet: options.is_quiet,
        };
        return diff::run(config, options, out);
    }
    let started = Instant::now();
    let progress = Progress::default();
    let run = super::begin(config, started, options.is_full, &progress);
    let state = State::lock(&config.state_dir)?;
    let mut failures = Vec::new();
    let mut done = Done::default();
    let ended = progress::shown(&progress, !options.is_quiet, || {
        without_panic(|| carry_out(&run, &state, options, &mut done, &mut failures))
    });
    let is_whole = ended.is_ok();
    failures.extend(ended.err().map(|failure| *failure));
    let mut record = RunRecord {
        id: run.id.clone(),
        at: run.now,
        stages: std::mem::take(&mut done.stages),
        ..done.record.take().unwrap_or_default()
    };
    record.ended_with(failures, &done.exits);
    notices::tell(&run, &state, &mut record, is_whole);
    record.milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    ended::tell(&run, &state, &record);
    record.failures.iter().for_each(report::failure);
    let _ = show(out, options, &done, &record);
    Ok(record.code)
}

/// A bug is an end of a run like any other: it is recorded and told.
fn without_panic(carry_out: impl FnOnce() -> Result<()>) -> Result<()> {
    let ended = catch_unwind(AssertUnwindSafe(carry_out));
    ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Box::new(Failure {
            exit: Exit::Bug,
            what: "a bug ended the run".into(),
            place: concat!("rcptsync ", env!("CARGO_PKG_VERSION")).into(),
            why: text.unwrap_or("it did not say").into(),
            in_force:
                "every table is the old one or the new one; the next run finishes what was decided"
                    .into(),
            next: "please report it, with the lines of the log before this one".into(),
        }))
    })
}

fn carry_out(
    run: &plan::Run<'_>,
    state: &State,
    options: Options,
    done: &mut Done,
    failures: &mut Vec<Failure>,
) -> Result<()> {
    map_types::require(&run.config.tables)?;
    let mut head = state.head()?;
    super::see_clocks(run, &mut head);
    let recovered = publish::recover(state, &mut head, &run.config.tables, run.deadline)?;
    if recovered > 0 {
        tracing::warn!("{recovered} renames that a dead run had decided are done now");
        state.store_head(&head)?;
    }
    publish::remove_leftovers(&run.config.tables);

    let mut planned = match options.back_to {
        None => plan::make(run, state, &head, &mut done.stages),
        Some(number) => Planned::Made(plan::back::to(run, state, &head, number, Cause::Rollback)?),
    };
    let difference = done
        .difference
        .insert(planned.difference(run.config, text::ROWS_SHOWN_MAX));
    // One more walk over the records: for a person who watches, and for a hold that was not there before.
    let is_told =
        |plan: &&Plan<'_>| std::io::stdout().is_terminal() || places::is_any_hold_new(&head, plan);
    if let Some(plan) = planned.made().filter(is_told) {
        places::tell(state, &head, plan, difference);
    }
    let mut record = RunRecord {
        tables: (difference.tables.iter())
            .map(|(name, table)| (name.clone(), table.counts))
            .collect(),
        left_out: difference.left_out.clone(),
        answered_by: (difference.sources.iter())
            .filter_map(|(name, source)| Some((name.clone(), source.answered_by.clone()?)))
            .collect(),
        ..RunRecord::default()
    };
    facts::store_sources(run, state, planned.sources(), &mut head)?;
    match &mut planned {
        Planned::Quiet(_) => facts::forget_old(run, &mut head),
        Planned::Made(plan) => {
            carry_out_plan(run, state, options, plan, &mut head, done, failures)?
        }
    }
    state.store_head(&head)?;
    record.generation = head.generation;
    record.is_changed = done.published.is_some();
    done.record = Some(record);
    drop(planned);

    // A hook is told of what is in force; where a decided rename failed, the run that finishes it tells.
    if head.pending.is_empty() {
        run.progress.stage("running hooks");
        let began = Instant::now();
        owed::run_hooks(run, state, &mut head, failures)?;
        done.stages.end(Stage::Hooks, began);
        run.progress.stage("asking gateways");
        prove(run, state, &mut head, done, failures)?;
    }
    if done.published.is_some() {
        publication::prune(run, state, &head);
    }
    state.tidy(&head);
    Ok(())
}

/// Stores what a plan found, puts in force what flows, and remembers that nothing is left to do where that is so.
fn carry_out_plan(
    run: &plan::Run<'_>,
    state: &State,
    options: Options,
    plan: &mut Plan<'_>,
    head: &mut Head,
    done: &mut Done,
    failures: &mut Vec<Failure>,
) -> Result<()> {
    failures.append(&mut plan.failures);
    if options.back_to.is_none() {
        done.exits = plan.exits();
        facts::store_judgement(run, state, plan, head)?;
    } else {
        // That changes are held is what was asked for.
        facts::store_undone(run, state, plan, head)?;
    }
    if let Some(difference) = &done.difference {
        facts::remember_places(head, difference);
    }
    let to_prove = proof::prepare(run, plan);
    // Judged and told; while tables are written and proven, it would only take room.
    for table in &mut plan.tables {
        table.in_force = Rows::default();
    }
    run.progress.stage("writing and proving the tables");
    let began = Instant::now();
    let published = publication::publish(run, state, plan, to_prove, head);
    done.stages.end(Stage::Publish, began);
    match published {
        Ok(published) => done.published = published,
        Err(failure) => {
            failures.push(*failure);
            if head.pending.is_empty() {
                // Nothing was decided, so what was prepared is of no use and must not fill the disk until the next run.
                publish::remove_leftovers(&run.config.tables);
            }
        }
    }
    let is_done = failures.is_empty() && options.back_to.is_none();
    let difference = done.difference.as_ref().filter(|_| is_done);
    head.settled =
        difference.and_then(|difference| settled::remember(run, state, head, plan, difference));
    Ok(())
}

/// Asks whether gateways answer as the tables say. Where they contradict, the generation before is put back and what it
/// undoes is held.
fn prove(
    run: &plan::Run<'_>,
    state: &State,
    head: &mut Head,
    done: &mut Done,
    failures: &mut Vec<Failure>,
) -> Result<()> {
    let (Some(verify), Some(to_prove)) = (&run.config.verify, head.to_prove.clone()) else {
        head.to_prove = None;
        return Ok(());
    };
    if owed::is_any_owed(run, head) {
        tracing::warn!("verify: gateways are asked once every hook has succeeded");
        return Ok(());
    }
    let began = Instant::now();
    let contradictions = proof::contradictions(run, verify, &to_prove);
    done.stages.end(Stage::Proof, began);
    if contradictions.is_empty() {
        head.to_prove = None;
        return state.store_head(head);
    }
    // From here on it is owed until the generation before is back: a run that dies is asked again.
    let (generation, why) = (
        to_prove.generation,
        Vec::from_iter(contradictions).join("\n"),
    );
    let mut failure = Failure {
        exit: Exit::Disagrees,
        what: format!("generation {generation} was published, and gateways contradict it"),
        place: state.directory().display().to_string(),
        why,
        in_force: String::new(),
        next: "look at main.cf (`rcptsync doctor`) and at the change (`rcptsync history`); `rcptsync approve` publishes it \
               again"
            .into(),
    };
    let before = plan::back::to(run, state, head, generation - 1, Cause::Proof);
    let nowhere = before.as_ref().err().map(|not_back| not_back.exit);
    match before.and_then(|plan| put_back(run, state, &plan, head, done)) {
        Ok(()) => {
            failure.in_force = format!(
                "the rows of generation {} are back, and the change is held",
                generation - 1
            );
            failures.push(failure);
            owed::run_hooks(run, state, head, failures)
        }
        Err(not_back) => {
            let stay = format!(
                "the tables of generation {generation} stay: {}, {}",
                not_back.what, not_back.why
            );
            // There is nothing to go back to.
            if matches!(nowhere, Some(Exit::Usage | Exit::Held)) {
                failure.in_force = stay;
                failures.push(failure);
                head.to_prove = None;
                return state.store_head(head);
            }
            failure.in_force = format!("{stay}; the next run goes back");
            failures.push(failure);
            Err(not_back)
        }
    }
}

fn put_back(
    run: &plan::Run<'_>,
    state: &State,
    plan: &plan::Plan<'_>,
    head: &mut Head,
    done: &mut Done,
) -> Result<()> {
    facts::store_undone(run, state, plan, head)?;
    head.settled = None;
    // That the change is held from now on is what the next run says; this one says why.
    done.published = publication::publish(run, state, plan, None, head)?.or(done.published.take());
    if let Some(record) = &mut done.record {
        record.generation = head.generation;
    }
    head.to_prove = None;
    state.store_head(head)
}

/// Shows what the run did. A reader who has gone away changes nothing.
fn show(
    out: &mut dyn Write,
    options: Options,
    done: &Done,
    record: &RunRecord,
) -> std::io::Result<()> {
    let Some(difference) = &done.difference else {
        return Ok(());
    };
    let paths = (done.published.as_ref()).map_or(&[][..], |published| &published.paths);
    let ended = ended(done, difference, record);
    // Whoever wants nothing but warnings wants those of the result, too.
    if options.results == Results::Logged || options.is_quiet {
        logged::result(difference, record, paths, &ended);
        return Ok(());
    }
    if difference.outcome != Outcome::Unchanged || done.published.is_some() {
        let generation = (done.published.as_ref()).map(|published| published.generation);
        text::difference(out, difference, Told::Did(generation))?;
    }
    for path in paths {
        writeln!(out, "published {path}")?;
    }
    // The last line is the one that is read.
    match left(difference, record) {
        left if left.is_empty() => writeln!(out, "{GOOD}{ended}{GOOD:#}"),
        left => writeln!(out, "{ended}\n{HELD}{left}{HELD:#}"),
    }
}

/// What somebody has to look at, and where.
fn left(difference: &Difference, record: &RunRecord) -> String {
    let (holds, failures) = (difference.holds.len() as u64, record.failures.len() as u64);
    let mut left = Vec::new();
    if holds > 0 {
        left.push(text::waiting_holds(holds));
    }
    if failures > 0 {
        let failures = report::counted(failures, "failure", "failures");
        left.push(format!("{failures} told above"));
    }
    left.join("; ")
}

/// The sentence at the end.
fn ended(done: &Done, difference: &Difference, record: &RunRecord) -> String {
    match &done.published {
        Some(published) => format!(
            "generation {} of {} is in force",
            published.generation, record.at
        ),
        None if record.exits.contains(&Exit::NotWritten) => {
            "nothing was published: a table could not be written".into()
        }
        None if difference.outcome == Outcome::Unchanged => unchanged(difference, record),
        None => format!(
            "nothing to publish; generation {} stays in force",
            record.generation
        ),
    }
}

/// `nothing changed; in force: relay_recipients 198 rows, access 12 rows (generation 3)`
fn unchanged(difference: &Difference, record: &RunRecord) -> String {
    let tables = difference.tables.iter().map(|(name, table)| {
        let count = report::counted(table.counts.in_force, "row", "rows");
        format!("{name} {count}")
    });
    let tables: Vec<String> = tables.collect();
    let leaving = match difference.leaving.len() as u64 {
        0 => String::new(),
        count => format!(
            "; {} leaving",
            report::counted(count, "address", "addresses")
        ),
    };
    format!(
        "nothing changed; in force: {} (generation {}){leaving}",
        if tables.is_empty() {
            "what was".into()
        } else {
            tables.join(", ")
        },
        record.generation
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::panic, reason = "a bug is what is tried")]
    fn a_bug_is_an_end_with_five_answers() {
        assert!(without_panic(|| Ok(())).is_ok());
        for (bug, expected) in [
            (without_panic(|| panic!("index {}", 7)), "index 7"),
            (without_panic(|| panic!("plain")), "plain"),
        ] {
            let failure = bug.expect_err("a failure");
            assert_eq!((failure.exit.code(), failure.why.as_str()), (70, expected));
        }
    }
}

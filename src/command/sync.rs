//! `sync`: one run. The pipeline of the whole program, with one exit.
//!
//! Lock and recover; read, decide, judge (`plan`); prepare and prove; write the generation; decide (head.json with the
//! pending renames); rename; commit (head.json without them); hooks, each marked when done; the record of the run. A run
//! that dies anywhere leaves the old table or the new one in force, and the next run does what was owed.

use std::io::Write;
use std::time::Instant;

use super::plan::{Planned, settled};
use super::publication::{self, Published};
use super::{diff, facts, plan};
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::hook::{self, Told};
use crate::postfix::map_types;
use crate::publish;
use crate::report::difference::{Difference, Outcome};
use crate::report::{self, Tell, progress, text};
use crate::snapshot::Progress;
use crate::state::State;
use crate::state::head::Head;
use crate::state::runs::RunRecord;
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
}

/// What a run did, beside its failures.
#[derive(Default)]
struct Done {
    difference: Option<Difference>,
    published: Option<Published>,
    exits: Vec<Exit>,
    record: Option<RunRecord>,
}

/// Runs, prints what was done, and gives the exit code.
pub fn run(config: &Config, options: Options, out: &mut dyn Write, tell: Tell<'_>) -> Result<u8> {
    if options.is_dry_run {
        let options = diff::Options {
            format: diff::Format::Text,
            is_full: options.is_full,
            is_quiet: options.is_quiet,
        };
        return diff::run(config, options, out, tell);
    }
    let started = Instant::now();
    let progress = Progress::default();
    let run = super::begin(config, started, options.is_full, &progress);
    let state = State::lock(&config.state_dir)?;
    let mut failures = Vec::new();
    let mut done = Done::default();
    if let Err(failure) = carry_out(&run, &state, options, &mut done, &mut failures) {
        failures.push(*failure);
    }
    let mut exits: Vec<Exit> = failures
        .iter()
        .map(|failure| failure.exit)
        .chain(done.exits.iter().copied())
        .collect();
    exits.sort_unstable();
    exits.dedup();
    let code = Exit::first(exits.iter().copied()).code();
    let record = RunRecord {
        id: run.id.clone(),
        at: run.now,
        milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        code,
        exits,
        failures: failures.clone(),
        ..done.record.take().unwrap_or_default()
    };
    state.store_run(&record);
    failures.iter().for_each(tell);
    if !options.is_quiet {
        let _ = print(out, &done, &record);
    }
    tracing::info!(
        run = record.id,
        code,
        changed = record.is_changed,
        generation = record.generation,
        "run ended"
    );
    Ok(code)
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
    let recovered = publish::recover(state, &mut head, &run.config.tables, run.deadline)?;
    if recovered > 0 {
        tracing::warn!("{recovered} renames that a dead run had decided are done now");
        state.store_head(&head)?;
    }
    publish::remove_leftovers(&run.config.tables);

    let mut planned = progress::while_reading(run.progress, !options.is_quiet, || {
        plan::make(run, state, &head)
    });
    let difference = done
        .difference
        .insert(planned.difference(run.config, text::ROWS_SHOWN_MAX));
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
            done.exits = plan.exits();
            failures.append(&mut plan.failures);
            facts::store_judgement(run, state, plan, &mut head)?;
            // Judged and told; while tables are written and proven, it would only take room.
            for table in &mut plan.tables {
                table.in_force = Rows::default();
            }
            publish_plan(run, state, plan, &mut head, done, failures);
            let is_done = failures.is_empty();
            head.settled = done
                .difference
                .as_ref()
                .filter(|_| is_done)
                .and_then(|difference| settled::remember(run, state, &head, plan, difference));
        }
    }
    state.store_head(&head)?;
    record.generation = head.generation;
    record.is_changed = done.published.is_some();
    done.record = Some(record);
    drop(planned);

    // A hook is told of what is in force; where a decided rename failed, the run that finishes it tells.
    if head.pending.is_empty() {
        run_hooks(run, state, &mut head, failures)?;
    }
    if done.published.is_some() {
        publication::prune(run, state, &head);
    }
    state.tidy(&head);
    Ok(())
}

fn publish_plan(
    run: &plan::Run<'_>,
    state: &State,
    plan: &plan::Plan<'_>,
    head: &mut Head,
    done: &mut Done,
    failures: &mut Vec<Failure>,
) {
    match publication::publish(run, state, plan, head) {
        Ok(published) => done.published = published,
        Err(failure) => {
            failures.push(*failure);
            if head.pending.is_empty() {
                // Nothing was decided, so what was prepared is of no use and must not fill the disk until the next run.
                publish::remove_leftovers(&run.config.tables);
            }
        }
    }
}

/// Runs every owed hook in the order of the file; the first failure stops the later ones, which stay owed.
fn run_hooks(
    run: &plan::Run<'_>,
    state: &State,
    head: &mut Head,
    failures: &mut Vec<Failure>,
) -> Result<()> {
    head.hooks
        .retain(|name, _| run.config.hooks.iter().any(|hook| hook.name == *name));
    for hook in &run.config.hooks {
        let told_last = head.hooks.get(&hook.name).copied();
        if told_last.unwrap_or(0) >= head.published {
            continue;
        }
        let told: Told = publication::told(run, state, head, hook, told_last);
        tracing::info!(
            hook = hook.name,
            generation = head.published,
            "hook started"
        );
        if let Err(error) = hook::run(hook, &told, run.deadline) {
            failures.push(Failure {
                exit: Exit::HookOwed,
                what: format!("hook {} failed", hook.name),
                place: hook.program.display().to_string(),
                why: error.to_string(),
                in_force:
                    "the new tables are published and in use; this hook and those after it are owed"
                        .into(),
                next: "mend the program; every run tries it again until it has succeeded".into(),
            });
            return Ok(());
        }
        head.hooks.insert(hook.name.clone(), head.published);
        state.store_head(head)?;
    }
    Ok(())
}

fn print(out: &mut dyn Write, done: &Done, record: &RunRecord) -> std::io::Result<()> {
    let Some(difference) = &done.difference else {
        return Ok(());
    };
    if difference.outcome == Outcome::Unchanged
        && record.failures.is_empty()
        && difference.leaving.is_empty()
    {
        for (name, table) in &difference.tables {
            let count = report::counted(table.counts.in_force, "row", "rows");
            writeln!(
                out,
                "{name}: unchanged, {count} in force (generation {})",
                record.generation
            )?;
        }
        return Ok(());
    }
    text::difference(out, difference)?;
    match &done.published {
        Some(published) => {
            for path in &published.paths {
                writeln!(out, "published {path}")?;
            }
            writeln!(
                out,
                "generation {} of {} is in force",
                published.generation, record.at
            )
        }
        None if record.exits.contains(&Exit::NotWritten) => {
            writeln!(out, "nothing was published: a table could not be written")
        }
        None => writeln!(
            out,
            "nothing to publish; generation {} stays in force",
            record.generation
        ),
    }
}

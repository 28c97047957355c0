//! `verify`: are the published files what was published, does a complete read want the same rows, and do the gateway and
//! the system behind it answer accordingly. Takes no lock and writes nothing.

mod questions;

use std::collections::BTreeMap;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::plan;
use crate::address::Address;
use crate::config::{Config, Table, TableFolding, TableKind};
use crate::domain::Domain;
use crate::domains::Domains;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::fold::Folding;
use crate::harmless::key;
use crate::postfix::Gateway;
use crate::probe::verdict::{Reason, Side, Verdict};
use crate::probe::{self, Answer};
use crate::publish::inspect::{Found, Inspected, inspect};
use crate::report::verification::{
    Asked, Compared, FileVerified, Outcome, Purpose, TableVerified, Verification, print,
};
use crate::report::{self, progress};
use crate::smtp::Endpoint;
use crate::snapshot::Progress;
use crate::state::State;
use crate::state::files::Ledger;
use crate::state::head::Head;
use crate::state::runs::Stages;
use questions::Questions;

/// A run that replaces tables meanwhile is waited for so long.
const LOOKS_MAX: usize = 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the rows are compared with a complete read.
    pub is_full: bool,
    /// The gateway to ask.
    pub smtp: Option<Endpoint>,
    /// The system behind it to ask.
    pub callout: Option<Endpoint>,
    /// The table whose recipients are asked for; the first where nothing is said.
    pub table: Option<String>,
    /// Addresses of each sort that are asked for at most.
    pub samples: usize,
    /// Who would send.
    pub sender: Option<Address>,
    /// Who asks.
    pub helo: Option<Domain>,
    /// How long one reply may take.
    pub timeout: Duration,
    /// JSON instead of text.
    pub is_json: bool,
    /// No progress bar.
    pub is_quiet: bool,
}

/// A table on the disk beside its record.
struct TableNow<'run> {
    table: &'run Table,
    folding: Folding,
    ledger: Option<Ledger>,
    problem: Option<String>,
    files: Vec<Inspected>,
}

/// Looks, asks, prints, and gives the exit code.
pub fn run(config: &Config, options: &Options, out: &mut dyn Write) -> Result<u8> {
    let started = Instant::now();
    let asked_table = asked_table(config, options)?;
    let state = State::view(&config.state_dir);
    let (mut head, tables) = look(config, &state)?;
    let mut exits = Vec::new();
    if tables.iter().any(|table| !table.is_as_published()) {
        exits.push(Exit::Disagrees);
    }
    let mut report = Verification {
        schema: 1,
        outcome: Outcome::Agrees,
        tables: tables.iter().map(TableNow::report).collect(),
        gateway: None,
        callout: None,
    };
    let entries = Progress::default();
    let run = super::begin(config, started, true, &entries);
    // What the last run found is no witness for it.
    head.settled = None;
    super::see_clocks(&run, &mut head);
    let planned = options.is_full.then(|| {
        progress::shown(&entries, !options.is_quiet, || {
            plan::make(&run, &state, &head, &mut Stages::default())
        })
    });
    let plan = planned.as_ref().and_then(plan::Planned::made);
    if let Some(plan) = plan {
        compare(plan, &mut report.tables);
        plan.failures.iter().for_each(report::failure);
        exits.extend(plan.exits());
        if plan.is_change() {
            exits.push(Exit::WouldChange);
        }
    }
    let asking = Asking {
        config,
        options,
        table: (tables.iter()).find(|now| Some(&now.table.name) == asked_table),
        listed: plan::domains::stored(&config.domains, &head),
        plan,
        deadline: run.deadline,
    };
    for (endpoint, side, place) in [
        (&options.smtp, Side::Gateway, &mut report.gateway),
        (&options.callout, Side::Behind, &mut report.callout),
    ] {
        if let Some(endpoint) = endpoint {
            let (asked, exit) = asking.ask(endpoint, side);
            *place = Some(asked);
            exits.push(exit);
        }
    }
    report.outcome = outcome(&exits);
    // A reader who has seen enough (`| head`) is no failure.
    let _ = if options.is_json {
        report::json(out, &report)
    } else {
        print(out, &report)
    };
    Ok(Exit::first(exits).code())
}

/// The name of the table whose recipients are asked for: one that decides on them.
fn asked_table<'run>(config: &'run Config, options: &Options) -> Result<Option<&'run String>> {
    let of_kind = |kind: TableKind| {
        let tables = config.tables.iter();
        tables.filter(move |table| table.kind == kind)
    };
    let mut deciding = of_kind(TableKind::Recipients).chain(of_kind(TableKind::Access));
    let Some(name) = &options.table else {
        return Ok(deciding.next().map(|table| &table.name));
    };
    let names = deciding.map(|table| &table.name);
    let names: Vec<&String> = names.collect();
    let found = names.iter().find(|found| *found == &name);
    found.map(|name| Some(*name)).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        Box::new(Failure {
            exit: Exit::Usage,
            what: format!("--table {name}: there is no table of recipients with this name"),
            place: config.path.display().to_string(),
            why: format!("those that decide on recipients are: {}", names.join(", ")),
            in_force: Failure::NOTHING_TOUCHED.into(),
            next: "name one of them".into(),
        })
    })
}

/// Looks at every file. While another run replaces tables, record and files differ for a moment.
fn look<'run>(config: &'run Config, state: &State) -> Result<(Head, Vec<TableNow<'run>>)> {
    let mut looks_count = 0;
    loop {
        let head = state.head()?;
        let gateway = (config.tables.iter())
            .any(|table| table.folding == TableFolding::Auto)
            .then(Gateway::ask)
            .flatten();
        let tables: Vec<TableNow<'_>> = (config.tables.iter())
            .map(|table| TableNow::look(table, state, &head, gateway.as_ref()))
            .collect();
        looks_count += 1;
        let is_settled = tables.iter().all(TableNow::is_as_published)
            || (head.pending.is_empty() && state.head()? == head);
        if is_settled || looks_count == LOOKS_MAX {
            return Ok((head, tables));
        }
        sleep(BETWEEN_LOOKS);
    }
}

impl<'run> TableNow<'run> {
    fn look(
        table: &'run Table,
        state: &State,
        head: &Head,
        gateway: Option<&Gateway>,
    ) -> TableNow<'run> {
        let folding = match table.folding {
            TableFolding::Auto => gateway.map_or(Folding::Unicode, Gateway::folding),
            TableFolding::Fixed(folding) => folding,
        };
        let known = head.tables.get(&table.name);
        let known = known.filter(|known| known.ledger > 0);
        let (ledger, problem) = match known.map(|known| state.ledger(&table.name, known)) {
            Some(Ok(ledger)) => (Some(ledger), None),
            Some(Err(lost)) => (
                None,
                Some(format!(
                    "its record is lost ({lost}); the next `rcptsync sync` takes the files over anew"
                )),
            ),
            None => (
                None,
                Some("never published; `rcptsync sync` does it".into()),
            ),
        };
        TableNow {
            table,
            folding,
            files: inspect(table, head, ledger.as_ref(), folding),
            ledger,
            problem,
        }
    }

    fn is_as_published(&self) -> bool {
        let is_as_published = |file: &Inspected| matches!(file.found, Found::AsPublished(_));
        self.problem.is_none() && self.files.iter().all(is_as_published)
    }

    fn report(&self) -> (String, TableVerified) {
        let rows = self.ledger.as_ref().map_or(0, |ledger| ledger.rows.len());
        let verified = TableVerified {
            rows: rows as u64,
            problem: (self.problem.as_ref()).map(|problem| key(problem.as_bytes())),
            files: self.files.iter().map(FileVerified::of).collect(),
            complete_read: None,
        };
        (self.table.name.clone(), verified)
    }
}

/// The rows in force beside those wanted.
fn compare(plan: &plan::Plan<'_>, tables: &mut BTreeMap<String, TableVerified>) {
    for planned in &plan.tables {
        let mut compared = Compared {
            in_force: planned.in_force.len() as u64,
            wanted: planned.wanted.len() as u64,
            ..Compared::default()
        };
        for met in planned.in_force.walk(&planned.wanted) {
            match met {
                (Some(row), None) => {
                    compared.not_wanted.push(row.key);
                    compared.leaving += u64::from(row.facts().leaving_since.is_some());
                }
                (None, Some(row)) => compared.lacking.push(row.key),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        if let Some(verified) = tables.get_mut(&planned.table.name) {
            verified.complete_read = Some(compared);
        }
    }
}

/// What a server is asked from.
struct Asking<'run> {
    config: &'run Config,
    options: &'run Options,
    table: Option<&'run TableNow<'run>>,
    listed: Domains,
    plan: Option<&'run plan::Plan<'run>>,
    deadline: Instant,
}

impl Asking<'_> {
    fn ask(&self, endpoint: &Endpoint, side: Side) -> (Asked, Exit) {
        let (questions, purposes, notes) = self.questions(side).finish();
        let asking = probe::Options {
            sender: self.options.sender.clone(),
            helo: self.options.helo.clone(),
            timeout: self.options.timeout,
            deadline: self.deadline,
        };
        let server = key(endpoint.to_string().as_bytes());
        match probe::ask(endpoint, &questions, &asking) {
            Ok(interview) => {
                let mut asked = Asked::of(server, &interview, &purposes, side);
                asked.notes.extend(notes);
                (asked, exit_of(&interview.answers, &purposes))
            }
            Err(failure) => {
                report::failure(&failure);
                (Asked::unasked(server, &failure, notes), failure.exit)
            }
        }
    }

    fn questions(&self, side: Side) -> Questions<'_> {
        let Some(table) = self.table else {
            return Questions::default();
        };
        let mut questions = Questions::new(table, self.options.samples);
        questions.about_known(&self.listed);
        questions.about_nobody(&self.listed, &self.config.domains);
        match (side, self.plan) {
            (Side::Gateway, _) => questions.about_postmasters(),
            (Side::Behind, Some(plan)) => questions.about_left_out(self.config, plan),
            (Side::Behind, None) => {}
        }
        questions
    }
}

/// One contradiction is enough to disagree. To agree, the known and the random addresses of every domain that could be
/// asked need an answer that decides.
fn exit_of(answers: &[Answer], purposes: &[Purpose]) -> Exit {
    let deciding = || {
        let all = answers.iter().zip(purposes);
        all.filter(|(_, purpose)| purpose.decides())
    };
    if deciding().any(|(answer, _)| answer.verdict == Verdict::Contradicts) {
        return Exit::Disagrees;
    }
    let mut is_decided: BTreeMap<(&str, bool), bool> = BTreeMap::new();
    for (answer, purpose) in deciding() {
        if answer.verdict != Verdict::Undecided(Reason::NoSmtputf8) {
            let domain = answer.question.address.domain().ascii();
            let decided = is_decided.entry((domain, *purpose == Purpose::Known));
            *decided.or_default() |= answer.verdict == Verdict::Agrees;
        }
    }
    if !is_decided.is_empty() && is_decided.into_values().all(|is_decided| is_decided) {
        Exit::Current
    } else {
        Exit::Undecided
    }
}

fn outcome(exits: &[Exit]) -> Outcome {
    let has = |exit| exits.contains(&exit);
    if has(Exit::Disagrees) {
        Outcome::Disagrees
    } else if exits
        .iter()
        .any(|exit| !matches!(exit, Exit::Current | Exit::WouldChange | Exit::Held))
    {
        Outcome::Undecided
    } else if has(Exit::WouldChange) || has(Exit::Held) {
        Outcome::Outdated
    } else {
        Outcome::Agrees
    }
}

//! `status`: how things stand, from what the last runs left behind. The output and codes of a monitoring plugin.
//!
//! 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. Takes no lock, reads no source.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::Style;
use serde_json::json;

use super::plan::domains::RELAY_DOMAINS;
use super::plan::sources::full_every;
use crate::config::{Bind, Config, Source, SourceKind, Table};
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::harmless::key;
use crate::hold::{is_approvable, short};
use crate::report::page::{Align, Cell, Page};
use crate::report::text::{NOT_APPROVABLE, cause_alone, places_sentence};
use crate::report::{self, BAD, GOOD, HELD, PLAIN, STRONG, counted, number};
use crate::state::State;
use crate::state::head::{Frozen, Head, SourceState};
use crate::state::runs::RunRecord;
use crate::time::{Timestamp, rough};

/// Of the last runs, so many are shown.
const RUNS_SHOWN: usize = 5;

/// What the command line says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A source last known completely longer ago than this is a warning.
    pub warn_age: Duration,
    /// A source last known completely longer ago than this is critical.
    pub crit_age: Duration,
    /// JSON instead of text.
    pub is_json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warning,
    Unknown,
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Ok => "OK",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
            Level::Unknown => "UNKNOWN",
        }
    }

    fn style(self) -> Style {
        match self {
            Level::Ok => GOOD,
            Level::Warning | Level::Unknown => HELD,
            Level::Critical => BAD,
        }
    }

    fn code(self) -> u8 {
        match self {
            Level::Ok => 0,
            Level::Warning => 1,
            Level::Critical => 2,
            Level::Unknown => 3,
        }
    }
}

/// Judges and prints.
pub fn run(config: &Config, options: Options, out: &mut dyn Write) -> Result<u8> {
    let state = State::view(&config.state_dir);
    let head = match state.head() {
        Ok(head) => head,
        Err(failure) => return Ok(unknown(&failure, options.is_json, out)),
    };
    let runs = state.runs();
    let now = Timestamp::now();
    let findings = findings(config, &state, &head, runs.last(), options, now);
    let level = findings
        .iter()
        .map(|(level, _)| *level)
        .max()
        .unwrap_or(Level::Ok);
    let situation = Situation {
        config,
        head: &head,
        runs: &runs,
        now,
        level,
        findings: &findings,
    };
    let _ = if options.is_json {
        situation.print_json(out)
    } else {
        situation.print(out, options)
    };
    Ok(level.code())
}

/// Where nothing can be judged: a monitoring plugin says so in its own words and code, never in those of `sync`.
pub fn unknown(failure: &Failure, is_json: bool, out: &mut dyn Write) -> u8 {
    let level = Level::Unknown;
    let text = format!("{}: {}", failure.what, key(failure.why.as_bytes()));
    let _ = if is_json {
        let findings = [json!({ "level": level.name().to_ascii_lowercase(), "text": text })];
        let value = json!({ "schema": 1, "level": level.name().to_ascii_lowercase(), "findings": findings });
        report::json(out, &value)
    } else {
        writeln!(
            out,
            "RCPTSYNC {} - {}",
            level.name(),
            text.replace('|', "/")
        )
    };
    level.code()
}

type Finding = (Level, String);

fn findings(
    config: &Config,
    state: &State,
    head: &Head,
    last: Option<&RunRecord>,
    options: Options,
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match last {
        None => findings.push((Level::Unknown, "no run is recorded".to_owned())),
        Some(run) => findings.extend(run_findings(run)),
    }
    if state.is_read_only() {
        let place = key(state.directory().as_os_str().as_encoded_bytes());
        let what = format!("{place} is read-only: no run can begin, and none is recorded");
        findings.push((Level::Critical, what));
    }
    for source in &config.sources {
        findings.extend(source_findings(head, &source.name, options, now));
    }
    let relayed = head.relay_domains.frozen.as_ref();
    findings.extend(relayed.map(|frozen| domains_finding(RELAY_DOMAINS, frozen)));
    let holds = head
        .holds
        .values()
        .filter(|hold| hold.is_current && !hold.is_approved(now));
    let (mut count, mut changes) = (0, 0);
    for hold in holds {
        count += 1;
        changes += hold.added_count + hold.removed_count;
    }
    if count > 0 {
        let text = format!(
            "{} on {}",
            counted(count, "hold", "holds"),
            counted(changes, "change", "changes")
        );
        findings.push((Level::Warning, text));
    }
    for hook in owed(config, head) {
        findings.push((Level::Warning, format!("hook {hook} is owed")));
    }
    for (hook, failing) in notices_failing(config, state) {
        let text = format!(
            "hook {hook} is not told anything since {}: {}",
            failing.since,
            key(failing.cause.as_bytes())
        );
        findings.push((Level::Warning, text));
    }
    if !head.pending.is_empty() {
        let count = counted(head.pending.len() as u64, "rename", "renames");
        findings.push((
            Level::Warning,
            format!("{count} decided and not done; the next run finishes them"),
        ));
    }
    findings
}

fn run_findings(run: &RunRecord) -> Option<Finding> {
    let is_failure = |exit: &Exit| {
        matches!(
            exit,
            Exit::Bug | Exit::Configuration | Exit::Usage | Exit::Permission | Exit::NotWritten
        )
    };
    run.exits.iter().any(is_failure).then(|| {
        let what = run
            .failures
            .iter()
            .find(|failure| is_failure(&failure.exit))
            .map_or("", |failure| &failure.what);
        (
            Level::Critical,
            format!(
                "the last run ended with {}: {}",
                run.code,
                key(what.as_bytes())
            ),
        )
    })
}

fn source_findings(head: &Head, name: &str, options: Options, now: Timestamp) -> Vec<Finding> {
    let known = head.sources.get(name);
    let mut findings = Vec::new();
    let is_followed = known.is_some_and(|known| known.complete_at < known.current_at);
    let how = if is_followed {
        "followed"
    } else {
        "read completely"
    };
    match known.and_then(|known| known.current_at) {
        None => findings.push((
            Level::Critical,
            format!("source {name} was never read completely"),
        )),
        Some(at) => {
            let age = now.since(at);
            let text = format!("source {name} was last {how} {} ago", rough(age));
            if age > options.crit_age {
                findings.push((Level::Critical, text));
            } else if age > options.warn_age {
                findings.push((Level::Warning, text));
            }
        }
    }
    if let Some(frozen) = known.and_then(|known| known.frozen.as_ref()) {
        let text = format!(
            "source {name} is frozen since {}: {}",
            frozen.since,
            cause_alone(name, &key(frozen.cause.as_bytes()))
        );
        findings.push((Level::Warning, text));
    }
    if let Some(frozen) = known.and_then(|known| known.domains_frozen.as_ref()) {
        findings.push(domains_finding(&format!("source {name}"), frozen));
    }
    findings
}

fn domains_finding(origin: &str, frozen: &Frozen) -> Finding {
    let cause = key(frozen.cause.as_bytes());
    (
        Level::Warning,
        format!(
            "the domains of {origin} are frozen since {}: {cause}",
            frozen.since
        ),
    )
}

fn owed<'run>(config: &'run Config, head: &'run Head) -> impl Iterator<Item = &'run str> {
    let names = config.hooks.iter().map(|hook| hook.name.as_str());
    names.filter(|name| head.owes(name))
}

/// Hooks that were to be told how things stand, and failed.
fn notices_failing(config: &Config, state: &State) -> Vec<(String, Frozen)> {
    if config.notices.is_empty() {
        return Vec::new();
    }
    let notified = state.notified().into_iter();
    let failing = notified.filter_map(|(hook, memory)| Some((hook, memory.failing?)));
    let is_configured = |hook: &str| config.notices.iter().any(|notice| notice.hook.name == hook);
    failing.filter(|(hook, _)| is_configured(hook)).collect()
}

/// How often a source is read completely only because its account is not shown deletions, and what would show them.
fn unseen_deletions(source: &Source, known: &SourceState) -> Option<(Duration, String)> {
    let SourceKind::Ldap(ldap) = &source.kind else {
        return None;
    };
    let cursor = known.cursor.as_ref();
    let cursor = cursor.filter(|cursor| !cursor.sees_deletions)?;
    let container = key(format!("CN=Deleted Objects,{}", cursor.naming_context).as_bytes());
    let account = match &ldap.bind {
        // A DN is not how this tool names an account.
        Bind::Simple { name, .. } if !name.contains('=') => key(name.as_bytes()),
        Bind::Gssapi { principal, .. } => key(principal.as_bytes()),
        Bind::Simple { .. } | Bind::External { .. } | Bind::Anonymous => "ACCOUNT".to_owned(),
    };
    let cure = format!("dsacls \"{container}\" /G \"{account}:LCRP\"");
    Some((full_every(ldap, cursor), cure))
}

/// A heading and its rows; nothing where there are none.
fn block(page: &mut Page<'_>, title: &str, aligns: &[Align], rows: &[Vec<Cell>]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    page.line(format_args!("{STRONG}{title}{STRONG:#}"))?;
    page.table("  ", aligns, rows)
}

fn run_row(run: &RunRecord) -> Vec<Cell> {
    let what = if run.is_changed {
        format!("published generation {}", run.generation)
    } else {
        "no change".to_owned()
    };
    let style = if run.code == 0 { GOOD } else { HELD };
    let plain = |text: String| (PLAIN, text);
    vec![
        (style, format!("code {}", run.code)),
        plain(what),
        plain(format!("{} ms", number(run.milliseconds))),
        // It begins with the time.
        plain(run.id.clone()),
    ]
}

struct Situation<'run> {
    config: &'run Config,
    head: &'run Head,
    runs: &'run [RunRecord],
    now: Timestamp,
    level: Level,
    findings: &'run [Finding],
}

impl Situation<'_> {
    fn rows_count(&self) -> u64 {
        self.config
            .tables
            .iter()
            .filter_map(|table| self.head.tables.get(&table.name))
            .map(|known| known.rows_count)
            .sum()
    }

    /// Tables with rows in their grace: how many, and when the first of them goes.
    fn leaving(&self) -> impl Iterator<Item = (&str, u64, Timestamp)> {
        self.config.tables.iter().filter_map(|table| {
            let known = self.head.tables.get(&table.name)?;
            Some((
                table.name.as_str(),
                known.leaving_count,
                known.next_deadline?,
            ))
        })
    }

    /// Age of the oldest knowledge of a source.
    fn age(&self) -> Option<Duration> {
        let times = self
            .config
            .sources
            .iter()
            .map(|source| self.head.sources.get(&source.name)?.current_at);
        times
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .map(|at| self.now.since(at))
            .max()
    }

    fn print(&self, out: &mut dyn Write, options: Options) -> io::Result<()> {
        let worst = self
            .findings
            .iter()
            .max_by_key(|(level, _)| *level)
            .map(|(_, text)| text.as_str());
        let rows = counted(self.rows_count(), "row", "rows");
        let good = format!("{rows} in force, generation {}", self.head.generation);
        let age = self.age();
        writeln!(
            out,
            "RCPTSYNC {} - {} | age={}s;{};{};0 rows={};;;0",
            self.level.name(),
            worst.unwrap_or(&good).replace('|', "/"),
            age.map_or_else(|| "U".into(), |age| age.as_secs().to_string()),
            options.warn_age.as_secs(),
            options.crit_age.as_secs(),
            self.rows_count(),
        )?;
        let page = &mut Page::stdout(out);
        for (level, text) in self.findings {
            let (style, name) = (level.style(), level.name());
            page.hanging(&format!("{style}{name}{style:#}: "), text)?;
        }
        block(page, "sources", &[Align::Left; 2], &self.source_rows())?;
        block(
            page,
            "tables",
            &[Align::Left, Align::Right, Align::Left],
            &self.table_rows(),
        )?;
        block(page, "holds", &[Align::Left; 2], &self.hold_rows())?;
        let hooks: Vec<Vec<Cell>> = self
            .config
            .hooks
            .iter()
            .map(|hook| self.hook_row(&hook.name))
            .collect();
        block(page, "hooks", &[Align::Left; 2], &hooks)?;
        let aligns = [Align::Left, Align::Left, Align::Right, Align::Left];
        let runs: Vec<Vec<Cell>> = self
            .runs
            .iter()
            .rev()
            .take(RUNS_SHOWN)
            .map(run_row)
            .collect();
        block(page, "last runs", &aligns, &runs)
    }

    fn source_rows(&self) -> Vec<Vec<Cell>> {
        let mut rows = Vec::new();
        for source in &self.config.sources {
            let Some(known) = self.head.sources.get(&source.name) else {
                continue;
            };
            let Some(at) = known.current_at else {
                continue;
            };
            let records = counted(known.records_count, "record", "records");
            let ago = rough(self.now.since(at));
            let complete_at = known.complete_at.filter(|complete_at| *complete_at < at);
            let complete = complete_at.map_or_else(String::new, |complete_at| {
                let ago = rough(self.now.since(complete_at));
                format!(", read completely {ago} ago")
            });
            let (style, frozen) = match known.frozen {
                Some(_) => (HELD, "frozen; "),
                None => (PLAIN, ""),
            };
            let answered_by = &known.answered_by;
            let text = format!("{frozen}{records} from {answered_by}, {ago} ago{complete}");
            rows.push(vec![(style, source.name.clone()), (PLAIN, text)]);
            if let Some((every, cure)) = unseen_deletions(source, known) {
                let text = format!(
                    "its account is not shown deleted objects, so a deletion counts at the next complete read only (every {}); \
                     the right that cures it, on Windows (the README has the line for Samba):\n  {cure}",
                    rough(every)
                );
                rows.push(vec![(PLAIN, String::new()), (PLAIN, text)]);
            }
        }
        rows
    }

    /// Rows in force, and of tables with rows in their grace how many those are and when the first of them goes.
    fn table_rows(&self) -> Vec<Vec<Cell>> {
        let known = |table: &Table| {
            Some((
                table.name.clone(),
                self.head.tables.get(&table.name)?.rows_count,
            ))
        };
        let mut rows = Vec::new();
        for (name, rows_count) in self.config.tables.iter().filter_map(known) {
            let leaving = self.leaving().find(|(table, ..)| *table == name);
            let leaving = leaving.map_or_else(String::new, |(_, count, next)| {
                format!(
                    "leaving: {}, the next at {next}",
                    counted(count, "row", "rows")
                )
            });
            let count = counted(rows_count, "row", "rows");
            rows.push(vec![(PLAIN, name), (PLAIN, count), (HELD, leaving)]);
        }
        rows
    }

    fn hold_rows(&self) -> Vec<Vec<Cell>> {
        let mut rows = Vec::new();
        for (digest, hold) in self.head.holds.iter().filter(|(_, hold)| hold.is_current) {
            let digest = short(digest);
            let what = format!(
                "{}, {}, table {}: +{} -{} since {}",
                hold.cause.name(),
                key(hold.scope.as_bytes()),
                hold.table,
                number(hold.added_count),
                number(hold.removed_count),
                hold.since,
            );
            let (style, state, release) = if hold.is_approved(self.now) {
                (
                    GOOD,
                    "approved",
                    "the next run applies what is still wanted".to_owned(),
                )
            } else if is_approvable(hold.cause, hold.removed_count) {
                (HELD, "held", format!("release: rcptsync approve {digest}"))
            } else {
                (HELD, "held", format!("{} ({digest})", NOT_APPROVABLE))
            };
            let mut text = what;
            if !hold.places.is_empty() {
                text.push_str(&format!("\n{}", places_sentence(&hold.places)));
            }
            text.push_str(&format!("\n{release}"));
            rows.push(vec![(style, state.to_owned()), (PLAIN, text)]);
        }
        rows
    }

    fn hook_row(&self, name: &str) -> Vec<Cell> {
        let told_last = self.head.hooks.get(name).copied().unwrap_or(0);
        let (style, state) = if owed(self.config, self.head).any(|owed| owed == name) {
            (HELD, format!("owed for generation {}", self.head.published))
        } else if told_last == 0 {
            (PLAIN, "never needed".to_owned())
        } else {
            (PLAIN, format!("done for generation {told_last}"))
        };
        vec![(style, name.to_owned()), (PLAIN, state)]
    }

    fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let sources: serde_json::Map<String, serde_json::Value> = self
            .config
            .sources
            .iter()
            .map(|source| {
                let known = self.head.sources.get(&source.name);
                let complete_at = known.and_then(|known| known.complete_at);
                let current_at = known.and_then(|known| known.current_at);
                let cursor = known.and_then(|known| known.cursor.as_ref());
                let value = json!({
                    "current_at": current_at.map(|at| at.to_string()),
                    "complete_at": complete_at.map(|at| at.to_string()),
                    "age_seconds": current_at.map(|at| self.now.since(at).as_secs()),
                    "answered_by": known.map(|known| &known.answered_by),
                    "is_followed": cursor.is_some(),
                    "sees_deletions": cursor.map(|cursor| cursor.sees_deletions),
                    "records": known.map(|known| known.records_count),
                    "frozen": known.and_then(|known| known.frozen.as_ref()).map(|frozen| json!({
                        "since": frozen.since.to_string(), "cause": key(frozen.cause.as_bytes()) })),
                });
                (source.name.clone(), value)
            })
            .collect();
        let holds = self.head.holds.iter().filter(|(_, hold)| hold.is_current).map(|(digest, hold)| {
            json!({ "digest": digest, "table": hold.table, "cause": hold.cause, "scope": key(hold.scope.as_bytes()),
                    "added": hold.added_count, "removed": hold.removed_count, "places": hold.places, "since": hold.since.to_string(),
                    "approved_at": hold.approved_at.filter(|_| hold.is_approved(self.now)).map(|at| at.to_string()) })
        });
        let value = json!({
            "schema": 1,
            "level": self.level.name().to_ascii_lowercase(),
            "findings": self.findings.iter().map(|(level, text)| json!({
                "level": level.name().to_ascii_lowercase(), "text": text })).collect::<Vec<_>>(),
            "generation": self.head.generation,
            "rows": self.rows_count(),
            "sources": sources,
            "holds": holds.collect::<Vec<_>>(),
            "leaving": self.leaving().map(|(table, rows, next)| json!({
                "table": table, "rows": rows, "next": next.to_string() })).collect::<Vec<_>>(),
            "hooks_owed": owed(self.config, self.head).collect::<Vec<_>>(),
            "runs": self.runs.iter().rev().take(RUNS_SHOWN).collect::<Vec<_>>(),
        });
        report::json(out, &value)
    }
}

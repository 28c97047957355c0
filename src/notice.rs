//! What is to be told, to which hook, and when. Pure: what a run found and what a hook was told go in, a notice comes out.
//!
//! A [`Condition`] is something that is wrong and lasts: a source is frozen, changes are held, a hook is owed. It is told
//! when it begins and when it is over, not once a run. What names it is stable (its key); numbers and error texts are not
//! looked at, so neither a directory that changes with every run nor a server with many excuses makes more notices.
//!
//! Quiet is kept by four rules: a condition is told again when it became materially worse or after `remind_every`; one that is
//! gone before `delay` is over was none; the end of one that comes back within a day is told later and later ([`calm`]); and
//! no hook gets more than [`NOTICES_PER_HOUR_MAX`].
//!
//! Not here: which words the notice has (`report::notice`), and how it is delivered (`command::notices`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Failure;
use crate::exit::Exit;
use crate::harmless::key;
use crate::hold::Cause;
use crate::state::head::{Frozen, Head, HoldState};
use crate::state::runs::RunRecord;
use crate::time::Timestamp;

/// However many conditions begin, a hook is not run more often. What it was not told of waits.
pub const NOTICES_PER_HOUR_MAX: usize = 6;

/// More conditions than these are not told apart, and while there are more, none counts as over.
pub const CONDITIONS_MAX: usize = 500;

/// A condition that comes back within this time is the same trouble.
const MEMORY: Duration = Duration::from_secs(86_400);

const HOUR: Duration = Duration::from_secs(3_600);

/// What a hook can ask to be told of, in the order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// A source, a table, a permission, the state, a gateway or rcptsync itself failed.
    Failed,
    /// Changes are held.
    Refused,
    /// A hook is owed, or renames that were decided.
    Owed,
    /// What was told is over.
    Recovered,
}

impl When {
    /// All of them.
    pub const ALL: [When; 4] = [When::Failed, When::Refused, When::Owed, When::Recovered];

    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            When::Failed => "failed",
            When::Refused => "refused",
            When::Owed => "owed",
            When::Recovered => "recovered",
        }
    }
}

/// What a hook wants to be told, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Of what.
    pub whens: BTreeSet<When>,
    /// How often it is told again of what goes on, if at all.
    pub remind_every: Option<Duration>,
    /// What does not last as long is not told.
    pub delay: Duration,
}

impl Rules {
    /// A hook for recoveries alone follows everything, and runs at its end only.
    fn follows(&self, when: When) -> bool {
        self.whens.contains(&when) || self.is_silent()
    }

    fn is_silent(&self) -> bool {
        self.whens.iter().all(|when| *when == When::Recovered)
    }
}

/// Something that is wrong and lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// As what it is told.
    pub when: When,
    /// What names it from run to run.
    pub key: String,
    /// What is wrong, in a few words without figures.
    pub what: String,
    /// What is so once it is over.
    pub over: String,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
    /// How bad it is: twice as much is worth another notice.
    pub weight: u64,
    /// When somebody last did something about it: if it stands there all the same, that is worth another notice.
    pub acted_at: Option<Timestamp>,
    /// Whether it is known from the run alone, and not from the state.
    pub is_of_run: bool,
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What is wrong, by key.
    pub conditions: BTreeMap<String, Condition>,
    /// Whether the state could be read.
    pub is_state_known: bool,
    /// Whether the run came to its end.
    pub is_run_whole: bool,
}

impl Found {
    /// Whether a condition that was not found is gone, and not only out of sight.
    fn is_gone(&self, known: &Known) -> bool {
        let was_looked_at = if known.is_of_run {
            self.is_run_whole
        } else {
            self.is_state_known
        };
        was_looked_at && self.conditions.len() < CONDITIONS_MAX
    }
}

/// Everything that is wrong after a run: what the state says, and what failed beside.
pub fn find(config: &Config, head: Option<&Head>, run: &RunRecord, is_run_whole: bool) -> Found {
    let mut all = Vec::new();
    if let Some(head) = head {
        all.extend(frozen(config, head, run));
        let holds = head.holds.iter();
        let holds = holds.filter(|(_, hold)| hold.is_current && !hold.is_approved(run.at));
        all.extend(holds.map(|(_, hold)| held(head, hold)));
        let owed = config.hooks.iter().filter(|hook| head.owes(&hook.name));
        all.extend(owed.map(|hook| hook_owed(&hook.name)));
        all.extend((!head.pending.is_empty()).then(renames_owed));
    }
    all.extend(failures(head, run));
    all.truncate(CONDITIONS_MAX);
    let mut conditions: BTreeMap<String, Condition> = BTreeMap::new();
    for condition in all {
        let known = conditions.entry(condition.key.clone());
        let known = known.or_insert_with(|| condition.clone());
        known.weight = known.weight.max(condition.weight);
    }
    Found {
        conditions,
        is_state_known: head.is_some(),
        is_run_whole,
    }
}

/// Sources that cannot be read, and where domains come from and cannot be read.
fn frozen(config: &Config, head: &Head, run: &RunRecord) -> Vec<Condition> {
    let mut found = Vec::new();
    let mut add = |key: String, subject: String, frozen: &Frozen, was_read: bool| {
        let is_refused = (run.failures.iter())
            .any(|failure| failure.exit == Exit::Permission && failure.cause() == frozen.cause);
        found.push(Condition {
            when: When::Failed,
            key,
            what: match was_read {
                true => format!("{subject} cannot be read completely"),
                false => format!("{subject} has never been read completely"),
            },
            over: format!("{subject} is not frozen any more"),
            since: Some(frozen.since),
            // What does not answer may come back by itself; what refuses us needs somebody.
            weight: if is_refused { 2 } else { 1 },
            acted_at: None,
            is_of_run: false,
        });
    };
    for source in &config.sources {
        let name = &source.name;
        let Some(known) = head.sources.get(name) else {
            continue;
        };
        if let Some(frozen) = &known.frozen {
            let subject = format!("source {name}");
            add(subject.clone(), subject, frozen, known.current_at.is_some());
        }
        if let Some(frozen) = &known.domains_frozen {
            let subject = format!("the list of domains of source {name}");
            add(
                format!("domains {name}"),
                subject,
                frozen,
                known.organisation.is_some(),
            );
        }
    }
    let relayed = &head.relay_domains;
    if let Some(frozen) = &relayed.frozen {
        add(
            "relay_domains".into(),
            "relay_domains".into(),
            frozen,
            !relayed.entries.is_empty(),
        );
    }
    found
}

/// Changes that wait. The digest does not name the condition: in a busy directory it is another one in every run.
fn held(head: &Head, hold: &HoldState) -> Condition {
    let is_same = |known: &&HoldState| {
        known.table == hold.table && known.cause == hold.cause && known.scope == hold.scope
    };
    let (table, cause, scope) = (&hold.table, hold.cause.name(), key(hold.scope.as_bytes()));
    let (when, what) = if hold.cause == Cause::Proof {
        let what = format!("a gateway contradicted {scope}, and the change of {table} is held");
        (When::Failed, what)
    } else {
        let what = format!("changes of {table} are held: {cause}, {scope}");
        (When::Refused, what)
    };
    Condition {
        when,
        key: format!("hold {table} {cause} {scope}"),
        what,
        over: format!("no change of {table} is held any more for {cause}, {scope}"),
        since: Some(hold.since),
        weight: hold.added_count + hold.removed_count,
        acted_at: (head.holds.values().filter(is_same))
            .filter_map(|known| known.approved_at)
            .max(),
        is_of_run: false,
    }
}

fn hook_owed(name: &str) -> Condition {
    Condition {
        when: When::Owed,
        key: format!("hook {name}"),
        what: format!("hook {name} is owed"),
        over: format!("hook {name} is not owed any more"),
        since: None,
        weight: 1,
        acted_at: None,
        is_of_run: false,
    }
}

fn renames_owed() -> Condition {
    Condition {
        when: When::Owed,
        key: "renames".into(),
        what: "renames of tables were decided and are not done".into(),
        over: "every rename that was decided is done".into(),
        since: None,
        weight: 1,
        acted_at: None,
        is_of_run: false,
    }
}

/// What failed and is not remembered by the state as frozen, held or owed.
fn failures(head: Option<&Head>, run: &RunRecord) -> Vec<Condition> {
    let is_frozen = |cause: &str| {
        head.is_some_and(|head| {
            let sources = head.sources.values();
            let mut frozen = sources
                .flat_map(|source| [&source.frozen, &source.domains_frozen])
                .chain([&head.relay_domains.frozen])
                .flatten();
            frozen.any(|frozen| frozen.cause == cause)
        })
    };
    let is_held = |cause: Cause| {
        head.is_some_and(|head| {
            let mut holds = head.holds.values();
            holds.any(|hold| hold.is_current && hold.cause == cause)
        })
    };
    let is_told_otherwise = |failure: &&Failure| {
        (failure.exit == Exit::Disagrees && is_held(Cause::Proof)) || is_frozen(&failure.cause())
    };
    let untold = (run.failures.iter()).filter(|failure| !is_told_otherwise(failure));
    let condition = |failure: &Failure| {
        let (name, over) = of_exit(failure.exit)?;
        Some(Condition {
            when: When::Failed,
            key: format!("run {name}"),
            what: key(failure.what.as_bytes()),
            over: over.into(),
            since: None,
            weight: 1,
            acted_at: None,
            is_of_run: true,
        })
    };
    untold.filter_map(condition).collect()
}

/// The class of a failure, and what is so once it does not happen any more.
fn of_exit(exit: Exit) -> Option<(&'static str, &'static str)> {
    Some(match exit {
        Exit::Bug => ("bug", "a run comes to its end again"),
        Exit::Configuration => ("configuration", "configuration and state are good again"),
        Exit::Permission => ("permission", "the permission that was missing is there"),
        Exit::NotWritten => ("not_written", "tables and state are written again"),
        Exit::Disagrees => ("disagrees", "no gateway contradicts any more"),
        Exit::SourceFrozen | Exit::Undecided => ("not_read", "everything is read again"),
        Exit::Usage
        | Exit::Locked
        | Exit::Held
        | Exit::HookOwed
        | Exit::WouldChange
        | Exit::Refused
        | Exit::Current => return None,
    })
}

/// What a hook knows of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// As what it is told.
    pub when: When,
    /// What is wrong.
    pub what: String,
    /// What is so once it is over.
    pub over: String,
    is_of_run: bool,
    /// Since when.
    pub since: Timestamp,
    /// How many runs found it.
    pub runs_count: u64,
    weight: u64,
    acted_at: Option<Timestamp>,
    told: Option<Told>,
    /// It was about to be told: whether that arrived is not known, so its end will be told.
    is_tried: bool,
    /// The first run in a row that did not find it.
    pub gone_since: Option<Timestamp>,
    /// Its end was told. It is remembered for a day, in case that it comes back.
    ended_at: Option<Timestamp>,
    returns_count: u32,
}

/// What was told of a condition last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    at: Timestamp,
    /// The most that was ever told: a number that goes up and down is told once on its way up.
    weight: u64,
}

/// What is to be told in one go: keys and what is known of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// What is new, or became worse.
    pub began: Vec<(String, Known)>,
    /// What was told before and is so still.
    pub goes_on: Vec<(String, Known)>,
    /// What is over.
    pub ended: Vec<(String, Known)>,
    /// Whether it is sent for the sake of what goes on.
    pub is_reminder: bool,
}

impl Notice {
    /// What it tells of.
    pub fn whens(&self) -> BTreeSet<When> {
        let reminded = self.goes_on.iter().filter(|_| self.is_reminder);
        let told = self.began.iter().chain(reminded);
        let ended = self.ended.iter().map(|_| When::Recovered);
        told.map(|(_, known)| known.when).chain(ended).collect()
    }
}

/// What one hook was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    conditions: BTreeMap<String, Known>,
    /// When it was told something, within the last hour.
    sent: Vec<Timestamp>,
    /// Since when it does not succeed, and why.
    pub failing: Option<Frozen>,
}

impl Memory {
    /// Takes in what a run found.
    pub fn see(&mut self, found: &Found, rules: &Rules, now: Timestamp) {
        let followed = found.conditions.values();
        for condition in followed.filter(|condition| rules.follows(condition.when)) {
            self.see_one(condition, now);
        }
        for (key, known) in &mut self.conditions {
            if !found.conditions.contains_key(key) && found.is_gone(known) {
                known.gone_since.get_or_insert(now);
            }
        }
        let tells_ends = rules.whens.contains(&When::Recovered);
        self.conditions.retain(|_, known| {
            if known.is_over(now) && !tells_ends {
                known.ended_at = Some(now);
            }
            if rules.is_silent() && known.is_begun(rules, now) {
                known.be_told(now);
            }
            let is_kept = match (known.ended_at, known.gone_since) {
                (Some(ended_at), _) => now.apart(ended_at) < MEMORY,
                (None, Some(gone_since)) if !known.may_be_told() => {
                    now.apart(gone_since) < rules.delay
                }
                (None, _) => true,
            };
            is_kept && rules.follows(known.when)
        });
        self.sent.retain(|at| now.apart(*at) < HOUR);
    }

    fn see_one(&mut self, condition: &Condition, now: Timestamp) {
        let fresh = |since: Option<Timestamp>, returns_count| Known {
            when: condition.when,
            what: condition.what.clone(),
            over: condition.over.clone(),
            is_of_run: condition.is_of_run,
            since: since.unwrap_or(now),
            runs_count: 0,
            weight: condition.weight,
            acted_at: None,
            told: None,
            is_tried: false,
            gone_since: None,
            ended_at: None,
            returns_count,
        };
        let known = self.conditions.entry(condition.key.clone());
        let known = known.or_insert_with(|| fresh(condition.since, 0));
        if let Some(ended_at) = known.ended_at {
            // A hold remembers its like of the last hours.
            let since = condition.since.filter(|since| *since > ended_at);
            *known = fresh(since, known.returns_count + 1);
        }
        known.when = condition.when;
        known.what.clone_from(&condition.what);
        known.weight = condition.weight;
        known.acted_at = condition.acted_at;
        known.runs_count += 1;
        known.gone_since = None;
    }

    /// What the hook is to be told now, if anything.
    pub fn due(&self, rules: &Rules, now: Timestamp) -> Option<Notice> {
        if self.sent.len() >= NOTICES_PER_HOUR_MAX {
            return None;
        }
        let mut notice = Notice::default();
        for (key, known) in &self.conditions {
            let item = (key.clone(), known.clone());
            if known.is_over(now) {
                notice.ended.push(item);
            } else if known.is_begun(rules, now) || known.is_worse() {
                notice.began.push(item);
            } else if known.is_present() && known.told.is_some() {
                notice.is_reminder |= known.is_reminder_due(rules, now);
                notice.goes_on.push(item);
            }
        }
        if rules.is_silent() {
            notice.began.clear();
            notice.is_reminder = false;
        }
        let is_due = !notice.began.is_empty() || !notice.ended.is_empty() || notice.is_reminder;
        is_due.then_some(notice)
    }

    /// The hook is about to be told this.
    pub fn try_to_tell(&mut self, notice: &Notice) {
        for (key, _) in &notice.began {
            if let Some(known) = self.conditions.get_mut(key) {
                known.is_tried = true;
            }
        }
    }

    /// The hook was told this.
    pub fn told(&mut self, notice: &Notice, now: Timestamp) {
        for (key, _) in notice.began.iter().chain(&notice.goes_on) {
            if let Some(known) = self.conditions.get_mut(key) {
                known.be_told(now);
            }
        }
        for (key, _) in &notice.ended {
            if let Some(known) = self.conditions.get_mut(key) {
                known.ended_at = Some(now);
            }
        }
        self.sent.push(now);
    }
}

impl Known {
    fn is_present(&self) -> bool {
        self.gone_since.is_none()
    }

    fn is_begun(&self, rules: &Rules, now: Timestamp) -> bool {
        self.is_present() && self.told.is_none() && now.apart(self.since) >= rules.delay
    }

    /// Twice as bad as it was ever told, or there again although somebody did something about it.
    fn is_worse(&self) -> bool {
        self.is_present()
            && self.told.is_some_and(|told| {
                let is_doubled = self.weight >= told.weight.saturating_mul(2);
                (is_doubled && self.weight > told.weight) || self.acted_at > Some(told.at)
            })
    }

    fn is_reminder_due(&self, rules: &Rules, now: Timestamp) -> bool {
        let every = self.told.zip(rules.remind_every);
        every.is_some_and(|(told, every)| now.apart(told.at) >= every)
    }

    /// Whether it was told, and has been gone for long enough to say so.
    fn is_over(&self, now: Timestamp) -> bool {
        let is_calm = |gone_since| now.apart(gone_since) >= calm(self.returns_count);
        self.may_be_told() && self.ended_at.is_none() && self.gone_since.is_some_and(is_calm)
    }

    fn may_be_told(&self) -> bool {
        self.told.is_some() || self.is_tried
    }

    fn be_told(&mut self, now: Timestamp) {
        let before = self.told.map_or(0, |told| told.weight);
        self.told = Some(Told {
            at: now,
            weight: before.max(self.weight),
        });
    }
}

/// How long a condition must be gone before its end is told: not at all the first time; 15 minutes, half an hour, an hour and
/// so on up to a day, the more often it came back within a day.
fn calm(returns_count: u32) -> Duration {
    match returns_count {
        0 => Duration::ZERO,
        count => (HOUR / 4)
            .saturating_mul(1 << (count - 1).min(16))
            .min(MEMORY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run found, in words: `a` is a condition, `a=50` one of this weight, `a@7` one that somebody did something about in
    /// minute 7. It is `failed`, or `refused` where its name begins with h, `owed` with o; one with x is of the run alone.
    /// `?`: the state could not be read; `~`: the run did not come to its end.
    fn found(words: &str) -> Found {
        let mut found = Found {
            is_state_known: true,
            is_run_whole: true,
            ..Found::default()
        };
        for word in words.split_whitespace() {
            let (word, acted_at) = word.split_once('@').map_or((word, None), |(word, minute)| {
                (word, Some(at(minute.parse().expect("a minute"))))
            });
            let (name, weight) = word.split_once('=').unwrap_or((word, "1"));
            let when = match name.chars().next() {
                Some('h') => When::Refused,
                Some('o') => When::Owed,
                _ => When::Failed,
            };
            match name {
                "?" => found.is_state_known = false,
                "~" => found.is_run_whole = false,
                _ => drop(found.conditions.insert(
                    name.into(),
                    Condition {
                        when,
                        key: name.into(),
                        what: name.into(),
                        over: name.into(),
                        since: None,
                        weight: weight.parse().expect("a number"),
                        acted_at,
                        is_of_run: name.starts_with('x'),
                    },
                )),
            }
        }
        found
    }

    fn at(minute: u64) -> Timestamp {
        Timestamp(1_000_000 + minute * 60)
    }

    fn rules(whens: &[When], remind_every: u64, delay: u64) -> Rules {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Rules {
            whens: whens.iter().copied().collect(),
            remind_every: (remind_every > 0).then(|| minutes(remind_every)),
            delay: minutes(delay),
        }
    }

    /// `+` what began, `=` what goes on, `-` what ended; `!` behind a reminder.
    fn words(notice: &Notice) -> String {
        let marked = |mark: char, list: &[(String, Known)]| -> String {
            list.iter()
                .map(|(key, _)| format!("{mark}{key} "))
                .collect()
        };
        let all = [
            marked('+', &notice.began),
            marked('=', &notice.goes_on),
            marked('-', &notice.ended),
            if notice.is_reminder {
                "!".into()
            } else {
                String::new()
            },
        ];
        all.concat().trim_end().to_owned()
    }

    /// Minute, what the run finds, what is to be told then; where that begins with `#`, the hook fails.
    #[track_caller]
    fn check(rules: &Rules, runs: &[(u64, &str, &str)]) {
        let mut memory = Memory::default();
        for (minute, finds, expected) in runs {
            // Whatever is remembered survives being stored.
            let stored = serde_json::to_string(&memory).expect("JSON");
            memory = serde_json::from_str(&stored).expect("what was stored");
            memory.see(&found(finds), rules, at(*minute));
            let notice = memory.due(rules, at(*minute));
            let said = notice.as_ref().map_or_else(String::new, words);
            let (fails, expected) = match expected.strip_prefix('#') {
                Some(expected) => (true, expected),
                None => (false, *expected),
            };
            assert_eq!(said, expected, "minute {minute}, {finds:?}: {memory:#?}");
            if let Some(notice) = notice {
                memory.try_to_tell(&notice);
                if !fails {
                    memory.told(&notice, at(*minute));
                }
            }
        }
    }

    const DAY: u64 = 24 * 60;

    #[test]
    fn a_change_of_state_is_told_and_not_a_run() {
        let all = rules(&When::ALL, DAY, 0);
        check(
            &all,
            &[
                (0, "", ""),
                (5, "a", "+a"),
                (10, "a", ""),
                (15, "", "-a"),
                (20, "", ""),
            ],
        );
        // What else is so stands beside it.
        check(
            &all,
            &[
                (0, "a", "+a"),
                (5, "a h", "+h =a"),
                (10, "h o", "+o =h -a"),
                (15, "", "-h -o"),
            ],
        );
    }

    #[test]
    fn it_is_told_again_when_it_is_worse_and_as_a_reminder() {
        let all = rules(&When::ALL, DAY, 0);
        // A busy directory adds to a hold in every run; twice as much is news, and so it is on the way down and up again.
        check(
            &all,
            &[
                (0, "h=12", "+h"),
                (5, "h=13", ""),
                (10, "h=23", ""),
                (15, "h=24", "+h"),
                (20, "h=2", ""),
                (25, "h=24", ""),
                (30, "h=50", "+h"),
            ],
        );
        // Somebody approved what was told, and something else is held.
        check(
            &all,
            &[(0, "h=12", "+h"), (5, "h=12@3", "+h"), (10, "h=12@3", "")],
        );
        check(
            &all,
            &[
                (0, "a", "+a"),
                (DAY - 1, "a", ""),
                (DAY, "a", "=a !"),
                (DAY + 5, "a", ""),
                (2 * DAY, "a", "=a !"),
            ],
        );
        // One reminder for all; whatever is sent is one.
        check(
            &all,
            &[
                (0, "a", "+a"),
                (600, "a b", "+b =a"),
                (DAY, "a b", ""),
                (DAY + 600, "a b", "=a =b !"),
            ],
        );
        check(
            &rules(&When::ALL, 0, 0),
            &[(0, "a", "+a"), (DAY * 40, "a", "")],
        );
    }

    #[test]
    fn what_does_not_last_is_not_told() {
        let patient = rules(&When::ALL, DAY, 15);
        check(
            &patient,
            &[(0, "a", ""), (5, "", ""), (10, "", ""), (30, "", "")],
        );
        check(
            &patient,
            &[(0, "a", ""), (5, "a", ""), (15, "a", "+a"), (20, "", "-a")],
        );
        // What comes and goes lasts.
        check(
            &patient,
            &[
                (0, "a", ""),
                (5, "", ""),
                (10, "a", ""),
                (15, "", ""),
                (20, "a", "+a"),
            ],
        );
    }

    #[test]
    fn what_comes_and_goes_is_told_less_and_less() {
        let all = rules(&When::ALL, DAY, 0);
        check(
            &all,
            &[
                (0, "a", "+a"),
                (5, "", "-a"),
                (10, "a", "+a"),
                (15, "", ""),
                (20, "a", ""),
                (25, "", ""),
                (30, "a", ""),
                (35, "", ""),
                (45, "", ""),
                (50, "", "-a"),
                (55, "a", "+a"),
                (60, "", ""),
                (80, "", ""),
                (90, "", "-a"),
            ],
        );
        // A day later it is a trouble of its own.
        check(
            &all,
            &[
                (0, "a", "+a"),
                (5, "", "-a"),
                (5 + DAY, "", ""),
                (10 + DAY, "a", "+a"),
                (15 + DAY, "", "-a"),
            ],
        );
        // Failing in every second run for two days: the beginning, its end, that it came back, and reminders.
        let mut told = Vec::new();
        let mut memory = Memory::default();
        for run in 0..2 * DAY / 5 {
            let now = at(run * 5);
            memory.see(&found(["a", ""][run as usize % 2]), &all, now);
            if let Some(notice) = memory.due(&all, now) {
                memory.told(&notice, now);
                told.push(words(&notice));
            }
        }
        assert_eq!(told, ["+a", "-a", "+a", "=a !"]);
    }

    #[test]
    fn a_hook_is_told_what_it_asked_for() {
        let failed = rules(&[When::Failed], DAY, 0);
        check(
            &failed,
            &[
                (0, "h", ""),
                (5, "h a", "+a"),
                (10, "o", ""),
                (15, "a", "+a"),
            ],
        );
        let both = rules(&[When::Refused, When::Recovered], DAY, 0);
        check(&both, &[(0, "a", ""), (5, "a h", "+h"), (10, "", "-h")]);
        // For recoveries alone: of everything that lasted, and no reminder.
        let ends = rules(&[When::Recovered], DAY, 15);
        check(
            &ends,
            &[
                (0, "a", ""),
                (5, "", ""),
                (30, "a h", ""),
                (60, "a h", ""),
                (65, "h", "=h -a"),
                (70 + DAY, "h", ""),
                (75 + DAY, "", "-h"),
            ],
        );
    }

    #[test]
    fn what_is_out_of_sight_is_not_over() {
        let all = rules(&When::ALL, DAY, 0);
        check(
            &all,
            &[(0, "a", "+a"), (5, "? x", "+x =a"), (10, "", "-a -x")],
        );
        check(
            &all,
            &[
                (0, "x a", "+a +x"),
                (5, "~ xx", "+xx =x -a"),
                (10, "xx", "=xx -x"),
                (15, "", "-xx"),
            ],
        );
        let many: String = (0..CONDITIONS_MAX)
            .map(|number| format!("m{number} "))
            .collect();
        let mut memory = Memory::default();
        memory.see(&found("a"), &all, at(0));
        memory.told(&memory.due(&all, at(0)).expect("a notice"), at(0));
        memory.see(&found(&many), &all, at(5));
        let notice = memory.due(&all, at(5)).expect("a notice");
        assert_eq!(
            (notice.began.len(), notice.ended.len(), notice.goes_on.len()),
            (CONDITIONS_MAX, 0, 1)
        );
    }

    #[test]
    fn a_hook_that_fails_is_told_by_the_next_run_and_nothing_is_lost() {
        let all = rules(&When::ALL, DAY, 0);
        check(
            &all,
            &[
                (0, "a", "#+a"),
                (5, "a", "#+a"),
                (10, "a b", "+a +b"),
                (15, "", "#-a -b"),
                (20, "", "-a -b"),
                (25, "", ""),
            ],
        );
        // It may have arrived; in any case somebody learns of it.
        check(&all, &[(0, "a", "#+a"), (5, "", "-a"), (10, "", "")]);
        check(
            &all,
            &[
                (0, "a", "+a"),
                (DAY, "a", "#=a !"),
                (DAY + 5, "a", "=a !"),
                (DAY + 10, "a", ""),
            ],
        );
        check(
            &rules(&[When::Failed], DAY, 0),
            &[(0, "a", "#+a"), (5, "", ""), (10, "a", "+a")],
        );
    }

    #[test]
    fn however_much_happens_an_hour_has_few_notices() {
        let all = rules(&When::ALL, DAY, 0);
        check(
            &all,
            &[
                (0, "a", "+a"),
                (1, "b", "+b -a"),
                (2, "c", "+c -b"),
                (3, "d", "+d -c"),
                (4, "e", "+e -d"),
                (5, "f", "+f -e"),
                (6, "g", ""),
                (7, "g i", ""),
                (60, "g i", "+g +i -f"),
            ],
        );
    }

    fn frozen_by(failure: &Failure) -> Option<Frozen> {
        Some(Frozen {
            since: at(1),
            cause: failure.cause(),
        })
    }

    fn failure(exit: Exit, what: &str) -> Failure {
        Failure {
            exit,
            what: what.into(),
            place: String::new(),
            why: "why".into(),
            in_force: String::new(),
            next: String::new(),
        }
    }

    fn hold(cause: Cause, scope: &str, approved_at: Option<Timestamp>) -> HoldState {
        HoldState {
            table: "t".into(),
            cause,
            scope: scope.into(),
            added_count: 3,
            removed_count: 4,
            since: at(2),
            last_seen: at(9),
            is_current: true,
            places: Default::default(),
            approved_at,
        }
    }

    #[test]
    fn what_is_wrong_is_found_once() {
        let text = "[domains]\nlist = ['x.example']\n[source.corp]\nkind = 'list'\npath = 'a'\n[table.t]\npath = 't'\n\
                    formats = ['cdb']\n[[hook]]\nname = 'push'\nrun = ['/p']\n";
        let config = crate::config::parse(std::path::Path::new("/c"), text);
        let config = config.expect("a configuration");
        let away = failure(Exit::SourceFrozen, "source corp: away");
        let refused = failure(Exit::Permission, "source corp: the account is refused");
        let disagrees = failure(
            Exit::Disagrees,
            "generation 3 was published, and gateways contradict it",
        );
        let check = |change: &dyn Fn(&mut Head), failures: &[&Failure], expected: &[&str]| {
            let mut head = Head::default();
            change(&mut head);
            let run = RunRecord {
                at: at(10),
                failures: failures.iter().map(|failure| (*failure).clone()).collect(),
                ..RunRecord::default()
            };
            let found = find(&config, Some(&head), &run, true);
            let line = |condition: &Condition| {
                format!(
                    "{} {}={}",
                    condition.when.name(),
                    condition.key,
                    condition.weight
                )
            };
            let lines: Vec<String> = found.conditions.values().map(line).collect();
            assert_eq!(lines, expected);
        };
        let freeze = |head: &mut Head, name: &str, failure: &Failure| {
            head.sources.entry(name.into()).or_default().frozen = frozen_by(failure);
        };
        check(&|_| {}, &[], &[]);
        check(
            &|head| freeze(head, "corp", &away),
            &[&away],
            &["failed source corp=1"],
        );
        check(
            &|head| freeze(head, "corp", &refused),
            &[&refused],
            &["failed source corp=2"],
        );
        // A run that did not come to reading says nothing new of it; a source that is gone is nobody's trouble.
        check(
            &|head| freeze(head, "corp", &refused),
            &[],
            &["failed source corp=1"],
        );
        check(&|head| freeze(head, "gone", &away), &[], &[]);
        let broken = failure(Exit::NotWritten, "table t: no space");
        let other = failure(Exit::NotWritten, "table u: no space");
        check(
            &|head| freeze(head, "corp", &away),
            &[&away, &broken, &other],
            &["failed run not_written=1", "failed source corp=1"],
        );
        check(
            &|head| head.relay_domains.frozen = frozen_by(&away),
            &[&away],
            &["failed relay_domains=1"],
        );
        check(
            &|head| {
                head.sources
                    .entry("corp".into())
                    .or_default()
                    .domains_frozen = frozen_by(&away)
            },
            &[&away],
            &["failed domains corp=1"],
        );
        // A contradiction is told as what came of it: the change that is held since then, in this run and in those behind it.
        let held = |cause, approved_at| {
            move |head: &mut Head| {
                drop(head.holds.insert("d".into(), hold(cause, "s", approved_at)))
            }
        };
        check(&|_| {}, &[&disagrees], &["failed run disagrees=1"]);
        check(
            &held(Cause::Proof, None),
            &[&disagrees],
            &["failed hold t proof s=7"],
        );
        check(
            &held(Cause::DomainHalved, None),
            &[],
            &["refused hold t domain_halved s=7"],
        );
        check(&held(Cause::DomainHalved, Some(at(5))), &[], &[]);
        let owed = failure(Exit::HookOwed, "hook push failed");
        check(&|head| head.published = 1, &[&owed], &["owed hook push=1"]);
        check(
            &|_| {},
            &[&failure(Exit::Bug, "a bug ended the run")],
            &["failed run bug=1"],
        );
        // What is approved, and what stands there all the same.
        let mut head = Head::default();
        held(Cause::DomainHalved, Some(at(5)))(&mut head);
        head.holds
            .insert("e".into(), hold(Cause::DomainHalved, "s", None));
        let run = RunRecord {
            at: at(10),
            ..RunRecord::default()
        };
        let found = find(&config, Some(&head), &run, true);
        let acted: Vec<_> = found
            .conditions
            .values()
            .map(|condition| condition.acted_at)
            .collect();
        assert_eq!(acted, [Some(at(5))]);
    }

    #[test]
    fn what_comes_back_begins_anew() {
        let all = rules(&When::ALL, DAY, 0);
        let mut memory = Memory::default();
        let mut since = |minute: u64, words: &str, known_since: Option<Timestamp>| {
            let mut found = found(words);
            for condition in found.conditions.values_mut() {
                condition.since = known_since;
            }
            memory.see(&found, &all, at(minute));
            let notice = memory.due(&all, at(minute)).expect("a notice");
            memory.told(&notice, at(minute));
            let told = notice.began.first().or(notice.ended.first());
            told.expect("a condition").1.since
        };
        assert_eq!(since(10, "h", Some(at(8))), at(8));
        assert_eq!(since(20, "", None), at(8));
        assert_eq!(since(30, "h", Some(at(8))), at(30));
        assert_eq!(since(50, "a", None), at(50));
    }

    #[test]
    fn a_clock_that_is_set_back_neither_silences_nor_repeats() {
        let all = rules(&When::ALL, DAY, 15);
        let start = 40 * DAY;
        check(
            &all,
            &[
                (start, "a", ""),
                (start + 15, "a", "+a"),
                (start - 60, "a", ""),
                (start - 2 * DAY, "a", "=a !"),
                (start - 2 * DAY + 5, "a", ""),
                (start - 2 * DAY + 10, "", "-a"),
                (start - 3 * DAY, "", ""),
                (start - 3 * DAY, "a", ""),
                (start - 3 * DAY + 15, "a", "+a"),
            ],
        );
    }
}

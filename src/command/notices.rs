//! Telling hooks how things stand, at the end of a run: what the run found goes to [`notice`], and what that finds due goes to
//! the programs.
//!
//! Each hook stands for itself: one that fails stops no other, is tried again by the next run, and is never the reason of a
//! notice. What a hook was told is stored when it has succeeded; a run that dies in between tells it once more.

use std::collections::BTreeMap;

use super::plan;
use crate::config::{HookInput, NoticeHook};
use crate::error::Failure;
use crate::exit::Exit;
use crate::hook::{self, Told};
use crate::notice::{self, Memory, Notice};
use crate::report::notice::{HOLDS_MAX, HoldTold, Message};
use crate::state::State;
use crate::state::head::{Frozen, Head};
use crate::state::runs::RunRecord;

/// Runs the hooks that are to be told something. A hook that fails is a failure of the run.
pub fn tell(run: &plan::Run<'_>, state: &State, record: &mut RunRecord, is_whole: bool) {
    let hooks = &run.config.notices;
    if hooks.is_empty() {
        return;
    }
    let head = state.head().ok();
    let found = notice::find(run.config, head.as_ref(), record, is_whole);
    let before = state.notified();
    let mut memories = before.clone();
    memories.retain(|name, _| hooks.iter().any(|hook| hook.hook.name == *name));
    let mut due = Vec::new();
    for hook in hooks {
        let memory = memories.entry(hook.hook.name.clone()).or_default();
        memory.see(&found, &hook.rules, run.now);
        match memory.due(&hook.rules, run.now) {
            Some(notice) => {
                memory.try_to_tell(&notice);
                due.push((hook, notice));
            }
            // It owes nothing any more.
            None => memory.failing = None,
        }
    }
    // What cannot be remembered would be told by every run, so it is told by none.
    let mut failures = Vec::new();
    if let Err(failure) = store(state, &before, &memories) {
        failures.push(*failure);
    } else if !due.is_empty() {
        let desk = Desk {
            run,
            head: head.as_ref(),
            holds: holds(state, head.as_ref(), record),
            record,
        };
        for (hook, notice) in due {
            let stored = memories.clone();
            let memory = memories.entry(hook.hook.name.clone()).or_default();
            failures.extend(desk.deliver(hook, &notice, memory));
            failures.extend(
                store(state, &stored, &memories)
                    .err()
                    .map(|failure| *failure),
            );
        }
    }
    record.ended_with(failures, &[]);
}

fn store(
    state: &State,
    stored: &BTreeMap<String, Memory>,
    memories: &BTreeMap<String, Memory>,
) -> crate::error::Result<()> {
    if stored == memories {
        return Ok(());
    }
    state.store_notified(memories)
}

/// What waits, with the rows of the first few.
fn holds(state: &State, head: Option<&Head>, record: &RunRecord) -> Vec<HoldTold> {
    let holds = head.into_iter().flat_map(|head| &head.holds);
    let current = holds.filter(|(_, hold)| hold.is_current && !hold.is_approved(record.at));
    let told = current.enumerate().map(|(number, (digest, hold))| {
        let rows = (number < HOLDS_MAX)
            .then(|| state.hold(digest).ok())
            .flatten();
        HoldTold::of(digest, hold, rows.as_ref())
    });
    told.collect()
}

/// Everything that a notice says beside what it is about.
struct Desk<'desk, 'run> {
    run: &'desk plan::Run<'run>,
    head: Option<&'desk Head>,
    holds: Vec<HoldTold>,
    record: &'desk RunRecord,
}

impl Desk<'_, '_> {
    fn deliver(&self, hook: &NoticeHook, notice: &Notice, memory: &mut Memory) -> Option<Failure> {
        let host = rustix::system::uname();
        let message = Message {
            notice,
            host: &host.nodename().to_string_lossy(),
            config: self.run.config,
            head: self.head,
            run: self.record,
            holds: &self.holds,
        };
        let whens: Vec<&str> = notice.whens().into_iter().map(notice::When::name).collect();
        let told = Told {
            environment: vec![
                ("RCPTSYNC_WHEN", whens.join(" ")),
                ("RCPTSYNC_SUBJECT", message.subject()),
                ("RCPTSYNC_CODE", self.record.code.to_string()),
                ("RCPTSYNC_RUN", self.record.id.clone()),
            ],
            input: match hook.hook.input {
                HookInput::None => String::new(),
                HookInput::Json => message.json(),
                HookInput::Text => message.text(),
            },
        };
        let name = &hook.hook.name;
        tracing::info!(hook = name, "told: {}", message.subject());
        // Also of a run whose time is over: that must be told.
        let Err(error) = hook::run(&hook.hook, &told, None) else {
            memory.told(notice, self.run.now);
            memory.failing = None;
            return None;
        };
        let since = memory
            .failing
            .as_ref()
            .map_or(self.run.now, |failing| failing.since);
        memory.failing = Some(Frozen {
            since,
            cause: error.to_string(),
        });
        Some(Failure {
            exit: Exit::HookOwed,
            what: format!("hook {name} failed"),
            place: hook.hook.program.display().to_string(),
            why: error.to_string(),
            in_force: format!(
                "the tables are as this run says; not told: {}",
                message.subject()
            ),
            next: "mend the program; every run tries it again until it has succeeded".into(),
        })
    }
}

//! Hooks that are owed: those that have not succeeded since the last publication.

use super::{plan, publication};
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::hook::{self, Told};
use crate::state::State;
use crate::state::head::Head;

/// Whether a hook is still owed.
pub fn is_any_owed(run: &plan::Run<'_>, head: &Head) -> bool {
    let mut hooks = run.config.hooks.iter();
    hooks.any(|hook| head.owes(&hook.name))
}

/// Runs every owed hook in the order of the file; the first failure stops the later ones, which stay owed.
pub fn run_hooks(
    run: &plan::Run<'_>,
    state: &State,
    head: &mut Head,
    failures: &mut Vec<Failure>,
) -> Result<()> {
    head.hooks
        .retain(|name, _| run.config.hooks.iter().any(|hook| hook.name == *name));
    for hook in &run.config.hooks {
        if !head.owes(&hook.name) {
            continue;
        }
        let told_last = head.hooks.get(&hook.name).copied();
        let told: Told = publication::told(run, state, head, hook, told_last);
        tracing::info!(
            hook = hook.name,
            generation = head.published,
            "hook {} starts",
            hook.name
        );
        if let Err(error) = hook::run(hook, &told, Some(run.deadline)) {
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

//! Two computations at once, on both cores: the only threads of what is pure.

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread::{Builder, scope};

/// What both made, the second in this thread. Where the first panicked, so does this thread: half of a result is none. Where
/// the system has no thread left, one is made after the other.
pub fn at_once<One: Send, Other>(
    one: impl FnOnce() -> One + Send,
    other: impl FnOnce() -> Other,
) -> (One, Other) {
    // A closure that is given to a thread which does not start is gone.
    let waiting = Mutex::new(Some(one));
    let take = || waiting.lock().ok().and_then(|mut waiting| waiting.take());
    scope(|scope| {
        let started = Builder::new().spawn_scoped(scope, || take().map(|one| one()));
        let other = other();
        match started.map(|one| one.join()) {
            Ok(Ok(Some(one))) => (one, other),
            Ok(Err(panic)) => resume_unwind(panic),
            Ok(Ok(None)) | Err(_) => match take() {
                Some(one) => (one(), other),
                None => unreachable!("nobody else takes it"),
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_there_or_nothing_is() {
        assert_eq!(at_once(|| 1, || "other"), (1, "other"));
        let failing = || -> u8 { unreachable!("what fails in the other thread") };
        let failed = std::panic::catch_unwind(|| at_once(failing, || "other"));
        assert!(failed.is_err());
    }
}

//! Two computations at once, on both cores: the only threads of what is pure.

/// What both made, the second in this thread. Where the first panicked, so does this thread: half of a result is none.
pub fn at_once<One: Send, Other>(
    one: impl FnOnce() -> One + Send,
    other: impl FnOnce() -> Other,
) -> (One, Other) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        match one.join() {
            Ok(one) => (one, other),
            Err(panic) => std::panic::resume_unwind(panic),
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

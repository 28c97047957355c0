//! Campaigns: tests that try a great many things in turn. An ordinary run tries a part of them, a long one all.
//!
//! `RCPTSYNC_CAMPAIGN=long` asks for the long run, `RCPTSYNC_TEST_SEED` for other numbers than the ordinary ones. What was
//! tried is told in one line a figure, `TRIED ...`, which `tests/campaign` collects; a failure names its seed. Not here: what
//! is tried.

use std::fmt::Display;
use std::io::Write;

use super::random::Random;

/// Whether everything is to be tried, however long it takes.
pub fn is_long() -> bool {
    std::env::var_os("RCPTSYNC_CAMPAIGN").is_some_and(|value| value == "long")
}

/// How much of something is tried: in an ordinary run, and in a long one.
pub fn extent(ordinary: u64, long: u64) -> u64 {
    if is_long() { long } else { ordinary }
}

/// What a campaign is repeated with, and its numbers.
pub fn seeded(ordinary: u64) -> (u64, Random) {
    let seed = std::env::var("RCPTSYNC_TEST_SEED").map_or(ordinary, |text| {
        text.parse().expect("RCPTSYNC_TEST_SEED is a number")
    });
    (seed, Random::new(seed))
}

/// Tells how much was tried: `TRIED 1262 points where a run was killed`.
pub fn tell(count: impl Display, what: &str) {
    // Not through a print macro: the test harness keeps back what a successful test prints.
    writeln!(std::io::stderr(), "TRIED {count} {what}").expect("standard error is open");
}

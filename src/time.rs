//! A point in time, as one number that can be stored, compared and printed.
//!
//! The clock is read once a run ([`Clocks::now`] in `command::begin`) and passed in from there; nothing pure asks for
//! it. Durations of waiting (`std::time::Instant`) are no points in time: no record keeps them.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Whole seconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The system's clock. A clock before 1970 reads as 1970.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// How long ago `earlier` was, seen from here; zero when `earlier` lies in the future.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// How far away `other` is, whichever comes first: with a clock that was set back, too.
    pub fn apart(self, other: Timestamp) -> Duration {
        Duration::from_secs(self.0.abs_diff(other.0))
    }

    /// This long after `self`.
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.as_secs()))
    }

    /// This long before `self`.
    pub fn before(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(duration.as_secs()))
    }
}

/// Two clocks read at once: the one that people and time servers set, and the one that nobody sets, which counts on while the
/// machine is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clocks {
    /// What the system's clock says.
    pub now: Timestamp,
    /// Seconds since the machine was started (`CLOCK_BOOTTIME`).
    pub seconds_since_boot: u64,
}

impl Clocks {
    /// The system's.
    pub fn now() -> Clocks {
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Clocks {
            now: Timestamp::now(),
            seconds_since_boot: u64::try_from(since_boot.tv_sec).unwrap_or(0),
        }
    }

    /// By how much the clock was set ahead since `earlier`; `None` also where the machine was started anew since then, so that
    /// nothing tells. Less than a time server corrects at once is no matter.
    pub fn set_ahead_since(self, earlier: Clocks) -> Option<Duration> {
        const CORRECTION_MAX: Duration = Duration::from_secs(600);
        let passed = self
            .seconds_since_boot
            .checked_sub(earlier.seconds_since_boot)?;
        let ahead = self.now.since(earlier.now);
        let ahead = ahead.saturating_sub(Duration::from_secs(passed));
        (ahead > CORRECTION_MAX).then_some(ahead)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Timestamp(
            time.duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        )
    }
}

/// RFC 3339 in UTC, to the second: `2026-11-21T02:40:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime prints up to the year 9999; a damaged number must not panic in its Display.
        const LAST_PRINTABLE: u64 = 253_402_300_799;
        let time = UNIX_EPOCH + Duration::from_secs(self.0.min(LAST_PRINTABLE));
        write!(f, "{}", humantime::format_rfc3339_seconds(time))
    }
}

/// So long after a moment. Beyond what the clock can say means no limit.
pub fn deadline(started: Instant, limit: Duration) -> Instant {
    const FAR_AWAY: Duration = Duration::from_secs(100 * 365 * 86_400);
    started.checked_add(limit).unwrap_or(started + FAR_AWAY)
}

/// A duration for people: the two largest units, so `3d 4h` and not `3d 4h 12m 9s`.
pub fn rough(duration: Duration) -> String {
    let whole = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_print_in_utc() {
        assert_eq!(Timestamp(1_795_219_200).to_string(), "2026-11-21T00:00:00Z");
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn time_does_not_run_backwards() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp(5).before(Duration::from_secs(9)), Timestamp(0));
    }

    #[test]
    fn a_clock_that_was_set_ahead_is_seen_by_one_that_nobody_sets() {
        let at = |now: u64, seconds_since_boot: u64| Clocks {
            now: Timestamp(now),
            seconds_since_boot,
        };
        let day = 86_400;
        for (later, expected) in [
            (at(1_000 + day, 500 + day), None),
            (at(1_000 + day + 600, 500 + day), None),
            (at(1_000 + day + 601, 500 + day), Some(601)),
            (at(u64::MAX, 500), Some(u64::MAX - 1_000)),
            // Set back, and started anew.
            (at(0, 500 + day), None),
            (at(1_000 + day, 3), None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(later.set_ahead_since(at(1_000, 500)), expected, "{later:?}");
        }
    }

    #[test]
    fn durations_are_rough() {
        assert_eq!(
            rough(Duration::from_secs(3 * 86400 + 4 * 3600 + 61)),
            "3days 4h"
        );
        assert_eq!(rough(Duration::from_millis(1500)), "1s");
    }
}

//! A point in time, as one number that can be stored, compared and printed.
//!
//! The clock is read once a run ([`Timestamp::now`] in `command::Run`) and passed in from there; nothing pure asks for
//! it. Not here: durations of waiting (`std::time::Instant`), which no record keeps.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    fn durations_are_rough() {
        assert_eq!(
            rough(Duration::from_secs(3 * 86400 + 4 * 3600 + 61)),
            "3days 4h"
        );
        assert_eq!(rough(Duration::from_millis(1500)), "1s");
    }
}

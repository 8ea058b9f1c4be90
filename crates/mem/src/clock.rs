//! Where times come from: the host's clock, or one that a test moves.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use stratafs_core::Time;

/// A source of the current time. Cloning shares it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// Asks `now` each time. It is called without any lock held.
    #[must_use]
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The host's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| from_system(SystemTime::now()))
    }

    pub(crate) fn now(&self) -> Time {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// A host's time as seconds rounded down and the nanoseconds after them, also before 1970.
fn from_system(time: SystemTime) -> Time {
    let secs = |s: u64| i64::try_from(s).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Time { secs: secs(after.as_secs()), nanos: after.subsec_nanos() },
        Err(error) => {
            let before = error.duration();
            match before.subsec_nanos() {
                0 => Time { secs: -secs(before.as_secs()), nanos: 0 },
                nanos => Time { secs: -secs(before.as_secs()) - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_before_the_epoch_round_down() {
        let at = |secs, nanos| Time { secs, nanos };
        assert_eq!(from_system(UNIX_EPOCH + Duration::new(3, 5)), at(3, 5));
        assert_eq!(from_system(UNIX_EPOCH - Duration::new(3, 0)), at(-3, 0));
        assert_eq!(from_system(UNIX_EPOCH - Duration::new(0, 100)), at(-1, 999_999_900));
    }
}

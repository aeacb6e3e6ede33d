//! Clocks: the time of day, which tests of debug builds can set, and the time in which this process ran.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// Longest time between two looks that counts as one in which this process ran.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// Measures time without the periods in which this process was stopped or the machine slept. Limits measured with it cannot win
/// over data that arrived meanwhile. It has to be looked at several times a second.
#[derive(Debug)]
pub struct AwakeTime {
    looked: Instant,
    total: Duration,
}

impl AwakeTime {
    /// Starts at zero.
    pub fn start() -> Self {
        Self { looked: Instant::now(), total: Duration::ZERO }
    }

    /// Returns the time so far.
    pub fn look(&mut self) -> Duration {
        let now = Instant::now();
        self.total += now.duration_since(self.looked).min(LONGEST_GAP);
        self.looked = now;
        self.total
    }

    /// Pretends that the process was stopped for a while after the last look.
    #[cfg(test)]
    pub fn stop(&mut self, time: Duration) {
        self.looked -= time;
    }
}

/// Returns the current time.
pub fn now() -> SystemTime {
    #[cfg(debug_assertions)]
    return shifted(SystemTime::now());
    #[cfg(not(debug_assertions))]
    SystemTime::now()
}

/// Returns the current time in milliseconds since 1970.
pub fn now_ms() -> i64 {
    now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Returns the time since a moment in milliseconds since 1970. Without one, or where it lies ahead because the clock was set back,
/// that is long ago.
pub fn age(then: Option<i64>) -> Duration {
    then.and_then(|then| u64::try_from(now_ms().saturating_sub(then)).ok()).map_or(Duration::MAX, Duration::from_millis)
}

/// Adds the milliseconds in the file that `KIMI_TEST_CLOCK` names. The file is read each time, so a test can step the clock of a
/// running process.
#[cfg(debug_assertions)]
fn shifted(now: SystemTime) -> SystemTime {
    static FILE: std::sync::OnceLock<Option<std::ffi::OsString>> = std::sync::OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os("KIMI_TEST_CLOCK")) else { return now };
    let shift = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(0);
    let size = Duration::from_millis(shift.unsigned_abs());
    if shift < 0 { now - size } else { now + size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awake_time_does_not_count_while_the_process_is_stopped() {
        let mut time = AwakeTime::start();
        time.stop(Duration::from_secs(60));
        assert!(time.look() <= LONGEST_GAP);
        std::thread::sleep(Duration::from_millis(30));
        assert!(time.look() > LONGEST_GAP);
    }
}

//! The wall clock, which tests of debug builds can set.

use std::time::{SystemTime, UNIX_EPOCH};

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

/// Adds the milliseconds in the file that `KIMI_TEST_CLOCK` names. The file is read each time, so a test can step the clock of a
/// running process.
#[cfg(debug_assertions)]
fn shifted(now: SystemTime) -> SystemTime {
    use std::time::Duration;
    static FILE: std::sync::OnceLock<Option<std::ffi::OsString>> = std::sync::OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os("KIMI_TEST_CLOCK")) else { return now };
    let shift = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(0);
    let size = Duration::from_millis(shift.unsigned_abs());
    if shift < 0 { now - size } else { now + size }
}

//! Compares this machine's clock with the service's.

use std::time::Duration;

use crate::display_text::duration;

use super::Check;

/// A difference of the clocks from which logins are refreshed too early or too late.
const WARNING: i64 = 60;

/// A difference that is a large part of an access token's life of 15 minutes: every request may cost a refresh.
const FAULT: i64 = 600;

/// The command that sets the clock.
pub const SET_CLOCK: &str = if cfg!(windows) {
    "`w32tm /resync`"
} else if cfg!(target_os = "macos") {
    "`sudo sntp -sS time.apple.com`"
} else {
    "`sudo timedatectl set-ntp true`"
};

/// Judges how far this machine's clock is ahead, in seconds.
pub fn check(ahead: i64) -> Check {
    let off = duration(Duration::from_secs(ahead.unsigned_abs()));
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    let message = format!("this machine's clock is {off} {way} the service's");
    match ahead.abs() {
        ..WARNING => Check::ok("clock", "this machine's clock agrees with the service's"),
        WARNING..FAULT => Check::warning("clock", message, format!("Set the clock: {SET_CLOCK}")),
        _ => Check::fault("clock", message, format!("Set the clock: {SET_CLOCK}")),
    }
}

//! Describes the progress of uploads for users.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::display_text::size;

/// Time from which on a rate is known well enough to be shown.
const MIN_TIME: Duration = Duration::from_millis(500);

/// Returns "12.3 MB of 60.2 MB (20 %, 3.1 MB/s)".
pub fn describe_progress(sent: u64, total: u64, elapsed: Duration) -> String {
    let sent = sent.min(total);
    let percent = (u128::from(sent) * 100).checked_div(u128::from(total)).unwrap_or(0);
    let rate = rate(sent, elapsed).map(|rate| format!(", {}/s", size(rate))).unwrap_or_default();
    format!("{} of {} ({percent} %{rate})", size(sent), size(total))
}

/// Returns bytes per second, once enough time has passed.
pub fn rate(sent: u64, elapsed: Duration) -> Option<u64> {
    (elapsed >= MIN_TIME && sent > 0).then(|| (sent as f64 / elapsed.as_secs_f64()) as u64)
}

/// Makes the notice about uploads of a turn: sent bytes and size of each, and the number of unfinished files.
pub fn upload_notice(files: &[(Arc<AtomicU64>, u64)], left: usize, elapsed: Duration) -> Value {
    let total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let sent: u64 = files.iter().map(|(sent, bytes)| sent.load(Ordering::Relaxed).min(*bytes)).sum();
    let names = if files.len() == 1 { "file".to_owned() } else { format!("{} files", files.len()) };
    json!({
        "kind": "upload", "files": files.len(), "left": left, "bytes": total, "sent": sent,
        "bytesPerSecond": rate(sent, elapsed),
        "message": format!("uploading {names}, {}", describe_progress(sent, total, elapsed)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_names_bytes_percent_and_rate() {
        let text = describe_progress(12_300_000, 60_200_000, Duration::from_secs(4));
        assert_eq!(text, "12.3 MB of 60.2 MB (20 %, 3.0 MB/s)");
        assert_eq!(describe_progress(0, 60_200_000, Duration::from_secs(4)), "0 bytes of 60.2 MB (0 %)");
        assert_eq!(describe_progress(9, 5, Duration::ZERO), "5 bytes of 5 bytes (100 %)");
        assert_eq!(describe_progress(0, 0, Duration::ZERO), "0 bytes of 0 bytes (0 %)");
    }
}

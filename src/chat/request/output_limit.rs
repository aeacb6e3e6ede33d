//! How many tokens an answer may have.

/// What Pi keeps free beside prompt and answer, in tokens (docs/pi-contract.md#token-estimate).
const RESERVE: u64 = 4096;

/// Returns the tokens that an answer may have at most: what the prompt leaves of the window and the reserve, or less where less was
/// requested. Reasoning counts, so nothing else limits it (docs/protocol.md#output-cap). A window of 0 is unknown.
pub fn output_limit(window: u64, prompt: u64, requested: u64) -> u64 {
    let room = match window {
        0 => i32::MAX as u64,
        window => window.saturating_sub(prompt).saturating_sub(RESERVE),
    };
    room.min(requested).max(1)
}

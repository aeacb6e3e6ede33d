//! Runs every input of the corpora through its fuzz target, without a fuzzer, with every `cargo test`.

#[path = "targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Limit for an input of a few kilobytes in a debug build on a busy machine. libFuzzer is stricter.
const TIME_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn fuzz_corpora_pass_their_targets() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut broken = Vec::new();
    for (name, target) in targets::ALL {
        let folder = corpora.join(name);
        let inputs: Vec<_> = fs::read_dir(&folder)
            .expect("every target has a corpus")
            .map(|entry| entry.expect("a readable folder").path())
            .collect();
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            let bytes = fs::read(&input).expect("a readable input");
            let began = Instant::now();
            let held = std::panic::catch_unwind(|| target(&bytes));
            if held.is_err() || began.elapsed() > TIME_LIMIT {
                broken.push(format!("{} after {:?}", input.display(), began.elapsed()));
            }
        }
    }
    assert!(broken.is_empty(), "promises broken, see above: {broken:#?}");
}

/// Fails on a corpus folder without a target.
#[test]
fn fuzz_corpora_all_have_a_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for entry in fs::read_dir(corpora).expect("the corpora") {
        let name = entry.expect("a readable folder").file_name();
        assert!(targets::ALL.iter().any(|(known, _)| name.to_str() == Some(known)), "{name:?} has no target");
    }
}

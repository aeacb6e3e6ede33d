//! Every transcript of `tests/simulator/transcripts` and the hard cases of docs/protocol.md#chat-events and
//! docs/protocol.md#messages-events: bytes in, events out, whole and split at every byte.

#[path = "../support/stream.rs"]
mod stream;

use std::fs;
use std::path::Path;

use kimi_code::config::Dialect;
use kimi_code::config::Dialect::{Anthropic, OpenAi};
use proptest::prelude::*;
use stream::outcome;

/// The bytes of a file below `tests/`.
fn file(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)).expect("a readable fixture")
}

/// Replays whole, byte by byte, split in two at every byte, and with other line ends.
fn replay(dialect: Dialect, bytes: &[u8], expected: &[&str]) {
    assert_eq!(outcome(dialect, &[bytes]), expected, "whole");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(outcome(dialect, &single), expected, "byte by byte");
    for cut in 1..bytes.len() {
        assert_eq!(outcome(dialect, &[&bytes[..cut], &bytes[cut..]]), expected, "cut at {cut}");
    }
    let text = String::from_utf8_lossy(bytes);
    for line_end in ["\r\n", "\r"] {
        assert_eq!(outcome(dialect, &[text.replace('\n', line_end).as_bytes()]), expected, "{line_end:?}");
    }
    assert_eq!(outcome(dialect, &[text.replace("data: ", "data:").as_bytes()]), expected, "without the space");
}

fn transcript(name: &str, expected: &[&str]) {
    let dialect = if name.starts_with('A') { OpenAi } else { Anthropic };
    replay(dialect, &file(&format!("simulator/transcripts/{name}.sse")), expected);
}

fn fixture(name: &str, expected: &[&str]) {
    let dialect = if name.starts_with("openai") { OpenAi } else { Anthropic };
    replay(dialect, &file(&format!("fixtures/stream/{name}.sse")), expected);
}

const THINKING: &str = r#"0 start Thinking {"signature":"reasoning_content"}"#;
const UNSIGNED: &str = r#"0 start Thinking {"signature":""}"#;

#[test]
fn a1_text_with_usage_in_a_separate_chunk() {
    transcript("A1", &["0 start Text", "0 + pong", "0 end", "done Stop (stop)", "usage 5 1 0 0 6"]);
}

/// Usage in `choices[0]`, cached tokens at its top level (docs/protocol.md#chat-usage).
#[test]
fn a2_thinking_text_and_moonshot_usage() {
    transcript(
        "A2",
        &[
            THINKING,
            "0 + Let me think.",
            "0 end",
            "1 start Text",
            "1 + 17 * 23 = 391",
            "1 end",
            "done Stop (stop)",
            "usage 0 11 8 0 19",
        ],
    );
}

#[test]
fn a3_thinking_text_and_a_tool_call() {
    transcript(
        "A3",
        &[
            THINKING,
            "0 + Let me think. ",
            "0 end",
            "1 start Text",
            "1 + All set. ",
            "1 end",
            r#"2 start Tool {"id":"call_weather","name":"lookup_weather"}"#,
            r#"2 + {"city":"Shanghai"} => [4,"city","Shanghai"]"#,
            "2 end",
            "done ToolUse (tool_calls)",
            "usage 10 6 2 0 18",
        ],
    );
}

/// docs/protocol.md#tool-call-fragments, rule 2.
#[test]
fn a4_parallel_calls_with_alternating_chunks() {
    transcript(
        "A4",
        &[
            r#"0 start Tool {"id":"call_a","name":"tool_a"}"#,
            r#"1 start Tool {"id":"call_b","name":"tool_b"}"#,
            r#"0 + {"a": => "#,
            r#"1 + {"b": => "#,
            r#"0 + 1} => [3,"a",1]"#,
            r#"1 + 2} => [3,"b",2]"#,
            "0 end",
            "1 end",
            "done ToolUse (tool_calls)",
            "usage 5 1 0 0 6",
        ],
    );
}

/// docs/protocol.md#tool-call-fragments, rule 3.
#[test]
fn a5_tool_name_after_its_arguments() {
    transcript(
        "A5",
        &[
            r#"0 start Tool {"id":"call_delayed","name":"foo"}"#,
            r#"0 + {"a":1} => [3,"a",1]"#,
            "0 end",
            "done ToolUse (tool_calls)",
            "usage 10 20 0 0 30",
        ],
    );
}

/// docs/protocol.md#tool-call-fragments, rule 1.
#[test]
fn a6_everything_in_one_chunk_with_the_finish_reason() {
    transcript(
        "A6",
        &[
            r#"0 start Tool {"id":"call_read","name":"ReadFile"}"#,
            r#"0 + {"path":"sample.txt"} => [4,"path","sample.txt"]"#,
            "0 end",
            "done ToolUse (tool_calls)",
            "usage 0 0 0 0 0",
        ],
    );
}

/// docs/protocol.md#tool-call-fragments, rules 4 and 5.
#[test]
fn a7_tool_call_without_index_and_id() {
    transcript(
        "A7",
        &[
            r#"0 start Tool {"id":"call_*","name":"foo"}"#,
            r#"0 + {"a":1} => [3,"a",1]"#,
            "0 end",
            "done ToolUse (tool_calls)",
            "usage 0 0 0 0 0",
        ],
    );
}

/// docs/protocol.md#chat-events.
#[test]
fn a8_reasoning_present_but_empty() {
    transcript(
        "A8",
        &[THINKING, "0 end", "1 start Text", "1 + ok", "1 end", "done Stop (stop)", "usage 50 20 50 0 120"],
    );
}

#[test]
fn a9_output_limit_reached_while_thinking() {
    transcript("A9", &[THINKING, "0 + Long thoughts", "0 end", "done Length (length)", "usage 20 128 0 0 148"]);
}

/// docs/protocol.md#empty-response-text.
#[test]
fn a10_empty_response_text_is_removed() {
    transcript("A10", &[THINKING, "0 + Hmm.", "0 end", "done Stop (stop)", "usage 9 4 0 0 13"]);
}

/// docs/protocol.md#empty-response-text.
#[test]
fn a10b_text_that_only_starts_like_the_empty_response_text_is_kept() {
    let text = String::from_utf8(file("simulator/transcripts/A10.sse")).unwrap();
    let (head, tail) = text.split_once("response: {").unwrap();
    let (_, tail) = tail.split_once("]})\"").unwrap();
    replay(
        OpenAi,
        format!("{head}list)\"{tail}").as_bytes(),
        &[
            THINKING,
            "0 + Hmm.",
            "0 end",
            "1 start Text",
            "1 + (Empty list)",
            "1 end",
            "done Stop (stop)",
            "usage 9 4 0 0 13",
        ],
    );
}

/// docs/protocol.md#stream-errors.
#[test]
fn a11_error_in_the_middle_keeps_the_text_so_far() {
    transcript(
        "A11",
        &[
            "0 start Text",
            "0 + Partial",
            "0 end",
            "failed overloaded: The engine is currently overloaded, please try again later",
            "usage 0 0 0 0 0",
        ],
    );
}

/// docs/protocol.md#empty-response-text.
#[test]
fn a12a_empty_stream_is_an_error() {
    transcript("A12a", &["failed truncated: Stream ended without finish_reason", "usage 0 0 0 0 0"]);
}

/// docs/protocol.md#stream-errors.
#[test]
fn a12b_broken_frame_is_quoted_in_the_error() {
    let text = outcome(OpenAi, &[&file("simulator/transcripts/A12b.sse")]);
    assert!(text[0].starts_with("failed protocol: the stream contains an unreadable frame (key must be"), "{text:?}");
    assert!(text[0].ends_with("{this is not json}"));
}

/// The connection ends after any byte of any transcript (docs/protocol.md#stream-errors).
#[test]
fn a12c_stream_cut_at_any_byte_is_never_complete() {
    for (dialect, name, whole) in [(OpenAi, "A1", "stop"), (Anthropic, "B2", "end_turn")] {
        let bytes = file(&format!("simulator/transcripts/{name}.sse"));
        let done = bytes.windows(whole.len()).rposition(|part| part == whole.as_bytes()).unwrap();
        for cut in 0..done {
            let lines = outcome(dialect, &[&bytes[..cut]]);
            assert!(lines.iter().any(|line| line.starts_with("failed ")), "{name} cut at {cut}: {lines:?}");
        }
    }
}

/// docs/protocol.md#messages-events.
#[test]
fn b1_text_in_the_block_start() {
    transcript(
        "B1",
        &[
            "0 start Text",
            "0 + Compatible endpoint accepted the history.",
            "0 end",
            "done Stop (end_turn)",
            "usage 12 7 0 0 19",
        ],
    );
}

/// A ping between the events (docs/protocol.md#messages-events).
#[test]
fn b2_text_with_a_ping_and_cache_usage() {
    transcript("B2", &["0 start Text", "0 + Hello world", "0 end", "done Stop (end_turn)", "usage 10 5 3 0 18"]);
}

/// No signature at all (docs/protocol.md#messages-thinking).
#[test]
fn b3_thinking_without_a_signature() {
    transcript(
        "B3",
        &[
            UNSIGNED,
            "0 + Let me think about this",
            "0 end",
            "1 start Text",
            "1 + The answer is 4.",
            "1 end",
            "done Stop (end_turn)",
            "usage 20 15 0 0 35",
        ],
    );
}

#[test]
fn b3b_signature_after_the_thinking() {
    let text = String::from_utf8(file("simulator/transcripts/B3.sse")).unwrap();
    let signature = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":\
                     {\"type\":\"signature_delta\",\"signature\":\"sig_xyz\"}}\n\n";
    let text = text.replacen("event: content_block_stop", &format!("{signature}event: content_block_stop"), 1);
    replay(
        Anthropic,
        text.as_bytes(),
        &[
            UNSIGNED,
            "0 + Let me think about this",
            r#"0 amend {"thinkingSignature":"sig_xyz"}"#,
            "0 end",
            "1 start Text",
            "1 + The answer is 4.",
            "1 end",
            "done Stop (end_turn)",
            "usage 20 15 0 0 35",
        ],
    );
}

#[test]
fn b4_thinking_and_a_tool_call() {
    transcript(
        "B4",
        &[
            UNSIGNED,
            "0 + I should add.",
            "0 end",
            r#"1 start Tool {"id":"toolu_1","name":"add"}"#,
            r#"1 + {"a":2,"b":3} => [3,"a",2],[3,"b",3]"#,
            "1 end",
            "done ToolUse (tool_use)",
            "usage 19 7 2 0 28",
        ],
    );
}

/// docs/protocol.md#messages-events: blocks may be open at the same time.
#[test]
fn b5_parallel_calls_with_alternating_chunks() {
    transcript(
        "B5",
        &[
            r#"0 start Tool {"id":"toolu_a","name":"tool_a"}"#,
            r#"1 start Tool {"id":"toolu_b","name":"tool_b"}"#,
            r#"0 + {"x": => "#,
            r#"1 + {"y": => "#,
            r#"0 + 1} => [3,"x",1]"#,
            r#"1 + 2} => [3,"y",2]"#,
            "0 end",
            "1 end",
            "done ToolUse (tool_use)",
            "usage 10 5 0 0 15",
        ],
    );
}

/// docs/protocol.md#messages-usage.
#[test]
fn b6_usage_in_every_variant() {
    let usage = |start: &str, delta: &str| {
        let text = String::from_utf8(file("simulator/transcripts/B2.sse")).unwrap();
        let (head, tail) = text.split_once("\"usage\":{\"input_tokens\":10").unwrap();
        let (_, tail) = tail.split_once('}').unwrap();
        let text = format!("{head}\"usage\":{start}{tail}").replace(",\"usage\":{\"output_tokens\":5}", delta);
        outcome(Anthropic, &[text.as_bytes()]).pop().unwrap()
    };
    let start = r#"{"input_tokens":100,"cache_read_input_tokens":50,"cache_creation_input_tokens":20}"#;
    let replaced = r#","usage":{"output_tokens":42,"cache_read_input_tokens":55,"cache_creation_input_tokens":25,"input_tokens":105}"#;
    assert_eq!(usage(start, replaced), "usage 105 42 55 25 227");
    let both = r#"{"prompt_tokens":11272,"input_tokens":264,"output_tokens":5,"cache_read_input_tokens":11008,"cache_creation_input_tokens":0,"cached_tokens":11008}"#;
    assert_eq!(usage(both, &format!(",\"usage\":{both}")), "usage 264 5 11008 0 11277");
    assert_eq!(usage(start, ""), "usage 100 0 50 20 170");
}

/// docs/protocol.md#messages-events: an error ends the stream.
#[test]
fn b7_error_in_the_middle_keeps_the_text_so_far() {
    transcript("B7", &["0 start Text", "0 + Partial", "0 end", "failed overloaded: Overloaded", "usage 5 0 0 0 5"]);
}

#[test]
fn b8_empty_response_text_is_removed() {
    transcript("B8", &["done Stop (end_turn)", "usage 5 4 0 0 9"]);
}

/// Open blocks, no signature, no finish reason (docs/protocol.md#messages-events).
#[test]
fn b9_redacted_thinking_and_odd_frames() {
    transcript(
        "B9",
        &[
            r#"0 start Thinking {"signature":"enc_data_123","redacted":true}"#,
            UNSIGNED.replacen('0', "1", 1).as_str(),
            "2 start Text",
            "2 + Done.",
            "0 end",
            "1 end",
            "2 end",
            "done Stop ()",
            "usage 10 3 0 0 13",
        ],
    );
}

/// Hard cases of docs/protocol.md without a transcript; each file says what it contains.
mod hard_cases {
    use super::*;

    #[test]
    fn usage_in_both_places_with_strings_and_nulls() {
        fixture("openai-usage", &["0 start Text", "0 + ok", "0 end", "done Stop (stop)", "usage 12 7 30 0 49"]);
    }

    /// Repairs what Pi would have to repair, and rejects the rest with a reason (docs/protocol.md#tool-call-fragments, rule 7).
    #[test]
    fn arguments_that_are_not_json() {
        fixture(
            "openai-arguments",
            &[
                r#"0 start Tool {"id":"a:0","name":"t"}"#,
                "0 + {\"x\":\"1\n2\"} => [4,\"x\",\"1\\n2\"]",
                r#"1 start Tool {"id":"a:1","name":"t"}"#,
                r#"1 + {"x":tr => "#,
                r#"2 start Tool {"id":"a:2","name":"t"}"#,
                r#"0 end {"text":"{\"x\":\"1\\n2\"}"}"#,
                r#"1 end {"error":"the tool call's arguments are not a JSON object: EOF while parsing a value at line 1 column 7"}"#,
                r#"2 end {"text":"{}"}"#,
                "done ToolUse (tool_calls)",
                "usage 0 0 0 0 0",
            ],
        );
    }

    /// Characters of two, three and four bytes, a BOM, comments, a lone surrogate, `\0`, no last newline
    /// (docs/protocol.md#event-stream-format).
    #[test]
    fn odd_characters_and_framing() {
        fixture(
            "openai-unicode",
            &["0 start Text", "0 + é你好😀 \u{fffd} \u{0} end", "0 end", "done Stop (stop)", "usage 0 0 0 0 0"],
        );
    }

    /// docs/protocol.md#finish-reasons.
    #[test]
    fn filtered_answer_keeps_the_text_so_far() {
        fixture(
            "openai-filtered",
            &[
                "0 start Text",
                "0 + Well,",
                "0 end",
                "failed filtered: Provider finish_reason: content_filter (the service withheld the rest of the answer)",
                "usage 0 0 0 0 0",
            ],
        );
        fixture(
            "anthropic-refusal",
            &[
                "0 start Text",
                "0 + Well,",
                "0 end",
                "failed filtered: Provider stop_reason: refusal (the service withheld the rest of the answer)",
                "usage 0 0 0 0 0",
            ],
        );
    }

    /// docs/protocol.md#finish-reasons.
    #[test]
    fn unknown_finish_reason() {
        fixture(
            "openai-unknown-finish",
            &[
                "0 start Text",
                "0 + hm",
                "0 end",
                "failed protocol: Provider finish_reason: network_error",
                "usage 0 0 0 0 0",
            ],
        );
    }

    /// Entries come back for the replay without their index, and are shown once (docs/protocol.md#reasoning-details).
    #[test]
    fn reasoning_details_are_kept() {
        fixture(
            "openai-details",
            &[
                THINKING,
                "0 + Sum. More.",
                "0 end",
                "1 start Text",
                "1 + ok",
                r#"0 amend {"reasoningDetails":[{"type":"summary","summary":"Sum. More."},{"type":"encrypted","encrypted":"b64=="}]}"#,
                "1 end",
                "done Stop (stop)",
                "usage 0 0 0 0 0",
            ],
        );
    }

    /// Text before reasoning, then both again: a block ends where the other kind starts.
    #[test]
    fn text_and_reasoning_alternate() {
        fixture(
            "openai-alternating",
            &[
                "0 start Text",
                "0 + a",
                "0 end",
                r#"1 start Thinking {"signature":"reasoning"}"#,
                "1 + b",
                "1 end",
                "2 start Text",
                "2 + c",
                "2 end",
                "done Stop (end)",
                "usage 0 0 0 0 0",
            ],
        );
    }

    /// Whole input at the start, pieces without a start, a missing index, a repeated stop, `[DONE]`
    /// (docs/protocol.md#messages-events).
    #[test]
    fn anthropic_events_with_missing_parts() {
        fixture(
            "anthropic-odd",
            &[
                r#"0 start Tool {"id":"call_*","name":"a"}"#,
                r#"0 + {"x":1} => [3,"x",1]"#,
                "0 end",
                "1 start Text",
                "1 + loose ends",
                "1 end",
                r#"2 start Tool {"id":"x","name":"unknown_tool"}"#,
                "2 + {} => ",
                "2 end",
                "done ToolUse (tool_use)",
                "usage 4 2 0 0 6",
            ],
        );
    }

    /// An error in its other framing (docs/protocol.md#stream-errors).
    #[test]
    fn error_event_with_plain_text() {
        fixture("openai-error-event", &["failed rate_limited: Too many requests, slow down", "usage 0 0 0 0 0"]);
    }
}

/// Invalid input of any kind ends in a typed error or a value, never in a panic or in unbounded memory.
mod garbage {
    use super::*;

    #[test]
    fn frame_of_ten_megabytes_arrives_whole() {
        let text = "x".repeat(10 << 20);
        let mut bytes =
            format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n").into_bytes();
        bytes.extend_from_slice(b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
        let chunks: Vec<&[u8]> = bytes.chunks(16 << 10).collect();
        let lines = outcome(OpenAi, &chunks);
        assert_eq!(lines[1].len(), text.len() + 4);
        assert_eq!(lines[3], "done Stop (stop)");
    }

    #[test]
    fn event_without_an_end_is_rejected() {
        let endless = vec![b'x'; 1 << 20];
        let chunks: Vec<&[u8]> =
            std::iter::once(b"data: ".as_slice()).chain((0..20).map(|_| endless.as_slice())).collect();
        assert!(outcome(OpenAi, &chunks)[0].contains("more than 16 MiB"));
    }

    #[test]
    fn a_million_brackets_are_rejected_in_every_place() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = format!("{}1{}", open.repeat(1_000_000), close.repeat(1_000_000));
            let frame = format!("data: {nested}\n\n");
            assert!(outcome(OpenAi, &[frame.as_bytes()])[0].starts_with("failed "));
            let arguments = serde_json::to_string(&format!("{{\"a\":{nested}}}")).unwrap();
            let call = format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"id\":\"c\",\"function\":\
                 {{\"name\":\"t\",\"arguments\":{arguments}}}}}]}},\"finish_reason\":\"tool_calls\"}}]}}\n\n"
            );
            let lines = outcome(OpenAi, &[call.as_bytes()]);
            assert!(lines[2].contains("error") && lines[2].contains("nested more than"), "{}", &lines[2]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), anthropic in any::<bool>()) {
            let dialect = if anthropic { Anthropic } else { OpenAi };
            prop_assert!(!outcome(dialect, &[&bytes]).is_empty());
        }

        /// Valid JSON of the wrong shape, members of every type in every place.
        #[test]
        fn events_of_the_wrong_shape_never_panic(picks in prop::collection::vec((0..13_usize, 0..9_usize), 1..12), anthropic in any::<bool>()) {
            const MEMBERS: [&str; 13] = ["choices", "delta", "type", "index", "content_block", "usage", "error", "message", "tool_calls", "function", "content", "finish_reason", "id"];
            const VALUES: [&str; 9] = ["null", "1", "-1.5", "\"x\"", "[]", "{}", "[{}]", "true", "[{\"index\":0,\"delta\":{\"content\":7}}]"];
            let members: Vec<String> = picks.iter().map(|(name, value)| format!("\"{}\":{}", MEMBERS[*name], VALUES[*value])).collect();
            let frame = format!("data: {{{}}}\n\n", members.join(","));
            let dialect = if anthropic { Anthropic } else { OpenAi };
            prop_assert!(!outcome(dialect, &[frame.as_bytes()]).is_empty());
        }

        /// Any splitting of any transcript gives the result of the whole.
        #[test]
        fn splitting_at_any_byte_changes_nothing(
            name in prop::sample::select(vec!["A2", "A3", "A4", "A5", "A8", "A10", "A11", "B3", "B4", "B5", "B7", "B8", "B9"]),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let bytes = file(&format!("simulator/transcripts/{name}.sse"));
            let dialect = if name.starts_with('A') { OpenAi } else { Anthropic };
            let mut paths: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            paths.extend([0, bytes.len()]);
            paths.sort_unstable();
            let chunks: Vec<&[u8]> = paths.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(outcome(dialect, &chunks), outcome(dialect, &[&bytes]));
        }
    }
}

//! What stands between us and the service takes liberties: every form here was seen from some gateway or follows from how its
//! language writes JSON. Each is read whole and byte by byte.

#[path = "../support/stream.rs"]
mod stream;

use kimi_code::config::Dialect;
use kimi_code::config::Dialect::{Anthropic, OpenAi};
use stream::outcome;

/// The outcome of events with these data lines.
fn read(dialect: Dialect, events: &[&str]) -> Vec<String> {
    let text: String = events.iter().map(|data| format!("data: {data}\n\n")).collect();
    let whole = outcome(dialect, &[text.as_bytes()]);
    let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(outcome(dialect, &single), whole);
    whole
}

/// The blocks of an answer of the OpenAI dialect whose chunks have these deltas.
fn deltas(deltas: &[&str]) -> Vec<String> {
    let mut events: Vec<String> =
        deltas.iter().map(|delta| format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#)).collect();
    events.push(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned());
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let mut lines = read(OpenAi, &events);
    lines.truncate(lines.len() - 2);
    lines
}

/// The blocks of an answer of the OpenAI dialect that consists of these pieces of calls.
fn calls(pieces: &[&str]) -> Vec<String> {
    let pieces: Vec<String> = pieces.iter().map(|piece| format!(r#"{{"tool_calls":[{piece}]}}"#)).collect();
    deltas(&pieces.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The usage of an answer whose last chunks are these.
fn usage(dialect: Dialect, events: &[&str]) -> String {
    read(dialect, events).pop().unwrap_or_default()
}

const A_AND_B: [&str; 6] = [
    r#"0 start Tool {"id":"x","name":"a"}"#,
    r#"0 + {"a":1} => [3,"a",1]"#,
    r#"1 start Tool {"id":"y","name":"b"}"#,
    r#"1 + {"b":2} => [3,"b",2]"#,
    "0 end",
    "1 end",
];

#[test]
fn arguments_may_come_as_an_object() {
    let whole = calls(&[r#"{"index":0,"id":"x","function":{"name":"a","arguments":{"a":1}}}"#]);
    assert_eq!(whole[1], r#"0 + {"a":1} => [3,"a",1]"#);
    let announced = calls(&[
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":{}}}"#,
        r#"{"index":0,"function":{"arguments":"{\"a\":1}"}}"#,
    ]);
    assert_eq!(announced, whole);
}

#[test]
fn calls_that_share_an_index_are_told_apart_by_their_ids() {
    let seen = calls(&[
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":"{\"a\":1}"}}"#,
        r#"{"index":0,"id":"y","function":{"name":"b","arguments":"{\"b\":"}}"#,
        r#"{"index":0,"function":{"arguments":"2}"}}"#,
    ]);
    assert_eq!(seen.join("\n").replace("0 end\n", ""), A_AND_B.join("\n").replace("0 end\n", ""));
}

/// Equal names are repeats (docs/protocol.md#tool-call-fragments, rule 8).
#[test]
fn id_and_name_in_every_piece_are_repeats() {
    let seen = calls(&[
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":"{\"a\":"}}"#,
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":"1}"}}"#,
    ]);
    assert_eq!(seen, [A_AND_B[0], A_AND_B[1], "0 end"]);
}

#[test]
fn pieces_without_an_index_follow_their_id() {
    let seen = calls(&[
        r#"{"id":"x","function":{"name":"a","arguments":"{\"a\""}}"#,
        r#"{"id":"y","function":{"name":"b","arguments":"{\"b\""}}"#,
        r#"{"id":"x","function":{"arguments":":1}"}}"#,
        r#"{"id":"y","function":{"arguments":":2}"}}"#,
    ]);
    let arguments: Vec<&str> = seen.iter().filter_map(|line| line.split_once(" + ")).map(|(_, text)| text).collect();
    assert_eq!(arguments, [r#"{"a" => "#, r#"{"b" => "#, r#":1} => [3,"a",1]"#, r#":2} => [3,"b",2]"#]);
}

#[test]
fn an_index_may_come_with_the_arguments_only() {
    let seen = calls(&[
        r#"{"id":"x","function":{"name":"a","arguments":""}}"#,
        r#"{"index":0,"function":{"arguments":"{\"a\":1}"}}"#,
    ]);
    assert_eq!(seen, [A_AND_B[0], A_AND_B[1], "0 end"]);
}

#[test]
fn an_id_may_come_before_anything_else_of_its_call() {
    let seen = calls(&[
        r#"{"index":0,"id":"x","type":"function"}"#,
        r#"{"index":0,"function":{"name":"a","arguments":"{\"a\":1}"}}"#,
    ]);
    assert_eq!(seen, [A_AND_B[0], A_AND_B[1], "0 end"]);
}

#[test]
fn an_empty_reasoning_field_does_not_hide_a_full_one() {
    let seen = deltas(&[r#"{"reasoning_content":"","reasoning":"Hm."}"#, r#"{"content":"x"}"#]);
    assert_eq!(seen[..2], [r#"0 start Thinking {"signature":"reasoning"}"#, "0 + Hm."]);
}

#[test]
fn members_of_another_type_say_nothing() {
    let answer = ["0 start Text", "0 + x", "0 end"];
    for odd in [
        r#"{"choices":[null]}"#,
        r#"{"choices":{}}"#,
        r#"{"choices":"none"}"#,
        r#"{"choices":[{"index":0,"delta":""}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":{}}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[null,{"index":0,"function":"x"}]}}]}"#,
        r#"{"error":null}"#,
        r#"{"error":false}"#,
        r#"{"error":""}"#,
        "null",
        "17",
        "[]",
        r#""pulse""#,
    ] {
        let events = [odd, r#"{"choices":[{"delta":{"content":"x"}}]}"#, r#"{"choices":[{"finish_reason":"stop"}]}"#];
        assert_eq!(read(OpenAi, &events)[..3], answer, "{odd}");
    }
    for odd in [
        r#"{"type":"weird","index":0,"delta":"x","content_block":5,"message":"hi"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":null}"#,
        r#"{"type":"message_start","message":"hi"}"#,
        "null",
    ] {
        let start = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"x"}}"#;
        assert_eq!(read(Anthropic, &[start, odd, r#"{"type":"message_stop"}"#])[..3], answer, "{odd}");
    }
}

#[test]
fn the_last_of_two_members_of_one_name_counts() {
    let seen = deltas(&[r#"{"content":"no","content":"yes"}"#]);
    assert_eq!(seen, ["0 start Text", "0 + yes", "0 end"]);
}

#[test]
fn a_pulse_that_is_no_json_ends_nothing() {
    let answer = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n";
    let text = format!("event: ping\ndata: 1700000000.5 alive\n\n{answer}");
    assert_eq!(outcome(OpenAi, &[text.as_bytes()])[3], "done Stop (stop)");
    let answer = "event: message_stop\ndata: {}\n\n";
    let text = format!("event: keepalive\ndata: still here\n\n{answer}");
    assert_eq!(outcome(Anthropic, &[text.as_bytes()])[0], "done Stop ()");
    // What claims to carry the answer must be readable.
    let text = format!("event: message\ndata: still here\n\n{answer}");
    assert!(outcome(OpenAi, &[text.as_bytes()])[0].starts_with("failed protocol: the stream contains an unreadable"));
}

#[test]
fn an_error_without_a_wrapping_is_one() {
    let bare = r#"{"object":"error","message":"out of memory","type":"ServerError","code":500}"#;
    assert_eq!(read(OpenAi, &[bare])[0], "failed protocol: out of memory");
    let bare = r#"{"type":"error","message":"out of memory"}"#;
    assert_eq!(read(Anthropic, &[bare])[0], "failed protocol: out of memory");
}

/// Programs that count in UTF-16 units cut an emoji in two and write both halves as escapes.
#[test]
fn an_emoji_cut_between_two_deltas_is_whole_again() {
    let seen = deltas(&[
        r#"{"reasoning_content":"\ud83d"}"#,
        r#"{"reasoning_content":"\udc4b!"}"#,
        r#"{"content":"a\ud83d"}"#,
        r#"{"content":"\udc4bb\ud83d"}"#,
    ]);
    assert_eq!(seen[1], "0 + 👋!");
    assert_eq!(seen[4], "1 + a👋b\u{fffd}");
    let seen = calls(&[
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":"{\"a\":\"\ud83d"}}"#,
        r#"{"index":0,"function":{"arguments":"\udc4b\"}"}}"#,
    ]);
    assert!(seen[1].starts_with(r#"0 + {"a":"👋"}"#), "{seen:?}");
    let piece = |text: &str| {
        format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#)
    };
    let events = [piece(r"a\ud83d"), piece(r"\udc4bb"), r#"{"type":"message_stop"}"#.to_owned()];
    let seen = read(Anthropic, &events.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(seen[1], "0 + a👋b");
}

/// The top level is preferred, and the last report wins, as a whole (docs/protocol.md#chat-usage).
#[test]
fn two_reports_of_usage_are_never_mixed() {
    let beside = r#"{"choices":[{"finish_reason":"stop","usage":{"prompt_tokens":8,"completion_tokens":9,"cached_tokens":8}}],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#;
    assert_eq!(usage(OpenAi, &[beside]), "usage 5 6 0 0 11");
    let first =
        r#"{"choices":[{"finish_reason":"stop","usage":{"prompt_tokens":8,"completion_tokens":9,"cached_tokens":3}}]}"#;
    let last = r#"{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":11}}"#;
    assert_eq!(usage(OpenAi, &[first, last]), "usage 8 11 0 0 19");
    assert_eq!(usage(OpenAi, &[first, r#"{"choices":[],"usage":{}}"#]), "usage 5 9 3 0 17");
}

/// Members are replaced one by one, and what is uncached follows from all of them (docs/protocol.md#messages-usage).
#[test]
fn a_total_prompt_beside_cached_tokens_is_not_counted_twice() {
    let start = r#"{"type":"message_start","message":{"usage":{"prompt_tokens":100,"cached_tokens":40}}}"#;
    let again = r#"{"type":"message_delta","delta":{},"usage":{"prompt_tokens":100,"output_tokens":1}}"#;
    let stop = r#"{"type":"message_stop"}"#;
    assert_eq!(usage(Anthropic, &[start, again, stop]), "usage 60 1 40 0 101");
    let start = r#"{"type":"message_start","message":{"usage":{"prompt_tokens":100}}}"#;
    let later = r#"{"type":"message_delta","delta":{},"usage":{"cached_tokens":40,"output_tokens":1}}"#;
    assert_eq!(usage(Anthropic, &[start, later, stop]), "usage 60 1 40 0 101");
}

#[test]
fn blocks_of_an_unknown_kind_keep_their_pieces_to_themselves() {
    let seen = read(
        Anthropic,
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"page","text":"p"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"page_delta","text":"q"}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":"x"}}"#,
            r#"{"type":"message_stop"}"#,
        ],
    );
    assert_eq!(seen[..3], ["0 start Text", "0 + x", "0 end"]);
}

#[test]
fn the_input_of_a_call_may_be_text_or_come_in_objects() {
    let start = |input: &str| {
        format!(
            r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"tool_use","id":"x","name":"a","input":{input}}}}}"#
        )
    };
    let stop = r#"{"type":"message_stop"}"#;
    let expected = [A_AND_B[0], A_AND_B[1], "0 end"];
    assert_eq!(read(Anthropic, &[&start(r#""{\"a\":1}""#), stop])[..3], expected);
    let piece =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":{"a":1}}}"#;
    assert_eq!(read(Anthropic, &[&start(r#""""#), piece, stop])[..3], expected);
}

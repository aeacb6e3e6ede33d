//! Variants that gateways between us and the service produce: each was seen, or follows from how the gateway's language writes
//! JSON. Each is read whole and byte by byte.

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
fn arguments_as_an_object_are_read() {
    let whole = calls(&[r#"{"index":0,"id":"x","function":{"name":"a","arguments":{"a":1}}}"#]);
    assert_eq!(whole[1], r#"0 + {"a":1} => [3,"a",1]"#);
    let announced = calls(&[
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":{}}}"#,
        r#"{"index":0,"function":{"arguments":"{\"a\":1}"}}"#,
    ]);
    assert_eq!(announced, whole);
}

#[test]
fn calls_with_the_same_index_are_separated_by_id() {
    let seen = calls(&[
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":"{\"a\":1}"}}"#,
        r#"{"index":0,"id":"y","function":{"name":"b","arguments":"{\"b\":"}}"#,
        r#"{"index":0,"function":{"arguments":"2}"}}"#,
    ]);
    assert_eq!(seen.join("\n").replace("0 end\n", ""), A_AND_B.join("\n").replace("0 end\n", ""));
}

/// Equal names are repeats (docs/protocol.md#tool-call-fragments, rule 8).
#[test]
fn id_and_name_repeated_in_every_chunk_are_ignored() {
    let seen = calls(&[
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":"{\"a\":"}}"#,
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":"1}"}}"#,
    ]);
    assert_eq!(seen, [A_AND_B[0], A_AND_B[1], "0 end"]);
}

#[test]
fn chunks_without_an_index_are_assigned_by_id() {
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
fn index_that_comes_with_the_arguments_only_is_used() {
    let seen = calls(&[
        r#"{"id":"x","function":{"name":"a","arguments":""}}"#,
        r#"{"index":0,"function":{"arguments":"{\"a\":1}"}}"#,
    ]);
    assert_eq!(seen, [A_AND_B[0], A_AND_B[1], "0 end"]);
}

#[test]
fn id_that_comes_before_the_rest_of_its_call_is_used() {
    let seen = calls(&[
        r#"{"index":0,"id":"x","type":"function"}"#,
        r#"{"index":0,"function":{"name":"a","arguments":"{\"a\":1}"}}"#,
    ]);
    assert_eq!(seen, [A_AND_B[0], A_AND_B[1], "0 end"]);
}

#[test]
fn empty_reasoning_field_does_not_hide_a_filled_one() {
    let seen = deltas(&[r#"{"reasoning_content":"","reasoning":"Hm."}"#, r#"{"content":"x"}"#]);
    assert_eq!(seen[..2], [r#"0 start Thinking {"signature":"reasoning"}"#, "0 + Hm."]);
}

#[test]
fn members_of_the_wrong_type_are_ignored() {
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
fn duplicate_members_the_last_one_wins() {
    let seen = deltas(&[r#"{"content":"no","content":"yes"}"#]);
    assert_eq!(seen, ["0 start Text", "0 + yes", "0 end"]);
}

#[test]
fn keep_alive_that_is_not_json_does_not_end_the_stream() {
    let answer = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n";
    let text = format!("event: ping\ndata: 1700000000.5 alive\n\n{answer}");
    assert_eq!(outcome(OpenAi, &[text.as_bytes()])[3], "done Stop (stop)");
    let answer = "event: message_stop\ndata: {}\n\n";
    let text = format!("event: keepalive\ndata: still here\n\n{answer}");
    assert_eq!(outcome(Anthropic, &[text.as_bytes()])[0], "done Stop ()");
    // An event that carries the answer must be readable.
    let text = format!("event: message\ndata: still here\n\n{answer}");
    assert!(outcome(OpenAi, &[text.as_bytes()])[0].starts_with("failed protocol: the stream contains an unreadable"));
}

#[test]
fn error_without_a_wrapper_object_is_recognized() {
    let bare = r#"{"object":"error","message":"out of memory","type":"ServerError","code":500}"#;
    assert_eq!(read(OpenAi, &[bare])[0], "failed protocol: out of memory");
    let bare = r#"{"type":"error","message":"out of memory"}"#;
    assert_eq!(read(Anthropic, &[bare])[0], "failed protocol: out of memory");
}

/// Programs that count UTF-16 units split a surrogate pair and write both halves as escapes.
#[test]
fn surrogate_pair_split_across_deltas_is_joined() {
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
fn usage_reported_twice_is_not_mixed() {
    let beside = r#"{"choices":[{"finish_reason":"stop","usage":{"prompt_tokens":8,"completion_tokens":9,"cached_tokens":8}}],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#;
    assert_eq!(usage(OpenAi, &[beside]), "usage 5 6 0 0 11");
    let first =
        r#"{"choices":[{"finish_reason":"stop","usage":{"prompt_tokens":8,"completion_tokens":9,"cached_tokens":3}}]}"#;
    let last = r#"{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":11}}"#;
    assert_eq!(usage(OpenAi, &[first, last]), "usage 8 11 0 0 19");
    assert_eq!(usage(OpenAi, &[first, r#"{"choices":[],"usage":{}}"#]), "usage 5 9 3 0 17");
}

/// Members are replaced one by one, and the uncached count follows from all of them (docs/protocol.md#messages-usage).
#[test]
fn prompt_total_that_includes_cached_tokens_is_not_counted_twice() {
    let start = r#"{"type":"message_start","message":{"usage":{"prompt_tokens":100,"cached_tokens":40}}}"#;
    let again = r#"{"type":"message_delta","delta":{},"usage":{"prompt_tokens":100,"output_tokens":1}}"#;
    let stop = r#"{"type":"message_stop"}"#;
    assert_eq!(usage(Anthropic, &[start, again, stop]), "usage 60 1 40 0 101");
    let start = r#"{"type":"message_start","message":{"usage":{"prompt_tokens":100}}}"#;
    let later = r#"{"type":"message_delta","delta":{},"usage":{"cached_tokens":40,"output_tokens":1}}"#;
    assert_eq!(usage(Anthropic, &[start, later, stop]), "usage 60 1 40 0 101");
}

#[test]
fn unknown_block_types_do_not_leak_into_other_blocks() {
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
fn tool_input_as_text_or_as_objects_is_read() {
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

/// The name of a call that is reported without one.
const UNKNOWN: &str = r#"1 start Tool {"id":"y","name":"unknown_tool"}"#;

#[test]
fn call_without_a_name_behind_another_reaches_the_model_as_unknown_tool() {
    let seen = calls(&[
        r#"{"index":0,"id":"x","function":{"name":"a","arguments":"{\"a\":1}"}}"#,
        r#"{"index":1,"id":"y","function":{"arguments":"{\"b\":2}"}}"#,
    ]);
    assert_eq!(seen, [A_AND_B[0], A_AND_B[1], UNKNOWN, A_AND_B[3], "0 end", "1 end"]);
    let start = |index: u8, head: &str| {
        format!(r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"tool_use",{head}}}}}"#)
    };
    let (named, nameless) =
        (start(0, r#""id":"x","name":"a","input":{"a":1}"#), start(1, r#""id":"y","input":{"b":2}"#));
    let ends = [r#"{"type":"content_block_stop","index":0}"#, r#"{"type":"message_stop"}"#];
    let seen = read(Anthropic, &[&named, &nameless, ends[0], ends[1]]);
    assert_eq!(seen[..6], [A_AND_B[0], A_AND_B[1], "0 end", UNKNOWN, A_AND_B[3], "1 end"]);
}

#[test]
fn call_without_a_name_and_nothing_else_fails_the_attempt() {
    let nameless = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"x","function":{"arguments":"{}"}}]}}]}"#;
    let finish = r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#;
    assert_eq!(
        read(OpenAi, &[nameless, finish])[0],
        "failed protocol: the answer contains a tool call without a name: {}"
    );
    let nameless = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"x"}}"#;
    let seen = read(Anthropic, &[nameless, r#"{"type":"message_stop"}"#]);
    assert_eq!(seen[0], "failed protocol: the answer contains a tool call without a name");
}

#[test]
fn content_as_a_list_of_parts_is_text() {
    let seen = deltas(&[
        r#"{"reasoning_content":[{"type":"text","text":"Hm."}]}"#,
        r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#,
    ]);
    assert_eq!(
        seen,
        [
            r#"0 start Thinking {"signature":"reasoning_content"}"#,
            "0 + Hm.",
            "0 end",
            "1 start Text",
            "1 + ab",
            "1 end"
        ]
    );
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":[{"type":"text","text":"ab"}]}}"#;
    assert_eq!(read(Anthropic, &[delta, r#"{"type":"message_stop"}"#])[..3], ["0 start Text", "0 + ab", "0 end"]);
}

#[test]
fn whole_message_in_place_of_a_delta_is_the_answer() {
    let message = r#"{"role":"assistant","content":"ok","tool_calls":[{"id":"x","type":"function","function":{"name":"a","arguments":"{\"a\":1}"}}]}"#;
    let whole = format!(r#"{{"choices":[{{"index":0,"message":{message},"finish_reason":"tool_calls"}}]}}"#);
    let expected = [
        "0 start Text",
        "0 + ok",
        "0 end",
        r#"1 start Tool {"id":"x","name":"a"}"#,
        r#"1 + {"a":1} => [3,"a",1]"#,
        "1 end",
    ];
    let seen = read(OpenAi, &[&whole]);
    assert_eq!(seen[..6], expected);
    assert_eq!(seen[6], "done ToolUse (tool_calls)");
    let whole = r#"{"type":"message","id":"m","model":"k3","stop_reason":"tool_use","usage":{"input_tokens":3,"output_tokens":2},
        "content":[{"type":"text","text":"ok"},{"type":"tool_use","id":"x","name":"a","input":{"a":1}}]}"#
        .replace('\n', "");
    let seen = read(Anthropic, &[&whole]);
    assert_eq!(seen[..6], expected);
    assert_eq!(seen[6..], ["done ToolUse (tool_use)", "usage 3 2 0 0 5"]);
}

#[test]
fn whole_message_after_its_deltas_is_no_repeat() {
    let delta = r#"{"choices":[{"delta":{"content":"ok"}}]}"#;
    let whole = r#"{"choices":[{"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}"#;
    assert_eq!(read(OpenAi, &[delta, whole])[..4], ["0 start Text", "0 + ok", "0 end", "done Stop (stop)"]);
}

#[test]
fn function_call_of_older_servers_is_a_call() {
    let pieces = [r#"{"function_call":{"name":"a","arguments":"{\"a\":"}}"#, r#"{"function_call":{"arguments":"1}"}}"#];
    assert_eq!(deltas(&pieces), [r#"0 start Tool {"id":"call_*","name":"a"}"#, A_AND_B[1], "0 end"]);
}

#[test]
fn full_context_window_ends_an_answer_alike_in_both_dialects() {
    let delta = r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"model_context_window_exceeded"}]}"#;
    assert_eq!(read(OpenAi, &[delta])[3], "done Length (model_context_window_exceeded)");
    let start = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"x"}}"#;
    let stop = r#"{"type":"message_delta","delta":{"stop_reason":"model_context_window_exceeded"}}"#;
    assert_eq!(read(Anthropic, &[start, stop])[3], "done Length (model_context_window_exceeded)");
}

#[test]
fn event_behind_a_bom_in_mid_stream_is_not_lost() {
    let event = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let finish = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let stream = format!("\u{feff}{}\u{feff}{}{finish}", event("a"), event("b"));
    let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
    for chunks in [vec![stream.as_bytes()], single] {
        assert_eq!(outcome(OpenAi, &chunks)[..3], ["0 start Text", "0 + ab", "0 end"]);
    }
}

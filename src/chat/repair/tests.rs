//! What repair promises, case by case.

use super::*;

fn repaired(json: &str) -> Conversation<'static> {
    let json: &'static str = Box::leak(json.to_owned().into_boxed_str());
    repair(Transcript::parse(json, &[]).unwrap(), Target { images: true, ..Target::default() })
}

fn shape(conversation: &Conversation<'_>) -> Vec<String> {
    conversation
        .turns
        .iter()
        .map(|turn| match turn {
            Turn::System(text) => format!("system:{text}"),
            Turn::User(parts) => format!("user:{}", parts.len()),
            Turn::Tools(tools) => format!("tools:{}", tools.len()),
            Turn::Assistant(answer) => {
                let texts =
                    answer.blocks.iter().map(|block| if let AnswerBlock::Text(text) = block { text } else { "" });
                let ids: Vec<&str> = answer
                    .blocks
                    .iter()
                    .filter_map(|block| if let AnswerBlock::Call { id, .. } = block { Some(id.as_str()) } else { None })
                    .collect();
                format!("assistant:{}[{}]", texts.collect::<String>(), ids.join(","))
            }
            Turn::ToolResult { call_id, is_error, .. } => format!("result:{call_id}:{is_error}"),
        })
        .collect()
}

const CALL: &str = r#"{"role":"assistant","provider":"kimi-coding","model":"k3","stopReason":"toolUse","content":[{"type":"toolCall","id":"Read:0","name":"read","arguments":{}}]}"#;

#[test]
fn a_call_without_a_result_gets_one() {
    let json = format!(r#"{{"messages":[{{"role":"user","content":"a"}},{CALL},{{"role":"user","content":"b"}}]}}"#);
    assert_eq!(shape(&repaired(&json)), ["user:1", "assistant:[Read_0]", "result:Read_0:true", "user:1"]);
}

#[test]
fn a_result_without_a_call_is_left_out() {
    let json = r#"{"messages":[{"role":"user","content":"a"},{"role":"toolResult","toolCallId":"x","content":[]}]}"#;
    assert_eq!(shape(&repaired(json)), ["user:1"]);
}

#[test]
fn repeated_ids_stay_apart_and_find_their_results() {
    let result = r#"{"role":"toolResult","toolCallId":"Read:0","content":[{"type":"text","text":"r"}]}"#;
    let json = format!(r#"{{"messages":[{CALL},{result},{CALL},{result}]}}"#);
    assert_eq!(
        shape(&repaired(&json)),
        ["assistant:[Read_0]", "result:Read_0:false", "assistant:[Read_0__2]", "result:Read_0__2:false"]
    );
}

#[test]
fn aborted_and_failed_answers_are_skipped() {
    let json = r#"{"messages":[{"role":"user","content":"a"},
        {"role":"assistant","provider":"kimi-coding","stopReason":"aborted","content":[{"type":"text","text":"half"}]},
        {"role":"user","content":"b"}]}"#;
    assert_eq!(shape(&repaired(json)), ["user:1", "user:1"]);
}

#[test]
fn instructions_between_call_and_result_wait_for_the_result() {
    let json = format!(
        r#"{{"messages":[{CALL},{{"role":"system","content":"note"}},{{"role":"toolResult","toolCallId":"Read:0","content":"r"}}]}}"#
    );
    assert_eq!(shape(&repaired(&json)), ["assistant:[Read_0]", "result:Read_0:false", "system:note"]);
}

#[test]
fn reasoning_of_another_provider_becomes_text() {
    let json = r#"{"messages":[{"role":"assistant","provider":"anthropic","model":"x","stopReason":"stop",
        "content":[{"type":"thinking","thinking":"hm "},{"type":"text","text":"ok"}]}]}"#;
    assert_eq!(shape(&repaired(json)), ["assistant:hm ok[]"]);
}

#[test]
fn a_model_without_eyes_reads_a_note() {
    let json: &'static str = r#"{"messages":[{"role":"user","content":[{"type":"image","mimeType":"image/png","data":"x"},
        {"type":"image","mimeType":"image/png","data":"y"},{"type":"text","text":"t"}]}]}"#;
    let conversation = repair(Transcript::parse(json, &[]).unwrap(), Target::default());
    assert_eq!(shape(&conversation), ["user:2"]);
}

#[test]
fn tools_follow_their_additions_and_removals() {
    let json = r#"{"messages":[{"role":"system","content":"s","toolsAdded":[{"name":"a"},{"name":"b"}]},
        {"role":"system","content":"","toolsAdded":[{"name":"c"}],"toolsRemoved":[{"name":"a"}]}]}"#;
    let names: Vec<String> = repaired(json).tools.into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["b", "c"]);
}

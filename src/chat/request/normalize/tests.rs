//! Normalization, case by case.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::*;

fn normalized(json: &str) -> Conversation<'static> {
    let json: &'static str = Box::leak(json.to_owned().into_boxed_str());
    normalize(
        Transcript::parse(json, &[]).unwrap(),
        Target { images: true, ..Target::default() },
        &SchemaCache::default(),
    )
}

fn shape(conversation: &Conversation<'_>) -> Vec<String> {
    conversation
        .turns
        .iter()
        .map(|turn| match turn {
            Item::System(text) => format!("system:{text}"),
            Item::User(parts) => format!("user:{}", parts.len()),
            Item::Tools(tools) => format!("tools:{}", tools.len()),
            Item::Assistant(answer) => {
                let texts =
                    answer.blocks.iter().map(|block| if let AssistantBlock::Text(text) = block { text } else { "" });
                let ids: Vec<&str> = answer
                    .blocks
                    .iter()
                    .filter_map(
                        |block| if let AssistantBlock::Call { id, .. } = block { Some(id.as_str()) } else { None },
                    )
                    .collect();
                format!("assistant:{}[{}]", texts.collect::<String>(), ids.join(","))
            }
            Item::ToolResult { call_id, is_error, .. } => format!("result:{call_id}:{is_error}"),
        })
        .collect()
}

const CALL: &str = r#"{"role":"assistant","provider":"kimi-coding","model":"k3","stopReason":"toolUse","content":[{"type":"toolCall","id":"Read:0","name":"read","arguments":{}}]}"#;

#[test]
fn call_without_a_result_gets_one() {
    let json = format!(r#"{{"messages":[{{"role":"user","content":"a"}},{CALL},{{"role":"user","content":"b"}}]}}"#);
    assert_eq!(shape(&normalized(&json)), ["user:1", "assistant:[Read_0]", "result:Read_0:true", "user:1"]);
}

#[test]
fn result_without_a_call_is_left_out() {
    let json = r#"{"messages":[{"role":"user","content":"a"},{"role":"toolResult","toolCallId":"x","content":[]}]}"#;
    assert_eq!(shape(&normalized(json)), ["user:1"]);
}

#[test]
fn repeated_ids_become_distinct_and_keep_their_results() {
    let result = r#"{"role":"toolResult","toolCallId":"Read:0","content":[{"type":"text","text":"r"}]}"#;
    let json = format!(r#"{{"messages":[{CALL},{result},{CALL},{result}]}}"#);
    assert_eq!(
        shape(&normalized(&json)),
        ["assistant:[Read_0]", "result:Read_0:false", "assistant:[Read_0__2]", "result:Read_0__2:false"]
    );
}

#[test]
fn aborted_and_failed_answers_are_skipped() {
    let json = r#"{"messages":[{"role":"user","content":"a"},
        {"role":"assistant","provider":"kimi-coding","stopReason":"aborted","content":[{"type":"text","text":"half"}]},
        {"role":"user","content":"b"}]}"#;
    assert_eq!(shape(&normalized(json)), ["user:1", "user:1"]);
}

#[test]
fn instructions_between_call_and_result_follow_the_result() {
    let json = format!(
        r#"{{"messages":[{CALL},{{"role":"system","content":"note"}},{{"role":"toolResult","toolCallId":"Read:0","content":"r"}}]}}"#
    );
    assert_eq!(shape(&normalized(&json)), ["assistant:[Read_0]", "result:Read_0:false", "system:note"]);
}

#[test]
fn reasoning_of_another_provider_becomes_text() {
    let json = r#"{"messages":[{"role":"assistant","provider":"anthropic","model":"x","stopReason":"stop",
        "content":[{"type":"thinking","thinking":"hm "},{"type":"text","text":"ok"}]}]}"#;
    assert_eq!(shape(&normalized(json)), ["assistant:hm ok[]"]);
}

#[test]
fn model_without_images_gets_a_note() {
    let json: &'static str = r#"{"messages":[{"role":"user","content":[{"type":"image","mimeType":"image/png","data":"x"},
        {"type":"image","mimeType":"image/png","data":"y"},{"type":"text","text":"t"}]}]}"#;
    let conversation = normalize(Transcript::parse(json, &[]).unwrap(), Target::default(), &SchemaCache::default());
    assert_eq!(shape(&conversation), ["user:2"]);
}

#[test]
fn tools_follow_their_additions_and_removals() {
    let json = r#"{"messages":[{"role":"system","content":"s","toolsAdded":[{"name":"a"},{"name":"b"}]},
        {"role":"system","content":"","toolsAdded":[{"name":"c"}],"toolsRemoved":[{"name":"a"}]}]}"#;
    let names: Vec<String> = normalized(json).tools.into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn user_message_between_call_and_result_follows_the_result() {
    let json = format!(
        r#"{{"messages":[{CALL},{{"role":"user","content":"wait"}},{{"role":"toolResult","toolCallId":"Read:0","content":"r"}}]}}"#
    );
    assert_eq!(shape(&normalized(&json)), ["assistant:[Read_0]", "result:Read_0:false", "user:1"]);
}

#[test]
fn result_of_an_aborted_answer_does_not_answer_an_older_call() {
    let aborted = CALL.replace("\"toolUse\"", "\"aborted\"");
    let result = r#"{"role":"toolResult","toolCallId":"Read:0","content":"r"}"#;
    let json = format!(r#"{{"messages":[{CALL},{aborted},{result}]}}"#);
    assert_eq!(shape(&normalized(&json)), ["assistant:[Read_0]", "result:Read_0:true"]);
}

#[test]
fn arguments_of_any_kind_become_an_object() {
    let arguments = |recorded: &str| {
        let json = CALL.replace(r#""arguments":{}"#, &format!(r#""arguments":{recorded}"#));
        let conversation = normalized(&format!(r#"{{"messages":[{json}]}}"#));
        let Item::Assistant(answer) = &conversation.turns[0] else { panic!("no answer") };
        let AssistantBlock::Call { arguments, .. } = &answer.blocks[0] else { panic!("no call") };
        arguments.to_string()
    };
    assert_eq!(arguments(r#"{"a":1}"#), r#"{"a":1}"#);
    assert_eq!(arguments("null"), "{}");
    assert_eq!(arguments(r#""""#), "{}");
    assert_eq!(arguments(r#""{\"a\":1}""#), r#"{"a":1}"#);
    assert_eq!(arguments(r#""{\"a\":""#), r#"{"input":"{\"a\":"}"#);
    assert_eq!(arguments("[1]"), r#"{"input":[1]}"#);
    assert_eq!(arguments(r#""{\"a\":1e400}""#), r#"{"input":"{\"a\":1e400}"}"#);
}

#[test]
fn refused_tool_names_are_mapped_and_mapped_back() {
    let json = r#"{"tools":[{"name":"a.b"},{"name":"a_b"},{"name":"3d"},{"name":"搜索"},{"name":"$web_search"}],"messages":[]}"#;
    let conversation = normalized(json);
    let names: Vec<&str> = conversation.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["a_b", "a_b_2", "t_3d", "t___", "$web_search"]);
    assert_eq!(conversation.renamed["a_b"], "a.b");
    assert_eq!(conversation.renamed["a_b_2"], "a_b");
    assert!(!conversation.renamed.contains_key("$web_search"));
}

#[test]
fn late_tools_stay_where_they_joined_if_the_model_supports_it() {
    let json = r#"{"messages":[{"role":"system","content":"s","toolsAdded":[{"name":"a"}]},{"role":"user","content":"x"},
        {"role":"system","content":"","toolsAdded":[{"name":"b"}]},{"role":"user","content":"y"}]}"#;
    let late = normalize(
        Transcript::parse(json, &[]).unwrap(),
        Target { late_tools: true, ..Target::default() },
        &SchemaCache::default(),
    );
    assert_eq!(shape(&late), ["system:s", "user:1", "tools:1", "user:1"]);
    assert_eq!(late.tools.len(), 1);
    // A removed tool cannot be expressed further down.
    let removed =
        json.replace(r#""toolsAdded":[{"name":"b"}]"#, r#""toolsAdded":[{"name":"b"}],"toolsRemoved":[{"name":"a"}]"#);
    let folded = normalize(
        Transcript::parse(&removed, &[]).unwrap(),
        Target { late_tools: true, ..Target::default() },
        &SchemaCache::default(),
    );
    assert_eq!(folded.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(shape(&folded), ["system:s", "user:1", "user:1"]);
}

#[test]
fn image_type_follows_its_bytes() {
    let image = |mime: &str, data: &str| {
        let json = format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image","mimeType":"{mime}","data":"{data}"}}]}}]}}"#
        );
        let conversation = normalized(&json);
        let Item::User(parts) = &conversation.turns[0] else { panic!("no user message") };
        match &parts[0] {
            Part::MediaRef(media) => {
                let content = media.media_item.content().unwrap();
                format!("{} {}", media.media_type.mime, STANDARD_NO_PAD.encode(&content))
            }
            Part::Text(text) => text.to_string(),
            part => panic!("{part:?} is left"),
        }
    };
    assert_eq!(image("image/png", "/9j/4AAQSkZJRg=="), "image/jpeg /9j/4AAQSkZJRg");
    assert_eq!(image("image/jpg", "AAAAAAAA"), "image/jpeg AAAAAAAA");
    assert_eq!(image("image/png", "iVBO\\nRw0K Ggo="), "image/png iVBORw0KGgo");
    assert_eq!(image("image/png", "data:image/png;base64,iVBORw0KGgo="), "image/png iVBORw0KGgo");
    assert_eq!(image("image/png", "JVBERi0xLjQK"), "(image omitted: it is a PDF, which Kimi does not take)");
    assert_eq!(image("image/x-icon", "AAAAAAAA"), "(image omitted: Kimi does not take \"image/x-icon\")");
    assert_eq!(image("image/png", ""), "(image omitted: it has no data)");
}

#[test]
fn tool_declared_twice_at_once_is_sent_once_with_a_note() {
    let conversation =
        normalized(r#"{"tools":[{"name":"a","description":"1"},{"name":"a","description":"2"}],"messages":[]}"#);
    assert_eq!(conversation.tools.len(), 1);
    assert_eq!(conversation.tools[0].description, "2");
    assert!(conversation.notes[0].starts_with("Tool a: declared twice"));
}

#[test]
fn tool_with_an_unusable_schema_is_sent_open_with_a_note() {
    let conversation =
        normalized(r#"{"tools":[{"name":"odd","description":"d","parameters":"just text"}],"messages":[]}"#);
    assert_eq!(conversation.tools[0].parameters().get(), r#"{"type":"object"}"#);
    assert!(conversation.notes[0].starts_with("Tool odd: its parameters are not a JSON Schema"));
}

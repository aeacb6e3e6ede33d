//! Checks a body for what the service rejects (docs/protocol.md#messages, docs/protocol.md#tool-schema-subset,
//! docs/protocol.md#messages-body), as far as it does not depend on the model.

use std::collections::HashSet;

use kimi_code::chat::request::tool_schema::problem;
use kimi_code::config::Dialect;
use serde_json::Value;

type Verdict = Result<(), String>;

/// Why the service would reject a body of a model that thinks and keeps its reasoning.
pub fn refusal(body: &str, dialect: Dialect) -> Option<String> {
    let body: Value = match serde_json::from_str(body) {
        Ok(body) => body,
        Err(error) => return Some(format!("not JSON: {error}")),
    };
    let verdict = match dialect {
        Dialect::OpenAi => openai(&body),
        Dialect::Anthropic => anthropic(&body),
    };
    verdict.err()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

fn blank(value: &Value) -> bool {
    value.as_str().is_none_or(|text| text.trim().is_empty())
}

fn declared(name: &Value, description: &Value, schema: &Value, known: &mut HashSet<String>) -> Verdict {
    let name = name.as_str().unwrap_or_default();
    ensure(is_name(name), || format!("tool name {name:?}"))?;
    ensure(known.insert(name.to_owned()), || format!("tool {name} twice"))?;
    ensure(description.is_string(), || format!("tool {name} without description"))?;
    problem(schema).map_or(Ok(()), |problem| Err(format!("tool {name}: {problem}")))
}

fn is_name(name: &str) -> bool {
    let bare = name.strip_prefix('$').unwrap_or(name);
    bare.len() <= 256
        && bare.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn openai_tools(value: &Value) -> Verdict {
    let mut known = HashSet::new();
    for tool in list(value, "tools") {
        let function = &tool["function"];
        if tool["type"] == "builtin_function" {
            ensure(function["name"].as_str().is_some_and(|name| name.starts_with('$')), || tool.to_string())?;
            continue;
        }
        declared(&function["name"], &function["description"], &function["parameters"], &mut known)?;
    }
    Ok(())
}

/// An id as the service accepts it, unique within this body.
fn fresh(id: &Value, seen: &mut HashSet<String>) -> Result<String, String> {
    let id = id.as_str().unwrap_or_default();
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    ensure((1..=64).contains(&id.len()) && id.bytes().all(safe), || format!("call id {id:?}"))?;
    ensure(seen.insert(id.to_owned()), || format!("call id {id} twice"))?;
    Ok(id.to_owned())
}

fn openai(body: &Value) -> Verdict {
    openai_tools(body)?;
    ensure(!list(body, "messages").is_empty(), || "no messages".to_owned())?;
    let mut seen = HashSet::new();
    let mut open: HashSet<String> = HashSet::new();
    for (position, message) in list(body, "messages").iter().enumerate() {
        let at = |what: &str| format!("message {position}: {what}: {message}");
        let content = &message["content"];
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            ensure(open.remove(id), || at("a result without its call"))?;
            openai_content(content).map_err(|what| at(&what))?;
            continue;
        }
        ensure(open.is_empty(), || at("a call without result before it"))?;
        ensure(message["role"] == "assistant" || message["reasoning_content"].is_null(), || at("reasoning"))?;
        match message["role"].as_str() {
            Some("system") if message["tools"].is_array() => {
                ensure(content.is_null(), || at("content beside tools"))?;
                openai_tools(message)?;
            }
            Some("system") => ensure(!blank(content), || at("empty"))?,
            Some("user") => openai_content(content).map_err(|what| at(&what))?,
            Some("assistant") => {
                ensure(message["reasoning_content"].is_string(), || at("no reasoning"))?;
                ensure(list(message, "reasoning_details").iter().all(|detail| detail["index"].is_null()), || {
                    at("index")
                })?;
                let calls = list(message, "tool_calls");
                let reasoned = message["reasoning_content"] != "" || message["reasoning"].is_string();
                match content {
                    Value::Null => ensure(!calls.is_empty(), || at("empty"))?,
                    content => {
                        ensure(!blank(content) || (calls.is_empty() && content == "" && reasoned), || at("blank"))?
                    }
                }
                for call in calls {
                    open.insert(fresh(&call["id"], &mut seen).map_err(|what| at(&what))?);
                    ensure(call["function"]["name"].as_str().is_some_and(is_name), || at("a call's name"))?;
                    let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
                    ensure(is_object(arguments), || at("arguments"))?;
                }
            }
            _ => return Err(at("its role")),
        }
    }
    ensure(open.is_empty(), || "a call without result at the end".to_owned())
}

/// At any depth.
fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{') && serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok()
}

fn openai_content(content: &Value) -> Verdict {
    match content {
        Value::String(text) => ensure(!text.trim().is_empty(), || "blank text".to_owned()),
        Value::Array(parts) => {
            ensure(!parts.is_empty(), || "no parts".to_owned())?;
            parts.iter().try_for_each(|part| match part["type"].as_str() {
                Some("text") => ensure(!blank(&part["text"]), || "a blank part".to_owned()),
                Some("image_url") => ensure(!blank(&part["image_url"]["url"]), || "no url".to_owned()),
                Some("video_url") => ensure(!blank(&part["video_url"]["url"]), || "no url".to_owned()),
                _ => Err(format!("part {part}")),
            })
        }
        other => Err(format!("content {other}")),
    }
}

fn anthropic(body: &Value) -> Verdict {
    let mut known = HashSet::new();
    for tool in list(body, "tools") {
        declared(&tool["name"], &tool["description"], &tool["input_schema"], &mut known)?;
    }
    ensure(list(body, "system").iter().all(|block| !blank(&block["text"])), || "a blank system block".to_owned())?;
    ensure(!list(body, "messages").is_empty(), || "no messages".to_owned())?;
    let mut seen = HashSet::new();
    let mut open: HashSet<String> = HashSet::new();
    for (position, message) in list(body, "messages").iter().enumerate() {
        let at = |what: &str| format!("message {position}: {what}: {message}");
        let blocks = list(message, "content");
        ensure(!blocks.is_empty(), || at("empty"))?;
        let is = |kind: &str| blocks.iter().filter(|block| block["type"] == kind).count();
        match message["role"].as_str() {
            Some("user") => {
                for block in blocks {
                    anthropic_block(block, &mut open).map_err(|what| at(&what))?;
                }
                ensure(open.is_empty(), || at("a call without result before it"))?;
            }
            Some("assistant") => {
                ensure(open.is_empty(), || at("a call without result before it"))?;
                for block in blocks {
                    match block["type"].as_str() {
                        Some("text") => ensure(!blank(&block["text"]), || at("blank text"))?,
                        Some("thinking") => ensure(block["thinking"].is_string(), || at("thinking"))?,
                        Some("redacted_thinking") => ensure(!blank(&block["data"]), || at("redacted"))?,
                        Some("tool_use") => {
                            open.insert(fresh(&block["id"], &mut seen).map_err(|what| at(&what))?);
                            ensure(block["name"].as_str().is_some_and(is_name), || at("a call's name"))?;
                            ensure(block["input"].is_object(), || at("input"))?;
                        }
                        _ => return Err(at("a block")),
                    }
                }
                let thought = is("thinking") + is("redacted_thinking") > 0;
                ensure(thought || is("tool_use") == 0, || at("calls without reasoning"))?;
            }
            _ => return Err(at("its role")),
        }
    }
    ensure(open.is_empty(), || "a call without result at the end".to_owned())
}

fn anthropic_block(block: &Value, open: &mut HashSet<String>) -> Verdict {
    match block["type"].as_str() {
        Some("text") => ensure(!blank(&block["text"]), || "a blank block".to_owned()),
        Some("image" | "video") => ensure(block["source"].is_object(), || "no source".to_owned()),
        Some("tool_result") => {
            let id = block["tool_use_id"].as_str().unwrap_or_default();
            ensure(open.remove(id), || format!("result of {id:?} without its call"))?;
            ensure(!list(block, "content").is_empty(), || "an empty result".to_owned())?;
            list(block, "content").iter().try_for_each(|part| {
                ensure(part["type"] != "tool_result", || "a result in a result".to_owned())?;
                anthropic_block(part, open)
            })
        }
        _ => Err(format!("block {block}")),
    }
}

//! Builds a transcript of a given size, as a long session leaves it: a system prompt, tools, and turns with reasoning, calls and
//! results.

use serde_json::{Value, json};

/// Returns Pi's context as JSON text: about `bytes` long, `messages` messages, `tools` tools.
pub fn context(bytes: usize, messages: usize, tools: usize) -> String {
    let rounds = messages / 4;
    let filler = "fn main() { println!(\"grüße, 世界\"); }\n\t// and so on, line by line\n".repeat(1 + bytes / 60);
    let piece = |share: usize| -> &str {
        let end = (0..=share.min(filler.len())).rev().find(|at| filler.is_char_boundary(*at)).unwrap_or(0);
        &filler[..end]
    };
    // Escapes make the JSON text about a tenth longer.
    let per_round = bytes * 9 / 10 / rounds.max(1);
    let mut list: Vec<Value> = Vec::with_capacity(messages);
    for round in 0..rounds {
        let id = format!("bash:{}", round % 3);
        list.push(
            json!({ "role": "user", "content": [{ "type": "text", "text": piece(per_round / 10) }], "timestamp": 1 }),
        );
        list.push(json!({ "role": "assistant", "api": "kimi-code-native", "provider": "kimi-coding", "model": "k3",
            "stopReason": "toolUse", "usage": { "totalTokens": 1000 + round }, "content": [
                { "type": "thinking", "thinking": piece(per_round / 10), "thinkingSignature": "reasoning_content" },
                { "type": "toolCall", "id": id, "name": "bash", "arguments": { "command": piece(per_round / 20) } } ] }));
        list.push(json!({ "role": "toolResult", "toolCallId": id, "toolName": "bash", "isError": false,
            "content": [{ "type": "text", "text": piece(per_round * 13 / 20) }] }));
        list.push(json!({ "role": "assistant", "api": "kimi-code-native", "provider": "kimi-coding", "model": "k3",
            "stopReason": "stop", "usage": { "totalTokens": 1001 + round },
            "content": [{ "type": "text", "text": piece(per_round / 10) }] }));
    }
    list.push(json!({ "role": "user", "content": "go on", "timestamp": 1 }));
    let tools: Vec<Value> = (0..tools).map(tool).collect();
    json!({ "systemPrompt": piece(8000), "tools": tools, "messages": list }).to_string()
}

/// Every third tool needs to be normalized.
fn tool(number: usize) -> Value {
    let option = match number % 3 {
        0 => json!({ "enum": ["a", "b"], "title": "Option" }),
        _ => json!({ "type": "string", "description": "An option" }),
    };
    json!({ "name": format!("tool_{number}"), "description": "Does something useful with a path. ".repeat(8), "parameters": {
        "type": "object", "required": ["path"], "properties": {
            "path": { "type": "string", "description": "Path of the file, absolute or relative to the working directory" },
            "option": option, "limit": { "type": "integer", "description": "At most so many", "minimum": 1 },
            "list": { "type": "array", "items": { "type": "object", "properties": { "a": { "type": "string" } } } } } } })
}

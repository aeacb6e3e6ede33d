//! Transcript → the sequence of turns that the service accepts.
//!
//! The last step before encoding, deterministic and append-only: what is repaired in message 7 looks the same in every later
//! request, because the service caches prompts by prefix. Follows what Pi's own implementations do to a transcript
//! (pi-extension §3.9) and the hard rules of protocol reference §6.4.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::transcript::{Assistant, Block, Message, Part, Tool, Transcript};

/// Longest id of a tool call that the service takes.
const MAX_ID: usize = 64;

/// An acceptable conversation, not yet in any dialect.
#[derive(Debug, Default)]
pub struct Conversation<'a> {
    /// Tools for the top level of the body.
    pub tools: Vec<Tool<'a>>,
    /// Turns in order.
    pub turns: Vec<Turn<'a>>,
    /// Estimate of the prompt in tokens: the last reported total plus a quarter of the characters since.
    pub estimated_tokens: u64,
}

/// One message of the request.
#[derive(Debug)]
pub enum Turn<'a> {
    /// Instructions.
    System(String),
    /// The person; never empty.
    User(Vec<Part<'a>>),
    /// An earlier answer; has text, reasoning or calls.
    Assistant(Answer<'a>),
    /// Result of the call with this id; follows its call directly.
    ToolResult {
        /// The id that the call was given in this request.
        call_id: String,
        /// May be empty.
        parts: Vec<Part<'a>>,
        /// The tool failed.
        is_error: bool,
    },
}

/// An earlier answer in the form both dialects need.
#[derive(Debug, Default)]
pub struct Answer<'a> {
    /// Visible text, empty if there is none.
    pub text: String,
    /// Reasoning and the field it came in. `None`: this answer never reasoned.
    pub reasoning: Option<Reasoning>,
    /// Calls in order.
    pub calls: Vec<Call<'a>>,
}

/// Reasoning to be replayed.
#[derive(Debug, Default, PartialEq)]
pub struct Reasoning {
    /// `reasoning_content` or `reasoning`.
    pub field: String,
    /// May be empty, which is not the same as none.
    pub text: String,
    /// Entries for `reasoning_details`, without their index (kimi-code-2.1 §6.3).
    pub details: Vec<Value>,
}

/// A tool call.
#[derive(Debug)]
pub struct Call<'a> {
    /// Unique in the request, at most 64 safe characters.
    pub id: String,
    /// Tool name.
    pub name: String,
    /// A JSON object as text.
    pub arguments: Cow<'a, str>,
}

/// Makes the transcript acceptable. `accepts_images` is false for models that take text only.
pub fn repair<'a>(transcript: Transcript<'a>, accepts_images: bool) -> Conversation<'a> {
    let mut repairer = Repairer { accepts_images, ..Repairer::default() };
    for message in transcript.messages {
        repairer.message(message);
    }
    repairer.answer_open_calls();
    let held = std::mem::take(&mut repairer.held_back);
    repairer.out.turns.extend(held);
    repairer.out
}

#[derive(Default)]
struct Repairer<'a> {
    accepts_images: bool,
    out: Conversation<'a>,
    ids: CallIds,
    /// Calls of the last answer that have no result yet: recorded id → id in this request.
    open: Vec<(String, String)>,
    /// System messages that arrived between a call and its results.
    held_back: Vec<Turn<'a>>,
}

impl<'a> Repairer<'a> {
    fn message(&mut self, message: Message<'a>) {
        match message {
            Message::System { text, tools_added, tools_removed } => {
                self.out.tools.retain(|tool| !tools_removed.contains(&tool.name));
                for tool in tools_added {
                    match self.out.tools.iter_mut().find(|known| known.name == tool.name) {
                        Some(known) => *known = tool,
                        None => self.out.tools.push(tool),
                    }
                }
                if !text.trim().is_empty() {
                    self.count(text.len());
                    let turn = Turn::System(text);
                    if self.open.is_empty() { self.out.turns.push(turn) } else { self.held_back.push(turn) }
                }
            }
            Message::User(parts) => {
                self.answer_open_calls();
                let parts = self.parts(parts, "(image omitted: model does not support images)");
                if !parts.is_empty() {
                    self.push(Turn::User(parts));
                }
            }
            Message::Assistant(assistant) => {
                // An aborted or failed answer is half-built; Pi skips it too.
                if matches!(assistant.stop_reason.as_str(), "error" | "aborted") {
                    return;
                }
                self.answer_open_calls();
                self.assistant(assistant);
            }
            Message::ToolResult { call_id, parts, is_error } => {
                // A result without its call would be refused, and so would a second result.
                let Some(at) = self.open.iter().position(|(recorded, _)| *recorded == call_id) else { return };
                let (_, call_id) = self.open.remove(at);
                let parts = self.parts(parts, "(tool image omitted: model does not support images)");
                self.count(parts.iter().map(weight).sum());
                self.out.turns.push(Turn::ToolResult { call_id, parts, is_error });
                if self.open.is_empty() {
                    let held = std::mem::take(&mut self.held_back);
                    self.out.turns.extend(held);
                }
            }
        }
    }

    fn assistant(&mut self, assistant: Assistant<'a>) {
        let ours = assistant.provider == crate::catalog::PROVIDER_ID;
        let total_tokens = assistant.total_tokens;
        let mut answer = Answer::default();
        let mut recorded = Vec::new();
        let mut thoughts: Vec<String> = Vec::new();
        let mut characters = 0;
        for block in assistant.blocks {
            match block {
                Block::Text(text) => {
                    if !text.trim().is_empty() {
                        answer.text.push_str(&text);
                    }
                }
                Block::Thinking { text, signature, redacted, details } if ours => {
                    if redacted {
                        continue;
                    }
                    let reasoning = answer.reasoning.get_or_insert_default();
                    if reasoning.field.is_empty() {
                        reasoning.field =
                            if signature == "reasoning" { signature } else { "reasoning_content".to_owned() };
                    }
                    if !text.is_empty() {
                        thoughts.push(text);
                    }
                    reasoning.details.extend(details);
                }
                // Reasoning of another model is no reasoning to this one; as text it keeps what was thought.
                Block::Thinking { text, redacted, .. } => {
                    if !redacted && !text.trim().is_empty() {
                        answer.text.push_str(&text);
                    }
                }
                Block::Call { id, name, arguments } => {
                    let sent = self.ids.assign(&id);
                    characters += arguments.len();
                    recorded.push((id, sent.clone()));
                    answer.calls.push(Call { id: sent, name, arguments });
                }
            }
        }
        if let Some(reasoning) = &mut answer.reasoning {
            reasoning.text = thoughts.join("\n");
        }
        if answer.text.is_empty() && answer.calls.is_empty() && answer.reasoning.is_none() {
            return;
        }
        characters += answer.text.len() + answer.reasoning.as_ref().map_or(0, |reasoning| reasoning.text.len());
        if total_tokens > 0 {
            self.out.estimated_tokens = total_tokens;
        } else {
            self.count(characters);
        }
        self.open = recorded;
        self.out.turns.push(Turn::Assistant(answer));
    }

    /// Gives every call that was never answered a result, because the service demands one.
    fn answer_open_calls(&mut self) {
        for (_, call_id) in std::mem::take(&mut self.open) {
            let parts = vec![Part::Text("No result provided".to_owned())];
            self.out.turns.push(Turn::ToolResult { call_id, parts, is_error: true });
        }
        let held = std::mem::take(&mut self.held_back);
        self.out.turns.extend(held);
    }

    /// Drops blank text; replaces each run of images by one note where the model takes none.
    fn parts(&self, parts: Vec<Part<'a>>, omitted: &str) -> Vec<Part<'a>> {
        let mut kept: Vec<Part<'a>> = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Part::Text(text) if text.trim().is_empty() => {}
                Part::Image { .. } if !self.accepts_images => {
                    if !matches!(kept.last(), Some(Part::Text(last)) if last == omitted) {
                        kept.push(Part::Text(omitted.to_owned()));
                    }
                }
                part => kept.push(part),
            }
        }
        kept
    }

    fn push(&mut self, turn: Turn<'a>) {
        if let Turn::User(parts) = &turn {
            self.count(parts.iter().map(weight).sum());
        }
        self.out.turns.push(turn);
    }

    fn count(&mut self, characters: usize) {
        self.out.estimated_tokens += characters.div_ceil(4) as u64;
    }
}

/// Characters that a part counts for in the token estimate; an image counts like Pi counts it (pi-extension §3.6).
fn weight(part: &Part<'_>) -> usize {
    match part {
        Part::Text(text) => text.len(),
        Part::Image { .. } => 4800,
    }
}

/// Hands out ids: safe characters, at most 64 of them, unique in the request although Moonshot's models count `Read:0`,
/// `Read:1` anew in every answer (protocol reference §6.4, rules 6 and 7).
#[derive(Default)]
struct CallIds {
    used: HashSet<String>,
    repeats: HashMap<String, u32>,
}

impl CallIds {
    fn assign(&mut self, recorded: &str) -> String {
        let safe: String = recorded
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' })
            .take(MAX_ID)
            .collect();
        let base = if safe.is_empty() { "tool_call".to_owned() } else { safe };
        if self.used.insert(base.clone()) {
            return base;
        }
        let count = self.repeats.entry(base.clone()).or_insert(1);
        loop {
            *count += 1;
            let suffix = format!("__{count}");
            let id = format!("{}{suffix}", &base[..base.len().min(MAX_ID - suffix.len())]);
            if self.used.insert(id.clone()) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(json: &str) -> Conversation<'static> {
        let json: &'static str = Box::leak(json.to_owned().into_boxed_str());
        repair(Transcript::parse(json, &[]).unwrap(), true)
    }

    fn shape(conversation: &Conversation<'_>) -> Vec<String> {
        conversation
            .turns
            .iter()
            .map(|turn| match turn {
                Turn::System(text) => format!("system:{text}"),
                Turn::User(parts) => format!("user:{}", parts.len()),
                Turn::Assistant(answer) => {
                    let ids: Vec<&str> = answer.calls.iter().map(|call| call.id.as_str()).collect();
                    format!("assistant:{}[{}]", answer.text, ids.join(","))
                }
                Turn::ToolResult { call_id, is_error, .. } => format!("result:{call_id}:{is_error}"),
            })
            .collect()
    }

    const CALL: &str = r#"{"role":"assistant","provider":"kimi-coding","model":"k3","stopReason":"toolUse","content":[{"type":"toolCall","id":"Read:0","name":"read","arguments":{}}]}"#;

    #[test]
    fn a_call_without_a_result_gets_one() {
        let json =
            format!(r#"{{"messages":[{{"role":"user","content":"a"}},{CALL},{{"role":"user","content":"b"}}]}}"#);
        assert_eq!(shape(&repaired(&json)), ["user:1", "assistant:[Read_0]", "result:Read_0:true", "user:1"]);
    }

    #[test]
    fn a_result_without_a_call_is_left_out() {
        let json =
            r#"{"messages":[{"role":"user","content":"a"},{"role":"toolResult","toolCallId":"x","content":[]}]}"#;
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
        let conversation = repair(Transcript::parse(json, &[]).unwrap(), false);
        assert_eq!(shape(&conversation), ["user:2"]);
    }

    #[test]
    fn tools_follow_their_additions_and_removals() {
        let json = r#"{"messages":[{"role":"system","content":"s","toolsAdded":[{"name":"a"},{"name":"b"}]},
            {"role":"system","content":"","toolsAdded":[{"name":"c"}],"toolsRemoved":[{"name":"a"}]}]}"#;
        let names: Vec<String> = repaired(json).tools.into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, ["b", "c"]);
    }
}

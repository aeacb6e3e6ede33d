//! Puts the results of tool calls where the service requires them: one for every call, right behind the answer that calls.

use std::borrow::Cow;

use super::conversation::Item;
use crate::chat::request::transcript::{Message, Part};

/// Pi's text for a result that never came.
const NO_RESULT: &str = "No result provided";

/// The calls of the last answer, and what waits for their results.
#[derive(Default)]
pub(super) struct OpenCalls<'a> {
    /// Calls that have no result yet: recorded id → id in this request.
    calls: Vec<(Cow<'a, str>, String)>,
    /// Messages that arrived between a call and its results.
    held_back: Vec<Item<'a>>,
}

impl<'a> OpenCalls<'a> {
    /// Begins with the calls of an answer.
    pub fn begin(&mut self, calls: Vec<(Cow<'a, str>, String)>) {
        self.calls = calls;
    }

    /// Returns the id that is sent for the call of a result. A result without its call would be refused, and so would a second one.
    pub fn take(&mut self, recorded_id: &str) -> Option<String> {
        let at = self.calls.iter().position(|(recorded, _)| recorded == recorded_id)?;
        Some(self.calls.remove(at).1)
    }

    /// Adds the result of a call that was taken.
    pub fn add_result(&mut self, result: Item<'a>, turns: &mut Vec<Item<'a>>) {
        turns.push(result);
        self.release(turns);
    }

    /// Returns whether one of the open calls gets its result before the next answer.
    pub fn result_follows<'m>(&self, rest: impl Iterator<Item = &'m Message<'a>>) -> bool
    where
        'a: 'm,
    {
        !self.calls.is_empty()
            && rest.take_while(|message| !matches!(message, Message::Assistant(_))).any(|message| {
                matches!(message, Message::ToolResult { call_id, .. }
                        if self.calls.iter().any(|(recorded, _)| recorded == call_id))
            })
    }

    /// Adds a result to every call without one, because the service requires it.
    pub fn answer_all(&mut self, turns: &mut Vec<Item<'a>>) {
        for (_, call_id) in std::mem::take(&mut self.calls) {
            turns.push(Item::ToolResult { call_id, parts: vec![Part::Text(NO_RESULT.into())], is_error: true });
        }
        self.release(turns);
    }

    /// Adds a message, or holds it back while a call waits for its results: nothing may stand between them.
    pub fn place(&mut self, turn: Item<'a>, turns: &mut Vec<Item<'a>>) {
        if self.calls.is_empty() { turns.push(turn) } else { self.held_back.push(turn) }
    }

    fn release(&mut self, turns: &mut Vec<Item<'a>>) {
        if self.calls.is_empty() {
            turns.append(&mut self.held_back);
        }
    }
}

//! A refusal that names its rejected_item.
//!
//! Repair keeps out what is known to be refused. Where the service still refuses a request and says which message or that
//! an image is at fault, the request is worth one more try without that item: otherwise the same item would fail every
//! later request of the session (docs/protocol.md#messages). Pictures that were left out once stay out (see `memory`).

mod memory;

use super::normalize::{AssistantBlock, AssistantItem, Conversation, Item};
use super::transcript::Part;
use crate::chat::anthropic;
use crate::config::Dialect;
use crate::error::{Error, ErrorKind, clip};

use self::memory::leave_out;
pub use self::memory::{ImageKey, RejectionCache};

/// What was done about a refusal.
#[derive(Debug)]
pub struct Removal {
    /// For the person.
    pub note: String,
    /// The images that were left out and shall stay out. Empty where it is a guess which image was meant.
    pub refused: Vec<ImageKey>,
}

/// What a refusal is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedItem {
    /// Position in the body's list of messages.
    message: Option<usize>,
    image: bool,
    /// The service's words.
    reason: String,
}

impl RejectedItem {
    /// Reads a refusal; `None` if it names nothing that could be left out.
    pub fn of(error: &Error) -> Option<Self> {
        if !matches!(error.kind, ErrorKind::BadMedia | ErrorKind::BadRequest)
            || !matches!(error.status, Some(400 | 422))
        {
            return None;
        }
        let image = error.kind == ErrorKind::BadMedia;
        let message = position(&error.message);
        (image || message.is_some()).then(|| Self { message, image, reason: clip(&error.message, 200) })
    }

    /// The item is not in the conversation.
    pub fn nowhere(&self) -> Error {
        Error::new(ErrorKind::BadRequest, self.reason.clone())
    }

    /// Whether `later`, the refusal of a request without this item, is about something else.
    pub fn is_resolved_by(&self, later: &Self) -> bool {
        self.message != later.message
    }

    /// Puts a short text in the item's place; `None` if the item is not there. Of a refusal that names no place, the images
    /// are at fault that the service has never taken. If it has taken all of them, none can stay, but none is known to be bad.
    pub fn replace(
        &self,
        conversation: &mut Conversation<'_>,
        dialect: Dialect,
        memory: &RejectionCache,
    ) -> Option<Removal> {
        let turns = &mut conversation.turns;
        let named = self.message.and_then(|message| match dialect {
            Dialect::OpenAi => (message < turns.len()).then(|| message..message + 1),
            Dialect::Anthropic => anthropic::turns_of_messages(turns).nth(message),
        });
        if self.image {
            let mut left_out = named.map_or_else(Vec::new, |range| leave_out(&mut turns[range], |_| true));
            if left_out.is_empty() {
                left_out = leave_out(turns, |image| !memory.has_taken(image));
            }
            let suspected = !left_out.is_empty();
            if !suspected {
                left_out = leave_out(turns, |_| true);
            }
            return (!left_out.is_empty()).then(|| {
                let what = if left_out.len() == 1 { "an image was" } else { "images were" };
                let note = format!("Kimi refused the request ({}); {what} left out of it.", self.reason);
                Removal { note, refused: if suspected { left_out } else { Vec::new() } }
            });
        }
        let named = named?;
        for turn in &mut turns[named.clone()] {
            blank(turn);
        }
        drop_stray_results(turns);
        let position = self.message.unwrap_or_default();
        let note = format!("Kimi refused message {position} of the conversation ({}); it was left out.", self.reason);
        Some(Removal { note, refused: Vec::new() })
    }
}

/// `position 3`, `index 3`, `messages[3]`, `messages.3`.
fn position(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    ["at position ", "message at index ", "messages[", "messages."].into_iter().find_map(|lead| {
        let rest = &lower[lower.find(lead)? + lead.len()..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok()
    })
}

const LEFT_OUT: &str = "(This message was left out because the service refused it.)";
const IMAGE_LEFT_OUT: &str = "(image left out: the service refused it)";

fn blank(turn: &mut Item<'_>) {
    match turn {
        Item::System(text) => *text = LEFT_OUT.into(),
        // Without these tools the request is poorer, with them it fails.
        Item::Tools(_) => *turn = Item::System(LEFT_OUT.into()),
        Item::User(parts) | Item::ToolResult { parts, .. } => *parts = vec![Part::Text(LEFT_OUT.into())],
        Item::Assistant(answer) => *answer = AssistantItem { blocks: vec![AssistantBlock::Text(LEFT_OUT.into())] },
    }
}

/// An answer that was replaced has no calls any more, so its results must go as well.
fn drop_stray_results(turns: &mut Vec<Item<'_>>) {
    let mut calls: Vec<String> = Vec::new();
    turns.retain(|turn| match turn {
        Item::Assistant(answer) => {
            let ids = answer.blocks.iter().filter_map(|block| match block {
                AssistantBlock::Call { id, .. } => Some(id.clone()),
                _ => None,
            });
            calls = ids.collect();
            true
        }
        Item::ToolResult { call_id, .. } => calls.contains(call_id),
        _ => true,
    });
}

fn parts_of<'t, 'a>(turn: &'t mut Item<'a>) -> Option<&'t mut Vec<Part<'a>>> {
    match turn {
        Item::User(parts) | Item::ToolResult { parts, .. } => Some(parts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::request::normalize::{Target, repair};
    use crate::chat::request::transcript::Transcript;
    use crate::error::from_response;

    const CONTEXT: &str = r#"{"messages":[{"role":"system","content":"s"},
        {"role":"user","content":[{"type":"text","text":"see"},{"type":"image","mimeType":"image/png","data":"aGk="}]},
        {"role":"assistant","provider":"kimi-coding","stopReason":"toolUse","content":[{"type":"toolCall","id":"a","name":"t","arguments":{}}]},
        {"role":"toolResult","toolCallId":"a","content":[{"type":"text","text":"r"}]},{"role":"user","content":"go"}]}"#;

    fn refused(text: &str) -> Option<RejectedItem> {
        RejectedItem::of(&from_response(400, &format!(r#"{{"error":{{"message":"{text}"}}}}"#), None, None))
    }

    fn replaced(rejected_item: &RejectedItem, dialect: Dialect) -> (Vec<String>, Option<String>) {
        let target = Target { images: true, anthropic: dialect == Dialect::Anthropic, ..Target::default() };
        let mut conversation = repair(Transcript::parse(CONTEXT, &[]).unwrap(), target);
        let note =
            rejected_item.replace(&mut conversation, dialect, &RejectionCache::default()).map(|remedy| remedy.note);
        let kinds = conversation.turns.iter().map(|turn| match turn {
            Item::System(text) => format!("system {text}"),
            Item::Tools(_) => "tools".to_owned(),
            Item::User(parts) => format!("user {parts:?}"),
            Item::Assistant(answer) => format!("assistant {:?}", answer.blocks),
            Item::ToolResult { parts, .. } => format!("result {parts:?}"),
        });
        (kinds.collect(), note)
    }

    #[test]
    fn a_refused_answer_goes_with_its_results() {
        let rejected_item = refused("the message at position 2 with role 'assistant' must not be empty").unwrap();
        let (turns, note) = replaced(&rejected_item, Dialect::OpenAi);
        assert_eq!(turns.len(), 4);
        assert!(turns[2].contains(LEFT_OUT) && turns[3].starts_with("user"));
        assert!(note.unwrap().contains("refused message 2"));
    }

    #[test]
    fn positions_are_those_of_the_body_in_each_dialect() {
        let rejected_item =
            refused("thinking is enabled but reasoning_content is missing in assistant tool call message at index 1")
                .unwrap();
        assert!(replaced(&rejected_item, Dialect::OpenAi).0[1].contains(LEFT_OUT));
        assert!(replaced(&rejected_item, Dialect::Anthropic).0[2].contains(LEFT_OUT));
        assert_eq!(replaced(&refused("messages[99] is odd").unwrap(), Dialect::OpenAi).1, None);
    }

    #[test]
    fn a_refused_image_becomes_a_word() {
        let rejected_item = refused("Invalid request: unsupported image format").unwrap();
        let (turns, note) = replaced(&rejected_item, Dialect::OpenAi);
        assert!(turns[1].contains("see") && turns[1].contains(IMAGE_LEFT_OUT));
        assert!(note.unwrap().contains("an image was left out"));
    }

    #[test]
    fn a_refused_image_stays_out_and_one_that_was_taken_stays_in() {
        const TWO: &str = r#"{"messages":[
            {"role":"user","content":[{"type":"image","mimeType":"image/png","data":"b2xk"}]},
            {"role":"user","content":[{"type":"image","mimeType":"image/png","data":"bmV3"}]}]}"#;
        let target = Target { images: true, ..Target::default() };
        let repaired = || repair(Transcript::parse(TWO, &[]).unwrap(), target);
        let images = ImageKey::all(&repaired().turns);
        let session = Some("a refused image stays out");
        RejectionCache::learn(session, &images[..1], &[]);
        let rejected_item = refused("Invalid request: unsupported image format").unwrap();
        let mut healed = repaired();
        let remedy = rejected_item.replace(&mut healed, Dialect::OpenAi, &RejectionCache::of(session)).unwrap();
        assert_eq!(remedy.refused, images[1..]);
        RejectionCache::learn(session, &ImageKey::all(&healed.turns), &remedy.refused);
        let mut next = repaired();
        RejectionCache::of(session).apply(&mut next.turns);
        assert_eq!(format!("{:?}", next.turns), format!("{:?}", healed.turns));
        let remedy = rejected_item.replace(&mut next, Dialect::OpenAi, &RejectionCache::of(session)).unwrap();
        assert!(ImageKey::all(&next.turns).is_empty(), "refused all the same, so none can stay");
        assert!(remedy.refused.is_empty(), "but this one was taken before, so it may come back");
    }

    #[test]
    fn a_second_refusal_of_something_else_settles_the_first() {
        let at = |place: &str| refused(&format!("unsupported image{place}")).unwrap();
        assert!(at(" in messages[1]").is_resolved_by(&at(" in messages[2]")));
        assert!(at(" in messages[1]").is_resolved_by(&at("")) && at("").is_resolved_by(&at(" in messages[2]")));
        assert!(!at(" in messages[1]").is_resolved_by(&at(" in messages[1]")) && !at("").is_resolved_by(&at("")));
    }

    #[test]
    fn a_refusal_that_names_nothing_is_left_alone() {
        assert_eq!(refused("Invalid request: model is required"), None);
        assert_eq!(RejectedItem::of(&from_response(500, "at position 3", None, None)), None);
    }
}

//! Retries a rejected request without the item the service named.
//!
//! Normalization keeps out what is known to be refused. If the service still refuses a request and names a message or an image,
//! the request is sent once more without that item, because the item would fail every later request of the session
//! (docs/protocol.md#messages). The service names one item at a time, so if it then refuses another image, all images that it never
//! accepted go at once, and the request is sent a last time. Images that were left out once stay out. A parameter that the service refuses is left out too
//! ([`parameters`]).

mod cache;
mod images;
pub mod parameters;
mod videos;

use super::normalize::{AssistantBlock, AssistantItem, Conversation, Item};
use super::transcript::Part;
use crate::chat::anthropic;
use crate::config::Dialect;
use crate::error::{Error, ErrorKind, clip};

pub use self::cache::{RejectionCache, SessionRejections};
pub use self::images::ImageKey;
use self::images::leave_out;
pub use self::videos::is_video_refusal;

/// What was removed from a refused request.
#[derive(Debug)]
pub struct Removal {
    /// Note for the user.
    pub note: String,
    /// The images that stay out from now on. Empty if it is a guess which image was meant.
    pub refused: Vec<ImageKey>,
}

/// The item that the service refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedItem {
    /// Position in the body's list of messages.
    message: Option<usize>,
    image: bool,
    /// The images that the service never accepted go as well.
    with_suspects: bool,
    /// The service's message.
    reason: String,
}

impl RejectedItem {
    /// Reads a refusal; `None` if it names nothing that can be left out.
    pub fn of(error: &Error) -> Option<Self> {
        if !matches!(error.kind, ErrorKind::BadMedia | ErrorKind::BadRequest)
            || !matches!(error.status, Some(400 | 422))
        {
            return None;
        }
        let image = error.kind == ErrorKind::BadMedia;
        let message = position(&error.message);
        let reason = clip(&error.message, 200);
        (image || message.is_some()).then_some(Self { message, image, with_suspects: false, reason })
    }

    /// Returns the error for an item that is not in the conversation.
    pub fn nowhere(&self) -> Error {
        Error::new(ErrorKind::BadRequest, self.reason.clone())
    }

    /// Whether this is an image.
    pub fn is_image(&self) -> bool {
        self.image
    }

    /// Returns the same item together with all images that the service never accepted.
    pub fn with_suspects(self) -> Self {
        Self { with_suspects: true, ..self }
    }

    /// Returns whether `later`, the refusal of a request without this item, is about another one.
    pub fn is_resolved_by(&self, later: &Self) -> bool {
        self.message != later.message
    }

    /// Replaces the item by a note; `None` if the item is not there.
    ///
    /// If the refusal names no position, the images that the service never accepted are replaced. If it accepted all of them
    /// before, all are replaced for this request only.
    pub fn replace(
        &self,
        conversation: &mut Conversation<'_>,
        dialect: Dialect,
        cache: &RejectionCache,
    ) -> Option<Removal> {
        let turns = &mut conversation.turns;
        let named = self.message.and_then(|message| match dialect {
            Dialect::OpenAi => (message < turns.len()).then(|| message..message + 1),
            Dialect::Anthropic => anthropic::turns_of_messages(turns).nth(message),
        });
        if self.image {
            let mut left_out = named.map_or_else(Vec::new, |range| leave_out(&mut turns[range], |_| true));
            let mut refused = left_out.clone();
            if left_out.is_empty() || self.with_suspects {
                left_out.extend(leave_out(turns, |image| !cache.has_accepted(image)));
            }
            if refused.is_empty() {
                refused.clone_from(&left_out);
            }
            if left_out.is_empty() {
                left_out = leave_out(turns, |_| true);
            }
            return (!left_out.is_empty()).then(|| {
                let what = if left_out.len() == 1 { "an image was" } else { "images were" };
                let cure = if left_out.iter().any(ImageKey::is_web_address) { WEB_ADDRESS_CURE } else { "" };
                let note = format!("Kimi refused the request ({}); {what} left out of it.{cure}", self.reason);
                Removal { note, refused }
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

/// Reads the position from `position 3`, `index 3`, `messages[3]` or `messages.3`.
fn position(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    ["at position ", "message at index ", "messages[", "messages."].into_iter().find_map(|lead| {
        let rest = &lower[lower.find(lead)? + lead.len()..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok()
    })
}

/// What to do about a refused web address (docs/protocol.md#messages).
const WEB_ADDRESS_CURE: &str = " The service often refuses web addresses: upload the file and refer to it instead.";

/// Replaces a rejected message.
const LEFT_OUT: &str = "(This message was left out because the service refused it.)";

fn blank(turn: &mut Item<'_>) {
    match turn {
        Item::System(text) => *text = LEFT_OUT.into(),
        // The request fails with these tools and works without them.
        Item::Tools(_) => *turn = Item::System(LEFT_OUT.into()),
        Item::User(parts) | Item::ToolResult { parts, .. } => *parts = vec![Part::Text(LEFT_OUT.into())],
        Item::Assistant(answer) => *answer = AssistantItem { blocks: vec![AssistantBlock::Text(LEFT_OUT.into())] },
    }
}

/// Removes the results of answers that were replaced and so have no calls anymore.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::request::normalize::{Target, normalize};
    use crate::chat::request::tool_schema::SchemaCache;
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
        let mut conversation = normalize(Transcript::parse(CONTEXT, &[]).unwrap(), target, &SchemaCache::default());
        let note =
            rejected_item.replace(&mut conversation, dialect, &RejectionCache::default()).map(|removal| removal.note);
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
    fn refused_answer_is_left_out_with_its_results() {
        let rejected_item = refused("the message at position 2 with role 'assistant' must not be empty").unwrap();
        let (turns, note) = replaced(&rejected_item, Dialect::OpenAi);
        assert_eq!(turns.len(), 4);
        assert!(turns[2].contains(LEFT_OUT) && turns[3].starts_with("user"));
        assert!(note.unwrap().contains("refused message 2"));
    }

    #[test]
    fn positions_refer_to_the_body_of_each_dialect() {
        let rejected_item =
            refused("thinking is enabled but reasoning_content is missing in assistant tool call message at index 1")
                .unwrap();
        assert!(replaced(&rejected_item, Dialect::OpenAi).0[1].contains(LEFT_OUT));
        assert!(replaced(&rejected_item, Dialect::Anthropic).0[2].contains(LEFT_OUT));
        assert_eq!(replaced(&refused("messages[99] is odd").unwrap(), Dialect::OpenAi).1, None);
    }

    #[test]
    fn refused_image_becomes_a_note() {
        let rejected_item = refused("Invalid request: unsupported image format").unwrap();
        let (turns, note) = replaced(&rejected_item, Dialect::OpenAi);
        assert!(turns[1].contains("see") && turns[1].contains("(image left out: the service refused it)"));
        assert!(note.unwrap().contains("an image was left out"));
    }

    #[test]
    fn refused_image_stays_out_and_an_accepted_one_stays_in() {
        const TWO: &str = r#"{"messages":[
            {"role":"user","content":[{"type":"image","mimeType":"image/png","data":"b2xk"}]},
            {"role":"user","content":[{"type":"image","mimeType":"image/png","data":"bmV3"}]}]}"#;
        let target = Target { images: true, ..Target::default() };
        let normalized = || normalize(Transcript::parse(TWO, &[]).unwrap(), target, &SchemaCache::default());
        let images = ImageKey::all(&normalized().turns);
        let sessions = SessionRejections::default();
        let session = Some("s");
        sessions.learn(session, &images[..1], &[]);
        let rejected_item = refused("Invalid request: unsupported image format").unwrap();
        let mut second = normalized();
        let removal = rejected_item.replace(&mut second, Dialect::OpenAi, &sessions.of(session)).unwrap();
        assert_eq!(removal.refused, images[1..]);
        sessions.learn(session, &ImageKey::all(&second.turns), &removal.refused);
        let mut next = normalized();
        sessions.of(session).apply(&mut next.turns);
        assert_eq!(format!("{:?}", next.turns), format!("{:?}", second.turns));
        let removal = rejected_item.replace(&mut next, Dialect::OpenAi, &sessions.of(session)).unwrap();
        assert!(ImageKey::all(&next.turns).is_empty(), "refused again, so none can stay");
        assert!(removal.refused.is_empty(), "accepted before, so it may come back");
    }

    #[test]
    fn second_refusal_of_another_item_confirms_the_first() {
        let at = |place: &str| refused(&format!("unsupported image{place}")).unwrap();
        assert!(at(" in messages[1]").is_resolved_by(&at(" in messages[2]")));
        assert!(at(" in messages[1]").is_resolved_by(&at("")) && at("").is_resolved_by(&at(" in messages[2]")));
        assert!(!at(" in messages[1]").is_resolved_by(&at(" in messages[1]")) && !at("").is_resolved_by(&at("")));
    }

    #[test]
    fn refusal_that_names_nothing_is_not_handled() {
        assert_eq!(refused("Invalid request: model is required"), None);
        assert_eq!(RejectedItem::of(&from_response(500, "at position 3", None, None)), None);
    }
}

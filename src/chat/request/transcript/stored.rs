//! References to uploaded media in a conversation (docs/architecture.md#media-by-reference).

use super::{Message, Part, Transcript};
use crate::files::{StoredMedia, markers, omitted, split_markers};

impl<'a> Transcript<'a> {
    /// Lists the contents that the conversation refers to, each once. Only results of our own tool name a path.
    pub fn stored_media(&self) -> Vec<StoredMedia> {
        let mut list: Vec<StoredMedia> = Vec::new();
        let in_messages = self.messages.iter().flat_map(|message| match message {
            Message::User(parts) => parts.iter().flat_map(references).collect(),
            _ => Vec::new(),
        });
        for media in self.recorded_media.iter().cloned().chain(in_messages) {
            if !list.iter().any(|known| (known.digest, known.kind) == (media.digest, media.kind)) {
                list.push(media);
            }
        }
        list
    }

    /// Replaces references by the addresses that `link` returns. Without an address a result keeps its text, and a marker stays as
    /// the user wrote it.
    pub fn resolve_stored(&mut self, link: impl Fn(&StoredMedia) -> Option<String>) {
        for message in &mut self.messages {
            match message {
                Message::User(parts) => {
                    *parts = std::mem::take(parts).into_iter().flat_map(|part| resolve(part, true, &link)).collect();
                }
                Message::ToolResult { parts, .. } => {
                    *parts = std::mem::take(parts).into_iter().flat_map(|part| resolve(part, false, &link)).collect();
                }
                Message::System { .. } | Message::Assistant(_) => {}
            }
        }
    }
}

fn references(part: &Part<'_>) -> Vec<StoredMedia> {
    match part {
        Part::Text(text) => markers(text),
        Part::Link { url, .. } => StoredMedia::of_address(url).into_iter().collect(),
        Part::Media { .. } | Part::MediaRef(_) => Vec::new(),
    }
}

/// Resolves one part of a user's message or of a result, whose texts tools have written.
fn resolve<'a>(part: Part<'a>, from_user: bool, link: &impl Fn(&StoredMedia) -> Option<String>) -> Vec<Part<'a>> {
    match part {
        Part::Text(text) if from_user => {
            let (shown, found) = split_markers(&text, |media| link(media).is_some());
            if found.is_empty() {
                return vec![Part::Text(text)];
            }
            let shown = shown.into_owned();
            let links =
                found.iter().filter_map(|media| Some(Part::Link { kind: media.kind, url: link(media)?.into() }));
            std::iter::once(Part::Text(shown.into())).chain(links).collect()
        }
        Part::Link { kind, url } => match StoredMedia::of_address(&url) {
            None => vec![Part::Link { kind, url }],
            Some(media) => match link(&media) {
                Some(address) => vec![Part::Link { kind, url: address.into() }],
                None if from_user => vec![Part::Text(omitted(kind, "this account does not know it").into())],
                None => Vec::new(),
            },
        },
        part => vec![part],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    const PATH: &str = if cfg!(windows) { "C:/videos/demo.mp4" } else { "/videos/demo.mp4" };

    fn conversation(content: &str, tool: &str) -> String {
        format!(
            r#"{{"messages":[{{"role":"user","content":"{content}"}},
            {{"role":"assistant","content":[{{"type":"toolCall","id":"a","name":"{tool}","arguments":{{}}}}]}},
            {{"role":"toolResult","toolCallId":"a","toolName":"{tool}","content":[{{"type":"text","text":"{content}"}}],
              "details":{{"kimiMedia":{{"kind":"video","digest":"{DIGEST}","mime":"video/mp4","bytes":5,"path":"{PATH}"}}}}}}]}}"#
        )
    }

    fn parts(json: &str, known: bool) -> Vec<Vec<String>> {
        let mut transcript = Transcript::parse(json, &[]).unwrap();
        transcript.resolve_stored(|media| known.then(|| format!("ms://{}", media.kind.word())));
        let shown = |part: &Part<'_>| match part {
            Part::Text(text) => text.to_string(),
            Part::Link { url, .. } => format!("<{url}>"),
            part => format!("{part:?}"),
        };
        let of_message = |message: &Message<'_>| match message {
            Message::User(parts) | Message::ToolResult { parts, .. } => Some(parts.iter().map(shown).collect()),
            _ => None,
        };
        transcript.messages.iter().filter_map(of_message).collect()
    }

    #[test]
    fn stored_media_of_user_and_tool_become_links_beside_their_text() {
        let marker = format!("what flickers in [video demo.mp4, 5 bytes](kimi-media:video:{DIGEST})?");
        let json = conversation(&marker, "kimi_read_media");
        let listed = Transcript::parse(&json, &[]).unwrap().stored_media();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].path.as_deref(), Some(std::path::Path::new(PATH)));
        let shown = "what flickers in [video demo.mp4, 5 bytes]?".to_owned();
        assert_eq!(
            parts(&json, true),
            [vec![shown, "<ms://video>".to_owned()], vec![marker.clone(), "<ms://video>".to_owned()]]
        );
        assert_eq!(parts(&json, false), [vec![marker.clone()], vec![marker]], "unknown contents stay text");
    }

    #[test]
    fn stored_media_of_other_tools_are_ignored() {
        let json = conversation("a clip", "bash");
        assert_eq!(Transcript::parse(&json, &[]).unwrap().stored_media(), []);
        assert_eq!(parts(&json, true), [vec!["a clip"], vec!["a clip"]]);
    }

    #[test]
    fn stored_media_in_a_failed_result_are_ignored() {
        let json = conversation("a clip", "kimi_read_media").replace(r#""toolName""#, r#""isError":true,"toolName""#);
        assert_eq!(Transcript::parse(&json, &[]).unwrap().stored_media(), []);
    }
}

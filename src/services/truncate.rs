//! The result of a tool call, cut to what a model should read at once; the whole text goes to a file.
//!
//! The limits are Pi's own, passed by JavaScript. Text is cut here because splitting megabytes into lines would freeze the
//! screen. Where Pi's helper returns nothing for a first line that is too long, this one returns the beginning of the line:
//! extracted pages are often a single line.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::display_text::{tool_size, visible};
use crate::http::redact::KnownSecrets;
use crate::storage::private_file::create_private_file;

/// Limits of the text that is returned, and the directory for longer ones.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// Bytes of UTF-8.
    pub bytes: usize,
    /// Number of lines.
    pub lines: usize,
    /// Directory for the whole text.
    pub directory: PathBuf,
}

/// The result of a tool call.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The answer, or its beginning where the caller set a limit.
    pub text: String,
    /// Members for the caller: `results`, `files`, `sources` …
    pub details: Map<String, Value>,
    /// Sentences for the model beside the text, in order.
    pub notes: Vec<String>,
}

impl Outcome {
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.details.insert(name.to_owned(), value.into());
    }

    /// Sets the text, safe to print and cut to the limit. `tool` and `extension` name the file with the whole text.
    pub(super) fn set_text(&mut self, text: String, limit: Option<&Limit>, tool: &str, extension: &str) {
        let text = visible(&without_credentials(text)).into_owned();
        let total = text.lines().count();
        self.set("lines", total);
        self.set("bytes", text.len());
        let Some(limit) = limit else {
            self.text = text;
            return;
        };
        let end = cut(&text, limit);
        if end == text.len() {
            self.text = text;
            return;
        }
        let shown = &text[..end];
        let location = match save(&text, &limit.directory, tool, extension) {
            Ok(path) => {
                let path = path.display().to_string();
                let location = format!("Full output saved to: {path}");
                self.set("fullOutputPath", path);
                location
            }
            Err(error) => format!("The full output could not be saved: {error}"),
        };
        self.set("truncated", true);
        self.notes.push(format!(
            "[Output truncated: {} of {total} lines ({} of {}) shown. {location}]",
            shown.lines().count(),
            tool_size(shown.len()),
            tool_size(text.len()),
        ));
        self.text = shown.to_owned();
    }
}

/// Removes our own credentials from a text of the service. The body was searched before, but JSON may write them with escapes.
pub fn without_credentials(text: String) -> String {
    String::from_utf8(KnownSecrets::shared().scrub(text.into_bytes()))
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Finds where to cut: after the last line that fits, or inside the first line if that is too long.
fn cut(text: &str, limit: &Limit) -> usize {
    let mut end = 0;
    for (count, line) in text.split_inclusive('\n').enumerate() {
        let last = line.trim_end_matches('\n').len();
        if count == limit.lines || end + last > limit.bytes {
            if count == 0 {
                return floor_char_boundary(text, limit.bytes);
            }
            // Without the newline before the cut.
            return end - 1;
        }
        end += line.len();
    }
    text.len()
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn save(text: &str, directory: &Path, tool: &str, extension: &str) -> std::io::Result<PathBuf> {
    let path = directory.join(format!("pi-{tool}-{:016x}.{extension}", rand::random::<u64>()));
    create_private_file(&path)?.write_all(text.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(bytes: usize, lines: usize) -> Limit {
        Limit { bytes, lines, directory: std::env::temp_dir() }
    }

    fn cut_to(text: &str, limit: &Limit) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.set_text(text.to_owned(), Some(limit), "truncate_test", "md");
        outcome
    }

    #[test]
    fn text_within_the_limit_is_returned_whole() {
        for text in ["", "one", "one\ntwo\n", "一\n二"] {
            let outcome = cut_to(text, &limit(20, 2));
            assert_eq!(outcome.text, text);
            assert!(outcome.notes.is_empty());
        }
    }

    #[test]
    fn text_beyond_the_limit_keeps_whole_lines_and_is_saved_in_a_private_file() {
        let text = "first\nsecond\nthird\n";
        let outcome = cut_to(text, &limit(13, 10));
        assert_eq!(outcome.text, "first\nsecond");
        let path = outcome.details["fullOutputPath"].as_str().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777,
            0o600
        );
        std::fs::remove_file(path).unwrap();
        assert_eq!(
            outcome.notes[0],
            format!("[Output truncated: 2 of 3 lines (12B of 19B) shown. Full output saved to: {path}]")
        );
        assert_eq!(cut_to(text, &limit(1000, 1)).text, "first");
    }

    #[test]
    fn single_long_line_is_cut_between_characters() {
        let outcome = cut_to(&"汉字".repeat(100), &limit(10, 10));
        assert_eq!(outcome.text, "汉字汉");
        std::fs::remove_file(outcome.details["fullOutputPath"].as_str().unwrap()).unwrap();
    }

    #[test]
    fn directory_that_cannot_be_written_the_text_is_still_cut() {
        let outcome = cut_to("a\nb\nc", &Limit { directory: "/nonexistent/directory".into(), ..limit(3, 10) });
        assert_eq!(outcome.text, "a\nb");
        assert!(outcome.notes[0].contains("could not be saved"), "{:?}", outcome.notes);
    }
}

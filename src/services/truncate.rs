//! As much of a long text as a model should read at once; the whole of it goes to a file.
//!
//! The limits are Pi's own, handed over by JavaScript. Cutting happens here because splitting megabytes into lines would
//! freeze the screen. Where Pi's helper gives nothing for a first line that is too long, this one gives the beginning of
//! the line: extracted pages are often a single one.

use std::io::Write;
use std::path::{Path, PathBuf};

use rand::Rng;
use serde::Deserialize;

use super::call::Outcome;
use crate::storage::private_file::create_private_file;

/// How much a caller can take, and where the rest goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// Bytes of UTF-8.
    pub bytes: usize,
    /// Lines.
    pub lines: usize,
    /// Directory for the whole text.
    pub directory: PathBuf,
}

impl Outcome {
    /// Takes `text`, cut to the limit. `tool` and `extension` make the name of the file with the whole of it.
    pub(super) fn take_text(&mut self, text: String, limit: Option<&Limit>, tool: &str, extension: &str) {
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
        let place = match save(&text, &limit.directory, tool, extension) {
            Ok(path) => {
                let path = path.display().to_string();
                let place = format!("Full output saved to: {path}");
                self.set("fullOutputPath", path);
                place
            }
            Err(error) => format!("The full output could not be saved: {error}"),
        };
        self.set("truncated", true);
        self.notes.push(format!(
            "[Output truncated: {} of {total} lines ({} of {}) shown. {place}]",
            shown.lines().count(),
            size(shown.len()),
            size(text.len()),
        ));
        self.text = shown.to_owned();
    }
}

/// Where to cut: after the last line that fits, or inside the first one if not even that fits.
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
    let path = directory.join(format!("pi-{tool}-{:016x}.{extension}", rand::rng().random::<u64>()));
    create_private_file(&path)?.write_all(text.as_bytes())?;
    Ok(path)
}

/// A size as Pi writes it: `512B`, `1.2KB`, `5.0MB`.
pub fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.1}KB", bytes as f64 / 1024.0),
        _ => format!("{:.1}MB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(bytes: usize, lines: usize) -> Limit {
        Limit { bytes, lines, directory: std::env::temp_dir() }
    }

    fn taken(text: &str, limit: &Limit) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.take_text(text.to_owned(), Some(limit), "excerpt_test", "md");
        outcome
    }

    #[test]
    fn what_fits_is_passed_on_whole() {
        for text in ["", "one", "one\ntwo\n", "一\n二"] {
            let outcome = taken(text, &limit(20, 2));
            assert_eq!(outcome.text, text);
            assert!(outcome.notes.is_empty());
        }
    }

    #[test]
    fn lines_stay_whole_and_the_rest_is_in_a_file_of_our_own() {
        let text = "first\nsecond\nthird\n";
        let outcome = taken(text, &limit(13, 10));
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
        assert_eq!(taken(text, &limit(1000, 1)).text, "first");
    }

    #[test]
    fn one_endless_line_is_cut_between_characters() {
        let outcome = taken(&"汉字".repeat(100), &limit(10, 10));
        assert_eq!(outcome.text, "汉字汉");
        std::fs::remove_file(outcome.details["fullOutputPath"].as_str().unwrap()).unwrap();
    }

    #[test]
    fn a_directory_that_takes_no_file_loses_nothing_else() {
        let outcome = taken("a\nb\nc", &Limit { directory: "/nonexistent/directory".into(), ..limit(3, 10) });
        assert_eq!(outcome.text, "a\nb");
        assert!(outcome.notes[0].contains("could not be saved"), "{:?}", outcome.notes);
    }
}

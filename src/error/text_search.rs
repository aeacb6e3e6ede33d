//! Finds ideas in the texts of errors: phrases of words that may be inflected, numbers that may be words, English and Chinese.

/// A phrase of lower-case words. `exceed*` stands for every word that begins so, `?the` for a word that may be missing. A phrase
/// of Chinese characters is found anywhere.
pub type Phrase = &'static str;

/// An idea: of each group at least one phrase is in the text.
pub type Idea = &'static [&'static [Phrase]];

/// A text, prepared for the search.
pub struct Words {
    /// Words in lower case, numbers as digits, units of time in the singular.
    words: Vec<String>,
    /// The text in lower case without white space, where Chinese phrases are searched.
    dense: String,
}

impl Words {
    /// Prepares a text.
    pub fn of(text: &str) -> Self {
        let lower = text.to_lowercase();
        let mut words = Vec::new();
        for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            // `5h`, `7days`: digits and unit are two words.
            let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
            let (number, unit) = word.split_at(digits);
            words.extend([number, unit].into_iter().filter(|part| !part.is_empty()).map(|part| plain(part).to_owned()));
        }
        Self { words, dense: lower.split_whitespace().collect() }
    }

    /// Whether the text holds the idea.
    pub fn hold(&self, idea: Idea) -> bool {
        idea.iter().all(|group| group.iter().any(|phrase| self.has(phrase)))
    }

    /// Whether the text holds the phrase.
    pub fn has(&self, phrase: &str) -> bool {
        if !phrase.is_ascii() {
            return self.dense.contains(phrase);
        }
        self.english(phrase).next().is_some()
    }

    /// Returns where the text names a span of time as the name of something, and not as a wait: "in 5 hours", "5小时后". English
    /// comes before Chinese, whose positions have another unit.
    pub fn name_of_span(&self, phrase: &str) -> Option<(bool, usize)> {
        if !phrase.is_ascii() {
            let waits = |at: usize| self.dense[at + phrase.len()..].starts_with('后');
            return self.dense.match_indices(phrase).map(|(at, _)| (true, at)).find(|(_, at)| !waits(*at));
        }
        let waits = |at: usize| {
            let before = at.checked_sub(1).and_then(|before| self.words.get(before));
            before.is_some_and(|word| ["in", "after", "within", "another", "next", "a"].contains(&word.as_str()))
        };
        self.english(phrase).map(|at| (false, at)).find(|(_, at)| !waits(*at))
    }

    fn english(&self, phrase: &str) -> impl Iterator<Item = usize> {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        (0..self.words.len()).filter(move |at| starts(&self.words[*at..], &phrase))
    }
}

fn starts(words: &[String], phrase: &[&str]) -> bool {
    let Some((first, rest)) = phrase.split_first() else { return true };
    if let Some(optional) = first.strip_prefix('?') {
        return starts(words, rest) || words.first().is_some_and(|word| word == optional && starts(&words[1..], rest));
    }
    let Some(word) = words.first() else { return false };
    let same = first.strip_suffix('*').map_or(word == first, |beginning| word.starts_with(beginning));
    same && starts(&words[1..], rest)
}

/// Number words as digits, units of time in the singular.
fn plain(word: &str) -> &str {
    match word {
        "one" => "1",
        "five" => "5",
        "seven" => "7",
        "thirty" => "30",
        "h" | "hr" | "hrs" | "hours" | "hourly" => "hour",
        "d" | "days" => "day",
        "w" | "wk" | "weeks" => "week",
        "mo" | "months" => "month",
        "min" | "mins" | "minutes" => "minute",
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_found_in_inflected_words_numbers_and_chinese() {
        for (text, phrase) in [
            ("You have exceeded the maximum tokens", "exceed* ?the max* token*"),
            ("exceeding max token count", "exceed* ?the max* token*"),
            ("your 5-hour window", "5 hour"),
            ("your five-hours window", "5 hour"),
            ("the 5h limit", "5 hour"),
            ("a 7DAYS limit", "7 day"),
            ("您的 5 小时 额度", "5小时额度"),
        ] {
            assert!(Words::of(text).has(phrase), "{text}: {phrase}");
        }
        for (text, phrase) in [
            ("max_tokens exceeds 5", "exceed* ?the max* token*"),
            ("in 15 hours", "5 hour"),
            ("", "a"),
            ("the", "the end"),
        ] {
            assert!(!Words::of(text).has(phrase), "{text}: {phrase}");
        }
    }
}

//! What a setting's value may be: read from JSON, read from a variable's text, described to a person and to an editor.

use serde_json::{Value, json};

/// The form of a value. What comes out of [`ValueKind::read`] is normalised: sizes are bytes, switches are booleans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueKind {
    /// On or off.
    Switch,
    /// Any text that is not blank.
    Text,
    /// An `http` or `https` URL.
    Url,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Bytes: a number, or text such as `"2 MiB"`.
    Size,
    /// A whole number from this one on.
    Count(u64),
    /// Milliseconds; 0 means no limit.
    Millis,
    /// A number within these bounds.
    Number(f64, f64),
}

/// Above this a number has lost its exactness in JavaScript, and no setting of ours has a use for it.
const MAX_EXACT: u64 = (1 << 53) - 1;

impl ValueKind {
    /// The normalised value, or `None` if this is not one.
    pub fn read(self, value: &Value) -> Option<Value> {
        match self {
            Self::Switch => value.as_bool().map(Value::from),
            Self::Text => value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(Value::from),
            Self::Url => value.as_str().map(str::trim).filter(|text| is_url(text)).map(Value::from),
            Self::Choice(words) => value.as_str().filter(|word| words.contains(word)).map(Value::from),
            Self::Size => match value {
                Value::String(text) => bytes(text).map(Value::from),
                _ => whole(value).map(Value::from),
            },
            Self::Count(least) => whole(value).filter(|number| *number >= least).map(Value::from),
            Self::Millis => whole(value).map(Value::from),
            Self::Number(from, to) => {
                value.as_f64().filter(|number| (from..=to).contains(number)).map(|_| value.clone())
            }
        }
    }

    /// The same for the text of a variable, which is more lenient about how switches and "none" are spelled.
    pub fn read_text(self, text: &str) -> Option<Value> {
        let lower = text.to_ascii_lowercase();
        let off = matches!(lower.as_str(), "0" | "false" | "no" | "off" | "none" | "null");
        match self {
            Self::Switch if off => Some(false.into()),
            Self::Switch => matches!(lower.as_str(), "1" | "true" | "yes" | "on").then(|| true.into()),
            Self::Choice(words) if off && words.contains(&"none") => Some("none".into()),
            Self::Choice(_) => self.read(&Value::from(lower)),
            Self::Text | Self::Url | Self::Size => self.read(&Value::from(text)),
            Self::Count(_) | Self::Millis => self.read(&text.parse::<u64>().ok()?.into()),
            Self::Number(..) => self.read(&text.parse::<f64>().ok()?.into()),
        }
    }

    /// "expected …"
    pub fn expected(self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Url => "an http or https URL without user name and password".to_owned(),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                quoted.join(" or ")
            }
            Self::Size => "a size in bytes, or text such as \"2 MiB\"".to_owned(),
            Self::Count(least) => format!("a whole number of at least {least}"),
            Self::Millis => "milliseconds as a whole number, or 0 for no limit".to_owned(),
            Self::Number(from, to) => format!("a number from {from} to {to}"),
        }
    }

    /// The JSON Schema of the value.
    pub fn schema(self) -> Value {
        match self {
            Self::Switch => json!({ "type": "boolean" }),
            Self::Text => json!({ "type": "string", "minLength": 1 }),
            Self::Url => json!({ "type": "string", "pattern": "^https?://" }),
            Self::Choice(words) => json!({ "type": "string", "enum": words }),
            Self::Size => json!({ "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^\\s*\\d+(\\.\\d+)?\\s*([KMG]i?)?B?\\s*$" },
            ] }),
            Self::Count(least) => json!({ "type": "integer", "minimum": least }),
            Self::Millis => json!({ "type": "integer", "minimum": 0 }),
            Self::Number(from, to) => json!({ "type": "number", "minimum": from, "maximum": to }),
        }
    }
}

/// A non-negative whole number, also where JSON spells it `2.0`.
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_u64().or_else(|| {
        let float = value.as_f64().filter(|float| *float >= 0.0 && float.fract() == 0.0)?;
        (float <= MAX_EXACT as f64).then_some(float as u64)
    })?;
    (number <= MAX_EXACT).then_some(number)
}

fn is_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
    })
}

/// `"2 MiB"`, `"1.5GB"`, `"500 k"`, `"1048576"` in bytes. Without the `i` a unit is decimal, as everywhere else.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let amount: f64 = text[..end].parse().ok()?;
    let unit: u64 = match text[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        _ => return None,
    };
    let size = (amount * unit as f64).round();
    (size <= MAX_EXACT as f64).then_some(size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_be_written_as_people_write_sizes() {
        for (text, size) in
            [("2 MiB", 2 << 20), ("1.5KB", 1500), (" 512 ", 512), ("1 GiB", 1 << 30), ("0", 0), ("3m", 3_000_000)]
        {
            assert_eq!(ValueKind::Size.read(&json!(text)), Some(json!(size)), "{text}");
        }
        for value in [json!("-1"), json!("two"), json!("2 TB"), json!(-5), json!(1.5), json!("1e99 GB"), json!(1e300)] {
            assert_eq!(ValueKind::Size.read(&value), None, "{value}");
        }
    }

    #[test]
    fn negative_and_foreign_values_are_refused() {
        assert_eq!(ValueKind::Count(1).read(&json!(0)), None);
        assert_eq!(ValueKind::Count(1).read(&json!("3")), None);
        assert_eq!(ValueKind::Count(1).read(&json!(2.0)), Some(json!(2)));
        assert_eq!(ValueKind::Number(0.0, 2.0).read(&json!(2.5)), None);
        assert_eq!(ValueKind::Number(0.0, 2.0).read_text("NaN"), None);
        assert_eq!(ValueKind::Switch.read(&json!("true")), None);
        assert_eq!(ValueKind::Url.read(&json!("https://me:secret@kimi.com")), None);
        assert_eq!(ValueKind::Choice(&["openai", "anthropic"]).read(&json!("grpc")), None);
    }

    #[test]
    fn variables_may_spell_off_in_every_usual_way() {
        assert_eq!(ValueKind::Choice(&["all", "none"]).read_text("OFF"), Some(json!("none")));
        assert_eq!(ValueKind::Switch.read_text("0"), Some(json!(false)));
        assert_eq!(ValueKind::Switch.read_text("maybe"), None);
        assert_eq!(ValueKind::Millis.read_text("-1"), None);
    }
}

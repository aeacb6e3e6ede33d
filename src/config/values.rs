//! What a setting's value may be: read from JSON, read from text, described to users and to editors.

use serde_json::{Value, json};

use crate::endpoint::http_url;
use crate::error::clip;

/// The form of a value. [`ValueKind::read`] normalizes: sizes become bytes, switches booleans.
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

/// Largest integer that JavaScript holds exactly.
const MAX_EXACT: u64 = (1 << 53) - 1;

impl ValueKind {
    /// Returns the normalized value, or `None` if this is not one.
    pub fn read(self, value: &Value) -> Option<Value> {
        match self {
            Self::Switch => value.as_bool().map(Value::from),
            Self::Text => value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(Value::from),
            Self::Url => value.as_str().map(str::trim).filter(|text| http_url(text).is_ok()).map(Value::from),
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

    /// Reads the text of a variable or of a command. Switches and "none" may be spelled in the usual ways.
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

    /// Formats a normalized value for users.
    pub fn format(self, value: &Value) -> String {
        match (self, value) {
            (_, Value::Null) => "not set".to_owned(),
            (_, Value::Bool(on)) => if *on { "on" } else { "off" }.to_owned(),
            (Self::Size, _) => format_size(value.as_u64().unwrap_or_default()),
            (_, Value::String(text)) => text.clone(),
            _ => value.to_string(),
        }
    }

    /// Says why a value cannot be read, to follow the name of the setting. Addresses are quoted only if they hold no secret.
    pub fn complaint(self, value: &Value) -> String {
        self.address_complaint(value)
            .unwrap_or_else(|| format!("is {}, expected {}", clip(&value.to_string(), 60), self.expected()))
    }

    /// Says why a text is not an address, if one is expected.
    pub fn address_complaint(self, value: &Value) -> Option<String> {
        if self == Self::Url { http_url(value.as_str()?).err() } else { None }
    }

    /// Says what is expected.
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

    /// Builds the JSON Schema of the value.
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

/// Reads a non-negative whole number, also one spelled `2.0`.
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_u64().or_else(|| {
        let float = value.as_f64().filter(|float| *float >= 0.0 && float.fract() == 0.0)?;
        (float <= MAX_EXACT as f64).then_some(float as u64)
    })?;
    (number <= MAX_EXACT).then_some(number)
}

/// Reads `"2 MiB"`, `"1.5GB"`, `"500 k"` or `"1048576"` as bytes. A unit without the `i` is decimal.
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

/// Formats bytes in the largest unit that divides them.
fn format_size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
    let unit = units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_read_in_all_usual_spellings() {
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
    fn values_of_another_kind_or_out_of_range_are_refused() {
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
    fn values_formatted_as_users_type_them() {
        let size = |bytes: u64| ValueKind::Size.format(&json!(bytes));
        assert_eq!([size(0), size(5), size(1536), size(2 << 20)], ["0 B", "5 B", "1536 B", "2 MiB"]);
        assert_eq!(ValueKind::Switch.format(&json!(true)), "on");
        assert_eq!(ValueKind::Number(0.0, 2.0).format(&json!(0.5)), "0.5");
        assert_eq!(ValueKind::Text.format(&Value::Null), "not set");
    }

    #[test]
    fn text_of_variables_spells_off_in_all_usual_ways() {
        assert_eq!(ValueKind::Choice(&["all", "none"]).read_text("OFF"), Some(json!("none")));
        assert_eq!(ValueKind::Switch.read_text("0"), Some(json!(false)));
        assert_eq!(ValueKind::Switch.read_text("maybe"), None);
        assert_eq!(ValueKind::Millis.read_text("-1"), None);
    }
}

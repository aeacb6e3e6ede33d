//! A tool whose schema cannot be expressed is sent with open parameters, and the model reads the rules instead.

use serde_json::value::RawValue;

use super::cache::Normalised;

/// Longest schema text that goes into a description. Descriptions of 50,000 bytes are accepted
/// (docs/protocol.md#tool-schema-size); beyond this length nobody would read it.
const MAX_QUOTED: usize = 20_000;

/// Open parameters; `why` is for a person.
pub fn open(schema: &str, why: &str) -> Normalised {
    let quoted = match schema.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{} … (shortened)", &schema[..end]),
        None => schema.to_owned(),
    };
    Normalised {
        parameters: verbatim(r#"{"type":"object"}"#),
        remark: format!("The arguments are a JSON object that follows this JSON Schema: {quoted}"),
        loss: Some(format!(
            "its parameters cannot be expressed for Kimi ({why}); the model gets them as text and may make mistakes."
        )),
    }
}

/// JSON text that is known to be JSON.
pub fn verbatim(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

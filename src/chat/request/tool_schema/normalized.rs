//! A schema in the form in which it is sent.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::argument_names::ArgumentNames;

/// Longest schema that goes into a description, in characters. Descriptions of 50,000 bytes are accepted
/// (docs/protocol.md#tool-schema-size); a longer one costs more than it helps.
const MAX_QUOTED: usize = 20_000;

/// A tool's parameters within MFJS, and what the schema cannot say.
#[derive(Debug)]
pub struct NormalizedSchema {
    /// The schema, within MFJS.
    pub parameters: Box<RawValue>,
    /// Text for the tool's description, because the schema cannot say it; often empty.
    pub hint: String,
    /// For the user: what was lost and why.
    pub loss: Option<String>,
    /// Properties with another name on the wire, if there are any.
    pub names: Option<Arc<ArgumentNames>>,
}

impl NormalizedSchema {
    /// Creates a schema without hint and loss.
    pub fn plain(parameters: &str) -> Self {
        Self { parameters: verbatim(parameters), hint: String::new(), loss: None, names: None }
    }

    /// Creates open parameters for a schema that cannot be expressed; the model reads the schema as text. `why` is for the user.
    pub fn open(schema: &str, why: &str) -> Self {
        let quoted = match schema.char_indices().nth(MAX_QUOTED) {
            Some((end, _)) => format!("{} … (shortened)", &schema[..end]),
            None => schema.to_owned(),
        };
        Self {
            hint: format!("The arguments are a JSON object that follows this JSON Schema: {quoted}"),
            loss: Some(format!(
                "its parameters cannot be expressed for Kimi ({why}); the model gets them as text and may make mistakes."
            )),
            ..Self::plain(r#"{"type":"object"}"#)
        }
    }
}

/// Wraps text that is known to be JSON.
fn verbatim(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

//! The form of the answer that a caller asks for (docs/protocol.md#chat-body).
//!
//! The OpenAI dialect takes a schema within the subset that tools have. What the service cannot be told that way becomes an
//! instruction at the end of the conversation: the Anthropic dialect has no member for it, and not every schema can be expressed.

use serde::Deserialize;
use serde_json::{Value, json};

use super::tool_schema::SchemaCache;
use crate::config::Dialect;

/// What the caller asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// A JSON value that follows a schema.
    JsonSchema {
        /// Name of the schema for the service.
        #[serde(default)]
        name: String,
        /// The JSON Schema.
        schema: Value,
    },
}

/// How a request asks for it.
#[derive(Debug, Default, PartialEq)]
pub struct RequestedForm {
    /// The member `response_format` of the OpenAI dialect.
    pub member: Option<Value>,
    /// Text for the model.
    pub instruction: Option<String>,
    /// What the user should know.
    pub note: Option<String>,
}

impl ResponseFormat {
    /// Returns how a request asks for this form. `member_refused`: the service has refused the member before.
    pub fn requested(&self, dialect: Dialect, schemas: &SchemaCache, member_refused: bool) -> RequestedForm {
        let member_possible = dialect == Dialect::OpenAi && !member_refused;
        let json_object = member_possible.then(|| json!({ "type": "json_object" }));
        match self {
            Self::Text => RequestedForm::default(),
            Self::JsonObject => RequestedForm {
                member: json_object,
                // Services of this form want the word in the prompt as well.
                instruction: Some("Answer with one JSON object and nothing else.".to_owned()),
                note: None,
            },
            Self::JsonSchema { name, schema } => {
                let mut schema = schema.clone();
                if let Some(members) = schema.as_object_mut() {
                    // The service refuses it.
                    members.shift_remove("$schema");
                }
                let is_object = schema["type"] == "object";
                let text = schema.to_string();
                let normalized = schemas.normalized(&text);
                // Renamed properties would come back under their wire names.
                if member_possible && is_object && normalized.loss.is_none() && normalized.names.is_none() {
                    let member = json!({ "type": "json_schema", "json_schema": {
                        "name": wire_name(name), "schema": normalized.parameters, "strict": true,
                    } });
                    let hint = Some(normalized.hint.clone()).filter(|hint| !hint.is_empty());
                    return RequestedForm { member: Some(member), instruction: hint, note: None };
                }
                RequestedForm {
                    member: json_object.filter(|_| is_object),
                    instruction: Some(format!(
                        "Answer with one JSON value that follows this JSON Schema, and nothing else: {text}"
                    )),
                    note: member_possible.then(|| {
                        "The schema of the answer cannot be expressed for Kimi; the model gets it as text.".to_owned()
                    }),
                }
            }
        }
    }
}

/// Returns a name of the characters and the length that the service accepts for names.
fn wire_name(name: &str) -> String {
    let safe: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' })
        .take(64)
        .collect();
    if safe.is_empty() { "answer".to_owned() } else { safe }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(format: &str, dialect: Dialect) -> RequestedForm {
        let format: ResponseFormat = serde_json::from_str(format).unwrap();
        format.requested(dialect, &SchemaCache::default(), false)
    }

    const PERSON: &str = r#"{"type":"json_schema","name":"a person","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema",
        "type":"object","properties":{"name":{"type":"string"}},"required":["name"],"additionalProperties":false}}"#;

    #[test]
    fn schema_within_the_subset_becomes_the_member_of_the_openai_dialect() {
        let form = requested(PERSON, Dialect::OpenAi);
        let member = form.member.unwrap();
        assert_eq!(member["json_schema"]["name"], "a_person");
        assert_eq!(member["json_schema"]["schema"]["required"], json!(["name"]));
        assert_eq!(member.pointer("/json_schema/schema/$schema"), None);
        assert_eq!((form.instruction, form.note), (None, None));
    }

    #[test]
    fn schema_in_the_anthropic_dialect_becomes_an_instruction() {
        let form = requested(PERSON, Dialect::Anthropic);
        assert_eq!(form.member, None);
        assert!(form.instruction.unwrap().contains(r#""required":["name"]"#));
        assert_eq!(form.note, None);
    }

    #[test]
    fn refused_member_becomes_an_instruction() {
        let format: ResponseFormat = serde_json::from_str(PERSON).unwrap();
        let form = format.requested(Dialect::OpenAi, &SchemaCache::default(), true);
        assert!(form.member.is_none() && form.instruction.is_some());
    }

    #[test]
    fn schema_of_a_list_becomes_an_instruction() {
        let form =
            requested(r#"{"type":"json_schema","schema":{"type":"array","items":{"type":"string"}}}"#, Dialect::OpenAi);
        assert_eq!(form.member, None);
        assert!(form.instruction.unwrap().contains("array"));
    }

    #[test]
    fn text_asks_for_nothing() {
        assert_eq!(requested(r#"{"type":"text"}"#, Dialect::OpenAi), RequestedForm::default());
    }
}

//! A tool as it is sent.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::argument_names::ArgumentNames;
use super::cache::SchemaCache;
use super::normalized::NormalizedSchema;
use crate::chat::request::transcript::Tool;

/// A tool that can be sent.
#[derive(Debug, Clone)]
pub struct WireTool<'a> {
    /// Name in Pi.
    pub original: Cow<'a, str>,
    /// Name on the wire.
    pub name: String,
    /// Description for the model.
    pub description: Cow<'a, str>,
    schema: Arc<NormalizedSchema>,
}

impl<'a> WireTool<'a> {
    /// Brings the parameters into MFJS. The second value tells the user what was lost.
    pub fn new(tool: Tool<'a>, name: String, schemas: &SchemaCache) -> (Self, Option<String>) {
        let schema = schemas.normalized(tool.parameters.map_or("", RawValue::get));
        let description = match schema.hint.as_str() {
            "" => tool.description,
            hint if tool.description.is_empty() => Cow::Owned(hint.to_owned()),
            hint => Cow::Owned(format!("{}\n\n{hint}", tool.description)),
        };
        let note = schema.loss.as_ref().map(|loss| format!("Tool {}: {loss}", tool.name));
        (Self { original: tool.name, name, description, schema }, note)
    }

    /// Returns whether this is one of Moonshot's own tools, which are sent by name alone.
    pub fn is_built_in(&self) -> bool {
        self.name.starts_with('$')
    }

    /// Returns the schema of its parameters.
    pub fn parameters(&self) -> &RawValue {
        &self.schema.parameters
    }

    /// Returns the properties with another name on the wire, if there are any.
    pub fn argument_names(&self) -> Option<&Arc<ArgumentNames>> {
        self.schema.names.as_ref()
    }
}

//! Tools as the service takes them.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::transcript::Tool;

/// A tool that can be sent.
#[derive(Debug, Clone)]
pub struct WireTool<'a> {
    /// Pi's name.
    pub original: Cow<'a, str>,
    /// Name on the wire.
    pub name: String,
    /// For the model.
    pub description: Cow<'a, str>,
    parameters: Arc<RawValue>,
}

impl<'a> WireTool<'a> {
    /// Brings the parameters into the subset. The second value says, for a person, what was lost.
    pub fn new(tool: Tool<'a>, name: String) -> (Self, Option<String>) {
        let parameters = tool.parameters.unwrap_or(RawValue::NULL).to_owned();
        (Self { original: tool.name, name, description: tool.description, parameters: parameters.into() }, None)
    }

    /// One of Moonshot's own tools, sent by name alone.
    pub fn is_built_in(&self) -> bool {
        self.name.starts_with('$')
    }

    /// The schema of its parameters.
    pub fn parameters(&self) -> &RawValue {
        &self.parameters
    }
}

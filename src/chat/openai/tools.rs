//! Writes tools, at the top level and in messages alike (docs/protocol.md#tools).

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::chat::request::tool_schema::WireTool;

/// A list of tools.
#[derive(Clone, Copy)]
pub struct Tools<'a>(pub &'a [WireTool<'a>]);

impl Tools<'_> {
    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|tool| {
            if tool.is_built_in() {
                ToolEntry { kind: "builtin_function", function: Function { name: &tool.name, definition: None } }
            } else {
                let definition = Definition { description: &tool.description, parameters: tool.parameters() };
                ToolEntry { kind: "function", function: Function { name: &tool.name, definition: Some(definition) } }
            }
        }))
    }
}

#[derive(Serialize)]
struct ToolEntry<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(flatten)]
    definition: Option<Definition<'a>>,
}

#[derive(Serialize)]
struct Definition<'a> {
    description: &'a str,
    parameters: &'a RawValue,
}

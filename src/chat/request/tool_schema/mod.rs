//! Tools as the service takes them.
//!
//! Moonshot checks every tool against its own subset of JSON Schema, and one tool that fails fails the request, and with
//! it every later one of the session (docs/protocol.md#tool-schema-subset). A schema that lies within the subset is sent as it
//! came; any other is rewritten into one that means the same as far as the subset can say it, and what it cannot say becomes text
//! for the model. The result depends on the schema alone, so unchanged tools keep their bytes, and a lookup is all they cost.

mod cache;
mod combine;
mod fallback;
mod keywords;
mod normalize;
mod references;
mod shrink;
mod types;
mod validate;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::transcript::Tool;

pub use cache::{Normalised, clear};
pub use validate::{Problem, problem};

/// Longest schema of one tool, in bytes of JSON. Observed until June 2026; 120,000 are reported since
/// (docs/protocol.md#tool-schema-size), but nothing says that every deployment follows, and a shorter schema is cheaper for
/// everybody.
pub const MAX_BYTES: usize = 15_000;

/// Deepest nesting of objects.
pub const MAX_DEPTH: usize = 10;

/// Most properties of a schema, all objects together.
pub const MAX_PROPERTIES: usize = 1000;

/// Most values of an enumeration.
pub const MAX_VALUES: usize = 500;

/// Most branches of an `anyOf`.
pub const MAX_BRANCHES: usize = 100;

/// A tool that can be sent.
#[derive(Debug, Clone)]
pub struct WireTool<'a> {
    /// Pi's name.
    pub original: Cow<'a, str>,
    /// Name on the wire.
    pub name: String,
    /// For the model.
    pub description: Cow<'a, str>,
    normalised: Arc<Normalised>,
}

impl<'a> WireTool<'a> {
    /// Brings the parameters into the subset. The second value says, for a person, what was lost.
    pub fn new(tool: Tool<'a>, name: String) -> (Self, Option<String>) {
        let normalised = cache::normalised(tool.parameters.map_or("", RawValue::get));
        let description = match normalised.remark.as_str() {
            "" => tool.description,
            remark if tool.description.is_empty() => Cow::Owned(remark.to_owned()),
            remark => Cow::Owned(format!("{}\n\n{remark}", tool.description)),
        };
        let note = normalised.loss.as_ref().map(|loss| format!("Tool {}: {loss}", tool.name));
        (Self { original: tool.name, name, description, normalised }, note)
    }

    /// One of Moonshot's own tools, sent by name alone.
    pub fn is_built_in(&self) -> bool {
        self.name.starts_with('$')
    }

    /// The schema of its parameters.
    pub fn parameters(&self) -> &RawValue {
        &self.normalised.parameters
    }
}

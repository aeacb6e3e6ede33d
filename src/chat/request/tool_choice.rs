//! Which tools the model may or must call, and what is sent where the service does not accept that.

use std::collections::HashMap;

use serde_json::Value;

/// Which tools the model may or must call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// No tool.
    None,
    /// At least one tool.
    Required,
    /// The tool with this name, as Pi spells it.
    Named(String),
}

impl ToolChoice {
    /// Reads the spelling of either dialect. Anything else leaves the choice to the model.
    pub fn read(value: &Value) -> Self {
        let kind = value.as_str().or_else(|| value.get("type").and_then(Value::as_str));
        match kind {
            Some("none") => Self::None,
            Some("required" | "any") => Self::Required,
            Some("tool" | "function") => {
                let name = value.get("name").or_else(|| value.pointer("/function/name")).and_then(Value::as_str);
                name.map_or(Self::Auto, |name| Self::Named(name.to_owned()))
            }
            _ => Self::Auto,
        }
    }
}

/// Replaces a tool choice that the service does not accept: while the model thinks, no call can be forced
/// (docs/protocol.md#chat-body). Returns the note for the user.
pub fn restrict_tool_choice(choice: &mut Option<ToolChoice>, thinks: bool) -> Option<String> {
    if !thinks || !matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
        return None;
    }
    *choice = Some(ToolChoice::Auto);
    Some("Kimi cannot be forced to call a tool while the model thinks; the tool choice auto was sent.".to_owned())
}

/// Returns the wire name of the tool with this name in Pi.
pub fn wire_name<'n>(renamed: &'n HashMap<String, String>, original: &'n str) -> &'n str {
    renamed.iter().find(|(_, known)| *known == original).map_or(original, |(wire, _)| wire)
}

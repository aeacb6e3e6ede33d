//! Any JSON Schema → Moonshot's subset.

use kimi_code::chat::request::tool_schema::{WireTool, clear, problem};
use kimi_code::chat::request::transcript::Tool;
use serde_json::Value;
use serde_json::value::RawValue;

/// The result passes our own check of the service's rules, and normalizing it again changes nothing.
pub fn tool_schema(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(parameters) = serde_json::from_str::<&RawValue>(text) else { return };
    let once = tool(parameters);
    let schema: Value = serde_json::from_str(once.parameters().get()).expect("parameters are JSON");
    if let Some(problem) = problem(&schema) {
        panic!("{problem}: {schema}");
    }
    let twice = tool(once.parameters());
    assert_eq!(twice.parameters().get(), once.parameters().get());
    assert_eq!(twice.description, "d", "nothing was left to say");
    clear();
}

fn tool(parameters: &RawValue) -> WireTool<'_> {
    let tool = Tool { name: "t".into(), description: "d".into(), parameters: Some(parameters) };
    WireTool::new(tool, "t".to_owned()).0
}

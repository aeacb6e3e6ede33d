//! Any JSON Schema → MFJS.

use kimi_code::chat::request::tool_schema::{Direction, KeyRewriter, Level, SchemaCache, WireTool, problem, violation};
use kimi_code::chat::request::transcript::Tool;
use serde_json::Value;
use serde_json::value::RawValue;

/// What is sent keeps the published rules and is left alone from then on; renamed arguments get their own names back.
pub fn tool_schema(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(parameters) = serde_json::from_str::<&RawValue>(text) else { return };
    let once = tool(parameters);
    let schema: Value = serde_json::from_str(once.parameters().get()).expect("parameters are JSON");
    if let Some(problem) = problem(&schema) {
        panic!("{problem}: {schema}");
    }
    if once.parameters().get() != text.trim()
        && let Some(problem) =
            violation(&schema, Level::Ultra).filter(|problem| !problem.message.contains("empty name"))
    {
        panic!("rewritten, but {problem}: {schema}");
    }
    let twice = tool(once.parameters());
    assert_eq!(twice.parameters().get(), once.parameters().get());
    assert_eq!(twice.description, "d", "nothing was left to say");
    assert!(twice.argument_names().is_none(), "no name was left to change");
    renamed_arguments(&once, text);
}

/// The schema's own text serves as arguments: it holds every name of the tool, and none that is used on the wire only.
fn renamed_arguments(tool: &WireTool<'_>, arguments: &str) {
    let Some(names) = tool.argument_names() else { return };
    let sent = names.rewrite(arguments, Direction::ToWire);
    let received = names.rewrite(&sent, Direction::FromWire);
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    assert_eq!(read(&received), read(arguments), "{sent}");
    let mut rewriter = KeyRewriter::new(names.clone(), Direction::FromWire);
    let mut whole = String::new();
    for piece in sent.split_inclusive(['"', 'e', '\\']) {
        rewriter.push(piece, &mut whole);
    }
    rewriter.finish(&mut whole);
    assert_eq!(whole, received, "in pieces");
}

fn tool(parameters: &RawValue) -> WireTool<'_> {
    let tool = Tool { name: "t".into(), description: "d".into(), parameters: Some(parameters) };
    WireTool::new(tool, "t".to_owned(), &SchemaCache::default()).0
}

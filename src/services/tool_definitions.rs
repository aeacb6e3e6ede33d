//! Defines Kimi's own tools for the model: names, descriptions and parameters.
//!
//! A tool's text is part of the system prompt, so a change of one word costs every session its prompt cache once
//! (docs/protocol.md#prompt-cache).

use serde::Serialize;
use serde_json::{Value, json};

use super::datasource::SOURCES;

/// A tool as Pi registers it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolDefinition {
    /// Name the model calls it by.
    pub name: &'static str,
    /// Name for users.
    pub label: &'static str,
    /// Description for the model.
    pub description: String,
    /// One line for the list of tools in Pi's system prompt.
    pub prompt_snippet: &'static str,
    /// Rules for Pi's system prompt.
    pub prompt_guidelines: &'static [&'static str],
    /// JSON Schema of the arguments.
    pub parameters: Value,
    /// JSON Schema of the result as data, for scripts of Pi's codemode. `None` where the result is not data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Hints for permission extensions.
    pub annotations: Annotations,
}

/// What a tool does to its environment, in the words of the Model Context Protocol.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotations {
    /// It changes nothing on this machine.
    pub read_only_hint: bool,
    /// It may overwrite data.
    pub destructive_hint: bool,
    /// It reaches the web.
    pub open_world_hint: bool,
}

const READS_THE_WEB: Annotations = Annotations { read_only_hint: true, destructive_hint: false, open_world_hint: true };

const READS_FILES: Annotations = Annotations { read_only_hint: true, destructive_hint: false, open_world_hint: false };

/// A data source writes the files that a call asks for, also over existing ones.
const WRITES_FILES: Annotations = Annotations { read_only_hint: false, destructive_hint: true, open_world_hint: true };

/// Returns the definitions of all tools, in the order in which they are registered.
pub fn tool_definitions() -> Vec<ToolDefinition> {
    vec![search(), fetch(), datasource(), read_media()]
}

fn search() -> ToolDefinition {
    ToolDefinition {
        name: "moonshot_search",
        label: "Kimi search",
        description:
            "Searches the web with Kimi's search service. Returns titles, sites, dates, URLs and short summaries, \
                      not whole pages; read a page with moonshot_fetch."
                .to_owned(),
        prompt_snippet: "Search the web for current information",
        prompt_guidelines: &[
            "Use moonshot_search for facts that may have changed since your training or that you are not sure of, and name \
             the URLs you rely on.",
        ],
        parameters: json!({
            "type": "object",
            "properties": { "query": { "type": "string", "description": "What to search for, as one would type it" } },
            "required": ["query"],
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": {
                "results": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "title": { "type": "string" },
                            "url": { "type": "string" },
                            "site": { "type": "string" },
                            "date": { "type": "string", "description": "Usually YYYY-MM-DD; empty if unknown" },
                            "snippet": { "type": "string" },
                        },
                        "required": ["title", "url", "site", "date", "snippet"],
                    },
                },
                "total": { "type": "integer", "description": "Number of results, including those left out here" },
            },
            "required": ["results", "total"],
        })),
        annotations: READS_THE_WEB,
    }
}

fn fetch() -> ToolDefinition {
    ToolDefinition {
        name: "moonshot_fetch",
        label: "Kimi fetch",
        description:
            "Fetches a public web page (http or https) on Kimi's servers and returns its text as Markdown. It cannot \
                      reach this machine, private networks or pages behind a login."
                .to_owned(),
        prompt_snippet: "Read a public web page as Markdown",
        prompt_guidelines: &[
            "Use moonshot_fetch to read a page before you rely on details that a search summary leaves out.",
        ],
        parameters: json!({
            "type": "object",
            "properties": { "url": { "type": "string", "description": "Whole address, beginning with https:// or http://" } },
            "required": ["url"],
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": {
                "markdown": { "type": "string" },
                "truncated": { "type": "boolean", "description": "Whether the page is longer than markdown" },
                "fullOutputPath": { "type": "string", "description": "File with the whole page" },
            },
            "required": ["markdown", "truncated"],
        })),
        annotations: READS_THE_WEB,
    }
}

fn datasource() -> ToolDefinition {
    let names: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
    let list: Vec<String> = SOURCES.iter().map(|(name, content)| format!("- {name}: {content}")).collect();
    ToolDefinition {
        name: "kimi_datasource",
        label: "Kimi data source",
        description: format!(
            "Queries one of Kimi's data sources. Call it without api_name first: the answer documents the APIs of that source. \
             Then call it with a documented api_name and its params. Many APIs need params.file_path, a file inside the project \
             folder that receives the data.\n\nSources:\n{}",
            list.join("\n")
        ),
        prompt_snippet: "Query financial, statistical, scientific and legal data sources",
        prompt_guidelines: &[
            "Before the first use of a kimi_datasource source, read its documentation by calling it without api_name; never \
             guess API names or parameters.",
        ],
        parameters: json!({
            "type": "object",
            "properties": {
                "data_source_name": { "type": "string", "enum": names, "description": "Name of the source" },
                "api_name": {
                    "type": "string",
                    "description": "API as documented by the source; leave out for the documentation",
                },
                "params": { "type": "object", "description": "Parameters of the API as documented by the source" },
            },
            "required": ["data_source_name"],
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": {
                "text": { "type": "string" },
                "files": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": { "type": "string" },
                            "size": { "type": "integer", "description": "In bytes" },
                            "path": { "type": "string", "description": "Where it was written, relative to the project" },
                            "skipped": { "type": "string", "description": "Why it was not written" },
                        },
                        "required": ["name", "size"],
                    },
                },
            },
            "required": ["text", "files"],
        })),
        annotations: WRITES_FILES,
    }
}

fn read_media() -> ToolDefinition {
    ToolDefinition {
        name: "kimi_read_media",
        label: "Kimi media",
        description: "Shows you an image or video file of the project, whole and in its original resolution. Use it for videos, \
                      and for images that are too large to be read as files. A video may have a size limit, which an error names."
            .to_owned(),
        prompt_snippet: "Look at an image or video file",
        prompt_guidelines: &[
            "Use kimi_read_media to look at a video, or at an image whose details matter, before you answer questions about it.",
        ],
        parameters: json!({
            "type": "object",
            "properties": {
                "path": { "type": "string", "description": "Path of the file, relative to the project or absolute" },
                "question": { "type": "string", "description": "What to look for; shown to you beside the file" },
            },
            "required": ["path"],
        }),
        output_schema: None,
        annotations: READS_FILES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_definitions_every_tool_names_itself_and_its_required_parameters() {
        for tool in tool_definitions() {
            assert!(tool.prompt_guidelines.iter().any(|rule| rule.contains(tool.name)), "{}", tool.name);
            let required = tool.parameters["required"].as_array().unwrap();
            assert!(required.iter().all(|name| tool.parameters["properties"].get(name.as_str().unwrap()).is_some()));
        }
    }
}

//! Queries data sources: quotes, statistics, papers, law, filings, behind one endpoint (docs/protocol.md#data-sources).
//!
//! Without an API name the call returns the documentation of a source, with one it runs that API. Only the service knows the
//! parameters of an API, so they are sent unchanged.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::output_files::{Returned, take_files};
use super::tool_request::{Reply, Service};
use super::truncate::{Limit, Outcome};
use crate::blocking::in_background;
use crate::display_text::tool_size;
use crate::error::{Error, ErrorKind, Result, clip, html_title};

/// Names and contents of the sources that the official plugin 3.4.0 knows (docs/protocol.md#data-sources).
pub const SOURCES: [(&str, &str); 25] = [
    ("stock_finance_data", "stocks in China, Hong Kong and the US: quotes, reports, shareholders"),
    ("yahoo_finance", "quotes worldwide, analyst ratings, options, exchange rates of about two years"),
    ("world_bank_open_data", "World Bank: long macroeconomic series by country"),
    ("tianyancha", "Chinese company registry; needs the full legal name"),
    ("arxiv", "preprints"),
    ("scholar", "Google Scholar: papers and citations"),
    ("yuandian_law", "Chinese statutes and court cases"),
    ("wind", "Chinese shares by the minute, funds, bonds; look up field names with wind_search_fields first"),
    ("imf", "IMF: exchange rates, prices, forecasts"),
    ("gildata", "screening of Chinese securities by a question in plain words"),
    ("sec_edgar", "US company filings"),
    ("sp_data", "S&P: company fundamentals"),
    ("china_nda", "catalogs of open data in China"),
    ("china_nbs", "National Bureau of Statistics of China"),
    ("china_standards", "Chinese standards GB, HB, DB, TT"),
    ("who", "World Health Organization: health statistics"),
    ("fao", "FAO: food and agriculture statistics"),
    ("unsd", "United Nations Statistics Division"),
    ("ecb", "European Central Bank: rates, money, banking"),
    ("eurostat", "Eurostat: statistics of the European Union"),
    ("unicef", "UNICEF: statistics on children"),
    ("oecd", "OECD: economic and social statistics"),
    ("fred", "FRED: US economic series of the St. Louis Fed"),
    ("xhcj", "Xinhua Finance news"),
    ("caixin", "Caixin: news and data behind 600 APIs; find one with caixin_api_search"),
];

/// Arguments of a query.
#[derive(Debug, Deserialize)]
pub struct Datasource {
    /// One of [`SOURCES`].
    source: String,
    /// API of the source; without one, its documentation is returned.
    #[serde(default)]
    api: Option<String>,
    /// An object, or the JSON text of one, because models write that.
    #[serde(default)]
    params: Value,
    /// Folder below which files may be written.
    #[serde(default)]
    project: Option<PathBuf>,
}

impl Datasource {
    pub(super) fn check(&self) -> Result<()> {
        let refused = |complaint: String| Err(Error::new(ErrorKind::BadRequest, complaint));
        if !SOURCES.iter().any(|(name, _)| *name == self.source) {
            let names: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
            return refused(format!(
                "there is no data source {:?}; there are {}",
                clip(&self.source, 100),
                names.join(", ")
            ));
        }
        match self.params() {
            Some(_) => Ok(()),
            None => refused(format!("params must be an object, not {}", kind(&self.params))),
        }
    }

    fn params(&self) -> Option<Map<String, Value>> {
        match &self.params {
            Value::Null => Some(Map::new()),
            Value::Object(params) => Some(params.clone()),
            Value::String(text) if text.trim().is_empty() => Some(Map::new()),
            Value::String(text) => serde_json::from_str(text).ok(),
            _ => None,
        }
    }

    fn api(&self) -> Option<&str> {
        self.api.as_deref().map(str::trim).filter(|api| !api.is_empty())
    }

    pub(super) async fn run(self, service: &Service, limit: Option<Limit>) -> Result<Outcome> {
        let params = self.params().unwrap_or_default();
        let requested =
            ["file_path", "filepath"].iter().find_map(|name| params.get(*name)?.as_str().map(str::to_owned));
        let body = match self.api() {
            // Only here the key is `name`; another one gives empty documentation (docs/protocol.md#data-sources).
            None => json!({"method": "get_data_source_desc", "params": {"name": self.source}}),
            Some(api) => json!({
                "method": "call_data_source_tool",
                "params": {"data_source_name": self.source, "api_name": api, "params": params},
            }),
        };
        let call_id = service.call_id.clone();
        let trace = move |request_id: Option<&str>| trace(request_id, &call_id);
        let traced = |error: Error| {
            // Requests that the service has not seen cannot be traced.
            if error.status.is_none() && error.trace_id.is_none() {
                return error;
            }
            let line = trace(error.trace_id.as_deref());
            Error { message: format!("{}\n\n{line}", error.message), ..error }
        };
        let reply = service.post(&service.datasources()?, &body, "application/json").await.map_err(traced)?;
        let line = trace(reply.request_id.as_deref());
        let project = self.project;
        let outcome = in_background(move || outcome(&reply, project, requested, limit.as_ref())).await;
        let mut outcome =
            outcome.map_err(|error| Error { message: format!("{}\n\n{line}", error.message), ..error })?;
        outcome.notes.push(line);
        Ok(outcome)
    }
}

/// Returns the line with the ids that support asks for (docs/protocol.md#request-ids).
fn trace(request_id: Option<&str>, call_id: &str) -> String {
    let request = request_id.map(|id| format!("request-id: {id} \u{b7} ")).unwrap_or_default();
    format!("[kimi-datasource] {request}tool-call-id: {call_id}")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn outcome(
    reply: &Reply,
    project: Option<PathBuf>,
    requested: Option<String>,
    limit: Option<&Limit>,
) -> Result<Outcome> {
    let (text, damaged) = reply.text();
    let mut outcome = Outcome::default();
    if let Some(id) = &reply.request_id {
        outcome.set("requestId", id.clone());
    }
    let Ok(mut answer) = serde_json::from_str::<Value>(&text) else {
        let markup = html_title(&text).is_some() || text.trim_start().starts_with('<');
        if damaged || markup || text.trim().is_empty() {
            return Err(reply.unexpected("the service answered with something that is not JSON"));
        }
        // Plain text is an answer too, as in the official plugin.
        outcome.set_text(text, limit, "kimi_datasource", "txt");
        return Ok(outcome);
    };
    let failed = match answer.get("is_success") {
        Some(Value::Bool(success)) => !success,
        _ => answer.get("result").is_none() && answer.get("error").is_some_and(|error| !error.is_null()),
    };
    if failed {
        let reason = reason(answer.get("error").unwrap_or(&Value::Null));
        let message = format!("the source answered with an error: {reason}");
        return Err(Error { trace_id: reply.request_id.clone(), ..Error::new(ErrorKind::BadRequest, message) });
    }
    let files = answer.as_object_mut().and_then(|answer| answer.remove("files")).unwrap_or(Value::Null);
    let (returned, omitted) = take_files(&files, project.as_deref(), requested.as_deref());
    let text = channels(answer.get("result").unwrap_or(&Value::Null));
    let text = match text.is_empty() {
        true if returned.is_empty() => {
            format!(
                "The answer holds no text. All of it:\n{}",
                serde_json::to_string_pretty(&answer).unwrap_or_default()
            )
        }
        _ => text,
    };
    outcome.set_text(text, limit, "kimi_datasource", "txt");
    if !returned.is_empty() {
        outcome.notes.push(listing(&returned));
    }
    if omitted > 0 {
        outcome.notes.push(format!("[{omitted} more files of the answer were not written.]"));
    }
    outcome.set("files", json!(returned));
    Ok(outcome)
}

/// Joins the texts of both channels, for the model and for the user; repeated texts count once.
fn channels(result: &Value) -> String {
    let mut texts: Vec<String> = Vec::new();
    for channel in ["assistant", "user"] {
        let items = match result.get(channel) {
            Some(Value::Array(items)) => items.as_slice(),
            Some(single @ (Value::String(_) | Value::Object(_))) => std::slice::from_ref(single),
            _ => &[],
        };
        for item in items {
            let text = item.as_str().or_else(|| item.get("text").and_then(Value::as_str)).unwrap_or_default().trim();
            if !text.is_empty() && !texts.iter().any(|known| known == text) {
                texts.push(text.to_owned());
            }
        }
    }
    texts.join("\n\n")
}

/// Returns the text of an error: a text, a record with a message, or the two channels again (docs/protocol.md#data-sources).
fn reason(error: &Value) -> String {
    let text = match error {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => match other.get("message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => channels(other),
        },
    };
    match (text.trim(), error) {
        ("", Value::Null | Value::String(_)) => "no reason given".to_owned(),
        ("", other) => clip(&other.to_string(), 2000),
        (text, _) => clip(text, 4000),
    }
}

fn listing(files: &[Returned]) -> String {
    let lines = files.iter().map(|file| match (&file.path, &file.skipped) {
        (Some(path), _) => format!("- {path} ({}) written", tool_size(file.size)),
        (None, Some(reason)) => format!("- {} ({}) not written: {reason}", file.name, tool_size(file.size)),
        (None, None) => format!("- {} ({})", file.name, tool_size(file.size)),
    });
    format!("Files:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(body: impl AsRef<[u8]>) -> Result<Outcome> {
        let reply = Reply {
            bytes: body.as_ref().to_vec().into(),
            content_type: "application/json".into(),
            request_id: Some("req-7".into()),
        };
        outcome(&reply, None, None, None)
    }

    fn asked(value: Value) -> Result<()> {
        serde_json::from_value::<Datasource>(value).unwrap().check()
    }

    #[test]
    fn unknown_source_the_error_lists_all_sources() {
        let message = asked(json!({"source": "bloomberg"})).unwrap_err().message;
        assert!(
            message.starts_with("there is no data source \"bloomberg\"; there are stock_finance_data, yahoo_finance")
        );
        assert!(message.ends_with("xhcj, caixin"));
        assert!(asked(json!({"source": "arxiv", "api": null, "params": null})).is_ok());
    }

    #[test]
    fn parameters_are_an_object_or_the_text_of_one() {
        for params in [json!({}), json!({"a": 1}), json!("{\"a\": 1}"), json!("")] {
            assert!(asked(json!({"source": "arxiv", "api": "x", "params": params})).is_ok());
        }
        for (params, kind) in [(json!([1]), "a list"), (json!("[1]"), "a text"), (json!(5), "a number")] {
            let message = asked(json!({"source": "arxiv", "params": params})).unwrap_err().message;
            assert_eq!(message, format!("params must be an object, not {kind}"));
        }
    }

    #[test]
    fn both_channels_are_read_in_any_shape() {
        let body = json!({"is_success": true, "result": {
            "assistant": [{"type": "text", "text": "one"}, "two", {"type": "image"}, {"text": " "}],
            "user": [{"type": "text", "text": "two"}, {"type": "text", "text": "三"}],
        }, "error": null});
        assert_eq!(answered(body.to_string()).unwrap().text, "one\n\ntwo\n\n三");
        let single = json!({"is_success": true, "result": {"assistant": "only"}});
        assert_eq!(answered(single.to_string()).unwrap().text, "only");
    }

    /// A success may hold no text (docs/protocol.md#data-sources).
    #[test]
    fn success_without_text_shows_the_answer_or_its_files() {
        let text = answered(r#"{"is_success":true,"result":{"rows":[1]}}"#).unwrap().text;
        assert!(text.starts_with("The answer holds no text.") && text.contains("\"rows\""), "{text}");
        let body = json!({"is_success": true, "result": {}, "files": [{"name": "a.csv", "content": "x".repeat(2048)}]});
        let outcome = answered(body.to_string()).unwrap();
        assert_eq!(outcome.text, "");
        assert_eq!(outcome.notes, ["Files:\n- a.csv (2.0KB) not written: no file_path was asked for"]);
    }

    #[test]
    fn reported_failure_is_an_error_in_every_shape() {
        for (error, expected) in [
            (json!("API_NOT_FOUND"), "API_NOT_FOUND"),
            (json!({"assistant": [{"type": "text", "text": "bad ticker"}], "user": []}), "bad ticker"),
            (json!({"message": "slow down"}), "slow down"),
            (json!({"code": 7}), "{\"code\":7}"),
            (json!(null), "no reason given"),
        ] {
            let body = json!({"is_success": false, "error": error}).to_string();
            let failure = answered(body).unwrap_err();
            assert_eq!(failure.message, format!("the source answered with an error: {expected}"));
            assert_eq!(failure.trace_id.as_deref(), Some("req-7"));
        }
        for body in
            [r#"{"error":"x"}"#, r#"{"is_success":"false","error":"x"}"#, r#"{"is_success":0,"error":{"code":1}}"#]
        {
            assert!(answered(body).is_err(), "{body}");
        }
    }

    #[test]
    fn plain_text_is_an_answer_and_an_html_page_is_not() {
        assert_eq!(answered("plain words").unwrap().text, "plain words");
        for page in ["<html><title>Gateway</title></html>", "<!doctype html>", ""] {
            assert_eq!(answered(page).unwrap_err().kind, ErrorKind::Protocol, "{page}");
        }
    }

    #[test]
    fn binary_data_is_not_an_answer() {
        assert_eq!(answered(b"PK\x03\x04\xff\xfe\x00").unwrap_err().kind, ErrorKind::Protocol);
    }

    #[test]
    fn trace_line_names_both_ids() {
        assert_eq!(trace(Some("r"), "c"), "[kimi-datasource] request-id: r \u{b7} tool-call-id: c");
        assert_eq!(trace(None, "c"), "[kimi-datasource] tool-call-id: c");
    }
}

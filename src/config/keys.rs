//! The table of all settings. Validation, defaults, the JSON Schema, the settings screen and what a project may decide follow
//! from it.

use serde_json::{Map, Value, json};

use super::quota::{KNOWN_WINDOWS, window_id};
use super::values::ValueKind;
use crate::error::{Error, ErrorKind, Result};

/// Which files may hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingScope {
    /// Only the home file: addresses, identity, and limits that protect the user. A cloned repository must not choose where
    /// credentials go.
    Home,
    /// Also the file of a project that the user trusts.
    TrustedProject,
    /// Also the file of any other project, because the key changes nothing but what the screen shows.
    AnyProject,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct SettingKey {
    /// Dotted path; `*` stands for a model id.
    pub path: &'static str,
    /// What its value may be.
    pub kind: ValueKind,
    /// Which files may hold it.
    pub scope: SettingScope,
    /// Least and greatest value that a project may set.
    pub project_bounds: Option<(u64, u64)>,
    /// Variables that outrank the files, strongest first.
    pub variables: &'static [&'static str],
    /// Default as JSON; `null` means "not set".
    pub default: &'static str,
    /// One sentence for the user.
    pub help: &'static str,
}

const fn key(
    path: &'static str,
    kind: ValueKind,
    variables: &'static [&'static str],
    default: &'static str,
    help: &'static str,
) -> SettingKey {
    SettingKey { path, kind, scope: SettingScope::TrustedProject, project_bounds: None, variables, default, help }
}

const fn home_only(key: SettingKey) -> SettingKey {
    SettingKey { scope: SettingScope::Home, ..key }
}

const fn display(key: SettingKey) -> SettingKey {
    SettingKey { scope: SettingScope::AnyProject, ..key }
}

const fn bounded(least: u64, most: u64, key: SettingKey) -> SettingKey {
    SettingKey { project_bounds: Some((least, most)), ..key }
}

/// A timeout in milliseconds. Each one that runs out costs another request, so a project cannot go below one second.
const fn timeout(key: SettingKey) -> SettingKey {
    bounded(1000, u64::MAX, key)
}

/// Path of the reserves, where `*` stands for a quota window.
const RESERVE: &str = "quota.reserve.*";

impl SettingKey {
    /// Returns the path under which a value counts: a window may be written in several ways. Fails with a text that follows the path
    /// if the name in place of `*` can be none.
    pub fn counted(&self, path: &[&str]) -> Result<Vec<String>, String> {
        let mut counted: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        if self.path == RESERVE
            && let Some(name) = counted.last_mut()
        {
            *name = window_id(name).ok_or_else(|| format!("names no quota window (known: {KNOWN_WINDOWS})"))?;
        }
        Ok(counted)
    }

    /// Returns the value as a project may set it. Zero means "no limit", which is more than any upper bound.
    pub fn clamp_for_project(&self, value: Value) -> Value {
        match (self.project_bounds, value.as_u64()) {
            (Some((_, u64::MAX)), Some(0)) => value,
            (Some((_, most)), Some(0)) => most.into(),
            (Some((least, most)), Some(number)) => number.clamp(least, most).into(),
            _ => value,
        }
    }
}

/// All settings, in the order in which they are shown. Variables: docs/protocol.md#environment-variables.
pub const KEYS: &[SettingKey] = &[
    key(
        "protocol",
        ValueKind::Choice(&["openai", "anthropic"]),
        &["KIMI_CODE_PROTOCOL"],
        "\"openai\"",
        "Dialect for the models for which the live list names none.",
    ),
    home_only(key(
        "region",
        ValueKind::Choice(&["auto", "mainland-cn", "global"]),
        &["KIMI_CODE_REGION"],
        "\"auto\"",
        "Which of the two services is used: kimi.com (mainland-cn) or kimi.ai (global).",
    )),
    home_only(key(
        "identity",
        ValueKind::Choice(&["honest", "kimi-code"]),
        &["KIMI_CODE_IDENTITY"],
        "\"honest\"",
        "How requests identify their sender; \"kimi-code\" imitates the official client, which has led to bans.",
    )),
    home_only(key(
        "baseUrl",
        ValueKind::Url,
        &["KIMI_CODE_BASE_URL", "KIMI_BASE_URL"],
        "null",
        "API base of another deployment, with or without a final /v1.",
    )),
    home_only(key(
        "oauthHost",
        ValueKind::Url,
        &["KIMI_CODE_OAUTH_HOST", "KIMI_OAUTH_HOST"],
        "null",
        "Where to sign in to another deployment.",
    )),
    key("tools.moonshot_search.enabled", ValueKind::Switch, &[], "false", "Web search by Kimi as a tool of the model."),
    display(key(
        "tools.moonshot_search.default_collapsed",
        ValueKind::Switch,
        &[],
        "true",
        "Search results start collapsed on the screen.",
    )),
    key(
        "tools.moonshot_search.exposure",
        ValueKind::Choice(&["direct", "deferred"]),
        &[],
        "\"direct\"",
        "How the model reaches it: declared in every request, or found by Pi's tool_search (Pi 1.3 and later).",
    ),
    key(
        "tools.moonshot_fetch.enabled",
        ValueKind::Switch,
        &[],
        "false",
        "Reading web pages through Kimi as a tool of the model.",
    ),
    display(key(
        "tools.moonshot_fetch.default_collapsed",
        ValueKind::Switch,
        &[],
        "true",
        "Fetched pages start collapsed on the screen.",
    )),
    key(
        "tools.moonshot_fetch.exposure",
        ValueKind::Choice(&["direct", "deferred"]),
        &[],
        "\"direct\"",
        "How the model reaches it: declared in every request, or found by Pi's tool_search (Pi 1.3 and later).",
    ),
    key(
        "tools.kimi_datasource.enabled",
        ValueKind::Switch,
        &[],
        "false",
        "Finance, science, law and statistics sources of Kimi as a tool of the model.",
    ),
    display(key(
        "tools.kimi_datasource.default_collapsed",
        ValueKind::Switch,
        &[],
        "true",
        "Answers of data sources start collapsed on the screen.",
    )),
    key(
        "tools.kimi_datasource.exposure",
        ValueKind::Choice(&["direct", "deferred"]),
        &[],
        "\"direct\"",
        "How the model reaches it: declared in every request, or found by Pi's tool_search (Pi 1.3 and later).",
    ),
    key(
        "tools.kimi_read_media.enabled",
        ValueKind::Switch,
        &[],
        "false",
        "Showing images and videos on disk to the model, as a tool of the model.",
    ),
    display(key(
        "tools.kimi_read_media.default_collapsed",
        ValueKind::Switch,
        &[],
        "true",
        "Results of reading media start collapsed on the screen.",
    )),
    key(
        "tools.kimi_read_media.exposure",
        ValueKind::Choice(&["direct", "deferred"]),
        &[],
        "\"direct\"",
        "How the model reaches it: declared in every request, or found by Pi's tool_search (Pi 1.3 and later).",
    ),
    key(
        "uploads.thresholdBytes",
        ValueKind::Size,
        &["KIMI_CODE_UPLOAD_THRESHOLD_BYTES"],
        "1048576",
        "Images larger than this are uploaded instead of sent inline.",
    ),
    key(
        "uploads.totalBytes",
        ValueKind::Size,
        &[],
        "8388608",
        "The largest images are uploaded until a request is below this size.",
    ),
    key(
        "uploads.inlineLimitBytes",
        ValueKind::Size,
        &["KIMI_CODE_INLINE_LIMIT_BYTES"],
        "52428800",
        "Longest request in which a file whose upload failed is sent inline instead; beyond it the turn fails.",
    ),
    key(
        "uploads.videoMaxBytes",
        ValueKind::Size,
        &[],
        "104857600",
        "Largest video that is uploaded from disk or by a program; the service documents 100 MB.",
    ),
    timeout(key(
        "uploads.timeoutMs",
        ValueKind::Millis,
        &["KIMI_CODE_UPLOAD_TIMEOUT_MS"],
        "300000",
        "Longest time for one attempt to upload one file; small files get 30 s and 16 s per MiB.",
    )),
    display(key(
        "statusLine",
        ValueKind::Switch,
        &[],
        "true",
        "The plan's quota in Pi's footer, refreshed at most every 90 seconds.",
    )),
    key(
        "model.contextWindow",
        ValueKind::Count(1024),
        &["KIMI_MODEL_MAX_CONTEXT_SIZE"],
        "null",
        "Tokens of prompt and answer together, instead of what the live list says.",
    ),
    key("model.maxTokens", ValueKind::Count(1), &[], "null", "Longest answer in tokens."),
    key(
        "model.temperature",
        ValueKind::Number(0.0, 2.0),
        &["KIMI_MODEL_TEMPERATURE"],
        "null",
        "Sampling temperature; sent only if set, and some models accept one value only.",
    ),
    key(
        "model.topP",
        ValueKind::Number(0.0, 1.0),
        &["KIMI_MODEL_TOP_P"],
        "null",
        "Nucleus sampling; sent only if set.",
    ),
    key(
        "model.maxCompletionTokens",
        ValueKind::Count(0),
        &["KIMI_MODEL_MAX_COMPLETION_TOKENS", "KIMI_MODEL_MAX_TOKENS"],
        "null",
        "Upper bound of the output cap that is sent; 0 means none.",
    ),
    key(
        "model.thinking.keep",
        ValueKind::Choice(&["all", "last", "none"]),
        &["KIMI_MODEL_THINKING_KEEP"],
        "\"all\"",
        "Whether the service keeps earlier reasoning.",
    ),
    key(
        "model.thinking.effort",
        ValueKind::Text,
        &["KIMI_MODEL_THINKING_EFFORT"],
        "null",
        "Effort to send while thinking is on, whatever the level.",
    ),
    key("models.*.contextWindow", ValueKind::Count(1024), &[], "null", "The same for one model."),
    key("models.*.maxTokens", ValueKind::Count(1), &[], "null", "The same for one model."),
    key("models.*.temperature", ValueKind::Number(0.0, 2.0), &[], "null", "The same for one model."),
    key("models.*.topP", ValueKind::Number(0.0, 1.0), &[], "null", "The same for one model."),
    key("models.*.maxCompletionTokens", ValueKind::Count(0), &[], "null", "The same for one model."),
    key("models.*.thinking.keep", ValueKind::Choice(&["all", "last", "none"]), &[], "null", "The same for one model."),
    key("models.*.thinking.effort", ValueKind::Text, &[], "null", "The same for one model."),
    timeout(key(
        "limits.connectMs",
        ValueKind::Millis,
        &["KIMI_CODE_CONNECT_TIMEOUT_MS"],
        "15000",
        "Longest wait for DNS, TCP, proxy and TLS.",
    )),
    timeout(key(
        "limits.headersMs",
        ValueKind::Millis,
        &["KIMI_CODE_HEADERS_TIMEOUT_MS"],
        "300000",
        "Longest wait for the response to begin.",
    )),
    timeout(key(
        "limits.firstMs",
        ValueKind::Millis,
        &["KIMI_CODE_FIRST_TIMEOUT_MS"],
        "null",
        "Longest wait for the first content; 300000, or 600000 at effort max or above 200,000 prompt tokens.",
    )),
    timeout(key(
        "limits.gapMs",
        ValueKind::Millis,
        &["KIMI_CODE_GAP_TIMEOUT_MS"],
        "120000",
        "Longest silence within text or a tool call.",
    )),
    timeout(key(
        "limits.thinkingGapMs",
        ValueKind::Millis,
        &["KIMI_CODE_THINKING_GAP_TIMEOUT_MS"],
        "300000",
        "Longest silence within reasoning.",
    )),
    home_only(key(
        "limits.answerBytes",
        ValueKind::Size,
        &["KIMI_CODE_ANSWER_LIMIT_BYTES"],
        "67108864",
        "Largest answer; a longer one ends with an error before memory runs out. 0 means no limit.",
    )),
    bounded(
        1,
        20,
        key(
            "retry.attempts",
            ValueKind::Count(1),
            &["KIMI_LOOP_MAX_ATTEMPTS_PER_STEP", "KIMI_LOOP_MAX_RETRIES_PER_STEP"],
            "10",
            "Requests per turn in total.",
        ),
    ),
    bounded(
        0,
        600_000,
        key(
            "retry.maxDelayMs",
            ValueKind::Millis,
            &[],
            "60000",
            "Longest wait that the service may ask for; Pi's own setting wins.",
        ),
    ),
    home_only(key(
        "retry.maxTotalMs",
        ValueKind::Millis,
        &["KIMI_CODE_MAX_WAIT_MS"],
        "null",
        "Longest time for all attempts of a turn together; unset, 120000, and no limit on a screen and in RPC mode.",
    )),
    home_only(key(
        "quota.onExhausted",
        ValueKind::Choice(&["stop", "ask", "wait"]),
        &["KIMI_CODE_QUOTA"],
        "null",
        "At the end of a quota window: fail, ask, or wait until it opens; unset, ask where a user can answer.",
    )),
    home_only(key(
        "quota.maxWaitMs",
        ValueKind::Millis,
        &[],
        "21600000",
        "Longest time that a request waits for a quota window; 0 means no limit.",
    )),
    home_only(key(
        RESERVE,
        ValueKind::Number(0.0, 100.0),
        &[],
        "null",
        "Percent of a window (5h, 7d or wk, month or mo) that stay unused: requests pause before it is used up.",
    )),
    home_only(key(
        "concurrency.max",
        ValueKind::Count(1),
        &[],
        "null",
        "Requests of all processes at once, instead of what the service says.",
    )),
    home_only(key(
        "concurrency.reserve",
        ValueKind::Count(0),
        &[],
        "2",
        "Parallel requests of the plan that are left to other programs.",
    )),
    home_only(key(
        "network.preconnect",
        ValueKind::Switch,
        &[],
        "true",
        "Connect to the service while the user types, so that a prompt is sent at once.",
    )),
    home_only(key(
        "loop.warn",
        ValueKind::Count(0),
        &[],
        "3",
        "A notice when the model has made the same call this often, always with the same result; 0 means never, 1 and 2 mean 3.",
    )),
    home_only(key(
        "loop.block",
        ValueKind::Count(0),
        &[],
        "5",
        "From this repetition on, the call is not executed, and the model is told that it has the result already; 0 means never.",
    )),
    home_only(key(
        "loop.stop",
        ValueKind::Count(0),
        &[],
        "12",
        "At this repetition the run ends with an error; 0 means never.",
    )),
    key(
        "cache.noticeTokens",
        ValueKind::Count(0),
        &[],
        "20000",
        "A notice appears when more tokens than this were read again that could have come from the cache; 0 means never.",
    ),
    home_only(key(
        "cache.keeper",
        ValueKind::Choice(&["off", "pi"]),
        &[],
        "\"off\"",
        "Whether Pi keeps the prompt cache alive (Pi 1.5.1 and later); each time reads the whole prompt from it, which costs quota.",
    )),
];

/// Finds the key for a path in a file.
pub fn find(path: &[&str]) -> Option<&'static SettingKey> {
    KEYS.iter().find(|key| {
        let mut parts = key.path.split('.');
        let fits = |part: &str, name: &str| part == name || (part == "*" && may_be_chosen(name));
        path.iter().all(|name| parts.next().is_some_and(|part| fits(part, name))) && parts.next().is_none()
    })
}

/// Finds the key of a dotted path, and splits the path. The name in place of `*` may contain dots, as ids of models do.
pub fn find_dotted(path: &str) -> Option<(&'static SettingKey, Vec<&str>)> {
    KEYS.iter().find_map(|key| {
        let Some((before, after)) = key.path.split_once('*') else {
            return (key.path == path).then(|| (key, path.split('.').collect()));
        };
        let name = path.strip_prefix(before)?.strip_suffix(after)?;
        let chosen = !matches!(name, "" | "*") && may_be_chosen(name);
        chosen.then(|| (key, names(before).chain([name]).chain(names(after)).collect()))
    })
}

/// Whether users may choose this name in place of `*`. Control characters in it would come back in messages.
fn may_be_chosen(name: &str) -> bool {
    !name.contains(char::is_control)
}

/// Finds the setting of a dotted path, and the path under which it counts. Fails with a text for the user if there is none.
pub fn counted(path: &str) -> Result<(&'static SettingKey, Vec<String>)> {
    let refuse = |why: String| Error::new(ErrorKind::Config, why);
    let (key, parts) = find_dotted(path).ok_or_else(|| refuse(format!("{path} is not a setting")))?;
    let counted = key.counted(&parts).map_err(|why| refuse(format!("{path} {why}")))?;
    Ok((key, counted))
}

/// Returns the dotted path under which a setting counts. Fails with a text for the user if there is none.
pub fn setting_path(path: &str) -> Result<String> {
    counted(path).map(|(_, counted)| counted.join("."))
}

/// Lists every setting with its key and value: fixed ones always, those with a name in place of `*` where they have a value.
pub fn values(settings: &Value) -> Vec<(String, &'static SettingKey, &Value)> {
    let at = |value, path| names(path).try_fold(value, |value: &Value, name| value.get(name));
    let mut found = Vec::new();
    for key in KEYS {
        match key.path.split_once('*') {
            None => found.push((key.path.to_owned(), key, at(settings, key.path).unwrap_or(&Value::Null))),
            Some((before, after)) => {
                for (name, inner) in at(settings, before).and_then(Value::as_object).into_iter().flatten() {
                    if let Some(value) = at(inner, after).filter(|value| !value.is_null()) {
                        found.push((format!("{before}{name}{after}"), key, value));
                    }
                }
            }
        }
    }
    found
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|name| !name.is_empty())
}

/// Lists the names that may stand under a path, with `*` for any model id.
pub fn children(path: &[&str]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in KEYS {
        let mut parts = key.path.split('.');
        if path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == *name))
            && let Some(next) = parts.next()
            && !names.contains(&next)
        {
            names.push(next);
        }
    }
    names
}

/// Returns the default of every key that has one, as one object.
pub fn defaults() -> Value {
    let mut root = json!({});
    for key in KEYS {
        let value: Value = serde_json::from_str(key.default).unwrap_or(Value::Null);
        if !value.is_null() {
            put(&mut root, &key.path.split('.').collect::<Vec<_>>(), value);
        }
    }
    root
}

/// Sets a member and creates the objects on the way to it. Other values in the way are replaced.
pub fn put<S: AsRef<str>>(root: &mut Value, path: &[S], value: Value) {
    let mut place = root;
    for name in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[name.as_ref()];
    }
    *place = value;
}

/// Address of the schema for editors.
pub const SCHEMA_URL: &str = "https://unpkg.com/pi-provider-kimi-code/extension/settings.schema.json";

/// Builds the JSON Schema of a settings file, published as `extension/settings.schema.json`.
pub fn schema() -> Value {
    let mut root = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": SCHEMA_URL,
        "title": "Settings of pi-provider-kimi-code",
        "description": "~/.pi/pi-provider-kimi-code.json, and <project>/.pi/pi-provider-kimi-code.json of trusted projects",
        "type": "object",
        "additionalProperties": false,
        "properties": { "$schema": { "type": "string" } },
    });
    for key in KEYS {
        let mut place = &mut root;
        let (last, groups) = split(key.path);
        for group in groups {
            place = if group == "*" { &mut place["additionalProperties"] } else { &mut place["properties"][group] };
            if place["type"].is_null() {
                *place = json!({ "type": "object", "additionalProperties": false });
            }
        }
        let mut entry = key.kind.schema();
        let home_only = if key.scope == SettingScope::Home { " Only in the home file." } else { "" };
        entry["description"] = format!("{}{home_only}", key.help).into();
        let default: Value = serde_json::from_str(key.default).unwrap_or(Value::Null);
        if !default.is_null() {
            entry["default"] = default;
        }
        if last == "*" {
            place["additionalProperties"] = entry;
        } else {
            place["properties"][last] = entry;
        }
    }
    root
}

fn split(path: &'static str) -> (&'static str, Vec<&'static str>) {
    let mut parts: Vec<&'static str> = path.split('.').collect();
    (parts.pop().unwrap_or_default(), parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_every_default_is_accepted_by_its_key() {
        for key in KEYS {
            let default: Value = serde_json::from_str(key.default).unwrap();
            assert!(default.is_null() || key.kind.read(&default) == Some(default), "{}", key.path);
        }
    }

    #[test]
    fn keys_found_by_path_also_below_a_model_id() {
        assert_eq!(find(&["models", "k3", "thinking", "keep"]).unwrap().path, "models.*.thinking.keep");
        assert!(find(&["models", "k3"]).is_none());
        let dotted = |path| find_dotted(path).map(|(key, names)| (key.path, names));
        assert_eq!(dotted("models.k3.1-pro.topP"), Some(("models.*.topP", vec!["models", "k3.1-pro", "topP"])));
        assert_eq!(dotted("quota.reserve.5h"), Some(("quota.reserve.*", vec!["quota", "reserve", "5h"])));
        assert_eq!(dotted("retry.attempts"), Some(("retry.attempts", vec!["retry", "attempts"])));
        for path in ["models..topP", "models.*.topP", "models.topP", "quota.reserve.", "retry", ""] {
            assert_eq!(dotted(path), None, "{path}");
        }
        let settings =
            json!({ "models": { "k3.1-pro": { "topP": 0.5, "maxTokens": null } }, "retry": { "attempts": 3 } });
        let shown = values(&settings).into_iter().map(|(path, ..)| path).filter(|path| path.starts_with("models."));
        assert_eq!(shown.collect::<Vec<_>>(), ["models.k3.1-pro.topP"]);
        assert!(find(&["retry", "attempts", "more"]).is_none());
        assert_eq!(
            children(&["uploads"]),
            ["thresholdBytes", "totalBytes", "inlineLimitBytes", "videoMaxBytes", "timeoutMs"]
        );
    }

    /// `UPDATE_SCHEMA=1 cargo test schema` updates the file.
    #[test]
    fn schema_published_file_matches_the_table() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("extension/settings.schema.json");
        let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let published: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(published, schema(), "run UPDATE_SCHEMA=1 cargo test schema");
    }
}

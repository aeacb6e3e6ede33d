//! defaults ← home file ← project file ← environment ← overrides of the caller.
//!
//! A value that makes no sense is reported with its file, its path and what was expected, and everything else still applies: a
//! typing error must not cost anybody a working session. The project file counts only where the person trusts the project, and
//! can never decide where requests and credentials go.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::environment::Environment;
use super::keys::{self, KEYS, Key, SettingScope, children, find, put};
use super::legacy;
use super::settings::Settings;

/// File name in `~/.pi` and in `<project>/.pi`.
pub const FILE_NAME: &str = "pi-provider-kimi-code.json";

/// A settings file is written by hand; one beyond this is something else.
const MAX_FILE: u64 = 1 << 20;

/// Something in the settings that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// File, variable or "overrides".
    pub source: String,
    /// Dotted path within it; empty where the whole source is meant.
    pub path: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, path, message } = self;
        if path.is_empty() { write!(f, "{source}: {message}") } else { write!(f, "{source}: {path} {message}") }
    }
}

/// The layers, merged.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// What applies.
    pub settings: Settings,
    /// What was left out and why.
    pub problems: Vec<Problem>,
    /// Where a setting that is not at its default comes from: path → file, variable or "overrides".
    pub origins: BTreeMap<String, String>,
}

/// The files of this environment.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The person's own.
    pub home: Option<PathBuf>,
    /// The project's, and whether it counts.
    pub project: Option<(PathBuf, bool)>,
}

impl Files {
    /// Where the files would be.
    pub fn of(environment: &Environment) -> Self {
        let inside = |directory: &Path| directory.join(".pi").join(FILE_NAME);
        let home = environment.home().map(|home| inside(&home));
        let project = environment
            .project()
            .map(|(directory, trusted)| (inside(&directory), trusted))
            // A session in the home directory has one file, not two.
            .filter(|(file, _)| Some(file) != home.as_ref());
        Self { home, project }
    }
}

/// Reads and merges everything. Blocks on two small files.
pub fn load(environment: &Environment) -> Layers {
    let files = Files::of(environment);
    let mut merge = Merge { root: keys::defaults(), ..Merge::default() };
    if let Some(home) = &files.home {
        match read(home) {
            Ok(Some(value)) => merge.object(&home.display().to_string(), SettingScope::Home, &value),
            Ok(None) => merge.legacy(environment),
            Err(message) => merge.problem(&home.display().to_string(), &[], message),
        }
    }
    if let Some((file, trusted)) = &files.project {
        let source = file.display().to_string();
        match read(file) {
            Ok(Some(value)) if *trusted => merge.object(&source, SettingScope::Project, &value),
            Ok(Some(_)) => merge.problem(&source, &[], "is ignored, because Pi does not trust this project".to_owned()),
            Ok(None) => {}
            Err(message) if *trusted => merge.problem(&source, &[], message),
            Err(_) => {}
        }
    }
    merge.variables(environment);
    if let Some(text) = environment.get("KIMI_CODE_SETTINGS") {
        match serde_json::from_str(text) {
            Ok(value) => merge.object("KIMI_CODE_SETTINGS", SettingScope::Home, &value),
            Err(error) => merge.problem("KIMI_CODE_SETTINGS", &[], format!("is not JSON: {error}")),
        }
    }
    // Every value has passed its key, so this cannot fail; if it did, defaults would be the answer.
    let settings = serde_json::from_value(merge.root).unwrap_or_default();
    Layers { settings, problems: merge.problems, origins: merge.origins }
}

/// The JSON of a file, `None` if there is none.
pub(super) fn read(file: &Path) -> Result<Option<Value>, String> {
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut text = String::new();
    fs::File::open(file)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > MAX_FILE {
        return Err("is too large for a settings file (1 MiB)".to_owned());
    }
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Ok(Some(Value::Object(Map::new())));
    }
    serde_json::from_str(text).map(Some).map_err(|error| format!("is not JSON: {error}"))
}

#[derive(Default)]
struct Merge {
    root: Value,
    problems: Vec<Problem>,
    origins: BTreeMap<String, String>,
}

impl Merge {
    fn problem(&mut self, source: &str, path: &[&str], message: String) {
        self.problems.push(Problem { source: source.to_owned(), path: path.join("."), message });
    }

    fn object(&mut self, source: &str, reach: SettingScope, value: &Value) {
        match value.as_object() {
            Some(object) => self.group(source, reach, &mut Vec::new(), object),
            None => self.problem(source, &[], "is not a JSON object".to_owned()),
        }
    }

    fn group<'v>(
        &mut self,
        source: &str,
        reach: SettingScope,
        path: &mut Vec<&'v str>,
        object: &'v Map<String, Value>,
    ) {
        for (name, value) in object {
            if path.is_empty() && name == "$schema" {
                continue;
            }
            path.push(name);
            self.entry(source, reach, path, value);
            path.pop();
        }
    }

    fn entry<'v>(&mut self, source: &str, reach: SettingScope, path: &mut Vec<&'v str>, value: &'v Value) {
        if let Some(key) = find(path) {
            if key.reach == SettingScope::Home && reach == SettingScope::Project {
                return self.problem(source, path, "counts only in the home file, not in a project's".to_owned());
            }
            // null: "as if it were not here".
            if value.is_null() {
                return;
            }
            return match key.kind.read(value) {
                Some(value) => self.set(source, path, value),
                None => {
                    let found = crate::error::clip(&value.to_string(), 60);
                    self.problem(source, path, format!("is {found}, expected {}", key.kind.expected()));
                }
            };
        }
        let known = children(path);
        match value.as_object() {
            Some(object) if !known.is_empty() => self.group(source, reach, path, object),
            None if !known.is_empty() => {
                self.problem(source, path, format!("is not an object (it may hold {})", known.join(", ")));
            }
            _ => {
                let siblings = children(&path[..path.len() - 1]).join(", ");
                self.problem(source, path, format!("is not a setting (known here: {siblings})"));
            }
        }
    }

    fn set(&mut self, source: &str, path: &[&str], value: Value) {
        put(&mut self.root, path, value);
        self.origins.insert(path.join("."), source.to_owned());
    }

    fn legacy(&mut self, environment: &Environment) {
        let Some(file) = environment.home().map(|home| legacy::file(&home)) else { return };
        let source = file.display().to_string();
        match read(&file) {
            Ok(Some(value)) => self.object(&source, SettingScope::Home, &legacy::translate(&value)),
            Ok(None) => {}
            Err(message) => self.problem(&source, &[], message),
        }
    }

    fn variables(&mut self, environment: &Environment) {
        for key in KEYS {
            let found = key.variables.iter().find_map(|name| environment.get(name).map(|text| (*name, text)));
            let Some((name, text)) = found else { continue };
            match read_variable(key, text) {
                Some(value) => {
                    let path: Vec<&str> = key.path.split('.').collect();
                    self.set(&format!("environment variable {name}"), &path, value);
                    self.forget_models(&path);
                }
                None => self.problems.push(Problem {
                    source: format!("environment variable {name}"),
                    path: String::new(),
                    message: format!("is {:?}, expected {}", crate::error::clip(text, 60), key.kind.expected()),
                }),
            }
        }
    }

    /// A variable speaks for all models, so it also outranks what a file says about one of them.
    fn forget_models(&mut self, path: &[&str]) {
        let ["model", rest @ ..] = path else { return };
        let Some(models) = self.root.get_mut("models").and_then(Value::as_object_mut) else { return };
        for (_, model) in models.iter_mut() {
            put(model, rest, Value::Null);
        }
    }
}

/// Zero and less have always meant "no cap" in this variable (docs/protocol.md#output-cap).
fn read_variable(key: &Key, text: &str) -> Option<Value> {
    if key.path == "model.maxCompletionTokens" && text.parse::<i64>().is_ok_and(|number| number <= 0) {
        return Some(0.into());
    }
    // A base that cannot be used is an error of its own, with a better text (endpoint.rs).
    if matches!(key.path, "baseUrl" | "oauthHost") {
        return Some(text.into());
    }
    key.kind.read_text(text)
}

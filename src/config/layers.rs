//! defaults ← home file ← project file ← environment variables ← `KIMI_CODE_SETTINGS` ← options of the program.
//!
//! Invalid values are reported with their source, their path and what was expected, and everything else still applies. The
//! exceptions are addresses (`address.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::address::NamedAddresses;
use super::environment::Environment;
use super::keys::{self, KEYS, SettingKey, SettingScope, children, find, put};
use super::legacy;
use super::settings::Settings;
use super::values::ValueKind;
use crate::error::clip;

/// File name in `~/.pi` and in `<project>/.pi`.
pub const FILE_NAME: &str = "pi-provider-kimi-code.json";

/// Source of settings that a program passes in.
const PROGRAM: &str = "the options of the program";

/// Largest settings file that is read, in bytes. One that users write is far smaller.
const MAX_FILE: u64 = 1 << 20;

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingProblem {
    /// File, variable, `KIMI_CODE_SETTINGS` or [`PROGRAM`].
    pub source: String,
    /// Dotted path within it; empty where the whole source is meant.
    pub path: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl std::fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, path, message } = self;
        if path.is_empty() { write!(f, "{source}: {message}") } else { write!(f, "{source}: {path} {message}") }
    }
}

/// A layer of settings, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// `~/.pi/pi-provider-kimi-code.json`.
    Home,
    /// The same in a project that the user does not trust.
    UntrustedProject,
    /// The same in a project that the user trusts.
    Project,
    /// An environment variable.
    Variable,
    /// `KIMI_CODE_SETTINGS`, or the options of `KimiCode({…})` and `new Kimi({…})`.
    Program,
}

/// The layers, merged.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// What applies.
    pub settings: Settings,
    /// Invalid settings. They do not apply.
    pub problems: Vec<SettingProblem>,
    /// Where a setting that is not at its default comes from: path → its source, as in [`SettingProblem`].
    pub origins: BTreeMap<String, String>,
    /// The addresses that are named, by key.
    pub addresses: NamedAddresses,
}

/// The settings files of an environment.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The user's own.
    pub home: Option<PathBuf>,
    /// The project's, and whether the user trusts the project.
    pub project: Option<(PathBuf, bool)>,
}

impl Files {
    /// Returns where the files would be.
    pub fn of(environment: &Environment) -> Self {
        let inside = |directory: &Path| directory.join(".pi").join(FILE_NAME);
        let home = environment.home().map(|home| inside(&home));
        let project = environment
            .project()
            .map(|(directory, trusted)| (inside(&directory), trusted))
            // A session in the home directory has one file, not two, whatever links lead there.
            .filter(|(file, _)| home.as_ref().is_none_or(|home| !is_same_file(file, home)));
        Self { home, project }
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |file: &Path| fs::canonicalize(file).ok();
    one == other || real(one).is_some_and(|one| Some(one) == real(other))
}

/// Reads and merges everything. Blocks on two small files.
pub fn load(environment: &Environment) -> Layers {
    let files = Files::of(environment);
    let mut merge = Merge { root: keys::defaults(), ..Merge::default() };
    if let Some(home) = &files.home
        && !merge.file(home, Layer::Home)
        && let Some(user_home) = environment.home()
    {
        merge.legacy(&legacy::file(&user_home));
    }
    if let Some((file, trusted)) = &files.project {
        merge.file(file, if *trusted { Layer::Project } else { Layer::UntrustedProject });
    }
    merge.variables(environment);
    if let Some(text) = environment.get("KIMI_CODE_SETTINGS") {
        merge.text("KIMI_CODE_SETTINGS", Layer::Program, text);
    }
    if let Some(text) = environment.program_options() {
        merge.text(PROGRAM, Layer::Program, text);
    }
    let Merge { root, problems, origins, addresses, .. } = merge;
    // Every value has passed its key, so this cannot fail.
    let settings = serde_json::from_value(root).unwrap_or_default();
    Layers { settings, problems, origins, addresses }
}

/// Reads the JSON of a file, `None` if there is none.
pub(super) fn read(file: &Path) -> Result<Option<Value>, String> {
    read_text(file)?.map(|text| parse(&text)).transpose()
}

fn read_text(file: &Path) -> Result<Option<String>, String> {
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
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
    Ok(Some(text))
}

fn parse(text: &str) -> Result<Value, String> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))
}

#[derive(Default)]
struct Merge {
    root: Value,
    problems: Vec<SettingProblem>,
    origins: BTreeMap<String, String>,
    addresses: NamedAddresses,
    /// The first name in the file of an untrusted project that is not a setting, and how many there are.
    unknown: Option<(String, usize)>,
}

impl Merge {
    fn problem(&mut self, source: &str, path: &[&str], message: String) {
        self.problems.push(SettingProblem { source: source.to_owned(), path: path.join("."), message });
    }

    /// Merges a file; false if there is none.
    fn file(&mut self, file: &Path, layer: Layer) -> bool {
        let source = file.display().to_string();
        match read_text(file) {
            Ok(Some(text)) => self.text(&source, layer, &text),
            Ok(None) => return false,
            Err(message) => self.problem(&source, &[], message),
        }
        true
    }

    fn text(&mut self, source: &str, layer: Layer, text: &str) {
        match parse(text) {
            Ok(Value::Object(object)) => {
                self.group(source, layer, &mut Vec::new(), &object);
                self.report_unknown(source);
            }
            Ok(_) => self.problem(source, &[], "is not a JSON object".to_owned()),
            Err(message) => {
                // It may well name an address, and then nothing weaker may be used in its place. That of a project never counts.
                let may_name = !matches!(layer, Layer::Project | Layer::UntrustedProject);
                let is_named = |key: &&SettingKey| key.kind == ValueKind::Url && text.contains(key.path);
                for key in KEYS.iter().filter(|_| may_name).filter(is_named) {
                    let problem =
                        SettingProblem { source: source.to_owned(), path: String::new(), message: message.clone() };
                    self.address(key, layer, Err(problem));
                }
                self.problem(source, &[], message);
            }
        }
    }

    fn group<'v>(&mut self, source: &str, layer: Layer, path: &mut Vec<&'v str>, object: &'v Map<String, Value>) {
        for (name, value) in object {
            if path.is_empty() && name == "$schema" {
                continue;
            }
            path.push(name);
            self.entry(source, layer, path, value);
            path.pop();
        }
    }

    fn entry<'v>(&mut self, source: &str, layer: Layer, path: &mut Vec<&'v str>, value: &'v Value) {
        if let Some(key) = find(path) {
            return self.value(source, layer, key, path, value);
        }
        let known = children(path);
        match value.as_object() {
            Some(object) if !known.is_empty() => self.group(source, layer, path, object),
            _ if layer == Layer::UntrustedProject => {
                self.unknown.get_or_insert_with(|| (path.join("."), 0)).1 += 1;
            }
            None if !known.is_empty() => {
                self.problem(source, path, format!("is not an object (it may hold {})", known.join(", ")));
            }
            _ => {
                let siblings = children(&path[..path.len() - 1]).join(", ");
                self.problem(source, path, format!("is not a setting (known here: {siblings})"));
            }
        }
    }

    /// Reports the unknown names of an untrusted project in one line, because a stranger wrote the file.
    fn report_unknown(&mut self, source: &str) {
        let Some((first, count)) = self.unknown.take() else { return };
        let message = match count {
            1 => "is not a setting".to_owned(),
            2 => "is not a setting, nor is 1 more name in this file".to_owned(),
            _ => format!("is not a setting, nor are {} more names in this file", count - 1),
        };
        self.problem(source, &[&clip(&first, 60)], message);
    }

    fn value(&mut self, source: &str, layer: Layer, key: &'static SettingKey, path: &[&str], value: &Value) {
        match (layer, key.scope) {
            (Layer::Project | Layer::UntrustedProject, SettingScope::Home) => {
                let message = "counts only in the home file, not in a project's";
                return self.problem(source, path, message.to_owned());
            }
            (Layer::UntrustedProject, SettingScope::TrustedProject) => {
                let message = "is ignored, because Pi does not trust this project";
                return self.problem(source, path, message.to_owned());
            }
            _ => {}
        }
        // null: as if it were not here.
        if value.is_null() {
            return;
        }
        let counted = match key.counted(path) {
            Ok(counted) => counted,
            Err(message) => return self.problem(source, path, message),
        };
        let Some(mut accepted) = key.kind.read(value) else {
            return self.reject(source, layer, key, path, key.kind.complaint(value));
        };
        if matches!(layer, Layer::Project | Layer::UntrustedProject) {
            let clamped = key.clamp_for_project(accepted.clone());
            if clamped != accepted {
                self.problem(source, path, format!("is {accepted}, and counts as {clamped} in a project"));
                accepted = clamped;
            }
        }
        self.set(source, layer, key, &counted, accepted);
    }

    fn set(&mut self, source: &str, layer: Layer, key: &'static SettingKey, path: &[String], value: Value) {
        if let Some(address) = value.as_str() {
            self.address(key, layer, Ok(address.to_owned()));
        }
        put(&mut self.root, path, value);
        self.origins.insert(path.join("."), source.to_owned());
    }

    fn reject(&mut self, source: &str, layer: Layer, key: &'static SettingKey, path: &[&str], message: String) {
        let problem = SettingProblem { source: source.to_owned(), path: path.join("."), message };
        let name = if key.path == "oauthHost" { "the Kimi OAuth host" } else { "the Kimi base URL" };
        self.address(key, layer, Err(SettingProblem { path: name.to_owned(), ..problem.clone() }));
        self.problems.push(problem);
    }

    /// Notes what a layer says about an address, in place of what the layers below it say.
    fn address(&mut self, key: &'static SettingKey, layer: Layer, value: Result<String, SettingProblem>) {
        if key.kind == ValueKind::Url {
            put(&mut self.root, &[key.path], Value::Null);
            self.addresses.name(key.path, layer, value);
        }
    }

    /// Merges the settings file of the TypeScript extension.
    fn legacy(&mut self, file: &Path) {
        let source = file.display().to_string();
        match read(file) {
            Ok(Some(theirs)) => {
                if let Value::Object(object) = legacy::translate(&theirs) {
                    self.group(&source, Layer::Home, &mut Vec::new(), &object);
                }
            }
            Ok(None) => {}
            Err(message) => self.problem(&source, &[], message),
        }
    }

    fn variables(&mut self, environment: &Environment) {
        for key in KEYS {
            let found = key.variables.iter().find_map(|name| environment.get(name).map(|text| (*name, text)));
            let Some((name, text)) = found else { continue };
            let source = format!("environment variable {name}");
            match read_variable(key, text) {
                Some(value) => {
                    let path: Vec<String> = key.path.split('.').map(str::to_owned).collect();
                    self.set(&source, Layer::Variable, key, &path, value);
                    self.override_models(&path);
                }
                None => self.reject(&source, Layer::Variable, key, &[], key.kind.complaint(&text.into())),
            }
        }
    }

    /// A variable speaks for all models, so it also outranks what a file says about one of them.
    fn override_models(&mut self, path: &[String]) {
        let Some((_, rest)) = path.split_first().filter(|(group, _)| *group == "model") else { return };
        let Some(models) = self.root.get_mut("models").and_then(Value::as_object_mut) else { return };
        for (_, model) in models.iter_mut() {
            put(model, rest, Value::Null);
        }
    }
}

/// Zero and less mean "no cap" in this variable (docs/protocol.md#output-cap).
fn read_variable(key: &SettingKey, text: &str) -> Option<Value> {
    if key.path == "model.maxCompletionTokens" && text.parse::<i64>().is_ok_and(|number| number <= 0) {
        return Some(0.into());
    }
    key.kind.read_text(text)
}

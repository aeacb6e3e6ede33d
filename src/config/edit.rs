//! Changing one setting in a file.
//!
//! The file belongs to the user: unknown keys, their order and the rest of the content stay, a file that is not JSON is never
//! overwritten, and the change appears atomically, also where the file is a link into a dotfiles repository.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::environment::Environment;
use super::keys::{SCHEMA_URL, SettingKey, SettingScope, counted, find_dotted, put};
use super::layers::{Files, read};
use super::legacy;
use super::values::ValueKind;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::private_file::replace;

/// Which file is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The user's own.
    Home,
    /// The project's; refused while the user does not trust it.
    Project,
}

/// Sets `path` (dotted) in the file of that scope and returns the file. `null` removes the key, so that weaker layers count
/// again.
pub fn set(environment: &Environment, scope: Scope, path: &str, value: &Value) -> Result<PathBuf> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Config, why));
    let (key, counted) = counted(path)?;
    if scope == Scope::Project && key.scope == SettingScope::Home {
        return refuse(format!("{path} counts only in the home file"));
    }
    if !value.is_null() && key.kind.read(value).is_none() {
        return refuse(match key.kind.address_complaint(value) {
            Some(complaint) => format!("{path} {complaint}"),
            None => format!("{path} cannot be {value}, expected {}", key.kind.expected()),
        });
    }
    let files = Files::of(environment);
    let file = match (scope, files.home, files.project) {
        (Scope::Home, Some(home), _) => home,
        (Scope::Project, _, Some((project, true))) => project,
        (Scope::Project, _, Some((_, false))) => return refuse("Pi does not trust this project".to_owned()),
        _ => return refuse("there is no such settings file here".to_owned()),
    };
    let mut root = match read(&file) {
        Ok(Some(root @ Value::Object(_))) => root,
        Ok(Some(_)) => return refuse(format!("{} is not a JSON object; repair it first", file.display())),
        Ok(None) => new_file(environment, scope),
        Err(why) => return refuse(format!("{} {why}; repair it first", file.display())),
    };
    remove_spellings(&mut root, key, &counted);
    if value.is_null() {
        remove(&mut root, &counted)
    } else {
        put(&mut root, &counted, value.clone())
    }
    write(&file, &root)
        .map_err(|error| Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", file.display())))?;
    Ok(file)
}

/// Sets a value as users type it. Nothing, `default` and `not set` remove the key.
pub fn set_text(environment: &Environment, scope: Scope, path: &str, text: &str) -> Result<PathBuf> {
    let text = text.trim();
    let kind = find_dotted(path).map(|(key, _)| key.kind);
    let value = match kind {
        _ if matches!(text, "" | "default" | "not set") => Value::Null,
        // A size stays in the unit that was typed.
        None | Some(ValueKind::Size) => text.into(),
        Some(kind) => {
            kind.read_text(text).unwrap_or_else(|| serde_json::from_str(text).unwrap_or_else(|_| text.into()))
        }
    };
    set(environment, scope, path, &value)
}

/// Returns the content of a new file, which names its schema. A new home file takes over what the TypeScript extension's file
/// says, since that one does not count any more.
fn new_file(environment: &Environment, scope: Scope) -> Value {
    let mut root = json!({ "$schema": SCHEMA_URL });
    if scope == Scope::Home
        && let Some(home) = environment.home()
        && let Ok(Some(theirs)) = read(&legacy::file(&home))
        && let Value::Object(ours) = legacy::translate(&theirs)
        && let Some(object) = root.as_object_mut()
    {
        object.extend(ours);
    }
    root
}

/// Removes what the file says about a setting under other spellings of its path.
fn remove_spellings(root: &mut Value, key: &SettingKey, counted: &[String]) {
    let Some((name, groups)) = counted.split_last() else { return };
    let place = groups.iter().try_fold(root, |place, group| place.get_mut(group));
    if let Some(object) = place.and_then(Value::as_object_mut) {
        object.retain(|other, _| {
            let path: Vec<&str> = groups.iter().map(String::as_str).chain([other.as_str()]).collect();
            other == name || key.counted(&path).ok().as_deref() != Some(counted)
        });
    }
}

/// Removes a member, and the objects that are empty without it.
fn remove(place: &mut Value, path: &[String]) {
    let ([name, rest @ ..], Some(object)) = (path, place.as_object_mut()) else { return };
    if rest.is_empty() {
        object.shift_remove(name);
    } else if let Some(inner) = object.get_mut(name) {
        remove(inner, rest);
        if inner.as_object().is_some_and(Map::is_empty) {
            object.shift_remove(name);
        }
    }
}

fn write(file: &Path, root: &Value) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(root)?;
    text.push('\n');
    replace(file, text.as_bytes())
}

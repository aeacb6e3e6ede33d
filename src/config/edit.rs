//! Changing one setting in a file.
//!
//! The file belongs to a person: unknown keys, order and the rest of its content stay, a file that is not JSON is never
//! overwritten, and what is written appears at once and whole, also where the file is a link into somebody's dotfiles.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::environment::Environment;
use super::keys::{SCHEMA_URL, SettingScope, find, put};
use super::layers::{Files, read};
use super::legacy;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::private_file::replace;

/// Which file is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The person's own.
    Home,
    /// The project's; refused while Pi does not trust it.
    Project,
}

/// Sets `path` (dotted) in the file of that scope; `null` takes the key out, so that the weaker layers count again. Returns the file.
pub fn set(environment: &Environment, scope: Scope, path: &str, value: &Value) -> Result<PathBuf> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Config, why));
    let parts: Vec<&str> = path.split('.').collect();
    let Some(key) = find(&parts) else { return refuse(format!("{path} is not a setting")) };
    if scope == Scope::Project && key.reach == SettingScope::Home {
        return refuse(format!("{path} counts only in the home file"));
    }
    if !value.is_null() && key.kind.read(value).is_none() {
        return refuse(format!("{path} cannot be {value}, expected {}", key.kind.expected()));
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
        Ok(None) => fresh(environment, scope),
        Err(why) => return refuse(format!("{} {why}; repair it first", file.display())),
    };
    if value.is_null() {
        remove(&mut root, &parts)
    } else {
        put(&mut root, &parts, value.clone())
    }
    write(&file, &root)
        .map_err(|error| Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", file.display())))?;
    Ok(file)
}

/// A new file names its schema. A new home file takes over what the TypeScript extension's file said, since it hides it.
fn fresh(environment: &Environment, scope: Scope) -> Value {
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

/// Takes a member out, and the objects that are empty without it.
fn remove(place: &mut Value, path: &[&str]) {
    let ([name, rest @ ..], Some(object)) = (path, place.as_object_mut()) else { return };
    if rest.is_empty() {
        object.shift_remove(*name);
    } else if let Some(inner) = object.get_mut(*name) {
        remove(inner, rest);
        if inner.as_object().is_some_and(Map::is_empty) {
            object.shift_remove(*name);
        }
    }
}

fn write(file: &Path, root: &Value) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(root)?;
    text.push('\n');
    replace(file, text.as_bytes())
}

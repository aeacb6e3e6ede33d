//! Settings files and variables → effective settings.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use kimi_code::config::{Config, Environment, FILE_NAME, Layers, ModelOverrides, Scope, Settings, load, set};
use serde_json::Value;

use super::pieces::parts;

/// Input: home file, project file, lines of `NAME=value`.
///
/// Effective settings are written and read back without a complaint, a project cannot choose where requests go, and changing a
/// setting changes only that setting.
pub fn config(data: &[u8]) {
    let [home, project, variables] = parts(data);
    let scratch = tempfile::tempdir().expect("a folder");
    let (home_folder, project_folder) = (scratch.path().join("home"), scratch.path().join("project"));
    write(&home_folder, home);
    write(&project_folder, project);
    let environment = environment(&home_folder, Some(&project_folder), variables);

    let layers = load(&environment);
    assert!(layers.problems.iter().all(|problem| !problem.source.is_empty() && !problem.message.is_empty()));
    if let Err(error) = Config::from_environment(&environment, &Default::default()) {
        assert!(!error.message.is_empty());
    }
    project_has_no_say(&layers, &load(&self::environment(&home_folder, None, variables)));
    reads_back(&layers, &scratch.path().join("again"));
    setting_sets(&home_folder, home);
}

fn write(folder: &Path, content: &[u8]) {
    fs::create_dir_all(folder.join(".pi")).expect("a folder");
    if !content.is_empty() {
        fs::write(folder.join(".pi").join(FILE_NAME), content).expect("a file");
    }
}

fn environment(home: &Path, project: Option<&Path>, variables: &[u8]) -> Environment {
    let text = String::from_utf8_lossy(variables);
    let mut all: HashMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    all.insert("HOME".to_owned(), home.display().to_string());
    for name in ["KIMI_CODE_PROJECT", "KIMI_CODE_PROJECT_TRUSTED"] {
        all.remove(name);
    }
    if let Some(project) = project {
        all.insert("KIMI_CODE_PROJECT".to_owned(), project.display().to_string());
        all.insert("KIMI_CODE_PROJECT_TRUSTED".to_owned(), "1".to_owned());
    }
    Environment::new(all)
}

fn project_has_no_say(with: &Layers, without: &Layers) {
    let personal = |layers: &Layers| {
        let settings = &layers.settings;
        (settings.base_url.clone(), settings.oauth_host.clone(), settings.identity, settings.region)
    };
    assert_eq!(personal(with), personal(without));
}

fn reads_back(layers: &Layers, folder: &Path) {
    let written = serde_json::to_vec(&layers.settings).expect("settings are JSON");
    write(folder, &written);
    let again = load(&environment(folder, None, b""));
    assert_eq!(again.problems, []);
    assert_eq!(meant(again.settings), meant(layers.settings.clone()));
}

/// A model without overrides may be named or not.
fn meant(mut settings: Settings) -> Settings {
    settings.models.retain(|_, overrides| *overrides != ModelOverrides::default());
    settings
}

fn setting_sets(home: &Path, before: &[u8]) {
    let environment = environment(home, None, b"");
    if set(&environment, Scope::Home, "statusLine", &false.into()).is_err() {
        return;
    }
    assert!(!load(&environment).settings.status_line);
    let file = home.join(".pi").join(FILE_NAME);
    let mut after: Value = serde_json::from_slice(&fs::read(file).expect("written")).expect("JSON");
    let Ok(Value::Object(mut before)) = serde_json::from_slice(before.strip_prefix(b"\xef\xbb\xbf").unwrap_or(before))
    else {
        return;
    };
    let after = after.as_object_mut().expect("an object");
    for object in [&mut before, after] {
        object.shift_remove("statusLine");
    }
    assert_eq!(before, *after, "everything else stays");
}

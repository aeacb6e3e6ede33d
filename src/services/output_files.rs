//! Files that a data source returns, and where they may land.
//!
//! The names come from a server and the wish from a model, so neither is trusted: a file is written only where the model
//! asked for one, only inside the project folder, never through a symlink or `..`, and over an existing file only if exactly
//! that name was asked for. Everything else is listed with its size. The rule which names belong to a wish is the official
//! plugin's (docs/protocol.md#data-sources).

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind as Io, Write};
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use serde::Serialize;
use serde_json::Value;

/// Folders whose content other programs execute or obey.
const GUARDED: [&str; 2] = [".git", ".pi"];

/// What became of one returned file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Returned {
    /// As the service calls it.
    pub name: String,
    /// Bytes of the content.
    pub size: usize,
    /// Where it was written, relative to the project folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why it was not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// Takes the `files` of an answer. `wanted` is the path the model asked for.
pub fn take_files(files: &Value, project: Option<&Path>, wanted: Option<&str>) -> Vec<Returned> {
    let Value::Array(files) = files else { return Vec::new() };
    let place = Place::new(project, wanted);
    files
        .iter()
        .enumerate()
        .map(|(index, file)| {
            let name = file.get("name").and_then(Value::as_str).map_or_else(|| format!("file {}", index + 1), visible);
            match content(file) {
                Err(reason) => Returned { name, size: 0, path: None, skipped: Some(reason) },
                Ok(bytes) => {
                    let (path, skipped) = match place.as_ref().map_err(Clone::clone).and_then(|p| p.put(&name, &bytes))
                    {
                        Ok(path) => (Some(path), None),
                        Err(reason) => (None, Some(reason)),
                    };
                    Returned { name, size: bytes.len(), path, skipped }
                }
            }
        })
        .collect()
}

/// A name that can be shown and compared: control characters would let it look like another one.
fn visible(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

fn content(file: &Value) -> Result<Vec<u8>, String> {
    let Some(text) = file.get("content").and_then(Value::as_str) else {
        return Err("it came without content".to_owned());
    };
    match file.get("encoding").and_then(Value::as_str) {
        Some("base64") => {
            let packed: String = text.split_whitespace().collect();
            STANDARD.decode(packed).map_err(|_| "its content is not valid base64".to_owned())
        }
        _ => Ok(text.as_bytes().to_vec()),
    }
}

/// Where the model wants a file: a folder inside the project, and the name it asked for.
#[derive(Debug)]
struct Place {
    /// The project folder, free of symlinks.
    root: PathBuf,
    /// Below it, plain names only.
    folder: PathBuf,
    name: String,
}

impl Place {
    fn new(project: Option<&Path>, wanted: Option<&str>) -> Result<Self, String> {
        let Some(wanted) = wanted.map(str::trim).filter(|wanted| !wanted.is_empty()) else {
            return Err("no file_path was asked for".to_owned());
        };
        let Some(project) = project else { return Err("there is no project folder to write to".to_owned()) };
        let root = fs::canonicalize(project).map_err(|error| format!("the project folder cannot be used: {error}"))?;
        let inside = relative(wanted, project, &root)?;
        let name = inside.file_name().and_then(OsStr::to_str).ok_or("file_path does not name a file")?.to_owned();
        Ok(Self { folder: inside.parent().map(Path::to_owned).unwrap_or_default(), root, name })
    }

    /// Writes the file if its name belongs to what was asked for, and returns its path below the project folder.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, String> {
        let named = Path::new(name);
        // A bare name means "beside the file that was asked for".
        let bare = named.components().count() == 1 && matches!(named.components().next(), Some(Component::Normal(_)));
        let inside =
            if bare && !name.contains('\\') { self.folder.join(name) } else { relative(name, &self.root, &self.root)? };
        let file = inside.file_name().and_then(OsStr::to_str).ok_or("it does not name a file")?;
        if inside.parent() != Some(&self.folder) || !belongs(file, &self.name) {
            return Err("it is outside of the requested file_path".to_owned());
        }
        let folder = self.folder()?;
        let target = folder.join(file);
        let written = match fs::symlink_metadata(&target) {
            Ok(found) if found.is_symlink() => Err("a symlink is in its place".to_owned()),
            Ok(found) if found.is_dir() => Err("a folder is in its place".to_owned()),
            Ok(_) if file != self.name => Err("a file of that name exists and was not asked for".to_owned()),
            Ok(_) => replace(&target, bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == Io::NotFound => create(&target, bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        written.map(|()| inside.display().to_string())
    }

    /// The folder, created where it is missing; each step must be a real folder.
    fn folder(&self) -> Result<PathBuf, String> {
        let mut folder = self.root.clone();
        for part in &self.folder {
            folder.push(part);
            match fs::symlink_metadata(&folder) {
                Ok(found) if found.is_dir() => {}
                Ok(found) if found.is_symlink() => return Err("its folder is reached through a symlink".to_owned()),
                Ok(_) => return Err("its folder is not a folder".to_owned()),
                Err(error) if error.kind() == Io::NotFound => {
                    fs::create_dir(&folder).map_err(|error| format!("its folder cannot be made: {error}"))?;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(folder)
    }
}

/// `path` below the project folder, made of plain names.
fn relative(path: &str, project: &Path, root: &Path) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let inside = if path.is_absolute() {
        let stripped = path.strip_prefix(project).or_else(|_| path.strip_prefix(root));
        stripped.map_err(|_| "it is outside of the project folder".to_owned())?
    } else {
        path
    };
    let mut plain = PathBuf::new();
    for component in inside.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => {
                let text = name.to_str().ok_or("its path is not Unicode")?;
                if GUARDED.iter().any(|guarded| text.eq_ignore_ascii_case(guarded)) {
                    return Err(format!("nothing is written into {text}"));
                }
                if text.contains(['\\', ':', '\0']) {
                    return Err("its path contains a character that is not portable".to_owned());
                }
                plain.push(text);
            }
            _ => return Err("its path leads out of the project folder".to_owned()),
        }
    }
    Ok(plain)
}

/// The requested name itself, or `<stem>_<anything>.<same extension>` for answers of several parts.
fn belongs(file: &str, wanted: &str) -> bool {
    let split = |name: &str| {
        let path = Path::new(name);
        let part = |part: Option<&OsStr>| part.and_then(OsStr::to_str).unwrap_or_default().to_owned();
        (part(path.file_stem()), part(path.extension()))
    };
    let ((stem, extension), (wanted_stem, wanted_extension)) = (split(file), split(wanted));
    file == wanted
        || (extension == wanted_extension && stem.strip_prefix(&wanted_stem).is_some_and(|rest| rest.starts_with('_')))
}

fn create(target: &Path, bytes: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(target)?.write_all(bytes)
}

/// Old content or new, never half of it; a symlink that appears meanwhile is replaced, not followed.
fn replace(target: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = target.with_file_name(format!(".kimi-{:016x}", rand::rng().random::<u64>()));
    let done = create(&fresh, bytes).and_then(|()| fs::rename(&fresh, target));
    if done.is_err() {
        // What is left of the attempt is of no use; the first error says more than a second one.
        let _ = fs::remove_file(&fresh);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A project folder in a folder of its own, gone at the end.
    struct Project(tempfile::TempDir);

    impl Project {
        fn new() -> Self {
            let outer = tempfile::tempdir().unwrap();
            fs::create_dir(outer.path().join("project")).unwrap();
            Self(outer)
        }
        fn path(&self) -> PathBuf {
            self.0.path().join("project")
        }
        fn take(&self, name: &str, wanted: Option<&str>) -> Returned {
            let files = json!([{"name": name, "content": "a,b\n", "encoding": "utf-8"}]);
            take_files(&files, Some(&self.path()), wanted).remove(0)
        }
        fn skipped(&self, name: &str, wanted: &str) -> String {
            let returned = self.take(name, Some(wanted));
            assert_eq!(returned.path, None, "{name} for {wanted}");
            returned.skipped.unwrap()
        }
    }

    #[test]
    fn a_file_lands_where_it_was_asked_for() {
        let project = Project::new();
        let absolute = project.path().join("data/all.csv").display().to_string();
        for (name, wanted, path) in [
            ("out.csv", "out.csv", "out.csv"),
            ("prices.csv", "data/prices.csv", "data/prices.csv"),
            ("data/prices_2.csv", "./data/prices.csv", "data/prices_2.csv"),
            (absolute.as_str(), absolute.as_str(), "data/all.csv"),
            ("数据_价格.csv", "数据.csv", "数据_价格.csv"),
        ] {
            let returned = project.take(name, Some(wanted));
            assert_eq!(returned.path.as_deref(), Some(path), "{returned:?}");
            assert_eq!((returned.size, fs::read(project.path().join(path)).unwrap().len()), (4, 4));
        }
    }

    #[test]
    fn nothing_is_written_that_was_not_asked_for() {
        let project = Project::new();
        assert_eq!(project.take("out.csv", None).skipped.unwrap(), "no file_path was asked for");
        for (name, wanted) in [
            ("other.csv", "out.csv"),
            ("out.sh", "out.csv"),
            ("outsider.csv", "out.csv"),
            ("sub/out.csv", "out.csv"),
            ("out.csv", "data"),
        ] {
            assert_eq!(project.skipped(name, wanted), "it is outside of the requested file_path", "{name}");
        }
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_path_leads_out_of_the_project() {
        let project = Project::new();
        for (name, wanted) in [
            ("../out.csv", "../out.csv"),
            ("out.csv", "../out.csv"),
            ("../out.csv", "out.csv"),
            ("sub/../../out.csv", "out.csv"),
            ("out.csv", "sub/../out.csv"),
            ("/etc/out.csv", "/etc/out.csv"),
            ("/etc/out.csv", "out.csv"),
            ("..\\out.csv", "out.csv"),
            ("..", "out.csv"),
            ("", "out.csv"),
            ("pre-commit", ".git/hooks/pre-commit"),
            ("x.ts", ".PI/extensions/x.ts"),
        ] {
            project.skipped(name, wanted);
        }
        assert_eq!(fs::read_dir(&project.0).unwrap().count(), 1);
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
        let neighbour = format!("{}-neighbour/out.csv", project.path().display());
        assert_eq!(project.skipped(&neighbour, &neighbour), "it is outside of the project folder");
    }

    #[cfg(unix)]
    #[test]
    fn symlinks_are_never_followed() {
        use std::os::unix::fs::symlink;
        let project = Project::new();
        let outside = project.0.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept.csv"), "kept").unwrap();
        symlink(&outside, project.path().join("link")).unwrap();
        symlink(outside.join("kept.csv"), project.path().join("out.csv")).unwrap();
        symlink(outside.join("new.csv"), project.path().join("dangling.csv")).unwrap();
        assert_eq!(project.skipped("a.csv", "link/a.csv"), "its folder is reached through a symlink");
        assert_eq!(project.skipped("out.csv", "out.csv"), "a symlink is in its place");
        assert_eq!(project.skipped("dangling.csv", "dangling.csv"), "a symlink is in its place");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("kept.csv")).unwrap(), "kept");
        // The project folder itself may be reached through one.
        symlink(project.path(), project.0.path().join("door")).unwrap();
        let wanted = project.0.path().join("door/in.csv").display().to_string();
        let files = json!([{"name": "in.csv", "content": "x"}]);
        assert_eq!(
            take_files(&files, Some(&project.0.path().join("door")), Some(&wanted))[0].path.as_deref(),
            Some("in.csv")
        );
    }

    #[test]
    fn an_existing_file_is_replaced_only_under_the_name_that_was_asked_for() {
        let project = Project::new();
        fs::write(project.path().join("out.csv"), "old").unwrap();
        fs::write(project.path().join("out_2.csv"), "old").unwrap();
        fs::create_dir(project.path().join("folder.csv")).unwrap();
        assert_eq!(project.skipped("out_2.csv", "out.csv"), "a file of that name exists and was not asked for");
        assert_eq!(project.skipped("folder.csv", "folder.csv"), "a folder is in its place");
        assert!(project.take("out.csv", Some("out.csv")).path.is_some());
        assert_eq!(fs::read_to_string(project.path().join("out.csv")).unwrap(), "a,b\n");
        assert_eq!(fs::read_to_string(project.path().join("out_2.csv")).unwrap(), "old");
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 3, "nothing is left over");
    }

    #[test]
    fn content_is_decoded_or_named_as_unusable() {
        let project = Project::new();
        let files = json!([
            {"name": "x.bin", "content": "AAEC\n/w==", "encoding": "base64"},
            {"name": "x_1.bin", "content": "%%%", "encoding": "base64"},
            {"name": "x_2.bin"},
            {"content": "nameless"},
            "noise",
        ]);
        let returned = take_files(&files, Some(&project.path()), Some("x.bin"));
        assert_eq!(fs::read(project.path().join("x.bin")).unwrap(), [0, 1, 2, 255]);
        let reasons: Vec<&str> = returned[1..].iter().map(|file| file.skipped.as_deref().unwrap()).collect();
        assert_eq!(reasons[..2], ["its content is not valid base64", "it came without content"]);
        assert_eq!((returned[3].name.as_str(), returned[3].size), ("file 4", 8));
        assert_eq!(returned[4].name, "file 5");
        assert!(take_files(&json!({"name": "x"}), None, None).is_empty());
    }
}

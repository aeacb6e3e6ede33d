//! Writes the files that a data source returns.
//!
//! The names come from a server and the requested path from a model, so neither is trusted: a file is written only where the
//! model requested one, only inside the project folder, never through a symlink or `..`, and over an existing file only if
//! exactly that name was requested. All other files are listed with their size. Which names belong to a requested path is the
//! official plugin's rule (docs/protocol.md#data-sources). Names that mean something else on Windows or macOS are refused on
//! every system, because a project may be on a shared disk.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind as Io, Write};
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

use crate::display_text::one_line;
use crate::http::redact::KnownSecrets;

/// Files of one answer that are looked at.
const MAX_FILES: usize = 50;

/// Longest name that is shown, in characters.
const MAX_NAME: usize = 500;

/// Folders whose content other programs execute or obey.
const GUARDED: [&str; 2] = [".git", ".pi"];

/// Names that are devices on Windows, in every folder and with every extension
/// (https://learn.microsoft.com/windows/win32/fileio/naming-a-file).
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// One returned file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Returned {
    /// Name that the service gave it, safe to print.
    pub name: String,
    /// Size of the content in bytes.
    pub size: usize,
    /// Where it was written, relative to the project folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why it was not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// Writes the `files` of an answer; `requested` is the path that the model asked for. Returns the first 50 files, and how many
/// more there were.
pub fn take_files(files: &Value, project: Option<&Path>, requested: Option<&str>) -> (Vec<Returned>, usize) {
    let Value::Array(files) = files else { return (Vec::new(), 0) };
    let target = OutputTarget::new(project, requested);
    let taken = files.iter().take(MAX_FILES).enumerate().map(|(index, file)| {
        let name =
            file.get("name").and_then(Value::as_str).map_or_else(|| format!("file {}", index + 1), str::to_owned);
        let (size, written) = match content(file) {
            Ok(bytes) => (bytes.len(), target.as_ref().map_err(Clone::clone).and_then(|to| to.write(&name, &bytes))),
            Err(reason) => (0, Err(reason)),
        };
        let (path, skipped) = match written {
            Ok(path) => (Some(path), None),
            Err(reason) => (None, Some(reason)),
        };
        Returned { name: one_line(&name, MAX_NAME), size, path, skipped }
    });
    (taken.collect(), files.len().saturating_sub(MAX_FILES))
}

fn content(file: &Value) -> Result<Vec<u8>, String> {
    let Some(text) = file.get("content").and_then(Value::as_str) else {
        return Err("it came without content".to_owned());
    };
    match file.get("encoding").and_then(Value::as_str) {
        Some("base64") => {
            let packed: String = text.split_whitespace().collect();
            let bytes = STANDARD.decode(packed).map_err(|_| "its content is not valid base64".to_owned())?;
            // The body was searched before, but not what is encoded in it.
            Ok(KnownSecrets::shared().scrub(bytes))
        }
        _ => Ok(KnownSecrets::shared().scrub(text.as_bytes().to_vec())),
    }
}

/// The path that the model requested: a folder inside the project, and a name.
#[derive(Debug)]
struct OutputTarget {
    /// The project folder, free of symlinks.
    root: PathBuf,
    /// Path below it, made of checked names.
    folder: PathBuf,
    name: String,
}

impl OutputTarget {
    fn new(project: Option<&Path>, requested: Option<&str>) -> Result<Self, String> {
        let Some(requested) = requested.map(str::trim).filter(|path| !path.is_empty()) else {
            return Err("no file_path was asked for".to_owned());
        };
        let Some(project) = project else { return Err("there is no project folder to write to".to_owned()) };
        let root = fs::canonicalize(project).map_err(|error| format!("the project folder cannot be used: {error}"))?;
        let inside = relative(requested, project, &root)?;
        let name = inside.file_name().and_then(OsStr::to_str).ok_or("file_path does not name a file")?.to_owned();
        Ok(Self { folder: inside.parent().map(Path::to_owned).unwrap_or_default(), root, name })
    }

    /// Writes the file if its name belongs to the requested path. Returns its path below the project folder.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<String, String> {
        // A bare name is in the folder of the requested file.
        let is_bare = !name.is_empty() && name != ".." && !name.contains(['/', '\\']);
        let inside = if is_bare {
            check_name(name)?;
            self.folder.join(name)
        } else {
            relative(name, &self.root, &self.root)?
        };
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

    /// Returns the folder, created where it is missing. Each part of its path must be a real folder.
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

/// Returns `path` relative to the project folder, made of checked names.
fn relative(path: &str, project: &Path, root: &Path) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let inside = if path.is_absolute() {
        let stripped = path.strip_prefix(project).or_else(|_| path.strip_prefix(root));
        stripped.map_err(|_| "it is outside of the project folder".to_owned())?
    } else {
        path
    };
    let mut checked = PathBuf::new();
    for component in inside.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => {
                let name = name.to_str().ok_or("its path is not Unicode")?;
                check_name(name)?;
                checked.push(name);
            }
            _ => return Err("its path leads out of the project folder".to_owned()),
        }
    }
    Ok(checked)
}

/// Refuses a name of a file or folder that is guarded, or that some system reads as another name.
fn check_name(name: &str) -> Result<(), String> {
    let reorders = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if name.contains(|c: char| {
        c.is_control() || reorders(c) || matches!(c, '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*')
    }) {
        return Err("its path contains a character that is not portable".to_owned());
    }
    // macOS ignores characters without a width, Windows dots and spaces at the end, and both the case.
    let read: String = name.chars().filter(|c| !is_ignorable(*c)).collect();
    let read = read.trim_end_matches(['.', ' ']).trim_start();
    if let Some(guarded) = GUARDED.iter().find(|guarded| same_ignoring_case(read, guarded)) {
        return Err(format!("nothing is written into {guarded}"));
    }
    if read.is_empty() || name.ends_with(['.', ' ']) {
        return Err("its path ends with a dot or a space, which Windows drops".to_owned());
    }
    let stem = read.split('.').next().unwrap_or(read).trim_end().to_lowercase();
    let is_port = |kind: &str| {
        let number = stem.strip_prefix(kind).map(|rest| rest.chars().collect::<Vec<_>>());
        matches!(number.as_deref(), Some(['0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}']))
    };
    if DEVICES.contains(&stem.as_str()) || is_port("com") || is_port("lpt") {
        return Err("its name is a device on Windows".to_owned());
    }
    if is_short_name(read) {
        return Err("its name may be the short form of another one on Windows".to_owned());
    }
    Ok(())
}

/// Compares in both cases, because some characters have an ASCII letter in one of them only.
fn same_ignoring_case(name: &str, guarded: &str) -> bool {
    name.to_lowercase() == guarded || name.to_uppercase() == guarded.to_uppercase()
}

/// Whether `name` looks like one that Windows makes up for a longer one: `GIT~1`, `PROGRA~1.TXT`.
fn is_short_name(name: &str) -> bool {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let Some((head, number)) = stem.rsplit_once('~') else { return false };
    let short = stem.chars().count() <= 8 && extension.chars().count() <= 3 && !head.is_empty();
    short && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether a file system may ignore `c` in names (the characters that Git guards against on macOS, and their relatives).
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether `file` is the requested name, or `<stem>_<anything>.<same extension>` for answers of several parts.
fn belongs(file: &str, requested: &str) -> bool {
    let split = |name: &str| {
        let path = Path::new(name);
        let part = |part: Option<&OsStr>| part.and_then(OsStr::to_str).unwrap_or_default().to_owned();
        (part(path.file_stem()), part(path.extension()))
    };
    let ((stem, extension), (requested_stem, requested_extension)) = (split(file), split(requested));
    let suffix = stem.strip_prefix(&requested_stem);
    file == requested || (extension == requested_extension && suffix.is_some_and(|suffix| suffix.starts_with('_')))
}

fn create(target: &Path, bytes: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(target)?.write_all(bytes)
}

/// Replaces a file atomically. A symlink that has appeared since is replaced, not followed.
fn replace(target: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = target.with_file_name(format!(".kimi-{:016x}", rand::random::<u64>()));
    let done = create(&temporary, bytes).and_then(|()| fs::rename(&temporary, target));
    if done.is_err() {
        // The first error says more than one of cleaning up.
        let _ = fs::remove_file(&temporary);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A project folder in a temporary folder.
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
        fn take(&self, name: &str, requested: Option<&str>) -> Returned {
            let files = json!([{"name": name, "content": "a,b\n", "encoding": "utf-8"}]);
            take_files(&files, Some(&self.path()), requested).0.remove(0)
        }
        fn skipped(&self, name: &str, requested: &str) -> String {
            let returned = self.take(name, Some(requested));
            assert_eq!(returned.path, None, "{name} for {requested}");
            returned.skipped.unwrap()
        }
    }

    #[test]
    fn file_is_written_where_it_was_requested() {
        let project = Project::new();
        let absolute = project.path().join("data/all.csv").display().to_string();
        for (name, requested, path) in [
            ("out.csv", "out.csv", "out.csv"),
            ("prices.csv", "data/prices.csv", "data/prices.csv"),
            ("data/prices_2.csv", "./data/prices.csv", "data/prices_2.csv"),
            (absolute.as_str(), absolute.as_str(), "data/all.csv"),
            ("数据_价格.csv", "数据.csv", "数据_价格.csv"),
        ] {
            let returned = project.take(name, Some(requested));
            assert_eq!(returned.path.as_deref(), Some(path), "{returned:?}");
            assert_eq!((returned.size, fs::read(project.path().join(path)).unwrap().len()), (4, 4));
        }
    }

    #[test]
    fn file_that_was_not_requested_is_not_written() {
        let project = Project::new();
        assert_eq!(project.take("out.csv", None).skipped.unwrap(), "no file_path was asked for");
        for (name, requested) in [
            ("other.csv", "out.csv"),
            ("out.sh", "out.csv"),
            ("outsider.csv", "out.csv"),
            ("sub/out.csv", "out.csv"),
            ("out.csv", "data"),
        ] {
            assert_eq!(project.skipped(name, requested), "it is outside of the requested file_path", "{name}");
        }
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
    }

    #[test]
    fn path_out_of_the_project_is_refused() {
        let project = Project::new();
        for (name, requested) in [
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
            project.skipped(name, requested);
        }
        assert_eq!(fs::read_dir(&project.0).unwrap().count(), 1);
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
        let neighbour = format!("{}-neighbour/out.csv", project.path().display());
        assert_eq!(project.skipped(&neighbour, &neighbour), "it is outside of the project folder");
    }

    #[cfg(unix)]
    #[test]
    fn symlink_is_never_followed() {
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
        let requested = project.0.path().join("door/in.csv").display().to_string();
        let files = json!([{"name": "in.csv", "content": "x"}]);
        assert_eq!(
            take_files(&files, Some(&project.0.path().join("door")), Some(&requested)).0[0].path.as_deref(),
            Some("in.csv")
        );
    }

    #[test]
    fn existing_file_is_replaced_only_under_the_requested_name() {
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
    fn content_is_decoded_or_reported_as_unusable() {
        let project = Project::new();
        let files = json!([
            {"name": "x.bin", "content": "AAEC\n/w==", "encoding": "base64"},
            {"name": "x_1.bin", "content": "%%%", "encoding": "base64"},
            {"name": "x_2.bin"},
            {"content": "nameless"},
            "noise",
        ]);
        let returned = take_files(&files, Some(&project.path()), Some("x.bin")).0;
        assert_eq!(fs::read(project.path().join("x.bin")).unwrap(), [0, 1, 2, 255]);
        let reasons: Vec<&str> = returned[1..].iter().map(|file| file.skipped.as_deref().unwrap()).collect();
        assert_eq!(reasons[..2], ["its content is not valid base64", "it came without content"]);
        assert_eq!((returned[3].name.as_str(), returned[3].size), ("file 4", 8));
        assert_eq!(returned[4].name, "file 5");
        assert!(take_files(&json!({"name": "x"}), None, None).0.is_empty());
    }
    #[test]
    fn windows_and_macos_names_of_guarded_folders_are_refused_on_every_system() {
        let project = Project::new();
        for folder in [
            ".git",
            ".GIT",
            ".git.",
            ".git ",
            ".git. .",
            " .git",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".g\u{131}t",
            "GIT~1",
            "git~2",
            ".PI",
            ".pi. ",
            ".p\u{200d}i",
            "PI~1",
        ] {
            let requested = format!("{folder}/hooks/pre-commit");
            assert!(!project.skipped("pre-commit", &requested).is_empty(), "{folder:?}");
        }
        assert_eq!(project.skipped("config", ".GIT /config"), "nothing is written into .git");
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
    }

    #[test]
    fn windows_devices_streams_and_short_names_are_refused_on_every_system() {
        let project = Project::new();
        for name in ["CON", "con.csv", "Nul .csv", "aux.tar.gz", "COM1", "lpt\u{b2}.txt", "CONOUT$"] {
            assert_eq!(project.skipped(name, name), "its name is a device on Windows", "{name:?}");
        }
        for name in ["out.csv:stream", "out.csv::$DATA", "a|b.csv", "a?.csv", "a\u{7}.csv", "a\u{202e}vsc.exe"] {
            assert_eq!(project.skipped(name, name), "its path contains a character that is not portable", "{name:?}");
        }
        assert_eq!(project.skipped("out_x:y.csv", "out.csv"), "its path contains a character that is not portable");
        assert_eq!(
            project.skipped("OUT~1.CSV", "OUT~1.CSV"),
            "its name may be the short form of another one on Windows"
        );
        assert_eq!(project.skipped("out.csv.", "out.csv."), "its path ends with a dot or a space, which Windows drops");
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_that_only_resemble_refused_ones_are_written() {
        let project = Project::new();
        for name in [
            "console.csv",
            "com10.csv",
            "gitlog.csv",
            ".github/a.csv",
            "backup~old.csv",
            "longer-name~1.csv",
            "a b.csv",
        ] {
            assert_eq!(project.take(name, Some(name)).path.as_deref(), Some(name));
        }
    }

    #[test]
    fn answer_with_too_many_files_the_first_fifty_are_taken() {
        let project = Project::new();
        let files: Vec<Value> = (0..60).map(|n| json!({"name": format!("out_{n}.csv"), "content": "x"})).collect();
        let (returned, omitted) = take_files(&json!(files), Some(&project.path()), Some("out.csv"));
        assert_eq!((returned.len(), omitted), (50, 10));
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 50);
    }

    #[test]
    fn name_with_control_characters_is_shown_with_signs() {
        assert_eq!(Project::new().take("a\u{1b}[2J.csv", Some("a.csv")).name, "a␛[2J.csv");
    }
    #[test]
    fn file_that_holds_our_credential_is_written_without_it() {
        let (project, credential) = (Project::new(), "file-credential-0123456789abcdef");
        KnownSecrets::shared().add_credential(credential);
        let packed = STANDARD.encode(format!("token,{credential}\n"));
        let files = json!([{"name": "out.csv", "content": packed, "encoding": "base64"}]);
        take_files(&files, Some(&project.path()), Some("out.csv"));
        assert_eq!(fs::read_to_string(project.path().join("out.csv")).unwrap(), "token,[redacted]\n");
    }
}

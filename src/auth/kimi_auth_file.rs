//! The file that holds a login of the official client (docs/protocol.md#official-client-file) or of its predecessor
//! (docs/protocol.md#old-client-file).
//!
//! Reading is tolerant: an unreadable content counts as "no login here" and its reason is kept for messages. Writing is strict:
//! only under the file's lock, whole or not at all, and unknown members stay as they were.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::token::Tokens;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::private_file::{self, ReservedFile, is_our_temporary};

/// Bytes that are reserved beside a file before a refresh token is spent; more than a login takes.
const RESERVED: usize = 16 << 10;

/// Age after which another program's temporary file is removed. Its writer may be stopped, so this is far longer than a pause.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What a file holds for us.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// No file, no entry.
    Absent,
    /// A file without usable content, and why.
    Unusable(String),
    /// A tombstone: the service refused this login for good.
    Revoked,
    /// A static key.
    StaticKey,
    /// A login.
    Login(Tokens),
}

impl Stored {
    /// Returns the tokens, if there are any.
    pub fn tokens(&self) -> Option<&Tokens> {
        match self {
            Self::Login(tokens) => Some(tokens),
            _ => None,
        }
    }
}

/// A file that should hold a JSON object.
pub(super) enum JsonFile {
    Missing,
    /// There is a file without an object, for this reason.
    Invalid(String),
    Object(Map<String, Value>),
}

impl JsonFile {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Self::Missing);
            }
            Err(error) => return Err(io_error("cannot be read", path, &error)),
        };
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        // The parser's own message may quote the text, and the text may hold a token.
        Ok(match serde_json::from_slice(text) {
            Ok(Value::Object(object)) => Self::Object(object),
            Ok(_) => Self::Invalid(format!("{} does not hold a JSON object", path.display())),
            Err(_) if text.iter().all(u8::is_ascii_whitespace) => Self::Invalid(format!("{} is empty", path.display())),
            Err(_) => Self::Invalid(format!("{} is not valid JSON", path.display())),
        })
    }
}

pub(super) fn io_error(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} {what}: {error}", path.display()))
}

/// Whether the place belongs to another user, or is mounted read-only.
pub fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Takes room for the next content of a credential file: `None` where this user may not write at all.
pub(super) fn reserve(path: &Path) -> Result<Option<ReservedFile>> {
    let size = fs::metadata(path).map_or(0, |metadata| usize::try_from(metadata.len()).unwrap_or(0)) + RESERVED;
    match ReservedFile::reserve(path, size) {
        Ok(reserved) => Ok(Some(reserved)),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(io_error("cannot be written", path, &error)),
    }
}

/// Reads a date or duration, also one written as text. Zero and values that are not finite count as missing.
pub(super) fn number(value: Option<&Value>) -> Option<f64> {
    let number = match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite() && *number != 0.0)
}

pub(super) fn text(object: &Map<String, Value>, name: &str) -> String {
    object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) fn pretty(object: &Map<String, Value>) -> Result<String> {
    serde_json::to_string_pretty(object)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("credentials cannot be written: {error}")))
}

/// `<home>/credentials/<scope>.json` of the official client, or of its predecessor.
#[derive(Debug, Clone)]
pub struct KimiCodeFile {
    path: PathBuf,
}

impl KimiCodeFile {
    /// Names the credential file of a scope below a home.
    pub fn new(home: &Path, scope: &str) -> Self {
        Self { path: home.join("credentials").join(format!("{scope}.json")) }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. An error only where a file exists that this user must not read.
    pub fn read(&self) -> Result<Stored> {
        let object = match JsonFile::read(&self.path)? {
            JsonFile::Object(object) => object,
            JsonFile::Missing => return Ok(Stored::Absent),
            JsonFile::Invalid(reason) => return Ok(Stored::Unusable(reason)),
        };
        let (access, refresh) = (text(&object, "access_token"), text(&object, "refresh_token"));
        Ok(match (access.is_empty(), refresh.is_empty()) {
            (true, _) => Stored::Revoked,
            (false, true) => Stored::Unusable(format!("{} has no refresh token", self.path.display())),
            (false, false) => Stored::Login(Tokens {
                access,
                refresh,
                expires_at_ms: number(object.get("expires_at")).map(|seconds| (seconds * 1000.0) as i64),
                expires_in: number(object.get("expires_in")).filter(|life| *life > 0.0).map(|life| life as u64),
                scope: text(&object, "scope"),
                token_type: text(&object, "token_type"),
            }),
        })
    }

    /// Takes room for the next login, before a refresh token is spent: `None` where this user may not write at all, an error
    /// where there is no room.
    pub fn reserve(&self) -> Result<Option<ReservedAuthFile>> {
        let object = self.object();
        Ok(reserve(&self.path)?.map(|file| ReservedAuthFile { path: self.path.clone(), object, file }))
    }

    /// Writes a login, keeping unknown members.
    pub fn write(&self, tokens: &Tokens) -> Result<()> {
        self.save(&merged(self.object(), tokens))
    }

    /// Removes it, as the official client's logout does (docs/protocol.md#revoked-login).
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::Io, format!("{} cannot be removed: {error}", self.path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Marks the login as refused for good, as the official client does (docs/protocol.md#revoked-login).
    pub fn write_tombstone(&self) -> Result<()> {
        let mut object = self.object();
        for name in ["access_token", "refresh_token"] {
            object.insert(name.to_owned(), "".into());
        }
        for name in ["expires_at", "expires_in"] {
            object.insert(name.to_owned(), 0.into());
        }
        self.save(&object)
    }

    /// Finishes what a dead writer left: a complete new login beside the file takes its place, because its predecessor is spent.
    /// Where there is no file, the user may have signed out; then only a successor of `pi`, Pi's login that is about to be
    /// refreshed, is used. Only under the lock. `is_exclusive`: no other holder of ours lives, so our temporary files are removed.
    pub fn recover(&self, pi: Option<&Tokens>, is_exclusive: bool) {
        let (Some(directory), Some(name)) = (self.path.parent(), self.path.file_name()) else { return };
        let prefix = format!("{}.tmp.", name.to_string_lossy());
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(&prefix) {
                continue;
            }
            let left = Self { path: entry.path() };
            let is_newer = |found: &Tokens| match self.read() {
                Ok(Stored::Login(known)) => found.issued_after(&known) && found.same_account(&known),
                Ok(Stored::Absent) => pi.is_some_and(|pi| !pi.issued_after(found) && found.is_surely_of(pi)),
                Ok(Stored::Unusable(_)) => true,
                _ => false,
            };
            let finished = match left.read() {
                Ok(Stored::Login(found)) if is_newer(&found) => self.write(&found),
                _ => Ok(()),
            };
            let is_abandoned = || entry.metadata().is_ok_and(|metadata| is_old(&metadata));
            if finished.is_ok() && ((is_exclusive && is_our_temporary(&name)) || is_abandoned()) {
                let _ = fs::remove_file(&left.path);
            }
        }
    }

    /// Returns the object in the file; empty where there is none.
    fn object(&self) -> Map<String, Value> {
        match JsonFile::read(&self.path) {
            Ok(JsonFile::Object(object)) => object,
            _ => Map::new(),
        }
    }

    fn save(&self, object: &Map<String, Value>) -> Result<()> {
        let text = pretty(object)? + "\n";
        private_file::replace(&self.path, text.as_bytes())
            .map_err(|error| io_error("cannot be written", &self.path, &error))
    }
}

/// Whether a file was last changed long ago. A date in the future counts by its distance, because the clock may have been set.
fn is_old(metadata: &fs::Metadata) -> bool {
    let age = metadata.modified().map(|then| then.elapsed().unwrap_or_else(|ahead| ahead.duration()));
    age.is_ok_and(|age| age > ABANDONED)
}

/// An open file with room for a login that is still to come.
#[derive(Debug)]
pub struct ReservedAuthFile {
    path: PathBuf,
    object: Map<String, Value>,
    file: ReservedFile,
}

impl ReservedAuthFile {
    /// Hands the login to the system, keeping unknown members. From here on a successor finds it, whatever happens to this process.
    pub fn write(&mut self, tokens: &Tokens) -> Result<()> {
        let text = pretty(&merged(std::mem::take(&mut self.object), tokens))? + "\n";
        self.file.write(text.as_bytes()).map_err(|error| io_error("cannot be written", &self.path, &error))
    }

    /// Puts the login in its place.
    pub fn commit(self) -> Result<()> {
        self.file.commit().map_err(|error| io_error("cannot be written", &self.path, &error))
    }
}

fn merged(mut object: Map<String, Value>, tokens: &Tokens) -> Map<String, Value> {
    let keep = |object: &Map<String, Value>, name: &str, new: &str, fallback: &str| -> Value {
        let old = text(object, name);
        [new, &old, fallback].into_iter().find(|text| !text.is_empty()).unwrap_or_default().into()
    };
    let scope = keep(&object, "scope", &tokens.scope, "");
    let token_type = keep(&object, "token_type", &tokens.token_type, "Bearer");
    for (name, value) in [
        ("access_token", Value::from(tokens.access.as_str())),
        ("refresh_token", tokens.refresh.as_str().into()),
        ("expires_at", tokens.expires_at_ms.map_or(0, |end| end.div_euclid(1000)).into()),
        ("scope", scope),
        ("token_type", token_type),
        ("expires_in", tokens.expires_in.unwrap_or(0).into()),
    ] {
        object.insert(name.to_owned(), value);
    }
    object
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;

    use super::*;
    use crate::auth::samples::{jwt, place, tokens};

    #[test]
    fn login_file_with_bad_content_is_no_login_and_the_reason_quotes_no_token() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        assert_eq!(file.read().unwrap(), Stored::Absent);
        for (content, reason) in [
            ("", "is empty"),
            ("{\"access_token\":\"secret", "not valid JSON"),
            ("[\"secret\"]", "does not hold a JSON object"),
            ("{\"access_token\":\"secret\"}", "no refresh token"),
        ] {
            fs::write(file.path(), content).unwrap();
            let Stored::Unusable(why) = file.read().unwrap() else { panic!("{content}") };
            assert!(why.contains(reason) && !why.contains("secret"), "{why}");
        }
        fs::write(file.path(), "{\"access_token\":\"\",\"refresh_token\":\"\",\"expires_at\":0}").unwrap();
        assert_eq!(file.read().unwrap(), Stored::Revoked);
        fs::create_dir_all(home.join("credentials/folder.json")).unwrap();
        assert_eq!(KimiCodeFile::new(&home, "folder").read().unwrap_err().kind, ErrorKind::Io);
        fs::remove_dir_all(home).unwrap();
    }

    /// The predecessor writes fractions of seconds (docs/protocol.md#old-client-file).
    #[test]
    fn login_file_dates_may_be_fractions_or_text() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        for date in ["1767225600.75", "\"1767225600.75\""] {
            let content = format!("{{\"access_token\":\"a\",\"refresh_token\":\"r\",\"expires_at\":{date}}}");
            fs::write(file.path(), content).unwrap();
            assert_eq!(file.read().unwrap().tokens().unwrap().expires_at_ms, Some(1_767_225_600_750));
        }
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn login_file_written_in_the_official_form_keeps_unknown_members() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        fs::write(file.path(), r#"{"access_token":"a","refresh_token":"r","scope":"kimi-code","novel":[1]}"#).unwrap();
        file.write(&tokens()).unwrap();
        let expected = "{\n  \"access_token\": \"new-access\",\n  \"refresh_token\": \"new-refresh\",\n  \"scope\": \"kimi-code\",\n  \
                        \"novel\": [\n    1\n  ],\n  \"expires_at\": 1767225600,\n  \"token_type\": \"Bearer\",\n  \"expires_in\": 900\n}\n";
        assert_eq!(fs::read_to_string(file.path()).unwrap(), expected);
        file.write_tombstone().unwrap();
        assert_eq!(file.read().unwrap(), Stored::Revoked);
        assert!(fs::read_to_string(file.path()).unwrap().contains("\"scope\": \"kimi-code\""));
        assert_eq!(fs::read_dir(home.join("credentials")).unwrap().count(), 1, "no temporary file stays behind");
        fs::remove_dir_all(home).unwrap();
    }

    /// Leaves a temporary file of ours behind.
    fn leave(file: &KimiCodeFile, id: u8, content: &str) -> PathBuf {
        let path = file.path().with_file_name(format!("kimi-code.json.tmp.{id}.aaaaaaaaaaaaaaaa"));
        fs::write(&path, content).unwrap();
        path
    }

    fn content(tokens: &Tokens) -> String {
        pretty(&merged(Map::new(), tokens)).unwrap()
    }

    #[test]
    fn login_left_by_a_dead_writer_is_put_in_place_and_incomplete_ones_are_removed() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        file.write(&Tokens { access: "old".into(), expires_at_ms: Some(1000), ..tokens() }).unwrap();
        leave(&file, 1, &content(&tokens()));
        leave(&file, 2, "{\"access_tok");
        file.recover(None, true);
        assert_eq!(file.read().unwrap().tokens().unwrap().access, "new-access");
        assert_eq!(fs::read_dir(home.join("credentials")).unwrap().count(), 1);
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn temporary_file_of_another_program_or_of_a_living_holder_stays() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        let ours = leave(&file, 1, "{\"access_tok");
        let theirs = file.path().with_file_name("kimi-code.json.tmp.9.aaaaaaaa");
        fs::write(&theirs, "{\"access_tok").unwrap();
        file.recover(None, false);
        assert!(ours.exists() && theirs.exists());
        file.recover(None, true);
        assert!(!ours.exists() && theirs.exists());
        let then = SystemTime::now() - 2 * ABANDONED;
        filetime::set_file_mtime(&theirs, filetime::FileTime::from_system_time(then)).unwrap();
        file.recover(None, true);
        assert!(!theirs.exists());
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn login_left_by_a_dead_writer_after_a_logout_is_used_only_as_a_successor_of_pis() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        let of = |who: &str, at: i64| Tokens { access: jwt(&json!({ "sub": who, "iat": at })), ..tokens() };
        for pi in [None, Some(tokens()), Some(of("you", 1)), Some(of("me", 3))] {
            leave(&file, 1, &content(&of("me", 2)));
            file.recover(pi.as_ref(), true);
            assert_eq!(fs::read_dir(home.join("credentials")).unwrap().count(), 0, "{pi:?}");
        }
        leave(&file, 1, &content(&of("me", 2)));
        file.recover(Some(&of("me", 1)), true);
        assert_eq!(file.read().unwrap().tokens().unwrap().access, of("me", 2).access);
        fs::remove_dir_all(home).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn login_file_is_private_and_a_link_stays_a_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let home = place();
        let file = KimiCodeFile::new(&home.join("fresh"), "kimi-code");
        file.write(&tokens()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(file.path().parent().unwrap()), 0o700);
        let link = KimiCodeFile::new(&home, "kimi-code");
        symlink(file.path(), link.path()).unwrap();
        link.write(&Tokens { access: "through-link".into(), ..tokens() }).unwrap();
        assert!(fs::symlink_metadata(link.path()).unwrap().is_symlink());
        assert_eq!(file.read().unwrap().tokens().unwrap().access, "through-link");
        fs::remove_dir_all(home).unwrap();
    }
}

//! The file that holds a login of the official client (docs/protocol.md#official-client-file) or of its predecessor
//! (docs/protocol.md#old-client-file).
//!
//! Reading is tolerant: what cannot be understood counts as "no login here" together with the reason, so that a message can
//! name it. Writing is strict: only under the file's lock, whole or not at all, and everything that is not ours – unknown
//! members, other providers – stays as it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::token::Tokens;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::private_file;
use crate::storage::private_file::ReservedFile;

/// More than a login takes; what has to fit beside a file before a refresh token is spent.
const ROOM: usize = 16 << 10;

/// As long after its last change a temporary file may have a living writer. Shorter than a dead one's lock blocks the next one.
const WRITING: Duration = Duration::from_secs(2);

/// What a file holds for us.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// No file, no entry.
    Absent,
    /// A file without usable content, and why.
    Unusable(String),
    /// A tombstone: the service refused this login for good.
    Revoked,
    /// A static key of the user's own.
    StaticKey,
    /// A login.
    Login(Tokens),
}

impl Stored {
    /// The tokens, if there are any.
    pub fn tokens(&self) -> Option<&Tokens> {
        match self {
            Self::Login(tokens) => Some(tokens),
            _ => None,
        }
    }
}

/// Reads a JSON object. `Ok(Err(reason))` is a file without one.
pub(super) fn read_object(path: &Path) -> Result<std::result::Result<Map<String, Value>, Option<String>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Err(None));
        }
        Err(error) => return Err(io_error("cannot be read", path, &error)),
    };
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    // The parser's own message may quote the text, and the text may hold a token.
    Ok(match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Some(format!("{} does not hold a JSON object", path.display()))),
        Err(_) if text.iter().all(u8::is_ascii_whitespace) => Err(Some(format!("{} is empty", path.display()))),
        Err(_) => Err(Some(format!("{} is not valid JSON", path.display()))),
    })
}

pub(super) fn io_error(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} {what}: {error}", path.display()))
}

/// The place belongs to somebody else, or is mounted read-only.
pub fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Takes room for the next content of a credential file.
pub(super) fn reserve(path: &Path) -> Result<Option<ReservedFile>> {
    let size = fs::metadata(path).map_or(0, |metadata| usize::try_from(metadata.len()).unwrap_or(0)) + ROOM;
    match ReservedFile::reserve(path, size) {
        Ok(room) => Ok(Some(room)),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(io_error("cannot be written", path, &error)),
    }
}

/// A number, also one written as text; whatever is not finite counts as zero.
pub(super) fn number(value: Option<&Value>) -> f64 {
    let number = match value {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite()).unwrap_or(0.0)
}

pub(super) fn text(object: &Map<String, Value>, name: &str) -> String {
    object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) fn pretty(object: &Map<String, Value>) -> Result<String> {
    serde_json::to_string_pretty(object)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("credentials cannot be written: {error}")))
}

/// `<home>/credentials/<slot>.json` of the official client, or of its predecessor.
#[derive(Debug, Clone)]
pub struct KimiCodeFile {
    path: PathBuf,
}

impl KimiCodeFile {
    /// The credential file of that name below a home.
    pub fn new(home: &Path, slot: &str) -> Self {
        Self { path: home.join("credentials").join(format!("{slot}.json")) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds. An error only where a file exists that must not be read.
    pub fn read(&self) -> Result<Stored> {
        let object = match read_object(&self.path)? {
            Ok(object) => object,
            Err(None) => return Ok(Stored::Absent),
            Err(Some(reason)) => return Ok(Stored::Unusable(reason)),
        };
        let (access, refresh) = (text(&object, "access_token"), text(&object, "refresh_token"));
        Ok(match (access.is_empty(), refresh.is_empty()) {
            (true, _) => Stored::Revoked,
            (false, true) => Stored::Unusable(format!("{} has no refresh token", self.path.display())),
            (false, false) => Stored::Login(Tokens {
                access,
                refresh,
                expires_at_ms: (number(object.get("expires_at")) * 1000.0) as i64,
                expires_in: number(object.get("expires_in")).max(0.0) as u64,
                scope: text(&object, "scope"),
                token_type: text(&object, "token_type"),
            }),
        })
    }

    /// Takes room for the next login, before anything is spent for it: `None` where this user may not write at all, an error
    /// where there is no room.
    pub fn reserve(&self) -> Result<Option<ReservedAuthFile>> {
        let object = self.known();
        Ok(reserve(&self.path)?.map(|room| ReservedAuthFile { path: self.path.clone(), object, room }))
    }

    /// Writes a login, keeping members we do not know.
    pub fn write(&self, tokens: &Tokens) -> Result<()> {
        self.save(&merged(self.known(), tokens))
    }

    /// Marks the login as refused for good, as the official client does (docs/protocol.md#revoked-login).
    pub fn write_tombstone(&self) -> Result<()> {
        let mut object = self.known();
        for name in ["access_token", "refresh_token"] {
            object.insert(name.to_owned(), "".into());
        }
        for name in ["expires_at", "expires_in"] {
            object.insert(name.to_owned(), 0.into());
        }
        self.save(&object)
    }

    /// Finishes or clears away what a writer that died under the lock has left: a complete new login beside the file takes its
    /// place, because its predecessor is spent. Where there is no file, its user may have signed out; then only what follows
    /// `pi`, Pi's login that is about to be refreshed, is worth more than nothing. Only under the lock.
    pub fn recover(&self, pi: Option<&Tokens>) {
        let (Some(directory), Some(name)) = (self.path.parent(), self.path.file_name()) else { return };
        let prefix = format!("{}.tmp.", name.to_string_lossy());
        let Ok(entries) = fs::read_dir(directory) else { return };
        for left in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            let beside = Self { path: left.path() };
            let newer = |found: &Tokens| match self.read() {
                Ok(Stored::Login(known)) => found.issued_after(&known) && found.same_account(&known),
                Ok(Stored::Absent) => pi.is_some_and(|pi| !pi.issued_after(found) && found.is_surely_of(pi)),
                Ok(Stored::Unusable(_)) => true,
                _ => false,
            };
            let finished = match beside.read() {
                Ok(Stored::Login(found)) if newer(&found) => self.write(&found),
                _ => Ok(()),
            };
            // One without the lock may still be about to rename it.
            if finished.is_ok() && !left.metadata().is_ok_and(|metadata| is_fresh(&metadata)) {
                let _ = fs::remove_file(&beside.path);
            }
        }
    }

    /// The object that stands there now; empty where none can be understood.
    fn known(&self) -> Map<String, Value> {
        read_object(&self.path).ok().and_then(std::result::Result::ok).unwrap_or_default()
    }

    fn save(&self, object: &Map<String, Value>) -> Result<()> {
        let text = pretty(object)? + "\n";
        private_file::replace(&self.path, text.as_bytes())
            .map_err(|error| io_error("cannot be written", &self.path, &error))
    }
}

/// Changed just now; a date far in the future is a clock that was set.
fn is_fresh(metadata: &fs::Metadata) -> bool {
    let age = metadata.modified().map(|then| then.elapsed().unwrap_or_else(|ahead| ahead.duration()));
    age.is_ok_and(|age| age < WRITING)
}

/// ReservedFile for a login that is still to come.
#[derive(Debug)]
pub struct ReservedAuthFile {
    path: PathBuf,
    object: Map<String, Value>,
    room: ReservedFile,
}

impl ReservedAuthFile {
    /// Writes the login, keeping members we do not know.
    pub fn fill(mut self, tokens: &Tokens) -> Result<()> {
        let text = pretty(&merged(self.object, tokens))? + "\n";
        self.room
            .write(text.as_bytes())
            .and_then(|()| self.room.commit())
            .map_err(|error| io_error("cannot be written", &self.path, &error))
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
        ("expires_at", tokens.expires_at_ms.div_euclid(1000).into()),
        ("scope", scope),
        ("token_type", token_type),
        ("expires_in", tokens.expires_in.into()),
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
    fn every_kind_of_bad_file_is_no_login_and_says_why_without_quoting_it() {
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
    fn dates_may_be_fractions_or_text() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        for date in ["1767225600.75", "\"1767225600.75\""] {
            let content = format!("{{\"access_token\":\"a\",\"refresh_token\":\"r\",\"expires_at\":{date}}}");
            fs::write(file.path(), content).unwrap();
            assert_eq!(file.read().unwrap().tokens().unwrap().expires_at_ms, 1_767_225_600_750);
        }
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn writing_keeps_what_is_not_ours_and_has_the_official_form() {
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

    /// Leaves a temporary file behind that nobody has touched for a minute.
    fn leave(file: &KimiCodeFile, id: u8, content: &str) -> PathBuf {
        let path = file.path().with_file_name(format!("kimi-code.json.tmp.{id}.aaaaaaaa"));
        fs::write(&path, content).unwrap();
        let then = SystemTime::now() - Duration::from_secs(60);
        filetime::set_file_mtime(&path, filetime::FileTime::from_system_time(then)).unwrap();
        path
    }

    fn content(tokens: &Tokens) -> String {
        pretty(&merged(Map::new(), tokens)).unwrap()
    }

    #[test]
    fn what_a_dead_writer_had_finished_is_taken_over_and_the_rest_cleared_away() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        file.write(&Tokens { access: "old".into(), expires_at_ms: 1000, ..tokens() }).unwrap();
        leave(&file, 1, &content(&tokens()));
        leave(&file, 2, "{\"access_tok");
        file.recover(None);
        assert_eq!(file.read().unwrap().tokens().unwrap().access, "new-access");
        assert_eq!(fs::read_dir(home.join("credentials")).unwrap().count(), 1);
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_file_that_may_still_be_written_stays() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        let path = leave(&file, 1, "");
        fs::write(&path, "{\"access_tok").unwrap();
        file.recover(None);
        assert!(path.exists());
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_logout_stays_one_unless_pi_still_has_the_login_that_was_being_renewed() {
        let home = place();
        let file = KimiCodeFile::new(&home, "kimi-code");
        let of = |who: &str, at: i64| Tokens { access: jwt(&json!({ "sub": who, "iat": at })), ..tokens() };
        for pi in [None, Some(tokens()), Some(of("you", 1)), Some(of("me", 3))] {
            leave(&file, 1, &content(&of("me", 2)));
            file.recover(pi.as_ref());
            assert_eq!(fs::read_dir(home.join("credentials")).unwrap().count(), 0, "{pi:?}");
        }
        leave(&file, 1, &content(&of("me", 2)));
        file.recover(Some(&of("me", 1)));
        assert_eq!(file.read().unwrap().tokens().unwrap().access, of("me", 2).access);
        fs::remove_dir_all(home).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn files_are_private_and_links_stay_links() {
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

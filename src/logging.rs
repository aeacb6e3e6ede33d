//! Writes the debug log to a file, never to stdout or stderr: a byte there corrupts Pi's screen.
//!
//! Users paste the log into bug reports, so the writer redacts credentials from every event.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::http::redact::KnownSecrets;
use crate::storage::private_file::{create_private_dir, has_foreign_link, private_options};

/// Size above which the log is started again, in bytes.
const MAX_SIZE: u64 = 8 << 20;

/// Installs the log for the process; a second call changes nothing. Fails where another user's link leads to the file.
pub fn log_to(file: &Path) -> io::Result<()> {
    if has_foreign_link(file) {
        return Err(io::Error::other("the path of the debug log holds a link of another user"));
    }
    if let Some(directory) = file.parent() {
        create_private_dir(directory)?;
    }
    let full = fs::metadata(file).is_ok_and(|metadata| metadata.len() > MAX_SIZE);
    let mut options = private_options();
    options.create(true).append(!full).truncate(full);
    let log = Log { file: Mutex::new(options.open(file)?) };
    // Err only means that there is one already.
    let _ = tracing::subscriber::set_global_default(log);
    Ok(())
}

/// Writes a line per event: time, level, message and fields.
struct Log {
    file: Mutex<File>,
}

impl Subscriber for Log {
    /// Only our own events: HTTP libraries log headers.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().split(':').next() == Some("kimi_code")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = LogLine(format!("{:.6} {:>5}", Timestamp::now(), event.metadata().level()));
        event.record(&mut line);
        line.0.push('\n');
        let line = KnownSecrets::shared().redact(&line.0);
        // A full disk is no reason to fail a turn.
        let _ = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }

    /// Spans are not logged.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A line that is being written.
struct LogLine(String);

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail. The macros put the message first.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;
    use crate::config::Environment;

    /// Needs root, because only root can make a link of another user.
    #[test]
    fn link_of_another_user_is_followed_neither_by_the_log_nor_by_the_state_folder() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        let (pi, elsewhere) = (home.join(".pi"), root.path().join("elsewhere"));
        fs::create_dir_all(&pi).unwrap();
        fs::create_dir_all(&elsewhere).unwrap();
        let state = pi.join("pi-provider-kimi-code");
        let variables = [("HOME".to_owned(), home.display().to_string())];
        let environment = Environment::new(variables.into_iter().collect());
        symlink(&elsewhere, &state).unwrap();
        assert_eq!(environment.state_directory(), Some(state.clone()), "a link of the user is followed");
        if lchown(&state, Some(4711), None).is_err() {
            return;
        }
        assert_eq!(environment.state_directory(), None);
        assert!(log_to(&state.join("debug.log")).is_err());
        fs::remove_file(&state).unwrap();
        fs::create_dir(&state).unwrap();
        symlink(elsewhere.join("target.log"), state.join("debug.log")).unwrap();
        lchown(state.join("debug.log"), Some(4711), None).unwrap();
        assert!(log_to(&state.join("debug.log")).is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}

//! Writes the debug log to a file, never to stdout or stderr: a byte there corrupts Pi's screen.
//!
//! Users paste the log into bug reports, so the writer redacts credentials from every event.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

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
    let log = Mutex::new(Redacting { file: options.open(file)? });
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(log);
    // Only our own events: HTTP libraries log headers at this level.
    let filter = Targets::new().with_target("kimi_code", Level::DEBUG);
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    // Err only means that there is one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

struct Redacting {
    file: File,
}

impl Write for Redacting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // tracing hands over one whole event per call.
        self.file.write_all(KnownSecrets::shared().redact(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
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

//! Diagnostics to a file, never to stdout or stderr: a byte there corrupts Pi's screen.
//!
//! What is logged holds no credentials by construction; the writer redacts what looks like one all the same, because a
//! debug log is what people paste into bug reports.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use crate::http::redact::KnownSecrets;
use crate::storage::private_file::{create_private_dir, private_options};

/// A log that has grown beyond this is started anew.
const MAX_SIZE: u64 = 8 << 20;

/// Installs the log for the process; a second call changes nothing.
pub fn log_to(file: &Path) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        create_private_dir(directory)?;
    }
    let full = fs::metadata(file).is_ok_and(|metadata| metadata.len() > MAX_SIZE);
    let mut options = private_options();
    options.create(true).append(!full).truncate(full);
    let log = Mutex::new(Redacting { file: options.open(file)? });
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(log);
    // Only our own events: what HTTP libraries log at this level is theirs to answer for.
    let filter = Targets::new().with_target("kimi_code", Level::DEBUG);
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    // Err only means that somebody was first.
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

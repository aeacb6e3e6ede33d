//! Wakes waiting requests when something changes in a folder of slots.
//!
//! Linux: one thread per folder sleeps in `inotify` and costs nothing until a file that was open for writing closes, also because
//! its process was killed. Elsewhere the thread looks twice a second. It ends with the last waiting request.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::slots::Slots;
use crate::process_state::ProcessState;

/// Folders that requests of this process wait for.
#[derive(Debug, Default)]
struct Watches(Mutex<HashMap<PathBuf, Weak<Watch>>>);

/// Tells about changes as long as it lives.
#[derive(Debug)]
pub struct Watch {
    changes: watch::Sender<u64>,
    folder: PathBuf,
}

impl Watch {
    /// Watches the slots, sharing the thread with other requests of this process.
    pub fn of(slots: &Slots, process: &ProcessState) -> io::Result<Arc<Self>> {
        let watches = process.get::<Watches>();
        let mut watches = watches.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = watches.get(slots.folder()).and_then(Weak::upgrade) {
            return Ok(watch);
        }
        let watch = Arc::new(Self { changes: watch::Sender::new(0), folder: slots.folder().to_owned() });
        let source = Source::new(&[slots.folder(), &slots.waiting_folder()])?;
        let weak = Arc::downgrade(&watch);
        std::thread::Builder::new()
            .name("kimi-code-slots".to_owned())
            .stack_size(128 << 10)
            .spawn(move || run(source, &weak))?;
        watches.retain(|_, watch| watch.strong_count() > 0);
        watches.insert(slots.folder().to_owned(), Arc::downgrade(&watch));
        Ok(watch)
    }

    /// A receiver that has seen everything up to now.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An event of our own wakes the thread, which then finds that it is no longer needed.
        let path = self.folder.join("bell");
        if std::fs::write(&path, "").is_ok() {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn run(mut source: Source, watch: &Weak<Watch>) {
    loop {
        let went_on = source.wait();
        let Some(watch) = watch.upgrade() else { return };
        watch.changes.send_modify(|count| *count += 1);
        if let Err(error) = went_on {
            // Waiting requests look once a second all the same.
            tracing::info!(%error, "the folder of slots is no longer watched");
            return;
        }
    }
}

#[cfg(target_os = "linux")]
struct Source {
    inotify: inotify::Inotify,
    events: [u8; 4096],
}

#[cfg(target_os = "linux")]
impl Source {
    fn new(folders: &[&Path]) -> io::Result<Self> {
        use inotify::WatchMask;
        let inotify = inotify::Inotify::init()?;
        for folder in folders {
            inotify.watches().add(folder, WatchMask::CLOSE_WRITE | WatchMask::DELETE | WatchMask::MOVED_TO)?;
        }
        Ok(Self { inotify, events: [0; 4096] })
    }

    fn wait(&mut self) -> io::Result<()> {
        self.inotify.read_events_blocking(&mut self.events).map(drop)
    }
}

#[cfg(not(target_os = "linux"))]
struct Source;

#[cfg(not(target_os = "linux"))]
impl Source {
    fn new(_: &[&Path]) -> io::Result<Self> {
        Ok(Self)
    }

    fn wait(&mut self) -> io::Result<()> {
        std::thread::sleep(std::time::Duration::from_millis(500));
        Ok(())
    }
}

//! The small file by which the processes of an account tell each other which window they wait for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blocking::in_background;
use crate::config::OnExhausted;
use crate::error::{Error, ErrorKind, Result};
use crate::services::usage::Window;
use crate::storage::lease::Lease;
use crate::storage::private_file::{create_private_dir, replace};

/// Longest wait for other processes that change the shared file, and how often it is tried.
const MAX_TURN: Duration = Duration::from_secs(3);
const TURN_PAUSE: Duration = Duration::from_millis(10);

/// How long a choice counts that was made before a window was used up, in milliseconds.
const CHOICE_KEPT_MS: i64 = 24 * 3_600_000;

/// What the processes of an account share about the window they wait for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParkRecord {
    /// The window's id; empty if none was used up yet.
    pub window: String,
    /// Its name, `5-hour window`.
    pub label: String,
    /// It is not used up, but down to its reserve.
    pub reserved: bool,
    /// When it opens again, in milliseconds since 1970.
    pub resets_at: i64,
    /// Since when a process waits for it, in milliseconds since 1970. Without a window, when the choice was made.
    pub since: i64,
    /// What the user chose for this window; without one, for the next that is used up.
    pub choice: Option<OnExhausted>,
    /// When a user asked for an attempt before the reset, in milliseconds since 1970.
    pub resume_at: Option<i64>,
    /// When a user stopped the requests that waited then, in milliseconds since 1970.
    pub stop_at: Option<i64>,
}

impl ParkRecord {
    pub(super) fn is_about(&self, window: &Window) -> bool {
        self.window == window.id && window.resets_at.is_some_and(|at| is_same_reset(at, self.resets_at))
    }

    /// Notes what the user chose at `now`, for the window that is closed or for the next one.
    pub fn choose(&mut self, choice: OnExhausted, now: i64) {
        if self.resets_at <= now {
            *self = Self { since: now, stop_at: self.stop_at, resume_at: self.resume_at, ..Self::default() };
        }
        self.choice = Some(choice);
        self.stop_at = (choice == OnExhausted::Stop).then_some(now);
    }

    /// Begins the record of a window. Requests that wait for another one still have to hear of a stop.
    pub(super) fn begin(&mut self, window: &Window, resets_at: i64, reserved: bool, now: i64) {
        let is_kept = self.window.is_empty() && now.abs_diff(self.since) <= CHOICE_KEPT_MS.unsigned_abs();
        let Window { id, label, .. } = window.clone();
        let choice = self.choice.filter(|_| is_kept);
        let Self { resume_at, stop_at, .. } = *self;
        *self = Self { window: id, label, reserved, resets_at, since: now, choice, resume_at, stop_at };
    }
}

/// Whether two moments, in milliseconds since 1970, are the same reset, give or take a minute.
pub(super) fn is_same_reset(one: i64, other: i64) -> bool {
    one.abs_diff(other) < 60_000
}

/// The file of an account.
#[derive(Debug, Clone)]
pub struct ParkFile(Option<PathBuf>);

impl ParkFile {
    /// The file of `account` (a name fit for a file) in our state folder; without one, processes decide for themselves.
    pub fn new(state: Option<&Path>, account: &str) -> Self {
        Self(state.map(|state| state.join("park").join(account)))
    }

    /// Reads it; a missing or broken file says nothing.
    pub async fn read(&self) -> ParkRecord {
        let Some(path) = self.part("window.json") else { return ParkRecord::default() };
        let read = in_background(move || Ok(std::fs::read(path).unwrap_or_default()));
        serde_json::from_slice(&read.await.unwrap_or_default()).unwrap_or_default()
    }

    /// Changes it. Processes take turns, so that none undoes what another has just written, such as a user's choice.
    pub async fn update(&self, change: impl FnOnce(&mut ParkRecord) + Send) -> Result<()> {
        let end = tokio::time::Instant::now() + MAX_TURN;
        let mut turn = self.lease("writing".to_owned()).await;
        // Without a folder for leases there is nothing to write either.
        while turn.is_none() && self.0.is_some() && tokio::time::Instant::now() < end {
            tokio::time::sleep(TURN_PAUSE).await;
            turn = self.lease("writing".to_owned()).await;
        }
        let mut record = self.read().await;
        change(&mut record);
        self.write(&record).await
    }

    /// Replaces it.
    pub(super) async fn write(&self, record: &ParkRecord) -> Result<()> {
        let Some(path) = self.part("window.json") else { return Ok(()) };
        let text = serde_json::to_vec(record).unwrap_or_default();
        in_background(move || {
            replace(&path, &text).map_err(|error| Error::new(ErrorKind::Io, format!("{}: {error}", path.display())))
        })
        .await
    }

    /// Counts the requests that are parked now.
    pub async fn sessions(&self) -> usize {
        let Some(folder) = self.0.clone() else { return 0 };
        let count = in_background(move || {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let parked = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("parked-"));
            let is_held = |entry: &std::fs::DirEntry| {
                let held = Lease::is_held(&entry.path());
                if !held {
                    // Its process was killed. One that is just being taken is made again.
                    let _ = std::fs::remove_file(entry.path());
                }
                held
            };
            Ok(parked.filter(is_held).count())
        });
        count.await.unwrap_or_default()
    }

    /// Counts as a parked request until dropped.
    pub(super) async fn park(&self) -> Option<Lease> {
        self.lease(format!("parked-{:016x}", rand::random::<u64>())).await
    }

    pub(super) async fn lease(&self, name: String) -> Option<Lease> {
        let path = self.part(&name)?;
        let taken = in_background(move || {
            Ok(path
                .parent()
                .and_then(|folder| create_private_dir(folder).ok())
                .and_then(|()| Lease::try_take(&path).ok()?))
        });
        taken.await.unwrap_or_default()
    }

    /// Whether processes share anything.
    pub(super) fn is_shared(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn part(&self, name: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(name))
    }
}

//! One line per request: tokens, and what the quota read then. Answers what ate a plan's windows.
//!
//! The lines of a UTC day are in one file of our state folder, kept for 90 days. They hold no paths, prompts or names: account,
//! session and project are hashes with a random key that lies beside them, because a plain hash of a path can be guessed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::services::usage::Usage;
use crate::storage::clock::DAY_MS;
use crate::storage::private_file::{create_private_dir, create_private_file, private_options};

/// Days that a file is kept.
const KEPT_DAYS: i64 = 90;

/// Longest line, in bytes, its line break included. Appending so little is one write, which processes do not interleave.
const MAX_LINE: usize = 200;

/// Longest model id that is written, in bytes.
const MAX_MODEL: usize = 32;

/// Longest file that is read, in bytes. A day of one request per second has less.
const MAX_FILE: u64 = 32 << 20;

/// Characters of a hash: enough to tell thousands of projects apart.
const HASH_CHARS: usize = 8;

/// What a request consumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Prompt tokens that the service had to read.
    pub uncached: u64,
    /// Prompt tokens from the service's cache.
    pub cached: u64,
    /// Answer tokens, reasoning included.
    pub output: u64,
    /// Reasoning tokens.
    pub reasoning: u64,
}

/// What a window read at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The window's id, `5h`.
    pub window: String,
    /// Used percent.
    pub percent: f64,
    /// When it opens again, in seconds since 1970.
    pub resets_at: Option<i64>,
}

/// One request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LedgerEntry {
    /// End of the request, in milliseconds since 1970.
    pub at: i64,
    /// Hash of the account.
    pub account: String,
    /// Hash of the session; empty without one.
    pub session: String,
    /// Hash of the project; empty without one.
    pub project: String,
    /// Model id.
    pub model: String,
    /// Consumption.
    pub tokens: TokenCounts,
    /// When the quota was read, in milliseconds since 1970, if the line has samples.
    pub sampled_at: i64,
    /// What the windows read then, if that was newer than in the line before.
    pub samples: Vec<Sample>,
}

/// A line. Short names, because every request writes one.
#[derive(Deserialize)]
struct LedgerLine {
    t: i64,
    a: String,
    #[serde(default)]
    s: String,
    #[serde(default)]
    p: String,
    m: String,
    /// Uncached, cached, output, reasoning.
    n: [u64; 4],
    /// Milliseconds before `t` at which the quota was read: requests may follow each other closely.
    #[serde(default)]
    d: i64,
    /// Window, percent, reset in seconds since 1970.
    #[serde(default)]
    q: Vec<(String, f64, Option<i64>)>,
}

impl LedgerEntry {
    /// Formats the line, leaving out samples that do not fit.
    fn line(&self) -> String {
        let TokenCounts { uncached, cached, output, reasoning } = self.tokens;
        let mut model = self.model.clone();
        while model.len() > MAX_MODEL {
            model.pop();
        }
        let mut samples: Vec<_> =
            self.samples.iter().map(|sample| (&sample.window, sample.percent, sample.resets_at)).collect();
        loop {
            let mut line = json!({
                "t": self.at, "a": self.account, "s": self.session, "p": self.project, "m": model,
                "n": [uncached, cached, output, reasoning],
            });
            if !samples.is_empty() {
                line["d"] = self.at.saturating_sub(self.sampled_at).into();
                line["q"] = json!(samples);
            }
            let text = format!("{line}\n");
            if text.len() <= MAX_LINE || samples.pop().is_none() {
                return text;
            }
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let LedgerLine { t, a, s, p, m, n: [uncached, cached, output, reasoning], d, q } =
            serde_json::from_str(line).ok()?;
        let samples = q.into_iter().filter(|(_, percent, _)| (0.0..=1000.0).contains(percent));
        Some(Self {
            at: t,
            account: a,
            session: s,
            project: p,
            model: m,
            tokens: TokenCounts { uncached, cached, output, reasoning },
            sampled_at: t.saturating_sub(d),
            samples: samples.map(|(window, percent, resets_at)| Sample { window, percent, resets_at }).collect(),
        })
    }
}

/// The windows of a quota as samples.
pub fn samples(usage: &Usage) -> Vec<Sample> {
    let known = usage.windows.iter().filter_map(|window| {
        let percent = (window.used_ratio? * 1000.0).round() / 10.0;
        Some(Sample { window: window.id.clone(), percent, resets_at: window.resets_at.map(|at| at / 1000) })
    });
    known.collect()
}

/// The files. All calls block.
#[derive(Debug, Clone)]
pub struct Ledger {
    folder: PathBuf,
    key: [u8; 32],
}

impl Ledger {
    /// Opens the ledger in our state folder, creating folder and key.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("ledger");
        create_private_dir(&folder)?;
        let key = key(&folder)?;
        Ok(Self { folder, key })
    }

    /// Hashes a name, so that lines can be told apart and not read. An empty name stays empty.
    pub fn hash(&self, kind: &str, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        let hash = Sha256::new().chain_update(self.key).chain_update(kind).chain_update([0]).chain_update(name);
        hex::encode(&hash.finalize()[..HASH_CHARS / 2])
    }

    /// Appends a request to the file of its day.
    pub fn append(&self, entry: &LedgerEntry) -> io::Result<()> {
        let path = self.folder.join(format!("{}.jsonl", day(entry.at)));
        let is_new = !path.exists();
        let mut file = private_options().append(true).create(true).read(true).open(path)?;
        // A line that a killed process left unfinished must not take this one with it.
        let text = if ends_with_line(&mut file)? { entry.line() } else { format!("\n{}", entry.line()) };
        file.write_all(text.as_bytes())?;
        if is_new {
            self.remove_old(entry.at);
        }
        Ok(())
    }

    /// Reads the requests from `from` to `to` (milliseconds since 1970), oldest first. Lines that cannot be read are skipped.
    pub fn read(&self, from: i64, to: i64) -> io::Result<Vec<LedgerEntry>> {
        let (first, last) = (day(from), day(to));
        let mut entries = Vec::new();
        for path in self.days()? {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name < first || name > last {
                continue;
            }
            let mut text = Vec::new();
            File::open(&path)?.take(MAX_FILE).read_to_end(&mut text)?;
            let lines = String::from_utf8_lossy(&text);
            let read = lines.lines().filter_map(LedgerEntry::parse);
            entries.extend(read.filter(|entry| (from..=to).contains(&entry.at)));
        }
        entries.sort_by_key(|entry| entry.at);
        Ok(entries)
    }

    fn days(&self) -> io::Result<Vec<PathBuf>> {
        let files = fs::read_dir(&self.folder)?.flatten().map(|entry| entry.path());
        Ok(files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect())
    }

    fn remove_old(&self, now: i64) {
        let oldest = format!("{}.jsonl", day(now.saturating_sub(KEPT_DAYS * DAY_MS)));
        for path in self.days().unwrap_or_default() {
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name < oldest.as_str()) {
                // The next process tries again.
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Reads the key of this machine, or makes one. It appears whole, so that two processes at once agree on it.
fn key(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join("key");
    if let Some(key) = read_key(&path) {
        return Ok(key);
    }
    let made = folder.join(format!("key-{:016x}.tmp", rand::random::<u64>()));
    create_private_file(&made).and_then(|mut file| file.write_all(&rand::random::<[u8; 32]>()))?;
    // A link fails where another process was faster; a file that holds no key is replaced.
    let placed = fs::hard_link(&made, &path);
    if placed.is_err() && read_key(&path).is_none() {
        fs::rename(&made, &path)?;
    } else {
        fs::remove_file(&made)?;
    }
    read_key(&path).ok_or_else(|| io::Error::other("the ledger's key cannot be read"))
}

fn read_key(path: &Path) -> Option<[u8; 32]> {
    fs::read(path).ok()?.try_into().ok()
}

/// The UTC day of a moment, `2026-11-27`.
fn day(at: i64) -> String {
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y-%m-%d").to_string()
}

fn ends_with_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last[0] == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_757_911_123;

    fn entry(ledger: &Ledger, at: i64) -> LedgerEntry {
        let sample =
            |window: &str, percent| Sample { window: window.to_owned(), percent, resets_at: Some(1_795_759_911) };
        LedgerEntry {
            at,
            account: ledger.hash("account", "a"),
            session: ledger.hash("session", "s"),
            project: ledger.hash("project", "/home/me/secret"),
            model: "kimi-for-coding".to_owned(),
            tokens: TokenCounts { uncached: 123_456, cached: 1_234_567, output: 12_345, reasoning: 1_234 },
            sampled_at: at - 3_000,
            samples: vec![sample("5h", 12.0), sample("7d", 3.0)],
        }
    }

    #[test]
    fn ledger_a_line_is_short_names_nothing_and_reads_back() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        let written = LedgerEntry { at: NOW - 123, sampled_at: NOW - 3_123, ..entry(&ledger, NOW - 123) };
        let line = written.line();
        assert!(line.len() <= MAX_LINE, "{} {line}", line.len());
        assert!(!line.contains("secret"));
        ledger.append(&written).unwrap();
        assert_eq!(Ledger::open(state.path()).unwrap().read(NOW - 1_000, NOW).unwrap(), [written]);
        let long = LedgerEntry {
            model: "m".repeat(500),
            samples: vec![entry(&ledger, NOW).samples[0].clone(); 9],
            ..entry(&ledger, NOW)
        };
        assert!(long.line().len() <= MAX_LINE);
    }

    #[test]
    fn ledger_names_are_hashed_with_a_key_of_this_machine() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let hash = |state: &tempfile::TempDir| Ledger::open(state.path()).unwrap().hash("project", "/home/me");
        assert_eq!(hash(&one), hash(&one));
        assert_ne!(hash(&one), hash(&other));
        let ledger = Ledger::open(one.path()).unwrap();
        assert_ne!(ledger.hash("project", "x"), ledger.hash("session", "x"));
        assert_eq!(ledger.hash("session", ""), "");
    }

    #[test]
    fn ledger_torn_and_foreign_lines_are_skipped() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        ledger.append(&entry(&ledger, NOW)).unwrap();
        let path = state.path().join("ledger").join(format!("{}.jsonl", day(NOW)));
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"t\":1,\"a\":\"torn").unwrap();
        ledger.append(&entry(&ledger, NOW + 1)).unwrap();
        file.write_all(b"not a line\n\xff\xfe\n{\"t\":1}\n").unwrap();
        assert_eq!(ledger.read(0, NOW * 2).unwrap().len(), 2);
    }

    #[test]
    fn ledger_old_days_are_removed() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        let days = |days: i64| NOW - days * 86_400_000;
        for at in [days(200), days(89), days(0)] {
            ledger.append(&entry(&ledger, at)).unwrap();
        }
        let left: Vec<i64> = ledger.read(0, NOW * 2).unwrap().iter().map(|entry| entry.at).collect();
        assert_eq!(left, [days(89), days(0)]);
    }

    #[test]
    fn ledger_many_writers_lose_no_line() {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let ledger = Ledger::open(state.path()).unwrap();
                    for _ in 0..50 {
                        ledger.append(&entry(&ledger, NOW)).unwrap();
                    }
                });
            }
        });
        assert_eq!(Ledger::open(state.path()).unwrap().read(0, NOW * 2).unwrap().len(), 400);
    }
}

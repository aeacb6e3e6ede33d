//! Waits for a quota window to open again, so that an unattended run loses nothing.
//!
//! The wait goes by the wall clock, because a machine may sleep through it. `/usages` is asked through the shared quota record: once
//! to find the window, at most every five minutes meanwhile, and once more before anything is sent. The processes of one account
//! share a small file that says which window they wait for and what the user chose; it stops nothing by itself, so a process that
//! dies leaves nothing behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::blocking::in_background;
use crate::config::{OnExhausted, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::services::money::Wallet;
use crate::services::quota_cache::Snapshot;
use crate::services::quota_message::used_up_window;
use crate::services::usage::{Usage, Window};
use crate::storage::lease::Lease;
use crate::storage::private_file::{create_private_dir, replace};

/// How often a parked request looks at the clock and at what the user chose.
const TICK: Duration = Duration::from_secs(1);

/// Longest wait for other processes that change the shared file, and how often it is tried.
const MAX_TURN: Duration = Duration::from_secs(3);
const TURN_PAUSE: Duration = Duration::from_millis(10);

/// Ticks between two looks at the credential.
const SIGNED_IN_EVERY: u32 = 15;

/// How often `/usages` is asked while parked: a reset may move.
const ASK_EVERY: Duration = Duration::from_secs(300);

/// How old the quota may be that explains a refusal: one process of several that are refused at once asks.
const EXPLAINED_BY: Duration = Duration::from_secs(30);

/// Longest age of the quota that a reserve is judged by.
const RESERVE_AGE: Duration = Duration::from_secs(90);

/// After a reset, processes wake spread over this time, in seconds, so that the service is not met by all at once.
const JITTER: std::ops::RangeInclusive<u64> = 5..=45;

/// A quota that cannot be read when a window refuses a request is asked for again after these times, so that a hiccup of `/usages`
/// costs no work. Where a user sits in front, only after the first ones.
const ASK_AGAIN: [Duration; 6] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
];
const ASK_AGAIN_WATCHED: usize = 3;

/// The service may go on refusing for a moment after `/usages` says that the window is open. A request that has waited is sent again
/// after this pause, so many times.
const LATE_PAUSE: Duration = Duration::from_secs(30);
const MAX_LATE_REFUSALS: u32 = 6;

/// How long a choice counts that was made before a window was used up, in milliseconds.
const CHOICE_KEPT_MS: i64 = 24 * 3_600_000;

/// A window that was refused with a reset in the past is looked at this often again, then the refusal stands.
const MAX_PAST_RESETS: u32 = 2;

/// The same for a window whose reset passed while the request was parked: our clock may be ahead, so it is given two hours.
const MAX_LATE_LOOKS: u32 = 24;

/// How a request behaves at the end of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct ParkPolicy {
    /// What to do.
    pub on_exhausted: OnExhausted,
    /// Longest time that one request is parked.
    pub max_wait: Duration,
    /// Window id → percent of it that stay unused.
    pub reserve: Vec<(String, f64)>,
}

impl ParkPolicy {
    /// The policy of a request: its own choice, else the setting, else asking where a user can answer.
    pub fn new(settings: &Settings, own: Option<OnExhausted>, can_ask: bool) -> Self {
        let default = if can_ask { OnExhausted::Ask } else { OnExhausted::Stop };
        let chosen = own.or(settings.quota.on_exhausted).unwrap_or(default);
        Self {
            on_exhausted: if chosen == OnExhausted::Ask && !can_ask { OnExhausted::Stop } else { chosen },
            max_wait: Duration::from_millis(settings.quota.max_wait_ms),
            reserve: settings.quota.reserve.iter().map(|(id, percent)| (id.clone(), *percent)).collect(),
        }
    }
}

/// What the caller hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParkEvent {
    /// The request waits for this window.
    Parked {
        /// The window's id, `5h`.
        window: String,
        /// Its name, `5-hour window`.
        label: String,
        /// Its short name, `5h`, `wk`.
        short: String,
        /// It is used up. Otherwise its reserve is reached.
        used_up: bool,
        /// When it opens again, in milliseconds since 1970.
        resets_at: i64,
    },
    /// The request goes on.
    Resumed,
    /// A reserve is reached, and the plan's bought credit is spent from now on.
    SpendsCredit {
        /// The window's name.
        label: String,
    },
}

/// What parking needs from the request around it.
pub trait ParkHost: Send {
    /// Returns the quota, at most `max_age` old; zero asks the service.
    fn quota(&mut self, max_age: Duration) -> impl Future<Output = Result<Snapshot>> + Send;

    /// Fails if the credential of the request no longer counts.
    fn signed_in(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Reports what happens.
    fn tell(&mut self, event: ParkEvent);

    /// Asks the user about this window, which is used up or else down to its reserve; `None` if there is no user to ask.
    fn ask(&mut self, window: &Window, used_up: bool) -> impl Future<Output = Option<OnExhausted>> + Send;

    /// The wall clock.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Sleeps, by a clock that may stand still while the machine does.
    fn sleep(&mut self, time: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(time)
    }
}

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
    fn is_about(&self, window: &Window) -> bool {
        self.window == window.id && window.resets_at.is_some_and(|at| at.abs_diff(self.resets_at) < 60_000)
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
    fn begin(&mut self, window: &Window, resets_at: i64, reserved: bool, now: i64) {
        let is_kept = self.window.is_empty() && now.abs_diff(self.since) <= CHOICE_KEPT_MS.unsigned_abs();
        let Window { id, label, .. } = window.clone();
        let choice = self.choice.filter(|_| is_kept);
        let Self { resume_at, stop_at, .. } = *self;
        *self = Self { window: id, label, reserved, resets_at, since: now, choice, resume_at, stop_at };
    }
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
    async fn write(&self, record: &ParkRecord) -> Result<()> {
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
    async fn park(&self) -> Option<Lease> {
        self.lease(format!("parked-{:016x}", rand::random::<u64>())).await
    }

    async fn lease(&self, name: String) -> Option<Lease> {
        let path = self.part(&name)?;
        let taken = in_background(move || {
            Ok(path
                .parent()
                .and_then(|folder| create_private_dir(folder).ok())
                .and_then(|()| Lease::try_take(&path).ok()?))
        });
        taken.await.unwrap_or_default()
    }

    fn part(&self, name: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(name))
    }
}

/// What a turn remembers of its waits.
#[derive(Debug, Default)]
pub struct Waits {
    /// The window that was waited for last.
    last: Option<Window>,
    /// Refusals since then that no window explains.
    late_refusals: u32,
}

/// Waits until the window that refused a request is open again. Returns an error if the request should fail instead.
pub async fn park(
    host: &mut impl ParkHost,
    file: &ParkFile,
    policy: &ParkPolicy,
    waits: &mut Waits,
    refusal: Error,
) -> Result<()> {
    let Some(usage) = explanation(host, policy, &refusal).await else { return Err(refusal) };
    let had_credit = has_credit(&usage);
    match (used_up_window(&usage, refusal.window), waits.last.clone()) {
        (Some(window), _) => {
            let window = window.clone();
            waits.last = Some(wait_for(host, file, policy, (window, had_credit), refusal).await?);
            Ok(())
        }
        (None, Some(last)) if waits.late_refusals < MAX_LATE_REFUSALS => {
            waits.late_refusals += 1;
            wait_a_moment(host, file, policy, &last, &refusal).await
        }
        (None, _) => Err(refusal),
    }
}

/// Asks for the quota that explains a refusal; `None` if it cannot be had.
async fn explanation(host: &mut impl ParkHost, policy: &ParkPolicy, refusal: &Error) -> Option<Usage> {
    let refused = host.now();
    let mut max_age = EXPLAINED_BY;
    let watched = policy.on_exhausted == OnExhausted::Ask;
    let mut pauses = ASK_AGAIN.iter().take(if watched { ASK_AGAIN_WATCHED } else { ASK_AGAIN.len() });
    loop {
        let usage = match host.quota(max_age).await {
            Ok(snapshot) => {
                let is_answer = snapshot.problem.is_none();
                let usage = snapshot.usage.unwrap_or_default();
                // An old answer counts if it tells of the window.
                if usage.windows.iter().any(|window| window.is_used_up() && opens_later(window, host.now())) {
                    return Some(usage);
                }
                is_answer.then_some(usage)
            }
            Err(error) if !error.kind.retryable() => return None,
            Err(_) => None,
        };
        // An answer from before the refusal does not count. Processes that are refused at once share the next one.
        let since = host.now().duration_since(refused).unwrap_or_default();
        match usage {
            Some(usage) if max_age <= since => return Some(usage),
            Some(_) => max_age = since,
            None => {
                let pause = *pauses.next()?;
                host.sleep(pause).await;
                max_age = pause;
            }
        }
    }
}

fn has_credit(usage: &Usage) -> bool {
    usage.wallet.as_ref().is_some_and(Wallet::has_credit)
}

fn opens_later(window: &Window, now: SystemTime) -> bool {
    window.resets_at.is_some_and(|at| at > millis(now))
}

/// Pauses before a request that would spend what `policy` keeps in reserve. Without a reserve nothing is asked.
pub async fn keep_reserve(host: &mut impl ParkHost, file: &ParkFile, policy: &ParkPolicy) -> Result<()> {
    if policy.reserve.is_empty() {
        return Ok(());
    }
    // A quota that cannot be read reserves nothing.
    let Ok(snapshot) = host.quota(RESERVE_AGE).await else { return Ok(()) };
    let usage = snapshot.usage.unwrap_or_default();
    let Some((window, kept)) = reached(&usage.windows, policy, host.now()) else { return Ok(()) };
    if has_credit(&usage) {
        host.tell(ParkEvent::SpendsCredit { label: window.label.clone() });
        return Ok(());
    }
    let message = format!("{}: {kept} % of it are kept in reserve (setting quota.reserve)", window.label);
    let refusal = Error::new(ErrorKind::QuotaExhausted, message);
    wait_for(host, file, policy, (window.clone(), false), refusal).await.map(drop)
}

/// The window whose reserve is reached, and the reserve in percent; of several, the one that opens last. A reading from before a
/// reset says nothing about the time after it.
fn reached<'w>(windows: &'w [Window], policy: &ParkPolicy, now: SystemTime) -> Option<(&'w Window, f64)> {
    let reached = policy.reserve.iter().filter_map(|(id, kept)| {
        let window = windows.iter().find(|window| window.id == *id)?;
        let is_past = window.resets_at.is_some() && !opens_later(window, now);
        (!is_past && window.used_ratio? * 100.0 >= 100.0 - kept).then_some((window, *kept))
    });
    reached.max_by_key(|(window, _)| window.resets_at)
}

/// Waits for a window and returns the one that was waited for at the end. `had_credit` says whether bought credit did not help.
async fn wait_for(
    host: &mut impl ParkHost,
    file: &ParkFile,
    policy: &ParkPolicy,
    (mut window, had_credit): (Window, bool),
    refusal: Error,
) -> Result<Window> {
    let started = millis(host.now());
    let longest = i64::try_from(policy.max_wait.as_millis()).unwrap_or(i64::MAX);
    let is_reserved =
        |window: &Window, now: SystemTime| !window.is_used_up() && reached(slice(window), policy, now).is_some();
    let Some(mut resets_at) = window.resets_at else { return Err(refusal) };
    if resets_at.saturating_sub(started) > longest {
        return Err(refusal);
    }
    let reserved = is_reserved(&window, host.now());
    if !file.read().await.is_about(&window) {
        // Another process may have been faster.
        keep(file, |record| {
            if !record.is_about(&window) {
                record.begin(&window, resets_at, reserved, started);
            }
        })
        .await;
    }
    if choose(host, file, policy, &window, !reserved).await == OnExhausted::Stop {
        return Err(refusal);
    }
    let _parked = file.park().await;
    let most = if resets_at > started { MAX_LATE_LOOKS } else { MAX_PAST_RESETS };
    let (mut past_resets, mut told, mut looked) = (0, None, false);
    loop {
        let is_late = resets_at <= millis(host.now());
        past_resets += u32::from(is_late);
        if past_resets > most || resets_at.saturating_sub(started) > longest {
            return Err(refusal);
        }
        if told.replace((window.id.clone(), resets_at)) != Some((window.id.clone(), resets_at)) {
            let used_up = !is_reserved(&window, host.now());
            let Window { id, label, short, .. } = window.clone();
            host.tell(ParkEvent::Parked { window: id, label, short, used_up, resets_at });
        }
        // A reset that did not come, or our clock is ahead.
        let is_overdue = is_late && looked && most == MAX_LATE_LOOKS;
        let pause = if is_overdue { ASK_EVERY } else { Duration::from_secs(rand::random_range(JITTER)) };
        let asleep = host.now();
        let wait = Wait { window: &window, resets_at, pause, started, had_credit };
        let found = match wait.sleep(host, file, policy, &refusal).await? {
            Woke::Closed(found) => Some(found),
            // The last look before anything is sent.
            Woke::Open { max_age } => {
                looked = true;
                let asleep = host.now().duration_since(asleep).unwrap_or_default();
                match host.quota(max_age.min(asleep)).await {
                    // The request itself will tell where there is only an old answer, or none.
                    Ok(snapshot) if snapshot.problem.is_some() => None,
                    Ok(snapshot) => {
                        snapshot.usage.and_then(|usage| closed(&usage, policy, (&window, had_credit), host.now()))
                    }
                    Err(error) if error.kind == ErrorKind::LoginRequired => return Err(error),
                    Err(_) => None,
                }
            }
        };
        let Some(found) = found else { break };
        let Some(next) = found.resets_at else { return Err(refusal) };
        let reserved = is_reserved(&found, host.now());
        (window, resets_at) = (found, next);
        keep(file, |record| {
            (record.window, record.label) = (window.id.clone(), window.label.clone());
            (record.resets_at, record.reserved) = (next, reserved);
        })
        .await;
    }
    // Accounts may have changed since the last look.
    host.signed_in().await?;
    host.tell(ParkEvent::Resumed);
    Ok(window)
}

/// Waits before a request is sent again that was refused although its window reads as open.
async fn wait_a_moment(
    host: &mut impl ParkHost,
    file: &ParkFile,
    policy: &ParkPolicy,
    window: &Window,
    refusal: &Error,
) -> Result<()> {
    let started = millis(host.now());
    let _parked = file.park().await;
    let Window { id, label, short, .. } = window.clone();
    host.tell(ParkEvent::Parked { window: id, label, short, used_up: true, resets_at: started });
    let wait = Wait { window, resets_at: started, pause: LATE_PAUSE, started, had_credit: false };
    wait.sleep(host, file, policy, refusal).await?;
    host.signed_in().await?;
    host.tell(ParkEvent::Resumed);
    Ok(())
}

fn slice(window: &Window) -> &[Window] {
    std::slice::from_ref(window)
}

/// The window that requests have to wait for now: the one that was waited for, or another that is used up. Credit that was bought
/// meanwhile opens all.
fn closed(
    usage: &Usage,
    policy: &ParkPolicy,
    (waited, had_credit): (&Window, bool),
    now: SystemTime,
) -> Option<Window> {
    if has_credit(usage) && !had_credit {
        return None;
    }
    let same = usage.windows.iter().find(|window| window.id == waited.id).filter(|window| {
        // A refusal may name a window that reads as nearly full, and does so until its reset.
        let is_same_period =
            window.resets_at.zip(waited.resets_at).is_some_and(|(one, other)| one.abs_diff(other) < 60_000);
        let is_refused = !waited.is_used_up() && is_same_period && window.used_ratio >= waited.used_ratio;
        let is_early = is_refused && opens_later(window, now);
        window.is_used_up() || is_early || reached(slice(window), policy, now).is_some()
    });
    let other =
        || usage.windows.iter().filter(|window| window.is_used_up() && window.is_of_time() && opens_later(window, now));
    same.or_else(|| other().max_by_key(|window| window.resets_at)).cloned()
}

/// What happens at this window: the policy, or what the user answers. One process of the machine asks.
async fn choose(
    host: &mut impl ParkHost,
    file: &ParkFile,
    policy: &ParkPolicy,
    window: &Window,
    used_up: bool,
) -> OnExhausted {
    if policy.on_exhausted != OnExhausted::Ask {
        return policy.on_exhausted;
    }
    loop {
        if let Some(choice) = file.read().await.choice.filter(|choice| *choice != OnExhausted::Ask) {
            return choice;
        }
        let asking = file.lease("asking".to_owned()).await;
        if asking.is_none() && file.0.is_some() {
            // Another process asks; without its answer this one asks when that one is gone.
            host.sleep(TICK).await;
            continue;
        }
        let choice = host.ask(window, used_up).await.unwrap_or_default();
        keep(file, |record| record.choice = Some(choice)).await;
        return choice;
    }
}

/// One sleep of a parked request.
struct Wait<'w> {
    window: &'w Window,
    resets_at: i64,
    /// Added to the reset.
    pause: Duration,
    /// When the request was parked, in milliseconds since 1970.
    started: i64,
    had_credit: bool,
}

/// Why a sleep ended.
enum Woke {
    /// The window should be open. A quota of more than `max_age` does not count.
    Open { max_age: Duration },
    /// The reset has moved, or another window is used up.
    Closed(Window),
}

impl Wait<'_> {
    /// Sleeps until the reset and the pause behind it are over, or until there is news.
    async fn sleep(
        &self,
        host: &mut impl ParkHost,
        file: &ParkFile,
        policy: &ParkPolicy,
        refusal: &Error,
    ) -> Result<Woke> {
        let parked_at = millis(host.now());
        let pause = i64::try_from(self.pause.as_millis()).unwrap_or_default();
        let opens = self.resets_at.max(parked_at).saturating_add(pause);
        let (mut ticks, mut asked) = (0_u32, host.now());
        while millis(host.now()) < opens {
            let left = Duration::from_millis(opens.saturating_sub(millis(host.now())).unsigned_abs());
            host.sleep(TICK.min(left)).await;
            ticks = ticks.wrapping_add(1);
            let record = file.read().await;
            // Requests that begin to wait later were started by a user who knows better.
            if record.stop_at.is_some_and(|at| at >= self.started) {
                return Err(Error {
                    message: format!("{} (stopped with /kimi-quota)", refusal.message),
                    ..refusal.clone()
                });
            }
            if let Some(at) = record.resume_at.filter(|at| *at > parked_at) {
                return Ok(Woke::Open { max_age: since(host, at) });
            }
            if ticks.is_multiple_of(SIGNED_IN_EVERY) {
                host.signed_in().await?;
            }
            // Once the reset is here, all processes would ask at the same moment. A clock that was set back makes this one ask.
            let is_due = host.now().duration_since(asked).unwrap_or(ASK_EVERY) >= ASK_EVERY;
            if is_due && millis(host.now()) < self.resets_at {
                asked = host.now();
                // Without an answer the known reset stands.
                if let Ok(snapshot) = host.quota(ASK_EVERY).await
                    && snapshot.problem.is_none()
                    && let Some(usage) = snapshot.usage
                {
                    match closed(&usage, policy, (self.window, self.had_credit), host.now()) {
                        None => return Ok(Woke::Open { max_age: EXPLAINED_BY }),
                        Some(found) if self.is_news(&found) => return Ok(Woke::Closed(found)),
                        Some(_) => {}
                    }
                }
            }
        }
        Ok(Woke::Open { max_age: since(host, self.resets_at) })
    }

    fn is_news(&self, found: &Window) -> bool {
        found.id != self.window.id || found.resets_at.is_some_and(|at| at.abs_diff(self.resets_at) > 1_000)
    }
}

/// The time since a moment in milliseconds since 1970.
fn since(host: &impl ParkHost, moment: i64) -> Duration {
    host.now().duration_since(at(moment)).unwrap_or_default()
}

async fn keep(file: &ParkFile, change: impl FnOnce(&mut ParkRecord) + Send) {
    if let Err(error) = file.update(change).await {
        tracing::info!(%error, "what other processes should know about the used-up window could not be kept");
    }
}

fn millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

fn at(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::services::usage::parse;

    const HOUR: i64 = 3_600_000;

    /// Name, share and reset of each window at a moment; all times in milliseconds from the start.
    type Service = Box<dyn Fn(i64) -> Option<Vec<(&'static str, f64, i64)>> + Send>;

    /// A service and a wall clock.
    struct Scripted {
        start: i64,
        now: i64,
        service: Service,
        asked: Vec<i64>,
        events: Vec<ParkEvent>,
        answer: Option<OnExhausted>,
        answered_after: i64,
        credit_at: Option<i64>,
        questions: usize,
        signed_out_at: Option<i64>,
        jumps: Vec<(i64, i64)>,
        /// The last answer, as all processes share it, and when it came.
        shared: Option<(i64, Snapshot)>,
    }

    impl Scripted {
        /// A service with one window.
        fn new(service: impl Fn(i64) -> Option<(f64, i64)> + Send + 'static) -> Self {
            Self::with_windows(move |now| service(now).map(|(share, reset)| vec![("limit_5h", share, reset)]))
        }

        fn with_windows(service: impl Fn(i64) -> Option<Vec<(&'static str, f64, i64)>> + Send + 'static) -> Self {
            let start = 1_800_000_000_000;
            Self {
                start,
                now: start,
                service: Box::new(service),
                asked: Vec::new(),
                events: Vec::new(),
                answer: None,
                answered_after: 0,
                credit_at: None,
                questions: 0,
                signed_out_at: None,
                jumps: Vec::new(),
                shared: None,
            }
        }

        fn elapsed(&self) -> i64 {
            self.now - self.start
        }
    }

    impl ParkHost for Scripted {
        async fn quota(&mut self, max_age: Duration) -> Result<Snapshot> {
            if let Some((at, snapshot)) = &self.shared
                && u128::from((self.now - at).unsigned_abs()) < max_age.as_millis()
            {
                return Ok(snapshot.clone());
            }
            self.asked.push(self.elapsed());
            let windows = (self.service)(self.elapsed()).ok_or_else(|| Error::protocol("no quota", ""))?;
            let window = |(name, share, reset): &(&str, f64, i64)| {
                let reset = jiff::Timestamp::from_millisecond(self.start + reset).unwrap().to_string();
                ((*name).to_owned(), json!({"used_ratio": share, "reset_time": reset}))
            };
            let windows: serde_json::Map<_, _> = windows.iter().map(window).collect();
            let mut answer = json!({ "usages": windows });
            if self.credit_at.is_some_and(|at| self.elapsed() >= at) {
                answer["boosterWallet"] = json!({"balance": {"type": "BOOSTER", "amount": "2000000000", "amountLeft": "1234500000", "unit": "UNIT_CURRENCY"}});
            }
            let snapshot = Snapshot { usage: parse(&answer), ..Snapshot::default() };
            self.shared = Some((self.now, snapshot.clone()));
            Ok(snapshot)
        }

        async fn signed_in(&mut self) -> Result<()> {
            match self.signed_out_at {
                Some(at) if self.elapsed() >= at => Err(Error::login_required()),
                _ => Ok(()),
            }
        }

        fn tell(&mut self, event: ParkEvent) {
            self.events.push(event);
        }

        async fn ask(&mut self, _: &Window, _: bool) -> Option<OnExhausted> {
            self.questions += 1;
            self.now += self.answered_after;
            self.answer
        }

        fn now(&self) -> SystemTime {
            at(self.now)
        }

        async fn sleep(&mut self, time: Duration) {
            self.now += i64::try_from(time.as_millis()).unwrap().max(1);
            if let Some(position) = self.jumps.iter().position(|(at, _)| self.now - self.start >= *at) {
                self.now += self.jumps.remove(position).1;
            }
        }
    }

    fn policy(on_exhausted: OnExhausted) -> ParkPolicy {
        ParkPolicy { on_exhausted, max_wait: Duration::from_secs(6 * 3600), reserve: Vec::new() }
    }

    fn refusal() -> Error {
        Error::new(ErrorKind::QuotaExhausted, "You've reached your usage limit")
    }

    async fn parked(host: &mut Scripted, policy: &ParkPolicy) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        park(host, &ParkFile::new(Some(folder.path()), "a"), policy, &mut Waits::default(), refusal()).await
    }

    /// Full until `opens`, and then nearly unused.
    fn full_until(opens: i64) -> impl Fn(i64) -> Option<(f64, i64)> {
        move |now| Some(if now < opens { (1.0, opens) } else { (0.01, opens + 5 * HOUR) })
    }

    #[tokio::test]
    async fn park_waits_until_shortly_after_the_reset() {
        let mut host = Scripted::new(full_until(HOUR));
        parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap();
        let woke = host.elapsed();
        assert!((HOUR + 5_000..=HOUR + 46_000).contains(&woke), "{woke}");
        let (last, before) = host.asked.split_last().unwrap();
        assert!(*last >= HOUR + 5_000, "asked once more before anything is sent");
        assert!(before.windows(2).all(|pair| pair[1] - pair[0] >= 300_000), "{before:?}");
        assert!(matches!(&host.events[..], [ParkEvent::Parked { .. }, ParkEvent::Resumed]), "{:?}", host.events);
    }

    #[tokio::test]
    async fn park_a_reset_that_moves_twice_is_waited_for_again() {
        let mut host = Scripted::new(|now| match now {
            0..600_000 => Some((1.0, HOUR)),
            600_000..3_000_000 => Some((1.0, 2 * HOUR)),
            3_000_000..10_800_000 => Some((1.0, 3 * HOUR)),
            _ => Some((0.1, 9 * HOUR)),
        });
        parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap();
        let resets: Vec<i64> = host
            .events
            .iter()
            .filter_map(|event| match event {
                ParkEvent::Parked { resets_at, .. } => Some((resets_at - host.start) / HOUR),
                _ => None,
            })
            .collect();
        assert_eq!(resets, [1, 2, 3]);
        assert!(host.elapsed() >= 3 * HOUR);
    }

    #[tokio::test]
    async fn park_a_window_that_opens_early_ends_the_wait() {
        let mut host = Scripted::new(|now| Some((if now < 600_000 { 1.0 } else { 0.2 }, 4 * HOUR)));
        parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap();
        assert!(host.elapsed() < HOUR);
    }

    #[tokio::test]
    async fn park_without_a_usable_reset_the_refusal_stands() {
        for answer in [Some((1.0, 240 * HOUR)), Some((0.5, HOUR))] {
            let mut host = Scripted::new(move |_| answer);
            let error = parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap_err();
            assert_eq!((error.kind, host.elapsed()), (ErrorKind::QuotaExhausted, 0), "{answer:?}");
        }
        let mut past = Scripted::new(|_| Some((1.0, -HOUR)));
        parked(&mut past, &policy(OnExhausted::Wait)).await.unwrap_err();
        assert!(past.elapsed() < 180_000);
    }

    #[tokio::test]
    async fn park_usages_that_fail_keep_it_parked_until_the_known_reset() {
        let mut host = Scripted::new(|now| (now == 0).then_some((1.0, HOUR)));
        parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap();
        assert!(host.elapsed() > HOUR);
    }

    #[tokio::test]
    async fn park_a_clock_that_jumps_does_not_send_early() {
        for jump in [HOUR, -HOUR] {
            // The service's clock goes on; ours jumps after ten minutes.
            let mut host = Scripted::new(move |now| {
                let real = if now >= 600_000 { now - jump.max(0) } else { now };
                full_until(3 * HOUR)(real)
            });
            host.jumps = vec![(600_000, jump)];
            parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap();
            assert!(host.elapsed() - jump.max(0) >= 3 * HOUR, "{jump}: {}", host.elapsed());
        }
    }

    #[tokio::test]
    async fn park_signing_out_ends_the_wait() {
        let mut host = Scripted::new(|_| Some((1.0, HOUR)));
        host.signed_out_at = Some(600_000);
        let error = parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::LoginRequired);
        assert!(host.elapsed() < 620_000);
    }

    #[tokio::test]
    async fn park_the_user_is_asked_once_for_a_window() {
        let folder = tempfile::tempdir().unwrap();
        let file = ParkFile::new(Some(folder.path()), "a");
        for answer in [OnExhausted::Stop, OnExhausted::Wait] {
            let mut host = Scripted::new(|_| Some((1.0, HOUR)));
            host.answer = Some(answer);
            let stopped = park(&mut host, &file, &policy(OnExhausted::Ask), &mut Waits::default(), refusal()).await;
            assert!(stopped.is_err(), "the first answer counts for the window");
            assert_eq!(host.questions, usize::from(answer == OnExhausted::Stop));
        }
        let mut other = Scripted::new(full_until(4 * HOUR));
        other.answer = Some(OnExhausted::Wait);
        park(&mut other, &file, &policy(OnExhausted::Ask), &mut Waits::default(), refusal()).await.unwrap();
        assert_eq!(other.questions, 1);
    }

    #[tokio::test]
    async fn park_the_user_can_stop_and_resume_it() {
        for (record, stopped) in [
            (ParkRecord { stop_at: Some(i64::MAX), ..ParkRecord::default() }, true),
            (ParkRecord { stop_at: Some(0), resume_at: Some(i64::MAX), ..ParkRecord::default() }, false),
            (ParkRecord { resume_at: Some(i64::MAX), ..ParkRecord::default() }, false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = ParkFile::new(Some(folder.path()), "a");
            let mut host = Scripted::new(|now| Some((if now == 0 { 1.0 } else { 0.0 }, HOUR)));
            let record = ParkRecord { window: "5h".to_owned(), resets_at: host.start + HOUR, ..record };
            file.write(&record).await.unwrap();
            let result = park(&mut host, &file, &policy(OnExhausted::Wait), &mut Waits::default(), refusal()).await;
            assert_eq!(result.is_err(), stopped);
            assert!(host.elapsed() < 10_000);
        }
    }

    #[tokio::test]
    async fn park_a_quota_that_cannot_be_read_at_first_costs_no_work() {
        for (down, policy, waits) in [
            (60_000, policy(OnExhausted::Wait), true),
            (600_000, policy(OnExhausted::Wait), false),
            (60_000, policy(OnExhausted::Ask), false),
        ] {
            let mut host = Scripted::new(move |now| (now >= down).then(|| full_until(HOUR)(now)).flatten());
            let result = parked(&mut host, &policy).await;
            assert_eq!(result.is_ok(), waits, "{down}");
            assert_eq!(host.elapsed() > HOUR, waits, "{down}: {}", host.elapsed());
        }
    }

    #[tokio::test]
    async fn park_a_reset_that_comes_late_is_waited_for() {
        let mut host = Scripted::new(|now| Some(if now < HOUR + 900_000 { (1.0, HOUR) } else { (0.0, 6 * HOUR) }));
        parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap();
        assert!((HOUR + 900_000..HOUR + 1_300_000).contains(&host.elapsed()), "{}", host.elapsed());
    }

    #[tokio::test]
    async fn park_a_window_that_vanishes_or_another_plan_ends_the_wait() {
        for after in [vec![("limit_7d", 0.3, 90 * HOUR)], vec![("limit_5h", 0.02, 2 * HOUR)]] {
            let mut host = Scripted::with_windows(move |now| {
                Some(if now < 600_000 { vec![("limit_5h", 1.0, 4 * HOUR)] } else { after.clone() })
            });
            parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap();
            assert!((600_000..HOUR).contains(&host.elapsed()), "{}", host.elapsed());
        }
    }

    #[tokio::test]
    async fn park_another_window_that_was_used_up_meanwhile_is_waited_for_as_well() {
        for (week_opens, sent) in [(3 * HOUR, true), (80 * HOUR, false)] {
            let mut host = Scripted::with_windows(move |now| {
                let five_hours = if now < HOUR { ("limit_5h", 1.0, HOUR) } else { ("limit_5h", 0.0, 6 * HOUR) };
                let week = if now < week_opens {
                    ("limit_7d", if now < HOUR { 0.9 } else { 1.0 }, week_opens)
                } else {
                    ("limit_7d", 0.0, week_opens + 168 * HOUR)
                };
                Some(vec![five_hours, week])
            });
            let result = parked(&mut host, &policy(OnExhausted::Wait)).await;
            assert_eq!(result.is_ok(), sent);
            let windows: Vec<&str> = host
                .events
                .iter()
                .filter_map(|event| match event {
                    ParkEvent::Parked { window, .. } => Some(window.as_str()),
                    _ => None,
                })
                .collect();
            assert_eq!(windows, if sent { vec!["5h", "7d"] } else { vec!["5h"] });
            assert_eq!(host.elapsed() >= week_opens, sent, "{}", host.elapsed());
        }
    }

    #[tokio::test]
    async fn park_credit_that_was_bought_meanwhile_ends_the_wait() {
        for (bought, early) in [(600_000, true), (0, false)] {
            let mut host = Scripted::new(full_until(4 * HOUR));
            host.credit_at = Some(bought);
            parked(&mut host, &policy(OnExhausted::Wait)).await.unwrap();
            assert_eq!(host.elapsed() < 2 * HOUR, early, "credit that did not help before does not help now");
        }
    }

    #[tokio::test]
    async fn park_a_window_that_the_refusal_names_is_waited_for_while_it_reads_as_nearly_full() {
        let mut host = Scripted::new(|now| Some(if now < HOUR { (0.99, HOUR) } else { (0.0, 6 * HOUR) }));
        let folder = tempfile::tempdir().unwrap();
        let named = Error { window: Some(crate::error::QuotaWindow::FiveHours), ..refusal() };
        let file = ParkFile::new(Some(folder.path()), "a");
        park(&mut host, &file, &policy(OnExhausted::Wait), &mut Waits::default(), named).await.unwrap();
        assert!(host.elapsed() > HOUR, "{}", host.elapsed());
    }

    #[tokio::test]
    async fn park_refused_again_although_the_window_reads_as_open_is_sent_again_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let file = ParkFile::new(Some(folder.path()), "a");
        let (policy, mut waits) = (policy(OnExhausted::Wait), Waits::default());
        let mut host = Scripted::new(full_until(HOUR));
        let mut sent = 0;
        while park(&mut host, &file, &policy, &mut waits, refusal()).await.is_ok() {
            sent += 1;
        }
        assert_eq!(sent, 1 + MAX_LATE_REFUSALS);
        assert!((HOUR + 180_000..HOUR + 400_000).contains(&host.elapsed()), "{}", host.elapsed());
        assert_eq!(file.sessions().await, 0);
    }

    #[tokio::test]
    async fn park_a_question_that_is_answered_after_the_reset_continues_soon() {
        let mut host = Scripted::new(full_until(HOUR));
        (host.answer, host.answered_after) = (Some(OnExhausted::Wait), 3 * HOUR);
        parked(&mut host, &policy(OnExhausted::Ask)).await.unwrap();
        assert!(host.elapsed() < 3 * HOUR + 60_000, "{}", host.elapsed());
    }

    #[tokio::test]
    async fn park_a_choice_made_before_counts_for_the_next_window_of_the_day() {
        for (hours_before, questions) in [(2, 0), (30, 1)] {
            let folder = tempfile::tempdir().unwrap();
            let file = ParkFile::new(Some(folder.path()), "a");
            let mut host = Scripted::new(full_until(HOUR));
            host.answer = Some(OnExhausted::Wait);
            let past =
                ParkRecord { window: "5h".to_owned(), resets_at: host.start - 40 * HOUR, ..ParkRecord::default() };
            file.write(&past).await.unwrap();
            let chosen = host.start - hours_before * HOUR;
            file.update(|record| record.choose(OnExhausted::Wait, chosen)).await.unwrap();
            park(&mut host, &file, &policy(OnExhausted::Ask), &mut Waits::default(), refusal()).await.unwrap();
            assert_eq!(host.questions, questions);
        }
    }

    #[tokio::test]
    async fn park_stopping_reaches_requests_that_wait_for_another_window() {
        let folder = tempfile::tempdir().unwrap();
        let file = ParkFile::new(Some(folder.path()), "a");
        let mut host = Scripted::new(full_until(HOUR));
        let week = ParkRecord { window: "7d".to_owned(), stop_at: Some(i64::MAX), ..ParkRecord::default() };
        file.write(&week).await.unwrap();
        park(&mut host, &file, &policy(OnExhausted::Wait), &mut Waits::default(), refusal()).await.unwrap_err();
        assert!(host.elapsed() < 10_000);
    }

    #[tokio::test]
    async fn park_file_of_a_killed_process_does_not_count_and_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = ParkFile::new(Some(folder.path()), "a");
        let parked = file.park().await.unwrap();
        let left = file.part("parked-0000000000000001").unwrap();
        std::fs::write(&left, "").unwrap();
        assert_eq!((file.sessions().await, left.exists()), (1, false));
        drop(parked);
        assert_eq!(file.sessions().await, 0);
    }

    #[tokio::test]
    async fn park_file_concurrent_changes_do_not_undo_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = ParkFile::new(Some(folder.path()), "a");
        let changes: Vec<_> = (0..10)
            .map(|_| {
                let file = file.clone();
                tokio::spawn(async move { file.update(|record| record.since += 1).await })
            })
            .collect();
        for change in changes {
            change.await.unwrap().unwrap();
        }
        assert_eq!(file.read().await.since, 10);
    }

    #[tokio::test]
    async fn reserve_is_kept_before_a_request_and_nothing_is_asked_without_one() {
        let file = ParkFile::new(None, "a");
        let mut none = Scripted::new(|_| Some((0.99, HOUR)));
        keep_reserve(&mut none, &file, &policy(OnExhausted::Stop)).await.unwrap();
        assert!(none.asked.is_empty());
        let reserve = ParkPolicy { reserve: vec![("5h".to_owned(), 5.0)], ..policy(OnExhausted::Stop) };
        // The last reading is from before a reset.
        for (share, reset, kept) in [(0.94, HOUR, false), (0.95, HOUR, true), (1.0, HOUR, true), (0.96, -1_000, false)]
        {
            let mut host = Scripted::new(move |_| Some((share, reset)));
            let result = keep_reserve(&mut host, &file, &reserve).await;
            assert_eq!(result.is_err(), kept, "{share}");
            assert!(result.err().is_none_or(|error| error.message.contains("reserve")));
        }
    }
}

//! Waits for a quota window to open again, so that an unattended run loses nothing.
//!
//! The wait goes by the wall clock, because a machine may sleep through it. `/usages` is asked through the shared quota record: once
//! to find the window, at most every five minutes meanwhile, and once more before anything is sent. The processes of one account
//! share a small file that says which window they wait for and what the user chose; it stops nothing by itself, so a process that
//! dies leaves nothing behind.

mod file;
pub mod sign_in;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{OnExhausted, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::services::money::Wallet;
use crate::services::quota_cache::Snapshot;
use crate::services::quota_error::used_up_window;
use crate::services::usage::{Usage, Window};

use self::file::is_same_reset;
pub use self::file::{ParkFile, ParkRecord};

/// How often a parked request looks at the clock and at what the user chose.
const TICK: Duration = Duration::from_secs(1);

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

/// A window that was refused with a reset in the past is looked at this often again, then the refusal stands.
const MAX_PAST_RESETS: u32 = 2;

/// The same for a window whose reset passed while the request was parked: our clock may be ahead, so it is given two hours.
const MAX_LATE_LOOKS: u32 = 24;

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

/// Shares from which on a refusal is put down to a window that does not read as used up: one that its text names, and any.
const NEARLY_FULL: f64 = 0.9;
const ALL_BUT_FULL: f64 = 0.97;

/// The service may go on refusing for a moment after `/usages` says that the window is open. A request that has waited is sent again
/// after this pause, so many times.
const LATE_PAUSE: Duration = Duration::from_secs(30);
const MAX_LATE_REFUSALS: u32 = 6;

/// How a request behaves at the end of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct ParkPolicy {
    /// What to do.
    pub on_exhausted: OnExhausted,
    /// Longest time that one request is parked; absent means any.
    pub max_wait: Option<Duration>,
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
            max_wait: settings.quota.max_wait(),
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
    let Some(usage) = explanation(host, policy).await else { return Err(refusal) };
    let had_credit = has_credit(&usage);
    // Right after a wait, a text that names the window that has just opened is a refusal that comes late.
    let named = || used_up_window(&usage, refusal.window).filter(|_| waits.last.is_none());
    match (refusing_window(&usage, &refusal).or_else(named).cloned(), waits.last.clone()) {
        (Some(window), _) => {
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

/// The window that refused, as far as readings tell: one that is used up, else one that reads as nearly full and is named, else the
/// fullest that is all but used up. The service's readings may lag behind, and its texts may name another window.
fn refusing_window<'u>(usage: &'u Usage, refusal: &Error) -> Option<&'u Window> {
    let reads = |window: &Window, least: f64| window.used_ratio.is_none_or(|ratio| ratio >= least);
    let nearly = || {
        let full = usage.windows.iter().filter(|window| window.is_of_time() && window.used_ratio >= Some(ALL_BUT_FULL));
        full.max_by_key(|window| window.resets_at)
    };
    used_up_window(usage, refusal.window).filter(|window| reads(window, NEARLY_FULL)).or_else(nearly)
}

/// Asks for the quota that explains a refusal; `None` if it cannot be had.
async fn explanation(host: &mut impl ParkHost, policy: &ParkPolicy) -> Option<Usage> {
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
    let refusal = Error { resets_at: window.resets_at, ..Error::new(ErrorKind::QuotaExhausted, message) };
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
    let longest = policy.max_wait.and_then(|limit| i64::try_from(limit.as_millis()).ok()).unwrap_or(i64::MAX);
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
            window.resets_at.zip(waited.resets_at).is_some_and(|(one, other)| is_same_reset(one, other));
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
        let asking = file.lease("asking".to_owned()).await;
        // Only now, because another process that asked has written its answer before it gave the lease back.
        if let Some(choice) = file.read().await.choice.filter(|choice| *choice != OnExhausted::Ask) {
            return choice;
        }
        if asking.is_none() && file.is_shared() {
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
            // Of a clock that was set back, a command may be from the future; that one is over.
            let now = millis(host.now());
            // Requests that begin to wait later were started by a user who knows better.
            if record.stop_at.is_some_and(|at| (self.started..=now).contains(&at)) {
                return Err(Error {
                    message: format!("{} (stopped with /kimi-quota)", refusal.message),
                    ..refusal.clone()
                });
            }
            if let Some(at) = record.resume_at.filter(|at| *at > parked_at && *at <= now) {
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

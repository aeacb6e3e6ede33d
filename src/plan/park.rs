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
use crate::services::quota_cache::Snapshot;
use crate::services::quota_error::used_up_window;
use crate::services::usage::Window;
use crate::storage::lease::Lease;
use crate::storage::private_file::{create_private_dir, replace};

/// How often a parked request looks at the clock and at what the user chose.
const TICK: Duration = Duration::from_secs(1);

/// Longest wait for other processes that change the shared file, and how often it is tried.
const MAX_TURN: Duration = Duration::from_millis(500);
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

    /// Asks the user; `None` if there is no user to ask.
    fn ask(&mut self, window: &str, label: &str, resets_at: i64) -> impl Future<Output = Option<OnExhausted>> + Send;

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
    /// When it opens again, in milliseconds since 1970.
    pub resets_at: i64,
    /// Since when a process waits for it, in milliseconds since 1970.
    pub since: i64,
    /// What the user chose for this window.
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
            Ok(parked.filter(|entry| Lease::is_held(&entry.path())).count())
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

/// Waits until the window that refused a request is open again. Returns an error if the request should fail instead.
pub async fn park(host: &mut impl ParkHost, file: &ParkFile, policy: &ParkPolicy, refusal: Error) -> Result<()> {
    let refused = host.now();
    let mut usage = match host.quota(EXPLAINED_BY).await {
        Ok(snapshot) => snapshot.usage.unwrap_or_default(),
        Err(_) => return Err(refusal),
    };
    if !usage.windows.iter().any(Window::is_used_up) {
        // That answer may be from before the refusal. Processes that are refused at once share the next one.
        let since = host.now().duration_since(refused).unwrap_or_default();
        usage = host.quota(since).await.ok().and_then(|snapshot| snapshot.usage).unwrap_or(usage);
    }
    match used_up_window(&usage, refusal.window) {
        Some(window) => wait_for(host, file, policy, window.clone(), refusal).await,
        None => Err(refusal),
    }
}

/// Pauses before a request that would spend what `policy` keeps in reserve. Without a reserve nothing is asked.
pub async fn keep_reserve(host: &mut impl ParkHost, file: &ParkFile, policy: &ParkPolicy) -> Result<()> {
    if policy.reserve.is_empty() {
        return Ok(());
    }
    // A quota that cannot be read reserves nothing.
    let Ok(snapshot) = host.quota(RESERVE_AGE).await else { return Ok(()) };
    let usage = snapshot.usage.unwrap_or_default();
    let Some((window, kept)) = reached(&usage.windows, policy) else { return Ok(()) };
    if usage.wallet.as_ref().is_some_and(|wallet| wallet.has_credit()) {
        host.tell(ParkEvent::SpendsCredit { label: window.label.clone() });
        return Ok(());
    }
    let message = format!("{}: {kept} % of it are kept in reserve (setting quota.reserve)", window.label);
    wait_for(host, file, policy, window.clone(), Error::new(ErrorKind::QuotaExhausted, message)).await
}

/// The window whose reserve is reached, and the reserve in percent; of several, the one that opens last.
fn reached<'w>(windows: &'w [Window], policy: &ParkPolicy) -> Option<(&'w Window, f64)> {
    let reached = policy.reserve.iter().filter_map(|(id, kept)| {
        let window = windows.iter().find(|window| window.id == *id)?;
        (window.used_ratio? * 100.0 >= 100.0 - kept).then_some((window, *kept))
    });
    reached.max_by_key(|(window, _)| window.resets_at)
}

async fn wait_for(
    host: &mut impl ParkHost,
    file: &ParkFile,
    policy: &ParkPolicy,
    mut window: Window,
    refusal: Error,
) -> Result<()> {
    let started = millis(host.now());
    let longest = i64::try_from(policy.max_wait.as_millis()).unwrap_or(i64::MAX);
    let mut past_resets = 0;
    let Some(mut resets_at) = window.resets_at else { return Err(refusal) };
    if resets_at.saturating_sub(started) > longest {
        return Err(refusal);
    }
    if !file.read().await.is_about(&window) {
        let Window { id, label, .. } = window.clone();
        let fresh = ParkRecord { window: id, label, resets_at, since: started, ..ParkRecord::default() };
        // Another process may have been faster.
        keep(file, |record| {
            if !record.is_about(&window) {
                *record = fresh
            }
        })
        .await;
    }
    if choose(host, file, policy, &window, resets_at).await == OnExhausted::Stop {
        return Err(refusal);
    }
    let _parked = file.park().await;
    let was_ahead = resets_at > started;
    let most = if was_ahead { MAX_LATE_LOOKS } else { MAX_PAST_RESETS };
    let mut told = None;
    loop {
        let is_late = resets_at <= millis(host.now());
        past_resets += u32::from(is_late);
        if past_resets > most || resets_at.saturating_sub(started) > longest {
            return Err(refusal);
        }
        if told.replace(resets_at) != Some(resets_at) {
            let used_up = window.is_used_up() || reached(std::slice::from_ref(&window), policy).is_none();
            let Window { id, label, short, .. } = window.clone();
            host.tell(ParkEvent::Parked { window: id, label, short, used_up, resets_at });
        }
        let pause = if is_late && was_ahead { ASK_EVERY } else { Duration::from_secs(rand::random_range(JITTER)) };
        let moved = sleep_until_open(host, file, policy, (&window, resets_at, pause), (started, &refusal)).await?;
        if let Some(moved) = moved {
            resets_at = moved;
            keep(file, |record| record.resets_at = moved).await;
            continue;
        }
        // The last look before anything is sent: a quota from before the reset does not count.
        let since = host.now().duration_since(at(resets_at)).unwrap_or_default();
        let still = match host.quota(since).await {
            // The request itself will tell where there is only an old answer, or none.
            Ok(snapshot) if snapshot.problem.is_some() => None,
            Ok(snapshot) => snapshot.usage.and_then(|usage| full(&usage.windows, policy, &window.id)),
            Err(error) if error.kind == ErrorKind::LoginRequired => return Err(error),
            Err(_) => None,
        };
        match still.map(|found| (found.resets_at, found)) {
            None => break,
            Some((None, _)) => return Err(refusal),
            Some((Some(next), found)) => {
                (window, resets_at) = (found, next);
                keep(file, |record| record.resets_at = next).await;
            }
        }
    }
    // Accounts may have changed since the last look.
    host.signed_in().await?;
    host.tell(ParkEvent::Resumed);
    Ok(())
}

/// A window of this id that is used up, or whose reserve is reached.
fn full(windows: &[Window], policy: &ParkPolicy, id: &str) -> Option<Window> {
    let window = windows.iter().find(|window| window.id == id)?;
    let reserved = reached(std::slice::from_ref(window), policy).is_some();
    (window.is_used_up() || reserved).then(|| window.clone())
}

/// What happens at this window: the policy, or what the user answers. One process of the machine asks.
async fn choose(
    host: &mut impl ParkHost,
    file: &ParkFile,
    policy: &ParkPolicy,
    window: &Window,
    resets_at: i64,
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
        let choice = host.ask(&window.id, &window.label, resets_at).await.unwrap_or_default();
        keep(file, |record| record.choice = Some(choice)).await;
        return choice;
    }
}

/// Sleeps until the reset and the pause behind it are over. Returns a reset that has moved.
async fn sleep_until_open(
    host: &mut impl ParkHost,
    file: &ParkFile,
    policy: &ParkPolicy,
    (window, resets_at, pause): (&Window, i64, Duration),
    (started, refusal): (i64, &Error),
) -> Result<Option<i64>> {
    let parked_at = millis(host.now());
    let opens = resets_at.max(parked_at).saturating_add(i64::try_from(pause.as_millis()).unwrap_or_default());
    let (mut ticks, mut asked) = (0_u32, host.now());
    while millis(host.now()) < opens {
        let left = Duration::from_millis(opens.saturating_sub(millis(host.now())).unsigned_abs());
        host.sleep(TICK.min(left)).await;
        ticks = ticks.wrapping_add(1);
        let record = file.read().await;
        // Requests that begin to wait later were started by a user who knows better.
        if record.stop_at.is_some_and(|at| at >= started) && record.window == window.id {
            return Err(Error {
                message: format!("{} (stopped with /kimi-quota)", refusal.message),
                ..refusal.clone()
            });
        }
        if record.resume_at.is_some_and(|at| at > parked_at) {
            return Ok(None);
        }
        if ticks.is_multiple_of(SIGNED_IN_EVERY) {
            host.signed_in().await?;
        }
        // Once the reset is here, all processes would ask at the same moment. A clock that was set back makes this one ask.
        let is_due = host.now().duration_since(asked).unwrap_or(ASK_EVERY) >= ASK_EVERY;
        if is_due && millis(host.now()) < resets_at {
            asked = host.now();
            // Without an answer the known reset stands.
            if let Ok(snapshot) = host.quota(ASK_EVERY).await
                && snapshot.problem.is_none()
                && let Some(usage) = snapshot.usage
            {
                match full(&usage.windows, policy, &window.id) {
                    None => return Ok(None),
                    Some(found) => match found.resets_at.filter(|at| at.abs_diff(resets_at) > 1_000) {
                        Some(moved) => return Ok(Some(moved)),
                        None => continue,
                    },
                }
            }
        }
    }
    Ok(None)
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

    /// Share and reset of the window at a moment; all times in milliseconds from the start.
    type Service = Box<dyn Fn(i64) -> Option<(f64, i64)> + Send>;

    /// A service and a wall clock.
    struct Scripted {
        start: i64,
        now: i64,
        service: Service,
        asked: Vec<i64>,
        events: Vec<ParkEvent>,
        answer: Option<OnExhausted>,
        questions: usize,
        signed_out_at: Option<i64>,
        jumps: Vec<(i64, i64)>,
    }

    impl Scripted {
        fn new(service: impl Fn(i64) -> Option<(f64, i64)> + Send + 'static) -> Self {
            let start = 1_800_000_000_000;
            Self {
                start,
                now: start,
                service: Box::new(service),
                asked: Vec::new(),
                events: Vec::new(),
                answer: None,
                questions: 0,
                signed_out_at: None,
                jumps: Vec::new(),
            }
        }

        fn elapsed(&self) -> i64 {
            self.now - self.start
        }
    }

    impl ParkHost for Scripted {
        async fn quota(&mut self, _: Duration) -> Result<Snapshot> {
            self.asked.push(self.elapsed());
            let (share, reset) = (self.service)(self.elapsed()).ok_or_else(|| Error::protocol("no quota", ""))?;
            let reset = jiff::Timestamp::from_millisecond(self.start + reset).unwrap().to_string();
            let usage = parse(&json!({"usages": {"limit_5h": {"used_ratio": share, "reset_time": reset}}}));
            Ok(Snapshot { usage, ..Snapshot::default() })
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

        async fn ask(&mut self, _: &str, _: &str, _: i64) -> Option<OnExhausted> {
            self.questions += 1;
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
        park(host, &ParkFile::new(Some(folder.path()), "a"), policy, refusal()).await
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
        for answer in [Some((1.0, 240 * HOUR)), None, Some((0.5, HOUR))] {
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
            let stopped = park(&mut host, &file, &policy(OnExhausted::Ask), refusal()).await;
            assert!(stopped.is_err(), "the first answer counts for the window");
            assert_eq!(host.questions, usize::from(answer == OnExhausted::Stop));
        }
        let mut other = Scripted::new(full_until(4 * HOUR));
        other.answer = Some(OnExhausted::Wait);
        park(&mut other, &file, &policy(OnExhausted::Ask), refusal()).await.unwrap();
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
            let result = park(&mut host, &file, &policy(OnExhausted::Wait), refusal()).await;
            assert_eq!(result.is_err(), stopped);
            assert!(host.elapsed() < 10_000);
        }
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
        for (share, kept) in [(0.94, false), (0.95, true), (1.0, true)] {
            let mut host = Scripted::new(move |_| Some((share, HOUR)));
            let result = keep_reserve(&mut host, &file, &reserve).await;
            assert_eq!(result.is_err(), kept, "{share}");
            assert!(result.err().is_none_or(|error| error.message.contains("reserve")));
        }
    }
}

//! Tests of parking with a scripted service and clock.

use serde_json::json;

use super::*;
use crate::services::usage::parse;

const HOUR: i64 = 3_600_000;

/// When every test begins.
const START: i64 = 1_800_000_000_000;

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
        Self {
            start: START,
            now: START,
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
    ParkPolicy { on_exhausted, max_wait: Some(Duration::from_secs(6 * 3600)), reserve: Vec::new() }
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
async fn park_longest_wait_from_the_setting_zero_means_no_limit() {
    for (max_wait_ms, waits) in [(0, true), (1_000, false), (7_200_000, true)] {
        let mut settings = Settings::default();
        settings.quota.max_wait_ms = max_wait_ms;
        let policy = ParkPolicy::new(&settings, Some(OnExhausted::Wait), false);
        let mut host = Scripted::new(full_until(HOUR));
        assert_eq!(parked(&mut host, &policy).await.is_ok(), waits, "{max_wait_ms}");
        assert_eq!(host.elapsed() >= HOUR, waits, "{max_wait_ms}");
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn park_the_user_is_asked_once_by_processes_that_are_refused_at_the_same_moment() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let file = ParkFile::new(Some(folder.path()), "a");
        let asking = std::array::from_fn::<_, 8, _>(|_| {
            let file = file.clone();
            tokio::spawn(async move {
                let mut host = Scripted::new(|_| Some((1.0, HOUR)));
                host.answer = Some(OnExhausted::Stop);
                let _ = park(&mut host, &file, &policy(OnExhausted::Ask), &mut Waits::default(), refusal()).await;
                host.questions
            })
        });
        let mut questions = 0;
        for task in asking {
            questions += task.await.unwrap();
        }
        assert_eq!(questions, 1);
    }
}

#[tokio::test]
async fn park_the_user_can_stop_and_resume_it() {
    for (record, stopped) in [
        (ParkRecord { stop_at: Some(START + 500), ..ParkRecord::default() }, true),
        (ParkRecord { stop_at: Some(0), resume_at: Some(START + 500), ..ParkRecord::default() }, false),
        (ParkRecord { resume_at: Some(START + 500), ..ParkRecord::default() }, false),
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
async fn park_a_refusal_before_the_window_reads_as_full_is_put_down_to_the_one_that_is_nearly() {
    let month = || crate::error::QuotaWindow::Month;
    for (share, named, waits) in [
        (0.92, Some(crate::error::QuotaWindow::FiveHours), true),
        (0.92, None, false),
        // No reading tells of a window, so the text does.
        (0.5, Some(crate::error::QuotaWindow::FiveHours), true),
        (0.99, None, true),
        // Texts name the month although it is another window.
        (0.99, Some(month()), true),
        (0.92, Some(month()), false),
    ] {
        let mut host = Scripted::with_windows(move |now| {
            let five_hours = if now < HOUR { (share, HOUR) } else { (0.0, 6 * HOUR) };
            Some(vec![("limit_5h", five_hours.0, five_hours.1), ("limit_month_total", 0.4, 400 * HOUR)])
        });
        let folder = tempfile::tempdir().unwrap();
        let file = ParkFile::new(Some(folder.path()), "a");
        let refusal = Error { window: named, ..refusal() };
        let result = park(&mut host, &file, &policy(OnExhausted::Wait), &mut Waits::default(), refusal).await;
        assert_eq!((result.is_ok(), host.elapsed() > HOUR), (waits, waits), "{share} {named:?}");
    }
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
        let past = ParkRecord { window: "5h".to_owned(), resets_at: host.start - 40 * HOUR, ..ParkRecord::default() };
        file.write(&past).await.unwrap();
        let chosen = host.start - hours_before * HOUR;
        file.update(|record| record.choose(OnExhausted::Wait, chosen)).await.unwrap();
        park(&mut host, &file, &policy(OnExhausted::Ask), &mut Waits::default(), refusal()).await.unwrap();
        assert_eq!(host.questions, questions);
    }
}

#[tokio::test]
async fn park_commands_from_the_future_do_not_count() {
    // The clock was set back after they were given.
    let folder = tempfile::tempdir().unwrap();
    let file = ParkFile::new(Some(folder.path()), "a");
    let later = Some(START + 5 * HOUR);
    file.write(&ParkRecord { stop_at: later, resume_at: later, ..ParkRecord::default() }).await.unwrap();
    let mut host = Scripted::new(full_until(HOUR));
    park(&mut host, &file, &policy(OnExhausted::Wait), &mut Waits::default(), refusal()).await.unwrap();
    assert!(host.elapsed() > HOUR && host.asked.len() < 20, "{:?}", host.asked);
}

#[tokio::test]
async fn park_stopping_reaches_requests_that_wait_for_another_window() {
    let folder = tempfile::tempdir().unwrap();
    let file = ParkFile::new(Some(folder.path()), "a");
    let mut host = Scripted::new(full_until(HOUR));
    let week = ParkRecord { window: "7d".to_owned(), stop_at: Some(START + 500), ..ParkRecord::default() };
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
    for (share, reset, kept) in [(0.94, HOUR, false), (0.95, HOUR, true), (1.0, HOUR, true), (0.96, -1_000, false)] {
        let mut host = Scripted::new(move |_| Some((share, reset)));
        let result = keep_reserve(&mut host, &file, &reserve).await;
        assert_eq!(result.is_err(), kept, "{share}");
        assert!(result.err().is_none_or(|error| error.message.contains("reserve")));
    }
}

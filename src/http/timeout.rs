//! Time limits that a stopped process does not distort.
//!
//! A process can be stopped for seconds or hours (Ctrl-Z, a debugger, `docker pause`, suspend) while its clock goes on. What arrived
//! meanwhile is in the socket, so it is read before a limit counts; and a limit whose timer fires late starts again, so that a healthy
//! connection survives and a dead one ends within its normal time after waking.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How long a limit waits for data that is already there, after its timer fired.
pub const GRACE: Duration = Duration::from_millis(100);

/// Delay of a timer that shows that the process was stopped. Busy machines delay timers by less.
const LATE: Duration = Duration::from_millis(500);

/// A point in time that is extended if it is noticed late.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    limit: Duration,
    at: Instant,
    /// The timer has fired, and whether it fired late.
    fired: Option<bool>,
}

impl Deadline {
    /// Starts a limit now.
    pub fn after(limit: Duration) -> Self {
        // A limit that no clock can represent is as good as a year.
        let at = Instant::now().checked_add(limit).unwrap_or_else(|| Instant::now() + Duration::from_secs(31_536_000));
        Self { limit, at, fired: None }
    }

    /// Returns the limit.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns when [`Self::expired`] has to be asked.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Decides what a timer means that has just fired: true if the limit has passed, else the timer has to be set again.
    pub fn expired(&mut self) -> bool {
        match self.fired {
            None => {
                self.fired = Some(self.at.elapsed() >= LATE);
                self.at = Instant::now() + GRACE;
                false
            }
            Some(late) if late || self.at.elapsed() >= LATE => {
                *self = Self::after(self.limit);
                false
            }
            Some(_) => true,
        }
    }
}

/// Waits for `work`, at most for `limit`; `None` if the limit has passed.
pub async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    let Some(limit) = limit else { return Some(work.await) };
    let mut work = pin!(work);
    let mut deadline = Deadline::after(limit);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return Some(result),
            () = sleep_until(deadline.at()) => if deadline.expired() { return None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn timeout_work_that_never_ends_is_given_up_after_the_limit() {
        let start = Instant::now();
        assert_eq!(within(Some(LIMIT), std::future::pending::<()>()).await, None);
        assert!(start.elapsed() >= LIMIT && start.elapsed() < LIMIT + GRACE * 2, "{:?}", start.elapsed());
        assert_eq!(within(None, async { 1 }).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn timeout_timer_that_fires_late_starts_again() {
        let mut deadline = Deadline::after(LIMIT);
        tokio::time::advance(LIMIT * 30).await; // the process was stopped
        assert!(!deadline.expired(), "what is in the socket is read first");
        tokio::time::sleep_until(deadline.at()).await;
        assert!(!deadline.expired());
        assert!(deadline.at() >= Instant::now() + LIMIT - GRACE, "the whole limit again");
        tokio::time::sleep_until(deadline.at()).await;
        assert!(!deadline.expired());
        tokio::time::sleep_until(deadline.at()).await;
        assert!(deadline.expired(), "a dead connection ends within its limit after waking");
    }

    #[tokio::test(start_paused = true)]
    async fn timeout_result_that_arrives_with_the_timer_counts() {
        let slow = async {
            tokio::time::sleep(LIMIT + GRACE / 2).await;
            7
        };
        assert_eq!(within(Some(LIMIT), slow).await, Some(7));
    }
}

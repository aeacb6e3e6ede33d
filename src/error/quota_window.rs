//! Which window of the quota a text of the service names.

use super::text_search::{Phrase, Words};

/// A window of the plan's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaWindow {
    /// Five hours.
    FiveHours,
    /// A day.
    Day,
    /// Seven days.
    Week,
    /// A month or billing cycle.
    Month,
}

/// How texts name the windows.
const WINDOWS: &[(QuotaWindow, &[Phrase])] = &[
    (QuotaWindow::FiveHours, &["5 hour", "300 minute", "5小时", "五小时"]),
    (QuotaWindow::Week, &["week*", "7 day", "168 hour", "每周", "本周", "一周", "周额度", "周限额", "7天", "七天"]),
    (
        QuotaWindow::Month,
        &["month*", "30 day", "billing cycle", "billing period", "每月", "本月", "月度", "账单周期", "计费周期"],
    ),
    (QuotaWindow::Day, &["daily", "per day", "24 hour", "1 day", "每日", "每天", "今日", "当日"]),
];

impl QuotaWindow {
    /// Returns the window that a text names first.
    pub fn named_in(words: &Words) -> Option<Self> {
        let names = WINDOWS.iter().flat_map(|(window, names)| names.iter().map(move |name| (*window, name)));
        let found = names.filter_map(|(window, name)| Some((words.name_of_span(name)?, window)));
        found.min_by_key(|(position, _)| *position).map(|(_, window)| window)
    }

    /// Returns the id of the window in the quota record.
    pub fn id(self) -> &'static str {
        match self {
            Self::FiveHours => "5h",
            Self::Day => "1d",
            Self::Week => "7d",
            Self::Month => "month",
        }
    }

    /// Returns the name of the window for users, as the quota record spells it.
    pub fn label(self) -> &'static str {
        match self {
            Self::FiveHours => "5-hour window",
            Self::Day => "Daily window",
            Self::Week => "Weekly window",
            Self::Month => "Monthly window",
        }
    }
}

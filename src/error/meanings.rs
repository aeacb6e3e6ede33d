//! What the service's errors mean: one table, read from top to bottom, the first row that applies counts.
//!
//! Facts: docs/protocol.md#error-bodies, docs/protocol.md#error-wordings, docs/protocol.md#quota-errors,
//! docs/protocol.md#errors-in-streams. Services and gateways word the same fact in many ways, so a row lists ideas and no
//! sentences.

use super::ErrorKind;
use super::quota_window::QuotaWindow;
use super::text_search::{Idea, Phrase, Words};

/// One row: it applies if the status is one of `status`, and a label or an idea is found, or if it names neither.
#[derive(Debug)]
pub struct Meaning {
    /// What an error of this row is.
    pub kind: ErrorKind,
    /// HTTP statuses. [`NONE`] stands for an error without one, inside a stream.
    pub status: &'static [u16],
    /// Parts of type or code, in lower-case letters and digits only.
    pub labels: &'static [&'static str],
    /// Ideas of the text.
    pub ideas: &'static [Idea],
    /// The text names a window of the quota.
    pub window: bool,
    /// Too much is under way at the same time, so fewer requests at once help.
    pub crowded: bool,
}

/// An error inside a stream, which has no status of its own.
pub const NONE: u16 = 0;

/// Statuses with which the service or a gateway reports a used-up quota.
const QUOTA: &[u16] = &[NONE, 401, 402, 403, 429];

/// Statuses that judge the request's content.
const CONTENT: &[u16] = &[NONE, 400, 413, 422];

const REACHED: &[Phrase] = &[
    "exceed*",
    "reach*",
    "exhaust*",
    "deplet*",
    "used up",
    "used all",
    "used ?up ?all",
    "hit ?your ?the",
    "run out",
    "ran out",
    "out of",
    "no remaining",
    "no more",
    "insufficient",
    "not enough",
    "over ?your",
    "consumed",
    "用尽",
    "用完",
    "耗尽",
    "已达",
    "达到",
    "超出",
    "超过",
    "不足",
    "上限",
];

const ROW: Meaning =
    Meaning { kind: ErrorKind::BadRequest, status: &[], labels: &[], ideas: &[], window: false, crowded: false };

/// The table.
pub const MEANINGS: &[Meaning] = &[
    // The plan does not include the model. Before everything else, because these come with 401 and 403 as well.
    Meaning {
        kind: ErrorKind::Entitlement,
        status: &[NONE, 401, 402, 403],
        ideas: &[&[&["subscription does not have access", "current plan supports only", "plan does not include"]]],
        ..ROW
    },
    // A quota is used up, in the service's own code.
    Meaning {
        kind: ErrorKind::QuotaExhausted,
        status: &[NONE, 400, 401, 402, 403, 429],
        labels: &["exceededcurrentquota", "insufficientquota", "quotaexceeded", "quotaexhausted", "usagelimit"],
        ..ROW
    },
    // The limit of a window: 5 hours, a day, a week, a month, a billing cycle.
    Meaning {
        kind: ErrorKind::QuotaExhausted,
        status: QUOTA,
        ideas: &[&[&["limit*", "quota*", "usage", "allowance", "cap", "额度", "配额", "限额", "上限", "用量", "限制"]]],
        window: true,
        ..ROW
    },
    // Too many requests at the same time; the service says so with 403.
    Meaning {
        kind: ErrorKind::RateLimited,
        status: &[NONE, 403, 429],
        labels: &["concurrencylimit", "toomanyconcurrent"],
        ideas: &[
            &[&["并发"]],
            &[&["concurren*", "parallel", "simultaneous*", "in flight"], REACHED],
            &[&["too many"], &["concurren*", "parallel", "simultaneous*", "at once", "at the same time", "in flight"]],
        ],
        crowded: true,
        ..ROW
    },
    // Too many requests in a short time. Before the quota's words: "quota exceeded for requests per minute".
    Meaning {
        kind: ErrorKind::RateLimited,
        status: &[NONE, 429],
        ideas: &[
            &[&["too many requests", "rate limit*", "ratelimit*", "请求过于频繁", "请求频率", "请求过快", "限流"]],
            &[&["per minute", "per second", "rpm", "tpm", "qps"], REACHED],
        ],
        ..ROW
    },
    // A quota is used up, in words: usage limits, balances, and when the quota refreshes.
    Meaning {
        kind: ErrorKind::QuotaExhausted,
        status: QUOTA,
        ideas: &[
            &[
                &["quota*", "usage limit*", "usage cap", "usage allowance", "额度", "配额", "限额", "用量", "使用上限"],
                REACHED,
            ],
            &[
                &["quota*", "usage", "limit*", "额度", "配额", "限额", "用量"],
                &["refresh*", "reset*", "renew*", "replenish*", "刷新", "重置", "恢复"],
            ],
            &[&["balance", "余额"], &["insufficient", "check", "not enough", "too low", "不足"]],
            &[&["recharge", "in arrears", "欠费", "充值"]],
        ],
        ..ROW
    },
    Meaning { kind: ErrorKind::RateLimited, status: &[NONE, 429], labels: &["ratelimit", "toomanyrequests"], ..ROW },
    // Offers of a larger plan that do not speak of a quota.
    Meaning {
        kind: ErrorKind::Entitlement,
        status: &[401, 402, 403],
        ideas: &[&[&["upgrade to a", "upgrade your plan"]]],
        ..ROW
    },
    // The credential is refused. Inside a stream the code may be spelled in any way.
    Meaning { kind: ErrorKind::Unauthorized, status: &[401], ..ROW },
    Meaning {
        kind: ErrorKind::Unauthorized,
        status: &[NONE],
        labels: &[
            "invalidauthentication",
            "authenticationerror",
            "authenticationfailed",
            "unauthorized",
            "unauthenticated",
            "invalidapikey",
            "invalidtoken",
            "tokenexpired",
            "expiredtoken",
        ],
        ideas: &[
            &[&["api key", "access token", "credential*"], &["invalid", "incorrect", "expired", "revoked"]],
            &[&["token expired", "token ?is expired", "token has expired"]],
            &[&["invalid authentication", "authentication failed", "authentication required", "not authenticated"]],
            &[&["认证失败", "鉴权失败", "令牌无效", "令牌已过期", "密钥无效", "未授权"]],
        ],
        ..ROW
    },
    Meaning { kind: ErrorKind::Entitlement, status: &[402], ..ROW },
    // The service refuses this client program.
    Meaning {
        kind: ErrorKind::ClientRefused,
        status: &[403],
        ideas: &[&[&["coding agent*", "identity", "user agent*", "client is not", "unsupported client"]]],
        ..ROW
    },
    Meaning { kind: ErrorKind::Entitlement, status: &[403], ..ROW },
    // The prompt does not fit into the model's window.
    Meaning {
        kind: ErrorKind::ContextOverflow,
        status: CONTENT,
        labels: &["contextlengthexceeded", "contextwindowexceeded", "promptistoolong"],
        ideas: &[
            &[&["context length*", "contextlength*", "maximum context", "prompt is too long"]],
            &[&["context length exceeded", "model context window exceeded"]],
            &[&["exceed*"], &["model token limit", "context window"]],
            &[&["exceed* ?the maximum token*", "exceed* ?the max token*"]],
            &[&["too many tokens"], &["prompt", "input", "context"]],
            &[&["input token count"], &["exceed*"]],
            &[&["上下文"], &["超出", "超过", "过长"]],
        ],
        ..ROW
    },
    Meaning { kind: ErrorKind::PayloadTooLarge, status: &[413], ..ROW },
    // Refused content.
    Meaning {
        kind: ErrorKind::Filtered,
        status: &[NONE, 400],
        labels: &["contentfilter"],
        ideas: &[&[&["considered high risk", "高风险"]]],
        ..ROW
    },
    // An image or video is refused.
    Meaning {
        kind: ErrorKind::BadMedia,
        status: &[NONE, 400],
        ideas: &[
            &[&["unsupported image*", "unsupported video*", "invalid image*", "not represent a valid image"]],
            &[&["could not", "unable to", "failed to", "cannot"], &["process*", "decode*"], &["image*"]],
            &[&["media type", "mime type"], &["image*"]],
            &[&["图片", "图像"], &["无效", "不支持", "无法"]],
        ],
        ..ROW
    },
    // The engine is busy.
    Meaning {
        kind: ErrorKind::RateLimited,
        status: &[429],
        labels: &["overload"],
        ideas: &[&[&["overload*", "过载", "负载过高", "繁忙"]]],
        crowded: true,
        ..ROW
    },
    Meaning { kind: ErrorKind::RateLimited, status: &[429], ..ROW },
    Meaning { kind: ErrorKind::Overloaded, status: &[529], crowded: true, ..ROW },
    Meaning {
        kind: ErrorKind::Overloaded,
        status: &[NONE, 500, 503],
        labels: &["overload"],
        ideas: &[&[&["overload*", "过载", "负载过高", "繁忙"]]],
        crowded: true,
        ..ROW
    },
];

impl Meaning {
    /// Returns the first row for which type, code or text speak. `label` is type and code, reduced to lower-case letters and
    /// digits.
    pub fn of_words(status: u16, label: &str, words: &Words) -> Option<&'static Self> {
        MEANINGS.iter().filter(|row| row.status.contains(&status)).find(|row| {
            (row.labels.iter().any(|known| label.contains(known)) || row.ideas.iter().any(|idea| words.hold(idea)))
                && (!row.window || QuotaWindow::named_in(words).is_some())
        })
    }

    /// Returns the row of a status alone.
    pub fn of_status(status: u16) -> Option<&'static Self> {
        MEANINGS.iter().find(|row| row.labels.is_empty() && row.ideas.is_empty() && row.status.contains(&status))
    }
}

//! What errors mean, row by row, and however gateways wrap them.

use serde_json::{Value, json};

use super::*;

fn body(message: &str) -> String {
    json!({ "error": { "message": message, "type": "permission_denied" } }).to_string()
}

#[test]
fn quota_limit_of_each_window_is_quota_exhausted_and_names_the_window() {
    use QuotaWindow::{Day, FiveHours, Month, Week};
    for (text, window) in [
        ("You have reached your weekly (7-day) usage limit. Quota resets with the next window.", Week),
        ("7-day limit reached", Week),
        ("Your 168-hour allowance is exhausted", Week),
        ("You've used up the quota of seven days", Week),
        ("Weekly limit reached, try again in 5 hours", Week),
        ("您的每周额度已用完", Week),
        ("本周使用上限已达到", Week),
        ("You have reached your 5-hour usage limit", FiveHours),
        ("5h limit hit. Try again in 2 hours.", FiveHours),
        ("five-hour rate limit reached", FiveHours),
        ("The limit of 300 minutes was exceeded", FiveHours),
        ("5 小时额度已耗尽，将于 14:00 刷新", FiveHours),
        (
            "You've reached your usage limit for this billing cycle. Your quota will be refreshed in the next cycle.",
            Month,
        ),
        ("Monthly quota exceeded", Month),
        ("30 days limit exceeded", Month),
        ("本月用量已达上限", Month),
        ("计费周期内的额度不足", Month),
        ("Daily limit reached", Day),
        ("24-hour cap exceeded", Day),
        ("今日额度已用尽", Day),
    ] {
        for status in [402, 403, 429] {
            let error = from_response(status, &body(text), None, None);
            assert_eq!((&error.kind, error.window), (&ErrorKind::QuotaExhausted, Some(window)), "{status} {text}");
        }
        let error = from_stream(&json!({ "message": text }));
        assert_eq!((&error.kind, error.window), (&ErrorKind::QuotaExhausted, Some(window)), "stream: {text}");
    }
}

#[test]
fn quota_without_a_window_is_quota_exhausted() {
    for text in [
        "You exceeded your current quota, please check your plan",
        "Insufficient balance",
        "Your account is in arrears, please recharge",
        "Usage limit reached. Upgrade to a higher plan for more.",
        "Your quota will be refreshed at 14:00",
        "账户余额不足，请充值",
        "额度不足",
        "quota resets in 5 hours",
    ] {
        let error = from_response(403, &body(text), None, None);
        assert_eq!((&error.kind, error.window), (&ErrorKind::QuotaExhausted, None), "{text}");
    }
}

#[test]
fn errors_that_only_sound_like_a_quota_are_not() {
    for (status, text, kind) in [
        (429, "too many requests, try again in 5 hours", ErrorKind::RateLimited),
        (429, "Your account reached max RPM: 20, please try again after 1 seconds", ErrorKind::RateLimited),
        (429, "Quota exceeded for requests per minute", ErrorKind::RateLimited),
        (429, "请求过于频繁，请稍后再试", ErrorKind::RateLimited),
        (429, "anything", ErrorKind::RateLimited),
        (
            403,
            "Your current subscription does not have access to k3. Upgrade to a Moderato plan",
            ErrorKind::Entitlement,
        ),
        (401, "Upgrade to a Moderato plan", ErrorKind::Entitlement),
        (403, "only available for Coding Agents", ErrorKind::ClientRefused),
        (400, "Your request exceeded model token limit: 262144 (requested: 300000)", ErrorKind::ContextOverflow),
        (400, "monthly_limit is not a member of this object", ErrorKind::BadRequest),
        (500, "the weekly limit service is down", ErrorKind::Server(500)),
    ] {
        assert_eq!(from_response(status, &body(text), None, None).kind, kind, "{status} {text}");
    }
}

/// Each gateway has its own way to pass on what it received.
fn wrapped(direct: &Value, status: u16) -> Vec<Value> {
    let text = direct.to_string();
    let outer = |metadata: Value| json!({ "error": { "message": "Provider returned error", "code": status, "metadata": metadata } });
    vec![
        outer(json!({ "raw": text, "provider_name": "Moonshot AI" })),
        outer(json!({ "raw": direct })),
        outer(json!({ "raw": outer(json!({ "raw": text })).to_string() })),
        json!({ "error": text }),
        json!({ "error": { "message": text, "type": "upstream_error" } }),
        json!({ "error": { "message": format!("Upstream answered {status}: {text} (request 7)") } }),
        json!({ "message": "Bad gateway", "body": text }),
        json!({ "detail": { "cause": direct } }),
        json!([{ "error": { "message": "failed", "response": text } }]),
        json!(text),
    ]
}

#[test]
fn gateway_wrapping_is_unwrapped_and_classified_like_a_direct_error() {
    let error = |message: &str, kind: &str| json!({ "error": { "message": message, "type": kind } });
    for (status, direct) in [
        (400, error("Your request exceeded model token limit: 262144 (requested: 300000)", "invalid_request_error")),
        (403, error("You have reached your weekly (7-day) usage limit.", "permission_denied")),
        (429, error("too many requests", "rate_limit_reached_error")),
        (400, error("Unsupported image. Please try another one.", "invalid_request_error")),
        (400, error("The request was considered high risk", "content_filter")),
    ] {
        let expected = from_response(status, &direct.to_string(), None, None);
        for wrapping in wrapped(&direct, status) {
            let found = from_response(status, &wrapping.to_string(), None, None);
            assert_eq!(found, expected, "{wrapping}");
            // A gateway's own status says nothing about an error that it passes on.
            let passed_on = from_response(502, &wrapping.to_string(), None, None).kind;
            assert_eq!(passed_on, expected.kind, "502 {wrapping}");
            assert_eq!(from_stream(&wrapping).kind, expected.kind, "stream {wrapping}");
        }
    }
}

#[test]
fn gateway_wrapping_with_a_code_of_its_own_takes_the_inner_one() {
    let wrapping = |inner: Value| {
        json!({ "error": { "message": "Provider returned error", "metadata": { "raw": inner.to_string() } } })
            .to_string()
    };
    for (code, kind) in [
        (json!(401), ErrorKind::Unauthorized),
        (json!("429"), ErrorKind::RateLimited),
        (json!(503), ErrorKind::Server(503)),
    ] {
        let body = wrapping(json!({ "error": { "message": "no", "code": code } }));
        assert_eq!(from_response(400, &body, None, None).kind, kind, "{body}");
    }
    assert_eq!(from_response(502, &wrapping(json!("no")), None, None).kind, ErrorKind::Server(502));
}

#[test]
fn gateway_wrapping_without_an_end_is_read_to_a_depth() {
    let mut error = json!({ "message": "innermost" });
    for _ in 0..100 {
        error = json!({ "error": error });
    }
    assert_eq!(from_response(500, &error.to_string(), None, None).kind, ErrorKind::Server(500));
}

#[test]
fn authentication_error_in_a_stream_is_recognized_however_its_code_is_written() {
    for error in [
        json!({ "type": "invalid_authentication_error", "message": "no" }),
        json!({ "type": "authentication_error", "message": "no" }),
        json!({ "code": "InvalidAuthentication" }),
        json!({ "code": "UNAUTHENTICATED", "message": "no" }),
        json!({ "code": "invalid-api-key" }),
        json!({ "code": 401, "message": "no" }),
        json!({ "code": "401" }),
        json!({ "status": 401 }),
        json!({ "type": "error", "error": { "type": "token_expired", "message": "no" } }),
        json!({ "message": "The API Key appears to be invalid or may have expired." }),
        json!({ "message": "Authentication failed" }),
        json!({ "message": "access token has expired" }),
        json!({ "message": "认证失败" }),
        json!({ "message": "Provider returned error", "metadata": { "raw": "{\"error\":{\"code\":401}}" } }),
    ] {
        assert_eq!(from_stream(&error).kind, ErrorKind::Unauthorized, "{error}");
    }
    for other in ["line 401 of the file", "unexpected token in the answer", "the invalid part was dropped"] {
        assert_eq!(from_stream(&json!({ "message": other })).kind, ErrorKind::Protocol, "{other}");
    }
}

#[test]
fn model_context_window_exceeded_is_an_overflow_in_both_dialects() {
    for error in [
        json!({ "code": "model_context_window_exceeded", "message": "no" }),
        json!({ "type": "error", "error": { "type": "model_context_window_exceeded", "message": "no" } }),
        json!({ "message": "model_context_window_exceeded" }),
    ] {
        assert_eq!(from_stream(&error).kind, ErrorKind::ContextOverflow, "{error}");
        assert_eq!(from_response(400, &error.to_string(), None, None).kind, ErrorKind::ContextOverflow, "{error}");
    }
}

#[test]
fn error_keeps_its_source() {
    let error = Error::new(ErrorKind::Io, "cannot be read").caused_by(std::io::Error::other("disk"));
    let source = std::error::Error::source(&error).expect("a source");
    assert_eq!(source.downcast_ref::<std::io::Error>().map(ToString::to_string).as_deref(), Some("disk"));
    assert_eq!(error.clone(), error);
}

#[test]
fn only_refusals_for_too_much_at_once_are_crowded() {
    for (status, error, crowded) in [
        (
            429,
            json!({ "type": "rate_limit_reached_error", "message": "Your account request reached max concurrency: 30" }),
            true,
        ),
        (
            403,
            json!({
                "type": "permission_error",
                "message": "You've reached your concurrent request limit. Please wait for your ongoing requests to finish and try again.",
            }),
            true,
        ),
        (429, json!({ "message": "too many concurrent requests" }), true),
        (429, json!({ "message": "Parallel request limit reached" }), true),
        (429, json!({ "message": "当前并发数已达上限" }), true),
        (429, json!({ "type": "engine_overloaded_error", "message": "The engine is currently overloaded" }), true),
        (503, json!({ "type": "engine_overloaded_error", "message": "The engine is currently overloaded" }), true),
        (529, json!({ "message": "no" }), true),
        (429, json!({ "type": "rate_limit_reached_error", "message": "too many requests" }), false),
        (429, json!({ "message": "max RPM reached, requests per minute: 60" }), false),
        (429, json!({ "message": "slow down" }), false),
        (
            429,
            json!({ "type": "exceeded_current_quota_error", "message": "You exceeded your current token quota" }),
            false,
        ),
        (503, json!({ "message": "Service Unavailable" }), false),
    ] {
        let body = json!({ "error": error }).to_string();
        let error = from_response(status, &body, None, None);
        assert_eq!(error.crowded, crowded, "{status} {body}: {:?}", error.kind);
    }
    let frame = json!({ "type": "engine_overloaded_error", "message": "busy" });
    assert!(from_stream(&frame).crowded);
}

//! Every form of the quota that was seen, and forms that nobody has seen, against what is made of them.

use serde_json::json;

use super::*;

fn rows(answer: &Value) -> Vec<(String, Option<i64>)> {
    let percent = |window: &Window| window.used_ratio.map(|ratio| (ratio * 100.0).round() as i64);
    parse(answer).unwrap_or_default().windows.iter().map(|window| (window.label.clone(), percent(window))).collect()
}

/// What a live answer looks like, with both views of the same facts (docs/protocol.md#usages).
fn both_views() -> Value {
    json!({
        "usages": {
            "limit_5h": {"used_ratio": 0.09, "reset_time": "2026-11-22T12:42:31Z"},
            "limit_7d": {"used_ratio": "0.13", "reset_time": "2026-11-27T09:49:31Z"},
            "limit_month_total": {"used_ratio": 0.31, "reset_time": "2026-12-12T09:49:31Z"},
            "limit_month_code": {"used_ratio": 0.21, "reset_time": "2026-12-12T09:49:31Z"}
        },
        "boosterWallet": {
            "balance": {"type": "BOOSTER", "amount": "2000000000", "amountLeft": "1234500000"},
            "monthlyChargeLimitEnabled": true, "monthlyChargeLimit": {"currency": "CNY", "priceInCents": "5000"},
            "monthlyUsed": {"currency": "CNY", "priceInCents": "766"}
        },
        "usage": {"limit": "100", "used": "13", "remaining": "87", "resetTime": "2026-11-27T09:49:31Z"},
        "limits": [{"window": {"duration": 300, "timeUnit": "TIME_UNIT_MINUTE"},
                    "detail": {"limit": "100", "used": "9", "remaining": "91", "resetTime": "2026-11-22T12:42:31Z"}}]
    })
}

#[test]
fn the_two_views_of_one_window_are_one_row() {
    let usage = parse(&both_views()).unwrap();
    assert_eq!(
        rows(&both_views()),
        [
            ("5-hour window".to_owned(), Some(9)),
            ("Weekly window".to_owned(), Some(13)),
            ("Monthly window".to_owned(), Some(31))
        ]
    );
    assert_eq!(usage.windows[0].used.as_deref(), Some("9"));
    assert_eq!(usage.windows[0].resets_at, Some(1_795_351_351_000));
    let parts: Vec<_> =
        usage.windows[2].parts.iter().map(|p| (p.label.as_str(), (p.used_ratio * 100.0).round())).collect();
    assert_eq!(parts, [("kimi", 10.0), ("code", 21.0)]);
    let wallet = usage.wallet.unwrap();
    assert_eq!((wallet.balance.text.as_str(), wallet.monthly_limit.unwrap().text.as_str()), ("¥12.35", "¥50.00"));
    assert_eq!(wallet.used_this_month.unwrap().text, "¥7.66");
}

/// The old view alone (docs/protocol.md#usages).
#[test]
fn counts_alone_are_enough() {
    let answer = json!({
        "user": {"membership": {"level": "LEVEL_ADVANCED"}},
        "usage": {"used": "40", "limit": "1000", "remaining": "960", "resetTime": "2026-08-03T05:20:51Z", "name": "Weekly requests"},
        "limits": [{"window": {"duration": "300", "time_unit": "minute"}, "used": 1, "limit": 100, "reset_at": 1785578400}],
    });
    let usage = parse(&answer).unwrap();
    assert_eq!(usage.plan.as_deref(), Some("Allegro"));
    assert_eq!(rows(&answer), [("5-hour window".to_owned(), Some(1)), ("Weekly window".to_owned(), Some(4))]);
    assert_eq!(usage.windows[0].resets_at, Some(1_785_578_400_000));
}

#[test]
fn windows_nobody_has_seen_before_are_shown() {
    let answer = json!({
        "usages": {"limit_24h": {"used_ratio": 0.5}, "limit_video_minutes": {"used_ratio": 0.25}, "note": "text"},
        "limits": [{"window": {"duration": 90, "timeUnit": "TIME_UNIT_MINUTE"}, "detail": {"used": 5}},
                   {"detail": {"used": 1, "limit": 4}}],
    });
    assert_eq!(
        rows(&answer),
        [
            ("1-day window".to_owned(), Some(50)),
            ("video minutes".to_owned(), Some(25)),
            ("90-minute window".to_owned(), None),
            ("Limit #2".to_owned(), Some(25)),
        ]
    );
}

#[test]
fn odd_numbers_neither_break_nor_lie() {
    let of = |detail: Value| rows(&json!({ "usage": detail }));
    let week = |percent| vec![("Weekly window".to_owned(), percent)];
    assert_eq!(of(json!({"remaining": "25", "limit": "100"})), week(Some(75)));
    assert_eq!(of(json!({"used": -5, "limit": 100})), week(Some(0)));
    assert_eq!(of(json!({"used": "9007199254740993", "limit": "18014398509481986"})), week(Some(50)));
    assert_eq!(of(json!({"used": 5, "limit": 0})), week(None));
    assert_eq!(of(json!({"used": 5, "limit": -1})), week(None));
    assert_eq!(of(json!({"used": "1.9", "limit": 10})), week(Some(10)));
    assert_eq!(of(json!({"limit": 10})), []);
    assert_eq!(
        of(json!({"limit": i128::MIN.to_string(), "remaining": 9})),
        week(None),
        "more digits than a number has"
    );
    let ratios =
        json!({"usages": {"limit_5h": {"used_ratio": "NaN"}, "limit_7d": {"used_ratio": -0.5}, "limit_month": null}});
    assert_eq!(rows(&ratios), week(Some(0)));
    assert_eq!(parse(&json!([1])), None);
    assert_eq!(parse(&json!({})), None);
    assert_eq!(parse(&json!("down for maintenance")), None);
}

#[test]
fn resets_are_read_in_every_form_and_zone() {
    let at = |value: Value| {
        parse(&json!({"usages": {"limit_5h": {"used_ratio": 1, "reset_time": value}}})).unwrap().windows[0].resets_at
    };
    let expected = Some(1_795_351_351_000);
    for value in [
        json!("2026-11-22T12:42:31Z"),
        json!("2026-11-22T20:42:31+08:00"),
        json!("2026-11-22T12:42:31"),
        json!("1795351351"),
        json!(1_795_351_351),
        json!(1_795_351_351_000_i64),
        json!("1795351351000"),
    ] {
        assert_eq!(at(value.clone()), expected, "{value}");
    }
    for value in [
        json!("soon"),
        json!(""),
        json!(null),
        json!(-5),
        json!(1e300),
        json!("99999999999999999999"),
        json!(i128::MIN.to_string()),
    ] {
        assert_eq!(at(value.clone()), None, "{value}");
    }
}

#[test]
fn names_from_outside_cannot_steer_a_terminal() {
    let answer = json!({"usage": {"name": "\u{1b}[31mRed\u{202e}\nline".to_owned() + &"x".repeat(10_000), "used": 1, "limit": 2}});
    let label = &rows(&answer)[0].0;
    assert!(label.starts_with("␛[31mRed<U+202E> line") && label.chars().count() <= 41, "{label}");
}

//! The quota in every form that was seen, and in unknown forms.

use serde_json::json;

use super::*;
use crate::services::members::snake_case;

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
fn usage_the_two_views_of_a_window_are_one_row() {
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
fn usage_counts_alone_are_enough() {
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
fn usage_unknown_windows_are_shown() {
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
fn usage_odd_numbers_are_read_or_ignored() {
    let of = |detail: Value| rows(&json!({ "usage": detail }));
    let week = |percent| vec![("Weekly window".to_owned(), percent)];
    assert_eq!(of(json!({"remaining": "25", "limit": "100"})), week(Some(75)));
    assert_eq!(of(json!({"used": -5, "limit": 100})), []);
    assert_eq!(of(json!({"remaining": 120, "limit": 100})), []);
    assert_eq!(of(json!({"used": "9007199254740993", "limit": "18014398509481986"})), week(Some(50)));
    assert_eq!(of(json!({"used": 5, "limit": 0})), week(None));
    assert_eq!(of(json!({"used": 5, "limit": -1})), week(None));
    assert_eq!(of(json!({"used": "1.9", "limit": 10})), week(Some(10)));
    assert_eq!(of(json!({"limit": 10})), []);
    assert_eq!(of(json!({"limit": i128::MIN.to_string(), "remaining": 9})), [], "more digits than a number has");
    let ratios =
        json!({"usages": {"limit_5h": {"used_ratio": "NaN"}, "limit_7d": {"used_ratio": -0.5}, "limit_month": null}});
    assert_eq!(rows(&ratios), []);
    assert_eq!(parse(&json!([1])), None);
    assert_eq!(parse(&json!({})), None);
    assert_eq!(parse(&json!("down for maintenance")), None);
}

#[test]
fn usage_resets_are_read_in_every_form_and_zone() {
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
fn usage_names_of_the_service_cannot_steer_a_terminal() {
    let answer = json!({"usage": {"name": "\u{1b}[31mRed\u{202e}\nline".to_owned() + &"x".repeat(10_000), "used": 1, "limit": 2}});
    let label = &rows(&answer)[0].0;
    assert!(label.starts_with("␛[31mRed<U+202E> line") && label.chars().count() <= 41, "{label}");
}

#[test]
fn usage_of_two_views_the_larger_share_counts_with_its_reset() {
    let lagging = json!({
        "usages": {"limit_5h": {"used_ratio": 0, "reset_time": "2026-11-28T10:00:00Z"},
                   "limit_7d": {"used_ratio": 0.9, "reset_time": "2026-12-01T00:00:00Z"}},
        "limits": [{"window": {"duration": 300, "timeUnit": "TIME_UNIT_MINUTE"},
                    "detail": {"limit": "100", "used": "100", "resetTime": "2026-11-28T12:22:15Z"}}],
        "usage": {"limit": 100, "used": 20, "resetTime": "2026-11-30T00:00:00Z"},
    });
    let usage = parse(&lagging).unwrap();
    assert_eq!((usage.windows[0].used_ratio, usage.windows[1].used_ratio), (Some(1.0), Some(0.9)));
    assert!(usage.windows[0].is_used_up());
    let at = |text: &str| Some(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    assert_eq!(usage.windows[0].resets_at, at("2026-11-28T12:22:15Z"));
    assert_eq!(usage.windows[1].resets_at, at("2026-12-01T00:00:00Z"));
}

#[test]
fn usage_month_and_unknown_units_are_never_a_five_hour_window() {
    let limit = |window: Value| json!({"limits": [{"window": window, "detail": {"limit": 100, "used": 50}}]});
    let label = |answer: &Value| rows(answer)[0].0.clone();
    for (window, expected) in [
        (json!({"duration": 1, "timeUnit": "TIME_UNIT_MONTH"}), "Monthly window"),
        (json!({"duration": 1, "time_unit": "month"}), "Monthly window"),
        (json!({"duration": 300, "timeUnit": "TIME_UNIT_UNSPECIFIED"}), "Limit #1"),
        (json!({"duration": 5, "timeUnit": "TIME_UNIT_MOON"}), "Limit #1"),
        (json!({"duration": 300}), "Limit #1"),
        (json!(null), "Limit #1"),
        (json!({"duration": "5", "timeUnit": "TIME_UNIT_HOUR"}), "5-hour window"),
    ] {
        assert_eq!(label(&limit(window.clone())), expected, "{window}");
    }
    let both = json!({"usages": {"limit_month_total": {"used_ratio": 0.2}},
                      "limits": [{"window": {"duration": 1, "timeUnit": "TIME_UNIT_MONTH"}, "detail": {"limit": 10, "used": 5}}]});
    assert_eq!(rows(&both), [("Monthly window".to_owned(), Some(50))]);
}

#[test]
fn usage_both_spellings_at_every_level() {
    let camel = both_views();
    let mut snake = camel.clone();
    spell(&mut snake, &snake_case);
    let mut reversed = camel.clone();
    spell(&mut reversed, &camel_case);
    let expected = parse(&camel).unwrap();
    assert_eq!(parse(&snake).as_ref(), Some(&expected));
    assert_eq!(parse(&reversed), Some(expected));
}

fn spell(value: &mut Value, name: &dyn Fn(&str) -> String) {
    match value {
        Value::Object(members) => {
            let old = std::mem::take(members);
            members.extend(old.into_iter().map(|(key, mut value)| {
                spell(&mut value, name);
                (name(&key), value)
            }));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| spell(item, name)),
        _ => {}
    }
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| {
        let mut rest = part.chars();
        let head = rest.next().map(|c| c.to_ascii_uppercase());
        out + &head.into_iter().chain(rest).collect::<String>()
    })
}

#[test]
fn usage_shares_that_are_negative_or_absurd_do_not_count() {
    for odd in
        [json!(-0.1), json!("NaN"), json!("inf"), json!(1e9), json!(44), json!("1e400"), json!(true), json!([0.5])]
    {
        let answer = json!({"usages": {"limit_5h": {"used_ratio": odd, "reset_time": "2026-11-28T06:47:08Z"}},
                            "limits": [{"window": {"duration": 5, "timeUnit": "TIME_UNIT_HOUR"}, "detail": {"limit": 4, "used": 1}}]});
        assert_eq!(rows(&answer), [("5-hour window".to_owned(), Some(25))], "{odd}");
    }
    let absurd = json!({"usage": {"limit": 1, "used": 1_000_000}});
    assert_eq!(rows(&absurd), [("Weekly window".to_owned(), None)]);
    assert_eq!(rows(&json!({"usages": {"limit_5h": {"used_ratio": 1.3}}})), [("5-hour window".to_owned(), Some(130))]);
}

#[test]
fn usage_parallel_limit_is_a_small_positive_number() {
    let limit = |value: Value| {
        parse(&json!({"usages": {"limit_5h": {"used_ratio": 0.2}}, "parallel": value})).unwrap().parallel_limit
    };
    assert_eq!((limit(json!({"limit": "30"})), limit(json!({"limit": 4.0}))), (Some(30), Some(4)));
    for odd in [
        json!({"limit": 0}),
        json!({"limit": -1}),
        json!({"limit": "many"}),
        json!({"limit": 1e9}),
        json!(30),
        json!(null),
    ] {
        assert_eq!(limit(odd.clone()), None, "{odd}");
    }
    assert_eq!(parse(&json!({"parallel": {"limit": "30"}})).unwrap().parallel_limit, Some(30));
}

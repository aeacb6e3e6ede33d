//! Compares the preview with a slow, simple reader.

#[path = "../../../../tests/support/mirror.rs"]
pub(in crate::chat::stream) mod mirror;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use mirror::Mirror;

fn preview(pieces: &[&str]) -> Value {
    let mut reader = ToolArgs::default();
    let mut mirror = Mirror::default();
    for piece in pieces {
        let mut changes = Changes::default();
        reader.append(piece, &mut changes);
        mirror.apply(&changes.into_text());
    }
    mirror.value()
}

/// Returns the value of a prefix of valid JSON the slow way: cut back until closing everything parses.
fn closed(prefix: &str) -> Value {
    for cut in (0..=prefix.len()).rev().filter(|cut| prefix.is_char_boundary(*cut)) {
        let head = &prefix[..cut];
        let (mut stack, mut in_string, mut escaped) = (Vec::new(), false, false);
        for byte in head.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'{' if !in_string => stack.push('}'),
                b'[' if !in_string => stack.push(']'),
                b'}' | b']' if !in_string => {
                    stack.pop();
                }
                _ => {}
            }
        }
        // A number, true, false or null counts only once something follows it.
        let literal = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let next = prefix[cut..].chars().next();
        let unfinished = !in_string && head.ends_with(literal) && next.is_none_or(literal);
        let mut text = head.to_owned();
        if in_string {
            text.push('"');
        }
        text.extend(stack.iter().rev());
        if let (false, Ok(value)) = (unfinished, serde_json::from_str::<Value>(&text)) {
            return value;
        }
    }
    json!({})
}

fn arguments() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-zé\"\\\\\n\u{1F600}]{0,6}".prop_map(Value::from),
        "[ -~é世\u{7f}\u{1}\n\u{1F600}]{0,24}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"\\\\]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-z]{1,3}", value, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn preview_every_prefix_shows_its_value(value in arguments(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let mut reader = ToolArgs::default();
        let mut mirror = Mirror::default();
        for (at, c) in text.char_indices() {
            let mut changes = Changes::default();
            reader.append(c.encode_utf8(&mut [0; 4]), &mut changes);
            mirror.apply(&changes.into_text());
            let prefix = &text[..at + c.len_utf8()];
            // The slow reader cannot handle half an escape; the two must agree afterwards.
            if !prefix.ends_with('\\') {
                prop_assert_eq!(mirror.value(), closed(prefix), "after {}", prefix);
            }
        }
        prop_assert_eq!(mirror.value(), value);
    }

    #[test]
    fn preview_fragments_of_any_size_give_the_same_value(value in arguments(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let text = value.to_string();
        let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| boundaries[cut.index(boundaries.len())]).collect();
        ends.extend([0, text.len()]);
        ends.sort_unstable();
        let pieces: Vec<&str> = ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(preview(&pieces), value);
    }

    #[test]
    fn preview_garbage_never_panics(pieces in prop::collection::vec("[\\[\\]{}\",:\\\\u0-9a-f \n-]{0,8}", 0..12)) {
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let _ = preview(&pieces);
        let _ = finalize(&pieces.concat());
    }
}

#[test]
fn preview_escapes_may_be_split_anywhere() {
    let pieces = ["{\"a", "\":\"\\", "u00e", "9\\ud83d", "\\ude", "00\\n\"}"];
    assert_eq!(preview(&pieces), json!({"a": "é😀\n"}));
}

#[test]
fn preview_borders_of_fragments_change_nothing() {
    let text = r#"{"k\u0041\"\n\ud83d":"plain \\\/\b\f\n\r\t\" é\u00e9\ud83d\ude00 \ud83d\ntext\ude00\ud83dx\ud83d","q":"","z":[1,"世"]}"#;
    let value = json!({
        "kA\"\n\u{fffd}": "plain \\/\u{8}\u{c}\n\r\t\" éé😀 \u{fffd}\ntext\u{fffd}\u{fffd}x\u{fffd}", "q": "", "z": [1, "世"],
    });
    let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    for (at, first) in cuts.iter().enumerate() {
        for second in &cuts[at..] {
            assert_eq!(
                preview(&[&text[..*first], &text[*first..*second], &text[*second..]]),
                value,
                "{first} {second}"
            );
        }
    }
}

#[test]
fn preview_every_character_is_read_at_every_place_of_a_fragment() {
    for c in ('\0'..='\u{ff}').chain(['世', '😀']) {
        for (before, after) in (0..10).flat_map(|before| (0..10).map(move |after| (before, after))) {
            let text = format!("{}{c}{}", "a".repeat(before), "~".repeat(after));
            let quoted = json!(text).to_string();
            let value = json!({ "k": text });
            assert_eq!(preview(&["{\"k\":\"", &quoted[1..quoted.len() - 1], "\"}"]), value);
            // Models write line ends into strings as they are.
            if c.is_ascii_control() {
                assert_eq!(preview(&["{\"k\":\"", &text, "\"}"]), value);
            }
        }
    }
}

#[test]
fn preview_a_million_brackets_are_refused_without_a_panic() {
    let text = format!("{{\"a\":{}", "[".repeat(1_000_000));
    let mut reader = ToolArgs::default();
    let mut changes = Changes::default();
    reader.append(&text, &mut changes);
    assert!(changes.len() < 4096);
    assert!(matches!(finalize(&text), FinalArguments::Unusable(_)));
}

#[test]
fn preview_growing_string_extends_the_change_that_began_it() {
    let mut reader = ToolArgs::default();
    let mut changes = Changes::default();
    for piece in ["{\"a\":\"x", "y", "z\n", "w"] {
        reader.append(piece, &mut changes);
    }
    assert_eq!(changes.into_text(), r#"[4,"a","xyz\nw"]"#);
    let mut next = Changes::default();
    reader.append("v", &mut next);
    assert_eq!(next.into_text(), r#"[5,"v"]"#);
    let mut end = Changes::default();
    reader.append("\"", &mut end);
    assert!(end.is_empty());
}

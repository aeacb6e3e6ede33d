//! The subset, rule by rule and case by case. The corpus is shared with tests/tool-schemas.test.ts, which sends it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::normalize::normalise;
use super::{MAX_BYTES, problem};

const CORPUS: &str = include_str!("../../../../tests/fixtures/requests/tool-schemas.json");

fn normal(schema: &Value) -> Value {
    let normalised = normalise(&schema.to_string());
    serde_json::from_str(normalised.parameters.get()).unwrap()
}

fn property(schema: Value) -> Value {
    normal(&json!({ "type": "object", "properties": { "p": schema } }))["properties"]["p"].clone()
}

#[test]
fn every_schema_of_the_corpus_gets_into_the_subset_and_stays_there() {
    let corpus: Vec<Value> = serde_json::from_str(CORPUS).unwrap();
    assert!(corpus.len() > 30);
    for entry in corpus {
        let once = normal(&entry["parameters"]);
        assert_eq!(problem(&once), None, "{}: {once}", entry["issue"]);
        assert_eq!(normal(&once), once, "{}", entry["issue"]);
    }
}

#[test]
fn a_schema_within_the_subset_keeps_its_bytes() {
    let text = r#"{"required":["b"],"properties":{"b":{"description":"x","type":"string","minLength":1},"a":{"anyOf":[{"type":"string"},{"type":"null"}]}},"type":"object"}"#;
    let normalised = normalise(text);
    assert_eq!(normalised.parameters.get(), text);
    assert_eq!((normalised.remark.as_str(), &normalised.loss), ("", &None));
}

#[test]
fn missing_types_are_inferred() {
    assert_eq!(property(json!({ "description": "d" })), json!({ "type": "string", "description": "d" }));
    assert_eq!(property(json!({ "enum": [1, 2] })), json!({ "type": "integer", "enum": [1, 2] }));
    assert_eq!(property(json!({ "items": { "const": "x" } }))["items"], json!({ "type": "string", "enum": ["x"] }));
    assert_eq!(property(json!({ "additionalProperties": { "minimum": 1 } }))["additionalProperties"]["type"], "number");
    assert_eq!(property(json!({ "anyOf": [{ "pattern": "^a" }, { "enum": [true] }] }))["anyOf"][0]["type"], "string");
}

#[test]
fn nothing_stands_beside_any_of_or_a_reference() {
    let choice =
        property(json!({ "type": "string", "description": "d", "anyOf": [{ "minLength": 1 }, { "enum": ["x"] }] }));
    assert_eq!(
        choice,
        json!({ "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "string", "enum": ["x"] }], "description": "d" })
    );
    let point = json!({ "type": "object", "$defs": { "P": { "type": "integer" } },
        "properties": { "a": { "$ref": "#/$defs/P", "description": "A" }, "b": { "$ref": "#/$defs/P" } } });
    let point = normal(&point);
    assert_eq!(point["properties"]["a"], json!({ "type": "integer", "description": "A" }));
    assert_eq!(point["properties"]["b"], json!({ "$ref": "#/$defs/P" }));
}

#[test]
fn what_a_schema_cannot_say_is_told_in_words() {
    let email = property(json!({ "type": "string", "format": "email", "title": "Mail of the author" }));
    assert_eq!(email, json!({ "type": "string", "description": "Mail of the author Format: email." }));
    let bounded = property(json!({ "type": "number", "description": "d.", "exclusiveMinimum": 0 }));
    assert_eq!(bounded["description"], "d. Also applies: {\"exclusiveMinimum\":0}");
}

#[test]
fn boolean_schemas_mean_anything_and_nothing() {
    let schema = normal(&json!({ "type": "object", "properties": { "a": true, "b": false }, "required": ["a", "b"] }));
    assert!(schema["properties"]["a"]["type"].as_array().unwrap().contains(&json!("object")));
    assert_eq!(schema["required"], json!(["a"]));
}

#[test]
fn a_choice_at_the_root_becomes_one_object() {
    let schema = normal(&json!({ "oneOf": [
        { "type": "object", "properties": { "kind": { "const": "a" } }, "required": ["kind"] },
        { "type": "object", "properties": { "kind": { "const": "b" }, "to": { "type": "string" } }, "required": ["kind", "to"] },
    ] }));
    assert_eq!(schema["properties"]["kind"], json!({ "type": "string", "enum": ["a", "b"] }));
    assert_eq!(schema["required"], json!(["kind"]));
    assert_eq!(schema["description"], "One of these is needed: (kind=\"a\") or (kind=\"b\", to).");
}

#[test]
fn a_long_schema_gets_short_by_sharing_before_anything_is_lost() {
    let corpus: Vec<Value> = serde_json::from_str(CORPUS).unwrap();
    let long = corpus.iter().find(|entry| entry["issue"] == "pi-subagents#241").unwrap();
    let text = long["parameters"].to_string();
    let normalised = normalise(&text);
    assert!(text.len() > MAX_BYTES && normalised.parameters.get().len() <= MAX_BYTES);
    assert_eq!((normalised.remark.as_str(), &normalised.loss), ("", &None));
    let wordy = corpus.iter().find(|entry| entry["issue"] == "UP#21").unwrap();
    let normalised = normalise(&wordy["parameters"].to_string());
    assert!(normalised.remark.contains("- option_17: Option number 17."));
    assert_eq!(normalised.loss, None);
}

#[test]
fn what_cannot_be_expressed_is_open_and_reported() {
    for (schema, word) in [
        ("\"just text\"".to_owned(), "not a JSON Schema"),
        ("[1]".to_owned(), "not a JSON Schema"),
        (format!("{}1{}", r#"{"type":"object","properties":{"a":"#.repeat(200), "}}".repeat(200)), "recursion"),
        (json!({ "type": "object", "properties": (0..60_000).map(|n| (format!("p{n}"), json!({ "type": "string", "title": "T" }))).collect::<serde_json::Map<_, _>>() }).to_string(), "longer than"),
        (json!({ "type": "array", "items": { "type": "string" } }).to_string(), "not described as an object"),
    ] {
        let normalised = normalise(&schema);
        let parameters: Value = serde_json::from_str(normalised.parameters.get()).unwrap();
        assert_eq!(problem(&parameters), None);
        assert!(normalised.loss.as_ref().unwrap().contains(word), "{:?}", normalised.loss);
    }
}

#[test]
fn parts_nested_too_deep_are_left_open() {
    let mut schema = json!({ "type": "string" });
    for _ in 0..30 {
        schema = json!({ "type": "object", "properties": { "deeper": schema } });
    }
    let normalised = normalise(&schema.to_string());
    assert!(normalised.loss.unwrap().contains("deeper than 10 levels"));
    assert_eq!(problem(&serde_json::from_str(normalised.parameters.get()).unwrap()), None);
}

/// Schemas of any shape: known and unknown words with values that may or may not belong there.
fn any_schema() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec!["a", "b", "path", "title"]);
    let scalar = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-3..9i64).prop_map(Value::from),
        prop::sample::select(vec![
            "string",
            "object",
            "array",
            "integer",
            "x",
            "#",
            "#/$defs/A",
            "#/properties/a",
            "#/definitions/B"
        ])
        .prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 60, 6, move |inner| {
        let words = prop::sample::select(vec![
            "type",
            "anyOf",
            "oneOf",
            "allOf",
            "enum",
            "const",
            "items",
            "prefixItems",
            "properties",
            "required",
            "$ref",
            "$defs",
            "definitions",
            "additionalProperties",
            "not",
            "if",
            "then",
            "description",
            "title",
            "default",
            "minimum",
            "pattern",
            "nullable",
            "format",
            "minItems",
            "patternProperties",
            "odd",
        ]);
        prop_oneof![
            prop::collection::vec((words, inner.clone()), 0..6).prop_map(|members| Value::Object(
                members.into_iter().map(|(word, value)| (word.to_owned(), value)).collect()
            )),
            prop::collection::vec((names.clone(), inner.clone()), 0..4).prop_map(|members| Value::Object(
                members.into_iter().map(|(word, value)| (word.to_owned(), value)).collect()
            )),
            prop::collection::vec(inner, 0..4).prop_map(Value::Array),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schema_gets_into_the_subset_and_stays_there(schema in any_schema()) {
        let once = normal(&schema);
        prop_assert_eq!(problem(&once), None, "{}", once);
        prop_assert_eq!(normal(&once), once);
    }
}

/// A tool server may send anything; what it costs must not depend on how often a part is named.
#[test]
fn parts_that_name_each_other_do_not_multiply() {
    let chain = |length: usize, link: &dyn Fn(Value) -> Value, last: Value| {
        let name = |at: usize| format!("A{at}");
        let mut definitions: serde_json::Map<String, Value> =
            (0..length).map(|at| (name(at), link(json!({ "$ref": format!("#/$defs/{}", name(at + 1)) })))).collect();
        definitions.insert(name(length), last);
        json!({ "type": "object", "properties": { "p": { "$ref": "#/$defs/A0" } }, "required": ["p"], "$defs": definitions })
    };
    let endless = json!({ "type": "object", "required": ["x"], "properties": { "x": { "$ref": "#/$defs/A40" } } });
    let twice = |word: &'static str| move |next: Value| json!({ word: [next, next] });
    let beside = |next: Value| json!({ "allOf": [{ "properties": { "q": next } }, { "properties": { "q": { "allOf": [next, next] } } }] });
    let itself = json!({ "allOf": [{ "$ref": "#/$defs/A0" }, { "$ref": "#/$defs/A0" }] });
    for schema in [
        chain(40, &twice("anyOf"), endless.clone()),
        chain(40, &twice("allOf"), endless.clone()),
        chain(40, &beside, json!({ "type": "string" })),
        chain(0, &twice("allOf"), itself),
        chain(20, &|next| json!({ "anyOf": [{ "allOf": [next] }, next], "minProperties": 1 }), endless),
    ] {
        assert_eq!(problem(&normal(&schema)), None, "{schema}");
    }
}

/// Nesting is what a stack pays for, and running out of it ends the process.
#[test]
fn thousands_of_demands_on_one_member_do_not_nest() {
    let parts = |demand: &dyn Fn(usize) -> Value| json!({ "allOf": (0..5000).map(demand).collect::<Vec<_>>() });
    for schema in [
        parts(&|least| json!({ "properties": { "p": { "type": "string", "minLength": least } } })),
        parts(&|least| json!({ "properties": { "p": { "items": { "minimum": least } } } })),
    ] {
        assert_eq!(problem(&normal(&schema)), None);
    }
}

#[test]
fn long_lists_take_no_longer_than_their_length() {
    let values: Vec<String> = (0..50_000).map(|number| format!("value {number}")).collect();
    assert_eq!(problem(&normal(&json!({ "properties": { "p": { "enum": values } } }))), None);
    let branches: Vec<Value> = (0..5000).map(|number| json!({ "type": "object", "minProperties": number })).collect();
    assert_eq!(problem(&normal(&json!({ "properties": { "p": { "anyOf": branches } } }))), None);
}

/// A thread of ours has two megabytes of stack.
#[test]
fn a_chain_of_references_is_not_followed_to_the_end_of_the_stack() {
    for link in [|next: &str| json!({ "$ref": next }), |next: &str| json!({ "$ref": next, "description": "x" })] {
        let definitions: serde_json::Map<String, Value> = (0..5000)
            .map(|at| {
                let next = link(&format!("#/$defs/A{}", at + 1));
                (format!("A{at}"), json!({ "type": "object", "required": ["q"], "properties": { "q": next } }))
            })
            .collect();
        let schema = json!({ "type": "object", "required": ["p"], "properties": { "p": link("#/$defs/A0") }, "$defs": definitions });
        assert_eq!(problem(&normal(&schema)), None);
    }
}

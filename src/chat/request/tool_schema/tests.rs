//! Normalization to MFJS, rule by rule and case by case.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::limits::MAX_BYTES;
use super::normalize::normalize;
use super::{Direction, Level, problem, violation};

/// Schemas from reports of other projects. tests/chat/acceptance.test.ts sends them.
const REPORTED: &str = include_str!("../../../../tests/fixtures/requests/tool-schemas.json");

/// Shapes that generators of tool servers write, made from the same tools in the manner of each.
const SERVERS: &str = include_str!("../../../../tests/fixtures/requests/tool-schemas-servers.json");

fn normal(schema: &Value) -> Value {
    let normalized = normalize(&schema.to_string());
    serde_json::from_str(normalized.parameters.get()).unwrap()
}

fn property(schema: Value) -> Value {
    normal(&json!({ "type": "object", "properties": { "p": schema } }))["properties"]["p"].clone()
}

/// Every rule of the published validator at its strictest level, but for `$schema`, which is left where nothing else changes.
fn keeps_every_rule(schema: &Value) {
    let mut schema = schema.clone();
    schema.as_object_mut().unwrap().shift_remove("$schema");
    assert_eq!(problem(&schema), None, "{schema}");
    assert_eq!(violation(&schema, Level::Ultra), None, "{schema}");
}

#[test]
fn reported_schemas_are_brought_into_mfjs_and_stay_there() {
    let corpus: Vec<Value> = serde_json::from_str(REPORTED).unwrap();
    assert!(corpus.len() > 30);
    for entry in corpus {
        let once = normal(&entry["parameters"]);
        keeps_every_rule(&once);
        assert_eq!(normal(&once), once, "{}", entry["issue"]);
    }
}

#[test]
fn server_schemas_are_brought_into_mfjs_without_loss() {
    let corpus: Vec<Value> = serde_json::from_str(SERVERS).unwrap();
    assert!(corpus.len() >= 200);
    for entry in corpus {
        let normalized = normalize(&entry["parameters"].to_string());
        let once: Value = serde_json::from_str(normalized.parameters.get()).unwrap();
        assert_eq!(normalized.loss, None, "{} {}", entry["style"], entry["tool"]);
        keeps_every_rule(&once);
        assert_eq!(normal(&once), once, "{} {}", entry["style"], entry["tool"]);
    }
}

#[test]
fn schema_within_mfjs_keeps_its_bytes() {
    let text = r#"{"required":["b"],"properties":{"b":{"description":"x","type":"string","minLength":1},"a":{"anyOf":[{"type":"string"},{"type":"null"}]}},"type":"object"}"#;
    let normalized = normalize(text);
    assert_eq!(normalized.parameters.get(), text);
    assert_eq!((normalized.hint.as_str(), &normalized.loss), ("", &None));
}

#[test]
fn missing_types_are_inferred() {
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
fn keywords_without_an_equivalent_move_into_the_description() {
    let email = property(json!({ "type": "string", "format": "email", "title": "Mail of the author" }));
    assert_eq!(email, json!({ "type": "string", "description": "Mail of the author Format: email." }));
    let bounded = property(json!({ "type": "number", "description": "d.", "exclusiveMinimum": 0 }));
    assert_eq!(bounded["description"], "d. Also applies: {\"exclusiveMinimum\":0}");
}

#[test]
fn boolean_schemas_allow_any_value_and_none() {
    let schema = normal(&json!({ "type": "object", "properties": { "a": true, "b": false }, "required": ["a", "b"] }));
    assert!(schema["properties"]["a"]["type"].as_array().unwrap().contains(&json!("object")));
    assert_eq!(schema["required"], json!(["a"]));
}

#[test]
fn choice_at_the_root_becomes_one_object() {
    let schema = normal(&json!({ "oneOf": [
        { "type": "object", "properties": { "kind": { "const": "a" } }, "required": ["kind"] },
        { "type": "object", "properties": { "kind": { "const": "b" }, "to": { "type": "string" } }, "required": ["kind", "to"] },
    ] }));
    assert_eq!(schema["properties"]["kind"], json!({ "type": "string", "enum": ["a", "b"] }));
    assert_eq!(schema["required"], json!(["kind"]));
    assert_eq!(schema["description"], "One of these is needed: (kind=\"a\") or (kind=\"b\", to).");
}

#[test]
fn long_schema_is_shortened_by_sharing_before_descriptions_move() {
    let corpus: Vec<Value> = serde_json::from_str(REPORTED).unwrap();
    let long = corpus.iter().find(|entry| entry["issue"] == "pi-subagents#241").unwrap();
    let text = long["parameters"].to_string();
    let normalized = normalize(&text);
    assert!(text.len() > MAX_BYTES && normalized.parameters.get().len() <= MAX_BYTES);
    assert_eq!((normalized.hint.as_str(), &normalized.loss), ("", &None));
    let wordy = corpus.iter().find(|entry| entry["issue"] == "UP#21").unwrap();
    let normalized = normalize(&wordy["parameters"].to_string());
    assert!(normalized.hint.contains("- option_17: Option number 17."));
    assert_eq!(normalized.loss, None);
}

#[test]
fn schema_that_cannot_be_expressed_is_left_open_with_a_note() {
    for (schema, word) in [
        ("\"just text\"".to_owned(), "not a JSON Schema"),
        ("[1]".to_owned(), "not a JSON Schema"),
        (format!("{}1{}", r#"{"type":"object","properties":{"a":"#.repeat(200), "}}".repeat(200)), "recursion"),
        (json!({ "type": "object", "properties": (0..60_000).map(|n| (format!("p{n}"), json!({ "type": "string", "title": "T" }))).collect::<serde_json::Map<_, _>>() }).to_string(), "longer than"),
        (json!({ "type": "array", "items": { "type": "string" } }).to_string(), "not described as an object"),
    ] {
        let normalized = normalize(&schema);
        let parameters: Value = serde_json::from_str(normalized.parameters.get()).unwrap();
        assert_eq!(problem(&parameters), None);
        assert!(normalized.loss.as_ref().unwrap().contains(word), "{:?}", normalized.loss);
    }
}

#[test]
fn parts_nested_too_deep_are_left_open() {
    let mut schema = json!({ "type": "string" });
    for _ in 0..30 {
        schema = json!({ "type": "object", "properties": { "deeper": schema } });
    }
    let normalized = normalize(&schema.to_string());
    assert!(normalized.loss.unwrap().contains("deeper than 10 levels"));
    assert_eq!(problem(&serde_json::from_str(normalized.parameters.get()).unwrap()), None);
}

const ANY: [&str; 6] = ["string", "number", "boolean", "object", "array", "null"];

/// Returns the normalized property and the note for the user.
fn noted(schema: Value) -> (Value, Option<String>) {
    let normalized = normalize(&json!({ "type": "object", "properties": { "p": schema } }).to_string());
    let schema: Value = serde_json::from_str(normalized.parameters.get()).unwrap();
    keeps_every_rule(&schema);
    (schema["properties"]["p"].clone(), normalized.loss)
}

#[test]
fn schemas_without_a_type_allow_every_type() {
    for any in
        [json!({}), json!(true), json!({ "title": "P" }), json!({ "nullable": true }), json!({ "$comment": "x" })]
    {
        assert_eq!(noted(any.clone()), (json!({ "type": ANY }), None), "{any}");
        let items = property(json!({ "type": "array", "items": any }));
        assert_eq!(items["items"], json!({ "type": ANY }));
    }
    assert_eq!(property(json!({ "description": "d" })), json!({ "type": ANY, "description": "d" }));
    for lost in [json!({ "$ref": "#/$defs/Gone" }), json!({ "$ref": "https://example.com/x.json" }), json!(5)] {
        let (schema, loss) = noted(lost);
        assert_eq!(schema, json!({ "type": ANY }));
        assert!(loss.is_some());
    }
}

#[test]
fn types_beside_other_keywords_become_branches_with_their_own_keywords() {
    for (schema, expected) in [
        (
            json!({ "type": ["integer", "null"], "format": "uint32", "minimum": 0, "description": "How many" }),
            json!({ "anyOf": [{ "type": "integer", "minimum": 0, "description": "Format: uint32." }, { "type": "null" }],
                    "description": "How many" }),
        ),
        (
            json!({ "type": ["string", "array"], "minLength": 1, "maxItems": 3, "items": { "type": "string" }, "minimum": 4 }),
            json!({ "anyOf": [{ "type": "string", "minLength": 1 },
                              { "type": "array", "items": { "type": "string" }, "maxItems": 3 }] }),
        ),
        (
            json!({ "type": "string", "nullable": true, "maxLength": 5 }),
            json!({ "anyOf": [{ "type": "string", "maxLength": 5 }, { "type": "null" }] }),
        ),
        (
            json!({ "type": ["string", "null"], "default": null, "description": "Where." }),
            json!({ "type": ["string", "null"], "description": "Where. Default: null." }),
        ),
        (
            json!({ "type": ["string", "null"], "enum": ["a", null] }),
            json!({ "type": ["string", "null"], "enum": ["a", null] }),
        ),
        (
            json!({ "type": ["integer", "null"], "enum": [1, null] }),
            json!({ "anyOf": [{ "type": "integer", "enum": [1] }, { "type": "null" }] }),
        ),
        (
            json!({ "type": "string", "nullable": true, "enum": ["a"] }),
            json!({ "type": ["string", "null"], "enum": ["a", null] }),
        ),
        (
            json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }], "nullable": true, "default": 4 }),
            json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }, { "type": "null" }], "description": "Default: 4." }),
        ),
    ] {
        assert_eq!(noted(schema.clone()), (expected, None), "{schema}");
    }
}

#[test]
fn reserved_property_names_are_mapped_with_their_requirement() {
    let schema = json!({ "type": "object", "required": ["required", "id"], "properties": {
        "id": { "type": "string" }, "required": { "type": "boolean" }, "required_": { "type": "string" },
        "list": { "type": "array", "items": { "properties": { "$ref": { "$ref": "#/$defs/R" } } } },
        "{id}": { "enum": ["a"] } }, "$defs": { "R": { "type": "string" } } });
    let normalized = normalize(&schema.to_string());
    let sent: Value = serde_json::from_str(normalized.parameters.get()).unwrap();
    keeps_every_rule(&sent);
    assert_eq!(sent["required"], json!(["required__", "id"]));
    let names: Vec<&String> = sent["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["id", "required__", "required_", "list", "_id__"]);
    let item = &sent["properties"]["list"]["items"]["properties"]["ref_"];
    assert_eq!(*item, json!({ "anyOf": [{ "$ref": "#/$defs/R" }], "description": "(The tool's own name: \"$ref\".)" }));
    let own = r#"{"required":true,"required_":"x","list":[{"$ref":"y"}],"{id}":"a"}"#;
    let wire = r#"{"required__":true,"required_":"x","list":[{"ref_":"y"}],"_id__":"a"}"#;
    let names = normalized.names.unwrap();
    assert_eq!(names.rewrite(own, Direction::ToWire), wire);
    assert_eq!(names.rewrite(wire, Direction::FromWire), own);
    assert_eq!(normalized.loss, None);
}

#[test]
fn definitions_with_slashes_are_inlined_and_recursive_ones_renamed() {
    let part = json!({ "type": "object", "properties": { "a/b": { "type": "string" } } });
    let schema = json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/P" }, "y": { "$ref": "#/$defs/P" } },
                         "$defs": { "P": part } });
    let inlined = normal(&schema);
    keeps_every_rule(&inlined);
    assert_eq!(inlined, json!({ "type": "object", "properties": { "x": part, "y": part } }));
    let schema = json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/P" } }, "$defs": { "P": {
        "type": "object", "required": ["a/b"],
        "properties": { "a/b": { "type": "string" }, "next": { "$ref": "#/$defs/P" } } } } });
    let normalized = normalize(&schema.to_string());
    let sent: Value = serde_json::from_str(normalized.parameters.get()).unwrap();
    keeps_every_rule(&sent);
    assert_eq!(sent["$defs"]["P"]["required"], json!(["a_b_"]));
    let names = normalized.names.unwrap();
    assert_eq!(
        names.rewrite(r#"{"x":{"next":{"a_b_":1}},"a_b_":2}"#, Direction::FromWire),
        r#"{"x":{"next":{"a/b":1}},"a_b_":2}"#
    );
    let default = property(json!({ "type": "object", "default": { "a/b": 1 }, "nullable": false }));
    assert_eq!(default, json!({ "type": "object", "description": "Default: {\"a/b\":1}." }));
}

#[test]
fn bounds_are_rounded_to_the_same_meaning_or_quoted() {
    for (schema, expected) in [
        (json!({ "type": "string", "minLength": -1, "maxLength": 2.5 }), json!({ "type": "string", "maxLength": 2 })),
        (
            json!({ "type": "integer", "minimum": 0.5, "maximum": 9.5 }),
            json!({ "type": "integer", "minimum": 1, "maximum": 9 }),
        ),
        (
            json!({ "type": "array", "items": { "type": "null" }, "minItems": "1" }),
            json!({ "type": "array", "items": { "type": "null" }, "description": "Also applies: {\"minItems\":\"1\"}" }),
        ),
        (
            json!({ "type": "number", "minimum": 5, "maximum": 1 }),
            json!({ "type": "number", "description": "Also applies: {\"minimum\":5,\"maximum\":1}" }),
        ),
    ] {
        assert_eq!(noted(schema.clone()), (expected, None), "{schema}");
    }
}

#[test]
fn references_that_never_end_for_the_validator_are_required_in_words() {
    let tree = json!({ "type": "object", "properties": { "children": { "type": "array", "items": { "$ref": "#" } } },
                       "required": ["children"] });
    let normalized = normalize(&tree.to_string());
    let sent: Value = serde_json::from_str(normalized.parameters.get()).unwrap();
    keeps_every_rule(&sent);
    assert_eq!((&sent["$defs"]["root"]["description"], normalized.loss), (&json!("Also required: children."), None));
}

#[test]
fn references_that_lead_too_deep_are_cut_with_a_note() {
    let definitions: serde_json::Map<String, Value> = (0..15)
        .map(|at| {
            let next = json!({ "$ref": format!("#/$defs/L{}", at + 1) });
            (format!("L{at}"), json!({ "type": "object", "properties": { "next": next, "end": { "type": "string" } } }))
        })
        .chain([("L15".to_owned(), json!({ "type": "string" }))])
        .collect();
    let normalized = normalize(
        &json!({ "type": "object", "properties": { "p": { "$ref": "#/$defs/L0" } }, "$defs": definitions }).to_string(),
    );
    keeps_every_rule(&serde_json::from_str(normalized.parameters.get()).unwrap());
    assert!(normalized.loss.unwrap().contains("deeper than 10 levels"));
    assert_eq!(normalized.hint, "", "the rest keeps its structure");
}

#[test]
fn long_enumerations_are_split_or_left_open_with_a_note() {
    let values: Vec<String> = (0..450).map(|number| format!("a value of some length {number}")).collect();
    let (split, loss) = noted(json!({ "enum": values[..350] }));
    assert_eq!((split["anyOf"].as_array().unwrap().len(), loss), (2, None));
    let (open, loss) = noted(json!({ "enum": values }));
    assert_eq!((&open["type"], loss.is_some()), (&json!("string"), true));
}

/// Each case breaks one rule of the published validator; a schema that keeps all is beside it.
#[test]
fn validator_knows_the_published_rules() {
    let deep = |levels: usize| {
        (0..levels)
            .fold(json!({ "type": "string" }), |inner, _| json!({ "type": "object", "properties": { "a": inner } }))
    };
    let of = |property: Value| json!({ "type": "object", "properties": { "p": property } });
    let defined = |property: Value, definition: Value| json!({ "type": "object", "properties": { "p": property }, "$defs": { "D": definition } });
    let reference = || json!({ "$ref": "#/$defs/D" });
    for valid in [
        json!({}),
        json!({ "$id": "x", "type": "object", "default": {}, "additionalProperties": {} }),
        of(json!({ "type": ["string", "null", "array"], "title": "t", "description": "d" })),
        of(json!({ "type": ["null", "integer"], "enum": [null, 1] })),
        of(json!({ "type": "object", "properties": { "a/b": { "type": "string" }, "type": { "type": "null" } } })),
        of(json!({ "anyOf": [{ "type": "string" }, { "$ref": "#" }], "description": "d" })),
        defined(reference(), json!({ "type": "object", "properties": { "p": reference() } })),
        defined(json!({ "$ref": "#/$defs/D/items" }), json!({ "type": "array", "items": { "type": "null" } })),
        deep(10),
    ] {
        assert_eq!(violation(&valid, Level::Ultra), None, "{valid}");
    }
    let strict = [
        json!([]),
        of(json!({ "type": [] })),
        of(json!({ "type": "text" })),
        of(json!({ "type": ["string", 1] })),
        of(json!({ "type": "string", "anyOf": [{ "minLength": 1 }] })),
        of(json!({ "type": ["string", "integer"], "minimum": 1 })),
        of(json!({ "type": ["string", "null"], "default": "x" })),
        of(json!({ "type": ["string", "object"], "enum": ["x"] })),
        of(json!({ "type": ["integer", "null"], "enum": [1, null] })),
        of(json!({ "enum": ["a"] })),
        of(json!({ "type": "string", "enum": [] })),
        of(json!({ "type": "string", "enum": ["a", 1] })),
        of(json!({ "type": ["string", "integer"], "enum": ["a"] })),
        of(json!({ "type": "string", "enum": (0..501).map(|n| n.to_string()).collect::<Vec<_>>() })),
        of(json!({ "type": "string", "enum": (0..300).map(|n| format!("{n:030}")).collect::<Vec<_>>() })),
        of(json!({ "anyOf": [] })),
        of(json!({ "anyOf": ["x"] })),
        of(json!({ "anyOf": vec![json!({ "type": "null" }); 101] })),
        of(json!({ "anyOf": [{ "type": "string", "default": "a" }], "default": "b" })),
        of(json!({ "type": "array", "items": [] })),
        of(json!({ "type": "string", "description": 1 })),
        of(json!({ "type": "string", "pattern": 1 })),
        of(json!({ "type": "object", "additionalProperties": "no" })),
        of(json!({ "type": "object", "required": "a" })),
        of(json!({ "type": "object", "properties": { "a": { "type": "null" } }, "required": [1] })),
        of(json!({ "type": "object", "properties": {}, "required": ["a"] })),
        of(json!({ "type": "object", "properties": { "a": true } })),
        of(json!({ "type": "object", "properties": { "{a}": { "type": "string", "enum": ["x"] } } })),
        of(json!({ "type": "string", "minLength": -1 })),
        of(json!({ "type": "string", "minLength": 3, "maxLength": 1 })),
        of(json!({ "type": "integer", "minimum": 0.5 })),
        of(json!({ "type": "number", "maximum": "1" })),
        of(json!({ "$ref": 1 })),
        of(json!({ "$ref": "#/properties/p" })),
        of(json!({ "$ref": "#/$defs/D" })),
        of(json!({ "type": "object", "default": { "$ref": "x" } })),
        defined(json!({ "$ref": "#/$defs/E" }), json!({ "type": "string" })),
        defined(json!({ "$ref": "#/$defs/D", "description": "x" }), json!({ "type": "string", "description": "y" })),
        defined(reference(), json!({ "type": "object", "properties": { "a/b": { "type": "null" } } })),
        defined(reference(), json!("x")),
        json!({ "type": "object", "$defs": { "a/b": { "type": "null" } } }),
        json!({ "type": "object", "$defs": [] }),
        json!({ "type": "object", "properties": { "p": { "$ref": "#" } }, "required": ["p"] }),
        json!({ "type": "object", "properties": (0..1001).map(|n| (n.to_string(), json!({ "type": "null" }))).collect::<serde_json::Map<_, _>>() }),
        deep(11),
        defined(json!({ "type": "object", "properties": { "q": reference() } }), deep(9)),
    ];
    let names = ["$defs", "$ref", "anyOf", "required", "additionalProperties"]
        .map(|name| of(json!({ "type": "object", "properties": { name: { "type": "null" } } })));
    for invalid in strict.iter().chain(&names) {
        assert!(violation(invalid, Level::Strict).is_some(), "{invalid}");
        assert!(violation(invalid, Level::Ultra).is_some(), "{invalid}");
    }
    for matter_of_style in [
        of(json!({ "type": "string", "format": "uri" })),
        of(json!({ "type": "object", "minLength": 1 })),
        of(json!({ "type": ["string", "string"] })),
        of(json!({ "type": "object", "properties": { "": { "type": "null" } } })),
        of(json!({ "type": "object", "properties": { "a": { "type": "null" } }, "required": ["a", "a"] })),
        of(json!({ "anyOf": [{ "type": "string" }], "default": "b" })),
        of(json!({ "type": "object", "$id": "x" })),
        defined(json!({ "$ref": "#/$defs/D", "minLength": 1 }), json!({ "type": "string" })),
    ] {
        assert_eq!(violation(&matter_of_style, Level::Strict), None, "{matter_of_style}");
        assert!(violation(&matter_of_style, Level::Ultra).is_some(), "{matter_of_style}");
    }
}

#[test]
fn same_schema_gives_the_same_bytes() {
    let corpus: Vec<Value> = serde_json::from_str(SERVERS).unwrap();
    for entry in corpus {
        let text = entry["parameters"].to_string();
        assert_eq!(normalize(&text).parameters.get(), normalize(&text).parameters.get());
    }
}

/// Schemas of any shape: known and unknown words with values that may or may not belong there.
fn any_schema() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec!["a", "b", "path", "title", "required", "$ref", "x/y", "{z}"]);
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
            "#/definitions/B",
            "required",
            "a/b",
            "{x}"
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
    fn any_schema_is_brought_into_mfjs_and_stays_there(schema in any_schema()) {
        let once = normal(&schema);
        prop_assert_eq!(problem(&once), None, "{}", once);
        if once != schema {
            let broken = violation(&once, Level::Ultra).filter(|problem| !problem.message.contains("empty name"));
            prop_assert_eq!(broken, None, "{}", once);
        }
        prop_assert_eq!(normal(&once), once);
    }
}

/// A tool server may send anything. The cost must not depend on how often a part is named.
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

/// Deep nesting uses up the stack, which would end the process.
#[test]
fn thousands_of_conditions_on_one_member_do_not_nest() {
    let parts = |demand: &dyn Fn(usize) -> Value| json!({ "allOf": (0..5000).map(demand).collect::<Vec<_>>() });
    for schema in [
        parts(&|least| json!({ "properties": { "p": { "type": "string", "minLength": least } } })),
        parts(&|least| json!({ "properties": { "p": { "items": { "minimum": least } } } })),
    ] {
        assert_eq!(problem(&normal(&schema)), None);
    }
}

#[test]
fn long_lists_take_time_in_proportion_to_their_length() {
    let values: Vec<String> = (0..50_000).map(|number| format!("value {number}")).collect();
    assert_eq!(problem(&normal(&json!({ "properties": { "p": { "enum": values } } }))), None);
    let branches: Vec<Value> = (0..5000).map(|number| json!({ "type": "object", "minProperties": number })).collect();
    assert_eq!(problem(&normal(&json!({ "properties": { "p": { "anyOf": branches } } }))), None);
}

/// The threads of the runtime have two megabytes of stack.
#[test]
fn long_chain_of_references_does_not_exhaust_the_stack() {
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

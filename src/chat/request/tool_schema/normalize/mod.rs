//! Rewrites any JSON Schema into MFJS.
//!
//! One walk over the schema. A keyword that has an equivalent is replaced by it. A keyword that only narrows what is valid moves into
//! the description, where the model reads it. A part that cannot be expressed becomes an open object, and the user is told.
//! References stay references, gathered in `$defs` of the root, because expanding them multiplies a schema.

mod alternatives;
mod by_type;
mod convert;
mod definitions;
mod enumeration;
mod hints;
mod merge;
mod normalizer;
mod property_names;
mod reference;

use std::sync::Arc;

use serde_json::Value;

use self::normalizer::SchemaNormalizer;
use super::argument_names::ArgumentNames;
use super::normalized::NormalizedSchema;
use super::shrink::shrink;
use super::validate::problem;
use crate::error::clip;

/// Brings a schema, given as JSON text, into MFJS.
pub fn normalize(text: &str) -> NormalizedSchema {
    if text.is_empty() || text == "null" {
        return NormalizedSchema::plain(r#"{"type":"object","properties":{}}"#);
    }
    let schema: Value = match serde_json::from_str(text) {
        Ok(schema) => schema,
        Err(error) => return NormalizedSchema::open(text, &error.to_string()),
    };
    if !schema.is_object() {
        let loss = (schema != Value::Bool(true)).then(|| {
            format!("its parameters are not a JSON Schema but {}; any arguments count as valid.", clip(text, 60))
        });
        return NormalizedSchema { loss, ..NormalizedSchema::plain(r#"{"type":"object"}"#) };
    }
    if problem(&schema).is_none() {
        return NormalizedSchema::plain(text);
    }
    let mut normalizer = SchemaNormalizer::new(&schema);
    let root = normalizer.root();
    let (schema, hint) = shrink(Value::Object(root));
    if let Some(problem) = problem(&schema) {
        return NormalizedSchema::open(text, &problem.to_string());
    }
    let loss = (!normalizer.losses.is_empty()).then(|| format!("{}.", normalizer.losses.join("; ")));
    let renamed = normalizer.names.renamed();
    let names = (!renamed.is_empty()).then(|| Arc::new(ArgumentNames::new(&schema, &renamed)));
    NormalizedSchema { hint, loss, names, ..NormalizedSchema::plain(&schema.to_string()) }
}

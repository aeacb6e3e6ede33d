//! The published rules about values: enumerations and bounds.

use serde_json::{Map, Value};

use crate::chat::request::tool_schema::limits::{MAX_UNMEASURED_VALUES, MAX_VALUES, MAX_VALUES_BYTES};

/// Checks `enum`: a type, 1 to [`MAX_VALUES`] values that fit it, and at most one primitive type besides null.
pub fn check_enum(node: &Map<String, Value>, value: &Value) -> Result<(), String> {
    let Some(values) = value.as_array().filter(|values| (1..=MAX_VALUES).contains(&values.len())) else {
        return Err(format!("enum must be a list of 1 to {MAX_VALUES} values"));
    };
    let types: Vec<&str> = match node.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => return Err("type is not defined".to_owned()),
    };
    let primitive = |kind: &str| matches!(kind, "string" | "integer" | "number" | "boolean");
    if types.len() > 2 || (types.len() == 2 && !(types.contains(&"null") && types.iter().any(|kind| primitive(kind)))) {
        return Err("the values of an enum must be of one primitive type, or null".to_owned());
    }
    if !values.iter().all(|value| is_listed(value, &types)) {
        return Err("a value of enum does not match its type".to_owned());
    }
    let measured = types.iter().any(|kind| matches!(*kind, "string" | "number" | "integer"));
    if measured && values.len() > MAX_UNMEASURED_VALUES && length(values) > MAX_VALUES_BYTES {
        return Err(format!(
            "the values of an enum with more than {MAX_UNMEASURED_VALUES} values are longer than {MAX_VALUES_BYTES} bytes"
        ));
    }
    Ok(())
}

/// Returns the bytes of all values together.
pub fn length(values: &[Value]) -> usize {
    let length = |value: &Value| match value {
        Value::String(text) => text.len(),
        Value::Number(number) => number.to_string().len(),
        _ => 0,
    };
    values.iter().map(length).sum()
}

/// Returns whether a value fits one of the types, tried in their order: a number type refuses anything but numbers at once, also
/// the null of a type that comes after it.
fn is_listed(value: &Value, types: &[&str]) -> bool {
    for kind in types {
        let fits = match *kind {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ if !value.is_number() => return false,
            "integer" if value.as_f64().is_some_and(|number| number.fract() != 0.0) => return false,
            _ => true,
        };
        if fits {
            return true;
        }
    }
    false
}

/// Checks the bounds of the first type: numbers, whole and not negative where they count something, minimum before maximum.
pub fn check_bounds(node: &Map<String, Value>, types: &[&str]) -> Result<(), String> {
    let (least, most, counts) = match types.first() {
        Some(&"string") => ("minLength", "maxLength", true),
        Some(&"array") => ("minItems", "maxItems", true),
        Some(&"number" | &"integer") => ("minimum", "maximum", false),
        _ => return Ok(()),
    };
    let whole = counts || types.contains(&"integer");
    let bound = |word: &str| -> Result<Option<f64>, String> {
        let Some(value) = node.get(word).filter(|value| !value.is_null()) else { return Ok(None) };
        match value.as_f64() {
            None => Err(format!("{word} must be a number")),
            Some(number) if whole && number.fract() != 0.0 => Err(format!("{word} must be a whole number")),
            Some(number) if counts && number < 0.0 => Err(format!("{word} must not be negative")),
            number => Ok(number),
        }
    };
    match (bound(least)?, bound(most)?) {
        (Some(low), Some(high)) if low > high => Err(format!("{least} is greater than {most}")),
        _ => Ok(()),
    }
}

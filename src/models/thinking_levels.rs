//! Which thinking levels Pi offers for a model.

use serde_json::{Map, Value};

/// The wire value in a level map that means "on, but this model has no efforts".
pub const ON: &str = "on";

/// Efforts that are levels of Pi. Others cannot be selected there.
pub const LEVELS: [&str; 6] = ["minimal", "low", "medium", "high", "xhigh", "max"];

/// Builds Pi's level map, which offers only levels that make a difference.
pub fn level_map(efforts: &[&str], can_be_off: bool) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("off".to_owned(), if can_be_off { "off".into() } else { Value::Null });
    for level in LEVELS {
        let wire = match efforts {
            [] if level == "high" => Value::from(ON),
            _ if efforts.contains(&level) => Value::from(level),
            _ => Value::Null,
        };
        map.insert(level.to_owned(), wire);
    }
    map
}

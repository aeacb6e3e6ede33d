//! Applies the changes of argument text like JavaScript does (extension/turn/tool-arguments.ts), on a serde_json value.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The live `arguments` object of one call.
#[derive(Default)]
pub struct Mirror {
    root: Map<String, Value>,
    path: Vec<String>,
    last: String,
}

impl Mirror {
    /// Applies the changes of one chunk.
    pub fn apply(&mut self, changes: &str) {
        let list = format!("[{changes}]");
        let list: Vec<Vec<&RawValue>> = serde_json::from_str(&list).expect("changes are JSON");
        for change in list {
            let key = change.get(1).map(|key| value(key));
            match (change[0].get(), key) {
                (code @ ("0" | "1"), Some(key)) => {
                    self.set(&key, if code == "0" { json!({}) } else { json!([]) });
                    self.path.push(self.last.clone());
                }
                ("2", None) => {
                    self.path.pop();
                }
                ("3" | "4", Some(key)) => self.set(&key, value(change[2])),
                ("5", Some(more)) => self.extend(&more),
                _ => panic!("no such change"),
            }
        }
    }

    /// The current object.
    pub fn value(&self) -> Value {
        self.root.get("root").cloned().unwrap_or_else(|| json!({}))
    }

    fn container(&mut self) -> &mut Value {
        // The root is wrapped so that every step is the same.
        let mut value = self.root.entry("root").or_insert_with(|| json!({}));
        for key in &self.path {
            value = match value {
                Value::Array(items) => items.last_mut().expect("an item was pushed"),
                value => value.get_mut(key).expect("the member was set"),
            };
        }
        value
    }

    fn set(&mut self, key: &Value, value: Value) {
        self.last = key.as_str().unwrap_or_default().to_owned();
        match (self.container(), key) {
            (Value::Array(items), Value::Null) => items.push(value),
            (Value::Object(map), Value::String(key)) => {
                map.insert(key.clone(), value);
            }
            (place, key) => panic!("{key} does not fit {place}"),
        }
    }

    fn extend(&mut self, more: &Value) {
        let last = self.last.clone();
        let place = match self.container() {
            Value::Array(items) => items.last_mut().expect("an item was pushed"),
            value => value.get_mut(&last).expect("the member was set"),
        };
        let text = place.as_str().expect("a string grows").to_owned();
        *place = Value::from(text + more.as_str().expect("by a string"));
    }
}

/// JavaScript reads numbers of any size; serde_json rejects those that do not fit a double.
fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or(Value::Null)
}

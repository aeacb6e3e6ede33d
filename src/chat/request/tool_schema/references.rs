//! Resolves `$ref` and finds out whether following it ends.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Returns the definition at the root that a reference names.
pub fn definition<'s>(root: &'s Map<String, Value>, reference: &str) -> Option<&'s Value> {
    root.get("$defs")?.get(reference.strip_prefix("#/$defs/")?)
}

/// Returns the target of a local reference: `#`, a JSON pointer, or an anchor.
pub fn target<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let fragment = reference.strip_prefix('#').or_else(|| {
        // `https://…/this-schema#/$defs/x` refers to this document as well.
        let id = root.get("$id").or_else(|| root.get("id"))?.as_str()?;
        let rest = reference.strip_prefix(id.trim_end_matches('#')).filter(|_| !id.is_empty())?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix('#') }
    })?;
    if fragment.is_empty() {
        return Some(root);
    }
    if fragment.starts_with('/') {
        return root.pointer(fragment).or_else(|| root.pointer(&decoded(fragment)));
    }
    anchored(root, fragment)
}

/// Decodes percent escapes, which generators use for names like `Foo<Bar>`.
fn decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn anchored<'s>(node: &'s Value, name: &str) -> Option<&'s Value> {
    match node {
        Value::Object(members) => {
            let own =
                ["$anchor", "$dynamicAnchor"].iter().any(|word| members.get(*word).is_some_and(|own| own == name));
            if own { Some(node) } else { members.values().find_map(|member| anchored(member, name)) }
        }
        Value::Array(items) => items.iter().find_map(|item| anchored(item, name)),
        _ => None,
    }
}

/// Returns whether some finite value satisfies a schema of MFJS. Only what is required can make it endless.
pub fn terminates(root: &Map<String, Value>) -> bool {
    let mut endings = Endings { root, proven: HashSet::new(), visited: HashSet::new(), depth: 0 };
    loop {
        let known = endings.proven.len();
        endings.visited.clear();
        if endings.members(root) {
            return true;
        }
        // What was proven in this round may prove more in the next one.
        if endings.proven.len() == known {
            return false;
        }
    }
}

/// Looks at each part once per round, because definitions that name each other twice have too many ways through them.
struct Endings<'s> {
    root: &'s Map<String, Value>,
    proven: HashSet<*const Value>,
    visited: HashSet<*const Value>,
    depth: usize,
}

/// Most parts within parts that are followed; running out of stack would end the process.
const MAX_CHAIN: usize = 500;

impl Endings<'_> {
    fn part(&mut self, schema: Option<&Value>) -> bool {
        let Some(schema) = schema else { return true };
        let Some(members) = schema.as_object() else { return true };
        let key = std::ptr::from_ref(schema);
        if self.proven.contains(&key) {
            return true;
        }
        if !self.visited.insert(key) {
            return false;
        }
        self.depth += 1;
        let ends = self.depth <= MAX_CHAIN && self.members(members);
        self.depth -= 1;
        if ends {
            self.proven.insert(key);
        }
        ends
    }

    fn members(&mut self, members: &Map<String, Value>) -> bool {
        if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
            return self.part(definition(self.root, reference));
        }
        if let Some(branches) = members.get("anyOf").and_then(Value::as_array) {
            return branches.iter().any(|branch| self.part(Some(branch)));
        }
        let is = |name: &str| match members.get("type") {
            Some(Value::Array(types)) => types.iter().any(|one| one == name),
            Some(one) => one == name,
            None => false,
        };
        if ["string", "number", "integer", "boolean", "null"].into_iter().any(is) {
            return true;
        }
        if is("array") {
            let needed = members.get("minItems").and_then(Value::as_f64).unwrap_or(0.0);
            return needed < 1.0 || self.part(members.get("items"));
        }
        let required = members.get("required").and_then(Value::as_array);
        required
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .all(|name| self.part(members.get("properties").and_then(|properties| properties.get(name))))
    }
}

//! Prices of models that the fallback table does not have, by family.

use super::fallback::table;
use super::model::{Prices, is_fast};

/// What a model's price depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Family {
    /// `2.7`, `3`, `3.1`.
    generation: String,
    fast: bool,
}

impl Family {
    /// Reads the family from an id or a display name; `None` if it names no generation.
    fn of(text: &str) -> Option<Self> {
        let text: String = text.to_ascii_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
        let starts = |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let generation = text.match_indices('k').filter(|(at, _)| starts(*at)).find_map(|(at, _)| {
            let rest = &text[at + 1..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let number = rest[..end].trim_end_matches('.');
            (!number.is_empty() && number.parse::<f64>().is_ok()).then(|| number.trim_end_matches(".0").to_owned())
        })?;
        Some(Self { generation, fast: is_fast(&text) })
    }
}

/// The generation behind the ids that name none (docs/protocol.md#known-models).
const UNNUMBERED: &str = "2.7";

/// Returns the prices of an unknown model: those of a known one of the same generation and speed, else none.
pub fn prices_of_family(id: &str, name: &str) -> Prices {
    // An id that names no generation is an alias, and its display name tells what runs behind it.
    let Some(mut family) = Family::of(id).or_else(|| Family::of(name)) else { return Prices::default() };
    family.fast |= is_fast(id) || is_fast(name);
    let known = table().into_iter().find(|model| {
        let own = Family::of(&model.id)
            .unwrap_or_else(|| Family { generation: UNNUMBERED.to_owned(), fast: is_fast(&model.id) });
        own == family
    });
    known.map(|model| model.cost).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_follow_generation_and_speed_and_never_another_generation() {
        let input = |id: &str, name: &str| prices_of_family(id, name).input;
        for (id, name, price) in [
            ("k3-512k", "K3 512K", 3.0),
            ("kimi-k3.1-pro-preview", "Preview", 2.0),
            ("k3.1-highspeed", "", 4.0),
            ("k3.1", "K3.1 High Speed", 4.0),
            ("kimi-next", "K2.7 Code", 0.95),
            ("kimi-next-highspeed", "K2.7 Code High Speed", 1.9),
            ("k3-highspeed", "K3 High Speed", 0.0),
            ("k3.2-pro", "K3.2", 0.0),
            ("k4", "Kimi K4", 0.0),
            ("kimi-next", "Something", 0.0),
            ("kimi-for-testing", "Fast k", 0.0),
        ] {
            assert_eq!(input(id, name), price, "{id} {name}");
        }
    }
}

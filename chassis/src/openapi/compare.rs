//! What differs between two documents, for people: a line for each place, by JSON pointer.

use serde_json::Value;

/// How much of a value a line shows.
const SHOWN: usize = 80;

pub(super) fn differences(made: &Value, committed: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare(made, committed, "", &mut lines);
    lines
}

fn compare(made: &Value, committed: &Value, pointer: &str, lines: &mut Vec<String>) {
    match (made, committed) {
        (Value::Object(made), Value::Object(committed)) => {
            let step = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            for (key, value) in committed.iter().filter(|(key, _)| !made.contains_key(*key)) {
                lines.push(format!("- {}: {}", step(key), shown(value)));
            }
            for (key, value) in made {
                match committed.get(key) {
                    Some(other) => compare(value, other, &step(key), lines),
                    None => lines.push(format!("+ {}: {}", step(key), shown(value))),
                }
            }
        }
        (Value::Array(made), Value::Array(committed)) if made.len() == committed.len() => {
            for (index, (made, committed)) in made.iter().zip(committed).enumerate() {
                compare(made, committed, &format!("{pointer}/{index}"), lines);
            }
        }
        (made, committed) if made == committed => {}
        (made, committed) => {
            lines.push(format!("- {pointer}: {}", shown(committed)));
            lines.push(format!("+ {pointer}: {}", shown(made)));
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

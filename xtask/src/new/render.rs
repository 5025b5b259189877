//! The smallest part of Liquid that the templates use: `{{name}}`, `{% if name == "text" %}`, `{% else %}`, `{% endif %}`, and the
//! `-` that takes the blanks on its side away. Anything else is refused, so a template cannot use more without notice.

use std::collections::HashMap;

/// What stands for the placeholders.
pub(super) type Values<'a> = HashMap<&'a str, String>;

/// One piece of a template.
enum Piece<'a> {
    Text(&'a str),
    Value(&'a str),
    Tag(&'a str),
}

pub(super) fn render(template: &str, values: &Values<'_>) -> Result<String, String> {
    let mut out = String::new();
    // Whether each open `if` holds, the outermost first.
    let mut open: Vec<bool> = Vec::new();
    for piece in pieces(template)? {
        let shown = open.iter().all(|holds| *holds);
        match piece {
            Piece::Text(text) if shown => out.push_str(text),
            Piece::Value(name) if shown => out.push_str(value(values, name)?),
            Piece::Text(_) | Piece::Value(_) => {}
            Piece::Tag("else") => {
                let holds = open.last_mut().ok_or("found else outside of an if")?;
                *holds = !*holds;
            }
            Piece::Tag("endif") => drop(open.pop().ok_or("found endif outside of an if")?),
            Piece::Tag(tag) => {
                let condition = tag.strip_prefix("if ").and_then(|rest| rest.split_once(" == "));
                let (name, text) = condition.ok_or_else(|| format!("found {tag:?}, expected if NAME == \"TEXT\""))?;
                let text = text.trim().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                let text = text.ok_or_else(|| format!("found {tag:?}, expected a text in quotes"))?;
                open.push(value(values, name.trim())? == text);
            }
        }
    }
    if open.is_empty() { Ok(out) } else { Err("an if has no endif".to_owned()) }
}

fn value<'a>(values: &'a Values<'_>, name: &str) -> Result<&'a str, String> {
    values.get(name).map(String::as_str).ok_or_else(|| format!("found the placeholder {name:?}, which has no value"))
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let close = if rest[start..].starts_with("{{") { "}}" } else { "%}" };
        let end = rest[start..].find(close).ok_or_else(|| format!("a placeholder has no {close}"))? + start;
        let (mut before, mut inner) = (&rest[..start], &rest[start + 2..end]);
        rest = &rest[end + 2..];
        if let Some(trimmed) = inner.strip_prefix('-') {
            (before, inner) = (before.trim_end(), trimmed);
        }
        if let Some(trimmed) = inner.strip_suffix('-') {
            (rest, inner) = (rest.trim_start(), trimmed);
        }
        pieces.push(Piece::Text(before));
        let inner = inner.trim();
        pieces.push(if close == "}}" { Piece::Value(inner) } else { Piece::Tag(inner) });
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        let values = Values::from([("name", "hello".to_owned()), ("discovery", "consul".to_owned())]);
        render(template, &values)
    }

    #[test]
    fn placeholders_and_conditions_are_those_of_liquid() {
        for (template, expected) in [
            ("a {{name}} b {{ name }}", "a hello b hello"),
            ("{% if discovery == \"consul\" %}\nyes\n{% else %}\nno\n{% endif %}\n", "\nyes\n\n"),
            ("{% if discovery == \"none\" -%}\nyes\n{%- else -%}\nno\n{%- endif %}\n", "no\n"),
            ("x\n{% if discovery == \"none\" -%}\nyes\n{% endif -%}\n\ny", "x\ny"),
            ("{% if discovery == \"none\" %}{% if name == \"hello\" %}a{% else %}b{% endif %}{% endif %}c", "c"),
            ("{a} {b", "{a} {b"),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for template in [
            "{{nothing}}",
            "{{name",
            "{% for a in b %}",
            "{% endif %}",
            "{% if name == \"a\" %}",
            "{{ name | upcase }}",
        ] {
            assert!(rendered(template).is_err(), "{template}");
        }
    }
}

//! Path templates: `/orders/{id}`.

use syn::LitStr;

use crate::fallback::Mistakes;

/// The parameters that a path template names.
pub(crate) fn parameters(template: &LitStr, mistakes: &mut Mistakes) -> Vec<String> {
    let path = template.value();
    if !path.starts_with('/') {
        mistakes.on(template, format!("found {path:?}, expected a path that starts with a slash: write \"/{path}\""));
        return Vec::new();
    }
    if let Some(odd) = path.chars().find(|c| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control()) {
        mistakes.on(
            template,
            format!("found {odd:?} in {path:?}, expected a path alone: a query comes from the arguments"),
        );
        return Vec::new();
    }
    if path.contains("//") {
        mistakes.on(template, format!("found two slashes in a row in {path:?}: write {:?}", path.replace("//", "/")));
        return Vec::new();
    }
    let mut names: Vec<String> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match parameter(segment) {
            Ok(None) => {}
            Ok(Some((name, _))) if names.contains(&name) => {
                mistakes.on(template, format!("`{{{name}}}` is twice in {path:?}: give each its own name"));
            }
            Ok(Some((name, rest))) => {
                if rest && segments.peek().is_some() {
                    mistakes
                        .on(template, format!("`{{*{name}}}` takes the rest of the path: it must be the last segment"));
                }
                names.push(name);
            }
            Err(message) => mistakes.on(template, message),
        }
    }
    names
}

/// The parameter that a segment is, and whether it takes the rest of the path.
fn parameter(segment: &str) -> Result<Option<(String, bool)>, String> {
    if let Some(name) = segment.strip_prefix([':', '*']) {
        let rest = if segment.starts_with('*') { "*" } else { "" };
        return Err(format!("found `{segment}`, expected braces around a parameter: write `{{{rest}{name}}}`"));
    }
    if !segment.contains(['{', '}']) {
        return Ok(None);
    }
    let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) else {
        let (open, close) = (segment.matches('{').count(), segment.matches('}').count());
        return Err(if open == close {
            format!("found `{segment}`, expected a parameter that fills its segment: write `{{name}}`")
        } else {
            format!("found `{segment}`, expected a brace at both ends of a parameter: write `{{name}}`")
        });
    };
    let (name, rest) = inner.strip_prefix('*').map_or((inner, false), |name| (name, true));
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_name {
        Ok(Some((name.to_owned(), rest)))
    } else {
        Err(format!("found `{segment}`, expected the name of an argument in the braces: write `{{id}}`"))
    }
}

/// The template with every parameter named alike: two that are equal then are the same path.
pub(crate) fn without_names(template: &str) -> String {
    let segments = template.split('/').map(|segment| match parameter(segment) {
        Ok(Some((_, true))) => "{*}",
        Ok(Some((_, false))) => "{}",
        _ => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

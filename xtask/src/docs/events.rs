//! The second half of the page about log lines: every event that the chassis writes, read from its code.
//!
//! The calls of `tracing`'s macros are found by their tokens, so a comment or a text that looks like one is none. Tests are
//! left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::{Result, shell};

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// One kind of line. In the order of the page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    target: String,
    message: String,
    level: &'static str,
    fields: Vec<String>,
}

/// The table, Markdown.
pub(super) fn reference_markdown() -> Result<String> {
    let root = shell::root().join("chassis/src");
    let mut events = BTreeSet::new();
    for file in files(&root)? {
        let path = file.strip_prefix(&root)?.to_string_lossy().into_owned();
        if is_test(&path) {
            continue;
        }
        let tokens: TokenStream = fs::read_to_string(&file)?.parse().map_err(|error| format!("{path}: {error}"))?;
        let mut found = Vec::new();
        collect(tokens, &mut found);
        let module = module(&path);
        for mut event in found {
            if event.target.is_empty() {
                event.target.clone_from(&module);
            }
            events.insert(event);
        }
    }
    let mut page = String::from(
        "\n## Events of the chassis\n\n\
         What the chassis itself tells, by target. A field is there when the event has a value for it; a message with `{}` differs\n\
         from line to line. Messages and fields are for people and may change with a minor version; what programs act on is in\n\
         the [metrics](metrics.md).\n\n| target | level | message | fields |\n|---|---|---|---|\n",
    );
    for Event { target, message, level, fields } in events {
        let fields: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
        let fields = if fields.is_empty() { "–".to_owned() } else { fields.join(" ") };
        page.push_str(&format!("| `{target}` | {level} | {} | {fields} |\n", message.replace('|', "\\|")));
    }
    Ok(page)
}

fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Tests, and what is compiled for tests only.
fn is_test(path: &str) -> bool {
    path.starts_with("testing/") || path.ends_with("tests.rs") || path.contains("/tests/")
}

/// `chassis::client::observe::line` of `client/observe/line.rs`: what `tracing` takes as the target.
fn module(path: &str) -> String {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    format!("chassis::{}", path.replace('/', "::"))
}

fn collect(tokens: TokenStream, events: &mut Vec<Event>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        // `#[cfg(test)]` and the item behind it: up to its block or its semicolon.
        if is_punct(tokens.get(at), '#') && tokens.get(at + 1).is_some_and(is_cfg_test) {
            at += 2;
            while at < tokens.len() && !is_block(&tokens[at]) && !is_punct(tokens.get(at), ';') {
                at += 1;
            }
        } else if let (Some(level), Some(TokenTree::Group(call))) = (level(&tokens[at]), tokens.get(at + 2))
            && is_punct(tokens.get(at + 1), '!')
        {
            events.extend(event(level, call.stream()));
            at += 2;
        } else if let TokenTree::Group(group) = &tokens[at] {
            collect(group.stream(), events);
        }
        at += 1;
    }
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

fn is_block(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

fn is_cfg_test(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

fn level(token: &TokenTree) -> Option<&'static str> {
    let TokenTree::Ident(name) = token else { return None };
    LEVELS.into_iter().find(|level| name == level)
}

/// What a call of a macro says. Nothing when it is no event: a macro of the same name that is given something else.
fn event(level: &'static str, arguments: TokenStream) -> Option<Event> {
    let mut event = Event { target: String::new(), message: String::new(), level, fields: Vec::new() };
    for argument in split(arguments) {
        let text = |tokens: &[TokenTree]| tokens.iter().cloned().collect::<TokenStream>().to_string();
        match argument.as_slice() {
            [TokenTree::Ident(name), TokenTree::Punct(colon), value @ ..]
                if name == "target" && colon.as_char() == ':' && !is_punct(value.first(), ':') =>
            {
                event.target = literal(value.first()?)?;
            }
            [TokenTree::Group(group)] if group.delimiter() == Delimiter::Brace => {
                event.fields.extend(split(group.stream()).iter().filter_map(|argument| field(argument)));
            }
            // What comes behind the message is put into it.
            [message @ TokenTree::Literal(_)] => {
                event.message = literal(message)?;
                return Some(event);
            }
            argument => match field(argument) {
                Some(name) => event.fields.push(name),
                None => return Some(Event { message: text(argument), ..event }),
            },
        }
    }
    Some(event)
}

/// `name = value`, `%name`, `?name` or `name`, the name with dots.
fn field(argument: &[TokenTree]) -> Option<String> {
    let shown = usize::from(is_punct(argument.first(), '%') || is_punct(argument.first(), '?'));
    let name: Vec<&TokenTree> = argument[shown..].iter().take_while(|token| !is_punct(Some(token), '=')).collect();
    let fits = name.iter().all(|token| matches!(token, TokenTree::Ident(_)) || is_punct(Some(token), '.'));
    let text = name.iter().map(ToString::to_string).collect::<String>();
    // Of `%self.name` and the like the last part would not be the field's name; the code has none.
    (fits && !name.is_empty()).then(|| text.trim_start_matches("r#").to_owned())
}

fn literal(token: &TokenTree) -> Option<String> {
    let text = token.to_string();
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    // A text over several lines is one line.
    Some(inside.split("\\\n").map(str::trim_start).collect::<String>().replace("\\\"", "\""))
}

/// The arguments between the commas.
fn split(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut arguments = vec![Vec::new()];
    for token in tokens {
        if is_punct(Some(&token), ',') {
            arguments.push(Vec::new());
        } else if let Some(last) = arguments.last_mut() {
            last.push(token);
        }
    }
    arguments.retain(|argument| !argument.is_empty());
    arguments
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{collect, module};

    fn found(code: &str) -> Vec<String> {
        let mut events = Vec::new();
        collect(code.parse().unwrap(), &mut events);
        events.iter().map(|e| format!("{} {:?} {:?} {}", e.level, e.target, e.message, e.fields.join(" "))).collect()
    }

    #[test]
    fn events_are_found_with_their_level_message_and_fields() {
        let code = r#"
            fn a() {
                tracing::warn!(%error, limit = ?LIMIT, panic.message = text(x, y), "it \
                    failed");
                if b { info!(target: "chassis::x", { a = 1, b }, "said {}", 3) }
                // warn!("a comment")
                let text = "error!(\"a text\")";
            }
        "#;
        assert_eq!(
            found(code),
            [r#"warn "" "it failed" error limit panic.message"#, r#"info "chassis::x" "said {}" a b"#,]
        );
    }

    #[test]
    fn what_tests_write_is_no_event() {
        let code =
            "#[cfg(test)] mod tests { fn a() { info!(\"x\"); } } #[cfg(test)] use a::b; fn c() { debug!(\"y\"); }";
        assert_eq!(found(code), [r#"debug "" "y" "#]);
    }

    #[test]
    fn a_module_is_the_target() {
        assert_eq!(module("client/observe/line.rs"), "chassis::client::observe::line");
        assert_eq!(module("server/mod.rs"), "chassis::server");
    }
}

//! What the handlers mean, or everything that is wrong with them.

use std::collections::HashMap;

use quote::ToTokens;
use syn::{Attribute, FnArg, GenericParam, Ident, LitStr, Pat, PatType, ReturnType, Type, ext::IdentExt};

use crate::{
    attr::{self, RouteAttr},
    fallback::Mistakes,
    model::Method,
};

/// A handler that is understood.
pub(crate) struct Route {
    pub(crate) attr: RouteAttr,
    pub(crate) handler: Ident,
    /// In the order of the signature.
    pub(crate) arguments: Vec<Argument>,
    /// What the handler returns, for the place of an error; `None` for `()`.
    pub(crate) output: Option<Box<Type>>,
    pub(crate) doc: LitStr,
    /// `#[cfg]`s of the method, which its route shares.
    pub(crate) conditions: Vec<Attribute>,
}

/// One argument of a handler.
pub(crate) struct Argument {
    /// Its name, when it is no pattern.
    pub(crate) name: Option<String>,
    pub(crate) source: Source,
    pub(crate) ty: Type,
}

/// Where an argument comes from.
pub(crate) enum Source {
    /// A parameter of the path, by its name in the template.
    Path(String),
    Query,
    Body,
    /// An axum extractor.
    Extract,
}

/// The routes of the methods that have nothing wrong with them.
pub(crate) fn routes(methods: Vec<Method>, mistakes: &mut Mistakes) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut seen = Seen::default();
    for method in methods {
        let mut own = Mistakes::default();
        seen.check(&method, &mut own);
        let route = route(method, &mut own);
        if own.is_empty() {
            routes.push(route);
        } else {
            mistakes.extend(own);
        }
    }
    routes
}

fn route(method: Method, mistakes: &mut Mistakes) -> Route {
    check_signature(&method, mistakes);
    let parameters = parameters(&method.route.template, mistakes);
    let arguments = arguments(&method, &parameters, mistakes);
    Route {
        doc: attr::doc(&method.attributes),
        conditions: conditions(&method),
        attr: method.route,
        handler: method.signature.ident,
        arguments,
        output: match method.signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, ty) => Some(ty),
        },
    }
}

fn conditions(method: &Method) -> Vec<Attribute> {
    method.attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect()
}

fn check_signature(method: &Method, mistakes: &mut Mistakes) {
    let signature = &method.signature;
    let name = &signature.ident;
    if signature.asyncness.is_none() {
        mistakes.on(signature.fn_token, format!("handler `{name}` must be async: add `async` before `fn`"));
    }
    if let Some(unsafety) = signature.unsafety {
        mistakes.on(unsafety, format!("handler `{name}` must not be unsafe: remove `unsafe`"));
    }
    for parameter in &signature.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            mistakes.on(parameter, format!("handler `{name}` must not be generic: a request cannot choose a type"));
        }
    }
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => {
            let is_shared =
                receiver.reference.is_some() && receiver.mutability.is_none() && receiver.colon_token.is_none();
            if !is_shared {
                mistakes.on(
                    receiver,
                    format!(
                        "found `{}`, expected `&self`: requests share the service; what changes goes behind a lock or a channel",
                        plain(receiver),
                    ),
                );
            }
        }
        _ => mistakes.on(name, format!("handler `{name}` needs `&self` as its first argument")),
    }
}

fn arguments(method: &Method, parameters: &[String], mistakes: &mut Mistakes) -> Vec<Argument> {
    let mut unused: Vec<&String> = parameters.iter().collect();
    let mut plain_argument: Option<&PatType> = None;
    let mut arguments = Vec::new();
    for input in &method.signature.inputs {
        let FnArg::Typed(argument) = input else { continue };
        let name = argument_name(argument);
        let source = if argument.attrs.iter().any(|attribute| attribute.path().is_ident("extract")) {
            Source::Extract
        } else if let Some(at) = unused.iter().position(|parameter| Some(*parameter) == name.as_ref()) {
            Source::Path(unused.remove(at).clone())
        } else {
            if let Some(first) = plain_argument.replace(argument) {
                two_plain_arguments(method, first, argument, mistakes);
            } else if method.route.takes_query() && is_single_value(&argument.ty) {
                appears_nowhere(method, argument, mistakes);
            }
            if method.route.takes_query() { Source::Query } else { Source::Body }
        };
        check_type(argument, mistakes);
        arguments.push(Argument { name, source, ty: (*argument.ty).clone() });
    }
    for name in unused {
        mistakes.on(
            &method.route.template,
            format!("`{{{name}}}` has no argument: add `{name}: …` to `{}`", method.signature.ident),
        );
    }
    arguments
}

fn argument_name(argument: &PatType) -> Option<String> {
    match &*argument.pat {
        Pat::Ident(pattern) => Some(pattern.ident.unraw().to_string()),
        _ => None,
    }
}

fn two_plain_arguments(method: &Method, first: &PatType, second: &PatType, mistakes: &mut Mistakes) {
    let what = if method.route.takes_query() { "the query" } else { "the body" };
    let (first, name) = (plain(&first.pat), plain(&second.pat));
    mistakes.on(
        second,
        format!(
            "`{first}` is {what} already, and `{name}` is not in the path {:?}: add `{{{name}}}` to the path, put both into \
             one struct, or mark an axum extractor with `#[extract]`",
            method.route.template.value(),
        ),
    );
}

fn appears_nowhere(method: &Method, argument: &PatType, mistakes: &mut Mistakes) {
    let (name, template) = (plain(&argument.pat), method.route.template.value());
    mistakes.on(
        argument,
        format!(
            "`{name}` is not in the path {template:?}, and a query has names: add `{{{name}}}` to the path, or take a struct \
             with a field `{name}`",
        ),
    );
}

fn check_type(argument: &PatType, mistakes: &mut Mistakes) {
    match &*argument.ty {
        Type::Reference(reference) => {
            let owned = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
                Type::Slice(slice) => format!("Vec<{}>", plain(&slice.elem)),
                other => plain(other),
            };
            mistakes
                .on(reference, format!("found `{}`, expected a value of its own: write `{owned}`", plain(reference)));
        }
        Type::ImplTrait(ty) => mistakes.on(ty, "an argument needs a type of its own: a request cannot choose one"),
        _ => {}
    }
}

/// Whether a type is surely one value, so that no query can become it.
fn is_single_value(ty: &Type) -> bool {
    const NAMES: [&str; 16] = [
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "u8", "u16", "u32", "u64", "u128", "usize",
        "String",
    ];
    matches!(ty, Type::Path(path) if NAMES.iter().any(|name| path.path.is_ident(name)))
}

/// Tokens as a person writes them.
fn plain(tokens: impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    text.replace("& ", "&").replace(" :", ":").replace(" <", "<").replace("< ", "<").replace(" >", ">")
}

/// The parameters that a path template names.
fn parameters(template: &LitStr, mistakes: &mut Mistakes) -> Vec<String> {
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

/// The routes seen so far, to find two that cannot live together.
#[derive(Default)]
struct Seen {
    /// By the template without its names, and the method.
    handlers: HashMap<(String, String), Ident>,
    /// By the template without its names.
    templates: HashMap<String, String>,
}

impl Seen {
    fn check(&mut self, method: &Method, mistakes: &mut Mistakes) {
        // Two methods of which only one is compiled may share a route.
        if !conditions(method).is_empty() {
            return;
        }
        let template = method.route.template.value();
        let shape = without_names(&template);
        let verb = method.route.method().to_string();
        let name = &method.signature.ident;
        if let Some(first) = self.handlers.get(&(shape.clone(), verb.clone())) {
            mistakes.on(&method.route.template, format!("`{first}` answers {verb} {template:?} already"));
            return;
        }
        match self.templates.get(&shape) {
            Some(first) if *first != template => mistakes.on(
                &method.route.template,
                format!("found {template:?}, and {first:?} for the same path before: name the parameters alike"),
            ),
            _ => {
                self.templates.insert(shape.clone(), template);
            }
        }
        self.handlers.insert((shape, verb), name.clone());
    }
}

fn without_names(template: &str) -> String {
    let segments = template.split('/').map(|segment| match parameter(segment) {
        Ok(Some((_, true))) => "{*}",
        Ok(Some((_, false))) => "{}",
        _ => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

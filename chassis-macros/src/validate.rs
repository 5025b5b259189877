//! What the handlers mean, or everything that is wrong with them.

use std::collections::HashMap;

use syn::{Attribute, FnArg, GenericParam, Ident, LitStr, Pat, PatType, ReturnType, Signature, Type, ext::IdentExt};

use crate::{
    attr::{Marks, RouteAttr, RpcAttr},
    block::Block,
    fallback::Mistakes,
    model::Method,
    policy::Policy,
    template::{self, without_names},
    value,
    words::{alike, plain},
};

pub(crate) mod argument;

use argument::check_type;

/// A handler that is understood: a route, an rpc or both.
pub(crate) struct Handler {
    pub(crate) name: Ident,
    pub(crate) route: Option<Route>,
    pub(crate) rpc: Option<Rpc>,
    /// The types of the arguments, in the order of the signature.
    pub(crate) types: Vec<Type>,
    /// What the handler returns, for the place of an error; `None` for `()`.
    pub(crate) output: Option<Box<Type>>,
    pub(crate) doc: LitStr,
    /// What is asked of the route and of the rpc.
    pub(crate) policy: Policy,
    /// `#[cfg]`s of the method, which its route shares.
    pub(crate) conditions: Vec<Attribute>,
}

/// How a handler is called over HTTP.
pub(crate) struct Route {
    /// `get`
    pub(crate) verb: Ident,
    /// `GET`
    pub(crate) method: Ident,
    /// The whole path, with what the block puts in front.
    pub(crate) template: LitStr,
    /// In the order of the signature.
    pub(crate) arguments: Vec<Argument>,
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

/// How a handler is called over gRPC.
pub(crate) struct Rpc {
    /// As the `.proto` file has it: `GetOrder`.
    pub(crate) name: Ident,
    /// As the generated trait has it: `get_order`.
    pub(crate) method: Ident,
    /// In the order of the signature.
    pub(crate) arguments: Vec<Part>,
}

/// What of the request message an argument is.
pub(crate) enum Part {
    /// The field of the argument's name.
    Field(Ident),
    /// The message as a whole.
    Message,
}

/// The methods that have nothing wrong with them.
pub(crate) fn handlers(methods: Vec<Method>, block: &Block, mistakes: &mut Mistakes) -> Vec<Handler> {
    let mut handlers = Vec::new();
    let mut seen = Seen::default();
    for method in methods {
        let mut own = Mistakes::default();
        seen.check(&method, &mut own);
        let is_whole = method.is_whole;
        let handler = handler(method, block, &mut own);
        if own.is_empty() && is_whole {
            handlers.push(handler);
        } else {
            mistakes.extend(own);
        }
    }
    handlers
}

fn handler(method: Method, block: &Block, mistakes: &mut Mistakes) -> Handler {
    let Method { attributes, route, rpc, signature, is_whole } = method;
    check_signature(&signature, mistakes);
    let marks: Vec<Marks> =
        plain_arguments(&signature).map(|argument| Marks::read(&argument.attrs, mistakes)).collect();
    for argument in plain_arguments(&signature) {
        check_type(argument, mistakes);
    }
    if let (Some(RpcAttr { keys: Some(keys), .. }), Some(_)) = (&rpc, &route) {
        mistakes.on(keys, "the keys of the route hold for the rpc too: move this one there");
    }
    let arguments = route.as_ref().and_then(|attr| {
        let mut own = Mistakes::default();
        let parameters = template::parameters(&attr.template, &mut own);
        for name in parameters.iter().filter(|name| block.parameters.contains(name)) {
            own.on(&attr.template, format!("`{{{name}}}` is in the path of the service already: name it otherwise"));
        }
        // What the arguments are cannot be told of a path that is wrong.
        let is_right = own.is_empty();
        mistakes.extend(own);
        is_right.then(|| arguments(&signature, attr, &parameters, &block.parameters, mistakes))
    });
    let rpc_arguments = rpc.as_ref().map(|_| rpc_arguments(&signature, &marks, arguments.as_deref(), mistakes));
    if rpc.is_none() && is_whole {
        for span in marks.iter().filter_map(|marks| marks.message) {
            mistakes.at(
                span,
                "`#[message]` takes the request message of an rpc: add `#[rpc]` to the handler, or remove it",
            );
        }
    }
    Handler {
        doc: value::doc(&attributes),
        conditions: conditions(&attributes),
        types: plain_arguments(&signature).map(|argument| (*argument.ty).clone()).collect(),
        rpc: rpc.as_ref().zip(rpc_arguments).map(|(attr, arguments)| {
            let name = attr.name(&signature.ident);
            Rpc { method: RpcAttr::method(&name), name, arguments }
        }),
        route: route.as_ref().zip(arguments).map(|(attr, arguments)| Route {
            verb: attr.verb.clone(),
            method: attr.method(),
            template: block.full_path(&attr.template),
            arguments,
        }),
        policy: route.map(|attr| attr.policy).or(rpc.map(|attr| attr.policy)).unwrap_or_default(),
        name: signature.ident,
        output: match signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, ty) => Some(ty),
        },
    }
}

fn conditions(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect()
}

/// The arguments after `&self`.
fn plain_arguments(signature: &Signature) -> impl Iterator<Item = &PatType> {
    signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(argument) => Some(argument),
        FnArg::Receiver(_) => None,
    })
}

fn check_signature(signature: &Signature, mistakes: &mut Mistakes) {
    let name = &signature.ident;
    if signature.asyncness.is_none() {
        mistakes.on(signature.fn_token, format!("handler `{name}` must be async: add `async` before `fn`"));
    }
    if let Some(unsafety) = signature.unsafety {
        mistakes.on(unsafety, format!("handler `{name}` must not be unsafe: remove `unsafe`"));
    }
    for parameter in &signature.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            mistakes.on(
                parameter,
                format!(
                    "handler `{name}` must not be generic, for a request cannot choose a type: name the type, or move the \
                     parameter to the impl block"
                ),
            );
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

/// Where the arguments of a route come from, by the rule of the chassis. `prefix` holds the parameters that come before the
/// route's own path.
pub(crate) fn arguments(
    signature: &Signature,
    attr: &RouteAttr,
    parameters: &[String],
    prefix: &[String],
    mistakes: &mut Mistakes,
) -> Vec<Argument> {
    let mut unused: Vec<&String> = prefix.iter().chain(parameters).collect();
    let mut plain_argument: Option<&PatType> = None;
    let mut strays: Vec<(&PatType, Stray<'_>)> = Vec::new();
    let mut arguments = Vec::new();
    for argument in plain_arguments(signature) {
        let name = name_of(argument);
        let source = if argument.attrs.iter().any(|attribute| attribute.path().is_ident("extract")) {
            Source::Extract
        } else if let Some(at) = unused.iter().position(|parameter| Some(*parameter) == name.as_ref()) {
            Source::Path(unused.remove(at).clone())
        } else {
            if argument::is_axum_pattern(argument) {
                // It is told what to write instead, where the type is looked at.
            } else if let Some(first) = plain_argument.replace(argument) {
                strays.push((argument, Stray::Second(first)));
            } else if attr.takes_query() && argument::is_single_value(&argument.ty) {
                strays.push((argument, Stray::NoQuery));
            }
            if attr.takes_query() { Source::Query } else { Source::Body }
        };
        arguments.push(Argument { name, source, ty: (*argument.ty).clone() });
    }
    tell_strays(attr, strays, &mut unused, mistakes);
    for name in unused {
        let handler = &signature.ident;
        if prefix.contains(name) {
            mistakes.on(
                handler,
                format!("`{{{name}}}` in the path of the service has no argument here: add `{name}: …` to `{handler}`"),
            );
        } else {
            mistakes.on(&attr.template, format!("`{{{name}}}` has no argument: add `{name}: …` to `{handler}`"));
        }
    }
    arguments
}

/// Why an argument has no place in the request.
enum Stray<'a> {
    /// There is a query or a body already.
    Second(&'a PatType),
    /// It is one value, and a query has names.
    NoQuery,
}

fn tell_strays<'a>(
    attr: &RouteAttr,
    strays: Vec<(&'a PatType, Stray<'a>)>,
    unused: &mut Vec<&String>,
    mistakes: &mut Mistakes,
) {
    let path = attr.template.value();
    for (argument, stray) in strays {
        let name = plain(&argument.pat);
        // Of two plain arguments, the first may be the one that was meant for the path.
        let candidates = match stray {
            Stray::Second(first) => vec![argument, first],
            Stray::NoQuery => vec![argument],
        };
        let meant = candidates.iter().find_map(|candidate| {
            let name = name_of(candidate)?;
            let at = unused.iter().position(|parameter| alike(&name, parameter))?;
            Some((*candidate, name, at))
        });
        if let Some((candidate, name, at)) = meant {
            let parameter = unused.remove(at);
            mistakes.on(
                &candidate.pat,
                format!("`{name}` is not in the path {path:?}, did you mean `{parameter}`? Name the argument and the parameter alike"),
            );
            continue;
        }
        let message = match stray {
            Stray::Second(first) => format!(
                "`{}` is {} already, and `{name}` is not in the path {path:?}: add `{{{name}}}` to the path, put both into \
                 one struct, or mark an axum extractor with `#[extract]`",
                plain(&first.pat),
                if attr.takes_query() { "the query" } else { "the body" },
            ),
            Stray::NoQuery => format!(
                "`{name}` is not in the path {path:?}, and a query has names: add `{{{name}}}` to the path, or take a struct \
                 with a field `{name}`",
            ),
        };
        mistakes.on(argument, message);
    }
}

/// What of the request message the arguments of an rpc are.
fn rpc_arguments(
    signature: &Signature,
    marks: &[Marks],
    route: Option<&[Argument]>,
    mistakes: &mut Mistakes,
) -> Vec<Part> {
    let mut has_message = false;
    let mut parts = Vec::new();
    for (at, (argument, marks)) in plain_arguments(signature).zip(marks).enumerate() {
        let is_path = route
            .and_then(|arguments| arguments.get(at))
            .is_some_and(|argument| matches!(argument.source, Source::Path(_)));
        if let Some(span) = marks.extract {
            mistakes.at(
                span,
                "an rpc has no HTTP request to extract from: take the value out of `chassis::RequestContext`, or write a second \
                 method for the rpc that calls the first",
            );
        } else if let Some(span) = marks.message {
            if is_path {
                let name = plain(&argument.pat);
                mistakes.at(
                    span,
                    format!(
                        "`{name}` is a parameter of the path, and so the message's field `{name}`: remove `#[message]`"
                    ),
                );
            } else if has_message {
                mistakes.at(span, "an rpc has one message: take its fields by their names, or put both into one type");
            }
            has_message = true;
            parts.push(Part::Message);
            continue;
        }
        match &*argument.pat {
            Pat::Ident(pattern) => parts.push(Part::Field(pattern.ident.clone())),
            // Its mistake is told where the type is looked at.
            _ if argument::is_axum_pattern(argument) || marks.extract.is_some() => {}
            pattern => {
                mistakes.on(
                    pattern,
                    format!(
                        "an argument of an rpc is the message's field of its name, and `{}` is no name: write a name, or mark \
                         it with `#[message]`",
                        plain(pattern),
                    ),
                );
            }
        }
    }
    parts
}

/// The name of an argument, when it is no pattern.
pub(crate) fn argument_name(argument: &FnArg) -> Option<String> {
    match argument {
        FnArg::Typed(argument) => name_of(argument),
        FnArg::Receiver(_) => None,
    }
}

fn name_of(argument: &PatType) -> Option<String> {
    match &*argument.pat {
        Pat::Ident(pattern) => Some(pattern.ident.unraw().to_string()),
        _ => None,
    }
}

/// The routes and rpcs seen so far, to find two that cannot live together.
#[derive(Default)]
struct Seen {
    /// By the template without its names, and the method.
    handlers: HashMap<(String, String), Ident>,
    /// By the template without its names.
    templates: HashMap<String, String>,
    /// By the name in the `.proto` file.
    rpcs: HashMap<String, Ident>,
}

impl Seen {
    fn check(&mut self, method: &Method, mistakes: &mut Mistakes) {
        // Two methods of which only one is compiled may share a route.
        if !conditions(&method.attributes).is_empty() {
            return;
        }
        let name = &method.signature.ident;
        if let Some(rpc) = &method.rpc {
            let rpc_name = rpc.name(name);
            match self.rpcs.get(&rpc_name.to_string()) {
                Some(first) => {
                    mistakes.on(
                        &rpc_name,
                        format!("`{first}` is the rpc `{rpc_name}` already: write `#[rpc(…)]` with another name"),
                    );
                }
                None => {
                    self.rpcs.insert(rpc_name.to_string(), name.clone());
                }
            }
        }
        if let Some(route) = &method.route {
            self.check_route(route, name, mistakes);
        }
    }

    fn check_route(&mut self, route: &RouteAttr, name: &Ident, mistakes: &mut Mistakes) {
        let template = route.template.value();
        let shape = without_names(&template);
        let verb = route.method().to_string();
        if let Some(first) = self.handlers.get(&(shape.clone(), verb.clone())) {
            mistakes.on(
                &route.template,
                format!("`{first}` answers {verb} {template:?} already: give one of them another path"),
            );
            return;
        }
        match self.templates.get(&shape) {
            Some(first) if *first != template => mistakes.on(
                &route.template,
                format!("found {template:?}, and {first:?} for the same path before: name the parameters alike"),
            ),
            _ => {
                self.templates.insert(shape.clone(), template);
            }
        }
        self.handlers.insert((shape, verb), name.clone());
    }
}

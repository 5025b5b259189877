//! `#[chassis::client]`: a trait as it is written, and a type that implements it by calls over HTTP.
//!
//! The trait keeps every token that is not ours; only the signatures of methods with a route are changed, from `async fn`
//! to one whose future is `Send`.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, FnArg, GenericParam, Generics, PatType, ReturnType, Signature, Token, Type, Visibility,
    parse::{ParseStream, Parser},
    spanned::Spanned,
};

mod keys;
mod stand_in;

use self::{
    keys::Route,
    stand_in::{Answered, StandIn},
};
use crate::{
    attr::RouteAttr,
    block::Block,
    fallback::{self, Mistakes},
    model::{self, Item},
    paths::{self, Client, Method as HttpMethod, Outcome, never},
    template, validate, value,
    words::plain,
};

/// `#[chassis::client]`.
pub(crate) fn client(keys: &TokenStream, item: TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let front = keys::front(keys.clone(), &mut mistakes);
    let Some(model) = ClientTrait::read(item.clone(), &front, &mut mistakes) else {
        return fallback::as_written(without_routes(item), mistakes);
    };
    let mut tokens = model.declaration();
    tokens.extend(model.client());
    tokens.extend(mistakes.into_tokens());
    tokens
}

/// What is no trait of calls, without the attributes that would be one mistake more each.
fn without_routes(item: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = item.into_iter().collect();
    if let Some(TokenTree::Group(body)) = tokens.last() {
        let content = model::split_items(body.stream()).iter().map(written).collect();
        let body = TokenTree::from(model::regroup(body, content));
        tokens.pop();
        tokens.push(body);
    }
    tokens.into_iter().collect()
}

/// The item as it was written, without its route and its fallback.
fn written(item: &Item) -> TokenStream {
    let is_ours = |attribute: &&[TokenTree; 2]| Item::is_route(attribute) || stand_in::is_written(attribute);
    let attributes = item.attributes.iter().filter(|attribute| !is_ours(attribute)).flatten();
    attributes.chain(&item.rest).cloned().collect()
}

/// The trait as tokens, and its methods.
struct ClientTrait {
    header: TokenStream,
    body: proc_macro2::Group,
    visibility: Visibility,
    name: Ident,
    items: Vec<TraitItem>,
    /// Whether it can be implemented at all; otherwise the implementation would only be one mistake more.
    is_whole: bool,
}

/// One item of the trait.
enum TraitItem {
    /// A default method: kept as written, and not implemented.
    Kept(TokenStream),
    /// What no client can have, or what cannot be read.
    Foreign(TokenStream),
    /// A method with something wrong: implemented by what is never run, so that the mistake is told alone.
    Mistaken {
        attributes: Vec<Attribute>,
        signature: Box<Signature>,
    },
    Call(Box<Call>),
}

/// A method that is understood.
struct Call {
    attributes: Vec<Attribute>,
    signature: Signature,
    output: Type,
    route: Route,
    arguments: Vec<Argument>,
    /// What answers when the call fails.
    fallback: Option<StandIn>,
}

/// Where an argument goes.
enum Argument {
    Path(String),
    Query,
    Body,
}

impl ClientTrait {
    fn read(item: TokenStream, front: &Block, mistakes: &mut Mistakes) -> Option<Self> {
        const EXPECTED: &str = "`#[chassis::client]` goes on a trait: `trait OrdersApi { … }`";
        let mut tokens: Vec<TokenTree> = item.into_iter().collect();
        let Some(TokenTree::Group(body)) = tokens.pop() else {
            mistakes.on(tokens.into_iter().collect::<TokenStream>(), EXPECTED);
            return None;
        };
        let header: TokenStream = tokens.into_iter().collect();
        let head = |input: ParseStream<'_>| {
            input.call(Attribute::parse_outer)?;
            let visibility: Visibility = input.parse()?;
            if !input.peek(Token![trait]) {
                return Err(input.error(EXPECTED));
            }
            input.parse::<Token![trait]>()?;
            let name: Ident = input.parse()?;
            let generics: Generics = input.parse()?;
            // Bounds and conditions stay as they are.
            input.parse::<TokenStream>()?;
            Ok((visibility, name, generics))
        };
        let (visibility, name, generics) = mistakes.note(head.parse2(header.clone()))?;
        let is_generic = !generics.params.is_empty();
        if is_generic {
            mistakes
                .on(&generics, format!("`{name}` must not be generic: name the types that its calls take and return"));
        }
        let written = model::split_items(body.stream());
        let mut items: Vec<TraitItem> = written.iter().map(|item| item_of(item, front, mistakes)).collect();
        stand_in::check(&written, &mut items, &name, mistakes);
        let is_whole = !is_generic && !items.iter().any(|item| matches!(item, TraitItem::Foreign(_)));
        Some(Self { header, body, visibility, name, items, is_whole })
    }

    /// The trait, with futures that are `Send`.
    fn declaration(&self) -> TokenStream {
        let content = self.items.iter().map(|item| match item {
            TraitItem::Kept(written) | TraitItem::Foreign(written) => written.clone(),
            TraitItem::Mistaken { attributes, signature } => quote!(#(#attributes)* #signature;),
            TraitItem::Call(call) => {
                let attributes = &call.attributes;
                let signature = sendable(&call.signature, &call.output);
                quote!(#(#attributes)* #signature;)
            }
        });
        let mut tokens = self.header.clone();
        tokens.extend([TokenTree::from(model::regroup(&self.body, content.collect()))]);
        tokens
    }

    fn client(&self) -> TokenStream {
        let Self { visibility, name, .. } = self;
        let client = format_ident!("{name}Client");
        let methods = self.items.iter().filter_map(|item| match item {
            TraitItem::Kept(_) | TraitItem::Foreign(_) => None,
            TraitItem::Mistaken { attributes, signature } => {
                let conditions = conditions(attributes);
                Some(quote!(#(#conditions)* #signature { #never() }))
            }
            TraitItem::Call(call) => Some(call.implementation(name)),
        });
        let implementation = self.is_whole.then(|| {
            quote! {
                #[automatically_derived]
                #[allow(clippy::all, clippy::pedantic, unused_variables, deprecated)]
                impl #name for #client {
                    #(#methods)*
                }
            }
        });
        let (about, of) =
            (format!(" Calls [`{name}`] over HTTP."), format!(" Calls [`{name}`] of the service behind this client."));
        quote! {
            #[doc = #about]
            #[automatically_derived]
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            #visibility struct #client {
                client: #Client,
            }

            #[automatically_derived]
            impl #client {
                #[doc = #of]
                #[must_use]
                #[allow(dead_code)]
                #visibility fn new(client: #Client) -> Self {
                    Self { client }
                }
            }

            #[automatically_derived]
            impl ::core::convert::From<#Client> for #client {
                fn from(client: #Client) -> Self {
                    Self { client }
                }
            }

            #implementation
        }
    }
}

/// The signature as a trait can promise it: the future may be sent to another thread.
fn sendable(signature: &Signature, output: &Type) -> TokenStream {
    let mut signature = signature.clone();
    signature.asyncness = None;
    signature.output = ReturnType::Default;
    let condition = signature.generics.where_clause.take();
    let span = output.span();
    let future = quote_spanned!(span=> -> impl ::core::future::Future<Output = #output> + ::core::marker::Send);
    quote!(#signature #future #condition)
}

impl Call {
    /// What a person would write by hand against `chassis::client`.
    fn implementation(&self, of: &Ident) -> TokenStream {
        let Self { attributes, output, route, arguments, .. } = self;
        let conditions = conditions(attributes);
        let mut signature = self.signature.clone();
        let mut steps = TokenStream::new();
        let mut arguments = arguments.iter().enumerate();
        let mut names = Vec::new();
        for input in &mut signature.inputs {
            let FnArg::Typed(input) = input else { continue };
            let Some((at, argument)) = arguments.next() else { continue };
            let ty = &input.ty;
            // An error about what is sent belongs to its type.
            let name = format_ident!("argument{at}", span = ty.span());
            steps.extend(match argument {
                Argument::Path(parameter) => quote_spanned!(ty.span()=> .path(#parameter, &#name)),
                Argument::Query => quote_spanned!(ty.span()=> .query(&#name)),
                Argument::Body => quote_spanned!(ty.span()=> .body(&#name)),
            });
            input.attrs.clear();
            *input.pat = syn::parse_quote!(#name);
            names.push(name);
        }
        if let Some(timeout) = route.keys.timeout {
            let timeout = value::expand_duration(timeout);
            steps.extend(quote!(.timeout(#timeout)));
        }
        if route.keys.idempotent {
            steps.extend(quote!(.idempotent()));
        }
        let this = signature.receiver().map(|receiver| receiver.self_token);
        let client = this.map(|this| quote!(#this.client));
        let signature = sendable(&signature, output);
        let (method, template, readings) = (route.method(), &route.full, paths::readings());
        // An error about what is returned belongs to the return type.
        let span = output.span();
        let own = |name| Ident::new(name, span);
        let (call, value, answer, told, outcome) =
            (own("call"), own("value"), own("answer"), own("told"), paths::at(span, Outcome));
        let parts = quote_spanned!(span=> <#output as #outcome>::parts());
        let read = quote_spanned!(span=> (&&&#value).__read());
        let send = quote_spanned!(span=> #answer.send(#call).await);
        let ending = match (&self.fallback, this) {
            (Some(fallback), Some(this)) => {
                let method = format!("{} {}", route.method(), template.value());
                fallback.ending(
                    of,
                    &Answered { this, method: &method, send: &send, told: &told, output, arguments: &names },
                )
            }
            _ => quote_spanned!(span=> #told(#send)),
        };
        quote! {
            #(#conditions)*
            #signature {
                #[allow(unused_imports)]
                use #readings;
                let #call = #client.call(#HttpMethod::#method, #template) #steps;
                let (#value, #told) = #parts;
                let #answer = #read;
                async move { #ending }
            }
        }
    }
}

fn item_of(item: &Item, front: &Block, mistakes: &mut Mistakes) -> TraitItem {
    let written = written(item);
    let Some(signature) = item.signature() else {
        mistakes.on(
            item.rest.iter().cloned().collect::<TokenStream>(),
            "a client has methods only: name the types in the methods, and put constants beside the trait",
        );
        return TraitItem::Foreign(written);
    };
    let has_body = matches!(item.rest.last(), Some(TokenTree::Group(_)));
    let routes: Vec<_> = item.attributes.iter().filter(|attribute| Item::is_route(attribute)).collect();
    if routes.is_empty() && has_body {
        for attribute in item.attributes.iter().filter(|attribute| stand_in::is_written(attribute)) {
            let attribute: TokenStream = attribute.iter().cloned().collect();
            mistakes.on(attribute, "a fallback belongs to a call: put it on a method that has a route");
        }
        return TraitItem::Kept(written);
    }
    let mut own = Mistakes::default();
    let attributes: TokenStream = item.attributes.iter().flatten().cloned().collect();
    let attributes = own.note(Attribute::parse_outer.parse2(attributes));
    let signature = own.note(read_signature.parse2(signature));
    let (Some(attributes), Some(mut signature)) = (attributes, signature) else {
        mistakes.extend(own);
        return TraitItem::Foreign(written);
    };
    let (routes, attributes): (Vec<_>, Vec<_>) = attributes.into_iter().partition(is_route);
    let (fallbacks, attributes): (Vec<_>, Vec<_>) = attributes.into_iter().partition(stand_in::is_fallback);
    let fallback = StandIn::read(&fallbacks, &signature.ident, &mut own);
    let call = call_of(item, &routes, &attributes, &signature, front, &mut own);
    match call {
        Some(call) if own.is_empty() => TraitItem::Call(Box::new(Call { fallback, ..call })),
        _ if has_body => {
            mistakes.extend(own);
            TraitItem::Kept(written)
        }
        _ => {
            mistakes.extend(own);
            for input in &mut signature.inputs {
                if let FnArg::Typed(input) = input {
                    input.attrs.clear();
                }
            }
            TraitItem::Mistaken { attributes, signature: Box::new(signature) }
        }
    }
}

fn is_route(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|name| RouteAttr::is_verb(&name.ident.to_string()))
}

/// `#[cfg]`s of the method, which its implementation shares.
fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
}

fn read_signature(input: ParseStream<'_>) -> syn::Result<Signature> {
    input.parse()
}

fn call_of(
    item: &Item,
    routes: &[Attribute],
    attributes: &[Attribute],
    signature: &Signature,
    front: &Block,
    mistakes: &mut Mistakes,
) -> Option<Call> {
    let name = &signature.ident;
    let route = routes.first().and_then(|attribute| Route::read(attribute, front, mistakes));
    match routes {
        [] => mistakes
            .on(name, format!("`{name}` has no route: write `#[get(\"/orders/{{id}}\")]` above it, or give it a body")),
        [_, second, ..] => mistakes.on(second, "a call has one route: write a second method"),
        [_] => {}
    }
    if let Some(TokenTree::Group(body)) = item.rest.last() {
        mistakes.on(body, format!("`{name}` has a route and a body: end it with `;`, the call is the body"));
    }
    check_signature(signature, mistakes);
    let output = output(signature, mistakes);
    let route = route?;
    let arguments = arguments(signature, &route, mistakes);
    Some(Call {
        attributes: attributes.to_vec(),
        output: output?,
        signature: signature.clone(),
        route,
        arguments,
        fallback: None,
    })
}

fn check_signature(signature: &Signature, mistakes: &mut Mistakes) {
    let name = &signature.ident;
    if signature.asyncness.is_none() {
        mistakes.on(signature.fn_token, format!("call `{name}` must be async: add `async` before `fn`"));
    }
    if let Some(unsafety) = signature.unsafety {
        mistakes.on(unsafety, format!("call `{name}` must not be unsafe: remove `unsafe`"));
    }
    for parameter in &signature.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            mistakes.on(parameter, format!("call `{name}` must not be generic: name the type that it sends"));
        }
    }
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => {
            let is_shared =
                receiver.reference.is_some() && receiver.mutability.is_none() && receiver.colon_token.is_none();
            if !is_shared {
                let found = plain(receiver);
                mistakes.on(receiver, format!("found `{found}`, expected `&self`: calls share the client"));
            }
        }
        _ => mistakes.on(name, format!("call `{name}` needs `&self` as its first argument")),
    }
}

/// Whether it is a `Result` is for the compiler to say: the name may be an alias. What surely is none is told here.
fn output(signature: &Signature, mistakes: &mut Mistakes) -> Option<Type> {
    const EXPECTED: &str = "a call may fail: return `Result<…, CallError>`";
    match &signature.output {
        ReturnType::Default => {
            mistakes.on(&signature.ident, format!("{EXPECTED}; `Result<(), CallError>` when there is nothing to say"));
            None
        }
        ReturnType::Type(_, ty) => match &**ty {
            Type::Path(path)
                if !is_single_value(ty) && path.path.segments.first().is_some_and(|first| first.ident != "Option") =>
            {
                Some((**ty).clone())
            }
            Type::Macro(_) | Type::Paren(_) | Type::Group(_) => Some((**ty).clone()),
            other => {
                mistakes.on(other, format!("found `{}`, and {EXPECTED}", plain(other)));
                None
            }
        },
    }
}

fn arguments(signature: &Signature, route: &Route, mistakes: &mut Mistakes) -> Vec<Argument> {
    let parameters = template::parameters(
        if route.template.value().starts_with('/') { &route.full } else { &route.template },
        mistakes,
    );
    let mut unused: Vec<&String> = parameters.iter().collect();
    let mut plain_argument: Option<&PatType> = None;
    let mut arguments = Vec::new();
    for input in &signature.inputs {
        let FnArg::Typed(argument) = input else { continue };
        if let Some(extract) = argument.attrs.iter().find(|attribute| attribute.path().is_ident("extract")) {
            mistakes.on(extract, "a client has nothing to extract from: remove it, and pass the value as an argument");
            continue;
        }
        if let Type::ImplTrait(ty) = &*argument.ty {
            mistakes.on(ty, "an argument needs a type of its own: name the type that is sent");
        }
        let name = validate::argument_name(input);
        arguments.push(if let Some(at) = unused.iter().position(|parameter| Some(*parameter) == name.as_ref()) {
            Argument::Path(unused.remove(at).clone())
        } else {
            if let Some(first) = plain_argument.replace(argument) {
                two_plain_arguments(route, first, argument, mistakes);
            } else if route.takes_query() && is_single_value(&argument.ty) {
                appears_nowhere(route, argument, mistakes);
            }
            if route.takes_query() { Argument::Query } else { Argument::Body }
        });
    }
    for name in unused {
        let method = &signature.ident;
        mistakes.on(&route.template, format!("`{{{name}}}` has no argument: add `{name}: …` to `{method}`"));
    }
    arguments
}

fn two_plain_arguments(route: &Route, first: &PatType, second: &PatType, mistakes: &mut Mistakes) {
    let what = if route.takes_query() { "the query" } else { "the body" };
    let (first, name) = (plain(&first.pat), plain(&second.pat));
    mistakes.on(
        second,
        format!(
            "`{first}` is {what} already, and `{name}` is not in the path {:?}: add `{{{name}}}` to the path, or put both \
             into one struct",
            route.template.value(),
        ),
    );
}

fn appears_nowhere(route: &Route, argument: &PatType, mistakes: &mut Mistakes) {
    let (name, template) = (plain(&argument.pat), route.template.value());
    mistakes.on(
        argument,
        format!(
            "`{name}` is not in the path {template:?}, and a query has names: add `{{{name}}}` to the path, or take a struct \
             with a field `{name}`",
        ),
    );
}

fn is_single_value(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => is_single_value(&reference.elem),
        Type::Path(path) if path.path.is_ident("str") => true,
        ty => validate::argument::is_single_value(ty),
    }
}

#[cfg(test)]
mod tests;

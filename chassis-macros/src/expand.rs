//! The wiring of a service: what a person would write by hand against `chassis::service`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{PathArguments, Type, spanned::Spanned};

use crate::{
    block::Block,
    fallback::{self, Mistakes},
    model::ServiceImpl,
    paths::{
        self, AnswerInfo, Arc, ArgumentInfo, Arguments, IntoRoutes, Method, Probe, Rejection, Response, RouteInfo,
        Router, Routes, Service, Source as SourceOf, State, never, send,
    },
    validate::{self, Argument, Handler, Route, Source},
};

mod rpc;

/// `#[service]`.
pub(crate) fn service(keys: TokenStream, item: TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let mut block = Block::read(keys, &mut mistakes);
    let Some(mut model) = ServiceImpl::read(item.clone(), &mut mistakes) else {
        return fallback::as_written(item, mistakes);
    };
    let methods = std::mem::take(&mut model.methods);
    block.check(&methods, model.has_rpc, &mut mistakes);
    let handlers = validate::handlers(methods, &block, &mut mistakes);
    // Handlers without a mistake keep their wiring, so that the others are all there is to read.
    let wiring = wiring(&model, &block, &handlers);
    let mut tokens = model.as_written;
    tokens.extend(wiring);
    tokens.extend(mistakes.into_tokens());
    tokens
}

fn wiring(model: &ServiceImpl, block: &Block, handlers: &[Handler]) -> TokenStream {
    let (generics, _, condition) = model.generics.split_for_impl();
    let self_ty = &model.self_ty;
    let routes = || handlers.iter().filter_map(|handler| Some((handler, handler.route.as_ref()?)));
    let infos = routes().map(|(handler, route)| info(handler, route, block));
    let routes = routes().map(|(handler, route)| route_of(handler, route));
    let grpc = rpc::into_grpc(block, handlers);
    let (choices, descriptions) = (paths::choices(), paths::descriptions());
    quote! {
        #[automatically_derived]
        #[allow(clippy::all, clippy::pedantic)]
        impl #generics #Service for #self_ty #condition {
            fn describe() -> ::std::vec::Vec<#RouteInfo> {
                #[allow(unused_imports)]
                use #descriptions;
                #[allow(unused_mut)]
                let mut routes = ::std::vec::Vec::new();
                #(#infos)*
                routes
            }

            fn into_router(self: #Arc<Self>) -> #Router {
                #[allow(unused_imports)]
                use #choices;
                let router = #Router::new();
                #(#routes)*
                router.with_state(self)
            }

            #grpc
        }

        #[automatically_derived]
        impl #generics #IntoRoutes for #self_ty #condition {
            fn into_routes(self) -> #Routes {
                #Routes::of(#Arc::new(self))
            }
        }

        // A second block for the type is a bare E0119 of two traits; this name says beside it what to do.
        #[doc(hidden)]
        #[allow(dead_code, clippy::all, clippy::pedantic)]
        impl #generics #self_ty #condition {
            fn __a_type_has_one_service_block__move_all_handlers_into_one_of_the_blocks() {}
        }
    }
}

fn info(handler: &Handler, route: &Route, block: &Block) -> TokenStream {
    let (conditions, name) = (&handler.conditions, handler.name.to_string());
    let (method, template, common) = (&route.method, &route.template, common(handler, block));
    let arguments = route.arguments.iter().filter_map(argument_info);
    let parts = parts(handler);
    quote! {
        #(#conditions)*
        routes.push({
            let info = #RouteInfo::new(#Method::#method, #template, #name) #common #(.argument(#arguments))*;
            let (value, error) = #parts;
            let (kind, body) = (&&&&value).__answer().kind(&value);
            info.answer(#AnswerInfo::new(kind, (&&body).__schema())).problems((&&error).__problems())
        });
    }
}

/// What is said of a handler's route and of its rpc alike.
fn common(handler: &Handler, block: &Block) -> TokenStream {
    let doc = Some(&handler.doc).filter(|doc| !doc.value().is_empty()).map(|doc| quote!(.doc(#doc)));
    let tags: Vec<_> = block.tag.iter().chain(&handler.policy.tags).collect();
    let tags = (!tags.is_empty()).then(|| quote!(.tags(&[#(#tags),*])));
    let policy = handler.policy.expand().map(|policy| quote!(.policy(#policy)));
    quote!(#doc #tags #policy)
}

/// An extractor says nothing of itself.
fn argument_info(argument: &Argument) -> Option<TokenStream> {
    let (source, name) = place(argument)?;
    let ty = &argument.ty;
    Some(quote!(#ArgumentInfo::new(#source, #name, (&&#Probe::<#ty>::new()).__schema())))
}

/// Where an argument comes from, and its name in texts; `None` for an extractor.
fn place(argument: &Argument) -> Option<(TokenStream, String)> {
    let named = |name: &str| argument.name.clone().unwrap_or_else(|| name.to_owned());
    match &argument.source {
        Source::Path(name) => Some((quote!(#SourceOf::Path), name.clone())),
        Source::Query => Some((quote!(#SourceOf::Query), named("query"))),
        Source::Body => Some((quote!(#SourceOf::Body), named("body"))),
        Source::Extract => None,
    }
}

/// The types of a handler's value and error. They are those of a call that is never made, so a return type need not be
/// named.
fn parts(handler: &Handler) -> TokenStream {
    let name = &handler.name;
    let arguments = handler.types.iter().map(|ty| quote!(#never::<#ty>()));
    quote! {
        (&&#Probe::output(|| async { Self::#name(#never::<&Self>(), #(#arguments),*).await })).__parts()
    }
}

/// One route: the arguments are taken from the request, the body last; the handler is called; its outcome is answered.
fn route_of(handler: &Handler, route: &Route) -> TokenStream {
    let Handler { name, conditions, .. } = handler;
    let Route { template, arguments, .. } = route;
    let routing = paths::routing(&route.verb);
    let service = Ident::new("service", name.span());
    let request = Ident::new("arguments", name.span());
    let names = names(&handler.types);

    let is_body = |argument: &Argument| matches!(argument.source, Source::Body);
    let takes = |body: bool| {
        arguments
            .iter()
            .zip(&names)
            .filter(move |(argument, _)| is_body(argument) == body)
            .map(|(argument, name)| take(argument, name))
    };
    let (before, last) = (takes(false), takes(true));
    let has_body = arguments.iter().any(is_body);
    let mutable = arguments.iter().any(|argument| matches!(argument.source, Source::Extract)).then(|| quote!(mut));
    // Nothing of the request is kept while the handler works, except what it asked for.
    let done = (!has_body).then(|| quote!(::core::mem::drop(#request);));

    let answer = answer(handler, &call(handler, &service, &names));
    quote! {
        #(#conditions)*
        let router = router.route(#template, #routing(
            |#State(#service): #State<#Arc<Self>>, #mutable #request: #Arguments| async move {
                #(#before)*
                #(#last)*
                #done
                #answer
            },
        ));
    }
}

/// The arguments' names in generated code: each has the place of its type, to be blamed for what is wrong with it.
fn names(types: &[Type]) -> Vec<Ident> {
    types.iter().enumerate().map(|(n, ty)| format_ident!("argument{n}", span = ty.span())).collect()
}

/// All of it has the place of the handler's name: one that cannot be sent to another thread is told once.
fn call(handler: &Handler, service: &Ident, arguments: &[Ident]) -> TokenStream {
    let name = &handler.name;
    let checked = paths::at(name.span(), send);
    quote_spanned!(name.span()=> #checked(Self::#name(&#service, #(#arguments),*)).await)
}

/// All of it has the place of the type: one that cannot be taken is told once.
fn take(argument: &Argument, name: &Ident) -> TokenStream {
    let ty = &argument.ty;
    let span = ty.span();
    let request = Ident::new("arguments", span);
    let value = match &argument.source {
        Source::Path(parameter) => quote_spanned!(span=> #request.path::<#ty>(#parameter)?),
        Source::Query => quote_spanned!(span=> #request.query::<#ty>()?),
        Source::Body => quote_spanned!(span=> #request.json::<#ty>().await?),
        Source::Extract => {
            let state = paths::at(span, Arc);
            quote_spanned!(span=> #request.extract::<#ty, #state<Self>>(&service).await?)
        }
    };
    let check =
        place(argument).map(|(source, word)| quote!((&&#Probe::of(&#name)).__check().http(&#name, #source, #word)?;));
    quote!(let #name = #value; #check)
}

/// See `chassis::service::select`: the compiler chooses by the type, not the macro by its name.
fn answer(handler: &Handler, call: &TokenStream) -> TokenStream {
    let (value_span, error_span) = places(handler);
    let (outcome, value) = (Ident::new("outcome", error_span), Ident::new("value", value_span));
    let split = quote_spanned!(error_span=> (&&#Probe::of(&#outcome)).__outcome().split(#outcome)?);
    let write = quote_spanned!(value_span=> (&&&&#Probe::of(&#value)).__answer().write(#value));
    quote! {
        let #outcome = #call;
        let #value = #split;
        ::core::result::Result::<#Response, #Rejection>::Ok(#write)
    }
}

/// Where the compiler is to complain about what a handler returns, and about its error. Only the place is chosen by the name
/// `Result`: behind an alias both are the place of the whole type.
fn places(handler: &Handler) -> (Span, Span) {
    let Some(output) = &handler.output else { return (handler.name.span(), handler.name.span()) };
    let whole = output.span();
    let Type::Path(path) = &**output else { return (whole, whole) };
    let Some(PathArguments::AngleBracketed(arguments)) =
        path.path.segments.last().filter(|last| last.ident == "Result").map(|last| &last.arguments)
    else {
        return (whole, whole);
    };
    let mut inner = arguments.args.iter().map(Spanned::span);
    (inner.next().unwrap_or(whole), inner.next().unwrap_or(whole))
}

#[cfg(test)]
pub(crate) mod tests;

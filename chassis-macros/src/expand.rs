//! The wiring of a service: what a person would write by hand against `chassis::service`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::{
    fallback::{self, Mistakes},
    model::ServiceImpl,
    paths::{
        self, AnswerInfo, Arc, ArgumentInfo, Arguments, IntoRoutes, Method, Probe, Rejection, Response, RouteInfo,
        Router, Routes, Service, Source as SourceOf, State, never, send,
    },
    validate::{self, Argument, Route, Source},
};

/// `#[service]`.
pub(crate) fn service(keys: &TokenStream, item: TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    if !keys.is_empty() {
        mistakes.on(
            keys,
            "`#[service]` takes no keys: a policy goes to the route, `#[get(\"/orders\", timeout = \"2s\")]`",
        );
    }
    let Some(mut model) = ServiceImpl::read(item.clone(), &mut mistakes) else {
        return fallback::as_written(item, mistakes);
    };
    let routes = validate::routes(std::mem::take(&mut model.methods), &mut mistakes);
    // Handlers without a mistake keep their wiring, so that the others are all there is to read.
    let wiring = wiring(&model, &routes);
    let mut tokens = model.as_written;
    tokens.extend(wiring);
    tokens.extend(mistakes.into_tokens());
    tokens
}

fn wiring(model: &ServiceImpl, routes: &[Route]) -> TokenStream {
    let (generics, _, condition) = model.generics.split_for_impl();
    let self_ty = &model.self_ty;
    let infos = routes.iter().map(info);
    let handlers = routes.iter().map(handler);
    let (choices, descriptions) = (paths::choices(), paths::descriptions());
    quote! {
        #[automatically_derived]
        #[allow(clippy::all, clippy::pedantic)]
        impl #generics #Service for #self_ty #condition {
            fn describe() -> ::std::vec::Vec<#RouteInfo> {
                #[allow(unused_imports)]
                use #descriptions;
                let mut routes = ::std::vec::Vec::new();
                #(#infos)*
                routes
            }

            fn into_router(self: #Arc<Self>) -> #Router {
                #[allow(unused_imports)]
                use #choices;
                let router = #Router::new();
                #(#handlers)*
                router.with_state(self)
            }
        }

        #[automatically_derived]
        impl #generics #IntoRoutes for #self_ty #condition {
            fn into_routes(self) -> #Routes {
                #Routes::of(#Arc::new(self))
            }
        }
    }
}

fn info(route: &Route) -> TokenStream {
    let Route { attr, handler, doc, conditions, .. } = route;
    let (method, template, name) = (attr.method(), &attr.template, handler.to_string());
    let doc = (!doc.value().is_empty()).then(|| quote!(.doc(#doc)));
    let arguments = route.arguments.iter().filter_map(argument_info);
    let answer = answer_info(route);
    let policy = (!attr.policy.is_empty()).then(|| {
        let policy = attr.policy.expand();
        quote!(.policy(#policy))
    });
    quote! {
        #(#conditions)*
        routes.push({
            let info = #RouteInfo::new(#Method::#method, #template, #name) #doc #policy #(.argument(#arguments))*;
            #answer
        });
    }
}

fn argument_info(argument: &Argument) -> Option<TokenStream> {
    let (source, name) = source(argument)?;
    let ty = &argument.ty;
    Some(quote!(#ArgumentInfo::new(#SourceOf::#source, #name, (&&#Probe::<#ty>::new()).__schema())))
}

/// Where an argument comes from, and its name; an extractor says nothing of itself.
fn source(argument: &Argument) -> Option<(TokenStream, String)> {
    Some(match &argument.source {
        Source::Path(name) => (quote!(Path), name.clone()),
        Source::Query => (quote!(Query), argument.name.clone().unwrap_or_else(|| "query".to_owned())),
        Source::Body => (quote!(Body), argument.name.clone().unwrap_or_else(|| "body".to_owned())),
        Source::Extract => return None,
    })
}

/// The types are those of a call that is never made, so a return type need not be named.
fn answer_info(route: &Route) -> TokenStream {
    let handler = &route.handler;
    let arguments = route.arguments.iter().map(|argument| {
        let ty = &argument.ty;
        quote!(#never::<#ty>())
    });
    quote! {
        let (value, error) =
            (&&#Probe::output(|| async { Self::#handler(#never::<&Self>(), #(#arguments),*).await })).__parts();
        let (kind, body) = (&&&&value).__answer().kind(&value);
        info.answer(#AnswerInfo::new(kind, (&&body).__schema())).problems((&&error).__problems())
    }
}

/// One route: the arguments are taken from the request, the body last; the handler is called; its outcome is answered.
fn handler(route: &Route) -> TokenStream {
    let Route { attr, handler, arguments, conditions, .. } = route;
    let template = &attr.template;
    let routing = paths::routing(&attr.verb);
    let service = Ident::new("service", Span::mixed_site());
    let request = Ident::new("arguments", Span::mixed_site());
    let names: Vec<Ident> =
        (0..arguments.len()).map(|n| format_ident!("argument{n}", span = Span::mixed_site())).collect();

    let is_body = |argument: &Argument| matches!(argument.source, Source::Body);
    let takes = |body: bool| {
        let (service, request) = (&service, &request);
        arguments
            .iter()
            .zip(&names)
            .filter(move |(argument, _)| is_body(argument) == body)
            .map(move |(argument, name)| take(argument, name, service, request))
    };
    let (before, last) = (takes(false), takes(true));
    let has_body = arguments.iter().any(is_body);
    let mutable = arguments.iter().any(|argument| matches!(argument.source, Source::Extract)).then(|| quote!(mut));
    // Nothing of the request is kept while the handler works, except what it asked for.
    let done = (!has_body).then(|| quote!(::core::mem::drop(#request);));

    let call = quote_spanned!(handler.span()=> #send(Self::#handler(&#service, #(#names),*)));
    let answer = answer(route, &call);
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

fn take(argument: &Argument, name: &Ident, service: &Ident, request: &Ident) -> TokenStream {
    let ty = &argument.ty;
    let value = match &argument.source {
        Source::Path(parameter) => quote_spanned!(ty.span()=> #request.path::<#ty>(#parameter)?),
        Source::Query => quote_spanned!(ty.span()=> #request.query::<#ty>()?),
        Source::Body => quote_spanned!(ty.span()=> #request.json::<#ty>().await?),
        Source::Extract => quote_spanned!(ty.span()=> #request.extract::<#ty, _>(&#service).await?),
    };
    let check = check(argument, name);
    quote!(let #name = #value; #check)
}

/// The rules of the type, when it has some.
fn check(argument: &Argument, name: &Ident) -> Option<TokenStream> {
    let (source, parameter) = source(argument)?;
    Some(quote_spanned!(argument.ty.span()=>
        (&&#Probe::of(&#name)).__check().http(&#name, #SourceOf::#source, #parameter)?;
    ))
}

/// See `chassis::service::select`: the compiler chooses by the type, not the macro by its name.
fn answer(route: &Route, call: &TokenStream) -> TokenStream {
    let span = route.output.as_ref().map_or(Span::call_site(), |output| output.span());
    // An error about what these hold belongs to the return type.
    let (outcome, value) = (Ident::new("outcome", span), Ident::new("value", span));
    let split = quote_spanned!(span=> (&&#Probe::of(&#outcome)).__outcome().split(#outcome)?);
    let write = quote_spanned!(span=> (&&&&#Probe::of(&#value)).__answer().write(#value));
    quote! {
        let #outcome = #call.await;
        let #value = #split;
        ::core::result::Result::<#Response, #Rejection>::Ok(#write)
    }
}

#[cfg(test)]
pub(crate) mod tests;

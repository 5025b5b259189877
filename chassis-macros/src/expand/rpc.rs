//! The wiring of the methods that are served over gRPC.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Path, Type, ext::IdentExt, spanned::Spanned};

use super::{call, common, names, parts, places};
use crate::{
    block::Block,
    paths::{
        self, Arc, ArgumentInfo, FieldProbe, Fields, GrpcRoutes, MessageProbe, Probe, Problem, RouteInfo,
        Source as SourceOf, shape,
    },
    validate::{Handler, Part, Rpc},
};

/// `Service::into_grpc`, when the block names the trait.
pub(super) fn into_grpc(block: &Block, handlers: &[Handler]) -> Option<TokenStream> {
    let server = block.grpc.as_ref()?;
    let (choices, service_name) = (paths::rpc_choices(), Block::service_name(server));
    let methods = handlers
        .iter()
        .filter_map(|handler| Some(method(handler, handler.rpc.as_ref()?, block, server, &service_name)));
    Some(quote! {
        fn into_grpc(self: #Arc<Self>) -> ::core::option::Option<#GrpcRoutes> {
            #[allow(unused_imports)]
            use #choices;
            let routes = #GrpcRoutes::new(#service_name);
            #(#methods)*
            ::core::option::Option::Some(routes)
        }
    })
}

/// One rpc: the message's fields go to the arguments, all that is wrong with them is told at once; the handler is called;
/// its outcome becomes the answer's message.
fn method(handler: &Handler, rpc: &Rpc, block: &Block, server: &Path, service_name: &Path) -> TokenStream {
    let Handler { conditions, types: arguments, .. } = handler;
    let [info, types, service, message, fields] =
        ["info", "types", "service", "message", "fields"].map(|name| Ident::new(name, Span::mixed_site()));
    let described = describe(handler, rpc, block, service_name);
    let names = names(arguments);

    // A message without such a method is told at the rpc's name, or at `rpc`.
    let method = &rpc.method;
    let shape_of = quote_spanned!(method.span()=> #shape(<dyn #server>::#method));
    let taken = (!names.is_empty()).then(|| {
        let has_message = rpc.arguments.iter().any(|part| matches!(part, Part::Message));
        // Fields first: the whole message is used up.
        let takes = |whole: bool| {
            let (names, message, fields) = (&names, &message, &fields);
            let parts = rpc.arguments.iter().zip(names).zip(arguments);
            parts
                .filter(move |((part, _), _)| matches!(part, Part::Message) == whole)
                .map(move |((part, name), ty)| take(part, name, ty, message, fields, has_message))
        };
        let (by_name, whole) = (takes(false), takes(true));
        let checks = rpc.arguments.iter().zip(&names).map(|(part, name)| {
            let word = part.word();
            quote!((&&#Probe::of(&#name)).__check().rpc(&#name, #word)?;)
        });
        quote! {
            let mut #fields = #Fields::new();
            #(#by_name)*
            #(#whole)*
            let (#(::core::option::Option::Some(#names),)*) = (#(#names,)*) else {
                return ::core::result::Result::Err(#fields.into_problem());
            };
            #(#checks)*
        }
    });
    let message = if names.is_empty() { quote!(_) } else { message.to_token_stream() };

    let call = call(handler, &service, &names);
    let (value_span, error_span) = places(handler);
    let (outcome, value) = (Ident::new("outcome", error_span), Ident::new("value", value_span));
    let tell = quote_spanned!(error_span=> (&&#Probe::of(&#outcome)).__outcome().tell(#outcome)?);
    let write = quote_spanned!(value_span=> (&&&#MessageProbe::of(&#value, #types)).__message().write(#value));
    quote! {
        #(#conditions)*
        let routes = {
            let #info = #described;
            let #types = #shape_of;
            let #service = self.clone();
            routes.unary(#info, #types, move |#message| {
                let #service = #service.clone();
                async move {
                    #taken
                    let #outcome = #call;
                    let #value = #tell;
                    ::core::result::Result::<_, #Problem>::Ok(#write)
                }
            })
        };
    }
}

impl Part {
    /// The name of the field; empty for the message.
    fn word(&self) -> String {
        match self {
            Self::Field(field) => field.unraw().to_string(),
            Self::Message => String::new(),
        }
    }
}

fn take(part: &Part, name: &Ident, ty: &Type, message: &Ident, fields: &Ident, has_message: bool) -> TokenStream {
    let word = part.word();
    let value = match part {
        Part::Message => quote!(#message),
        // No such field is the compiler's own error, at the argument's name.
        Part::Field(field) if has_message => quote!(::core::clone::Clone::clone(&#message.#field)),
        Part::Field(field) => quote!(#message.#field),
    };
    let field = Ident::new("field", ty.span());
    let take = quote_spanned!(ty.span()=> (&&&&#FieldProbe::<_, #ty>::of(&#field)).__field().take(#word, #field, &mut #fields));
    quote! {
        let #field = #value;
        let #name = #take;
    }
}

fn describe(handler: &Handler, rpc: &Rpc, block: &Block, service_name: &Path) -> TokenStream {
    let (method, name, common) = (rpc.name.to_string(), handler.name.to_string(), common(handler, block));
    let arguments = rpc.arguments.iter().zip(&handler.types).map(|(part, ty)| {
        let (source, name) = match part {
            Part::Field(_) => (quote!(Field), part.word()),
            Part::Message => (quote!(Message), "message".to_owned()),
        };
        quote!(#ArgumentInfo::new(#SourceOf::#source, #name, (&&#Probe::<#ty>::new()).__schema()))
    });
    let parts = parts(handler);
    quote! {
        {
            let (_, error) = #parts;
            #RouteInfo::rpc(#service_name, #method, #name) #common #(.argument(#arguments))* .problems((&&error).__problems())
        }
    }
}

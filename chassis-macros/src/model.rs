//! The impl block as tokens: what was written, and the methods that carry a route.
//!
//! Only the header of the block, and the signatures of methods with a route, are parsed. Bodies and all other items stay
//! raw tokens: a half-typed body keeps its own error, and an editor can still complete inside it.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::{
    Attribute, Generics, Signature, Token, Type, Visibility,
    parse::{ParseStream, Parser},
};

use crate::{attr::RouteAttr, fallback::Mistakes};

/// The impl block of a service.
pub(crate) struct ServiceImpl {
    /// The block as the user wrote it, without the attributes that are ours.
    pub(crate) as_written: TokenStream,
    pub(crate) generics: Generics,
    pub(crate) self_ty: Type,
    /// The methods that carry a route.
    pub(crate) methods: Vec<Method>,
}

/// A method that carries a route.
pub(crate) struct Method {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) route: RouteAttr,
    pub(crate) signature: Signature,
}

impl ServiceImpl {
    /// Reads the block; `None` when it is no inherent impl block at all. Whatever is wrong is noted.
    pub(crate) fn read(item: TokenStream, mistakes: &mut Mistakes) -> Option<Self> {
        let mut tokens: Vec<TokenTree> = item.into_iter().collect();
        let Some(TokenTree::Group(body)) = tokens.pop() else {
            mistakes.on(tokens.into_iter().collect::<TokenStream>(), "expected an impl block: `impl Orders { … }`");
            return None;
        };
        let header: TokenStream = tokens.into_iter().collect();
        let (generics, self_ty) = mistakes.note(read_header.parse2(header.clone()))?;

        let mut content = TokenStream::new();
        let mut methods = Vec::new();
        for item in split_items(body.stream()) {
            methods.extend(item.read(mistakes));
            content.extend(item.without_ours());
        }
        let mut as_written = header;
        as_written.extend([TokenTree::from(regroup(&body, content))]);
        Some(Self { as_written, generics, self_ty, methods })
    }
}

fn read_header(input: ParseStream<'_>) -> syn::Result<(Generics, Type)> {
    input.call(Attribute::parse_outer)?;
    if !input.peek(Token![impl]) {
        return Err(input.error("`#[service]` goes on the impl block that holds the handlers: `impl Orders { … }`"));
    }
    input.parse::<Token![impl]>()?;
    let mut generics = if input.peek(Token![<]) { input.parse()? } else { Generics::default() };
    let self_ty = input.parse()?;
    if input.peek(Token![for]) {
        return Err(input.error("expected an impl block of the type itself, found one of a trait"));
    }
    generics.where_clause = input.parse()?;
    Ok((generics, self_ty))
}

/// One item of the block.
struct Item {
    /// Pairs of `#` and brackets.
    attributes: Vec<[TokenTree; 2]>,
    rest: Vec<TokenTree>,
}

impl Item {
    fn is_route(attribute: &[TokenTree; 2]) -> bool {
        first_ident(&attribute[1]).is_some_and(|name| RouteAttr::is_verb(&name))
    }

    /// The method, if the item carries a route and can be understood.
    fn read(&self, mistakes: &mut Mistakes) -> Option<Method> {
        let mut routes = self.attributes.iter().filter(|attribute| Self::is_route(attribute));
        routes.next()?;
        if let Some(second) = routes.next() {
            mistakes.on(
                second.iter().cloned().collect::<TokenStream>(),
                "a handler has one route: write a second method that calls the first",
            );
        }
        let attributes: TokenStream = self.attributes.iter().flatten().cloned().collect();
        let attributes = mistakes.note(Attribute::parse_outer.parse2(attributes))?;
        let route =
            attributes.iter().find(|a| a.path().get_ident().is_some_and(|name| RouteAttr::is_verb(&name.to_string())));
        let route = RouteAttr::read(route?, mistakes);
        let signature = mistakes.note(read_signature.parse2(self.signature()));
        Some(Method { attributes, route: route?, signature: signature? })
    }

    /// The tokens before the body.
    fn signature(&self) -> TokenStream {
        let end = match self.rest.last() {
            Some(last) if is_end(last) => self.rest.len() - 1,
            _ => self.rest.len(),
        };
        self.rest[..end].iter().cloned().collect()
    }

    /// The item as the user wrote it, without the attributes that are ours.
    fn without_ours(&self) -> TokenStream {
        let is_handler = self.attributes.iter().any(Self::is_route);
        let attributes = self.attributes.iter().filter(|attribute| !Self::is_route(attribute)).flatten().cloned();
        // The parentheses of `pub(crate)` come before `fn`.
        let name = self.rest.iter().position(|token| matches!(token, TokenTree::Ident(word) if word == "fn"));
        let rest = self.rest.iter().cloned().enumerate().map(move |(at, token)| match token {
            TokenTree::Group(group)
                if is_handler && name.is_some_and(|name| at > name) && group.delimiter() == Delimiter::Parenthesis =>
            {
                TokenTree::from(regroup(&group, without_extract(group.stream())))
            }
            token => token,
        });
        attributes.chain(rest).collect()
    }
}

fn read_signature(input: ParseStream<'_>) -> syn::Result<Signature> {
    input.parse::<Visibility>()?;
    input.parse()
}

/// The arguments without `#[extract]`.
fn without_extract(arguments: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    for token in arguments {
        let is_ours = matches!(kept.last(), Some(TokenTree::Punct(hash)) if hash.as_char() == '#')
            && first_ident(&token).is_some_and(|name| name == "extract");
        if is_ours {
            kept.pop();
        } else {
            kept.push(token);
        }
    }
    kept.into_iter().collect()
}

/// The first identifier in brackets: the attribute's name.
fn first_ident(brackets: &TokenTree) -> Option<String> {
    match brackets {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
            match group.stream().into_iter().next()? {
                TokenTree::Ident(name) => Some(name.to_string()),
                _ => None,
            }
        }
        _ => None,
    }
}

fn regroup(group: &Group, content: TokenStream) -> Group {
    let mut copy = Group::new(group.delimiter(), content);
    copy.set_span(group.span());
    copy
}

fn is_end(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    }
}

/// Cuts the content of the block into its items: an item ends with `;` or with its braces.
fn split_items(content: TokenStream) -> Vec<Item> {
    let mut items = Vec::new();
    let mut tokens = content.into_iter().peekable();
    while tokens.peek().is_some() {
        let mut item = Item { attributes: Vec::new(), rest: Vec::new() };
        while let Some(hash) = tokens.next_if(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == '#')) {
            match tokens.next() {
                Some(brackets) => item.attributes.push([hash, brackets]),
                None => item.rest.push(hash),
            }
        }
        let mut is_fn = false;
        while let Some(token) = tokens.next() {
            is_fn |= matches!(&token, TokenTree::Ident(word) if word == "fn");
            let next = match tokens.peek() {
                Some(TokenTree::Punct(next)) => next.as_char(),
                _ => ' ',
            };
            let ends = match &token {
                // Braces of a constant inside a type, `Foo<{ N }>`, or inside a value, `const X: T = T { … };`.
                TokenTree::Group(_) => {
                    is_end(&token) && !matches!(next, '>' | ',') && (is_fn || !matches!(next, ';' | '.'))
                }
                _ => is_end(&token),
            };
            item.rest.push(token);
            if ends {
                break;
            }
        }
        items.push(item);
    }
    items
}

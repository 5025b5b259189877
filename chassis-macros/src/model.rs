//! The impl block as tokens: what was written, and the methods that carry a route or an rpc.
//!
//! Only the header of the block, and the signatures of these methods, are parsed. Bodies and all other items stay
//! raw tokens: a half-typed body keeps its own error, and an editor can still complete inside it.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::{
    Attribute, Generics, Signature, Token, Type, Visibility,
    parse::{ParseStream, Parser},
};

use crate::{
    attr::{Marks, RouteAttr, RpcAttr},
    fallback::Mistakes,
};

/// The impl block of a service.
pub(crate) struct ServiceImpl {
    /// The block as the user wrote it, without the attributes that are ours.
    pub(crate) as_written: TokenStream,
    pub(crate) generics: Generics,
    pub(crate) self_ty: Type,
    /// The methods that carry a route or an rpc.
    pub(crate) methods: Vec<Method>,
    /// Whether any method carries an rpc, even one that cannot be understood.
    pub(crate) has_rpc: bool,
}

/// A method that carries a route, an rpc or both.
pub(crate) struct Method {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) route: Option<RouteAttr>,
    pub(crate) rpc: Option<RpcAttr>,
    pub(crate) signature: Signature,
    /// Whether its attributes could be read; the mistake is noted otherwise.
    pub(crate) is_whole: bool,
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
        let mut has_rpc = false;
        for item in split_items(body.stream()) {
            has_rpc |= item.ours().any(|(name, _)| RpcAttr::is_rpc(&name));
            methods.extend(item.read(mistakes));
            content.extend(item.without_ours());
        }
        let mut as_written = header;
        as_written.extend([TokenTree::from(regroup(&body, content))]);
        Some(Self { as_written, generics, self_ty, methods, has_rpc })
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
        return Err(
            input.error("found the impl block of a trait, expected one of the type itself: `impl Orders { … }`")
        );
    }
    generics.where_clause = input.parse()?;
    Ok((generics, self_ty))
}

/// One item of the block.
pub(crate) struct Item {
    /// Pairs of `#` and brackets.
    pub(crate) attributes: Vec<[TokenTree; 2]>,
    pub(crate) rest: Vec<TokenTree>,
}

impl Item {
    /// The name of an attribute that is ours.
    fn our_name(attribute: &[TokenTree; 2]) -> Option<String> {
        attribute_name(&attribute[1]).filter(|name| RouteAttr::is_verb(name) || RpcAttr::is_rpc(name))
    }

    /// Whether an attribute is a route.
    pub(crate) fn is_route(attribute: &[TokenTree; 2]) -> bool {
        attribute_name(&attribute[1]).is_some_and(|name| RouteAttr::is_verb(&name))
    }

    /// The attributes that are ours, with their names.
    fn ours(&self) -> impl Iterator<Item = (String, TokenStream)> {
        self.attributes
            .iter()
            .filter_map(|attribute| Some((Self::our_name(attribute)?, attribute.iter().cloned().collect())))
    }

    /// The method, if the item carries a route or an rpc and can be understood.
    fn read(&self, mistakes: &mut Mistakes) -> Option<Method> {
        let (rpcs, routes): (Vec<_>, Vec<_>) = self.ours().partition(|(name, _)| RpcAttr::is_rpc(name));
        if rpcs.is_empty() && routes.is_empty() {
            return None;
        }
        for (_, second) in routes.iter().skip(1) {
            mistakes.on(second, "a handler has one route: write a second method that calls the first");
        }
        for (_, second) in rpcs.iter().skip(1) {
            mistakes.on(second, "a handler is one rpc: write a second method that calls the first");
        }
        let attributes: TokenStream = self.attributes.iter().flatten().cloned().collect();
        let attributes = mistakes.note(Attribute::parse_outer.parse2(attributes))?;
        let of = |(_, tokens): &(String, TokenStream)| Attribute::parse_outer.parse2(tokens.clone()).ok()?.pop();
        let route = routes.first().and_then(of).map(|attribute| RouteAttr::read(&attribute, mistakes));
        let rpc = rpcs.first().and_then(of).map(|attribute| RpcAttr::read(&attribute, mistakes));
        let Some(signature) = self.signature() else {
            let name = routes.iter().chain(&rpcs).map(|(name, _)| name.as_str()).next().unwrap_or_default();
            mistakes.on(
                self.rest.first().map_or_else(TokenStream::new, |token| token.clone().into()),
                format!("`#[{name}]` goes on a method: `async fn order(&self) -> …`"),
            );
            return None;
        };
        let signature = mistakes.note(read_signature.parse2(signature));
        let is_whole = !matches!(route, Some(None)) && !matches!(rpc, Some(None));
        Some(Method { attributes, route: route.flatten(), rpc: rpc.flatten(), signature: signature?, is_whole })
    }

    /// The tokens before the body; `None` when it is no method.
    pub(crate) fn signature(&self) -> Option<TokenStream> {
        let end = match self.rest.last() {
            Some(last) if is_end(last) => self.rest.len() - 1,
            _ => self.rest.len(),
        };
        let signature = &self.rest[..end];
        signature.iter().any(is_fn).then(|| signature.iter().cloned().collect())
    }

    /// The item as the user wrote it, without the attributes that are ours.
    fn without_ours(&self) -> TokenStream {
        let is_handler = self.ours().next().is_some();
        let foreign = |attribute: &&[TokenTree; 2]| Self::our_name(attribute).is_none();
        let attributes = self.attributes.iter().filter(foreign).flatten().cloned();
        // The parentheses of `pub(crate)` come before `fn`.
        let name = self.rest.iter().position(is_fn);
        let rest = self.rest.iter().cloned().enumerate().map(move |(at, token)| match token {
            TokenTree::Group(group)
                if is_handler && name.is_some_and(|name| at > name) && group.delimiter() == Delimiter::Parenthesis =>
            {
                TokenTree::from(regroup(&group, without_marks(group.stream())))
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

/// The arguments without `#[extract]` and `#[message]`.
fn without_marks(arguments: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    for token in arguments {
        let is_ours = matches!(kept.last(), Some(TokenTree::Punct(hash)) if hash.as_char() == '#')
            && attribute_name(&token).is_some_and(|name| Marks::is_ours(&name));
        if is_ours {
            kept.pop();
        } else {
            kept.push(token);
        }
    }
    kept.into_iter().collect()
}

/// The name of the attribute in brackets: `get` of `[get("/orders")]` and of `[chassis::service::get("/orders")]`.
pub(crate) fn attribute_name(brackets: &TokenTree) -> Option<String> {
    let TokenTree::Group(group) = brackets else { return None };
    if group.delimiter() != Delimiter::Bracket {
        return None;
    }
    let mut name = None;
    for token in group.stream() {
        match token {
            TokenTree::Ident(word) => {
                let word = word.to_string();
                if name.as_ref().is_some_and(|first| first != "chassis" && first != "service") {
                    return None;
                }
                name = Some(word);
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => {}
            _ => break,
        }
    }
    name
}

fn is_fn(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(word) if word == "fn")
}

pub(crate) fn regroup(group: &Group, content: TokenStream) -> Group {
    let mut copy = Group::new(group.delimiter(), content);
    copy.set_span(group.span());
    copy
}

fn is_end(token: &TokenTree) -> bool {
    match token {
        // A body that a `macro_rules!` macro passed on comes in a group that nobody sees.
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
            let mut inner = group.stream().into_iter();
            inner.next().is_some_and(|token| is_end(&token)) && inner.next().is_none()
        }
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    }
}

/// Cuts the content of the block into its items: an item ends with `;` or with its braces.
pub(crate) fn split_items(content: TokenStream) -> Vec<Item> {
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
        let mut is_method = false;
        while let Some(token) = tokens.next() {
            is_method |= is_fn(&token);
            let next = match tokens.peek() {
                Some(TokenTree::Punct(next)) => next.as_char(),
                _ => ' ',
            };
            let ends = match &token {
                // Braces of a constant inside a type, `Foo<{ N }>`, or inside a value, `const X: T = T { … };`.
                TokenTree::Group(_) => {
                    is_end(&token) && !matches!(next, '>' | ',') && (is_method || !matches!(next, ';' | '.'))
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

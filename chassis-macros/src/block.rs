//! The keys of the block as a whole: `#[service(path = "/shop", version = "v1")]`.

use proc_macro2::TokenStream;
use quote::format_ident;
use syn::{LitStr, Path, PathArguments};

use crate::{
    fallback::Mistakes,
    keys::{self, Key, Set::Value},
    model::Method,
    template,
    validate::argument_name,
    value,
};

/// The keys of a service: a new one is a row here, a field in [`Block`], and what uses it.
const BLOCK_KEYS: [Key<Block>; 4] = [
    Key {
        name: "path",
        example: "path = \"/shop\"",
        set: Value(|block, value| value::text(value).map(|path| block.path = Some(path))),
    },
    Key {
        name: "version",
        example: "version = \"v1\"",
        set: Value(|block, value| value::text(value).map(|version| block.version = Some(version))),
    },
    Key {
        name: "tag",
        example: "tag = \"orders\"",
        set: Value(|block, value| value::text(value).map(|tag| block.tag = Some(tag))),
    },
    Key {
        name: "grpc",
        example: "grpc = proto::orders_server::Orders",
        set: Value(|block, value| grpc(value).map(|path| block.grpc = Some(path))),
    },
];

/// What holds for every handler of the block.
#[derive(Default)]
pub(crate) struct Block {
    /// Stands in front of every path.
    path: Option<LitStr>,
    /// A segment in front of that.
    version: Option<LitStr>,
    /// A group of the document that every route belongs to.
    pub(crate) tag: Option<LitStr>,
    /// The trait that tonic generates.
    pub(crate) grpc: Option<Path>,
    /// Whether `grpc` is there at all, be it right or not.
    pub(crate) has_grpc: bool,
    /// The parameters in `path`.
    pub(crate) parameters: Vec<String>,
}

impl Block {
    /// Reads the keys; whatever is wrong is noted, and left out.
    pub(crate) fn read(tokens: TokenStream, mistakes: &mut Mistakes) -> Self {
        let mut block = Self::default();
        let entries = keys::entries(tokens);
        block.has_grpc = entries.iter().any(|entry| entry.to_string().starts_with("grpc"));
        keys::read(entries, &BLOCK_KEYS, &mut block, mistakes);
        block.check_front(mistakes);
        if let Some(path) = &block.path {
            // It was checked above.
            block.parameters = template::parameters(path, &mut Mistakes::default());
        }
        block
    }

    /// What stands in front of every path, and nothing else: of a client.
    pub(crate) fn in_front(path: Option<LitStr>, version: Option<LitStr>, mistakes: &mut Mistakes) -> Self {
        let mut block = Self { path, version, ..Self::default() };
        block.check_front(mistakes);
        block
    }

    fn check_front(&mut self, mistakes: &mut Mistakes) {
        self.version = self.version.take().filter(|version| is_segment(version, mistakes));
        self.path = self.path.take().filter(|path| is_prefix(path, self.version.as_ref(), mistakes));
    }

    /// The path as callers see it: version, prefix and the route's own template.
    pub(crate) fn full_path(&self, template: &LitStr) -> LitStr {
        let version = self.version.as_ref().map(|version| format!("/{}", version.value())).unwrap_or_default();
        let prefix = format!("{version}{}", self.path.as_ref().map(LitStr::value).unwrap_or_default());
        let own = template.value();
        // `#[get("/")]` under `/orders` is `/orders`.
        let own = if own == "/" && !prefix.is_empty() { "" } else { &own };
        LitStr::new(&format!("{prefix}{own}"), template.span())
    }

    /// What is wrong with the keys and the methods together.
    pub(crate) fn check(&mut self, methods: &[Method], has_rpc: bool, mistakes: &mut Mistakes) {
        let is_taken = |parameter: &String| {
            let mut handlers = methods.iter().filter(|method| method.route.is_some()).peekable();
            handlers.peek().is_none()
                || handlers.any(|method| {
                    let mut names = method.signature.inputs.iter().filter_map(argument_name);
                    names.any(|name| name == *parameter)
                })
        };
        let (taken, lost) = std::mem::take(&mut self.parameters).into_iter().partition(is_taken);
        self.parameters = taken;
        for name in lost {
            let name: String = name;
            mistakes.on(
                &self.path,
                format!("no handler takes `{{{name}}}`: add `{name}: …` to each that has a route, or take it out of the path"),
            );
        }
        if let (Some(path), false) = (&self.grpc, has_rpc) {
            mistakes.on(path, "no method of this block is an rpc: mark one with `#[rpc]`, or remove `grpc`");
        }
        let first_rpc = methods.iter().find_map(|method| method.rpc.as_ref());
        if let (Some(rpc), false) = (first_rpc, self.has_grpc) {
            mistakes.on(
                &rpc.word,
                "`#[rpc]` needs the trait that tonic generates: write `#[service(grpc = proto::orders_server::Orders)]`",
            );
        }
    }

    /// The constant beside the trait that holds the service's full name.
    pub(crate) fn service_name(path: &Path) -> Path {
        let mut path = path.clone();
        if let Some(last) = path.segments.last_mut() {
            last.ident = format_ident!("SERVICE_NAME", span = last.ident.span());
            last.arguments = PathArguments::None;
        }
        path
    }
}

fn grpc(value: &TokenStream) -> syn::Result<Path> {
    let expected =
        "expected the trait that tonic generates, with its module: write `grpc = proto::orders_server::Orders`";
    let path = syn::parse2::<Path>(value.clone());
    match path {
        // The constant with the service's name is looked for in the same module.
        Ok(path) if path.segments.len() > 1 => Ok(path),
        _ => Err(syn::Error::new_spanned(value, format!("found `{}`, {expected}", crate::words::plain(value)))),
    }
}

fn is_segment(version: &LitStr, mistakes: &mut Mistakes) -> bool {
    let text = version.value();
    let is_segment = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    if !is_segment {
        let bare: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c)).collect();
        let bare = if bare.is_empty() { "v1" } else { &bare };
        mistakes
            .on(version, format!("found {text:?}, expected one segment of a path, without slashes: write {bare:?}"));
    }
    is_segment
}

fn is_prefix(path: &LitStr, version: Option<&LitStr>, mistakes: &mut Mistakes) -> bool {
    let text = path.value();
    let mut own = Mistakes::default();
    if text == "/" {
        own.on(path, "found \"/\", which adds nothing: remove `path`");
    } else if text.starts_with('/') && text.ends_with('/') {
        let bare = text.trim_end_matches('/');
        own.on(
            path,
            format!("found {text:?}, expected no slash at the end, for every route brings its own: write {bare:?}"),
        );
    } else if text.contains("{*") {
        own.on(path, "the rest of a path cannot come before the routes' own paths: name one segment, `{tenant}`");
    } else {
        template::parameters(path, &mut own);
    }
    if let Some(version) = version
        && text.split('/').nth(1) == Some(&version.value())
    {
        own.on(path, format!("`version` puts {:?} in front already: take it out of the path", version.value()));
    }
    let is_right = own.is_empty();
    mistakes.extend(own);
    is_right
}

//! What is asked of a route beyond its handler: the keys after the path.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::LitStr;

use crate::{
    fallback::Mistakes,
    keys::{
        Key,
        Set::{Flag, Value},
    },
    paths::{Deprecation, RoutePolicy},
    value::{self, Date},
};

/// The policy keys: a new one is a row here, a field in [`Policy`], a line in [`Policy::expand`], and its twin in
/// `chassis::service::RoutePolicy`.
pub(crate) const POLICY_KEYS: [Key<Policy>; 7] = [
    Key {
        name: "timeout",
        example: "timeout = \"2s\"",
        set: Value(|policy, value| value::duration(value).map(|timeout| policy.timeout = Some(timeout))),
    },
    Key {
        name: "concurrency",
        example: "concurrency = 10",
        set: Value(|policy, value| value::count(value).map(|requests| policy.concurrency = Some(requests))),
    },
    Key {
        name: "body_limit",
        example: "body_limit = \"64KiB\"",
        set: Value(|policy, value| value::size(value).map(|bytes| policy.body_limit = Some(bytes))),
    },
    Key { name: "idempotent", example: "idempotent", set: Flag(|policy| policy.idempotent = true) },
    Key {
        name: "deprecated",
        example: "deprecated = \"2026-06-30\"",
        set: Value(|policy, value| value::date(value).map(|since| policy.deprecated = Some(since))),
    },
    Key {
        name: "sunset",
        example: "sunset = \"2027-06-30\"",
        set: Value(|policy, value| value::date(value).map(|until| policy.sunset = Some(until))),
    },
    Key {
        name: "tags",
        example: "tags = [\"orders\"]",
        set: Value(|policy, value| value::texts(value).map(|tags| policy.tags = tags)),
    },
];

/// What is asked of a route beyond its handler.
#[derive(Default)]
pub(crate) struct Policy {
    timeout: Option<Duration>,
    concurrency: Option<u32>,
    body_limit: Option<u64>,
    idempotent: bool,
    deprecated: Option<Date>,
    sunset: Option<Date>,
    /// The groups of the document that the route belongs to: nothing is enforced.
    pub(crate) tags: Vec<LitStr>,
}

impl Policy {
    /// The policy as a `RoutePolicy`; `None` when nothing is asked.
    pub(crate) fn expand(&self) -> Option<TokenStream> {
        let deprecated = self.deprecated.as_ref().map(|Date { seconds: since, .. }| {
            let sunset = self.sunset.as_ref().map(|Date { seconds, .. }| quote!(.sunset(#seconds)));
            quote!(.deprecated(#Deprecation::since(#since) #sunset))
        });
        let asked = [
            self.timeout.map(value::expand_duration).map(|timeout| quote!(.timeout(#timeout))),
            self.concurrency.map(|requests| quote!(.concurrency(#requests))),
            self.body_limit.map(|bytes| quote!(.body_limit(#bytes))),
            self.idempotent.then(|| quote!(.idempotent())),
            deprecated,
        ];
        let asked: TokenStream = asked.into_iter().flatten().collect();
        (!asked.is_empty()).then(|| quote!(#RoutePolicy::new() #asked))
    }

    /// What is wrong with the keys together.
    pub(crate) fn check(&self, has_deprecated: bool, mistakes: &mut Mistakes) {
        match (&self.deprecated, &self.sunset) {
            (None, Some(sunset)) if !has_deprecated => mistakes.on(
                &sunset.text,
                "a route that will be gone is deprecated before: add `deprecated = \"…\"` with the date since when",
            ),
            (Some(since), Some(sunset)) if sunset.seconds < since.seconds => mistakes.on(
                &sunset.text,
                format!("found {:?}, which is before `deprecated = {:?}`", sunset.text.value(), since.text.value()),
            ),
            _ => {}
        }
    }
}

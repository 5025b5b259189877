//! Where a handler's arguments come from, and what is answered when they do not fit.

mod by_name;
mod json;
mod mistakes;
mod path;
mod query;
mod rejection;
mod stand_in;
mod text;
mod untyped;
mod whole;

use std::cell::RefCell;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
    response::IntoResponse,
};
use http::request::Parts;
use serde::de::DeserializeOwned;

pub use rejection::Rejection;
pub(super) use {
    query::MAX_MISTAKES,
    rejection::{invalid, refused},
};

/// A type that an argument of a handler may have: whatever `serde` can make of a request.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a path, a query or a body",
    label = "expected a `serde::Deserialize` that owns its data, or an argument that is marked `#[extract]`",
    note = "if `{Self}` is a type of your own, add `#[derive(serde::Deserialize)]` to it",
    note = "if it is an axum extractor, such as `HeaderMap`, `Method` or `ConnectInfo<SocketAddr>`, mark the argument: `#[extract] headers: HeaderMap`",
    note = "what a handler shares is `self`: instead of `State<T>` keep the `T` in a field",
    note = "the whole `Request`, and what else takes the body away, has its place on an `axum::Router` that is mounted beside"
)]
pub trait Argument: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Argument for T {}

/// A request, to take a handler's arguments from. An axum extractor, and the last one of its handler.
#[derive(Debug)]
pub struct Arguments {
    /// axum hands out the parameters of the path for a mutable reference only, and changes nothing.
    parts: RefCell<Parts>,
    body: Body,
}

impl<S: Send + Sync> FromRequest<S> for Arguments {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        Ok(Self { parts: RefCell::new(parts), body })
    }
}

impl Arguments {
    /// A parameter of the path, percent-decoded: `%2F` is a slash inside of it. A segment that is empty is none for an
    /// `Option`, and a mistake otherwise.
    ///
    /// # Errors
    ///
    /// 400 `invalid_request` with the parameter's name, what was found and what was expected.
    pub fn path<T: Argument>(&self, name: &'static str) -> Result<T, Rejection> {
        path::read(&mut self.parts.borrow_mut(), name)
    }

    /// The query as a whole: a struct whose fields are the parameters, a map, or an `Option` of one.
    ///
    /// A `Vec` takes a parameter as often as it is given; for anything else twice is a mistake. A field that is an
    /// `Option` may be absent, and `limit=` is none when its type cannot be read from an empty text.
    ///
    /// # Errors
    ///
    /// 400 `invalid_request` with the names of the parameters.
    pub fn query<T: Argument>(&self) -> Result<T, Rejection> {
        query::read(self.parts.borrow().uri.query().unwrap_or_default())
    }

    /// Anything that implements axum's [`FromRequestParts`].
    ///
    /// # Errors
    ///
    /// The extractor's own rejection; one in plain text, as axum's are, becomes a problem of the same status
    /// and headers.
    pub async fn extract<T: FromRequestParts<S>, S: Send + Sync>(&mut self, state: &S) -> Result<T, Rejection> {
        match T::from_request_parts(self.parts.get_mut(), state).await {
            Ok(value) => Ok(value),
            Err(rejection) => Err(Rejection::adopt(rejection.into_response()).await),
        }
    }

    /// The body as JSON. It comes last, as it uses the request up.
    ///
    /// The body is limited as axum's extractors limit it, by `DefaultBodyLimit`, or by a layer in front. An empty body is
    /// none for an `Option`, as `null` is.
    ///
    /// # Errors
    ///
    /// `payload_too_large` (413), or `invalid_request`: 415 when the content type is not JSON or the body is
    /// compressed, 400 when the body is not JSON or did not arrive whole, 422 when it is JSON that does not fit, with
    /// the places as violations.
    pub async fn json<T: Argument>(self) -> Result<T, Rejection> {
        json::read(self.parts.into_inner(), self.body).await
    }
}

#[cfg(test)]
mod tests;

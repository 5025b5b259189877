//! What is kept of a request, so that it can be sent again.

use http::{Extensions, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::{CallInfo, RequestBody, balance::Tried};

/// A request that may be sent again; most are not. So it is kept in the least that makes it anew: headers in a row instead of
/// a map, and of the extensions what is known of the call, as long as nobody has put another one beside it.
#[derive(Debug)]
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Kept,
    body: RequestBody,
}

#[derive(Debug)]
enum Kept {
    Call(CallInfo),
    All(Extensions),
}

impl Replay {
    /// `None` for a body that streams.
    pub(super) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let body = request.body().try_clone()?;
        let headers = request.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let extensions = match request.extensions().get::<CallInfo>() {
            Some(info) if request.extensions().len() == 1 => Kept::Call(info.clone()),
            _ => Kept::All(request.extensions().clone()),
        };
        let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
        Some(Self { method, uri, version, headers, extensions, body })
    }

    /// The same request once more.
    pub(super) fn request(&self) -> Option<Request<RequestBody>> {
        let mut request = Request::new(self.body.try_clone()?);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        let headers = request.headers_mut();
        headers.reserve(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        match &self.extensions {
            Kept::Call(info) => drop(request.extensions_mut().insert(info.clone())),
            Kept::All(extensions) => *request.extensions_mut() = extensions.clone(),
        }
        Some(request)
    }

    /// The endpoints that its attempts went to.
    pub(super) fn tried(&self) -> Option<&Tried> {
        match &self.extensions {
            Kept::Call(info) => info.tried(),
            Kept::All(extensions) => Tried::of(extensions),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::context::Protocol;

    #[derive(Debug, Clone, PartialEq)]
    struct Own(u8);

    fn request() -> Request<RequestBody> {
        let request = Request::post("http://shop/items/7?all=true").version(Version::HTTP_2);
        let request = request.header("accept", "text/plain").header("x-twice", "1").header("x-twice", "2");
        let mut request = request.body(RequestBody::from(Bytes::from_static(b"body"))).unwrap();
        request.extensions_mut().insert(CallInfo::new("/items/{id}", true, None, Protocol::Http));
        request
    }

    #[test]
    fn a_request_is_the_same_when_it_is_sent_again() {
        let first = request();
        let again = Replay::of(&first).unwrap().request().unwrap();
        assert_eq!((again.method(), again.uri(), again.version()), (first.method(), first.uri(), first.version()));
        assert_eq!(again.headers(), first.headers());
        assert_eq!(again.extensions().get::<CallInfo>().unwrap().template, "/items/{id}");
        assert_eq!(format!("{:?}", again.body()), "RequestBody(4 bytes)");
    }

    #[test]
    fn what_others_have_put_into_its_extensions_is_kept_too() {
        let mut first = request();
        first.extensions_mut().insert(Own(7));
        let again = Replay::of(&first).unwrap().request().unwrap();
        assert_eq!(again.extensions().get::<Own>(), Some(&Own(7)));
        assert!(again.extensions().get::<CallInfo>().is_some());
        *first.extensions_mut() = Extensions::new();
        first.extensions_mut().insert(Own(8));
        let again = Replay::of(&first).unwrap().request().unwrap();
        assert_eq!(again.extensions().get::<Own>(), Some(&Own(8)), "also without a call's");
    }
}

//! A gRPC service by hand, `talk.v1.Talk`: `Say` works, `Fail` fails as told, and there is nothing else.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use chassis::testing::TestService;
use http::uri::PathAndQuery;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    client::Grpc as Client,
    codegen::{Service, http},
    metadata::MetadataValue,
    server::{Grpc, NamedService},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::telemetry::outer;

/// What is asked and what is answered.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Number {
    #[prost(uint32, tag = "1")]
    pub(crate) value: u32,
}

/// The service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk;

impl NamedService for Talk {
    const NAME: &'static str = "talk.v1.Talk";
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl Service<http::Request<Body>> for Talk {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = match request.uri().path() {
            "/talk.v1.Talk/Say" => Method::Say,
            "/talk.v1.Talk/Fail" => Method::Fail,
            _ => return Box::pin(async { Ok(super::echo::no_such_method()) }),
        };
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(method, request).await) })
    }
}

#[derive(Clone, Copy)]
enum Method {
    Say,
    Fail,
}

impl Service<Request<Number>> for Method {
    type Response = Response<Number>;
    type Error = Status;
    type Future = Answer<Response<Number>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Number>) -> Self::Future {
        let (method, value) = (*self, request.into_inner().value);
        Box::pin(async move {
            match method {
                Self::Say => {
                    tracing::info!(at = "handler", "inside");
                    Ok(Response::new(Number { value: outer(value).await }))
                }
                Self::Fail => Err(Status::new(Code::from(i32::try_from(value).unwrap()), "as told")),
            }
        })
    }
}

/// A connection to the service's main port.
pub(crate) async fn channel(service: &TestService) -> Channel {
    Endpoint::from_shared(format!("http://{}", service.http())).unwrap().connect().await.unwrap()
}

/// One call, with this metadata; gives the answer's value and the trace id it came with.
pub(crate) async fn call(
    channel: &Channel,
    method: &str,
    value: u32,
    metadata: &[(&'static str, &str)],
) -> (Result<u32, Status>, String) {
    let mut client = Client::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(Number { value });
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, MetadataValue::try_from(*value).unwrap());
    }
    let path: PathAndQuery = format!("/{method}").parse().unwrap();
    let answer: Result<Response<Number>, Status> = client.unary(request, path, ProstCodec::default()).await;
    let trace_id = |metadata: &tonic::metadata::MetadataMap| {
        metadata.get("x-trace-id").map_or_else(String::new, |id| id.to_str().unwrap().to_owned())
    };
    match answer {
        Ok(answer) => {
            let trace_id = trace_id(answer.metadata());
            (Ok(answer.into_inner().value), trace_id)
        }
        Err(status) => {
            let trace_id = trace_id(status.metadata());
            (Err(status), trace_id)
        }
    }
}

//! `grpc.health.v1`: Check, Watch and List over the same registry.
//!
//! Names: `""` is the whole server, then each registered service, and `liveness`, `readiness`, `startup` for a prober that
//! speaks only gRPC. A name that nobody registered is NOT_FOUND for Check, and SERVICE_UNKNOWN on an open stream for Watch,
//! until somebody registers it. Watch sends the status now, then only changes, and ends in order when the server stops: a
//! stream that stayed open would hold the drain up.
//!
//! Sources: the gRPC health checking protocol; gRFC A90 for List.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{select, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, codegen::tokio_stream::Stream};

use super::{Registry, aggregate::Services};

pub use super::generated::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

/// The protocol's descriptor, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("health.bin");

/// More services than this are not listed. Source: gRFC A90.
const MAX_LISTED: usize = 100;

/// The health service of a server. `end` is cancelled when open Watch streams must end: after the instance has said that it
/// drains, before the server waits for its streams.
#[must_use]
pub fn server(registry: Registry, end: CancellationToken) -> HealthServer<HealthService> {
    HealthServer::new(HealthService { registry, end })
}

/// Answers `grpc.health.v1` from a registry.
#[derive(Debug, Clone)]
pub struct HealthService {
    registry: Registry,
    end: CancellationToken,
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        match status_of(&self.registry.serving().borrow(), &name) {
            ServingStatus::ServiceUnknown => {
                Err(Status::new(Code::NotFound, format!("no service {name:?} is registered")))
            }
            status => Ok(Response::new(answer(status))),
        }
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let serving = self.registry.serving().borrow().clone();
        if serving.len() > MAX_LISTED {
            let message = format!("found {} services, listed are at most {MAX_LISTED}: ask by name", serving.len());
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        let statuses: BTreeMap<_, _> =
            serving.keys().map(|name| (name.to_string(), answer(status_of(&serving, name)))).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<WatchStream>, Status> {
        let follower = Follower {
            name: request.into_inner().service,
            serving: self.registry.serving(),
            end: self.end.clone(),
            sent: None,
        };
        Ok(Response::new(WatchStream(Some(Box::pin(follower.next())))))
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn status_of(serving: &Services, name: &str) -> ServingStatus {
    match serving.get(name) {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    }
}

/// Follows one name.
struct Follower {
    name: String,
    serving: watch::Receiver<Arc<Services>>,
    end: CancellationToken,
    sent: Option<ServingStatus>,
}

impl Follower {
    /// The next status that differs from the one sent last; `None` when the stream must end.
    async fn next(mut self) -> Option<(ServingStatus, Self)> {
        loop {
            let status = status_of(&self.serving.borrow_and_update(), &self.name);
            if self.sent != Some(status) {
                self.sent = Some(status);
                return Some((status, self));
            }
            select! {
                // In this order, so that the last status is still sent when the end has come meanwhile.
                biased;
                changed = self.serving.changed() => changed.ok()?,
                () = self.end.cancelled() => return None,
            }
        }
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(ServingStatus, Follower)>> + Send>>;

/// The statuses of one name: the one now, then each change.
pub struct WatchStream(Option<Next>);

impl Stream for WatchStream {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let found = ready!(next.as_mut().poll(cx));
        let (status, next) = found.map_or((None, None), |(status, follower)| (Some(status), Some(follower)));
        self.0 = next.map(|follower| Box::pin(follower.next()) as Next);
        Poll::Ready(status.map(|status| Ok(answer(status))))
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchStream")
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body_util::{BodyExt, Full};
    use prost::Message;
    use tower_service::Service;

    use super::{
        super::{Criticality, Reporter},
        ServingStatus::*,
        *,
    };

    struct Setup {
        registry: Registry,
        db: Reporter,
        end: CancellationToken,
        service: HealthService,
    }

    fn setup() -> Setup {
        let registry = Registry::default();
        let db = registry.reporter("db", Criticality::Critical);
        db.up();
        registry.mark_started();
        let end = CancellationToken::new();
        Setup { service: HealthService { registry: registry.clone(), end: end.clone() }, registry, db, end }
    }

    fn request(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    async fn watch(service: &HealthService, name: &str) -> WatchStream {
        service.watch(request(name)).await.expect("watch never fails").into_inner()
    }

    /// The next message, if there is one already.
    fn now(stream: &mut WatchStream) -> Poll<Option<ServingStatus>> {
        let poll = Pin::new(stream).poll_next(&mut Context::from_waker(std::task::Waker::noop()));
        poll.map(|item| item.map(|item| item.expect("no error on the stream").status()))
    }

    #[tokio::test]
    async fn check_knows_registered_names_only() {
        let Setup { service, registry, db, .. } = setup();
        registry.register_grpc_service("orders.v1.Orders");
        for (status, turn) in [(Serving, None), (NotServing, Some(()))] {
            if turn.is_some() {
                db.down("refused");
            }
            for name in ["", "orders.v1.Orders", "readiness"] {
                assert_eq!(service.check(request(name)).await.expect("known").into_inner().status(), status, "{name}");
            }
        }
        assert_eq!(service.check(request("liveness")).await.expect("known").into_inner().status(), Serving);
        assert_eq!(service.check(request("no.Such")).await.expect_err("unknown").code(), Code::NotFound);
    }

    #[tokio::test]
    async fn watch_sends_the_status_now_then_only_changes() {
        let Setup { service, registry, db, .. } = setup();
        let mut stream = watch(&service, "").await;
        assert_eq!(now(&mut stream), Poll::Ready(Some(Serving)));
        assert_eq!(now(&mut stream), Poll::Pending);
        db.degraded("slow");
        registry.register_grpc_service("other");
        assert_eq!(now(&mut stream), Poll::Pending, "nothing changed for this name");
        db.down("refused");
        assert_eq!(now(&mut stream), Poll::Ready(Some(NotServing)));
        db.up();
        assert_eq!(now(&mut stream), Poll::Ready(Some(Serving)));
    }

    #[tokio::test]
    async fn watch_of_an_unknown_name_stays_open_until_it_is_registered() {
        let Setup { service, registry, .. } = setup();
        let mut stream = watch(&service, "late.v1.Late").await;
        assert_eq!(now(&mut stream), Poll::Ready(Some(ServiceUnknown)));
        assert_eq!(now(&mut stream), Poll::Pending);
        registry.register_grpc_service("late.v1.Late");
        assert_eq!(now(&mut stream), Poll::Ready(Some(Serving)));
    }

    #[tokio::test]
    async fn watch_says_not_serving_on_drain_and_ends_when_told() {
        let Setup { service, registry, end, .. } = setup();
        let mut stream = watch(&service, "").await;
        assert_eq!(now(&mut stream), Poll::Ready(Some(Serving)));
        registry.set_draining();
        end.cancel();
        assert_eq!(now(&mut stream), Poll::Ready(Some(NotServing)), "the last word comes before the end");
        assert_eq!(now(&mut stream), Poll::Ready(None));
        assert_eq!(now(&mut stream), Poll::Ready(None));
    }

    #[tokio::test]
    async fn an_idle_watch_wakes_for_the_end() {
        let Setup { service, end, .. } = setup();
        let mut stream = watch(&service, "").await;
        let reader =
            tokio::spawn(async move { while poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await.is_some() {} });
        tokio::task::yield_now().await;
        end.cancel();
        reader.await.expect("the stream ended");
    }

    #[tokio::test]
    async fn more_than_a_hundred_services_are_not_listed() {
        let Setup { service, registry, .. } = setup();
        let own = registry.serving().borrow().len();
        for i in own..MAX_LISTED {
            registry.register_grpc_service(format!("s{i}"));
        }
        let listed = service.list(Request::new(HealthListRequest {})).await.expect("a hundred").into_inner();
        assert_eq!(listed.statuses.len(), 100);
        registry.register_grpc_service("one.too.Many");
        let error = service.list(Request::new(HealthListRequest {})).await.expect_err("too many");
        assert_eq!(error.code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn list_answers_on_the_wire() {
        let Setup { registry, end, .. } = setup();
        registry.register_grpc_service("orders.v1.Orders");
        let mut server = server(registry, end);
        let body = Full::new(bytes::Bytes::from_static(&[0, 0, 0, 0, 0]));
        let request = http::Request::post("/grpc.health.v1.Health/List").header("content-type", "application/grpc");
        let response = server.call(request.body(body).expect("a request")).await.expect("infallible");
        let collected = response.into_body().collect().await.expect("a body");
        assert_eq!(collected.trailers().expect("trailers")["grpc-status"], "0");
        let frame = collected.to_bytes();
        // map<string, HealthCheckResponse> statuses = 1, as the protocol's bytes: the entry of orders.v1.Orders.
        let entry = [&b"\x0a\x16\x0a\x10orders.v1.Orders"[..], b"\x12\x02\x08\x01"].concat();
        assert!(frame.windows(entry.len()).any(|bytes| bytes == entry), "{frame:?}");
        let list = HealthListResponse::decode(&frame[5..]).expect("the message");
        assert_eq!(
            list.statuses.keys().collect::<Vec<_>>(),
            ["", "liveness", "orders.v1.Orders", "readiness", "startup"]
        );
    }

    #[test]
    fn the_descriptor_for_reflection_has_all_three_methods() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set");
        let service = &set.file[0].service[0];
        let methods: Vec<_> = service.method.iter().map(|method| method.name()).collect();
        assert_eq!(
            (set.file[0].package(), service.name(), methods),
            ("grpc.health.v1", "Health", vec!["Check", "List", "Watch"])
        );
    }
}

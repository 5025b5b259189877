//! The shop over gRPC, as tonic has it.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tonic::{Request, Response, Status};

use crate::{Article, Count, Shop, ShopError, Stock};

#[allow(missing_docs, reason = "made from proto/catalogue/v1/catalogue.proto")]
pub mod proto {
    tonic::include_proto!("catalogue.v1");
}

/// What reflection tells of the service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/catalogue.bin"));

/// The shop as tonic serves it.
#[derive(Debug)]
pub struct Catalogue<S>(pub Arc<Shop<S>>);

#[tonic::async_trait]
impl<S: Stock> proto::catalogue_server::Catalogue for Catalogue<S> {
    async fn get_article(
        &self,
        request: Request<proto::GetArticleRequest>,
    ) -> Result<Response<proto::Article>, Status> {
        Ok(Response::new(self.0.find(request.into_inner().sku)?.into()))
    }

    async fn add_article(&self, request: Request<proto::Article>) -> Result<Response<proto::Article>, Status> {
        Ok(Response::new(self.0.add(request.into_inner().into())?.into()))
    }

    async fn get_count(&self, request: Request<proto::GetCountRequest>) -> Result<Response<proto::Count>, Status> {
        Ok(Response::new(self.0.count(request.into_inner().sku).await?.into()))
    }
}

impl From<ShopError> for Status {
    fn from(error: ShopError) -> Self {
        let text = error.to_string();
        match error {
            ShopError::Unknown(_) => Self::not_found(text),
            ShopError::Incomplete => Self::invalid_argument(text),
            ShopError::Stock(..) => Self::unavailable(text),
        }
    }
}

impl From<Article> for proto::Article {
    fn from(article: Article) -> Self {
        Self { sku: article.sku, cents: article.cents }
    }
}

impl From<proto::Article> for Article {
    fn from(article: proto::Article) -> Self {
        Self { sku: article.sku, cents: article.cents }
    }
}

impl From<Count> for proto::Count {
    fn from(count: Count) -> Self {
        Self { sku: count.sku, count: count.count }
    }
}

/// Ready at the first SIGTERM or Ctrl-C.
pub async fn stop_signal() {
    let heard = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = heard(SignalKind::terminate()) => {}
        _ = heard(SignalKind::interrupt()) => {}
    }
}

//! What tonic and prost generate from a `.proto` file.
#![allow(dead_code)]

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetOrderRequest {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(string, optional, tag = "2")]
    pub note: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Order {
    #[prost(uint32, tag = "1")]
    pub id: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

pub mod orders_server {
    use tonic::{Request, Response, Status};

    use super::{Empty, GetOrderRequest, Order};

    pub const SERVICE_NAME: &str = "orders.v1.Orders";

    #[tonic::async_trait]
    pub trait Orders: Send + Sync + 'static {
        async fn get_order(&self, request: Request<GetOrderRequest>) -> Result<Response<Order>, Status>;
        async fn cancel_order(&self, request: Request<GetOrderRequest>) -> Result<Response<Empty>, Status>;
    }
}

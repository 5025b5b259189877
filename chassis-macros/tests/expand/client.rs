/// The orders service.
pub(crate) trait OrdersApi: Send + Sync {
    /// Look one order up.
    fn order(
        &self,
        id: OrderId,
    ) -> impl ::core::future::Future<
        Output = Result<Order, CallError>,
    > + ::core::marker::Send;
    #[cfg(feature = "write")]
    fn add(
        &self,
        items: &[Item],
        id: OrderId,
    ) -> impl ::core::future::Future<
        Output = Result<(), ShopError>,
    > + ::core::marker::Send;
    fn search<'a>(
        &self,
        query: Query<'a>,
    ) -> impl ::core::future::Future<
        Output = orders::Result<Vec<Order>>,
    > + ::core::marker::Send;
}
/// Calls [`OrdersApi`] over HTTP.
#[automatically_derived]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub(crate) struct OrdersApiClient {
    client: ::chassis::__private::Client,
}
#[automatically_derived]
impl OrdersApiClient {
    /// Calls [`OrdersApi`] of the service behind this client.
    #[must_use]
    #[allow(dead_code)]
    pub(crate) fn new(client: ::chassis::__private::Client) -> Self {
        Self { client }
    }
}
#[automatically_derived]
impl ::core::convert::From<::chassis::__private::Client> for OrdersApiClient {
    fn from(client: ::chassis::__private::Client) -> Self {
        Self { client }
    }
}
#[automatically_derived]
#[allow(clippy::all, clippy::pedantic, unused_variables, deprecated)]
impl OrdersApi for OrdersApiClient {
    fn order(
        &self,
        argument0: OrderId,
    ) -> impl ::core::future::Future<
        Output = Result<Order, CallError>,
    > + ::core::marker::Send {
        #[allow(unused_imports)]
        use ::chassis::__private::{AsAnswer as _, AsJsonAnswer as _, AsNoAnswer as _};
        let call = self
            .client
            .call(::chassis::__private::Method::GET, "/v1/shop/orders/{id}")
            .path("id", &argument0)
            .timeout(::chassis::__private::Duration::new(2u64, 0u32));
        let (value, told) = <Result<
            Order,
            CallError,
        > as ::chassis::__private::Outcome>::parts();
        let answer = (&&&value).__read();
        async move { told(answer.send(call).await) }
    }
    #[cfg(feature = "write")]
    fn add(
        &self,
        argument0: &[Item],
        argument1: OrderId,
    ) -> impl ::core::future::Future<
        Output = Result<(), ShopError>,
    > + ::core::marker::Send {
        #[allow(unused_imports)]
        use ::chassis::__private::{AsAnswer as _, AsJsonAnswer as _, AsNoAnswer as _};
        let call = self
            .client
            .call(::chassis::__private::Method::PUT, "/v1/shop/orders/{id}/items")
            .body(&argument0)
            .path("id", &argument1);
        let (value, told) = <Result<
            (),
            ShopError,
        > as ::chassis::__private::Outcome>::parts();
        let answer = (&&&value).__read();
        async move { told(answer.send(call).await) }
    }
    fn search<'a>(
        &self,
        argument0: Query<'a>,
    ) -> impl ::core::future::Future<
        Output = orders::Result<Vec<Order>>,
    > + ::core::marker::Send {
        #[allow(unused_imports)]
        use ::chassis::__private::{AsAnswer as _, AsJsonAnswer as _, AsNoAnswer as _};
        let call = self
            .client
            .call(::chassis::__private::Method::POST, "/v1/shop/search")
            .body(&argument0)
            .idempotent();
        let (value, told) = <orders::Result<
            Vec<Order>,
        > as ::chassis::__private::Outcome>::parts();
        let answer = (&&&value).__read();
        async move { told(answer.send(call).await) }
    }
}

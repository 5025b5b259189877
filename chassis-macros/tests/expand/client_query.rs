trait Search {
    fn search(
        &self,
        page: &Page,
    ) -> impl ::core::future::Future<
        Output = Result<Created<Order>, CallError>,
    > + ::core::marker::Send;
    async fn first(&self) -> Option<Order> {
        self.search(&Page::first()).await.ok()
    }
}
/// Calls [`Search`] over HTTP.
#[automatically_derived]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct SearchClient {
    client: ::chassis::__private::Client,
}
#[automatically_derived]
impl SearchClient {
    /// Calls [`Search`] of the service behind this client.
    #[must_use]
    #[allow(dead_code)]
    fn new(client: ::chassis::__private::Client) -> Self {
        Self { client }
    }
}
#[automatically_derived]
impl ::core::convert::From<::chassis::__private::Client> for SearchClient {
    fn from(client: ::chassis::__private::Client) -> Self {
        Self { client }
    }
}
#[automatically_derived]
#[allow(clippy::all, clippy::pedantic, unused_variables, deprecated)]
impl Search for SearchClient {
    fn search(
        &self,
        argument0: &Page,
    ) -> impl ::core::future::Future<
        Output = Result<Created<Order>, CallError>,
    > + ::core::marker::Send {
        #[allow(unused_imports)]
        use ::chassis::__private::{AsAnswer as _, AsJsonAnswer as _, AsNoAnswer as _};
        let call = self
            .client
            .call(::chassis::__private::Method::GET, "/orders")
            .query(&argument0);
        let (value, told) = <Result<
            Created<Order>,
            CallError,
        > as ::chassis::__private::Outcome>::parts();
        let answer = (&&&value).__read();
        async move { told(answer.send(call).await) }
    }
}

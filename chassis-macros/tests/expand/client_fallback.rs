trait StockApi {
    /// How many there are.
    fn stock(
        &self,
        sku: &str,
    ) -> impl ::core::future::Future<
        Output = Result<Stock, CallError>,
    > + ::core::marker::Send;
    fn near(
        &self,
        sku: &str,
    ) -> impl ::core::future::Future<
        Output = Result<Stock, CallError>,
    > + ::core::marker::Send;
    async fn unknown(&self, sku: &str, error: &CallError) -> Result<Stock, CallError> {
        Ok(Stock::unknown(sku))
    }
}
/// Calls [`StockApi`] over HTTP.
#[automatically_derived]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct StockApiClient {
    client: ::chassis::__private::Client,
}
#[automatically_derived]
impl StockApiClient {
    /// Calls [`StockApi`] of the service behind this client.
    #[must_use]
    #[allow(dead_code)]
    fn new(client: ::chassis::__private::Client) -> Self {
        Self { client }
    }
}
#[automatically_derived]
impl ::core::convert::From<::chassis::__private::Client> for StockApiClient {
    fn from(client: ::chassis::__private::Client) -> Self {
        Self { client }
    }
}
#[automatically_derived]
#[allow(clippy::all, clippy::pedantic, unused_variables, deprecated)]
impl StockApi for StockApiClient {
    fn stock(
        &self,
        argument0: &str,
    ) -> impl ::core::future::Future<
        Output = Result<Stock, CallError>,
    > + ::core::marker::Send {
        #[allow(unused_imports)]
        use ::chassis::__private::{AsAnswer as _, AsJsonAnswer as _, AsNoAnswer as _};
        let call = self
            .client
            .call(::chassis::__private::Method::GET, "/stock/{sku}")
            .path("sku", &argument0);
        let (value, told) = <Result<
            Stock,
            CallError,
        > as ::chassis::__private::Outcome>::parts();
        let answer = (&&&value).__read();
        async move {
            match answer.send(call).await {
                ::core::result::Result::Err(
                    error,
                ) if ::chassis::__private::falls_back(
                    &self.client,
                    &error,
                    "GET /stock/{sku}",
                    "unknown",
                ) => {
                    let answer: Result<Stock, CallError> = <Self as StockApi>::unknown(
                            self,
                            argument0,
                            &error,
                        )
                        .await;
                    answer
                }
                result => told(result),
            }
        }
    }
    fn near(
        &self,
        argument0: &str,
    ) -> impl ::core::future::Future<
        Output = Result<Stock, CallError>,
    > + ::core::marker::Send {
        #[allow(unused_imports)]
        use ::chassis::__private::{AsAnswer as _, AsJsonAnswer as _, AsNoAnswer as _};
        let call = self
            .client
            .call(::chassis::__private::Method::GET, "/near/{sku}")
            .path("sku", &argument0);
        let (value, told) = <Result<
            Stock,
            CallError,
        > as ::chassis::__private::Outcome>::parts();
        let answer = (&&&value).__read();
        async move {
            match answer.send(call).await {
                ::core::result::Result::Err(
                    error,
                ) if ::chassis::__private::falls_back(
                    &self.client,
                    &error,
                    "GET /near/{sku}",
                    "stock",
                ) => {
                    let answer: Result<Stock, CallError> = <Self as StockApi>::stock(
                            self,
                            argument0,
                        )
                        .await;
                    answer
                }
                result => told(result),
            }
        }
    }
}

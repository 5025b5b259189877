impl<S: Store> Orders<S>
where
    S: Send,
{
    const LIMIT: Limit = Limit { items: 3 };
    #[cfg(feature = "write")]
    async fn place(&self, order: NewOrder, customer: CustomerId) -> Created<Order> {
        todo!()
    }
    fn helper(&self) {}
}
#[automatically_derived]
#[allow(clippy::all, clippy::pedantic)]
impl<S: Store> ::chassis::__private::Service for Orders<S>
where
    S: Send,
{
    fn describe() -> ::std::vec::Vec<::chassis::__private::RouteInfo> {
        #[allow(unused_imports)]
        use ::chassis::__private::{
            AsJson as _, AsNothing as _, AsReply as _, AsResponse as _, CannotFail as _,
            HasProblems as _, HasSchema as _, MayFail as _, NoProblems as _,
            NoSchema as _,
        };
        #[allow(unused_mut)]
        let mut routes = ::std::vec::Vec::new();
        #[cfg(feature = "write")]
        routes
            .push({
                let info = ::chassis::__private::RouteInfo::new(
                        ::chassis::__private::Method::POST,
                        "/customers/{customer}/orders",
                        "place",
                    )
                    .policy(
                        ::chassis::__private::RoutePolicy::new()
                            .timeout(::chassis::__private::Duration::new(90u64, 0u32)),
                    )
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Body,
                            "order",
                            (&&::chassis::__private::Probe::<NewOrder>::new()).__schema(),
                        ),
                    )
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Path,
                            "customer",
                            (&&::chassis::__private::Probe::<CustomerId>::new())
                                .__schema(),
                        ),
                    );
                let (value, error) = (&&::chassis::__private::Probe::output(|| async {
                    Self::place(
                            ::chassis::__private::never::<&Self>(),
                            ::chassis::__private::never::<NewOrder>(),
                            ::chassis::__private::never::<CustomerId>(),
                        )
                        .await
                }))
                    .__parts();
                let (kind, body) = (&&&&value).__answer().kind(&value);
                info.answer(
                        ::chassis::__private::AnswerInfo::new(kind, (&&body).__schema()),
                    )
                    .problems((&&error).__problems())
            });
        routes
    }
    fn into_router(
        self: ::chassis::__private::Arc<Self>,
    ) -> ::chassis::__private::Router {
        #[allow(unused_imports)]
        use ::chassis::__private::{
            AsJson as _, AsNothing as _, AsReply as _, AsResponse as _, CannotFail as _,
            HasNamedRules as _, HasRules as _, MayFail as _, NoRules as _,
        };
        let router = ::chassis::__private::Router::new();
        #[cfg(feature = "write")]
        let router = router
            .route(
                "/customers/{customer}/orders",
                ::chassis::__private::post(|
                    ::chassis::__private::State(
                        service,
                    ): ::chassis::__private::State<::chassis::__private::Arc<Self>>,
                    arguments: ::chassis::__private::Arguments|
                async move {
                    let argument1 = arguments.path::<CustomerId>("customer")?;
                    (&&::chassis::__private::Probe::of(&argument1))
                        .__check()
                        .http(
                            &argument1,
                            ::chassis::__private::Source::Path,
                            "customer",
                        )?;
                    let argument0 = arguments.json::<NewOrder>().await?;
                    (&&::chassis::__private::Probe::of(&argument0))
                        .__check()
                        .http(&argument0, ::chassis::__private::Source::Body, "order")?;
                    let outcome = ::chassis::__private::send(
                            Self::place(&service, argument0, argument1),
                        )
                        .await;
                    let value = (&&::chassis::__private::Probe::of(&outcome))
                        .__outcome()
                        .split(outcome)?;
                    ::core::result::Result::<
                        ::chassis::__private::Response,
                        ::chassis::__private::Rejection,
                    >::Ok(
                        (&&&&::chassis::__private::Probe::of(&value))
                            .__answer()
                            .write(value),
                    )
                }),
            );
        router.with_state(self)
    }
}
#[automatically_derived]
impl<S: Store> ::chassis::__private::IntoRoutes for Orders<S>
where
    S: Send,
{
    fn into_routes(self) -> ::chassis::__private::Routes {
        ::chassis::__private::Routes::of(::chassis::__private::Arc::new(self))
    }
}
#[doc(hidden)]
#[allow(dead_code, clippy::all, clippy::pedantic)]
impl<S: Store> Orders<S>
where
    S: Send,
{
    fn __a_type_has_one_service_block__move_all_handlers_into_one_of_the_blocks() {}
}

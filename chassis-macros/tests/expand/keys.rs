impl Orders {
    async fn orders(&self, tenant: Tenant) {}
}
#[automatically_derived]
#[allow(clippy::all, clippy::pedantic)]
impl ::chassis::__private::Service for Orders {
    fn describe() -> ::std::vec::Vec<::chassis::__private::RouteInfo> {
        #[allow(unused_imports)]
        use ::chassis::__private::{
            AsJson as _, AsNothing as _, AsReply as _, AsResponse as _, CannotFail as _,
            HasProblems as _, HasSchema as _, MayFail as _, NoProblems as _,
            NoSchema as _,
        };
        #[allow(unused_mut)]
        let mut routes = ::std::vec::Vec::new();
        routes
            .push({
                let info = ::chassis::__private::RouteInfo::new(
                        ::chassis::__private::Method::GET,
                        "/v2/tenants/{tenant}",
                        "orders",
                    )
                    .tags(&["shop", "orders", "search"])
                    .policy(
                        ::chassis::__private::RoutePolicy::new()
                            .timeout(
                                ::chassis::__private::Duration::new(0u64, 250000000u32),
                            )
                            .concurrency(10u32)
                            .body_limit(65536u64)
                            .idempotent()
                            .deprecated(
                                ::chassis::__private::Deprecation::since(1782777600i64)
                                    .sunset(1814313600i64),
                            ),
                    )
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Path,
                            "tenant",
                            (&&::chassis::__private::Probe::<Tenant>::new()).__schema(),
                        ),
                    );
                let (value, error) = (&&::chassis::__private::Probe::output(|| async {
                    Self::orders(
                            ::chassis::__private::never::<&Self>(),
                            ::chassis::__private::never::<Tenant>(),
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
        let router = router
            .route(
                "/v2/tenants/{tenant}",
                ::chassis::__private::get(|
                    ::chassis::__private::State(
                        service,
                    ): ::chassis::__private::State<::chassis::__private::Arc<Self>>,
                    arguments: ::chassis::__private::Arguments|
                async move {
                    let argument0 = arguments.path::<Tenant>("tenant")?;
                    (&&::chassis::__private::Probe::of(&argument0))
                        .__check()
                        .http(&argument0, ::chassis::__private::Source::Path, "tenant")?;
                    ::core::mem::drop(arguments);
                    let outcome = ::chassis::__private::send(
                            Self::orders(&service, argument0),
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
impl ::chassis::__private::IntoRoutes for Orders {
    fn into_routes(self) -> ::chassis::__private::Routes {
        ::chassis::__private::Routes::of(::chassis::__private::Arc::new(self))
    }
}
#[doc(hidden)]
#[allow(dead_code, clippy::all, clippy::pedantic)]
impl Orders {
    fn __a_type_has_one_service_block__move_all_handlers_into_one_of_the_blocks() {}
}

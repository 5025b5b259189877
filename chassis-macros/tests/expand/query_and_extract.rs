impl Orders {
    async fn search(&self, headers: HeaderMap, Page { limit, .. }: Page) {}
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
                        "/orders",
                        "search",
                    )
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Query,
                            "query",
                            (&&::chassis::__private::Probe::<Page>::new()).__schema(),
                        ),
                    );
                let (value, error) = (&&::chassis::__private::Probe::output(|| async {
                    Self::search(
                            ::chassis::__private::never::<&Self>(),
                            ::chassis::__private::never::<HeaderMap>(),
                            ::chassis::__private::never::<Page>(),
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
                "/orders",
                ::chassis::__private::get(|
                    ::chassis::__private::State(
                        service,
                    ): ::chassis::__private::State<::chassis::__private::Arc<Self>>,
                    mut arguments: ::chassis::__private::Arguments|
                async move {
                    let argument0 = arguments
                        .extract::<HeaderMap, ::chassis::__private::Arc<Self>>(&service)
                        .await?;
                    let argument1 = arguments.query::<Page>()?;
                    (&&::chassis::__private::Probe::of(&argument1))
                        .__check()
                        .http(&argument1, ::chassis::__private::Source::Query, "query")?;
                    ::core::mem::drop(arguments);
                    let outcome = ::chassis::__private::send(
                            Self::search(&service, argument0, argument1),
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

impl Orders {
    async fn place(&self, customer: CustomerId, order: NewOrder) -> Created<Order> {
        todo!()
    }
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
                        ::chassis::__private::Method::POST,
                        "/shop/customers/{customer}/orders",
                        "place",
                    )
                    .policy(::chassis::__private::RoutePolicy::new().concurrency(5u32))
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Path,
                            "customer",
                            (&&::chassis::__private::Probe::<CustomerId>::new())
                                .__schema(),
                        ),
                    )
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Body,
                            "order",
                            (&&::chassis::__private::Probe::<NewOrder>::new()).__schema(),
                        ),
                    );
                let (value, error) = (&&::chassis::__private::Probe::output(|| async {
                    Self::place(
                            ::chassis::__private::never::<&Self>(),
                            ::chassis::__private::never::<CustomerId>(),
                            ::chassis::__private::never::<NewOrder>(),
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
                "/shop/customers/{customer}/orders",
                ::chassis::__private::post(|
                    ::chassis::__private::State(
                        service,
                    ): ::chassis::__private::State<::chassis::__private::Arc<Self>>,
                    arguments: ::chassis::__private::Arguments|
                async move {
                    let argument0 = arguments.path::<CustomerId>("customer")?;
                    (&&::chassis::__private::Probe::of(&argument0))
                        .__check()
                        .http(
                            &argument0,
                            ::chassis::__private::Source::Path,
                            "customer",
                        )?;
                    let argument1 = arguments.json::<NewOrder>().await?;
                    (&&::chassis::__private::Probe::of(&argument1))
                        .__check()
                        .http(&argument1, ::chassis::__private::Source::Body, "order")?;
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
    fn into_grpc(
        self: ::chassis::__private::Arc<Self>,
    ) -> ::core::option::Option<::chassis::__private::GrpcRoutes> {
        #[allow(unused_imports)]
        use ::chassis::__private::{
            BecomesMessage as _, BecomesNothing as _, CannotFail as _,
            HasNamedRules as _, HasProblems as _, HasRules as _, HasSchema as _,
            HoldsMessage as _, MayFail as _, NoProblems as _, NoRules as _,
            NoSchema as _, TakesField as _, TakesLifted as _, TakesNothing as _,
            TakesRequired as _,
        };
        let routes = ::chassis::__private::GrpcRoutes::new(
            proto::orders_server::SERVICE_NAME,
        );
        let routes = {
            let info = {
                let (_, error) = (&&::chassis::__private::Probe::output(|| async {
                    Self::place(
                            ::chassis::__private::never::<&Self>(),
                            ::chassis::__private::never::<CustomerId>(),
                            ::chassis::__private::never::<NewOrder>(),
                        )
                        .await
                }))
                    .__parts();
                ::chassis::__private::RouteInfo::rpc(
                        proto::orders_server::SERVICE_NAME,
                        "PlaceOrder",
                        "place",
                    )
                    .policy(::chassis::__private::RoutePolicy::new().concurrency(5u32))
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Field,
                            "customer",
                            (&&::chassis::__private::Probe::<CustomerId>::new())
                                .__schema(),
                        ),
                    )
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Message,
                            "message",
                            (&&::chassis::__private::Probe::<NewOrder>::new()).__schema(),
                        ),
                    )
                    .problems((&&error).__problems())
            };
            let types = ::chassis::__private::shape(
                <dyn proto::orders_server::Orders<WatchStream = Watch>>::place_order,
            );
            let service = self.clone();
            routes
                .unary(
                    info,
                    types,
                    move |message| {
                        let service = service.clone();
                        async move {
                            let mut fields = ::chassis::__private::Fields::new();
                            let field = ::core::clone::Clone::clone(&message.customer);
                            let argument0 = (&&&&::chassis::__private::FieldProbe::<
                                _,
                                CustomerId,
                            >::of(&field))
                                .__field()
                                .take("customer", field, &mut fields);
                            let field = message;
                            let argument1 = (&&&&::chassis::__private::FieldProbe::<
                                _,
                                NewOrder,
                            >::of(&field))
                                .__field()
                                .take("", field, &mut fields);
                            let (
                                ::core::option::Option::Some(argument0),
                                ::core::option::Option::Some(argument1),
                            ) = (argument0, argument1) else {
                                return ::core::result::Result::Err(fields.into_problem());
                            };
                            (&&::chassis::__private::Probe::of(&argument0))
                                .__check()
                                .rpc(&argument0, "customer")?;
                            (&&::chassis::__private::Probe::of(&argument1))
                                .__check()
                                .rpc(&argument1, "")?;
                            let outcome = ::chassis::__private::send(
                                    Self::place(&service, argument0, argument1),
                                )
                                .await;
                            let value = (&&::chassis::__private::Probe::of(&outcome))
                                .__outcome()
                                .tell(outcome)?;
                            ::core::result::Result::<
                                _,
                                ::chassis::__private::Problem,
                            >::Ok(
                                (&&&::chassis::__private::MessageProbe::of(&value, types))
                                    .__message()
                                    .write(value),
                            )
                        }
                    },
                )
        };
        ::core::option::Option::Some(routes)
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

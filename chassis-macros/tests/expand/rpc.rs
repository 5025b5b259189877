impl Orders {
    /// Look one order up.
    #[cfg(feature = "read")]
    async fn order(&self, id: OrderId, r#type: Kind) -> Result<Order, OrderError> {
        todo!()
    }
    async fn ping(&self) {}
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
        #[cfg(feature = "read")]
        let routes = {
            let info = {
                let (_, error) = (&&::chassis::__private::Probe::output(|| async {
                    Self::order(
                            ::chassis::__private::never::<&Self>(),
                            ::chassis::__private::never::<OrderId>(),
                            ::chassis::__private::never::<Kind>(),
                        )
                        .await
                }))
                    .__parts();
                ::chassis::__private::RouteInfo::rpc(
                        proto::orders_server::SERVICE_NAME,
                        "GetOrder",
                        "order",
                    )
                    .doc("Look one order up.")
                    .policy(
                        ::chassis::__private::RoutePolicy::new()
                            .timeout(::chassis::__private::Duration::new(2u64, 0u32)),
                    )
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Field,
                            "id",
                            (&&::chassis::__private::Probe::<OrderId>::new()).__schema(),
                        ),
                    )
                    .argument(
                        ::chassis::__private::ArgumentInfo::new(
                            ::chassis::__private::Source::Field,
                            "type",
                            (&&::chassis::__private::Probe::<Kind>::new()).__schema(),
                        ),
                    )
                    .problems((&&error).__problems())
            };
            let types = ::chassis::__private::shape(
                <dyn proto::orders_server::Orders>::get_order,
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
                            let field = message.id;
                            let argument0 = (&&&&::chassis::__private::FieldProbe::<
                                _,
                                OrderId,
                            >::of(&field))
                                .__field()
                                .take("id", field, &mut fields);
                            let field = message.r#type;
                            let argument1 = (&&&&::chassis::__private::FieldProbe::<
                                _,
                                Kind,
                            >::of(&field))
                                .__field()
                                .take("type", field, &mut fields);
                            let (
                                ::core::option::Option::Some(argument0),
                                ::core::option::Option::Some(argument1),
                            ) = (argument0, argument1) else {
                                return ::core::result::Result::Err(fields.into_problem());
                            };
                            (&&::chassis::__private::Probe::of(&argument0))
                                .__check()
                                .rpc(&argument0, "id")?;
                            (&&::chassis::__private::Probe::of(&argument1))
                                .__check()
                                .rpc(&argument1, "type")?;
                            let outcome = ::chassis::__private::send(
                                    Self::order(&service, argument0, argument1),
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
        let routes = {
            let info = {
                let (_, error) = (&&::chassis::__private::Probe::output(|| async {
                    Self::ping(::chassis::__private::never::<&Self>()).await
                }))
                    .__parts();
                ::chassis::__private::RouteInfo::rpc(
                        proto::orders_server::SERVICE_NAME,
                        "Ping",
                        "ping",
                    )
                    .problems((&&error).__problems())
            };
            let types = ::chassis::__private::shape(
                <dyn proto::orders_server::Orders>::ping,
            );
            let service = self.clone();
            routes
                .unary(
                    info,
                    types,
                    move |_| {
                        let service = service.clone();
                        async move {
                            let outcome = ::chassis::__private::send(
                                    Self::ping(&service),
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

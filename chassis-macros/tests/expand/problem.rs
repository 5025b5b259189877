#[automatically_derived]
impl ::chassis::__private::IntoProblem for OrderError {
    fn into_problem(self) -> ::chassis::__private::Problem {
        match self {
            ref error @ Self::Unknown { id: ref member0, .. } => {
                ::chassis::__private::Problem::not_found("order_unknown")
                    .type_uri("https://example.com/unknown")
                    .with("id", member0)
                    .explained_by(error)
            }
            ref error @ Self::Store { .. } => {
                ::chassis::__private::Problem::unavailable("store")
                    .retry_after(::chassis::__private::Duration::new(1u64, 500000000u32))
                    .retry_safe(true)
                    .explained_by(error)
            }
            ref error @ Self::SoldOut { .. } => {
                ::chassis::__private::Problem::conflict("sold_out")
                    .title("Nothing left")
                    .explained_by(error)
            }
            Self::Payment { 0: inner } => {
                <PaymentError as ::chassis::__private::IntoProblem>::into_problem(inner)
            }
        }
    }
    fn describe() -> ::std::vec::Vec<::chassis::__private::ProblemInfo> {
        #[allow(unused_imports)]
        use ::chassis::__private::{
            AsJson as _, AsNothing as _, AsReply as _, AsResponse as _, CannotFail as _,
            HasProblems as _, HasSchema as _, MayFail as _, NoProblems as _,
            NoSchema as _,
        };
        #[allow(unused_mut)]
        let mut infos = ::std::vec::Vec::new();
        infos
            .push(
                ::chassis::__private::ProblemInfo::of(
                        &::chassis::__private::Problem::not_found("order_unknown")
                            .type_uri("https://example.com/unknown"),
                    )
                    .member(
                        "id",
                        (&&::chassis::__private::Probe::<OrderId>::new()).__schema(),
                    ),
            );
        infos
            .push(
                ::chassis::__private::ProblemInfo::of(
                    &::chassis::__private::Problem::unavailable("store"),
                ),
            );
        infos
            .push(
                ::chassis::__private::ProblemInfo::of(
                    &::chassis::__private::Problem::conflict("sold_out")
                        .title("Nothing left"),
                ),
            );
        infos.extend(<PaymentError as ::chassis::__private::IntoProblem>::describe());
        infos
    }
}

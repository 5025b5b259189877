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
                ::chassis::__private::IntoProblem::into_problem(inner)
            }
        }
    }
}

use chassis::problem::Problem;

#[derive(Debug, thiserror::Error, Problem)]
#[error("the store failed")]
#[problem(unavailable, retry_afer = "2s", status = 503, retry_safe = true)]
struct StoreFailed;

fn main() {}

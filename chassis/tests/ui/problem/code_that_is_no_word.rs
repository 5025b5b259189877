use chassis::problem::Problem;

#[derive(Debug, thiserror::Error, Problem)]
#[error("there is no such order")]
#[problem(not_found, code = "Order Unknown")]
struct Unknown;

fn main() {}

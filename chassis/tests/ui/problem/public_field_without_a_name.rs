use chassis::problem::Problem;

#[derive(Debug, thiserror::Error, Problem)]
#[error("there is no order {0}")]
#[problem(not_found)]
struct Unknown(#[problem(public)] u32);

fn main() {}

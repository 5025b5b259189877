use chassis::problem::Problem;

#[derive(Debug, thiserror::Error, Problem)]
#[error("there is no such order")]
#[problem(not_found)]
struct Unknown {
    #[problem(public)]
    status: u32,
}

fn main() {}

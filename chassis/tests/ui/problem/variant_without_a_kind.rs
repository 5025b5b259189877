use chassis::problem::Problem;

#[derive(Debug, thiserror::Error, Problem)]
enum OrderError {
    #[error("there is no such order")]
    #[problem(not_found)]
    Unknown,
    #[error("the store failed")]
    Store,
}

fn main() {}

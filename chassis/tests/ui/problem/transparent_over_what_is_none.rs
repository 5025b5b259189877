use chassis::problem::Problem;

#[derive(Debug, thiserror::Error, Problem)]
enum OrderError {
    #[error(transparent)]
    #[problem(transparent)]
    Store(std::io::Error),
}

fn main() {}

use chassis::problem::Problem;

#[derive(Debug, thiserror::Error, Problem)]
enum OrderError {
    #[error("it failed")]
    #[problem(transparent)]
    Store(std::io::Error, u32),
}

fn main() {}

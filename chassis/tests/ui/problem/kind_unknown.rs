use chassis::problem::Problem;

#[derive(Debug, thiserror::Error, Problem)]
enum OrderError {
    #[error("there is no such order")]
    #[problem(notfound)]
    Unknown,
    #[error("wrong")]
    #[problem(bad_request)]
    Wrong,
    #[error("nothing")]
    #[problem]
    Nothing,
}

fn main() {}

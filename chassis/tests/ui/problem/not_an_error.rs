use chassis::problem::Problem;

#[derive(Debug, Problem)]
enum OrderError {
    #[problem(not_found)]
    Unknown,
}

fn main() {}

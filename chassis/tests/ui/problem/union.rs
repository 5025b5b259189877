use chassis::problem::Problem;

#[derive(Problem)]
union OrderError {
    code: u32,
}

fn main() {}

use chassis::problem::Problem;

struct OrderId(u32);

#[derive(thiserror::Error, Problem)]
#[error("there is no order {}", id.0)]
#[problem(not_found)]
struct Unknown {
    #[problem(public)]
    id: OrderId,
}

impl std::fmt::Debug for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.id.0)
    }
}

fn main() {}

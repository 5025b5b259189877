use chassis::identity::BuildInfo;

fn main() {
    let build: BuildInfo = chassis::build_info!("orders");
    drop(build);
}

use super::*;

#[test]
fn a_path_that_comes_twice_does_not_panic() {
    let routes = || {
        let types = Shape::<(), ()>::new();
        let routes = GrpcRoutes::new("a.B").unary(RouteInfo::rpc("a.B", "C", "c"), types, |()| async { Ok(()) });
        routes.unary(RouteInfo::rpc("a.B", "C", "d"), types, |()| async { Ok(()) })
    };
    assert_eq!(routes().infos().len(), 2);
    assert!(GrpcRoutes::router(vec![routes(), routes()]).has_routes());
}

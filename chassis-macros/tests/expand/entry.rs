fn main() -> ::chassis::__private::ExitCode {
    /// Serves orders.
    async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
        let store = Store::open(&chassis.settings().store).await?;
        chassis.mount(Orders { store }).serve().await
    }
    const _: &[u8] = ::core::include_bytes!(".git/HEAD");
    const _: [::core::option::Option<&str>; 2] = [
        ::core::option_env!("CHASSIS_GIT_COMMIT"),
        ::core::option_env!("SOURCE_DATE_EPOCH"),
    ];
    ::chassis::__private::main(
        ::chassis::__private::BuildInfo {
            name: ::core::env!("CARGO_PKG_NAME"),
            version: ::core::env!("CARGO_PKG_VERSION"),
            git_commit: ::core::option::Option::Some(
                "0123456789abcdef0123456789abcdef01234567",
            ),
            built_at: "2023-11-14T22:13:20Z",
        },
        |chassis| async { ::chassis::__private::ended(main(chassis).await) },
    )
}

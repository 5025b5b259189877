const BUILD: BuildInfo = {
    const _: &[u8] = ::core::include_bytes!(".git/HEAD");
    const _: [::core::option::Option<&str>; 2] = [
        ::core::option_env!("CHASSIS_GIT_COMMIT"),
        ::core::option_env!("SOURCE_DATE_EPOCH"),
    ];
    ::chassis::__private::BuildInfo {
        name: ::core::env!("CARGO_PKG_NAME"),
        version: ::core::env!("CARGO_PKG_VERSION"),
        git_commit: ::core::option::Option::Some(
            "0123456789abcdef0123456789abcdef01234567",
        ),
        built_at: "2023-11-14T22:13:20Z",
    }
};

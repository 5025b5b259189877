//! Who this instance is: one source for the telemetry resource, the logs, `/info` and the discovery registration.

/// What the service's own build says of it, filled in by `#[chassis::main]`, or by [`build_info!`](crate::build_info), in the
/// service's crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct BuildInfo {
    /// The service's package name.
    pub name: &'static str,
    /// The service's package version, not the chassis's.
    pub version: &'static str,
    /// The git commit it was built from, when the build could tell.
    pub git_commit: Option<&'static str>,
    /// When it was built, RFC 3339 in UTC; `SOURCE_DATE_EPOCH` is honoured.
    pub built_at: &'static str,
}

/// The identity of one running instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Identity {
    /// `service.name` of the OpenTelemetry resource.
    pub service: String,
    /// `service.version`.
    pub version: String,
    /// `service.instance.id`: unique for each start.
    pub instance_id: String,
    /// `deployment.environment.name`: the configuration profile.
    pub environment: String,
    /// What the build says.
    pub build: BuildInfo,
}

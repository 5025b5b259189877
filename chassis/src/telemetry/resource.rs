//! Who sends the telemetry: the OpenTelemetry resource, made of the instance's identity and the standard variables.
//!
//! Source: OpenTelemetry specification, "Resource SDK"; attribute names from the semantic conventions for resources.

use opentelemetry::KeyValue;
use opentelemetry_sdk::{Resource, resource::TelemetryResourceDetector};

use crate::identity::Identity;

const SERVICE_NAME: &str = "service.name";
const SERVICE_VERSION: &str = "service.version";
const SERVICE_INSTANCE_ID: &str = "service.instance.id";
const ENVIRONMENT: &str = "deployment.environment.name";

/// What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResourceSettings {
    attributes: Vec<(String, String)>,
}

impl ResourceSettings {
    /// Reads the value of `OTEL_RESOURCE_ATTRIBUTES`: `key=value` pairs with commas between them, values percent-encoded.
    ///
    /// One broken pair refuses the whole value, as the specification has it.
    pub(crate) fn parse(attributes: &str) -> Result<Self, String> {
        Ok(Self { attributes: pairs(attributes)? })
    }

    /// Sets `service.name` by the value of `OTEL_SERVICE_NAME`, which goes before `OTEL_RESOURCE_ATTRIBUTES`.
    pub(crate) fn set_service_name(&mut self, name: &str) {
        self.attributes.push((SERVICE_NAME.to_owned(), name.to_owned()));
    }

    /// The identity after the environment had its say: what an operator sets goes before what the build says. What the
    /// configuration says goes before both.
    ///
    /// Every outlet (logs, `/info`, discovery, telemetry) should show this identity, so that all show the same.
    pub(crate) fn identify(&self, mut identity: Identity) -> Identity {
        for (key, value) in &self.attributes {
            let field = match key.as_str() {
                SERVICE_NAME => &mut identity.service,
                SERVICE_VERSION => &mut identity.version,
                SERVICE_INSTANCE_ID => &mut identity.instance_id,
                ENVIRONMENT => &mut identity.environment,
                _ => continue,
            };
            field.clone_from(value);
        }
        identity
    }

    /// The resource that every span and metric is sent with. The identity, which the environment had its say in
    /// already, goes before the attributes.
    pub(crate) fn resource(&self, identity: &Identity) -> Resource {
        let identity = identity.clone();
        let identified = [
            (SERVICE_NAME, identity.service),
            (SERVICE_VERSION, identity.version),
            (SERVICE_INSTANCE_ID, identity.instance_id),
            (ENVIRONMENT, identity.environment),
        ];
        // The later of two attributes with one key stays, so the detector's `telemetry.sdk.*` cannot be overwritten.
        Resource::builder_empty()
            .with_attributes(self.attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
            .with_attributes(
                identified
                    .into_iter()
                    .filter(|(_, value)| !value.is_empty())
                    .map(|(key, value)| KeyValue::new(key, value)),
            )
            .with_detector(Box::new(TelemetryResourceDetector))
            .build()
    }
}

/// Splits `a=b,c=d` and decodes the values. Messages never repeat a value: headers have the same form, and carry secrets.
pub(crate) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()))
                .filter(|(key, _)| !key.is_empty())
                .ok_or("found a part without key and \"=\", expected key=value with commas between the pairs")?;
            let value = percent_decode(value).ok_or_else(|| {
                format!("the value of {key} is not percent-encoded UTF-8; write a plain % as %25 and a comma as %2C")
            })?;
            Ok((key.to_owned(), value))
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            let digit =
                |index: usize| char::from(digits[index]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            bytes.push(digit(0)? * 16 + digit(1)?);
            rest = tail;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use opentelemetry::Key;

    use super::*;
    use crate::identity::BuildInfo;

    fn identity() -> Identity {
        Identity {
            service: "orders".to_owned(),
            version: "1.2.3".to_owned(),
            instance_id: "a-1".to_owned(),
            environment: "prod".to_owned(),
            build: BuildInfo { name: "orders", version: "1.2.3", git_commit: None, built_at: "" },
        }
    }

    fn attribute(settings: &ResourceSettings, key: &'static str) -> Option<String> {
        settings.resource(&settings.identify(identity())).get(&Key::from_static_str(key)).map(|value| value.to_string())
    }

    #[test]
    fn identity_and_sdk_are_in_the_resource() {
        let settings = ResourceSettings::default();
        for (key, value) in
            [(SERVICE_NAME, "orders"), (SERVICE_VERSION, "1.2.3"), (SERVICE_INSTANCE_ID, "a-1"), (ENVIRONMENT, "prod")]
        {
            assert_eq!(attribute(&settings, key).as_deref(), Some(value), "{key}");
        }
        assert_eq!(attribute(&settings, "telemetry.sdk.language").as_deref(), Some("rust"));
    }

    #[test]
    fn environment_goes_before_the_built_in_identity() {
        let settings =
            ResourceSettings::parse("service.version=9,team=pay%2Croll, telemetry.sdk.language=java").unwrap();
        assert_eq!(attribute(&settings, SERVICE_VERSION).as_deref(), Some("9"));
        assert_eq!(attribute(&settings, "team").as_deref(), Some("pay,roll"));
        assert_eq!(attribute(&settings, "telemetry.sdk.language").as_deref(), Some("rust"));
        assert_eq!(settings.identify(identity()).version, "9");
    }

    #[test]
    fn service_name_variable_goes_before_the_attribute() {
        let mut settings = ResourceSettings::parse("service.name=listed").unwrap();
        assert_eq!(attribute(&settings, SERVICE_NAME).as_deref(), Some("listed"));
        settings.set_service_name("named");
        assert_eq!(attribute(&settings, SERVICE_NAME).as_deref(), Some("named"));
    }

    #[test]
    fn one_broken_pair_refuses_the_whole_value() {
        for text in ["a=1,b", "=1", "a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(ResourceSettings::parse(text).is_err(), "{text}");
        }
        assert_eq!(ResourceSettings::parse(" , ").unwrap(), ResourceSettings::default());
    }
}

//! The messages of `proto/greetings/v1/greetings.proto`, and how the domain's types become them.

use crate::domain::Greeting;

pub(crate) mod proto {
    tonic::include_proto!("greetings.v1");
}

/// For reflection.
pub(crate) const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

impl From<Greeting> for proto::Greeting {
    fn from(greeting: Greeting) -> Self {
        Self { text: greeting.text }
    }
}

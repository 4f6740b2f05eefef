//! The wire contract, generated from `proto/`: messages, clients and servers. No logic.

/// Package `tagged.config.v1`.
#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::large_enum_variant,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("tagged.config.v1");
}

/// The encoded `FileDescriptorSet` of the public service and what it imports, for reflection.
pub const PUBLIC_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.bin"));

/// The metadata key that carries the refresh credential.
pub const REFRESH_CREDENTIAL_HEADER: &str = "x-refresh-credential";

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn reflection_knows_the_public_service_alone() {
        let files = prost_types::FileDescriptorSet::decode(PUBLIC_DESCRIPTOR_SET).unwrap();
        let services = files.file.iter().flat_map(|file| &file.service);
        let names: Vec<_> = services
            .map(prost_types::ServiceDescriptorProto::name)
            .collect();
        assert_eq!(names, ["ConfigService"]);
    }
}

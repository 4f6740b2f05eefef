//! Generates the gRPC code with a compiler written in Rust: no `protoc` is needed.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let public = "tagged/config/v1/config.proto";
    let internal = "tagged/config/v1/refresh.proto";
    let files = protox::compile([public, internal], [root])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    // Reflection is on the public port: it does not list the internal service.
    let reflected = protox::compile([public], [root])?;
    std::fs::write(out.join("public.bin"), prost_bytes(&reflected))?;
    // Taken from a message, and put into one, without a copy.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}

fn prost_bytes(files: &impl prost::Message) -> Vec<u8> {
    files.encode_to_vec()
}

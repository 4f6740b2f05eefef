//! Generates the gRPC code with a compiler written in Rust: no `protoc` is needed.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let files = protox::compile(
        [
            "tagged/config/v1/config.proto",
            "tagged/config/v1/refresh.proto",
        ],
        [root],
    )?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptor.bin"), prost_bytes(&files))?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

fn prost_bytes(files: &impl prost::Message) -> Vec<u8> {
    files.encode_to_vec()
}

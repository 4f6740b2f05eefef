//! Generates the gRPC code with a compiler written in Rust: once with `Bytes`, which shares a value, and once with
//! `Vec<u8>`, which copies it as `String` does.
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["floor.proto"], ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for (folder, shared) in [("shared", &["."][..]), ("copied", &[])] {
        let folder = out.join(folder);
        fs::create_dir_all(&folder)?;
        let mut builder = tonic_prost_build::configure()
            .build_client(false)
            .out_dir(folder);
        for path in shared {
            builder = builder.bytes(path);
        }
        builder.compile_fds(files.clone())?;
    }
    Ok(())
}

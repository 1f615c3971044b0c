//! Compiles the admin service's definition, the broker's own file, without an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = "../broker/proto";
    let files = protox::compile(["admin.proto"], [folder])?;
    println!("cargo:rerun-if-changed={folder}/admin.proto");
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

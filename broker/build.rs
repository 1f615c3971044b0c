//! Compiles the protobuf definitions without an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["admin.proto", "metadata.proto", "peers.proto", "raft.proto"], ["proto"])?;
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}

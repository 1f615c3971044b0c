//! Compiles what the nodes say to each other about metadata, the broker's own file, without an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = "../../broker/proto";
    let files = protox::compile(["peers.proto"], [folder])?;
    println!("cargo:rerun-if-changed={folder}/peers.proto");
    tonic_prost_build::configure().bytes(".").build_server(false).compile_fds(files)?;
    Ok(())
}

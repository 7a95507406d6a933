//! Compiles the RPC schema. The messages of the log come from the `events` crate, unchanged.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../../events/proto");
    let schema = protox::compile(["control.proto", "node.proto"], ["proto", "../../events/proto"])?;
    tonic_prost_build::configure()
        .btree_map(".")
        .extern_path(".swarmlog.v1", "::events")
        .type_attribute(".swarmlog.wire.v1", "#[derive(serde::Serialize)]")
        .compile_fds(schema)?;
    Ok(())
}

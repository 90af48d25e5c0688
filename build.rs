//! What the linker must be told: on Apple systems, that libmpi is the program's to bring (see `real!` in hooks.rs).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_VENDOR").as_deref() == Ok("apple") {
        for name in ["MPI_Comm_spawn", "MPI_Comm_spawn_multiple"] {
            println!("cargo::rustc-link-arg=-Wl,-U,_{name}");
        }
    }
}

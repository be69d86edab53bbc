//! Selects loom's atomics, for the library and for its models.

fn main() {
    println!("cargo::rustc-cfg=steadfast_loom");
    println!("cargo::rerun-if-changed=build.rs");
}

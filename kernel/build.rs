//! Hands the linker script to the linker; everything else about the build is in `.cargo/config.toml`.

use std::env;

fn main() {
    // Asked for when it runs, not when it was compiled: the checkout may have moved since.
    let script = env::var("CARGO_MANIFEST_DIR").unwrap_or_default() + "/kernel.ld";
    println!("cargo:rerun-if-changed={script}");
    if env::var("TARGET").as_deref() == Ok("x86_64-unknown-none") {
        println!("cargo:rustc-link-arg-bins=-T{script}");
        println!("cargo:rustc-link-arg-bins=--no-relax");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=0x1000");
        println!("cargo:rustc-link-arg-bins=-znoexecstack");
    }
}

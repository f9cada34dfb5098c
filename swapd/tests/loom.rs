//! The slot's protocols under the model checker: each model as written and with every access a read-modify-write (see
//! `quire_mm::sync`), then each of its defects, which must be found in one of the two. Every run is a process of its own.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p quire-swapd --profile loom --test loom [-- FILTER]
//! ```

#[cfg(not(loom))]
fn main() {
    println!("the models need RUSTFLAGS=\"--cfg loom\" and a target directory of their own");
}

#[cfg(loom)]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(loom)]
#[path = "loom/models.rs"]
mod models;
#[cfg(loom)]
#[path = "loom/run.rs"]
mod run;

#![doc = include_str!("../README.md")]

#[cfg(loom)]
mod area;
#[cfg(loom)]
mod machine;
#[cfg(loom)]
mod models;
#[cfg(loom)]
mod runner;
#[cfg(loom)]
mod world;

#[cfg(loom)]
fn main() -> std::process::ExitCode {
    runner::main()
}

#[cfg(not(loom))]
fn main() {
    eprintln!("build with RUSTFLAGS=\"--cfg loom\" and a target directory of its own; ./run.sh loom does");
    std::process::exit(2);
}

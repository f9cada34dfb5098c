#![doc = include_str!("../README.md")]

#[cfg(loom)]
mod orderings;
#[cfg(loom)]
mod runner;

#[cfg(loom)]
fn main() -> std::process::ExitCode {
    runner::main()
}

#[cfg(not(loom))]
fn main() {
    eprintln!("build with RUSTFLAGS=\"--cfg loom\" and a target directory of its own; ./run.sh loom does");
    std::process::exit(2);
}

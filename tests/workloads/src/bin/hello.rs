//! The smallest whole program: says hello, to the arguments too.

fn main() {
    println!("Hello from user space.");
    for (index, argument) in std::env::args().enumerate().skip(1) {
        println!("argument {index}: {argument}");
    }
}

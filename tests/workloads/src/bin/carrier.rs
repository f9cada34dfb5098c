//! Copies, prints and ends as it is told: the other side of the tests of input, output, statuses and arguments.

use std::io::{Read, Write, stdin, stdout};
use std::time::{Duration, Instant};

use quire_workloads::{Area, Stop, cpus, pin, spin};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |index: usize| arguments.get(index).map_or("", String::as_str);
    let number = |index: usize| text(index).parse::<u64>().unwrap_or(0);
    match text(0) {
        "exit" => std::process::exit(number(1) as i32),
        "copy" => copy(65_536, Duration::ZERO),
        "slow-copy" => copy(30_000, Duration::from_millis(10)),
        "pattern" => pattern(number(1)),
        "both" => {
            for line in 1..=2 {
                println!("out {line}");
                eprintln!("err {line}");
            }
        }
        "show" => show(),
        "cat" => copy_from(std::fs::File::open(text(1)).unwrap(), 65_536, Duration::ZERO),
        "for-ever" => {
            println!("began");
            loop {
                std::hint::spin_loop();
            }
        }
        "sleep" => loop {
            std::thread::park();
        },
        "clock" => clock(),
        "edit-beside-reader" => edit_beside_reader(Duration::from_secs(number(1))),
        other => {
            eprintln!("carrier: what is {other:?}?");
            std::process::exit(2);
        }
    }
}

fn copy(size: usize, pause: Duration) {
    copy_from(stdin(), size, pause);
}

fn copy_from(mut from: impl Read, size: usize, pause: Duration) {
    let mut buffer = vec![0; size];
    let mut to = stdout();
    loop {
        let length = from.read(&mut buffer).unwrap();
        if length == 0 {
            return to.flush().unwrap();
        }
        to.write_all(&buffer[..length]).unwrap();
        std::thread::sleep(pause);
    }
}

/// The same numbers as the test makes.
fn pattern(length: u64) {
    let bytes: Vec<u8> = (0..length).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    stdout().write_all(&bytes).unwrap();
}

fn show() {
    for argument in std::env::args() {
        println!("{argument}");
    }
    let mut environment: Vec<_> = std::env::vars().collect();
    environment.sort();
    for (name, value) in environment {
        println!("{name}={value}");
    }
}

/// Under counted instructions this is the same number every time.
fn clock() {
    let began = Instant::now();
    let mut sum = 0u64;
    for index in 0..100_000 {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(index));
    }
    println!("{} {}", sum, began.elapsed().as_nanos());
}

/// A thread on the last CPU reads all the time, and this one, on the first, replaces what that one may have translations of. They wait
/// for nothing of each other but the answers that a replacement needs.
fn edit_beside_reader(time: Duration) {
    const PAGES: usize = 16;
    let end = Instant::now() + time;
    let (area, stop) = (Area::new(PAGES), Stop::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(cpus() - 1);
            while !stop.stopped() {
                area.read(0, 0);
            }
        });
        pin(0);
        while Instant::now() < end {
            area.write(1, 0, 1);
            area.replace(1..PAGES, libc::PROT_READ | libc::PROT_WRITE);
            spin(1000);
        }
        stop.stop();
    });
}

//! A pipeline of processes: bytes arrive whole and in order, ends of file pass on, a write without a reader fails.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::thread;

use quire_workloads::process::fork;
use quire_workloads::{Budget, Random, check, counters, cpus, ok, pin};

const STAGES: usize = 4;
const BYTES: usize = 1 << 20;

fn main() {
    let budget = Budget::from_arguments(2);
    for round in budget.rounds() {
        pipeline(round);
        without_reader();
        by_threads();
        last_words();
        answers();
    }
    ok();
}

fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are owned below and by nobody else.
    unsafe {
        check!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) == 0, "pipe2: {}", io::Error::last_os_error());
        (OwnedFd::from_raw_fd(ends[0]).into(), OwnedFd::from_raw_fd(ends[1]).into())
    }
}

/// Each stage adds one to every byte.
fn pipeline(seed: u64) {
    let (mut next, mut first) = (None, None);
    let mut children = Vec::new();
    for _ in 0..STAGES {
        let (input, to_input) = match next.take() {
            Some(input) => (input, None),
            None => {
                let (input, to_input) = pipe();
                (input, Some(to_input))
            }
        };
        first = first.or(to_input);
        let (output, to_output) = pipe();
        children.push(fork(|| {
            drop(first.take());
            stage(input, to_output);
            0
        }));
        next = Some(output);
    }
    let (mut to_first, mut last) = (first.unwrap(), next.unwrap());
    let mut random = Random::new(seed);
    let sent: Vec<u8> = (0..BYTES).map(|_| random.draw() as u8).collect();
    let expected: Vec<u8> = sent.iter().map(|byte| byte.wrapping_add(STAGES as u8)).collect();
    let writer = thread::spawn(move || {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let length = (1 + random.below(10_000)).min(rest.len());
            check!(to_first.write_all(&rest[..length]).is_ok(), "a write into the pipeline failed");
            rest = &rest[length..];
        }
    });
    let mut received = Vec::new();
    check!(last.read_to_end(&mut received).is_ok(), "reading the pipeline's end failed");
    check!(received == expected, "{} bytes came out of the pipeline, not those that went in", received.len());
    check!(writer.join().is_ok(), "the writer failed");
    for child in children {
        child.expect_success("a stage");
    }
}

fn stage(mut input: File, mut output: File) {
    let mut buffer = [0; 5000];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                buffer[..length].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
                check!(output.write_all(&buffer[..length]).is_ok(), "a stage cannot write");
            }
            Err(error) => check!(false, "a stage cannot read: {error}"),
        }
    }
}

/// What a writer says just before it goes is heard by a reader that looks just then.
fn last_words() {
    for n in 0..100u8 {
        let (mut reader, mut writer) = pipe();
        let mut heard = Vec::new();
        thread::scope(|scope| {
            scope.spawn(move || {
                // At another moment each time, as seen from the reader.
                (0..u32::from(n) * 20).for_each(|_| std::hint::spin_loop());
                check!(writer.write_all(&[n; 3]).is_ok(), "a write failed");
            });
            check!(reader.read_to_end(&mut heard).is_ok(), "a read failed");
        });
        check!(heard == [n; 3], "{heard:?} heard instead of three times {n}");
    }
}

/// Rust ignores SIGPIPE, so the write has to say it.
fn without_reader() {
    let (reader, mut writer) = pipe();
    drop(reader);
    let error = writer.write(b"x").err().and_then(|error| error.raw_os_error());
    check!(error == Some(libc::EPIPE), "a write without a reader: {error:?}");
}

/// Many writers, one reader: short writes are atomic.
fn by_threads() {
    let (mut reader, writer) = pipe();
    thread::scope(|scope| {
        for index in 0..8u8 {
            let mut writer = writer.try_clone().unwrap();
            scope.spawn(move || {
                for _ in 0..200 {
                    check!(writer.write_all(&[index; 100]).is_ok(), "a write failed");
                }
            });
        }
        drop(writer);
        let (mut record, mut count) = ([0; 100], 0);
        while reader.read_exact(&mut record).is_ok() {
            check!(record.iter().all(|&byte| byte == record[0]), "two writes of 100 bytes mingled");
            count += 1;
        }
        check!(count == 1600, "{count} records of 1600 arrived");
    });
}

/// Questions and answers between two CPUs. Quire's CPUs have to learn that the waits are short, and then look out for what comes
/// before they halt. A busy host makes waits long: so there are several tries.
fn answers() {
    const TRIES: usize = 40;
    let found = || counters().into_iter().find(|(name, _)| name == "halt_polls_found").map(|(_, n)| n);
    let (before, several) = (found(), cpus() > 1);
    let ((mut asked, mut question), (mut answer, mut answered)) = (pipe(), pipe());
    let answering = thread::spawn(move || {
        pin(1);
        let mut byte = [0];
        while asked.read_exact(&mut byte).is_ok() {
            check!(answered.write_all(&[!byte[0]]).is_ok(), "an answer failed");
        }
    });
    let asking = thread::spawn(move || {
        pin(0);
        for _ in 0..TRIES {
            for i in 0..=u8::MAX {
                let mut byte = [0];
                check!(question.write_all(&[i]).is_ok(), "a question failed");
                check!(answer.read_exact(&mut byte).is_ok() && byte == [!i], "{byte:?} is the answer to {i}");
            }
            if found() > before {
                return;
            }
        }
        check!(before.is_none() || !several, "no CPU looked out for an answer before it halted");
    });
    check!(asking.join().is_ok() && answering.join().is_ok(), "a question or an answer failed");
}

//! Bad input: programs that do what they must not, files that are no programs. The program ends as on Linux, the audit
//! is clean, and the kernel goes on: an ordinary program runs after each group.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use quire_launch::How;

use crate::House;
use crate::bounded;
use crate::guest::{self, Case, Scratch, compare};
use crate::tally::Tally;

/// Tests all of it, on one CPU and on four.
pub fn test(house: &House, tally: &mut Tally) {
    tally.part("bad input");
    forbidden(house, tally);
    pointers(house, tally);
    match Scratch::new(house, "malformed") {
        Ok(scratch) => malformed(house, &scratch, tally),
        Err(error) => tally.result("malformed files", Err(error.to_string())),
    }
}

/// Everything that `badinput` can do, and an ordinary program at the end.
fn forbidden(house: &House, tally: &mut Tally) {
    let listing = bounded::output(Command::new(house.program("badinput-musl")).arg("list"), b"", bounded::OWN_LIMIT);
    let listing = match listing {
        Ok(listing) => listing,
        Err(why) => return tally.result("badinput list", Err(why)),
    };
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let mut cases: Vec<Case> = listing
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(|name| Case::new(house, "badinput-musl", &[name]).named(format!("badinput {name}")))
        .collect();
    cases.push(Case::new(house, "hello", &["afterwards"]).named("hello after bad programs"));
    for cpus in [1, 4] {
        guest::run(&guest::machine(house, cpus, 120), &cases, |case, report| {
            let outcome = report.map_err(|broken| broken.0).and_then(|report| compare(report, case.oracle()));
            tally.result(&format!("{} on {cpus} CPUs", case.name), outcome);
        });
    }
}

/// Wild pointers and wild arguments to system calls.
fn pointers(house: &House, tally: &mut Tally) {
    let cases = [
        Case::new(house, "badinput-musl", &["pointers"]).named("wild pointers (musl)"),
        Case::new(house, "badinput-glibc", &["pointers"]).named("wild pointers (glibc)"),
        Case::new(house, "badinput-musl", &["numbers"]).named("wild arguments to every system call"),
        Case::new(house, "hello", &["afterwards"]).named("hello after wild arguments"),
    ];
    guest::run(&guest::machine(house, 4, 180), &cases, |case, report| {
        let outcome = report.map_err(|broken| broken.0).and_then(|report| {
            if case.arguments[0] != "numbers" {
                return compare(report, case.oracle());
            }
            let shown = String::from_utf8_lossy(&report.stdout);
            match report.how {
                How::Exited(0) if shown.ends_with("still here\n") && report.audit_clean => Ok(()),
                how => Err(format!("{how:?}, audit clean: {}; {}", report.audit_clean, shown.trim())),
            }
        });
        tally.result(&case.name, outcome);
    });
}

/// What the kernel may do with a malformed file.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    /// ENOEXEC, nothing else.
    Refused,
    /// Refused, or started and ended somehow: what is wrong shows only when it runs, if at all.
    Ended,
}

fn malformed(house: &House, scratch: &Scratch, tally: &mut Tally) {
    let files = match write_malformed(house, scratch.path()) {
        Ok(files) => files,
        Err(error) => return tally.result("malformed files", Err(error.to_string())),
    };
    let hello = Case::new(house, "hello", &["afterwards"]).named("hello after malformed files");
    let cases: Vec<Case> = files.iter().map(|(case, _)| case.clone()).chain([hello]).collect();
    guest::run(&guest::machine(house, 2, 120), &cases, |case, report| {
        let verdict = files.iter().find(|(file, _)| file.name == case.name).map(|&(_, verdict)| verdict);
        let outcome = report.map_err(|broken| broken.0).and_then(|report| match (verdict, report.how) {
            _ if !report.audit_clean => Err("the audit found something wrong".into()),
            (None, _) => compare(report, case.oracle()),
            (_, How::NotStarted(libc::ENOEXEC)) | (Some(Verdict::Ended), _) => Ok(()),
            // Linux kills a program whose old image is gone already.
            (_, How::Signalled(libc::SIGKILL | libc::SIGSEGV)) => Ok(()),
            (_, how) => Err(format!("{how:?} instead of ENOEXEC")),
        });
        tally.result(&case.name, outcome);
    });
}

fn write_malformed(house: &House, directory: &Path) -> io::Result<Vec<(Case, Verdict)>> {
    let good = fs::read(house.program("posix-musl"))?;
    let mut files = Vec::new();
    let mut add = |name: &str, contents: &[u8], verdict| -> io::Result<()> {
        let program = directory.join(name);
        fs::write(&program, contents)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        files.push((Case { name: format!("malformed {name}"), program, arguments: Vec::new() }, verdict));
        Ok(())
    };
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    // Offsets in the ELF header: 16 type, 18 machine, 24 entry, 32 program headers' place, 54 their size, 56 number.
    // A program header: 0 type, 4 flags, 8 offset, 16 address, 32 size in file, 40 in memory, 48 alignment.
    let header = |index: usize, field: usize| 64 + 56 * index + field;
    add("empty", &[], Verdict::Refused)?;
    add("text", b"only text\n", Verdict::Refused)?;
    add("script", b"#!/nonexistent/interpreter\n", Verdict::Ended)?;
    add("magic-only", &good[..4], Verdict::Refused)?;
    add("half-header", &good[..40], Verdict::Refused)?;
    add("header-only", &good[..64], Verdict::Refused)?;
    add("half-table", &good[..100], Verdict::Refused)?;
    add("32-bit", &patched(4, &[1]), Verdict::Refused)?;
    add("big-endian", &patched(5, &[2]), Verdict::Ended)?;
    add("other-machine", &patched(18, &[183, 0]), Verdict::Refused)?;
    add("relocatable", &patched(16, &[1, 0]), Verdict::Refused)?;
    add("core", &patched(16, &[4, 0]), Verdict::Refused)?;
    add("table-far", &patched(32, &u64::MAX.to_le_bytes()), Verdict::Refused)?;
    add("table-behind", &patched(32, &(good.len() as u64).to_le_bytes()), Verdict::Refused)?;
    add("table-entry-size", &patched(54, &[32, 0]), Verdict::Refused)?;
    add("no-segments", &patched(56, &[0, 0]), Verdict::Refused)?;
    add("many-segments", &patched(56, &[0xff, 0xff]), Verdict::Refused)?;
    add("entry-null", &patched(24, &0u64.to_le_bytes()), Verdict::Ended)?;
    add("entry-kernel", &patched(24, &0xffff_ffff_8000_0000u64.to_le_bytes()), Verdict::Ended)?;
    add("entry-noncanonical", &patched(24, &0x8000_0000_0000_0000u64.to_le_bytes()), Verdict::Ended)?;
    for (name, field, value) in [
        ("address-kernel", 16, 0xffff_8000_0000_0000u64),
        ("address-top", 16, u64::MAX - 0xfff),
        ("address-limit", 16, 0x7fff_ffff_f000),
        ("address-odd", 16, 0x40_0001),
        ("address-null", 16, 0),
        ("offset-far", 8, 1 << 40),
        ("offset-top", 8, u64::MAX - 0xfff),
        ("offset-odd", 8, 7),
        ("file-size-far", 32, 1 << 40),
        ("file-size-top", 32, u64::MAX),
        ("memory-size-far", 40, 1 << 46),
        ("memory-size-top", 40, u64::MAX),
        ("memory-size-small", 40, 1),
        ("alignment-odd", 48, 3),
        ("alignment-far", 48, 1 << 62),
    ] {
        for index in 0..4 {
            let program = patched(header(index, field), &value.to_le_bytes());
            add(&format!("{name}-{index}"), &program, Verdict::Ended)?;
        }
    }
    for length in [120, 500, 4096, 5000, good.len() / 2, good.len() - 4096] {
        add(&format!("cut-at-{length}"), &good[..length], Verdict::Ended)?;
    }
    let mut state = 0x1234_5678_9abc_def1u64;
    for index in 0..24 {
        let mut file = good.clone();
        for _ in 0..1 + index % 4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            file[4 + (state >> 32) as usize % 400] = state as u8;
        }
        add(&format!("random-{index}"), &file, Verdict::Ended)?;
    }
    Ok(files)
}

//! The launcher against a stand-in for QEMU: a shell script that speaks the guest's side of the channel.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Frames that the scripts send.
const DONE: &str = r"printf '\005\0\0\0\0'";
const EXIT_3: &str = r"printf '\003\011\0\0\0\0\0\0\0\0\003\0\0\0'";

struct Fake {
    directory: PathBuf,
}

impl Fake {
    fn new(name: &str, script: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("quire-fake-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("qemu");
        fs::write(&path, format!("#!/bin/bash\ncd {}\n{script}\n", directory.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quire-launch"));
        command.arg("--qemu").arg(self.directory.join("qemu")).arg("--logs").arg(self.directory.join("logs"));
        command.args(["--kernel", "/nonexistent"]).args(options);
        command
    }

    fn run(&self, options: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(options);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn output_and_status_are_the_programs() {
    let fake = Fake::new(
        "output",
        &format!(r"printf '\001\004\0\0\0\0\r\n\377\002\003\0\0\0err\007\010\0\0\0\0\0\0\0\0\0\0\0'; {EXIT_3}; {DONE}"),
    );
    let output = fake.run(&["/bin/true"], b"");
    assert_eq!(output.stdout, b"\0\r\n\xff");
    assert_eq!(text(&output.stderr), "err");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(fs::read_dir(fake.directory.join("logs")).unwrap().count(), 0, "a good run leaves no log");
}

#[test]
fn input_arrives_whole_and_ends() {
    // One frame of two bytes, then the end, copied as they come.
    let fake = Fake::new("input", &format!("head -c 12 > input; {EXIT_3}; {DONE}"));
    let output = fake.run(&["/bin/true"], b"ab");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(fs::read(fake.directory.join("input")).unwrap(), b"\x01\x02\0\0\0ab\x02\0\0\0\0");
}

#[test]
fn megabytes_pass_unchanged() {
    let fake = Fake::new(
        "megabytes",
        &format!(
            r"for i in $(seq 64); do printf '\001\0\0\004\0'; head -c 262144 /dev/zero | tr '\0' \\$(printf %o $i); done; {EXIT_3}; {DONE}"
        ),
    );
    let output = fake.run(&["/bin/true"], b"");
    let expected: Vec<u8> = (1..=64).flat_map(|byte| std::iter::repeat_n(byte, 262_144)).collect();
    assert!(output.stdout == expected, "{} bytes", output.stdout.len());
}

#[test]
fn what_goes_wrong_has_a_status_and_a_log() {
    for (name, script, status, says) in [
        ("panic", r"printf '\006\003\0\0\0ohh'; sleep 0.1; exit 67", 120, "ohh"),
        ("quiet-panic", "exit 67", 120, "panicked"),
        ("gone", "echo lost >&2; exit 1", 122, "without a word"),
        ("nonsense", r"printf '\177\0\0\0\0'; sleep 60", 122, "type 127"),
        (
            "audit",
            r"printf '\003\011\0\0\0\0\0\0\0\0\0\0\0\0\003\011\0\0\0\0\0\0\0\003\0\0\0\0\005\0\0\0\0'",
            121,
            "audit",
        ),
        ("enoexec", r"printf '\003\011\0\0\0\0\0\0\0\002\010\0\0\0\005\0\0\0\0'", 126, "Exec format"),
        ("no-result", DONE, 122, "without a result"),
    ] {
        let output = Fake::new(name, script).run(&["/bin/true"], b"");
        assert_eq!(output.status.code(), Some(status), "{name}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(says), "{name}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("quire: log: /"), "{name}: {}", text(&output.stderr));
    }
}

#[test]
fn a_signal_becomes_128_and_its_number() {
    let fake = Fake::new("signal", &format!(r"printf '\003\011\0\0\0\0\0\0\0\001\013\0\0\0'; {DONE}"));
    assert_eq!(fake.run(&["/bin/true"], b"").status.code(), Some(139));
}

#[test]
fn time_runs_out() {
    let fake = Fake::new("timeout", r"echo $$ > pid; printf '\001\002\0\0\0hi'; exec sleep 60");
    let began = Instant::now();
    let output = fake.run(&["--timeout", "0.5", "/bin/true"], b"");
    assert_eq!(output.status.code(), Some(124), "{}", text(&output.stderr));
    assert_eq!(output.stdout, b"hi");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_gone(&fake);
}

#[test]
fn the_machine_dies_with_its_launcher() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGKILL] {
        let fake = Fake::new(&format!("orphan-{signal}"), "echo $$ > pid; exec sleep 60");
        let mut child = fake.command(&["/bin/true"]).stdin(Stdio::null()).spawn().unwrap();
        wait_for(|| fs::read(fake.directory.join("pid")).is_ok_and(|pid| !pid.is_empty()));
        // SAFETY: a system call on values.
        unsafe { libc::kill(child.id().cast_signed(), signal) };
        child.wait().unwrap();
        assert_gone(&fake);
    }
}

#[test]
fn a_closed_output_ends_the_run_as_sigpipe_would() {
    let fake = Fake::new("sigpipe", r"echo $$ > pid; while printf '\001\002\0\0\0hi'; do :; done; exec sleep 60");
    let mut child = fake.command(&["/bin/true"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    wait_for(|| fs::read(fake.directory.join("pid")).is_ok_and(|pid| !pid.is_empty()));
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(141));
}

#[test]
fn files_that_are_no_programs() {
    let fake = Fake::new("files", "exit 1");
    for (arguments, status) in [
        (&["/nonexistent/program"][..], 127),
        (&["no-such-program-anywhere"], 127),
        (&["/etc"], 126),
        (&["/etc/passwd"], 126),
        (&["--no-such-option", "/bin/true"], 2),
        (&[], 2),
        (&["--cpus", "65", "/bin/true"], 2),
        (&["--file", "/nonexistent", "/bin/true"], 125),
    ] {
        let output = fake.run(arguments, b"");
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_programs_own_options_stay_its_own() {
    let fake = Fake::new("options", &format!("{EXIT_3}; {DONE}"));
    for arguments in [&["/bin/true", "--cpus", "99"][..], &["--", "/bin/true", "--help"], &["/bin/true", "--", "-x"]] {
        assert_eq!(fake.run(arguments, b"").status.code(), Some(3), "{arguments:?}");
    }
}

fn assert_gone(fake: &Fake) {
    let pid = fs::read_to_string(fake.directory.join("pid")).unwrap();
    wait_for(|| !fs::exists(format!("/proc/{}/exe", pid.trim())).unwrap() || zombie(pid.trim()));
}

fn zombie(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < patience, "nothing happened for 10 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! QEMU's monitor, for one purpose: before a run is given up, every CPU is interrupted, and the kernel writes into its log where
//! each of them, and each thread, stands.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The word before each line of the kernel's watchdog, in the log.
const MARK: &str = "watchdog: ";
/// The last line of a report.
const END: &str = "watchdog: end of the report";

/// Makes the kernel report, and waits for the report: some seconds at most. `monitor` is connected to QEMU's monitor (its QMP).
pub(crate) fn report(mut monitor: UnixStream, log: &Path) {
    let before = ends(log);
    // QEMU greets first; whoever does not is no QEMU.
    let mut greeting = [0; 4096];
    let _ = monitor.set_read_timeout(Some(Duration::from_secs(1)));
    if !matches!(monitor.read(&mut greeting), Ok(length) if length != 0) {
        return;
    }
    if monitor.write_all(br#"{"execute":"qmp_capabilities"}{"execute":"inject-nmi"}"#).is_err() {
        return;
    }
    let patience = Instant::now() + Duration::from_secs(8);
    while ends(log) == before && Instant::now() < patience {
        thread::sleep(Duration::from_millis(20));
    }
}

fn ends(log: &Path) -> usize {
    fs::read(log).map_or(0, |text| String::from_utf8_lossy(&text).matches(END).count())
}

/// What the kernel's watchdog has written into a log: nothing, if all went well.
pub fn stalls(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(|line| line.split_once(MARK)).fold(String::new(), |told, (_, line)| told + line + "\n")
}

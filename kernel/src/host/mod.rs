//! The host's end of the job: its stdin, stdout and stderr, and what it is told about.
//!
//! One byte stream each way over virtio-console, cut into frames `[kind u8][length u32][payload]` (see the launcher). Without the
//! device what would go to stdout and stderr goes to the log, for boots by hand.

pub mod hal;

use core::sync::atomic::{AtomicBool, Ordering};
use hal::KernelHal;
use quire_arch::irq;
use quire_base::cpu;
use quire_base::lock::Mutex;
use quire_drivers::console::Console;
use quire_sched::{WaitQueue, timer};

/// Frame kind: bytes for stdout.
pub const STDOUT: u8 = 1;
/// Frame kind: bytes for stderr.
pub const STDERR: u8 = 2;
const JOB_ENDED: u8 = 3;
const LINE: u8 = 4;
const FINISHED: u8 = 5;
const PANIC: u8 = 6;
const STARTED: u8 = 7;
const STDIN: u8 = 1;
const STDIN_END: u8 = 2;
const HEADER: usize = 5;

/// A leaf lock; also taken by the interrupt handler, which is why it is held with interrupts off only (as all kernel code runs).
static CONSOLE: Mutex<Option<Console<KernelHal>>> = Mutex::new(None);
/// Writers that wait for room.
static ROOM: WaitQueue = WaitQueue::new();
/// Readers of stdin.
static READERS: WaitQueue = WaitQueue::new();

const RING: usize = 65536;

/// Bytes from the host that nobody has read yet, and the frame that is being taken apart.
struct Stdin {
    ring: [u8; RING],
    start: usize,
    len: usize,
    ended: bool,
    header: [u8; HEADER],
    header_len: usize,
    payload: usize,
}

/// Taken after `CONSOLE` where both are.
static INPUT: Mutex<Stdin> = Mutex::new(Stdin {
    ring: [0; RING],
    start: 0,
    len: 0,
    ended: false,
    header: [0; HEADER],
    header_len: 0,
    payload: 0,
});

impl Stdin {
    fn push(&mut self, bytes: &[u8]) {
        for &b in bytes {
            // The driver posts no more than there is room for; a byte too many would be the host's lie.
            if self.len < RING {
                self.ring[(self.start + self.len) % RING] = b;
                self.len += 1;
            }
        }
    }

    /// Takes frames apart.
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let n = self.payload.min(bytes.len());
                if self.header[0] == STDIN {
                    self.push(&bytes[..n]);
                }
                self.payload -= n;
                bytes = &bytes[n..];
                continue;
            }
            self.header[self.header_len] = bytes[0];
            self.header_len += 1;
            bytes = &bytes[1..];
            if self.header_len == HEADER {
                let [kind, a, b, c, d] = self.header;
                self.header_len = 0;
                self.payload = u32::from_le_bytes([a, b, c, d]) as usize;
                self.ended |= kind == STDIN_END;
            }
        }
    }
}

/// Finds the console. Its interrupts come to this CPU.
pub fn start() {
    // ordering: Relaxed; our own.
    let apic_id = cpu::this().apic_id.load(Ordering::Relaxed);
    // SAFETY: called once at boot, and nothing else uses PCI.
    match unsafe { Console::start(apic_id, irq::CONSOLE) } {
        Ok(console) => {
            *CONSOLE.lock() = Some(console);
            interrupt();
        }
        Err(why) => {
            INPUT.lock().ended = true;
            log::warn!("no console ({why:?}): output goes to the log, stdin is empty");
        }
    }
}

/// The console's interrupt: something was sent or has come.
pub fn interrupt() {
    if let Some(console) = &mut *CONSOLE.lock() {
        console.advance();
        receive(console);
    }
    ROOM.wake_all();
    READERS.wake_all();
}

fn receive(console: &mut Console<KernelHal>) {
    console.receive(
        || {
            let input = INPUT.lock();
            RING - input.len
        },
        |bytes| INPUT.lock().feed(bytes),
    );
}

/// Sends a frame as a whole if there is room for it now.
fn try_frame(kind: u8, parts: &[&[u8]]) -> bool {
    let mut guard = CONSOLE.lock();
    let Some(console) = &mut *guard else {
        drop(guard);
        if kind == STDOUT || kind == STDERR || kind == LINE {
            parts.iter().for_each(|p| crate::debug::raw(p));
        }
        return true;
    };
    let len: usize = parts.iter().map(|p| p.len()).sum();
    console.advance();
    if console.room() < HEADER + len {
        return false;
    }
    console.put(&[kind]);
    console.put(&(len as u32).to_le_bytes());
    for part in parts {
        console.put(part);
    }
    console.advance();
    true
}

fn frame(kind: u8, parts: &[&[u8]]) {
    let _ = ROOM.wait(None, false, || try_frame(kind, parts).then_some(()));
}

/// Sends bytes to [`STDOUT`] or [`STDERR`]; waits while the host does not take them.
pub fn send(stream: u8, bytes: &[u8]) {
    for part in bytes.chunks(16384) {
        frame(stream, &[part]);
    }
}

/// Sends a line of text for the user to see on stderr.
pub fn line(text: &str) {
    frame(LINE, &[text.as_bytes(), b"\n"]);
}

/// Tells how job number `job` ended: kind 0 exited with `value`, 1 killed by signal `value`, 2 not started (errno `value`),
/// 3 the audit after it failed.
pub fn job_ended(job: u32, kind: u8, value: i32) {
    frame(JOB_ENDED, &[&job.to_le_bytes(), &[kind], &value.to_le_bytes()]);
}

/// Tells that the first program is about to run, and how long the boot took.
pub fn started() {
    let now = timer::now_ns();
    log::info!("first program after {} us", now / 1000);
    frame(STARTED, &[&now.to_le_bytes()]);
}

/// Takes what has come on stdin; 0: nothing now.
pub fn read_stdin(to: &mut [u8]) -> usize {
    let mut n = 0;
    {
        let input = &mut *INPUT.lock();
        while n < to.len() && input.len > 0 {
            to[n] = input.ring[input.start];
            input.start = (input.start + 1) % RING;
            input.len -= 1;
            n += 1;
        }
    }
    if n > 0
        && let Some(console) = &mut *CONSOLE.lock()
    {
        receive(console);
    }
    n
}

/// Bytes that have come and are not read.
pub fn stdin_len() -> usize {
    INPUT.lock().len
}

/// Whether the host has closed stdin and everything was read.
pub fn stdin_ended() -> bool {
    let input = INPUT.lock();
    input.ended && input.len == 0
}

/// Where readers of stdin wait.
pub fn stdin_queue() -> &'static WaitQueue {
    &READERS
}

/// Polls until everything has left, `ns` at most.
fn drain(ns: u64) {
    let end = timer::now_ns() + ns;
    while timer::now_ns() < end {
        let mut guard = CONSOLE.lock();
        let Some(console) = &mut *guard else { return };
        console.flush();
        if console.is_drained() {
            return;
        }
        drop(guard);
        core::hint::spin_loop();
    }
}

/// All jobs have ended: tells the host and powers off.
pub fn finish() -> ! {
    static ONCE: AtomicBool = AtomicBool::new(false);
    // ordering: Relaxed; the first caller wins.
    if ONCE.swap(true, Ordering::Relaxed) {
        quire_arch::halt_forever();
    }
    frame(FINISHED, &[]);
    // The host may be slow to read megabytes: wait for it as long as it takes, with the CPU given away.
    let _ = ROOM.wait(None, false, || match &mut *CONSOLE.lock() {
        Some(console) => {
            console.advance();
            console.is_drained().then_some(())
        }
        None => Some(()),
    });
    log::info!("done");
    quire_arch::debug_exit(0);
}

/// The report of a panic, if the console is not in the middle of something.
pub fn panic(report: &[u8]) {
    // If the lock is held, this CPU or another has stopped inside the driver: the log has the report, too.
    if CONSOLE.try_lock().is_none() {
        return;
    }
    if try_frame(PANIC, &[report]) {
        drain(1_000_000_000);
    }
}

//! Clocks to measure other clocks by, and the calendar.

use x86::io::{inb, inl, outb};
use x86::time::rdtsc;

/// A free-running counter of known frequency.
#[derive(Clone, Copy, Debug)]
pub enum Reference {
    /// The ACPI PM timer at this port: 24 bits at 3.579545 MHz.
    PmTimer(u16),
    /// The PIT's channel 2: 16 bits, counting down at 1.193182 MHz.
    Pit,
}

/// One look at a reference counter and the time stamp counter at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    count: u32,
    /// The time stamp counter.
    pub tsc: u64,
}

impl Reference {
    /// Starts it; the PM timer always runs.
    pub fn start(self) {
        if let Reference::Pit = self {
            // SAFETY: channel 2 of the PIT (gate on, speaker off, mode 0, longest period) drives nothing else.
            unsafe {
                outb(0x61, inb(0x61) & !2 | 1);
                outb(0x43, 0xb0);
                outb(0x42, 0xff);
                outb(0x42, 0xff);
            }
        }
    }

    fn count(self) -> u32 {
        // SAFETY: reading the counters has no effect but the PIT's latch.
        unsafe {
            match self {
                Reference::PmTimer(port) => inl(port) & 0xff_ffff,
                Reference::Pit => {
                    outb(0x43, 0x80);
                    0xffff - (inb(0x42) as u32 | (inb(0x42) as u32) << 8)
                }
            }
        }
    }

    fn hertz(self) -> u64 {
        match self {
            Reference::PmTimer(_) => 3_579_545,
            Reference::Pit => 1_193_182,
        }
    }

    /// Reads both counters. A virtual CPU may lose its turn between the two reads, so the closest of some pairs counts.
    pub fn sample(self) -> Sample {
        let mut best = (u64::MAX, Sample { count: 0, tsc: 0 });
        for _ in 0..6 {
            // SAFETY: the time stamp counter is readable in the kernel.
            let before = unsafe { rdtsc() };
            let count = self.count();
            // SAFETY: as above.
            let after = unsafe { rdtsc() };
            let width = after.wrapping_sub(before);
            if width < best.0 {
                best = (width, Sample { count, tsc: before + width / 2 });
            }
        }
        best.1
    }

    /// Nanoseconds between two samples (less than the counter's period apart: 4.6 s or 54 ms).
    pub fn elapsed_ns(self, from: Sample, to: Sample) -> u64 {
        let mask = if let Reference::PmTimer(_) = self { 0xff_ffff } else { 0xffff };
        (to.count.wrapping_sub(from.count) & mask) as u64 * 1_000_000_000 / self.hertz()
    }
}

fn cmos(register: u8) -> u8 {
    // SAFETY: the index and data ports of the calendar clock; bit 7 keeps NMIs as they are (enabled).
    unsafe {
        outb(0x70, register);
        inb(0x71)
    }
}

/// Seconds since 1970 as the calendar clock tells (it runs in UTC).
pub fn calendar() -> u64 {
    let read = || [0, 2, 4, 7, 8, 9].map(cmos);
    let mut now = read();
    for _ in 0..1000 {
        // An update in progress shows as a changed value, so two equal readings are a good one.
        let again = read();
        if again == now && cmos(0xa) & 0x80 == 0 {
            break;
        }
        now = again;
    }
    let status = cmos(0xb);
    let number = |v: u8| if status & 4 != 0 { v as u64 } else { (v & 15) as u64 + (v >> 4) as u64 * 10 };
    let mut hour = number(now[2] & 0x7f);
    if status & 2 == 0 {
        hour = hour % 12 + if now[2] & 0x80 != 0 { 12 } else { 0 };
    }
    let (day, month, year) = (number(now[3]), number(now[4]), 2000 + number(now[5]));
    // Days from the civil date (years begin in March).
    let y = if month <= 2 { year - 1 } else { year };
    let m = (month + 9) % 12;
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + day - 1 - 719_468;
    ((days * 24 + hour) * 60 + number(now[1])) * 60 + number(now[0])
}

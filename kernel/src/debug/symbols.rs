//! Names for addresses, from the kernel's own ELF file.
//!
//! The loader does not load symbols, so the file itself is read, at the time of the panic, from QEMU's firmware configuration
//! device: `-fw_cfg name=opt/quire/kernel,file=KERNEL`. Without that the addresses stand alone.

use core::fmt::Write;
use rustc_demangle::demangle;
use x86::io::{inb, outw};

/// A file of the device, read front to back.
struct File {
    at: u64,
    selector: u16,
}

fn select(selector: u16) {
    // SAFETY: the selector port of the firmware configuration device; without the device nobody listens.
    unsafe { outw(0x510, selector) };
}

fn read(to: &mut [u8]) {
    for b in to {
        // SAFETY: its data port.
        *b = unsafe { inb(0x511) };
    }
}

impl File {
    fn open(name: &[u8]) -> Option<File> {
        let mut signature = [0; 4];
        select(0);
        read(&mut signature);
        if &signature != b"QEMU" {
            return None;
        }
        select(0x19);
        let mut count = [0; 4];
        read(&mut count);
        for _ in 0..u32::from_be_bytes(count).min(1000) {
            let mut entry = [0u8; 64];
            read(&mut entry);
            if entry[8..].starts_with(name) && entry[8 + name.len()] == 0 {
                let selector = u16::from_be_bytes([entry[4], entry[5]]);
                select(selector);
                return Some(File { at: 0, selector });
            }
        }
        None
    }

    fn seek(&mut self, to: u64) {
        if to < self.at {
            select(self.selector);
            self.at = 0;
        }
        let mut sink = [0; 256];
        while self.at < to {
            let n = (to - self.at).min(256) as usize;
            read(&mut sink[..n]);
            self.at += n as u64;
        }
    }

    fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        read(&mut bytes);
        self.at += N as u64;
        bytes
    }
}

fn word(b: &[u8], at: usize) -> u64 {
    b[at..at + 8].iter().rev().fold(0, |v, &b| v << 8 | b as u64)
}
fn half(b: &[u8], at: usize) -> u64 {
    b[at..at + 4].iter().rev().fold(0, |v, &b| v << 8 | b as u64)
}

/// The best symbol so far for one address.
#[derive(Clone, Copy, Default)]
struct Best {
    value: u64,
    name: u64,
}

/// Prints each address with its function.
pub fn print(out: &mut dyn Write, frames: &[u64]) {
    let mut best = [Best::default(); 24];
    let mut strings = 0;
    if let Some(mut file) = File::open(b"opt/quire/kernel") {
        let header: [u8; 64] = file.read();
        let (sections, count) = (word(&header, 40), u16::from_le_bytes([header[60], header[61]]));
        file.seek(sections);
        let (mut table, mut size, mut link) = (0, 0, 0);
        for _ in 0..count {
            let s: [u8; 64] = file.read();
            if half(&s, 4) == 2 {
                (table, size, link) = (word(&s, 24), word(&s, 32), half(&s, 40));
            }
        }
        if table != 0 {
            file.seek(sections + link * 64);
            let s: [u8; 64] = file.read();
            strings = word(&s, 24);
            file.seek(table);
            for _ in 0..size / 24 {
                let s: [u8; 24] = file.read();
                let value = word(&s, 8);
                if s[4] & 15 == 2 {
                    for (b, &f) in best.iter_mut().zip(frames) {
                        if value <= f && value > b.value {
                            *b = Best { value, name: half(&s, 0) };
                        }
                    }
                }
            }
        }
        for (b, &f) in best.iter().zip(frames) {
            let mut name = [0u8; 200];
            if b.value != 0 {
                file.seek(strings + b.name);
                name = file.read();
            }
            let end = name.iter().position(|&c| c == 0).unwrap_or(name.len());
            let text = core::str::from_utf8(&name[..end]).unwrap_or("?");
            let _ = writeln!(out, "  {f:#018x} {:#}+{:#x}", demangle(text), f.wrapping_sub(b.value));
        }
        return;
    }
    for f in frames {
        let _ = writeln!(out, "  {f:#018x}");
    }
    let _ = writeln!(out, "  (names: boot with -fw_cfg name=opt/quire/kernel,file=KERNEL)");
}

//! Memory that is brought in ahead (MAP_POPULATE, MADV_POPULATE_*): all of it is there afterwards; while it takes its time, a kill
//! ends it, and other CPUs that wait for an answer of the one that works get it.
//!
//! The long ones are done by a process that shares the memory, so that it can be killed and what it has done be looked at. Reading
//! ahead shows one page of zeros everywhere: a gigabyte costs page tables only.

use quire_workloads::area::{READ, READ_WRITE};
use quire_workloads::process::{Child, Ended, clone_vm};
use quire_workloads::{Area, Budget, PAGE, check, cpus, ok};
use std::mem::{size_of, zeroed};

/// Around a multiple of any size in which a system might do it.
const SIZES: [usize; 7] = [1, 511, 512, 513, 1024, 2 * 512 + 7, 4096 + 1];
/// A gigabyte.
const LONG: usize = 1 << 18;
/// How often a race is tried for: whoever is to be faster may be kept from it by a busy host.
const TRIES: u32 = 20;
/// What a system that answers between the pieces of a long one reaches easily, and one that does not never does: there, the first
/// answer is the last.
const ANSWERS: u32 = 8;

fn main() {
    let several = cpus() > 1;
    for _ in Budget::from_arguments(3).rounds() {
        all_is_there();
        // With one CPU, nobody else runs while the kernel works.
        if several {
            stay(0);
            killed();
            // Linux makes every change of protection wait for the whole of it.
            if std::path::Path::new("/proc/quire").exists() {
                answers();
            }
        }
    }
    ok();
}

fn all_is_there() {
    for pages in SIZES {
        for (rights, kind) in [
            (READ_WRITE, libc::MAP_PRIVATE),
            (READ, libc::MAP_PRIVATE),
            (READ_WRITE, libc::MAP_SHARED),
            (READ_WRITE, libc::MAP_PRIVATE | libc::MAP_NORESERVE),
        ] {
            let area = Area::mapped(0, pages, rights, kind | libc::MAP_POPULATE);
            complete(&area, pages, "MAP_POPULATE");
            area.unmap(0..pages);
        }
        for advice in [libc::MADV_POPULATE_READ, libc::MADV_POPULATE_WRITE] {
            let area = Area::new(pages);
            check!(!is_resident(&area, pages - 1), "an untouched page is in memory");
            check!(advise(&area, pages, advice), "madvise: {}", std::io::Error::last_os_error());
            complete(&area, pages, "MADV_POPULATE");
            area.unmap(0..pages);
        }
    }
}

fn complete(area: &Area, pages: usize, what: &str) {
    for page in 0..pages {
        check!(is_resident(area, page), "{what} of {pages} pages: page {page} is not in memory");
    }
}

/// A kill ends it before its end.
fn killed() {
    let mut after_all = 0;
    for _ in 0..TRIES {
        let area = Area::mapped(0, LONG, READ, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
        let child = Populating::start(&area);
        child.until_begun(&area);
        child.process.kill();
        let ended = child.wait();
        let short = !is_resident(&area, LONG - 1);
        area.unmap(0..LONG);
        if short {
            check!(ended == Ended::Killed(libc::SIGKILL), "{ended:?}");
            return;
        }
        after_all += 1;
    }
    quire_workloads::violated(format_args!("{after_all} kills, all of them when everything was in memory"));
}

/// Rights are taken away meanwhile, for which the CPU that works has to answer.
fn answers() {
    let mut most = 0;
    for _ in 0..TRIES {
        let area = Area::mapped(0, LONG + 1, READ, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
        let child = Populating::start(&area);
        child.until_begun(&area);
        let mut answers = 0;
        while !is_resident(&area, LONG - 1) {
            area.protect(LONG..LONG + 1, READ_WRITE);
            area.write(LONG, 0, 1);
            area.protect(LONG..LONG + 1, READ);
            answers += 1;
        }
        let ended = child.wait();
        check!(ended == Ended::Exited(0), "{ended:?}");
        area.unmap(0..LONG + 1);
        most = most.max(answers);
        if most >= ANSWERS {
            return;
        }
    }
    quire_workloads::violated(format_args!("{most} answers at most while a gigabyte was brought in"));
}

/// A process on CPU 1 that brings in the first `LONG` pages of an area.
struct Populating {
    process: Child,
    stack: Area,
}

impl Populating {
    fn start(area: &Area) -> Self {
        extern "C" fn work(start: *mut libc::c_void) -> i32 {
            stay(1);
            // SAFETY: the pages are mapped for as long as this process lives; reading changes nothing in them. Nobody else uses this
            // thread's errno meanwhile: its owner looks at it only after the end.
            unsafe {
                match libc::madvise(start, LONG * PAGE, libc::MADV_POPULATE_READ) {
                    0 => 0,
                    _ => *libc::__errno_location(),
                }
            }
        }
        let stack = Area::new(16);
        let process = clone_vm(&stack, work, area.address(0));
        Self { process, stack }
    }

    fn until_begun(&self, area: &Area) {
        while !is_resident(area, 0) {
            std::hint::spin_loop();
        }
    }

    fn wait(self) -> Ended {
        let ended = self.process.wait();
        self.stack.unmap(0..self.stack.pages());
        ended
    }
}

fn advise(area: &Area, pages: usize, advice: i32) -> bool {
    // SAFETY: the pages are the area's, which nobody else uses.
    unsafe { libc::madvise(area.address(0) as *mut libc::c_void, pages * PAGE, advice) == 0 }
}

fn is_resident(area: &Area, page: usize) -> bool {
    let mut here = 0u8;
    // SAFETY: one page, one byte.
    let done = unsafe { libc::mincore(area.address(page) as *mut libc::c_void, PAGE, &raw mut here) } == 0;
    check!(done, "mincore: {}", std::io::Error::last_os_error());
    here & 1 != 0
}

/// Keeps the calling process on one CPU. Without memory of its own: it may share all it has.
fn stay(cpu: usize) {
    // SAFETY: an all-zero CPU set is a valid empty one, and the call reads no more than its size.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

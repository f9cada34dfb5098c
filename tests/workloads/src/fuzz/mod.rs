//! A victim: a process that makes random system calls.

mod arguments;
mod calls;

use std::arch::asm;
use std::thread;

use quire_workloads::Random;
use quire_workloads::process::{leave, try_fork};

use arguments::World;

/// Calls of one thread.
const CALLS: u64 = 400;
const THREADS: u64 = 3;

/// Runs in a process of its own, whose parent looks after its end.
pub fn victim(seed: u64, place: &str) -> i32 {
    limit();
    // SAFETY: numbers; a group of its own to be killed by.
    unsafe { libc::setpgid(0, 0) };
    let Some(world) = World::new(place) else { return 1 };
    if Random::new(seed).below(2) == 0 {
        // Its parent may be gone before it.
        let _ = try_fork(|| {
            // SAFETY: numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            calls(&world, seed ^ 0x5555)
        });
    }
    let world = &world;
    thread::scope(|scope| {
        for index in 1..THREADS {
            let small = thread::Builder::new().stack_size(128 << 10);
            // Without room for one more thread it goes on with fewer.
            let _ = small.spawn_scoped(scope, move || calls(world, seed.wrapping_mul(THREADS) + index));
        }
        calls(world, seed.wrapping_mul(THREADS));
    });
    0
}

fn limit() {
    let limits = [
        (libc::RLIMIT_AS, 192 << 20),
        (libc::RLIMIT_DATA, 96 << 20),
        (libc::RLIMIT_FSIZE, 1 << 20),
        (libc::RLIMIT_NOFILE, 96),
        (libc::RLIMIT_MEMLOCK, 8 << 20),
    ];
    for (which, most) in limits {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: a whole structure.
        unsafe { libc::setrlimit(which, &raw const limit) };
    }
    // SAFETY: numbers. The parent ignores what may be ignored.
    (1..=64).for_each(|signal| _ = unsafe { libc::signal(signal, libc::SIG_DFL) });
    // What waits goes on: a signal comes every few milliseconds.
    extern "C" fn nothing(_: i32) {}
    let tick = libc::timeval { tv_sec: 0, tv_usec: 4000 };
    let timer = libc::itimerval { it_interval: tick, it_value: tick };
    // SAFETY: whole structures, and a handler that does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}

/// Makes calls until there have been enough of them.
fn calls(world: &World, seed: u64) -> i32 {
    let mut random = Random::new(seed);
    (0..8).for_each(|_| _ = random.draw());
    for _ in 0..CALLS {
        let (number, arguments) = calls::draw(world, &mut random);
        // SAFETY: nothing is safe here: this process is there to be destroyed. It shares nothing with those that matter.
        let value = unsafe { call(number, arguments) };
        calls::clean_up(number, value);
    }
    0
}

/// A system call; whoever comes back from it as somebody new ends at once, without touching a stack that may be somebody else's.
///
/// # Safety
///
/// None: see the caller.
unsafe fn call(number: i64, [a, b, c, d, e, f]: [u64; 6]) -> i64 {
    let value;
    // SAFETY: the instruction's own registers are named. What the call does is the caller's.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "cmp {number}, 56",
            "jb 2f",
            "cmp {number}, 58",
            "jbe 3f",
            "cmp {number}, 435",
            "jne 2f",
            "3:",
            "xor edi, edi",
            "mov eax, 60",
            "syscall",
            "2:",
            number = in(reg) number,
            inlateout("rax") number => value,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            // Not late: the number is compared behind the call.
            out("rcx") _, out("r11") _,
        );
    }
    value
}

/// Ends a victim that cannot be set up.
#[cold]
pub fn give_up(what: &str) -> ! {
    eprintln!("syscall_fuzz: {what}: {}", std::io::Error::last_os_error());
    leave(1)
}

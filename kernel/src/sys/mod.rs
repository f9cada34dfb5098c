//! System calls: the table, and one file for each family.
//!
//! A handler takes the program's registers and gives a [`SysResult`]; [`TABLE`] holds thin wrappers that turn it into the
//! value for `rax`. Numbers that are not in the table answer ENOSYS, with one line in the log for each.

pub mod control;
pub mod copy;
pub mod fd;
pub mod ids;
pub mod info;
pub mod membarrier;
mod memory;
pub mod path;
pub mod policy;
pub mod random;
pub mod readwrite;
pub mod rlimit;
pub mod schedule;
pub mod socket;
pub mod swap;
pub mod time;
pub mod tls;
pub mod xattr;

use crate::fs::{directory, epoll, pidfd, poll, signalfd, timerfd};
use crate::proc::signal::{self, calls as sig, frame, restart};
use crate::proc::{clone, exec, exit, futex, interval, itimer, wait};
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_arch::syscall::{COUNT, Handler};
use quire_base::errno::{EINTR, ENOSYS, SysResult};

#[inline(always)]
fn finish(regs: &UserRegs, number: u64, result: SysResult) -> isize {
    match result {
        Ok(value) => value as isize,
        Err(error) => {
            if error == EINTR {
                restart::note(regs, number);
            }
            error.as_return()
        }
    }
}

/// What an unknown number gets.
#[cold]
#[inline(never)]
pub fn unknown(regs: &mut UserRegs) -> isize {
    static SEEN: [AtomicU64; COUNT / 64] = [const { AtomicU64::new(0) }; COUNT / 64];
    let number = regs.orig_rax as usize;
    let slot = number.min(COUNT - 1);
    let bit = 1 << (slot % 64);
    if SEEN[slot / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        log::info!("sys: number {} is not implemented: ENOSYS", number as i64);
    }
    ENOSYS.as_return()
}

/// Numbers that answer ENOSYS on purpose: no line in the log.
fn absent(_: &mut UserRegs) -> SysResult {
    Err(ENOSYS)
}

/// Calls that succeed and do nothing here.
fn nothing(_: &mut UserRegs) -> SysResult {
    Ok(0)
}

macro_rules! table {
    ($($number:ident => $function:path,)*) => {{
        let mut table: [Handler; COUNT] = [unknown; COUNT];
        $({
            fn handler(regs: &mut UserRegs) -> isize {
                let result = $function(regs);
                finish(regs, l::$number as u64, result)
            }
            table[l::$number as usize] = handler;
        })*
        table
    }};
}

/// The handler of every number.
pub static TABLE: [Handler; COUNT] = table! {
    __NR_read => readwrite::read,
    __NR_write => readwrite::write,
    __NR_readv => readwrite::readv,
    __NR_writev => readwrite::writev,
    __NR_pread64 => readwrite::pread,
    __NR_pwrite64 => readwrite::pwrite,
    __NR_preadv => readwrite::preadv,
    __NR_pwritev => readwrite::pwritev,
    __NR_preadv2 => readwrite::preadv2,
    __NR_pwritev2 => readwrite::pwritev2,
    __NR_sendfile => copy::sendfile,
    __NR_copy_file_range => copy::copy_file_range,
    __NR_sendto => socket::sendto,
    __NR_recvfrom => socket::recvfrom,
    __NR_sendmsg => socket::sendmsg,
    __NR_recvmsg => socket::recvmsg,
    __NR_lseek => readwrite::lseek,
    __NR_ftruncate => readwrite::ftruncate,
    __NR_fallocate => readwrite::fallocate,
    __NR_fsync => fd::sync,
    __NR_fdatasync => fd::sync,
    __NR_fadvise64 => fd::fadvise,
    __NR_readahead => fd::readahead,
    __NR_syncfs => fd::syncfs,
    __NR_sync_file_range => fd::sync_file_range,
    __NR_close => fd::close,
    __NR_close_range => fd::close_range,
    __NR_dup => fd::dup,
    __NR_dup2 => fd::dup2,
    __NR_dup3 => fd::dup3,
    __NR_fcntl => fd::fcntl,
    __NR_flock => fd::flock,
    __NR_ioctl => fd::ioctl,
    __NR_pipe => fd::pipe,
    __NR_pipe2 => fd::pipe2,
    __NR_eventfd => fd::eventfd,
    __NR_eventfd2 => fd::eventfd2,
    __NR_memfd_create => fd::memfd_create,
    __NR_socketpair => socket::socketpair,
    __NR_shutdown => socket::shutdown,
    __NR_socket => socket::socket,
    __NR_getsockopt => socket::getsockopt,
    __NR_getsockname => socket::name,
    __NR_getpeername => socket::name,
    __NR_fstat => path::fstat,
    __NR_stat => path::stat,
    __NR_lstat => path::lstat,
    __NR_newfstatat => path::newfstatat,
    __NR_statx => path::statx,
    __NR_statfs => path::statfs,
    __NR_fstatfs => path::fstatfs,
    __NR_open => path::open,
    __NR_openat => path::openat,
    __NR_openat2 => absent,
    __NR_creat => path::creat,
    __NR_access => path::access,
    __NR_faccessat => path::faccessat,
    __NR_faccessat2 => path::faccessat2,
    __NR_readlink => path::readlink,
    __NR_readlinkat => path::readlinkat,
    __NR_getcwd => path::getcwd,
    __NR_chdir => path::chdir,
    __NR_fchdir => path::fchdir,
    __NR_mkdir => path::mkdir,
    __NR_mkdirat => path::mkdirat,
    __NR_rmdir => path::rmdir,
    __NR_unlink => path::unlink,
    __NR_unlinkat => path::unlinkat,
    __NR_rename => path::rename,
    __NR_renameat => path::renameat,
    __NR_renameat2 => path::renameat2,
    __NR_symlink => path::symlink,
    __NR_symlinkat => path::symlinkat,
    __NR_link => path::link,
    __NR_linkat => path::linkat,
    __NR_mknod => path::mknod,
    __NR_mknodat => path::mknodat,
    __NR_truncate => path::truncate,
    __NR_chmod => path::chmod,
    __NR_fchmod => path::fchmod,
    __NR_fchmodat => path::fchmodat,
    __NR_fchmodat2 => path::fchmodat2,
    __NR_chown => nothing,
    __NR_fchown => nothing,
    __NR_lchown => nothing,
    __NR_fchownat => nothing,
    __NR_utimensat => path::utimensat,
    __NR_utime => path::utime,
    __NR_utimes => path::utimes,
    __NR_futimesat => path::futimesat,
    __NR_umask => path::umask,
    __NR_getxattr => xattr::by_path,
    __NR_lgetxattr => xattr::by_link,
    __NR_fgetxattr => xattr::by_descriptor,
    __NR_setxattr => xattr::by_path,
    __NR_lsetxattr => xattr::by_link,
    __NR_fsetxattr => xattr::by_descriptor,
    __NR_removexattr => xattr::by_path,
    __NR_lremovexattr => xattr::by_link,
    __NR_fremovexattr => xattr::by_descriptor,
    __NR_listxattr => xattr::list_by_path,
    __NR_llistxattr => xattr::list_by_link,
    __NR_flistxattr => xattr::list_by_descriptor,
    __NR_getdents => directory::getdents,
    __NR_getdents64 => directory::getdents64,
    __NR_sync => nothing,
    __NR_poll => poll::poll,
    __NR_ppoll => poll::ppoll,
    __NR_select => poll::select,
    __NR_pselect6 => poll::pselect6,
    __NR_epoll_create => epoll::create_old,
    __NR_epoll_create1 => epoll::create1,
    __NR_epoll_ctl => epoll::ctl,
    __NR_epoll_wait => epoll::epoll_wait,
    __NR_epoll_pwait => epoll::epoll_pwait,
    __NR_epoll_pwait2 => epoll::epoll_pwait2,
    __NR_mmap => memory::mmap,
    __NR_munmap => memory::munmap,
    __NR_mprotect => memory::mprotect,
    __NR_mremap => memory::mremap,
    __NR_shmget => memory::shmget,
    __NR_shmat => memory::shmat,
    __NR_shmdt => memory::shmdt,
    __NR_shmctl => memory::shmctl,
    __NR_madvise => memory::madvise,
    __NR_mincore => memory::mincore,
    __NR_brk => memory::brk,
    __NR_process_vm_readv => memory::process_vm_readv,
    __NR_process_vm_writev => memory::process_vm_writev,
    __NR_swapon => swap::swapon,
    __NR_swapoff => swap::swapoff,
    __NR_msync => memory::msync,
    __NR_mlock => memory::mlock,
    __NR_mlock2 => memory::mlock2,
    __NR_munlock => memory::munlock,
    __NR_mlockall => memory::mlockall,
    __NR_munlockall => memory::munlockall,
    __NR_mbind => absent,
    __NR_get_mempolicy => absent,
    __NR_set_mempolicy => absent,
    __NR_pkey_alloc => absent,
    __NR_io_uring_setup => absent,
    __NR_userfaultfd => absent,
    __NR_membarrier => membarrier::membarrier,
    __NR_clone => clone::clone,
    __NR_clone3 => clone::clone3,
    __NR_fork => clone::fork,
    __NR_vfork => clone::vfork,
    __NR_execve => exec::execve,
    __NR_execveat => exec::execveat,
    __NR_exit => exit::exit,
    __NR_exit_group => exit::exit_group,
    __NR_wait4 => wait::wait4,
    __NR_waitid => wait::waitid,
    __NR_futex => futex::futex,
    __NR_set_robust_list => futex::set_robust_list,
    __NR_get_robust_list => futex::get_robust_list,
    __NR_rseq => absent,
    __NR_set_tid_address => ids::set_tid_address,
    __NR_getpid => ids::getpid,
    __NR_gettid => ids::gettid,
    __NR_getppid => ids::getppid,
    __NR_getuid => ids::zero,
    __NR_geteuid => ids::zero,
    __NR_getgid => ids::zero,
    __NR_getegid => ids::zero,
    __NR_setuid => ids::set_one,
    __NR_setgid => ids::set_one,
    __NR_setreuid => ids::set_many,
    __NR_setregid => ids::set_many,
    __NR_setresuid => ids::set_many,
    __NR_setresgid => ids::set_many,
    __NR_getresuid => ids::getres,
    __NR_getresgid => ids::getres,
    __NR_setfsuid => ids::zero,
    __NR_setfsgid => ids::zero,
    __NR_getgroups => ids::getgroups,
    __NR_setgroups => ids::zero,
    __NR_getpgid => ids::getpgid,
    __NR_getpgrp => ids::getpgrp,
    __NR_setpgid => ids::setpgid,
    __NR_getsid => ids::getsid,
    __NR_setsid => ids::setsid,
    __NR_capget => ids::capget,
    __NR_capset => ids::zero,
    __NR_prctl => ids::prctl,
    __NR_personality => ids::personality,
    __NR_arch_prctl => tls::arch_prctl,
    __NR_rt_sigaction => sig::sigaction,
    __NR_rt_sigprocmask => sig::sigprocmask,
    __NR_rt_sigpending => sig::sigpending,
    __NR_rt_sigsuspend => sig::sigsuspend,
    __NR_rt_sigtimedwait => sig::sigtimedwait,
    __NR_rt_sigqueueinfo => sig::sigqueueinfo,
    __NR_rt_tgsigqueueinfo => sig::tgsigqueueinfo,
    __NR_rt_sigreturn => frame::sigreturn,
    __NR_sigaltstack => sig::sigaltstack,
    __NR_kill => sig::kill,
    __NR_pidfd_open => pidfd::pidfd_open,
    __NR_pidfd_send_signal => pidfd::send_signal,
    __NR_pidfd_getfd => pidfd::getfd,
    __NR_tkill => sig::tkill,
    __NR_tgkill => sig::tgkill,
    __NR_pause => sig::pause,
    __NR_sched_yield => schedule::sched_yield,
    __NR_sched_getaffinity => schedule::getaffinity,
    __NR_sched_setaffinity => schedule::setaffinity,
    __NR_sched_getscheduler => policy::getscheduler,
    __NR_sched_setscheduler => policy::setscheduler,
    __NR_sched_setattr => policy::setattr,
    __NR_sched_getattr => policy::getattr,
    __NR_sched_getparam => policy::getparam,
    __NR_sched_setparam => policy::setparam,
    __NR_sched_get_priority_max => policy::priority_max,
    __NR_sched_get_priority_min => policy::priority_min,
    __NR_sched_rr_get_interval => policy::rr_interval,
    __NR_getpriority => schedule::getpriority,
    __NR_setpriority => schedule::setpriority,
    __NR_getcpu => schedule::getcpu,
    __NR_alarm => itimer::alarm,
    __NR_setitimer => itimer::setitimer,
    __NR_getitimer => itimer::getitimer,
    __NR_timer_create => interval::create,
    __NR_timer_settime => interval::settime,
    __NR_timer_gettime => interval::gettime,
    __NR_timer_getoverrun => interval::getoverrun,
    __NR_timer_delete => interval::delete,
    __NR_signalfd => signalfd::create_old,
    __NR_signalfd4 => signalfd::create,
    __NR_timerfd_create => timerfd::create,
    __NR_timerfd_settime => timerfd::settime,
    __NR_timerfd_gettime => timerfd::gettime,
    __NR_nanosleep => time::nanosleep,
    __NR_clock_nanosleep => time::clock_nanosleep,
    __NR_clock_gettime => time::clock_gettime,
    __NR_clock_getres => time::clock_getres,
    __NR_clock_settime => time::clock_settime,
    __NR_settimeofday => time::settimeofday,
    __NR_gettimeofday => time::gettimeofday,
    __NR_time => time::time,
    __NR_times => info::times,
    __NR_getrusage => info::getrusage,
    __NR_sysinfo => info::sysinfo,
    __NR_uname => info::uname,
    __NR_sethostname => time::not_permitted,
    __NR_prlimit64 => rlimit::prlimit64,
    __NR_getrlimit => rlimit::getrlimit,
    __NR_setrlimit => rlimit::setrlimit,
    __NR_getrandom => random::getrandom,
};

const _: () = assert!(signal::MAX == 64);

//! The first process of a Linux that Quire is measured beside.
//!
//! The machine is the same as Quire's: the same QEMU flags, disk, initramfs and channel to the host. What Quire's
//! kernel does by itself this process does here: it loads the drivers that the kernel lacks, switches swap on, runs the
//! jobs of `/quire.job` one after the other, and tells the host in frames what they wrote and how they ended.
//!
//! It stays out of what is measured: a job writes to files in memory, which are read when it has ended, so nobody else
//! runs while it does. Its own messages go to the kernel's log.

mod frames;
mod jobs;

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Where the launcher put the drivers; their names give the order.
const MODULES: &str = "/modules";
/// For how long Linux is left to itself after its start: it goes on initialising things in the background, which is not
/// what shall be measured.
const SETTLING: Duration = Duration::from_secs(5);
/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the file itself.
const COMPRESSED: libc::c_int = 4;

fn main() {
    if let Err(error) = run() {
        eprintln!("peer: {error}");
    }
    // SAFETY: system calls on values; nothing of this process matters after them. They do not return.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
}

fn run() -> io::Result<()> {
    mount("devtmpfs", "/dev")?;
    mount("sysfs", "/sys")?;
    mount("proc", "/proc")?;
    load_modules()?;
    let script = jobs::read(&fs::read("/quire.job")?);
    if script.options.iter().any(|option| option == "swap") {
        swap_on("/dev/vda")?;
    }
    let mut host = frames::Host::open(&channel()?)?;
    thread::sleep(SETTLING);
    for (number, job) in script.jobs.iter().enumerate() {
        jobs::run(job, number as u32, &mut host)?;
    }
    host.done()
}

fn mount(kind: &str, at: &str) -> io::Result<()> {
    fs::create_dir_all(at)?;
    let (kind, path) = (CString::new(kind)?, CString::new(at)?);
    // SAFETY: the strings are NUL-terminated and live through the call; there are no options.
    let done = unsafe { libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    // A kernel may have mounted /dev itself.
    if done == 0 || last_errno() == libc::EBUSY { Ok(()) } else { Err(failed(at)) }
}

/// Loads the files of [`MODULES`] in the order of their names.
fn load_modules() -> io::Result<()> {
    let Ok(entries) = fs::read_dir(MODULES) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let file = fs::File::open(&path)?;
        let flags = if path.extension().is_some_and(|end| end == "ko") { 0 } else { COMPRESSED };
        // SAFETY: a system call on an open file, a NUL-terminated string of parameters, and flags.
        let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), flags) };
        if done != 0 && last_errno() != libc::EEXIST {
            return Err(failed(&path.display().to_string()));
        }
    }
    Ok(())
}

fn swap_on(path: &str) -> io::Result<()> {
    patient(path, || fs::exists(path).is_ok_and(|there| there).then_some(()))?;
    let name = CString::new(path)?;
    // SAFETY: the string is NUL-terminated and lives through the call.
    if unsafe { libc::swapon(name.as_ptr(), 0) } == 0 { Ok(()) } else { Err(failed(path)) }
}

/// The host's end of the channel: the one port of the virtio serial device.
fn channel() -> io::Result<PathBuf> {
    let ports = "/sys/class/virtio-ports";
    let name = patient(ports, || Some(fs::read_dir(ports).ok()?.next()?.ok()?.file_name()))?;
    let path = PathBuf::from("/dev").join(name);
    patient(&path.display().to_string(), || path.exists().then_some(()))?;
    Ok(path)
}

/// Devices appear a while after their drivers.
fn patient<T>(what: &str, look: impl Fn() -> Option<T>) -> io::Result<T> {
    for _ in 0..500 {
        if let Some(found) = look() {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::other(format!("{what}: did not appear")))
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn failed(what: &str) -> io::Error {
    io::Error::other(format!("{what}: {}", io::Error::last_os_error()))
}

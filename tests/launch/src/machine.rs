//! QEMU's command line: which machine Quire gets.

use std::ffi::OsString;
use std::fs;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::swap::{Ready, Swap};

/// The port of `isa-debug-exit`, and the status that QEMU ends with when the kernel reports a panic through it.
pub const PANIC_STATUS: i32 = (0x21 << 1) | 1;

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// QEMU's translator, one host thread per CPU.
    Tcg,
    /// The host's own virtualisation.
    Kvm,
}

impl Accel {
    /// KVM where the host has it and lets this user have it, else TCG. A run under continuous integration takes TCG
    /// always, so that its figures and its timing are the same everywhere.
    pub fn detect() -> Self {
        let capable = fs::read_to_string("/proc/cpuinfo")
            .is_ok_and(|text| text.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
        let usable = || fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        if std::env::var_os("CI").is_none() && capable && usable() { Self::Kvm } else { Self::Tcg }
    }
}

/// The machine to start.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// The kernel's command line, for a kernel that reads one. Quire's does not.
    pub command_line: Option<String>,
    /// Where logs are written.
    pub logs: PathBuf,
    /// Number of CPUs, 1 to 64.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// What executes the instructions.
    pub accel: Accel,
    /// One nanosecond of guest time per instruction, all CPUs on one host thread: figures that repeat.
    pub icount: bool,
    /// The guest is stopped after this time.
    pub timeout: Option<Duration>,
    /// A disk to swap to.
    pub swap: Option<Swap>,
    /// The kernel's log is shown on standard error while it grows.
    pub verbose: bool,
}

impl Machine {
    /// Four CPUs, 512 MiB, a minute.
    pub fn new(kernel: &Path, logs: &Path) -> Self {
        Self {
            qemu: PathBuf::from("qemu-system-x86_64"),
            kernel: kernel.to_owned(),
            command_line: None,
            logs: logs.to_owned(),
            cpus: 4,
            memory: 512,
            accel: Accel::Tcg,
            icount: false,
            timeout: Some(Duration::from_secs(60)),
            swap: None,
            verbose: false,
        }
    }

    /// QEMU's arguments, for an initramfs in file descriptor `image`, the kernel's log in `log`, the swap disk if there is one, and
    /// a socket for its monitor.
    pub(crate) fn arguments(&self, image: RawFd, log: &Path, swap: Option<&Ready>, monitor: RawFd) -> Vec<OsString> {
        // Without ERMS and FSRM: TCG runs `rep movsb` one byte at a time, and programs use it where they see the flag.
        let (accel, cpu) = match (self.icount, self.accel) {
            (true, _) => ("tcg,thread=single", "max,-la57,-erms,-fsrm"),
            (false, Accel::Tcg) => ("tcg,thread=multi", "max,-la57,-erms,-fsrm"),
            (false, Accel::Kvm) => ("kvm", "max,-la57"),
        };
        let mut log_device = OsString::from("file,id=log,append=on,path=");
        log_device.push(doubled_commas(log));
        let mut arguments: Vec<OsString> = Vec::new();
        let mut put = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        put(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]);
        put(&["-machine", "q35", "-cpu", cpu, "-accel", accel]);
        put(&["-smp", &self.cpus.to_string(), "-m", &self.memory.to_string()]);
        if self.icount {
            put(&["-icount", "shift=0,sleep=off"]);
        }
        put(&["-chardev", "stdio,id=host,signal=off", "-device", "virtio-serial-pci"]);
        // Not a `virtconsole`: for that one QEMU drops what does not fit into the pipe at once.
        put(&["-device", "virtserialport,chardev=host", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        put(&["-chardev", &format!("socket,id=monitor,fd={monitor}"), "-mon", "chardev=monitor,mode=control"]);
        put(&["-initrd", &format!("/proc/self/fd/{image}"), "-serial", "chardev:log", "-chardev"]);
        arguments.push(log_device);
        if let (Some(disk), Some(ready)) = (&self.swap, swap) {
            arguments.extend(disk.arguments(ready));
        }
        // For the names of functions in its reports.
        let mut symbols = OsString::from("name=opt/quire/kernel,file=");
        symbols.push(doubled_commas(&self.kernel));
        arguments.extend([OsString::from("-fw_cfg"), symbols]);
        arguments.extend([OsString::from("-kernel"), self.kernel.clone().into_os_string()]);
        if let Some(line) = &self.command_line {
            arguments.extend([OsString::from("-append"), line.into()]);
        }
        arguments
    }
}

/// QEMU's option lists end a value at a comma; two commas stand for one.
pub(crate) fn doubled_commas(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut doubled = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        doubled.push(byte);
        if byte == b',' {
            doubled.push(byte);
        }
    }
    OsString::from_vec(doubled)
}

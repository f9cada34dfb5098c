//! The kernels that are measured: Quire's, and a Linux from a Debian package, in the same machine with the same
//! programs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quire_launch::{Image, Machine};

use crate::House;

/// Drivers that Linux needs for this machine, in the order in which they are loaded. A kernel has some of them built
/// in; the package of such a kernel has no file for them.
const MODULES: [&str; 7] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
];

/// What Linux is told: no mitigations, no hardening, no security modules, no huge pages, nothing that moves memory
/// around by itself. What a comparison of memory managers would otherwise hold against it without being about one.
/// `cmpxchg16b` it has to do without: QEMU 7.2 leaves nonsense in the flags there, and the next interrupt is the last.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 rdinit=/init nokaslr mitigations=off init_on_alloc=0 \
     init_on_free=0 hardened_usercopy=off randomize_kstack_offset=off page_alloc.shuffle=0 lsm= audit=0 \
     transparent_hugepage=never numa_balancing=disable tsc=reliable clearcpuid=cx16";

/// A kernel.
pub struct Kernel {
    /// For the reader: `Linux 6.12.0`.
    pub name: String,
    file: PathBuf,
    command_line: Option<String>,
    /// Files that it needs besides the program: where they are, and their path in the guest.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Kernel {
    /// This project's.
    pub fn quire(house: &House) -> Self {
        Self { name: "Quire".to_owned(), file: house.kernel.clone(), command_line: None, files: Vec::new() }
    }

    /// The one in an unpacked Debian package.
    pub fn linux(house: &House, package: &Path) -> Result<Self, String> {
        let refused = |error: &dyn std::fmt::Display| format!("{}: {error}", package.display());
        let images = find(&package.join("boot"), &|name| name.starts_with("vmlinuz-")).map_err(|e| refused(&e))?;
        let [image] = &images[..] else { return Err(refused(&"no package of a Linux kernel")) };
        let version = image.file_name().and_then(|name| name.to_str()?.strip_prefix("vmlinuz-")).unwrap_or_default();
        let mut files = vec![(house.program("quire-peer"), PathBuf::from("/init"))];
        let drivers =
            ["lib/modules", "usr/lib/modules"].map(|at| package.join(at).join(version).join("kernel/drivers"));
        for directory in drivers.iter().filter(|directory| directory.is_dir()) {
            for (order, module) in MODULES.iter().enumerate() {
                let is_it = |name: &str| name.strip_prefix(module).is_some_and(|end| end.starts_with(".ko"));
                for path in find(directory, &is_it).map_err(|e| refused(&e))? {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    files.push((path, PathBuf::from(format!("/modules/{order}-{name}"))));
                }
            }
        }
        // Debian adds its own words to the version: `6.12.95+deb12-cloud-amd64`.
        let number = version.split(['+', '-']).next().unwrap_or(version);
        let command_line = Some(COMMAND_LINE.to_owned());
        Ok(Self { name: format!("Linux {number}"), file: image.clone(), command_line, files })
    }

    /// `machine` with this kernel.
    pub fn on(&self, machine: &Machine) -> Machine {
        let mut machine = machine.clone();
        machine.kernel = self.file.clone();
        machine.command_line = self.command_line.clone();
        machine
    }

    /// Adds what it needs to the initramfs.
    pub fn pack(&self, image: &mut Image) -> io::Result<()> {
        self.files.iter().try_for_each(|(here, guest)| image.file(here, guest))
    }
}

/// Files below `directory` whose name fits.
fn find(directory: &Path, fits: &impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(find(&entry.path(), fits)?);
        } else if entry.file_name().to_str().is_some_and(fits) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

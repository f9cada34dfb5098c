//! The swap disk: an image of this run's own, or the user's file.
//!
//! * An image of a given size is sparse, has the standard header, and has no name any more when QEMU starts: it goes
//!   with the run, however that one ends.
//! * The user's file or device is looked at before it is handed over. Without the header that `mkswap` writes it is
//!   refused; nothing here ever writes to it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use quire_swapd::header::{self, Header, PAGE, Uuid};

use crate::machine::doubled_commas;

/// Fewest pages of an image: what `mkswap` asks for.
const FEWEST: u64 = 10;

/// What the guest swaps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A new image of so many bytes.
    Size(u64),
    /// A raw image or a block device that `mkswap` has prepared.
    File(PathBuf),
}

/// A swap disk.
#[derive(Clone, Debug)]
pub struct Swap {
    /// Where the pages go.
    pub store: Store,
    /// More options for QEMU's `-drive`, for instance `throttling.iops-total=100`.
    pub drive: String,
    /// A configuration of QEMU's `blkdebug`, which makes requests fail.
    pub blkdebug: Option<PathBuf>,
    /// Leaves it to the kernel to refuse a file that is no swap area.
    pub unchecked: bool,
    /// Seconds after which a disk that does not answer counts as dead; `None`: the kernel's own limit.
    pub limit: Option<u32>,
}

/// A swap disk that is ready; its file stays open as long as the value lives.
#[derive(Debug)]
pub struct Ready {
    name: OsString,
    /// Descriptor that QEMU inherits.
    pub(crate) file: Option<File>,
}

impl Swap {
    /// A disk without faults.
    pub fn new(store: Store) -> Self {
        Self { store, drive: String::new(), blkdebug: None, unchecked: false, limit: None }
    }

    /// `512M`, `1G` and the like are sizes, everything else is a path.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        Ok(Self::new(match size(text) {
            Some(bytes) if bytes / (PAGE as u64) < FEWEST => {
                return Err(format!("a swap area has {FEWEST} pages of {PAGE} bytes at least"));
            }
            Some(bytes) => Store::Size(bytes),
            None => Store::File(PathBuf::from(text)),
        }))
    }

    /// Makes the image below `directory`, or looks at the user's file.
    pub(crate) fn ready(&self, directory: &Path) -> io::Result<Ready> {
        let (mut name, file) = match &self.store {
            Store::Size(bytes) => {
                let file = image(directory, *bytes)?;
                (OsString::from(format!("/proc/self/fd/{}", file.as_raw_fd())), Some(file))
            }
            Store::File(path) => {
                if !self.unchecked {
                    check(path)
                        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                }
                (doubled_commas(&std::path::absolute(path)?), None)
            }
        };
        if let Some(configuration) = &self.blkdebug {
            let mut whole = OsString::from("blkdebug:");
            whole.push(doubled_commas(configuration));
            whole.push(":");
            whole.push(name);
            name = whole;
        }
        Ok(Ready { name, file })
    }

    /// QEMU's arguments.
    pub(crate) fn arguments(&self, ready: &Ready) -> [OsString; 4] {
        let mut drive = OsString::from("if=none,id=swap,format=raw,cache=writeback,file=");
        drive.push(&ready.name);
        if !self.drive.is_empty() {
            drive.push(",");
            drive.push(&self.drive);
        }
        // More queues than the driver uses cost nothing; one for each of up to eight CPUs is what it takes.
        let device = "virtio-blk-pci,drive=swap,num-queues=8,queue-size=256,disable-legacy=on";
        ["-drive".into(), drive, "-device".into(), device.into()]
    }
}

/// Bytes, from digits and one of K, M, G, T.
fn size(text: &OsStr) -> Option<u64> {
    let text = text.to_str()?;
    let unit = text.strip_suffix(['K', 'M', 'G', 'T', 'k', 'm', 'g', 't']);
    let shift = match &text.as_bytes()[unit.unwrap_or(text).len()..] {
        [] => return None,
        [unit, ..] => 10 * (1 + b"KMGT".iter().position(|known| *known == unit.to_ascii_uppercase())? as u32),
    };
    let count: u64 = unit?.parse().ok()?;
    count.checked_shl(shift).filter(|bytes| bytes >> shift == count)
}

/// A formatted image that has no name any more.
fn image(directory: &Path, bytes: u64) -> io::Result<File> {
    static IMAGES: AtomicU32 = AtomicU32::new(0);
    fs::create_dir_all(directory)?;
    let number = IMAGES.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("swap-{}-{number}.img", std::process::id()));
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(named)?;
    let formatted = file.set_len(bytes).and_then(|()| format(&path, &mut file, bytes));
    fs::remove_file(&path).map_err(named)?;
    formatted.map_err(named)?;
    Ok(file)
}

/// By `mkswap` where there is one, else by the same header.
fn format(path: &Path, file: &mut File, bytes: u64) -> io::Result<()> {
    let mkswap = Command::new("mkswap").arg("-q").arg(path).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if mkswap.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let mut uuid = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut uuid)?;
    // A random UUID says so: version 4, variant 1.
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let page = header::format(bytes / PAGE as u64, Uuid(uuid), "")
        .map_err(|error| io::Error::other(format!("cannot be formatted: {error:?}")))?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&page)
}

/// Whether the kernel would take it.
fn check(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    // A device has no length of its own; its end has a place.
    let pages = file.seek(SeekFrom::End(0))? / PAGE as u64;
    if pages < FEWEST {
        return Err(io::Error::other(format!("too small: a swap area has {FEWEST} pages of {PAGE} bytes at least")));
    }
    let mut page = [0; PAGE];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut page)?;
    Header::read(&page, pages).map_err(|error| io::Error::other(format!("not a swap area: {error}")))?;
    OpenOptions::new().write(true).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_paths_are_told_apart() {
        let store = |text: &str| Swap::parse(OsStr::new(text)).map(|swap| swap.store);
        assert_eq!(store("512M"), Ok(Store::Size(512 << 20)));
        assert_eq!(store("1g"), Ok(Store::Size(1 << 30)));
        assert_eq!(store("40K"), Ok(Store::Size(40960)));
        assert!(store("36K").is_err());
        assert!(store("0M").is_err());
        for path in ["512", "M", "swap.img", "./512M", "/dev/vdb", "1.5G", "99999999999999999G", ""] {
            assert_eq!(store(path), Ok(Store::File(PathBuf::from(path))), "{path}");
        }
    }

    #[test]
    fn an_image_is_sparse_nameless_and_formatted() {
        let directory = std::env::temp_dir().join(format!("quire-swap-test-{}", std::process::id()));
        let mut file = image(&directory, 64 << 20).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir(&directory).unwrap();
        let mut page = [0; PAGE];
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_exact(&mut page).unwrap();
        let header = Header::read(&page, (64 << 20) / PAGE as u64).unwrap();
        assert_eq!(header.last_page() as usize, (64 << 20) / PAGE - 1);
        assert_ne!(header.uuid().0, [0; 16]);
        use std::os::unix::fs::MetadataExt;
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_file_that_is_no_swap_area_is_refused_untouched() {
        let path = std::env::temp_dir().join(format!("quire-no-swap-{}", std::process::id()));
        let refused = |contents: &[u8], why: &str| {
            fs::write(&path, contents).unwrap();
            let error = Swap::new(Store::File(path.clone())).ready(Path::new(".")).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(fs::read(&path).unwrap(), contents);
        };
        refused(&[7; 20 * PAGE], "no SWAPSPACE2 signature");
        refused(&[7; 5 * PAGE], "too small");
        let mut short = vec![0; 20 * PAGE];
        short[..PAGE].copy_from_slice(&header::format(100, Uuid([1; 16]), "x").unwrap());
        refused(&short, "page 99 is the last");
        fs::remove_file(&path).unwrap();
        let error = Swap::new(Store::File(path)).ready(Path::new(".")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

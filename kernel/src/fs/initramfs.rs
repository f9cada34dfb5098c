//! The tree as the initramfs describes it, and what a Linux program expects beside it.

use super::dev::Device;
use super::entry::ProcEntry;
use super::{Inode, Kind, Regular, inode, procfs, rights, walk};
use crate::proc::shm;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cpio_reader::Mode;

/// Builds the tree. Returns the contents of `quire.job`.
pub fn mount(archive: &'static [u8]) -> Option<&'static [u8]> {
    let mut job = None;
    for entry in cpio_reader::iter_files(archive) {
        let name = entry.name().trim_start_matches("./").trim_matches('/');
        if name.is_empty() || name == "." || name == "TRAILER!!!" {
            continue;
        }
        if name == "quire.job" {
            job = Some(entry.file());
            continue;
        }
        let mode = entry.mode();
        let permissions = mode.bits() & 0o7777;
        let kind = mode & Mode::from_bits_truncate(0o170_000);
        let node = if kind.bits() == 0o040_000 {
            Inode::directory(permissions)
        } else if kind.bits() == 0o120_000 {
            Inode::new(Kind::Link(entry.file().to_vec()), 0o777)
        } else {
            Inode::new(Kind::Regular(Arc::new(Regular::image(entry.file(), permissions, entry.mtime()))), permissions)
        };
        put(name.as_bytes(), node);
    }
    furnish();
    inode::end_of_boot();
    job
}

/// Puts a node at a path, with the directories above it. A directory that is there already stays.
fn put(path: &[u8], node: Arc<Inode>) {
    let mut at = walk::root();
    let mut parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
    let Some(last) = parts.pop() else { return };
    for part in parts {
        let next = {
            let Kind::Dir(entries) = &at.kind else { return };
            entries.lock().entry(part.to_vec()).or_insert_with(|| Inode::directory(0o755)).clone()
        };
        at = next;
    }
    if let Kind::Dir(entries) = &at.kind {
        let mut entries = entries.lock();
        if node.is_dir() && entries.get(last).is_some_and(|n| n.is_dir()) {
            return;
        }
        entries.insert(last.to_vec(), node);
    }
}

/// /dev, /proc, /sys and /tmp.
fn furnish() {
    procfs::sysctl();
    for (path, mode) in
        [(&b"tmp"[..], 0o1777), (b"dev/shm", 0o1777), (b"var/tmp", 0o1777), (b"root", 0o700), (b"etc", 0o755)]
    {
        put(path, Inode::directory(mode));
    }
    for device in Device::ALL.into_iter().filter(|d| d.is_there()) {
        put(device.path(), Inode::new(Kind::Device(device), device.mode() & 0o7777));
    }
    for (path, target) in [
        (&b"dev/stdin"[..], &b"/proc/self/fd/0"[..]),
        (b"dev/stdout", b"/proc/self/fd/1"),
        (b"dev/stderr", b"/proc/self/fd/2"),
        (b"dev/fd", b"/proc/self/fd"),
    ] {
        put(path, Inode::new(Kind::Link(target.to_vec()), 0o777));
    }
    put(b"proc", Inode::new(Kind::Proc(ProcEntry::Root), 0o555));
    for (path, entry) in ProcEntry::SYSTEM_FILES {
        put(path, Inode::new(Kind::Proc(*entry), 0o444));
    }
}

/// Removes what programs made and gives the pages of images back, so that every job starts alike.
pub fn clean() {
    rights::clean();
    shm::clean();
    let mut dirs = alloc::vec![walk::root()];
    let mut dropped = Vec::new();
    while let Some(dir) = dirs.pop() {
        let Kind::Dir(entries) = &dir.kind else { continue };
        let mut entries = entries.lock();
        let mut gone = Vec::new();
        for (name, node) in entries.iter() {
            match &node.kind {
                _ if node.is_of_program() => gone.push(name.clone()),
                Kind::Regular(file) if file.is_image() => dropped.push(node.clone()),
                Kind::Dir(_) => dirs.push(node.clone()),
                _ => {}
            }
        }
        for name in gone {
            dropped.extend(entries.remove(&name));
        }
    }
    for node in dropped {
        if let Kind::Regular(file) = &node.kind {
            file.forget_pages();
        }
    }
}

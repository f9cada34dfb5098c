//! Paths: from names to nodes.

use super::inode::Entries;
use super::{Inode, Kind, procfs};
use crate::proc::thread::user;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use spin::Once;

/// Longest name of one entry.
const NAME_LIMIT: usize = 255;
/// Most symbolic links followed for one path.
const LINK_LIMIT: usize = 40;

static ROOT: Once<Arc<Inode>> = Once::new();

/// The root directory.
pub fn root() -> Arc<Inode> {
    ROOT.call_once(|| Inode::directory(0o755)).clone()
}

/// What is at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// What it leads to.
    Target,
    /// A symbolic link itself, unless a slash follows it.
    Link,
    /// The name itself, to be made or taken away: no link is followed, and a slash behind it asks for nothing.
    Name,
}

/// An end of a path that names no entry which could be made or taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum NoName {
    Root,
    Dot,
    DotDot,
}

/// Where a walk ended.
pub struct Place {
    /// The directory that holds (or would hold) the last name.
    pub parent: Arc<Inode>,
    /// The last name; of the root empty.
    pub name: Vec<u8>,
    /// What the path ends in, if that is no name of an entry.
    pub ends_in: Option<NoName>,
    /// What is there.
    pub node: Option<Arc<Inode>>,
    /// Absolute path without links.
    pub path: Vec<u8>,
    /// The path asked for a directory (it ended in a slash).
    pub wants_dir: bool,
}

/// The entries of a directory, which must be of the tree's own kind to be changed.
pub fn entries(node: &Inode) -> Result<&Mutex<Entries>, Errno> {
    match &node.kind {
        Kind::Dir(entries) => Ok(entries),
        Kind::Proc(entry) if entry.is_dir() => Err(EPERM),
        _ => Err(ENOTDIR),
    }
}

fn child(node: &Inode, name: &[u8]) -> Result<Option<Arc<Inode>>, Errno> {
    match &node.kind {
        Kind::Dir(entries) => Ok(entries.lock().get(name).cloned()),
        Kind::Proc(entry) if entry.is_dir() => Ok(procfs::lookup(entry, name)),
        _ => Err(ENOTDIR),
    }
}

fn link_target(node: &Inode) -> Option<Result<Vec<u8>, Errno>> {
    match &node.kind {
        Kind::Link(target) => Some(Ok(target.clone())),
        Kind::Proc(entry) => procfs::read_link(entry),
        _ => None,
    }
}

/// What a symbolic link says.
pub fn read_link(node: &Inode) -> Result<Vec<u8>, Errno> {
    link_target(node).unwrap_or(Err(EINVAL))
}

/// How a link leads on.
enum Leads {
    /// By a path.
    By(Vec<u8>),
    /// To a thing itself, which need not have a path: it keeps the one by which it was opened.
    To(Arc<Inode>, Vec<u8>),
}

/// Where a link leads, behind which comes more unless it is the `last` name; `None`: it is no link.
fn where_to(node: &Inode, last: bool) -> Result<Option<Leads>, Errno> {
    let found = if let Kind::Proc(entry) = &node.kind { procfs::follow(entry) } else { None };
    let Some(found) = found else { return Ok(link_target(node).transpose()?.map(Leads::By)) };
    let (thing, known) = found?;
    match path_now(&thing, &known) {
        // A directory is gone on from by where it is: what is opened below it is known by its real path.
        Ok(path) if thing.is_dir() => Ok(Some(Leads::By(path))),
        // Nothing is in one that has been removed.
        Err(why) if why != ENOENT || !last => Err(why),
        _ => {
            let path = shown_path(&thing, &known);
            Ok(Some(Leads::To(thing, path)))
        }
    }
}

/// What a path ends in, if that is no name.
fn no_name(path: &[u8]) -> Option<NoName> {
    match parts(path).next_back() {
        None => Some(NoName::Root),
        Some(b".") => Some(NoName::Dot),
        Some(b"..") => Some(NoName::DotDot),
        Some(_) => None,
    }
}

/// The names of a path.
fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty())
}

/// Walks `path` from `base` (absolute, without links).
pub fn walk(base: &[u8], path: &[u8], last_is: Last) -> Result<Place, Errno> {
    if path.is_empty() {
        return Err(ENOENT);
    }
    let mut todo: VecDeque<Vec<u8>> = VecDeque::new();
    if path[0] != b'/' {
        todo.extend(parts(base).map(<[u8]>::to_vec));
    }
    todo.extend(parts(path).map(<[u8]>::to_vec));
    let (wants_dir, ends_in) = (path.last() == Some(&b'/'), no_name(path));
    let follow = match last_is {
        Last::Target => true,
        Last::Link => wants_dir,
        Last::Name => false,
    };
    let mut above: Vec<(Arc<Inode>, Vec<u8>)> = Vec::new();
    let mut at = root();
    let mut named = None;
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        let last = todo.is_empty();
        if name == b"." {
            if !at.is_dir() {
                return Err(ENOTDIR);
            }
            continue;
        }
        if name == b".." {
            if !at.is_dir() {
                return Err(ENOTDIR);
            }
            if let Some((parent, _)) = above.pop() {
                at = parent;
            }
            continue;
        }
        if name.len() > NAME_LIMIT {
            return Err(ENAMETOOLONG);
        }
        let Some(node) = child(&at, &name)? else {
            if !last {
                return Err(ENOENT);
            }
            let path = join(&above, Some(&name));
            return Ok(Place { parent: at, name, ends_in, node: None, path, wants_dir });
        };
        if (!last || follow)
            && let Some(leads) = where_to(&node, last)?
        {
            links += 1;
            if links > LINK_LIMIT {
                return Err(ELOOP);
            }
            match leads {
                Leads::By(target) => {
                    if target.first() == Some(&b'/') {
                        above.clear();
                        at = root();
                    }
                    for part in parts(&target).rev() {
                        todo.push_front(part.to_vec());
                    }
                }
                Leads::To(thing, path) => {
                    above.push((at, name));
                    (at, named) = (thing, Some(path));
                }
            }
            continue;
        }
        above.push((at, name));
        at = node;
        named = None;
    }
    if wants_dir && last_is != Last::Name && !at.is_dir() {
        return Err(ENOTDIR);
    }
    let full = named.unwrap_or_else(|| join(&above, None));
    let (parent, name) = above.pop().unwrap_or((at.clone(), Vec::new()));
    Ok(Place { parent, name, ends_in, node: Some(at), path: full, wants_dir })
}

fn join(above: &[(Arc<Inode>, Vec<u8>)], last: Option<&[u8]>) -> Vec<u8> {
    let mut path = Vec::new();
    for name in above.iter().map(|(_, n)| n.as_slice()).chain(last) {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// The node that `path` names, and its absolute path.
pub fn resolve(base: &[u8], path: &[u8], follow: bool) -> Result<(Arc<Inode>, Vec<u8>), Errno> {
    let place = walk(base, path, if follow { Last::Target } else { Last::Link })?;
    Ok((place.node.ok_or(ENOENT)?, place.path))
}

/// Where a directory is that was at `known` when it was opened or entered; ENOENT when it has been removed. It may have got another
/// name since, and another one its old name: the node is what counts.
pub fn path_now(dir: &Arc<Inode>, known: &[u8]) -> Result<Vec<u8>, Errno> {
    match dir.kind {
        Kind::Dir(_) => path_of(dir.ino, known),
        // Entries of /proc are made when they are looked at, and stay where they are.
        _ => Ok(known.to_vec()),
    }
}

/// Whether the node with a number is at `known`, which has no links. None is followed: what it says may be asked for by this look.
fn is_at(ino: u64, known: &[u8]) -> bool {
    let node = parts(known).try_fold(root(), |at, name| child(&at, name).ok().flatten());
    node.is_some_and(|node| node.ino == ino)
}

/// Where the node with a number is that was at `known`; ENOENT when it is nowhere.
fn path_of(ino: u64, known: &[u8]) -> Result<Vec<u8>, Errno> {
    if is_at(ino, known) {
        return Ok(known.to_vec());
    }
    // Rare, so that no node needs to know the directory that it is in: the tree is searched.
    let mut todo = alloc::vec![(root(), Vec::new())];
    while let Some((at, path)) = todo.pop() {
        if at.ino == ino {
            return Ok(if path.is_empty() { b"/".to_vec() } else { path });
        }
        let Kind::Dir(entries) = &at.kind else { continue };
        for (name, node) in entries.lock().iter() {
            if node.ino == ino || matches!(node.kind, Kind::Dir(_)) {
                todo.try_reserve(1).map_err(|_| ENOMEM)?;
                todo.push((node.clone(), [&path[..], b"/", name].concat()));
            }
        }
    }
    Err(ENOENT)
}

/// The path of what was at `known`, as /proc shows it.
pub fn shown_path(inode: &Inode, known: &[u8]) -> Vec<u8> {
    match &inode.kind {
        Kind::Regular(file) => file.shown_now(known),
        Kind::Dir(_) => shown(inode.ino, known),
        _ => known.to_vec(),
    }
}

/// As [`shown_path`], by the node's number.
pub fn shown(ino: u64, known: &[u8]) -> Vec<u8> {
    path_of(ino, known).unwrap_or_else(|_| [known, b" (deleted)"].concat())
}

/// The directory from which `path` starts for the *at calls.
pub fn base_of(fd: i32, path: &[u8]) -> Result<Vec<u8>, Errno> {
    if path.first() == Some(&b'/') {
        return Ok(b"/".to_vec());
    }
    if fd == l::AT_FDCWD {
        return user().fs.cwd_path();
    }
    let file = user().files().get_any(fd)?;
    match &file.inode {
        Some(inode) if inode.is_dir() => path_now(inode, &file.path),
        _ => Err(ENOTDIR),
    }
}

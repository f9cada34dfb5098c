//! Paths: from names to nodes.

use super::entry::ProcEntry;
use super::inode::Entries;
use super::{Inode, Kind, procfs};
use crate::proc::charge;
use crate::proc::process::FsContext;
use crate::proc::thread::user;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_sched as sched;
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
            let path = shown_path(&thing, &known)?;
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
    // Where a path begins may be as deep as programs make directories: a name takes a vector here, and a place among those gone through.
    if !crate::mem::heap_has((base.len() + path.len()) * 2 * size_of::<Vec<u8>>()) {
        return Err(ENOMEM);
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
        Kind::Dir(_) => path_of(dir, known),
        // Entries of /proc are made when they are looked at, and stay where they are; but their numbers are used again.
        Kind::Proc(entry) if !entry.is_there() => Err(ENOENT),
        _ => Ok(known.to_vec()),
    }
}

/// Whether a node is at `known`, which has no links. None is followed: what it says may be asked for by this look.
fn is_at(node: &Arc<Inode>, known: &[u8]) -> bool {
    let found = parts(known).try_fold(root(), |at, name| child(&at, name).ok().flatten());
    found.is_some_and(|found| Arc::ptr_eq(&found, node))
}

/// A directory that a search of the tree has come to, its name, and which one of them it is in.
type Seen = (Arc<Inode>, Vec<u8>, usize);

/// So many entries of a directory are looked at while it is locked.
const AT_ONCE: usize = 32;

/// How often names have begun to move and have arrived, together: odd while one moves. Who moves them holds the lock of all names.
static MOVES: AtomicU64 = AtomicU64::new(0);

/// Names that move, until it is dropped: a search that finds nothing meanwhile has missed them.
pub struct Moving(());

impl Moving {
    /// Before the first list is changed.
    pub fn begin() -> Self {
        // ordering: Relaxed; who finds a list changed has taken its lock after this.
        MOVES.fetch_add(1, Ordering::Relaxed);
        Moving(())
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        // Pairs with the Acquire in `path_of`: who sees this finds the lists as they are now.
        MOVES.fetch_add(1, Ordering::Release);
    }
}

/// Where a node is that was at `known`; ENOENT when it is nowhere. A file has a node for each of its names, so what is found is the name.
fn path_of(node: &Arc<Inode>, known: &[u8]) -> Result<Vec<u8>, Errno> {
    if is_at(node, known) {
        return Ok(known.to_vec());
    }
    // Rare, so that no node needs to know the directory that it is in: the tree is searched. Programs choose how large that is.
    let mut steps = 0;
    loop {
        let before = MOVES.load(Ordering::Acquire);
        if let Some(path) = search(node, &mut steps)? {
            return Ok(path);
        }
        // A name that moves can be missed: in the list where it is not yet, and in the one where it is not any more.
        // ordering: Relaxed; a move that has misled the search had locked a list before the search did.
        if before.is_multiple_of(2) && MOVES.load(Ordering::Relaxed) == before {
            return Err(ENOENT);
        }
        sched::yield_now();
    }
}

/// Looks for a node in the whole tree, as long as the caller is not being killed.
fn search(node: &Arc<Inode>, steps: &mut usize) -> Result<Option<Vec<u8>>, Errno> {
    let mut seen: Vec<Seen> = crate::mem::vec(AT_ONCE)?;
    seen.push((root(), Vec::new(), 0));
    let mut at = 0;
    let mut last = None;
    while at < seen.len() {
        let before = seen.len();
        last = look_at(&mut seen, at, last.as_ref(), node)?;
        if let Some(found) = seen[before..].iter().position(|(found, ..)| Arc::ptr_eq(found, node)) {
            return path_to(&seen, before + found).map(Some);
        }
        at += usize::from(last.is_none());
        *steps += 1;
        if !charge::go_on(*steps) {
            return Err(EINTR);
        }
    }
    Ok(None)
}

/// Looks at some entries of a directory behind the name `last`, and adds its directories to those seen, and the node looked for. Returns
/// the last name looked at; `None`: there are no more.
fn look_at(
    seen: &mut Vec<Seen>,
    at: usize,
    last: Option<&Vec<u8>>,
    node: &Arc<Inode>,
) -> Result<Option<Vec<u8>>, Errno> {
    if !crate::mem::heap_has(AT_ONCE * NAME_LIMIT) || seen.try_reserve(AT_ONCE).is_err() {
        return Err(ENOMEM);
    }
    let dir = seen[at].0.clone();
    let Kind::Dir(entries) = &dir.kind else { return Ok(None) };
    let entries = entries.lock();
    let behind = last.map_or(Bound::Unbounded, Bound::Excluded);
    let mut upto = None;
    for (name, entry) in entries.range::<Vec<u8>, _>((behind, Bound::Unbounded)).take(AT_ONCE) {
        if Arc::ptr_eq(entry, node) || matches!(entry.kind, Kind::Dir(_)) {
            seen.push((entry.clone(), name.clone(), at));
        }
        upto = Some(name);
    }
    Ok(upto.cloned())
}

/// The path of one that has been seen.
fn path_to(seen: &[Seen], found: usize) -> Result<Vec<u8>, Errno> {
    let above = |n: &usize| (*n > 0).then(|| seen[*n].2);
    let names = || core::iter::successors(Some(found), above).map(|n| &seen[n].1[..]).filter(|name| !name.is_empty());
    let mut path = crate::mem::vec(names().map(|name| name.len() + 1).sum())?;
    // From the end to the beginning, each name back to front.
    names().for_each(|name| path.extend(name.iter().rev().chain(b"/")));
    path.reverse();
    Ok(path)
}

/// The path of what was at `known`, as /proc shows it.
pub fn shown_path(inode: &Arc<Inode>, known: &[u8]) -> Result<Vec<u8>, Errno> {
    let found = match &inode.kind {
        Kind::Proc(_) | Kind::Open(_) => return Ok(known.to_vec()),
        Kind::Regular(file) if file.is_nameless() => Err(ENOENT),
        _ => path_of(inode, known),
    };
    if found == Err(ENOENT) { Ok(deleted(known)) } else { found }
}

/// The path of what is nowhere any more. That of what was never anywhere says so itself.
pub fn deleted(known: &[u8]) -> Vec<u8> {
    const MARK: &[u8] = b" (deleted)";
    [known, if known.ends_with(MARK) { b"" } else { MARK }].concat()
}

impl FsContext {
    /// Where the working directory is now; ENOENT when it has been removed.
    pub fn cwd_path(&self) -> Result<Vec<u8>, Errno> {
        let (node, known) = self.cwd.lock().clone();
        path_now(&node, &known)
    }
    /// The working directory as /proc shows it.
    pub fn shown_cwd(&self) -> Result<Vec<u8>, Errno> {
        let (node, known) = self.cwd.lock().clone();
        shown_path(&node, &known)
    }
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
        Some(inode) if inode.is_dir() => path_now(inode, &file.path).map_err(|why| match &inode.kind {
            // As on Linux, but for a list of descriptors.
            Kind::Proc(entry) if !matches!(entry, ProcEntry::Fds(_)) => ESRCH,
            _ => why,
        }),
        _ => Err(ENOTDIR),
    }
}

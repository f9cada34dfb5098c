//! Open files on their way through a socket (SCM_RIGHTS).
//!
//! A queue may hold sockets whose queues hold sockets. They go one after the other, not one within the other, for the kernel's
//! stacks are small. Sockets that hold only each other are not found: they stay until the job ends, and how many files may be on
//! their way at once is limited.

use super::OpenFile;
use super::pipe::Pipe;
use crate::proc::charge;
use crate::proc::thread::current;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::Mutex;

/// Most files of one message, as on Linux.
pub const MOST: usize = 253;

/// Files on their way.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Those that have lost their way, and whether somebody drops them.
static LOST: Mutex<Vec<Arc<OpenFile>>> = Mutex::new(Vec::new());
static DROPPING: AtomicBool = AtomicBool::new(false);
/// The pipes that have carried files, by number. A leaf lock.
static CARRIERS: Mutex<BTreeMap<u64, Weak<Pipe>>> = Mutex::new(BTreeMap::new());

/// The files of one message.
pub struct Rights(Vec<Arc<OpenFile>>);

impl Rights {
    /// ETOOMANYREFS when more are on their way than the process may have open, as on Linux.
    pub fn new(files: Vec<Arc<OpenFile>>) -> Result<Self, Errno> {
        let before = COUNT.fetch_add(files.len() as u64, Ordering::Relaxed);
        let rights = Rights(files);
        if before >= current().limit(l::RLIMIT_NOFILE) { Err(ETOOMANYREFS) } else { Ok(rights) }
    }

    /// The same files again, for who only looks.
    pub fn copy(&self) -> Result<Self, Errno> {
        Rights::new(self.0.clone())
    }

    /// Bytes that go with them, but for what is on its way through them.
    pub fn held(&self) -> u64 {
        let of = |file: &Arc<OpenFile>| file.held(false) / Arc::strong_count(file) as u64;
        self.0.iter().enumerate().take_while(|(n, _)| charge::go_on(*n)).map(|(_, file)| of(file)).sum()
    }

    /// They have arrived.
    pub fn take(mut self) -> Vec<Arc<OpenFile>> {
        COUNT.fetch_sub(self.0.len() as u64, Ordering::Relaxed);
        core::mem::take(&mut self.0)
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        COUNT.fetch_sub(self.0.len() as u64, Ordering::Relaxed);
        LOST.lock().append(&mut self.0);
        // Whoever drops already, here or on another CPU, looks again after it has put the flag down.
        while !LOST.lock().is_empty() && !DROPPING.swap(true, Ordering::Acquire) {
            loop {
                let file = LOST.lock().pop();
                if file.is_none() {
                    break;
                }
                drop(file);
            }
            DROPPING.store(false, Ordering::Release);
        }
    }
}

/// A pipe is about to carry files.
pub fn carries(pipe: &Arc<Pipe>) {
    CARRIERS.lock().insert(pipe.number(), Arc::downgrade(pipe));
}

/// A pipe is gone.
pub fn carries_no_more(number: u64) {
    CARRIERS.lock().remove(&number);
}

/// Drops the files that are still on their way, after a job.
pub fn clean() {
    loop {
        let first = CARRIERS.lock().pop_first();
        let Some((_, pipe)) = first else { return };
        if let Some(pipe) = pipe.upgrade() {
            pipe.drop_rights();
        }
    }
}

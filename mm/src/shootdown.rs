//! Shootdown: asking other CPUs to drop translations, and waiting for their answers.
//!
//! One request record per initiating CPU, one pending word per target CPU.
//!
//! 1. The initiator fills its record, counts its targets in it, then sets its bit in each target's word by `fetch_or`; it
//!    interrupts only those whose word *that* `fetch_or` returned as zero (a word that was not zero has an interrupt under way).
//! 2. A target swaps its word with zero and serves every initiator in it. It answers after its last read of the record.
//! 3. The initiator reuses its record after all answers. While it waits it serves its own word, so two initiators cannot
//!    wait for each other, and after a long poll it sends the interrupts again.
//! 4. Nobody initiates from an interrupt handler, inside a read section, or with a lock held.
//!
//! | write | read | why |
//! |---|---|---|
//! | record, then `fetch_or` (AcqRel) on the word | `swap` (AcqRel) of the word, then record | the target reads this request, not the one before |
//! | invalidation, then `fetch_sub` (Release) of `left` | `left` (Acquire) | after the answers nobody uses the old translation, and the record is free |

use crate::bits::{bits, those};
use crate::machine::{CPUS, Machine, What};
use crate::page::Page;
pub use crate::sizes::MAX_PAGES;
use crate::stats::{Counter, Stats};
use crate::sync::{AtomicU64, Ordering::*};
use core::mem::MaybeUninit;
use core::panic::Location;
use crossbeam_utils::CachePadded;

/// So many polls are a long poll.
const LONG: u32 = 1 << 20;

/// What a target is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
enum Request {
    /// Drop the translations of the listed pages.
    Pages = 0,
    /// Drop all translations.
    All = 1,
    /// Give caches and retired lists back.
    Drain = 2,
}

/// One CPU's request.
#[derive(Debug)]
struct Record {
    /// Targets that have not answered.
    left: AtomicU64,
    /// Which request, and how many pages.
    what: AtomicU64,
    pages: [AtomicU64; MAX_PAGES],
}

/// Requests and pending words of all CPUs.
#[derive(Debug)]
pub struct Shootdown {
    records: [CachePadded<Record>; CPUS],
    pending: [CachePadded<AtomicU64>; CPUS],
}

impl Shootdown {
    /// Nothing asked.
    pub fn new() -> Shootdown {
        let record = || Record {
            left: AtomicU64::new(0),
            what: AtomicU64::new(0),
            pages: core::array::from_fn(|_| AtomicU64::new(0)),
        };
        Shootdown {
            records: core::array::from_fn(|_| CachePadded::new(record())),
            pending: core::array::from_fn(|_| CachePadded::new(AtomicU64::new(0))),
        }
    }
}

impl Default for Shootdown {
    fn default() -> Self {
        Self::new()
    }
}

/// What a shootdown is for, and where it is counted.
pub(crate) struct Why<'a>(pub Counter, pub &'a Stats);

/// The pages to invalidate: a short list, or everything.
#[derive(Debug)]
pub(crate) struct Pages {
    len: usize,
    /// Initialised up to `len`.
    list: [MaybeUninit<Page>; MAX_PAGES],
}

impl Pages {
    /// No page yet.
    #[inline]
    pub(crate) fn none() -> Pages {
        Pages { len: 0, list: [const { MaybeUninit::uninit() }; MAX_PAGES] }
    }

    pub(crate) fn one(page: Page) -> Pages {
        let mut p = Pages::none();
        p.push(page);
        p
    }

    /// Starts again.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    #[inline]
    pub(crate) fn push(&mut self, page: Page) {
        if self.len < MAX_PAGES {
            self.list[self.len].write(page);
        }
        self.len += 1;
    }

    /// Adds `n` pages from `first` on.
    #[inline]
    pub(crate) fn push_run(&mut self, first: Page, n: usize) {
        if let Some(list) = self.list.get_mut(self.len..).and_then(|l| l.get_mut(..n)) {
            list.iter_mut().zip(first.0..).for_each(|(at, p)| {
                at.write(Page(p));
            });
        }
        self.len += n;
    }

    pub(crate) fn all(&mut self) {
        self.len = MAX_PAGES + 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn listed(&self) -> Option<&[Page]> {
        let list = self.list.get(..self.len)?;
        // SAFETY: initialised by `push`, in order.
        Some(unsafe { core::slice::from_raw_parts(list.as_ptr().cast::<Page>(), list.len()) })
    }

    pub(crate) fn invalidate_here<M: Machine>(&self, machine: &M) {
        match self.listed() {
            Some(pages) => pages.iter().for_each(|&p| machine.invalidate(p)),
            None => machine.invalidate_all(),
        }
    }
}

impl Shootdown {
    /// Makes the CPUs in `targets` (never the calling one) drop translations; returns after the last answer. Here and below, `serve` is
    /// what the caller does for others while it waits: [`Shootdown::serve`].
    pub(crate) fn shoot<M: Machine>(&self, machine: &M, why: Why<'_>, targets: u64, pages: &Pages, serve: impl Fn()) {
        let record = &self.records[machine.cpu()];
        let what = match pages.listed() {
            Some(list) => {
                for (place, page) in record.pages.iter().zip(list) {
                    place.store(page.0, Relaxed);
                }
                Request::Pages as u64 | (list.len() as u64) << 8
            }
            None => Request::All as u64,
        };
        self.ask(machine, why, targets, what, serve);
    }

    /// Makes the CPUs in `targets` give their caches and retired lists back.
    pub(crate) fn drain<M: Machine>(&self, machine: &M, stats: &Stats, targets: u64, serve: impl Fn()) {
        self.ask(machine, Why(Counter::ShootdownDrain, stats), targets, Request::Drain as u64, serve);
    }

    fn ask<M: Machine>(&self, machine: &M, why: Why<'_>, targets: u64, what: u64, serve: impl Fn()) {
        machine.may_wait();
        if targets == 0 {
            return;
        }
        let me = machine.cpu();
        debug_assert!(targets & 1 << me == 0, "asks itself");
        let Why(cause, stats) = why;
        stats.add(machine, Counter::ShootdownSent, 1);
        stats.add(machine, cause, 1);
        let record = &self.records[me];
        record.what.store(what, Relaxed);
        record.left.store(targets.count_ones() as u64, Relaxed);
        for cpu in bits(targets) {
            if self.pending[cpu].fetch_or(1 << me, AcqRel) == 0 {
                stats.add(machine, Counter::ShootdownInterrupt, 1);
                machine.interrupt(cpu);
            }
        }
        poll_until(machine, serve, || record.left.load(Acquire) == 0, |since| self.ask_again(machine, targets, since));
    }

    /// After a long poll: interrupts the targets again, and tells which of them have not even begun to answer.
    #[cold]
    fn ask_again<M: Machine>(&self, machine: &M, targets: u64, since: u64) -> u64 {
        static ANSWERS: What = What::cpus("answers of other CPUs");
        let me = 1 << machine.cpu();
        // Relaxed: for a report.
        let silent = those(targets, |cpu| self.pending[cpu].load(Relaxed) & me != 0);
        let since = machine.waiting(&ANSWERS, silent, since, Location::caller());
        bits(targets).for_each(|cpu| machine.interrupt(cpu));
        since
    }

    /// Serves the requests of other CPUs; `drain` gives caches and retired lists back.
    #[inline]
    pub(crate) fn serve<M: Machine>(&self, machine: &M, stats: &Stats, drain: impl Fn()) {
        let me = machine.cpu();
        let word = &self.pending[me];
        if word.load(Relaxed) != 0 {
            self.serve_now(machine, stats, me, word, drain);
        }
    }

    #[cold]
    fn serve_now<M: Machine>(&self, machine: &M, stats: &Stats, me: usize, word: &AtomicU64, drain: impl Fn()) {
        for from in bits(word.swap(0, AcqRel)) {
            let record = &self.records[from];
            let what = record.what.load(Relaxed);
            match what & 0xff {
                k if k == Request::Pages as u64 => {
                    for place in &record.pages[..(what >> 8) as usize] {
                        machine.invalidate(Page(place.load(Relaxed)));
                    }
                }
                k if k == Request::All as u64 => machine.invalidate_all(),
                k if k == Request::Drain as u64 => drain(),
                _ => {}
            }
            stats.add(machine, Counter::ShootdownServed, 1);
            // Release: the invalidation and the reads of the record come before the answer.
            record.left.fetch_sub(1, Release);
        }
        debug_assert!(me == machine.cpu());
    }
}

/// Polls until `is_over`, and serves others meanwhile. After each long poll `look` tells the machine what is waited for: its value is for
/// the next one, as that of [`Machine::waiting`]. For what other CPUs do at once: the CPU is not given away.
#[inline]
pub(crate) fn poll_until<M: Machine>(
    machine: &M,
    serve: impl Fn(),
    mut is_over: impl FnMut() -> bool,
    mut look: impl FnMut(u64) -> u64,
) {
    let (mut polls, mut since) = (0, 0);
    while !is_over() {
        serve();
        machine.relax();
        polls += 1;
        if polls == LONG {
            polls = 0;
            since = look(since);
        }
    }
}

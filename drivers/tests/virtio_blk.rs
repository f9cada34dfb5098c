//! The block driver against a device that is a thread: it answers out of order, sleeps whenever it may, fails, goes silent and
//! lies. More requests than 16-bit indices can count.

use quire_drivers::virtio_blk::{Block, Completed, Error, MOST_PAGES, Op, REQUESTS, Refused};
use quire_drivers::{BufferDirection, Hal, PhysAddr};
use std::alloc::{Layout, alloc_zeroed};
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::*, fence};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const PAGE: usize = 4096;

struct Identity;
// SAFETY: zeroed pages of their own, never freed; addresses are the host's.
unsafe impl Hal for Identity {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let layout = Layout::from_size_align(pages * PAGE, PAGE).unwrap();
        // SAFETY: not empty.
        let p = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        (p.as_ptr() as u64, p)
    }
    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }
    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!()
    }
    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.as_ptr().cast::<u8>() as u64
    }
    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

#[derive(Clone, Copy, Default)]
struct Ring {
    size: u16,
    desc: u64,
    avail: u64,
    used: u64,
}

/// What the two sides share beside memory.
struct Bus {
    features: u64,
    config: Vec<u32>,
    queue_size: u32,
    rings: Mutex<HashMap<u16, Ring>>,
    bell: Mutex<bool>,
    rung: Condvar,
    notified: AtomicU64,
}

struct Wire(Arc<Bus>, DeviceStatus, u64);

impl Transport for Wire {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }
    fn read_device_features(&mut self) -> u64 {
        self.0.features
    }
    fn write_driver_features(&mut self, f: u64) {
        assert_eq!(f & (1 << 28 | 1 << 29), 0, "neither indirect descriptors nor EVENT_IDX");
        assert_eq!(f & !self.0.features, 0);
        self.2 = f;
    }
    fn max_queue_size(&mut self, _: u16) -> u32 {
        self.0.queue_size
    }
    fn notify(&mut self, _: u16) {
        self.0.notified.fetch_add(1, Relaxed);
        *self.0.bell.lock().unwrap() = true;
        self.0.rung.notify_all();
    }
    fn get_status(&self) -> DeviceStatus {
        self.1
    }
    fn set_status(&mut self, s: DeviceStatus) {
        self.1 = s;
    }
    fn set_guest_page_size(&mut self, _: u32) {}
    fn requires_legacy_layout(&self) -> bool {
        false
    }
    fn queue_set(&mut self, q: u16, size: u32, desc: u64, avail: u64, used: u64) {
        self.0.rings.lock().unwrap().insert(q, Ring { size: size as u16, desc, avail, used });
    }
    fn queue_unset(&mut self, _: u16) {}
    fn queue_used(&mut self, q: u16) -> bool {
        self.0.rings.lock().unwrap().contains_key(&q)
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }
    fn read_config_generation(&self) -> u32 {
        0
    }
    fn read_config_space<T: FromBytes + IntoBytes>(&self, at: usize) -> virtio_drivers::Result<T> {
        let word = self.0.config[at / 4].to_le_bytes();
        T::read_from_bytes(&word[..size_of::<T>()]).map_err(|_| virtio_drivers::Error::ConfigSpaceTooSmall)
    }
    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> virtio_drivers::Result<()> {
        unreachable!()
    }
}

const FEATURES: u64 = 1 << 2 | 1 << 9 | 1 << 12 | 1 << 28 | 1 << 29 | 1 << 32;

fn bus(features: u64, pages: u64, queues: u32, queue_size: u32) -> Arc<Bus> {
    let mut config = vec![0u32; 16];
    (config[0], config[1]) = ((pages * 8) as u32, ((pages * 8) >> 32) as u32);
    config[3] = 254;
    config[8] = queues << 16;
    Arc::new(Bus {
        features,
        config,
        queue_size,
        rings: Mutex::default(),
        bell: Mutex::new(false),
        rung: Condvar::new(),
        notified: AtomicU64::new(0),
    })
}

fn open(bus: &Arc<Bus>) -> Result<Block<Identity, Wire>, Error> {
    Block::over(Wire(bus.clone(), DeviceStatus::empty(), 0), |_| true)
}

/// A word of ring memory.
fn half(at: u64) -> &'static AtomicU16 {
    // SAFETY: ring memory is never freed; both sides use it atomically or in turns.
    unsafe { &*(at as *const AtomicU16) }
}

/// The device's side.
struct Device {
    bus: Arc<Bus>,
    disk: Arc<Mutex<Vec<u8>>>,
    seen: HashMap<u16, u16>,
    random: u64,
    fail: u64,
    silent: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Device {
    fn roll(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) % n
    }

    /// Takes all new chains of a queue.
    fn gather(&mut self, q: u16, ring: Ring, to: &mut Vec<(u16, u16)>) {
        let idx = half(ring.avail + 2).load(Acquire);
        let seen = self.seen.entry(q).or_default();
        while *seen != idx {
            let slot = (*seen % ring.size) as u64;
            to.push((q, half(ring.avail + 4 + 2 * slot).load(Relaxed)));
            *seen = seen.wrapping_add(1);
        }
    }

    fn serve(&mut self, ring: Ring, head: u16) {
        let mut parts = Vec::new();
        let mut at = head;
        loop {
            assert!(at < ring.size);
            let d = ring.desc + 16 * at as u64;
            // SAFETY: a descriptor that the driver has published.
            let (addr, len, flags, next) = unsafe {
                (*(d as *const u64), *((d + 8) as *const u32), *((d + 12) as *const u16), *((d + 14) as *const u16))
            };
            parts.push((addr, len as usize, flags & 2 != 0));
            if flags & 1 == 0 {
                break;
            }
            at = next;
        }
        let (header, status) = (parts[0], *parts.last().unwrap());
        assert!(header.1 == 16 && !header.2 && status.1 == 1 && status.2, "the frame of a request");
        // SAFETY: as above.
        let (op, sector) = unsafe { (*(header.0 as *const u32), *((header.0 + 8) as *const u64)) };
        let mut written = 1;
        let failed = self.fail != 0 && self.roll(self.fail) == 0;
        let disk = self.disk.clone();
        let mut disk = disk.lock().unwrap();
        let mut byte = sector as usize * 512;
        for &(addr, len, to_driver) in &parts[1..parts.len() - 1] {
            assert_eq!((len, to_driver), (PAGE, op == 0));
            if !failed {
                let at = &mut disk[byte..byte + len];
                // SAFETY: a page that the driver lends.
                unsafe {
                    match op {
                        0 => (addr as *mut u8).copy_from(at.as_ptr(), len),
                        1 => at.as_mut_ptr().copy_from(addr as *const u8, len),
                        _ => panic!("pages in request {op}"),
                    }
                }
            }
            byte += len;
            written += if op == 0 { len } else { 0 };
        }
        // SAFETY: the status byte.
        unsafe { (status.0 as *mut u8).write(failed as u8) };
        self.answer(ring, head as u32, written as u32);
    }

    fn answer(&self, ring: Ring, id: u32, len: u32) {
        let idx = half(ring.used + 2).load(Relaxed);
        let at = ring.used + 4 + 8 * (idx % ring.size) as u64;
        // SAFETY: an element of the used ring, ours until the index is written.
        unsafe {
            (at as *mut u32).write_volatile(id);
            ((at + 4) as *mut u32).write_volatile(len);
        }
        half(ring.used + 2).store(idx.wrapping_add(1), Release);
    }

    /// Works until told to stop; sleeps whenever there is nothing, and then only the bell wakes it.
    fn run(mut self) {
        let mut waiting = Vec::new();
        while !self.stop.load(Acquire) {
            let rings = self.bus.rings.lock().unwrap().clone();
            // Working: no bell, please.
            rings.values().for_each(|r| half(r.used).store(1, Release));
            rings.iter().for_each(|(&q, &r)| self.gather(q, r, &mut waiting));
            if self.silent.load(Acquire) {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let keep = self.roll(3);
            while waiting.len() as u64 > keep {
                let i = self.roll(waiting.len() as u64) as usize;
                let (q, head) = waiting.swap_remove(i);
                self.serve(rings[&q], head);
            }
            if waiting.is_empty() {
                rings.values().for_each(|r| half(r.used).store(0, Release));
                fence(SeqCst);
                let more = rings
                    .iter()
                    .any(|(q, r)| half(r.avail + 2).load(Acquire) != self.seen.get(q).copied().unwrap_or_default());
                if !more {
                    let bell = self.bus.bell.lock().unwrap();
                    let (mut bell, _) =
                        self.bus.rung.wait_timeout_while(bell, Duration::from_secs(3600), |rung| !*rung).unwrap();
                    *bell = false;
                }
            }
        }
    }
}

struct Machine {
    block: Block<Identity, Wire>,
    bus: Arc<Bus>,
    silent: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Machine {
    fn new(features: u64, pages: u64, queues: u32, fail: u64) -> Machine {
        let bus = bus(features, pages, queues, 256);
        let block = open(&bus).unwrap();
        let (silent, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let device = Device {
            bus: bus.clone(),
            disk: Arc::new(Mutex::new(vec![0; pages as usize * PAGE])),
            seen: HashMap::new(),
            random: 88_172_645_463_325_252,
            fail,
            silent: silent.clone(),
            stop: stop.clone(),
        };
        let thread = Some(std::thread::spawn(|| device.run()));
        Machine { block, bus, silent, stop, thread }
    }

    fn wait(&mut self) -> Completed {
        let start = std::time::Instant::now();
        loop {
            if let Some(c) = self.block.next(0) {
                return c;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no answer: the bell was not rung");
            std::thread::yield_now();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop.store(true, Release);
        *self.bus.bell.lock().unwrap() = true;
        self.bus.rung.notify_all();
        self.thread.take().map(|t| t.join());
    }
}

fn pages(n: usize) -> Vec<*mut u8> {
    (0..n).map(|_| Identity::dma_alloc(1, BufferDirection::Both).1.as_ptr()).collect()
}

fn fill(page: *mut u8, stamp: u64) {
    // SAFETY: a page of ours that is not in flight.
    (0..PAGE / 8).for_each(|i| unsafe { page.cast::<u64>().add(i).write(stamp.wrapping_add(i as u64)) });
}

fn holds(page: *mut u8, stamp: u64) -> bool {
    // SAFETY: as above.
    (0..PAGE / 8).all(|i| unsafe { page.cast::<u64>().add(i).read() } == stamp.wrapping_add(i as u64))
}

/// `count` requests of 1 to 32 pages on disjoint regions of the disk, written and read in any order.
fn traffic(m: &mut Machine, count: u64, most: usize) -> u64 {
    const REGIONS: usize = REQUESTS;
    let memory: Vec<Vec<*mut u8>> = (0..REGIONS).map(|_| pages(most)).collect();
    // Stamp on the disk, pages of it; busy with.
    let mut state = [(0u64, 0usize, None::<Op>); REGIONS];
    let (mut done, mut sent, mut errors, mut r) = (0, 0u64, 0, 12345u64);
    while done < count {
        while sent < count {
            r = r.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let region = (r >> 33) as usize % REGIONS;
            let s = &mut state[region];
            if s.2.is_some() {
                break;
            }
            let op = if s.1 == 0 || r >> 60 & 1 == 0 { Op::Write } else { Op::Read };
            if op == Op::Write {
                (s.0, s.1) = (r | 1, 1 + (r >> 40) as usize % most);
                memory[region][..s.1].iter().enumerate().for_each(|(i, &p)| fill(p, s.0 + i as u64 * 1000));
            } else {
                memory[region][..s.1].iter().for_each(|&p| fill(p, 0));
            }
            // SAFETY: the pages are this region's, which is not busy.
            let result =
                unsafe { m.block.submit(op, (region * most) as u64, &memory[region][..s.1], region as u64, 0) };
            match result {
                Ok(()) => {
                    s.2 = Some(op);
                    sent += 1;
                }
                Err(e) => {
                    assert_eq!(e, Refused::Full);
                    if op == Op::Write {
                        s.1 = 0;
                    }
                    break;
                }
            }
        }
        m.block.kick();
        let c = m.wait();
        let s = &mut state[c.cookie as usize];
        match s.2.take().expect("completed twice") {
            Op::Read if c.ok => {
                let right =
                    memory[c.cookie as usize][..s.1].iter().enumerate().all(|(i, &p)| holds(p, s.0 + i as u64 * 1000));
                assert!(right, "a page was not read as it was written");
            }
            // What a failed write has left is unknown.
            Op::Write if !c.ok => s.1 = 0,
            _ => {}
        }
        errors += !c.ok as u64;
        done += 1;
    }
    assert_eq!(m.block.in_flight(), 0);
    errors
}

#[test]
fn more_requests_than_an_index_can_count() {
    let mut m = Machine::new(FEATURES, REQUESTS as u64 * 2, 1, 0);
    assert_eq!(traffic(&mut m, 200_000, 2), 0);
    assert!(m.bus.notified.load(Relaxed) < 200_000, "the device's wish for silence is heard");
}

/// One request at a time: the device goes to sleep between any two of them, while the next is being added (race 25). That the fence
/// in `kick` is needed this does not show: the window is too narrow for this device.
#[test]
fn the_bell_is_never_missed() {
    let mut m = Machine::new(FEATURES, 8, 1, 0);
    let memory = pages(1);
    for i in 0..300_000 {
        // SAFETY: the page is in no other request.
        unsafe { m.block.submit(Op::Write, 0, &memory, i, 0) }.unwrap();
        m.block.kick();
        assert_eq!(m.wait().cookie, i);
    }
}

#[test]
fn long_requests_on_several_queues() {
    let mut m = Machine::new(FEATURES, (REQUESTS * MOST_PAGES) as u64, 5, 0);
    assert_eq!(m.block.queues(), 5);
    assert_eq!(traffic(&mut m, 6_000, MOST_PAGES), 0);
}

#[test]
fn errors_belong_to_their_request() {
    let mut m = Machine::new(FEATURES, (REQUESTS * 8) as u64, 2, 10);
    let errors = traffic(&mut m, 10_000, 8);
    assert!((500..2000).contains(&errors), "{errors} errors");
}

#[test]
fn thirty_two_of_the_longest_in_flight() {
    let mut m = Machine::new(FEATURES, (REQUESTS * MOST_PAGES) as u64, 5, 0);
    m.silent.store(true, Release);
    let memory = pages(MOST_PAGES);
    let mut n = 0;
    // SAFETY: they are all writes of pages that nobody changes.
    while unsafe { m.block.submit(Op::Write, n * 32, &memory, n, 0) }.is_ok() {
        n += 1;
    }
    assert!(n >= 32, "{n} requests of 128 KiB");
    m.block.kick();
    m.silent.store(false, Release);
    let mut seen: Vec<u64> = (0..n).map(|_| m.wait().cookie).collect();
    seen.sort();
    assert!(seen.into_iter().eq(0..n));
    // Small ones on one queue.
    let mut m = Machine::new(FEATURES, 64, 1, 0);
    m.silent.store(true, Release);
    // SAFETY: as above.
    let n = (0..100).take_while(|&i| unsafe { m.block.submit(Op::Write, 0, &memory[..1], i, 0) }.is_ok()).count();
    assert_eq!(n, REQUESTS);
    m.block.kick();
    m.silent.store(false, Release);
    (0..n).for_each(|_| assert!(m.wait().ok));
}

#[test]
fn a_silent_device_is_reported_and_may_come_back() {
    let mut m = Machine::new(FEATURES, 64, 1, 0);
    m.block.set_limit(100);
    m.silent.store(true, Release);
    let memory = pages(1);
    // SAFETY: the page is not used meanwhile.
    unsafe { m.block.submit(Op::Read, 3, &memory, 1, 1000) }.unwrap();
    m.block.kick();
    assert!(!m.block.is_dead(1100));
    assert!(m.block.is_dead(1101));
    // SAFETY: as above.
    assert_eq!(unsafe { m.block.submit(Op::Read, 3, &memory, 1, 1101) }, Err(Refused::Dead));
    assert_eq!(m.block.in_flight(), 1, "the page stays the device's");
    m.silent.store(false, Release);
    *m.bus.bell.lock().unwrap() = true;
    m.bus.rung.notify_all();
    assert!(m.wait().ok);
    assert!(!m.block.is_dead(5000), "nothing is owed");
    // SAFETY: as above.
    assert!(unsafe { m.block.submit(Op::Read, 3, &memory, 1, 5000) }.is_ok());
    m.block.kick();
    m.wait();
}

#[test]
fn impossible_requests_are_refused() {
    let memory = pages(MOST_PAGES + 1);
    let mut m = Machine::new(FEATURES, 64, 1, 0);
    assert_eq!((m.block.pages(), m.block.is_read_only(), m.block.can_flush()), (64, false, true));
    // SAFETY: none of them is taken.
    let mut refused = |op, first, n: usize| unsafe { m.block.submit(op, first, &memory[..n], 0, 0) };
    for (op, first, n) in [
        (Op::Read, 64, 1),
        (Op::Read, 63, 2),
        (Op::Write, u64::MAX, 1),
        (Op::Read, 0, 0),
        (Op::Read, 0, MOST_PAGES + 1),
        (Op::Flush, 0, 1),
    ] {
        assert_eq!(refused(op, first, n), Err(Refused::Impossible), "{op:?} {first} {n}");
    }
    // SAFETY: without pages.
    unsafe { m.block.submit(Op::Flush, 0, &[], 9, 0) }.unwrap();
    m.block.kick();
    assert_eq!(m.wait(), Completed { cookie: 9, ok: true });
    let mut m = Machine::new(FEATURES | 1 << 5, 64, 1, 0);
    assert!(m.block.is_read_only());
    // SAFETY: not taken.
    assert_eq!(unsafe { m.block.submit(Op::Write, 0, &memory[..1], 0, 0) }, Err(Refused::Impossible));
}

#[test]
fn unsuitable_devices_are_refused() {
    assert_eq!(open(&bus(FEATURES & !(1 << 32), 64, 1, 256)).err(), Some(Error::Broken), "legacy");
    assert_eq!(open(&bus(FEATURES & !(1 << 2), 64, 1, 256)).err(), Some(Error::Small), "one segment");
    assert_eq!(open(&bus(FEATURES, 64, 1, 128)).err(), Some(Error::Small), "a short queue");
}

#[test]
fn an_answer_that_nobody_asked_for_is_no_panic() {
    let bus = bus(FEATURES, 64, 1, 256);
    let mut block = open(&bus).unwrap();
    let ring = bus.rings.lock().unwrap()[&0];
    let liar = Device {
        bus: bus.clone(),
        disk: Arc::default(),
        seen: HashMap::new(),
        random: 1,
        fail: 0,
        silent: Arc::default(),
        stop: Arc::default(),
    };
    let memory = pages(1);
    // SAFETY: the page is not used any more.
    unsafe { block.submit(Op::Read, 0, &memory, 0, 0) }.unwrap();
    for id in [700, 77, u32::MAX] {
        liar.answer(ring, id, 0);
        assert_eq!(block.next(0), None);
        assert!(block.is_dead(0));
    }
    // A short read, answered in a right way otherwise.
    let bus = self::bus(FEATURES, 64, 1, 256);
    let mut block = open(&bus).unwrap();
    let ring = bus.rings.lock().unwrap()[&0];
    // SAFETY: as above.
    unsafe { block.submit(Op::Read, 0, &memory, 5, 0) }.unwrap();
    liar.answer(ring, 0, 100);
    assert_eq!(block.next(0), Some(Completed { cookie: 5, ok: false }));
}

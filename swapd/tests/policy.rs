//! The policy's functions.

use proptest::prelude::*;
use quire_swapd::policy::{LAST_ROUND, MOST_AHEAD, Pressure, Readahead, Verdict, Watermarks, judge, part};

#[test]
fn watermarks_fit_small_and_large_machines() {
    let small = Watermarks::of(64 << 8);
    assert_eq!((small.min, small.low, small.high), (128, 256, 384));
    assert_eq!(Watermarks::of(1 << 30).min, 4096);
    assert_eq!(Watermarks::of(100).min, 32);
    assert_eq!(small.pressure(127), Pressure::Direct);
    assert_eq!(small.pressure(128), Pressure::Daemon);
    assert_eq!(small.pressure(256), Pressure::None);
}

#[test]
fn a_page_gets_its_second_chance() {
    assert_eq!(judge(true, 3, 0), Verdict::Keep(0));
    assert_eq!(judge(false, 0, 0), Verdict::Keep(1));
    assert_eq!(judge(false, 1, 0), Verdict::Evict);
    assert_eq!(judge(true, 0, 1), Verdict::Keep(0));
    assert_eq!(judge(false, 0, 1), Verdict::Evict);
    assert_eq!(judge(true, 0, LAST_ROUND), Verdict::Evict);
}

#[test]
fn a_run_grows_the_window_and_jumps_shrink_it() {
    let mut r = Readahead::default();
    let mut page = 1000;
    let mut windows = Vec::new();
    for _ in 0..8 {
        let (range, next) = r.read(page);
        assert!(range.start == page || windows.is_empty(), "forward: {range:?} for {page}");
        windows.push(range.end - range.start);
        r = next;
        // Everything read ahead is wanted.
        for p in page + 1..range.end {
            r = r.hit(p);
        }
        page = range.end.max(page + 1);
    }
    assert_eq!(windows.last(), Some(&32), "{windows:?}");
    // Random reads: no hits.
    let mut sizes = Vec::new();
    for i in 0..7u64 {
        let (range, next) = r.read(1_000_000 + i * i * 7919);
        assert!(range.contains(&(1_000_000 + i * i * 7919)));
        sizes.push(range.end - range.start);
        r = next;
    }
    assert_eq!(sizes, [32, 16, 8, 4, 2, 1, 1]);
}

#[test]
fn backward_runs_read_backward() {
    let mut r = Readahead::default();
    let mut page = 5000;
    let mut requests = 0;
    while page > 4000 {
        let (range, next) = r.read(page);
        r = next;
        for p in (range.start..page).rev() {
            r = r.hit(p);
        }
        page = range.start - 1;
        requests += 1;
    }
    assert!(requests < 60, "{requests} requests for 1000 pages backward");
}

proptest! {
    #[test]
    fn a_window_contains_the_page(pages in prop::collection::vec((0u64..1 << 36, 0u8..40), 1..50)) {
        let mut r = Readahead::default();
        for (page, hits) in pages {
            let (range, next) = r.read(page);
            prop_assert!(range.contains(&page));
            prop_assert!(range.end - range.start <= MOST_AHEAD as u64 + 1);
            r = next;
            for i in 0..hits as u64 {
                r = r.hit(page + i);
            }
        }
    }

    #[test]
    fn parts_are_no_more_than_the_whole(want in 0u64..10_000, all in prop::collection::vec(0u64..1 << 30, 1..20)) {
        let sum = all.iter().sum();
        let parts: u64 = all.iter().map(|&r| part(want, r, sum)).sum();
        prop_assert!(parts <= want + all.len() as u64);
    }
}

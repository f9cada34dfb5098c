//! Random edits against a plain model: one map from page to what it holds.

use proptest::prelude::*;
use quire_mm::fake::{Cpu, audit, memory};
use quire_mm::{Backing, EditError, Fault, Flags, Page, PageRange, Place, Prot, Remap, Space};
use std::collections::BTreeMap;
use std::sync::Arc;

const RW: Prot = Prot::READ.union(Prot::WRITE);
const PAGES: u64 = 700;

#[derive(Clone, Debug)]
enum Op {
    Map(u64, u64, Prot, bool),
    Unmap(u64, u64),
    Protect(u64, u64, Prot),
    Discard(u64, u64),
    Write(u64, u64),
    Read(u64),
    Move(u64, u64, u64, bool),
    Fork,
}

fn prot() -> impl Strategy<Value = Prot> {
    prop_oneof![Just(RW), Just(Prot::READ), Just(Prot::empty()), Just(Prot::READ | Prot::EXEC), Just(Prot::all())]
}

fn op() -> impl Strategy<Value = Op> {
    let page = 0..PAGES;
    let len = prop_oneof![1u64..4, 1u64..60, 1u64..600];
    prop_oneof![
        4 => (page.clone(), len.clone(), prot(), any::<bool>()).prop_map(|(p, n, r, a)| Op::Map(p, n, r, a)),
        3 => (page.clone(), len.clone()).prop_map(|(p, n)| Op::Unmap(p, n)),
        3 => (page.clone(), len.clone(), prot()).prop_map(|(p, n, r)| Op::Protect(p, n, r)),
        1 => (page.clone(), len.clone()).prop_map(|(p, n)| Op::Discard(p, n)),
        8 => (page.clone(), 1u64..1000).prop_map(|(p, v)| Op::Write(p, v)),
        4 => page.clone().prop_map(Op::Read),
        2 => (page.clone(), len.clone(), 0..PAGES, any::<bool>()).prop_map(|(p, n, d, k)| Op::Move(p, n, d, k)),
        1 => Just(Op::Fork),
    ]
}

/// What a page of the model is: its rights, whether its mapping merges, its content.
type Model = BTreeMap<u64, (Prot, bool, u64)>;

/// Straddles a leaf table, and (through its neighbour) the end of an arena's first GiB.
const BASE: u64 = (1 << 18) - 300;

fn covered(m: &Model, p: u64, n: u64) -> bool {
    (p..p + n).all(|i| m.contains_key(&i))
}

fn one(m: &Model, p: u64, n: u64) -> bool {
    covered(m, p, n) && (p..p + n).all(|i| (m[&i].0, m[&i].1) == (m[&p].0, m[&p].1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn edits_agree_with_a_plain_model(ops in prop::collection::vec(op(), 1..120)) {
        let m = memory(8192);
        let mut cpu = Cpu::new(m, 0);
        let mut space = Arc::new(Space::new(m));
        let mut forks = Vec::new();
        cpu.enter(&space);
        let mut model = Model::new();
        let range = |p: u64, n: u64| PageRange::new(Page(BASE + p), n).unwrap();
        for op in ops {
            match op {
                Op::Map(p, n, r, alone) => {
                    // NORESERVE only makes two kinds that do not merge.
                    let f = if alone { Flags::NORESERVE } else { Flags::empty() };
                    space.map(Place::Fixed(Page(BASE + p)), n, r, &Backing::Anonymous, f).unwrap();
                    (p..p + n).for_each(|i| { model.insert(i, (r, alone, 0)); });
                }
                Op::Unmap(p, n) => {
                    space.unmap(range(p, n)).unwrap();
                    (p..p + n).for_each(|i| { model.remove(&i); });
                }
                Op::Protect(p, n, r) => {
                    let want = if covered(&model, p, n) { Ok(()) } else { Err(EditError::NotMapped) };
                    prop_assert_eq!(space.protect(range(p, n), r), want);
                    // What lies before a hole has the new rights.
                    for i in p..p + n {
                        let Some(c) = model.get_mut(&i) else { break };
                        c.0 = r;
                    }
                }
                Op::Discard(p, n) => {
                    let _ = space.discard(range(p, n));
                    (p..p + n).for_each(|i| if let Some(c) = model.get_mut(&i) { c.2 = 0 });
                }
                Op::Write(p, v) => {
                    let want = match model.get_mut(&p) {
                        None => Err(Fault::NoSegment),
                        Some(c) if !c.0.contains(Prot::WRITE) => Err(Fault::Forbidden),
                        Some(c) => { c.2 = v; Ok(()) }
                    };
                    prop_assert_eq!(cpu.write((BASE + p) << 12, v), want);
                }
                Op::Read(p) => {
                    let want = match model.get(&p) {
                        None => Err(Fault::NoSegment),
                        Some(c) if c.0.is_empty() => Err(Fault::Forbidden),
                        Some(c) => Ok(c.2),
                    };
                    prop_assert_eq!(cpu.read((BASE + p) << 12), want);
                }
                Op::Move(p, n, d, keep) => {
                    let apart = p + n <= d || d + n <= p;
                    let got = space.remap(range(p, n), n, Remap::Fixed(Page(BASE + d)), keep);
                    let want = match (one(&model, p, n), apart) {
                        (false, _) => Err(EditError::NotMapped),
                        (_, false) => Err(EditError::Invalid),
                        _ => Ok(Page(BASE + d)),
                    };
                    prop_assert_eq!(got, want);
                    if want.is_ok() {
                        for i in 0..n {
                            let c = model[&(p + i)];
                            model.insert(d + i, c);
                            if keep { model.get_mut(&(p + i)).unwrap().2 = 0 } else { model.remove(&(p + i)); }
                        }
                    }
                }
                Op::Fork => {
                    let child = Arc::new(space.fork().unwrap());
                    cpu.enter(&child);
                    forks.push((std::mem::replace(&mut space, child), model.clone()));
                }
            }
        }
        forks.push((space, model));
        for (space, model) in &forks {
            // The segments are the model's runs, and each run is as long as it can be.
            let mut seen = Vec::new();
            space.each_segment(PageRange { start: Page(0), end: PageRange::LIMIT }, |s| {
                seen.push((s.range.start.0 - BASE, s.range.end.0 - BASE, s.prot, s.flags.contains(Flags::NORESERVE)));
            });
            let mut want: Vec<(u64, u64, Prot, bool)> = Vec::new();
            for (&p, &(r, a, _)) in model {
                match want.last_mut() {
                    Some(w) if w.1 == p && w.2 == r && w.3 == a => w.1 = p + 1,
                    _ => want.push((p, p + 1, r, a)),
                }
            }
            prop_assert_eq!(seen, want);
            cpu.enter(space);
            for (&p, c) in model {
                if !c.0.is_empty() {
                    prop_assert_eq!(cpu.read((BASE + p) << 12), Ok(c.2));
                }
            }
        }
        cpu.leave();
        audit(m, &forks.iter().map(|f| &*f.0).collect::<Vec<_>>());
        drop(forks);
        let r = audit(m, &[]);
        prop_assert_eq!((r.tables, r.slabs, r.pages, r.objects), (0, 0, 1, 0));
    }
}

//! Every edit, from every state in which it may find a page, beside a CPU that stores to the page.
//!
//! The models of each protocol begin where that protocol is most at risk; these begin everywhere else. One table of [`Start`]s and
//! one of [`Edit`]s: each pair is a model.
//!
//! CPU 1 stores to word 0 of page 0 through the faults that this takes, asks whether the edit has returned, then stores once more and
//! loads word 1, both through what it has cached. CPU 0 edits. Word 1 has what was there before.
//!
//! *Invariant*: what [`Edit`] says at each. *Bounds*: one page beside a neighbour, two CPUs, one edit, two preemptions.

use crate::area::pump;
use crate::defects::Defect::{self, *};
use crate::model::Model;
use crate::world::{NONE, R, RW, Scene, World, flag, on, script, spawn};
use quire_mm::sync::Ordering::*;
use quire_mm::{Backing, Counter, Fault, Flags, ObjectRef, Page, Place, Remap, Space};

/// What the page is when the edit comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    /// Nothing; nobody has joined the arena.
    Unjoined,
    /// Nothing; its table is missing.
    Absent,
    /// Nothing, in a table.
    Empty,
    /// The zero page.
    Zero,
    /// A blank page, read by both.
    Blank,
    /// A writable page of its own.
    Own,
    /// Shared with a child.
    Shared,
    /// A page that was shared with a child, which is gone.
    Left,
    /// Hidden by an edit, granted again by another.
    Hidden,
    /// Swapped, its content still in memory.
    Cached,
    /// Swapped, its content on the disk.
    Written,
    /// A shared object's page, mapped.
    Object,
    /// A shared object's page that the object has, mapped by nobody.
    Unmapped,
    /// A shared object's page that nobody has made.
    Unmade,
    /// A shared object's page that is swapped.
    Given,
    /// A private view of an object's page.
    View,
    /// A private copy of an object's page.
    Copy,
}
use Start::*;

impl Start {
    /// Whether it is memory of an object.
    fn of_object(self) -> bool {
        matches!(self, Object | Unmapped | Unmade | Given | View | Copy)
    }

    /// Whether stores to it are stores to the object.
    fn shared(self) -> bool {
        matches!(self, Object | Unmapped | Unmade | Given)
    }

    /// Word 1 of the page.
    fn word(self) -> u64 {
        match self {
            Unjoined | Absent | Empty | Zero | Blank | Unmade => 0,
            _ => 1,
        }
    }

    fn swaps(self) -> bool {
        matches!(self, Cached | Written | Given)
    }
}

/// What CPU 0 does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Edit {
    /// When it has returned nobody stores any more.
    Unmap,
    /// As `Unmap`; the table goes, too.
    UnmapTable,
    /// When it has returned nobody stores any more; no store before is lost.
    Protect,
    /// When it has returned nobody loads any more; no store before is lost.
    Hide,
    /// A store comes before or after as a whole.
    Discard,
    /// As `Discard`; the table goes, too.
    DiscardTable,
    /// The child has one moment of its parent; no store of the parent is lost.
    Fork,
    /// The object becomes empty: when that has returned nobody has its page.
    Truncate,
    /// The object gets a hole: shared mappings show zeros, private copies stay.
    Punch,
    /// No store is lost.
    Evict,
    /// To another table: the page is there with every store, and when the move has returned nobody has it here.
    Move,
    /// As `Move`, to another arena, where there is no table.
    MoveFar,
    /// To another arena, but the place stays mapped: each store is there or here, those after the move's return here.
    MoveKeep,
}
use Edit::*;

impl Edit {
    /// Where the page goes.
    fn to(self) -> u64 {
        match self {
            Move => 2,
            _ => quire_mm::page::ARENA_PAGES as u64,
        }
    }
}

/// What the models of a run share.
struct Stage {
    w: World,
    s: Scene,
    /// A child that was made before.
    child: Option<Scene>,
    object: Option<ObjectRef>,
}

const SIZE: u64 = 4096;

fn stage(start: Start, swapping: bool) -> Stage {
    let w = if swapping || start.swaps() { World::swapping(40, 4) } else { World::new(36) };
    let (m, s) = (w.memory(), w.space());
    let object = start.of_object().then(|| m.new_object(SIZE, SIZE, &[]).expect("a node"));
    match &object {
        Some(object) => {
            let backing = Backing::Object { object: object.clone(), offset: 0, shared: start.shared() };
            assert!(Space::map(&s, Place::Fixed(Page(0)), 1, RW, &backing, Flags::empty()).is_ok());
            s.map(1, 1, RW);
        }
        None => s.map(0, 2, RW),
    }
    s.map(3, 1, RW);
    let mut child = None;
    on(0, || s.enter());
    on(1, || s.enter());
    let both = |page: u64| (0..2).for_each(|cpu| on(cpu, || assert!(s.read(page, 0).is_ok())));
    let own = || {
        both(1);
        on(1, || assert!(s.write(0, 1, 1).is_ok()));
    };
    match start {
        Unjoined => {}
        Absent => both(3),
        Empty => both(1),
        Zero => both(0),
        Blank => {
            both(1);
            s.allow_blank(1);
            both(0);
            assert_eq!(m.stats.get(Counter::FaultBlank), 1, "not a blank page");
        }
        Own | Object | Copy => own(),
        Shared => {
            own();
            child = Some(on(0, || s.fork()));
        }
        Left => {
            own();
            on(0, || s.fork().close());
        }
        Hidden => {
            own();
            s.protect(0, 1, NONE);
            on(2, || s.protect(0, 1, RW));
        }
        Cached | Written => {
            own();
            super::swap::out(&w, s, 0, start == Written);
        }
        Unmapped | Given => {
            own();
            on(1, || assert!((*s).discard(Scene::range(0, 1)).is_ok()));
            if start == Given {
                let object = object.as_ref().expect("an object");
                assert_eq!(on(2, || m.evict_object(object, 1, &mut 0)), 1);
                pump(w.area());
            }
        }
        Unmade => both(1),
        View => {
            let object = object.as_ref().expect("an object");
            let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
            let other = w.space();
            assert!(Space::map(&other, Place::Fixed(Page(0)), 1, RW, &backing, Flags::empty()).is_ok());
            on(2, || {
                other.enter();
                assert!(other.write(0, 1, 1).is_ok());
                other.leave();
            });
            other.close();
            both(0);
        }
    }
    Stage { w, s, child, object }
}

/// One model.
fn run(start: Start, edit: Edit) {
    let Stage { w, s, child, object } = stage(start, edit == Evict);
    let m = w.memory();
    let returned = flag();
    let seen = returned.clone();
    let t = spawn(&w, 1, move || {
        let wrote = s.write(0, 0, 2).is_ok();
        let over = seen.load(Acquire) != 0;
        let again = s.poke(0, 0, 3);
        let look = s.peek(0, 1);
        (wrote, over, again, look.filter(|_| over))
    });
    let made = script(&w, || {
        let mut made = None;
        match edit {
            Unmap => s.unmap(0, 1),
            UnmapTable => s.unmap(0, 2),
            Protect => s.protect(0, 1, R),
            Hide => s.protect(0, 1, NONE),
            Discard => assert!((*s).discard(Scene::range(0, 1)).is_ok()),
            DiscardTable => assert!((*s).discard(Scene::range(0, 2)).is_ok()),
            Fork => made = Some(s.fork()),
            Truncate => {
                let cut = m.set_object_len(object.as_ref().expect("an object"), 0).expect("shorter");
                s.cut(&cut);
            }
            Punch => {
                let cut = m.punch_object(object.as_ref().expect("an object"), 0, SIZE).expect("a hole");
                s.cut(&cut);
            }
            Evict => {
                s.page_out(Scene::range(0, 1));
                pump(w.area());
            }
            Move | MoveFar | MoveKeep => {
                let to = Page(edit.to());
                assert_eq!((*s).remap(Scene::range(0, 1), 1, Remap::Fixed(to), edit == MoveKeep), Ok(to));
            }
        }
        returned.store(1, Release);
        made
    });
    let (wrote, over, again, look) = t.join().expect("CPU 1's script");
    // `look` is what CPU 1 loaded after the edit had returned. What word 0 has if no store was lost:
    let last = match (wrote, again) {
        (_, true) => 3,
        (true, _) => 2,
        _ => 0,
    };
    let now = || on(0, || (s.read(0, 0), s.read(0, 1)));
    let kept = (Ok(last), Ok(start.word()));
    // Before or after as a whole: word 1 is `word`, and what came after the edit's return is there.
    let before_or_after = |word: u64| {
        let (first, second) = now();
        assert_eq!(second, Ok(word), "what the edit took is back");
        assert!(look.is_none_or(|w| w == word), "a load of what the edit has taken");
        assert!(first == Ok(0) || first == Ok(last), "a part of the stores: {first:?} of {last}");
        assert!(!(over && again) || first == Ok(3), "a store after the edit was lost");
    };
    match edit {
        Unmap | UnmapTable => {
            assert!(!(over && again) && look.is_none(), "an access after the unmap returned");
            assert_eq!(now().0, Err(Fault::NoSegment));
        }
        Protect => {
            assert!(!(over && again), "a store after the protect returned");
            assert!(on(0, || !s.poke(0, 0, 9)), "a writable page in a read-only segment");
            assert_eq!(now(), kept, "a store was lost");
        }
        Hide => {
            assert!(!(over && again) && look.is_none(), "an access after the protect returned");
            assert!(on(0, || s.peek(0, 0).is_none()), "a readable page in a segment that grants nothing");
            s.protect(0, 1, R);
            assert_eq!(now(), kept, "a store was lost");
        }
        Discard | DiscardTable => match start {
            _ if start.shared() => assert_eq!(now(), kept, "a store was lost"),
            View => before_or_after(1),
            // The copy's word 1 was never the object's.
            _ => before_or_after(0),
        },
        Fork => {
            assert!(wrote, "a fork takes no right");
            let child = made.expect("a child");
            on(0, || s.leave());
            let look = || {
                on(0, || {
                    child.enter();
                    let words = (child.read(0, 0), child.read(0, 1));
                    child.leave();
                    words
                })
            };
            let then = look();
            assert_eq!(then.1, Ok(start.word()), "the child has not its parent's page");
            on(1, || assert_eq!((s.read(0, 0), s.read(0, 1)), kept, "a store of the parent was lost"));
            on(1, || assert!(s.write(0, 0, 9).is_ok()));
            match start.shared() {
                true => assert_eq!(look().0, Ok(9), "a shared page was copied"),
                false => {
                    assert!(!(over && again) || then.0 != Ok(3), "the child has a later store of its parent");
                    assert_eq!(look(), then, "the child sees a later store of its parent");
                }
            }
        }
        Truncate => {
            assert!(!(over && again) && look.is_none(), "an access behind the end");
            assert_eq!(now().0, Err(Fault::Beyond));
        }
        Punch => match start {
            Copy => assert_eq!(now(), kept, "a store to a private copy was lost"),
            View => {
                let (first, second) = now();
                assert_eq!(first, Ok(last), "a store to a private copy was lost");
                assert!(second == Ok(0) || second == Ok(1));
            }
            _ => before_or_after(0),
        },
        Evict => assert_eq!(now(), kept, "a store was lost"),
        Move | MoveFar => {
            assert!(!(over && again) && look.is_none(), "an access after the move returned");
            assert_eq!(now().0, Err(Fault::NoSegment));
            assert_eq!(on(0, || (s.read(edit.to(), 0), s.read(edit.to(), 1))), kept, "the page was not moved");
        }
        MoveKeep => {
            assert!(wrote, "a place that stays mapped was refused");
            let (here, there) = (now(), on(0, || (s.read(edit.to(), 0), s.read(edit.to(), 1))));
            assert_eq!(there.1, Ok(start.word()), "the page was not moved");
            if start.shared() {
                assert_eq!((here, there), (kept, kept), "a store was lost");
            } else {
                let words = (here.0.expect("mapped"), there.0.expect("mapped"));
                let orders = if again { [(0, 3), (3, 2), (3, 0)] } else { [(0, 2), (2, 0), (2, 0)] };
                assert!(orders.contains(&words), "stores were lost: {words:?}");
                assert!(!(over && again) || words.0 == 3, "a store after the move went where the page is");
                let left = Ok((start == View) as u64);
                assert!(here.1 == left && look.is_none_or(|w| Ok(w) == left), "the place was not left empty");
            }
        }
    }
    drop(object);
    let spaces: Vec<Scene> = [Some(s), made, child].into_iter().flatten().collect();
    w.end(&spaces);
}

/// A model for each start of each edit, named `edit-from-start`.
macro_rules! models {
    ($($edit:ident $name:literal: $($start:ident $from:literal $defects:expr),+;)+) => {
        &[$($(model(concat!($name, "-from-", $from), || run($start, $edit), $defects)),+),+]
    };
}

const fn model(name: &'static str, run: fn(), defects: &'static [&'static [Defect]]) -> Model {
    Model::new(name, run, defects).bounds([Some(2); 2], [None; 2])
}

pub const MODELS: &[Model] = models! {
    Unmap "unmap":
        Unjoined "unjoined" &[&[SkipAbsent]],
        Absent "absent" &[&[SkipAbsent]],
        Empty "empty" &[&[FreeBeforeAnswer]],
        Zero "zero" &[&[SweepBeforePublish]],
        Blank "blank" &[&[FreeBeforeAnswer]],
        Own "own" &[&[FreeBeforeAnswer]],
        Shared "shared" &[&[SweepBeforePublish]],
        Hidden "hidden" &[&[FreeBeforeAnswer]],
        Cached "cached" &[&[FreeBeforeAnswer]],
        Written "written" &[&[FreeBeforeAnswer]],
        Object "object" &[&[SweepBeforePublish]],
        Given "given" &[&[SweepBeforePublish]],
        View "view" &[&[SweepBeforePublish]];
    UnmapTable "unmap-table":
        Absent "absent" &[&[NoSeal]],
        Blank "blank" &[&[FreeBeforeAnswer]],
        Own "own" &[&[FreeBeforeAnswer]],
        Shared "shared" &[&[NoSeal]],
        Hidden "hidden" &[&[FreeBeforeAnswer]],
        Cached "cached" &[&[NoSeal]],
        Written "written" &[&[NoSeal]],
        Unmapped "unmapped" &[&[NoSeal]];
    Protect "protect":
        Unjoined "unjoined" &[&[AloneTooEarly]],
        Absent "absent" &[&[ListBeforeEntry]],
        Empty "empty" &[&[ListBeforeEntry]],
        Blank "blank" &[&[ListBeforeEntry]],
        Own "own" &[&[FlushNoShoot]],
        Shared "shared" &[&[NoParityFlip, CopyWritable]],
        Cached "cached" &[&[NoParityFlip]],
        Written "written" &[&[NoParityFlip]],
        Object "object" &[&[FlushNoShoot]],
        Unmapped "unmapped" &[&[ListBeforeEntry]],
        Given "given" &[&[ListBeforeEntry]],
        View "view" &[&[NoParityFlip, CopyWritable]],
        Copy "copy" &[&[FlushNoShoot]];
    Hide "hide":
        Unjoined "unjoined" &[&[AloneTooEarly]],
        Absent "absent" &[&[ListBeforeEntry]],
        Zero "zero" &[&[ListBeforeEntry]],
        Blank "blank" &[&[FlushNoShoot]],
        Own "own" &[&[FlushNoShoot]],
        Shared "shared" &[&[ListBeforeEntry]],
        Hidden "hidden" &[&[NoParityFlip]],
        Cached "cached" &[&[NoParityFlip]],
        Written "written" &[&[NoParityFlip]],
        Object "object" &[&[FlushNoShoot]],
        Given "given" &[&[ListBeforeEntry]],
        View "view" &[&[ListBeforeEntry]];
    Discard "discard":
        Unjoined "unjoined" &[&[FreeBeforeAnswer]],
        Absent "absent" &[&[FreeBeforeAnswer]],
        Blank "blank" &[&[FreeBeforeAnswer]],
        Own "own" &[&[FreeBeforeAnswer]],
        Hidden "hidden" &[&[FreeBeforeAnswer]],
        Cached "cached" &[&[FreeBeforeAnswer]],
        Written "written" &[&[FreeBeforeAnswer]],
        Copy "copy" &[&[FreeBeforeAnswer]];
    DiscardTable "discard-table":
        Absent "absent" &[&[FreeBeforeAnswer]],
        Zero "zero" &[&[NoSeal]],
        Shared "shared" &[&[NoSeal]],
        Hidden "hidden" &[&[FreeBeforeAnswer]],
        Cached "cached" &[&[FreeBeforeAnswer]],
        Written "written" &[&[FreeBeforeAnswer]],
        Copy "copy" &[&[FreeBeforeAnswer]];
    Fork "fork":
        Unjoined "unjoined" &[&[ForkNoFlush]],
        Absent "absent" &[&[ForkNoFlush]],
        Empty "empty" &[&[ForkNoFlush]],
        Zero "zero" &[&[ReuseShared]],
        Blank "blank" &[&[ForkNoFlush]],
        Own "own" &[&[ForkNoFlush]],
        Shared "shared" &[&[ForkNoFlush]],
        Hidden "hidden" &[&[ForkNoFlush]],
        Cached "cached" &[&[ForkNoFlush]],
        Written "written" &[&[ForkNoFlush]],
        View "view" &[&[ReuseShared]],
        Copy "copy" &[&[ForkNoFlush]];
    Truncate "truncate":
        Object "object" &[&[AnswerEarly]],
        Unmapped "unmapped" &[&[EmptyZero]],
        Unmade "unmade" &[&[EmptyZero]],
        Given "given" &[&[EmptyZero]],
        View "view" &[&[AnswerEarly]],
        Copy "copy" &[&[AnswerEarly]];
    Punch "punch":
        Object "object" &[&[AnswerEarly]],
        Unmapped "unmapped" &[&[EmptyZero]],
        Unmade "unmade" &[&[FreeBeforeAnswer]],
        Given "given" &[&[EmptyZero]],
        View "view" &[&[FlushNoShoot]];
    Evict "evict":
        Zero "zero" &[&[ReuseShared]],
        Blank "blank" &[&[EvictNoAnswer]],
        Own "own" &[&[EvictNoAnswer]],
        Shared "shared" &[&[ReuseShared]],
        Left "left" &[&[EvictNoAnswer]],
        Hidden "hidden" &[&[EvictNoAnswer]],
        Cached "cached" &[&[EvictNoAnswer]],
        Written "written" &[&[EvictNoAnswer]],
        Object "object" &[&[EvictNoAnswer]],
        View "view" &[&[ReuseShared]],
        Copy "copy" &[&[EvictNoAnswer]];
    Move "move":
        Empty "empty" &[&[ListBeforeEntry]],
        Zero "zero" &[&[MoveNoAnswer]],
        Blank "blank" &[&[MoveNoAnswer]],
        Own "own" &[&[MoveNoAnswer]],
        Shared "shared" &[&[ListBeforeEntry, MoveNoAnswer]],
        Left "left" &[&[MoveNoAnswer]],
        Hidden "hidden" &[&[MoveNoAnswer]],
        Cached "cached" &[&[RestoreBlind]],
        Written "written" &[&[RestoreBlind]],
        Object "object" &[&[MoveNoAnswer]],
        Given "given" &[&[ListBeforeEntry]],
        View "view" &[&[MoveNoAnswer]],
        Copy "copy" &[&[MoveNoAnswer]];
    MoveFar "move-far":
        Absent "absent" &[&[TablesBeforeTransit]],
        Blank "blank" &[&[MoveNoAnswer]],
        Own "own" &[&[MoveNoAnswer]],
        Hidden "hidden" &[&[MoveNoAnswer]],
        Cached "cached" &[&[RestoreBlind]],
        Object "object" &[&[MoveNoAnswer]];
    MoveKeep "move-keep":
        Absent "absent" &[&[TablesBeforeTransit]],
        Zero "zero" &[&[MoveNoAnswer]],
        Blank "blank" &[&[MoveNoAnswer]],
        Own "own" &[&[MoveNoAnswer]],
        Hidden "hidden" &[&[MoveNoAnswer]],
        Cached "cached" &[&[RestoreBlind]],
        Written "written" &[&[RestoreBlind]],
        View "view" &[&[MoveNoAnswer]];
};

//! Rule E4 tried out: all orders of a few steps at one entry that shows an object's page, as far as edits, scans and faults allow them.

use super::*;

/// An edit, which holds its claim from the publish until it has ended.
#[derive(Clone, Copy, PartialEq)]
enum Edit {
    None,
    Published { discards: bool },
    Swept { asks: bool },
}

/// A scan that unmaps the page.
#[derive(Clone, Copy, PartialEq)]
enum Scan {
    None,
    Begun,
    Past { asks: bool },
}

/// A store's fault on another CPU that stands still in its window.
#[derive(Clone, Copy, PartialEq)]
enum Window {
    None,
    Entry(Word),
    List(Word, Prot),
}

#[derive(Clone, Copy)]
struct Place {
    word: Word,
    /// What the list grants.
    prot: Prot,
    edit: Edit,
    scan: Scan,
    window: Window,
    g: u64,
}

const RW: Prot = Prot::READ.union(Prot::WRITE);

/// A fault of `access` that has seen `e` and a list that grants `prot`. False: it begins again.
fn transition(entry: &Entry, e: Word, prot: Prot, access: Access) -> bool {
    let moved = match () {
        () if !prot.allows(access) => return false,
        () if e.is_empty() => entry.install_page(e, Word::page(Frame(7), prot)),
        () if e.is_hidden() => entry.reveal(e, prot),
        () => entry.widen(e, prot, access),
    };
    moved.is_ok()
}

impl Place {
    /// What `step` makes of it; `None`: it cannot happen now.
    fn after(mut self, step: u32) -> Option<Place> {
        let entry = Entry::new(self.word);
        let idle = self.edit == Edit::None;
        match step {
            // A fault on a third CPU, at once.
            0 => transition(&entry, self.word, self.prot, Access::Read).then_some(())?,
            1 => transition(&entry, self.word, self.prot, Access::Write).then_some(())?,
            // The window.
            2 if self.window == Window::None => self.window = Window::Entry(self.word),
            3 => {
                let Window::Entry(e) = self.window else { return None };
                self.window = Window::List(e, self.prot);
            }
            4 => {
                let Window::List(e, prot) = self.window else { return None };
                transition(&entry, e, prot, Access::Write);
                self.window = Window::None;
            }
            // Edits.
            5 if idle && self.prot != RW => self.prot = RW,
            6 | 7 if idle && self.prot == RW => {
                self.prot = if step == 6 { Prot::READ } else { Prot::empty() };
                self.edit = Edit::Published { discards: false };
            }
            8 if idle => self.edit = Edit::Published { discards: true },
            9 => {
                let Edit::Published { discards } = self.edit else { return None };
                self.g += 1;
                let was = self.word;
                if discards {
                    let _ = entry.take(self.g);
                } else if was.is_empty() {
                    assert!(entry.stamp(was, self.g).is_ok());
                } else {
                    assert!(entry.narrow(was, Narrowing::new(self.prot, true).of(was)).is_ok());
                }
                self.edit = Edit::Swept { asks: !was.is_empty() || self.scan != Scan::None };
            }
            10 => {
                let Edit::Swept { asks } = self.edit else { return None };
                (!asks || self.window == Window::None).then_some(())?;
                self.edit = Edit::None;
            }
            // No scan begins under an edit.
            11 if idle && self.scan == Scan::None => {
                self.g += 1;
                self.scan = Scan::Begun;
            }
            12 if self.scan == Scan::Begun => {
                let asks = self.word.is_present();
                // An edit may have drawn a generation since; what counts is that no other has this one.
                self.g += 1;
                assert!(!asks || entry.unmap(self.word, self.g).is_ok());
                self.scan = Scan::Past { asks };
            }
            13 => {
                let Scan::Past { asks } = self.scan else { return None };
                (!asks || self.window == Window::None).then_some(())?;
                self.scan = Scan::None;
            }
            _ => return None,
        }
        self.word = entry.load();
        Some(self)
    }

    fn explore(self, steps: u32) -> u64 {
        let swept = !matches!(self.edit, Edit::Published { .. });
        let more = self.word.allows(Access::Write) && !self.prot.contains(Prot::WRITE)
            || self.word.is_present() && self.prot.is_empty();
        assert!(!(swept && more), "{:?} where the list grants {:?}", self.word, self.prot);
        if steps == 0 {
            return 1;
        }
        1 + (0..14).filter_map(|step| self.after(step)).map(|next| next.explore(steps - 1)).sum::<u64>()
    }
}

#[test]
fn no_right_outlives_an_edit() {
    for word in [Word::page(Frame(7), Prot::READ), Word::empty(0)] {
        let start = Place { word, prot: RW, edit: Edit::None, scan: Scan::None, window: Window::None, g: 1 };
        assert!(start.explore(8) > 10_000);
    }
}

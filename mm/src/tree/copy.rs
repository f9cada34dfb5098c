//! The copy of a whole tree.

use super::node::{Child, Entry, Node, Tree, Value};
use super::{HEIGHT, Nodes, Stop, Version};
use core::ptr::null_mut;

impl<V: Value, N: Nodes<V>> Version<'_, V, N> {
    /// Makes a copy of a whole tree, of what `change` makes of each value, if anything. Nodes have room for two entries more, so that
    /// the copy's first edits split nothing.
    pub fn copy(&mut self, old: Tree<'_, V>, change: &dyn Fn(&V) -> Option<V>) -> Result<(), Stop> {
        let mut open = [null_mut(); HEIGHT];
        let (mut last, mut result) = (None::<V>, Ok(()));
        old.each(0, u32::MAX, &mut |v| {
            let Some(v) = change(v) else { return true };
            match &mut last {
                Some(last) if last.joins(&v) => *last = last.until(v.end()),
                last => result = last.replace(v).map_or(Ok(()), |done| self.append(&mut open, 0, done)),
            }
            result.is_ok()
        });
        result?;
        let Some(last) = last else { return Ok(()) };
        self.append(&mut open, 0, last)?;
        for level in 0..HEIGHT {
            // SAFETY: a node that we have made.
            let top = self.filled(unsafe { &mut *open[level] });
            self.root = top.at;
            if open.get(level + 1).is_none_or(|above| above.is_null()) {
                break;
            }
            self.append(&mut open, level + 1, top)?;
        }
        Ok(())
    }

    /// A node that gets no more entries.
    fn filled(&self, node: &mut Node<V>) -> Child<V> {
        let owns = node.level == 0 && node.values().iter().any(V::owns);
        self.own(node, owns);
        Child::of_any(node)
    }

    /// Adds an entry to the node of a level that is being filled; a full one goes to the level above first.
    fn append<T: Entry<V>>(&mut self, open: &mut [*mut Node<V>; HEIGHT], level: usize, entry: T) -> Result<(), Stop> {
        if level == HEIGHT {
            return Err(Stop::TooHigh);
        }
        // SAFETY: null, or a node that we have made.
        let full = match unsafe { open[level].as_mut() } {
            Some(node) if node.len() < T::MOST - 2 => {
                self.grown += (level == 0) as i64;
                node.set_len(node.len() + 1);
                node.write(node.len() - 1, &[entry]);
                return Ok(());
            }
            full => full.map(|node| self.filled(node)),
        };
        open[level] = self.take(level)?;
        if let Some(full) = full {
            self.append(open, level + 1, full)?;
        }
        self.append(open, level, entry)
    }
}

//! Sizes that are small under the model checker, whose search grows with them.

/// A size as it is, and as the model checker has it.
const fn or(size: usize, model: usize) -> usize {
    if cfg!(loom) { model } else { size }
}

// page, machine

/// Binary logarithm of the entries of a table.
pub const TABLE_BITS: u32 = or(9, 1) as u32;
/// Levels of tables below a top-level entry: an arena's own table, its children, the leaf tables.
pub const LEVELS: u32 = or(3, 2) as u32;
/// Arenas of an address space: the lower half of the top-level table.
pub const ARENAS: usize = or(256, 2);
/// The most CPUs there can be: a CPU set is one word.
pub const CPUS: usize = or(64, 3);
/// Entries that [`Machine::are_empty`](crate::Machine::are_empty) looks at.
pub const GROUP: usize = or(64, 1);
/// Entries that are looked at together where most are empty.
pub(crate) const FEW: usize = or(8, GROUP);

// frames

/// Bits of a block.
pub const BLOCK_BITS: usize = or(512, 4);
/// Bits of one of its words.
pub(crate) const WORD_BITS: usize = or(64, 2);
/// Counters of the upper level; more memory than 64 groups of 64 blocks (8 GiB) wraps around to the first.
pub(crate) const BITMAP_GROUPS: usize = or(64, 1);
/// Bytes of a node.
pub const NODE: usize = or(512, 2048);
/// Most free nodes that a CPU keeps.
pub(crate) const KEPT_NODES: usize = or(512, 8);
/// Most plain frames that a CPU keeps.
pub(crate) const KEPT_PLAIN: usize = or(128, 6);
/// Most zeroed frames that a CPU keeps.
pub(crate) const KEPT_ZEROED: usize = or(64, 2);
/// Frames that cross between cache and bitmap at once.
pub(crate) const CACHE_BATCH: usize = or(64, 1);

// edits

/// Operations that can edit one arena at a time; more wait for a seat.
pub(crate) const CLAIMS: usize = or(16, 3);
/// Nodes that the last publish of a replacement takes from its reserve.
pub(crate) const RESERVED: usize = or(crate::tree::REPLACING, 2);
/// Frames that a flush gathers before a payment.
pub(crate) const FLUSH_FRAMES: usize = or(256, 2);
/// Tables that a flush gathers before a payment.
pub(crate) const FLUSH_TABLES: usize = or(16, 1);
/// More pages than this become one full invalidation.
pub const MAX_PAGES: usize = or(32, 2);
/// Leaf spans that an arena remembers. More than one, for programs that use some places in turn.
pub(crate) const BARE: usize = or(4, 1);
/// The pages below a segment that grows down which stay free, as on Linux.
pub const GUARD: u32 = or(256, 1) as u32;
/// The pages that are left free below a new segment that grows down where the system chooses its place, if there are so many.
pub(crate) const ROOM: u64 = or(2048, 0) as u64;

// fork, evict: the model checker has no fairness to look for.

/// As many writable pages are few: a fork copies them.
pub(crate) const HOT: usize = or(16, 2);

/// How often a fork gives the CPU away for faults that take their time.
pub(crate) const COURTESY: u32 = or(1 << 14, 0) as u32;
/// Pages that leave between two shootdowns.
pub(crate) const EVICT_BATCH: usize = or(32, 2);
/// How often a scan of the last round tries to begin.
pub(crate) const TURNS: u32 = or(1 << 16, 0) as u32;

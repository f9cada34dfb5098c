//! What swapping costs: a working set twice the memory, in MiB/s of each pass.
//!
//! `swap_bench [MIB]` (256): fill, read in order, read and rewrite in order, read at random (a quarter of the pages, each once).
//! Every word that is read is checked. Prints `name value`.

use std::time::Instant;

use quire_workloads::large::{Large, MIB, argument, shuffled, stamp};

/// Random visits to pages: so many times fewer than there are pages.
const FEWER: usize = 4;

fn main() {
    let mib = argument(1, 256);
    let area = Large::new(mib * MIB);
    let n = area.pages();
    let order: Vec<u32> = shuffled(n, 1).into_iter().take(n / FEWER).collect();
    measure("swap_fill", n, || (0..n).for_each(|page| area.fill(page, stamp(page, 0))));
    measure("swap_sequential", n, || (0..n).for_each(|page| look(&area, page, 0)));
    measure("swap_rewrite", n, || {
        for page in 0..n {
            look(&area, page, 0);
            area.fill(page, stamp(page, 1));
        }
    });
    measure("swap_random", order.len(), || order.iter().for_each(|&page| look(&area, page as usize, 1)));
    (0..n).step_by(16).for_each(|page| area.expect(page, stamp(page, 1), "at the end"));
}

fn measure(name: &str, pages: usize, pass: impl FnOnce()) {
    let began = Instant::now();
    pass();
    println!("{name} {:.1}", pages as f64 / MIB as f64 / began.elapsed().as_secs_f64());
}

/// Reads the whole page.
fn look(area: &Large, page: usize, round: u64) {
    area.expect(page, stamp(page, round), "in the benchmark");
}

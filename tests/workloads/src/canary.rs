//! Somebody who gets the frames that others give back, and looks whether anyone still writes to them.

use crate::{Area, Random, Stop, check, spin};

/// Takes fresh pages, expects zeros, stamps them, waits a little, expects the stamp, gives them back, until stopped.
/// A write through a translation that should have been gone lands here sooner or later.
pub fn watch(stop: &Stop, seed: u64) {
    let mut random = Random::new(seed);
    while !stop.stopped() {
        let area = Area::new(8);
        for page in 0..8 {
            for word in 0..512 {
                let value = area.read(page, word);
                check!(value == 0, "a fresh page holds {value:#x} at word {word}");
            }
            let stamp = random.draw();
            for word in 0..512 {
                area.write(page, word, stamp ^ word as u64);
            }
            spin(200);
            for word in 0..512 {
                let value = area.read(page, word);
                check!(value == stamp ^ word as u64, "someone wrote {value:#x} to word {word} of a stranger's page");
            }
        }
        area.unmap(0..8);
        std::thread::yield_now();
    }
}

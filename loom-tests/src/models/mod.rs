//! The models, a file for each protocol.

mod unmap;

use crate::runner::Model;

/// All models.
pub fn all() -> impl Iterator<Item = &'static Model> {
    [unmap::MODELS].into_iter().flatten()
}

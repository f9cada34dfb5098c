//! The models, a file for each protocol.

mod cow;
mod fixed;
mod fork;
mod protect;
mod retire;
mod unmap;

use crate::runner::Model;

/// All models.
pub fn all() -> impl Iterator<Item = &'static Model> {
    [unmap::MODELS, fixed::MODELS, protect::MODELS, cow::MODELS, fork::MODELS, retire::MODELS].into_iter().flatten()
}

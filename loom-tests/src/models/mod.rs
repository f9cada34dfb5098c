//! The models, a file for each protocol.

mod bare;
mod claimed;
mod claims;
mod cow;
mod cut;
mod edits;
mod fixed;
mod fork;
mod frames;
mod join;
mod mv;
mod object;
mod protect;
mod retire;
mod rights;
mod segv;
mod shootdown;
mod slots;
mod starts;
mod swap;
mod swap_edit;
mod swap_object;
mod unmap;
mod wake;

use crate::model::Model;

/// All models.
pub fn all() -> impl Iterator<Item = &'static Model> {
    let files = [
        unmap::MODELS,
        fixed::MODELS,
        protect::MODELS,
        segv::MODELS,
        cow::MODELS,
        fork::MODELS,
        mv::MODELS,
        object::MODELS,
        cut::MODELS,
        rights::MODELS,
        claimed::MODELS,
        retire::MODELS,
        starts::MODELS,
        bare::MODELS,
        shootdown::MODELS,
        join::MODELS,
        claims::MODELS,
        edits::MODELS,
        frames::MODELS,
        slots::MODELS,
        swap::MODELS,
        swap_edit::MODELS,
        swap_object::MODELS,
        wake::MODELS,
    ];
    files.into_iter().flatten()
}

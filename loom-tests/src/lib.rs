//! The models of the memory manager, and how one is run. Compiled twice: over the production code as it is (`quire-loom`), and over
//! the copy of it that has the defects (`quire-loom-copy`). README.md says the rest.

pub mod defects {
    //! What the defects are called.

    include!(concat!(env!("OUT_DIR"), "/defects.rs"));
}

#[cfg(loom)]
mod area;
#[cfg(loom)]
mod machine;
#[cfg(loom)]
mod model;
#[cfg(loom)]
mod models;
#[cfg(loom)]
mod slots;
#[cfg(loom)]
mod world;

#[cfg(loom)]
pub use model::{Model, run};
#[cfg(loom)]
pub use models::all;

//! What has happened, and what is there: the counters as text, and the count of all frames.

pub mod audit;
pub mod counters;

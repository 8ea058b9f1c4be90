//! Merging: pure folds over what the layers answer. No I/O of its own: every question goes through a closure,
//! so that the folds can be tested and fuzzed without a file system.

mod listing;
mod lookup;

pub use listing::{Listed, Listing, ListingBuilder};
pub use lookup::{Below, Ceiling, Query, below, query_below};

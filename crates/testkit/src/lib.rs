//! For tests: an issuer of real tokens, a store in memory, and the conformance suite that every store passes.
//! Nothing here is linked into what is shipped.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a failed expectation is a failed test"
)]

pub mod admission;
pub mod conformance;
mod issuer;
mod memory;

pub use admission::admitted;
pub use issuer::{AUDIENCE, ISSUER, Issuer, SharedJwks};
pub use memory::MemoryStore;

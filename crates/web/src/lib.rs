//! The web edge that both services share.

pub mod cors;

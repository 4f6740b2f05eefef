//! What one tenant may use of what all share.

pub(crate) mod quota;

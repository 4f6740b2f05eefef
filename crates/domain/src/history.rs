//! What happened to a key: who changed it, when, why, and to what.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::{Role, Value};

/// Of a change that no caller of this service made.
pub const UNKNOWN: &str = "unknown";
/// The longest note, in bytes: S3 keeps 2 KiB of metadata with an object, where a byte may take three.
pub const MAX_NOTE_BYTES: usize = 400;

/// Who changes something, and why.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// The token's `sub`.
    pub subject: &'a str,
    /// What the caller may do.
    pub role: Role,
    /// Names the request.
    pub request_id: &'a str,
    /// The caller's own words; may be empty.
    pub note: &'a str,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOperation {
    /// Wrote a value.
    Put,
    /// Removed it.
    Delete,
    /// Wrote the value of an earlier version.
    Rollback,
    /// Serves an earlier value instead of one that was written past the service and is invalid.
    Reject,
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The whole key.
    pub key: String,
    /// The version that it gave the key, 0 if none.
    pub version: i64,
    /// When, in unix milliseconds.
    pub at_ms: i64,
    /// What it did.
    pub operation: ChangeOperation,
    /// The token's `sub`, what the backend knows of who made it, or [`UNKNOWN`].
    pub by: String,
    /// The caller's role; empty for a change past the service.
    pub role: String,
    /// Names the request; empty for a change past the service.
    pub request_id: String,
    /// Why; may be empty.
    pub note: String,
    /// The value's size; 0 for a deletion and a secret.
    pub bytes: u64,
    /// SHA-256 of the value in hexadecimal, where it is known; empty for a deletion and a secret.
    pub sha256: String,
    /// The value's media type; empty for a deletion.
    pub content_type: String,
    /// The version that it replaced; `None` where nothing was there, or that is not known.
    pub previous: Option<i64>,
    /// The value, if it was requested and is no secret; [`Value::Remote`] where it is large.
    pub value: Option<Value>,
}

/// Which changes of one place to read, newest first.
#[derive(Clone, Copy, Debug)]
pub struct HistoryRequest<'a> {
    /// From here on, in unix milliseconds.
    pub since_ms: i64,
    /// Until before this, in unix milliseconds.
    pub until_ms: i64,
    /// Older than what this cursor names ([`HistoryPage::next_after`]).
    pub after: Option<&'a str>,
    /// At most this many, 1 or more.
    pub limit: usize,
    /// With their values.
    pub values: bool,
}

/// Some changes, newest first.
#[derive(Debug, Default)]
pub struct HistoryPage {
    /// The changes.
    pub entries: Vec<HistoryEntry>,
    /// Where older ones begin, if there are any.
    pub next_after: Option<String>,
}

// === impl ChangeOperation ===

impl ChangeOperation {
    const ALL: [Self; 4] = [Self::Put, Self::Delete, Self::Rollback, Self::Reject];

    /// As tables and APIs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Rollback => "rollback",
            Self::Reject => "reject",
        }
    }

    /// From its spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == text)
    }
}

// === impl HistoryRequest ===

impl HistoryRequest<'_> {
    /// The newest `limit` changes before this time, with their values.
    pub fn newest_before(until_ms: i64, limit: usize) -> Self {
        Self {
            since_ms: 0,
            until_ms,
            after: None,
            limit,
            values: true,
        }
    }
}

/// SHA-256 of a value that is in memory, in hexadecimal; empty for one that is not.
pub fn sha256_of(value: &Value) -> String {
    let Some(bytes) = value.to_bytes() else {
        return String::new();
    };
    hex(&Sha256::digest(&bytes))
}

/// These bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let hex = String::with_capacity(bytes.len() * 2);
    bytes.iter().fold(hex, |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_sha256sum_prints() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of(&"abc".into()), abc);
        assert_eq!(sha256_of(&bytes::Bytes::from_static(b"abc").into()), abc);
    }

    #[test]
    fn operations_survive_their_spelling() {
        for operation in ChangeOperation::ALL {
            assert_eq!(ChangeOperation::parse(operation.as_str()), Some(operation));
        }
        assert_eq!(ChangeOperation::parse("drop"), None);
    }
}

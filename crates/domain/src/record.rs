//! What a store holds at one location.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Orders the values of one location: higher is newer. Never compared across locations.
///
/// DynamoDB: `incarnation` is 0 and `version` starts at the unix milliseconds of its creation. Parameter
/// Store: `incarnation` is `LastModifiedDate` in unix milliseconds, since `Version` restarts at 1 when a
/// parameter is deleted and made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Tells apart values that carry the same version.
    pub incarnation: i64,
    /// The version that callers see; 0 where the item has none.
    pub version: i64,
}

/// Which content a location holds: two records with one content are served alike, to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    /// Where it stands in the order of its location.
    pub revision: Revision,
    /// A hash of value, content type and time of writing. Of a secret, which must give no hint of its value, a hash of the
    /// name that its backend gave this value; all zeros where the revision alone is unique.
    pub digest: [u8; 16],
}

/// What a location holds. Cheap to clone, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// UTF-8, of a backend that keeps text.
    Text(Arc<str>),
    /// Of a backend that keeps any bytes.
    Bytes(Bytes),
    /// Too large to be kept in memory: it is streamed from the backend, see [`Store::open`](crate::Store::open).
    Remote(Remote),
}

/// A value that stays in its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// How large it is.
    pub bytes: u64,
    /// What the backend calls exactly this value, also after it was replaced.
    pub name: Arc<str>,
}

/// One value with what is known of it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The value to the byte; for a secret that was not revealed, empty.
    pub value: Value,
    /// Its media type.
    pub content_type: Arc<str>,
    /// Where it stands in the order of this location.
    pub revision: Revision,
    /// When it was written, in unix milliseconds, where known.
    pub modified_ms: Option<i64>,
    /// Whether only admins may see the value.
    pub secret: bool,
    /// Whether it was held against the JSON Schemas of its key.
    pub check: Check,
    digest: [u8; 16],
}

/// Whether a value was held against the JSON Schemas of its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Somebody wrote it past this service, or before this service marked what it writes.
    #[default]
    Open,
    /// This service wrote it, and checked it then.
    Written,
    /// It is the last good value: what lies there was written past this service, and is invalid.
    InsteadOf(Content),
}

// === impl Value ===

impl Value {
    /// How large it is, wherever it lies, in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Remote(remote) => remote.bytes,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of it that are in memory.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Remote(remote) => remote.name.len(),
        }
    }

    /// As text, if it is in memory, and UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Remote(_) => None,
        }
    }

    /// Its bytes, if it is in memory; not copied.
    pub fn to_bytes(&self) -> Option<Bytes> {
        match self {
            Self::Text(text) => Some(Bytes::from_owner(TextBytes(Arc::clone(text)))),
            Self::Bytes(bytes) => Some(bytes.clone()),
            Self::Remote(_) => None,
        }
    }

    fn identity(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
            Self::Remote(remote) => remote.name.as_bytes(),
        }
    }
}

/// Text that is shared as bytes.
struct TextBytes(Arc<str>);

impl AsRef<[u8]> for TextBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Remote> for Value {
    fn from(remote: Remote) -> Self {
        Self::Remote(remote)
    }
}

/// For tests: its text.
impl PartialEq<&str> for Value {
    fn eq(&self, other: &&str) -> bool {
        self.as_text() == Some(other)
    }
}

// === impl Record ===

impl Record {
    /// A record; hashes the value, or the name of one that is not in memory.
    pub fn new(
        value: impl Into<Value>,
        content_type: impl Into<Arc<str>>,
        revision: Revision,
        modified_ms: Option<i64>,
    ) -> Self {
        let (value, content_type) = (value.into(), content_type.into());
        let digest = digest(&value, &content_type);
        Self {
            value,
            content_type,
            revision,
            modified_ms,
            secret: false,
            check: Check::Open,
            digest,
        }
    }

    /// The same, as this service wrote it.
    #[must_use]
    pub fn written(mut self) -> Self {
        self.check = Check::Written;
        self
    }

    /// The same, served instead of this invalid one.
    #[must_use]
    pub fn instead_of(mut self, invalid: &Self) -> Self {
        self.check = Check::InsteadOf(invalid.content());
        self
    }

    /// The revision of what lies there, whatever is served instead.
    pub fn stored(&self) -> Revision {
        match self.check {
            Check::InsteadOf(invalid) => invalid.revision,
            Check::Open | Check::Written => self.revision,
        }
    }

    /// Whether an invalid value lies there, and this one is served instead.
    pub fn is_instead(&self) -> bool {
        matches!(self.check, Check::InsteadOf(_))
    }

    /// The same, marked as a secret: its content and digest no longer reveal anything of the value.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self.digest = [0; 16];
        self
    }

    /// A secret of a backend whose revisions are not unique: two of its values differ in this name.
    #[must_use]
    pub fn secret_named(self, name: &str) -> Self {
        let digest = short(Sha256::new().chain_update(name));
        Self {
            digest,
            ..self.secret()
        }
    }

    /// The content, for entity tags and preconditions.
    pub fn content(&self) -> Content {
        let digest = if self.secret {
            self.digest
        } else {
            let mut hasher = Sha256::new();
            hasher.update(self.digest);
            hasher.update(self.modified_ms.unwrap_or_default().to_be_bytes());
            short(hasher)
        };
        Content {
            revision: self.revision,
            digest,
        }
    }

    /// A hash of value and content type, or what [`Content::digest`] says of a secret.
    pub fn digest(&self) -> &[u8; 16] {
        &self.digest
    }

    /// The content type of a value that has none: JSON if it is, plain text otherwise.
    pub fn guess_content_type(value: &str) -> &'static str {
        if serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok() {
            "application/json"
        } else {
            "text/plain"
        }
    }
}

fn digest(value: &Value, content_type: &str) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(content_type.as_bytes());
    hasher.update([0]);
    hasher.update(value.identity());
    short(hasher)
}

fn short(hasher: Sha256) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_follows_all_that_is_served_and_hides_a_secret() {
        let revision = Revision::default();
        let record = |value: &str, modified| Record::new(value, "text/plain", revision, modified);
        assert_eq!(
            record("1", Some(1)).content(),
            record("1", Some(1)).content()
        );
        assert_ne!(
            record("1", Some(1)).content(),
            record("2", Some(1)).content()
        );
        assert_ne!(
            record("1", Some(1)).content(),
            record("1", Some(2)).content()
        );
        let one = record("1", None).secret().content();
        assert_eq!(one, record("2", None).secret().content());
        let named = |value, name| record(value, None).secret_named(name).content();
        assert_eq!(named("1", "v1"), named("", "v1"));
        assert_ne!(named("1", "v1"), named("1", "v2"));
    }
}

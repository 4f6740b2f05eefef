//! What a store holds at one location.

use std::sync::Arc;

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
    /// A hash of value, content type and time of writing. All zeros for a secret, so that it gives no hint of the
    /// value: a secret's revision is unique.
    pub digest: [u8; 16],
}

/// One value with what is known of it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The value to the letter; for a secret that was not revealed, empty.
    pub value: Arc<str>,
    /// Its media type.
    pub content_type: Arc<str>,
    /// Where it stands in the order of this location.
    pub revision: Revision,
    /// When it was written, in unix milliseconds, where known.
    pub modified_ms: Option<i64>,
    /// Whether only admins may see the value (a `SecureString`).
    pub secret: bool,
    digest: [u8; 16],
}

// === impl Record ===

impl Record {
    /// A record; hashes the value.
    pub fn new(
        value: impl Into<Arc<str>>,
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
            digest,
        }
    }

    /// The same, marked as a secret.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The content, for entity tags and preconditions.
    pub fn content(&self) -> Content {
        let digest = if self.secret {
            [0; 16]
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

    /// A hash of value and content type.
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

fn digest(value: &str, content_type: &str) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(content_type.as_bytes());
    hasher.update([0]);
    hasher.update(value.as_bytes());
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
    }
}

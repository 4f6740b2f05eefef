//! Entity tags: origin, incarnation, version and a hash, opaque to clients. Both transports give the same tag. Two
//! answers with one tag hold the same value with the same metadata, also after A -> B -> A by hand or delete and recreate.

use std::fmt;

use base64::{Engine, display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use tagged_config_domain::{Content, Origin, Record, Revision};

const BYTES: usize = 1 + 8 + 8 + 16;

/// A strong entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntityTag {
    origin: Origin,
    content: Content,
}

impl EntityTag {
    /// The tag of what is served.
    pub(super) fn of(origin: Origin, record: &Record) -> Self {
        Self {
            origin,
            content: record.content(),
        }
    }

    /// A tag that this service gave, quotes included; `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64
            .decode(text.strip_prefix('"')?.strip_suffix('"')?)
            .ok()?;
        let bytes: [u8; BYTES] = bytes.try_into().ok()?;
        let (origin, rest) = bytes.split_first()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        let (version, digest) = rest.split_first_chunk()?;
        Some(Self {
            origin: match origin {
                0 => Origin::Tenant,
                1 => Origin::Global,
                _ => return None,
            },
            content: Content {
                revision: Revision {
                    incarnation: i64::from_be_bytes(*incarnation),
                    version: i64::from_be_bytes(*version),
                },
                digest: digest.try_into().ok()?,
            },
        })
    }

    /// The content that a write replaces; `None` for a shared default, which no write replaces.
    pub(super) fn own_content(self) -> Option<Content> {
        (self.origin == Origin::Tenant).then_some(self.content)
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Content { revision, digest } = self.content;
        let mut bytes = [0; BYTES];
        bytes[0] = match self.origin {
            Origin::Tenant => 0,
            Origin::Global => 1,
        };
        bytes[1..9].copy_from_slice(&revision.incarnation.to_be_bytes());
        bytes[9..17].copy_from_slice(&revision.version.to_be_bytes());
        bytes[17..].copy_from_slice(&digest);
        write!(f, "\"{}\"", Base64Display::new(&bytes, &BASE64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &str, incarnation: i64, version: i64) -> Record {
        let revision = Revision {
            incarnation,
            version,
        };
        Record::new(value, "application/json", revision, None)
    }

    #[test]
    fn tags_come_back_and_tell_apart() {
        let tag = EntityTag::of(Origin::Tenant, &record("1", 0, 7));
        assert_eq!(EntityTag::parse(&tag.to_string()), Some(tag));
        for other in [
            EntityTag::of(Origin::Global, &record("1", 0, 7)),
            EntityTag::of(Origin::Tenant, &record("2", 0, 7)),
            EntityTag::of(Origin::Tenant, &record("1", 1, 7)),
            EntityTag::of(Origin::Tenant, &record("1", 0, 8)),
        ] {
            assert_ne!(other.to_string(), tag.to_string());
        }
        for bad in ["", "\"", "\"\"", "abc", "\"AAAA\"", "W/\"x\"", "\"ä\""] {
            assert_eq!(EntityTag::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_tag_of_a_secret_is_no_hash_of_it() {
        let tag = |value, version| {
            EntityTag::of(Origin::Tenant, &record(value, 1, version).secret()).to_string()
        };
        assert_eq!(tag("1234", 7), tag("4321", 7));
        assert_ne!(tag("1234", 7), tag("1234", 8));
    }

    #[test]
    fn a_shared_default_is_not_what_a_write_replaces() {
        let default = EntityTag::of(Origin::Global, &record("1", 0, 7));
        assert_eq!(default.own_content(), None);
    }
}

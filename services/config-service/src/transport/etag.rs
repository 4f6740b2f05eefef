//! Entity tags: origin, incarnation, version and a hash of the value, opaque to clients. Two answers with
//! one tag are the same, also after A -> B -> A by hand or delete and recreate.

use std::fmt;

use axum::http::{HeaderMap, HeaderName};
use base64::{Engine, display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use tagged_config_domain::{Origin, Precondition, Record};

const BYTES: usize = 1 + 8 + 8 + 16;

/// A strong entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntityTag {
    origin: Origin,
    incarnation: i64,
    version: i64,
    digest: [u8; 16],
}

impl EntityTag {
    /// The tag of what is served.
    pub(super) fn of(origin: Origin, record: &Record) -> Self {
        Self {
            origin,
            incarnation: record.revision.incarnation,
            version: record.revision.version,
            digest: *record.digest(),
        }
    }

    /// A tag that this service gave, quotes included.
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
            incarnation: i64::from_be_bytes(*incarnation),
            version: i64::from_be_bytes(*version),
            digest: digest.try_into().ok()?,
        })
    }

    /// What `If-Match` with this tag asks of a write.
    pub(super) fn precondition(self) -> Precondition {
        Precondition::Content(self.version, self.digest)
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; BYTES];
        bytes[0] = match self.origin {
            Origin::Tenant => 0,
            Origin::Global => 1,
        };
        bytes[1..9].copy_from_slice(&self.incarnation.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.version.to_be_bytes());
        bytes[17..].copy_from_slice(&self.digest);
        write!(f, "\"{}\"", Base64Display::new(&bytes, &BASE64))
    }
}

/// Whether a header that lists entity tags has this one (weak comparison, as `If-None-Match` asks) or `*`.
pub(super) fn any_matches(headers: &HeaderMap, name: HeaderName, tag: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use tagged_config_domain::Revision;

    use super::*;

    #[test]
    fn tags_come_back_and_tell_apart() {
        let record = |value: &str, incarnation, version| {
            Record::new(
                value,
                "application/json",
                Revision {
                    incarnation,
                    version,
                },
                None,
            )
        };
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
        for bad in [
            "",
            "\"",
            "\"\"",
            "abc",
            "\"AAAA\"",
            "W/\"x\"",
            "\"a\", \"b\"",
            "\"ä\"",
        ] {
            assert_eq!(EntityTag::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn if_none_match_lists() {
        let tag = "\"abc\"";
        for (list, matches) in [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("\"x\", \"abc\"", true),
            ("*", true),
            ("\"x\"", false),
            ("abc", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("if-none-match", list.parse().unwrap());
            assert_eq!(
                any_matches(&headers, HeaderName::from_static("if-none-match"), tag),
                matches,
                "{list}"
            );
        }
    }
}

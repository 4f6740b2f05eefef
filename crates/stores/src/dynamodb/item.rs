//! What an item means. Also used by the invalidator on the images of the stream.
//!
//! Items are also written by hand: without `version`, with a version that is no whole number (both count as
//! 0), without `contentType`, or with a Map, List, Number, Bool or Null as `configValue` (served as JSON). Other attributes
//! have no meaning: `expiresAt` neither, since the table has no TTL.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest, Sha256};
use tagged_config_domain::{Record, Revision, StoreError, history::hex};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use tagged_config_domain::store::MAX_VERSION;

/// An item: attributes by name.
pub type Item = HashMap<String, AttributeValue>;

/// Attribute: the value.
pub const VALUE: &str = "configValue";
/// Attribute: the version (N).
pub const VERSION: &str = "version";
/// Attribute: when it was written (RFC 3339).
pub const LAST_MODIFIED: &str = "lastModified";
/// Attribute: the value's media type.
pub const CONTENT_TYPE: &str = "contentType";
/// Attribute: who wrote it.
pub const MODIFIED_BY: &str = "modifiedBy";
/// Attribute (N): the version as this service gave it. Where it differs from `version`, or is missing,
/// somebody wrote past the service.
pub const ASSIGNED_VERSION: &str = "assignedVersion";
/// Attribute (S): names place, value and content type as this service wrote them. Where it does not fit, somebody wrote past the
/// service.
pub const DIGEST: &str = "digest";
/// Attribute (S): the mark of the last write over such an edit, or of a new key's. An item with nothing else is none: its
/// write was stopped, or is under way.
pub const CLAIM: &str = "claim";

/// The record that an item holds.
pub fn decode(item: &HashMap<String, AttributeValue>) -> Result<Record, StoreError> {
    let value = item.get(VALUE).ok_or(StoreError::Malformed {
        reason: "the item has no configValue",
    })?;
    let (value, is_text): (Arc<str>, bool) = match value {
        AttributeValue::S(text) => (text.as_str().into(), true),
        other => (json(other).into(), false),
    };
    let content_type = match item.get(CONTENT_TYPE) {
        _ if !is_text => "application/json",
        Some(AttributeValue::S(given)) if !given.is_empty() && http_safe(given) => given,
        _ => Record::guess_content_type(&value),
    };
    let revision = Revision {
        incarnation: 0,
        version: version(item),
    };
    let record = Record::new(value, content_type, revision, modified_ms(item));
    let is_written = match (item.get("PK"), item.get("SK"), item.get(DIGEST)) {
        (
            Some(AttributeValue::S(partition)),
            Some(AttributeValue::S(sort)),
            Some(AttributeValue::S(digest)),
        ) => *digest == digest_of((partition, sort), &record),
        _ => false,
    };
    Ok(if is_written { record.written() } else { record })
}

/// What [`DIGEST`] holds of this record in this place: a copy elsewhere has another.
pub(super) fn digest_of((partition, sort): (&str, &str), record: &Record) -> String {
    let hash = Sha256::new()
        .chain_update(record.digest())
        .chain_update((partition.len() as u64).to_be_bytes())
        .chain_update(partition)
        .chain_update(sort)
        .finalize();
    hex(&hash[..16])
}

/// The item's version, 0 if it has none that is a whole number from 0 to [`MAX_VERSION`].
pub fn version(item: &HashMap<String, AttributeValue>) -> i64 {
    match item.get(VERSION) {
        Some(AttributeValue::N(number)) => number
            .parse()
            .ok()
            .filter(|version| (0..=MAX_VERSION).contains(version))
            .unwrap_or(0),
        _ => 0,
    }
}

/// The version, if this service gave it and nobody changed it since.
pub fn assigned_version(item: &HashMap<String, AttributeValue>) -> Option<i64> {
    let assigned = item.get(ASSIGNED_VERSION)?;
    (item.get(VERSION) == Some(assigned)).then(|| version(item))
}

/// Whether a write has only claimed the place, and there is nothing yet.
pub fn is_stub(item: &Item) -> bool {
    item.contains_key(CLAIM) && !item.contains_key(VALUE) && !item.contains_key(VERSION)
}

/// Whether a write has only claimed the item, and what it holds is unchanged.
pub fn is_claim(old: &Item, new: &Item) -> bool {
    let without = |item: &Item| {
        let mut item = item.clone();
        item.remove(CLAIM);
        item
    };
    old.get(CLAIM) != new.get(CLAIM)
        && if old.is_empty() {
            is_stub(new)
        } else {
            without(old) == without(new)
        }
}

/// What distinguishes a removal of this item from others with the same version: nothing where the service gave the version,
/// which no other item has; else the claim of the write that removed it.
pub fn removal_id(item: &Item) -> &str {
    if assigned_version(item).is_none() {
        claim(item)
    } else {
        ""
    }
}

/// The mark of the last write that claimed it; empty if there is none.
pub(super) fn claim(item: &Item) -> &str {
    match item.get(CLAIM) {
        Some(AttributeValue::S(claim)) => claim,
        _ => "",
    }
}

/// When the item says it was written, in unix milliseconds.
pub fn modified_ms(item: &HashMap<String, AttributeValue>) -> Option<i64> {
    let Some(AttributeValue::S(text)) = item.get(LAST_MODIFIED) else {
        return None;
    };
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// An item as a stream event's JSON gives it: `{"PK": {"S": "..."}, ...}`.
pub fn from_stream(image: &serde_json::Value) -> Option<HashMap<String, AttributeValue>> {
    image
        .as_object()?
        .iter()
        .map(|(name, value)| Some((name.clone(), attribute(value)?)))
        .collect()
}

fn attribute(value: &serde_json::Value) -> Option<AttributeValue> {
    let (kind, inner) = value.as_object()?.iter().next()?;
    let text = || inner.as_str().map(ToOwned::to_owned);
    let texts = || {
        inner
            .as_array()?
            .iter()
            .map(|v| v.as_str().map(ToOwned::to_owned))
            .collect::<Option<Vec<_>>>()
    };
    let blob = |v: &serde_json::Value| BASE64.decode(v.as_str()?).ok().map(Blob::new);
    Some(match kind.as_str() {
        "S" => AttributeValue::S(text()?),
        "N" => AttributeValue::N(text()?),
        "BOOL" => AttributeValue::Bool(inner.as_bool()?),
        "NULL" => AttributeValue::Null(true),
        "B" => AttributeValue::B(blob(inner)?),
        "SS" => AttributeValue::Ss(texts()?),
        "NS" => AttributeValue::Ns(texts()?),
        "BS" => AttributeValue::Bs(inner.as_array()?.iter().map(blob).collect::<Option<_>>()?),
        "L" => AttributeValue::L(
            inner
                .as_array()?
                .iter()
                .map(attribute)
                .collect::<Option<_>>()?,
        ),
        "M" => AttributeValue::M(from_stream(inner)?),
        _ => return None,
    })
}

/// An attribute as JSON, numbers to the digit. Maps come with sorted keys: the SDK does not keep an order.
fn json(value: &AttributeValue) -> String {
    let mut text = String::new();
    write_json(&mut text, value);
    text
}

fn write_json(out: &mut String, value: &AttributeValue) {
    match value {
        AttributeValue::S(text) => write_string(out, text),
        AttributeValue::N(number) => write_number(out, number),
        AttributeValue::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        AttributeValue::B(blob) => write_string(out, &BASE64.encode(blob)),
        AttributeValue::Ss(texts) => write_array(out, texts, |out, text| write_string(out, text)),
        AttributeValue::Ns(numbers) => {
            write_array(out, numbers, |out, number| write_number(out, number));
        }
        AttributeValue::Bs(blobs) => write_array(out, blobs, |out, blob| {
            write_string(out, &BASE64.encode(blob));
        }),
        AttributeValue::L(values) => write_array(out, values, write_json),
        AttributeValue::M(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(out, name);
                out.push(':');
                write_json(out, value);
            }
            out.push('}');
        }
        _ => out.push_str("null"),
    }
}

fn write_array<T>(out: &mut String, values: &[T], write_one: impl Fn(&mut String, &T)) {
    out.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_one(out, value);
    }
    out.push(']');
}

fn write_string(out: &mut String, text: &str) {
    let _ = write!(out, "{}", serde_json::Value::from(text));
}

/// DynamoDB's numbers are JSON numbers; one that is not (an emulator's) is given as text.
fn write_number(out: &mut String, number: &str) {
    if serde_json::from_str::<serde_json::Number>(number).is_ok() {
        out.push_str(number);
    } else {
        write_string(out, number);
    }
}

/// Whether a hand-written content type can stand in an HTTP header.
fn http_safe(content_type: &str) -> bool {
    content_type.len() <= 255 && content_type.bytes().all(|b| (b' '..0x7f).contains(&b))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decoded(image: &serde_json::Value) -> Record {
        decode(&from_stream(image).unwrap()).unwrap()
    }

    #[test]
    fn written_by_the_service() {
        let record = decoded(&json!({
            "configValue": {"S": "{\"a\": 1}"}, "version": {"N": "1700000000000"},
            "contentType": {"S": "application/json"}, "lastModified": {"S": "2026-01-02T03:04:05.678Z"}
        }));
        assert_eq!(record.value, "{\"a\": 1}");
        assert_eq!(
            record.revision,
            Revision {
                incarnation: 0,
                version: 1_700_000_000_000
            }
        );
        assert_eq!(record.modified_ms, Some(1_767_323_045_678));
        assert_eq!(&*record.content_type, "application/json");
    }

    #[test]
    fn written_by_hand() {
        for (value, served) in [
            (
                json!({"M": {"b": {"BOOL": true}, "a": {"L": [{"N": "1.50"}, {"NULL": true}, {"S": "ü\"\n"}]}}}),
                r#"{"a":[1.50,null,"ü\"\n"],"b":true}"#,
            ),
            (json!({"BOOL": false}), "false"),
            (
                json!({"N": "12345678901234567890123456789012345678"}),
                "12345678901234567890123456789012345678",
            ),
            (json!({"NULL": true}), "null"),
            (json!({"SS": ["x", "y"]}), r#"["x","y"]"#),
            (json!({"NS": ["1", "2.5"]}), "[1,2.5]"),
            (json!({"B": "AAEC"}), r#""AAEC""#),
            (json!({"BS": ["AAEC"]}), r#"["AAEC"]"#),
            (json!({"M": {}}), "{}"),
        ] {
            let record =
                decoded(&json!({"configValue": value, "contentType": {"S": "text/plain"}}));
            assert_eq!(record.value, served);
            assert_eq!(&*record.content_type, "application/json");
            assert_eq!(record.revision.version, 0);
            assert!(
                serde_json::from_str::<serde_json::Value>(record.value.as_text().unwrap()).is_ok()
            );
        }
        assert_eq!(
            &*decoded(&json!({"configValue": {"S": "plain words"}})).content_type,
            "text/plain"
        );
        assert_eq!(
            &*decoded(&json!({"configValue": {"S": "{\"a\":1}"}})).content_type,
            "application/json"
        );
        let bad_type = json!({"configValue": {"S": "1"}, "contentType": {"S": "a\r\nx: y"}});
        assert_eq!(&*decoded(&bad_type).content_type, "application/json");
    }

    #[test]
    fn versions_that_are_no_whole_numbers_count_as_none() {
        for version in [
            json!({"N": "1.5"}),
            json!({"N": "-1"}),
            json!({"N": "1E+40"}),
            json!({"S": "7"}),
            json!({"N": "9007199254740992"}),
        ] {
            assert_eq!(
                decoded(&json!({"configValue": {"S": ""}, "version": version}))
                    .revision
                    .version,
                0
            );
        }
        assert_eq!(
            decoded(&json!({"configValue": {"S": ""}, "version": {"N": "9007199254740991"}}))
                .revision
                .version,
            MAX_VERSION
        );
    }

    /// The table has no TTL, so that no expiry is pending.
    #[test]
    fn expires_at_and_other_unknown_attributes_have_no_meaning() {
        let plain = json!({"configValue": {"S": "1"}, "version": {"N": "7"}});
        let mut expired = plain.clone();
        expired["expiresAt"] = json!({"N": "1"});
        expired["ttl"] = json!({"N": "1"});
        assert_eq!(decoded(&expired), decoded(&plain));
    }

    #[test]
    fn an_item_without_a_value_is_malformed() {
        assert!(matches!(
            decode(&HashMap::new()),
            Err(StoreError::Malformed { .. })
        ));
        assert!(from_stream(&json!({"configValue": {"S": 1}})).is_none());
        assert!(from_stream(&json!({"configValue": {"X": "1"}})).is_none());
        assert!(from_stream(&json!([])).is_none());
    }
}

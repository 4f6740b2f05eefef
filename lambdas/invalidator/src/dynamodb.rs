//! Records of the table's stream.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html>

use serde::Deserialize;
use serde_json::Value;
use tagged_config_domain::{LocationId, Revision};
use tagged_config_stores::{
    Entry,
    dynamodb::{BACKEND, item, key_of},
};

use crate::change::{Change, NewState, Noted};

const SECOND_MS: i64 = 1_000;
/// How far the clocks of the service and of DynamoDB may be apart.
const SKEW_MS: i64 = 3_000;

/// What a batch of records holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Batch {
    /// The changes of configuration, in stream order.
    pub changes: Vec<Change>,
    /// The first record that counts (the batch is retried from there when no task could be reached).
    pub first: Option<String>,
    /// Sequence numbers of records that cannot be read, in stream order.
    pub failed: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    dynamodb: StreamRecord,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamRecord {
    keys: Value,
    new_image: Option<Value>,
    old_image: Option<Value>,
    approximate_creation_date_time: Option<f64>,
    #[serde(default)]
    sequence_number: String,
}

/// Reads a batch. Records of other items are passed over. The table has no TTL; a removal by one that somebody switched on
/// is announced like any other.
pub(crate) fn read(records: &[Value]) -> Batch {
    let mut batch = Batch::default();
    for raw in records {
        let sequence = raw
            .pointer("/dynamodb/SequenceNumber")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if batch.first.is_none() {
            batch.first = Some(sequence.to_owned());
        }
        match Record::deserialize(raw)
            .ok()
            .and_then(|record| change_of(&record))
        {
            Some(Some(change)) => batch.changes.push(change),
            Some(None) => {}
            None => {
                tracing::error!(sequence, "a stream record cannot be read");
                batch.failed.push(sequence.to_owned());
            }
        }
    }
    batch
}

/// `None`: unreadable. `Some(None)`: nothing to send.
#[expect(
    clippy::option_option,
    reason = "both levels are local and named above"
)]
fn change_of(record: &Record) -> Option<Option<Change>> {
    let keys = item::from_stream(&record.dynamodb.keys)?;
    let text = |name: &str| {
        keys.get(name)
            .and_then(|value| value.as_s().ok())
            .map(String::as_str)
    };
    let (partition, sort) = (text("PK")?, text("SK")?);
    let id = LocationId::new(BACKEND, partition, sort);
    if key_of(&id).is_none() {
        return Some(None);
    }
    #[expect(clippy::cast_possible_truncation, reason = "unix seconds fit")]
    let seen_ms = record
        .dynamodb
        .approximate_creation_date_time
        .map_or(0, |seconds| (seconds * 1_000.0) as i64);
    let old = record
        .dynamodb
        .old_image
        .as_ref()
        .and_then(item::from_stream)
        .unwrap_or_default();
    let sequence = &record.dynamodb.sequence_number;
    if record.event_name == "REMOVE" {
        if item::is_stub(&old) {
            return Some(None);
        }
        let revision = Revision {
            incarnation: 0,
            version: item::version(&old),
        };
        let source_event_id = match item::removal_id(&old) {
            "" if item::assigned_version(&old).is_none() => sequence,
            id => id,
        };
        return Some(Some(Change {
            entry: Entry::removed(&id, revision, seen_ms, source_event_id),
            id,
            revision,
            state: NewState::Absent,
            written_at_ms: seen_ms,
            whole_seconds: true,
            noted: Some(noted(seen_ms, &old, None, sequence)),
        }));
    }
    let new = item::from_stream(record.dynamodb.new_image.as_ref()?)?;
    // The write itself follows.
    if item::is_claim(&old, &new) {
        return Some(None);
    }
    let revision = Revision {
        incarnation: 0,
        version: item::version(&new),
    };
    // A hand edit often keeps the old lastModified: then only the stream's own time, in seconds, is true.
    let modified_ms =
        item::modified_ms(&new).filter(|modified| Some(*modified) != item::modified_ms(&old));
    let modified_ms = modified_ms.filter(|modified| (modified - seen_ms).abs() < 5_000);
    // An item that cannot be served must not stay hidden behind the value before it.
    let state = item::decode(&new).map_or(NewState::Unknown, NewState::Value);
    let entry = if is_written_by_the_service(&record.event_name, &old, &new) {
        Entry::written(&id, revision, revision.version)
    } else {
        Entry::edited(&id, revision, seen_ms, sequence)
    };
    Some(Some(Change {
        entry,
        id,
        revision,
        state,
        written_at_ms: modified_ms.unwrap_or(seen_ms),
        whole_seconds: modified_ms.is_none(),
        noted: Some(noted(seen_ms, &old, modified_ms, sequence)),
    }))
}

/// The place of a change past the service among those of its key. The stream's time has whole seconds: it comes after what it
/// replaced, and among others that replaced the same, in the stream's order.
fn noted(seen_ms: i64, old: &item::Item, modified_ms: Option<i64>, sequence: &str) -> Noted {
    let replaced = [item::assigned_version(old), item::modified_ms(old)];
    let after = replaced
        .into_iter()
        .flatten()
        .filter(|time| (0..SECOND_MS + SKEW_MS).contains(&(time - seen_ms)))
        .map(|time| time + 1)
        .max();
    let times = [Some(seen_ms), after, modified_ms];
    Noted {
        seen_ms,
        at_ms: times.into_iter().flatten().max().unwrap_or(seen_ms),
        order: format!("{sequence:0>40}-"),
        previous: (!old.is_empty() && !item::is_stub(old)).then(|| item::version(old)),
    }
}

/// Whether no other change of the item has this version. An item that appears with a version of the service's is
/// one that somebody put back: the service itself claims first (ADR 6).
fn is_written_by_the_service(event_name: &str, old: &item::Item, new: &item::Item) -> bool {
    let assigned = item::assigned_version(new).is_some();
    let claimed = new.contains_key(item::CLAIM) && !assigned;
    item::version(new) > item::version(old) && (claimed || assigned && event_name == "MODIFY")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::change::latest;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "images are made where they are used"
    )]
    fn record(event: &str, sequence: &str, new: Value, old: Value) -> Value {
        json!({
            "eventID": "1", "eventName": event, "eventSource": "aws:dynamodb", "awsRegion": "us-east-1",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_767_323_045.0, "SequenceNumber": sequence,
                "Keys": {"PK": {"S": "TENANT#A1"}, "SK": {"S": "CONFIG#x"}},
                "NewImage": new, "OldImage": old, "StreamViewType": "NEW_AND_OLD_IMAGES"
            }
        })
    }

    fn image(value: &str, version: i64, modified: &str) -> Value {
        json!({
            "PK": {"S": "TENANT#A1"}, "SK": {"S": "CONFIG#x"}, "configValue": {"S": value},
            "version": {"N": version.to_string()}, "lastModified": {"S": modified}, "contentType": {"S": "application/json"}
        })
    }

    #[test]
    fn a_write_carries_its_value_version_and_time() {
        let old = image("1", 6, "2026-01-02T03:00:00Z");
        let batch = read(&[record(
            "MODIFY",
            "100",
            image("2", 7, "2026-01-02T03:04:05.250Z"),
            old,
        )]);
        let change = &batch.changes[0];
        assert_eq!(change.id, LocationId::new(BACKEND, "TENANT#A1", "CONFIG#x"));
        assert_eq!(change.revision.version, 7);
        assert_eq!(
            (change.written_at_ms, change.whole_seconds),
            (1_767_323_045_250, false)
        );
        assert!(matches!(&change.state, NewState::Value(record) if record.value == "2"));
        assert_eq!(batch.first.as_deref(), Some("100"));
    }

    #[test]
    fn a_hand_edit_that_kept_its_time_is_known_to_the_second() {
        let time = "2026-01-02T03:00:00Z";
        let batch = read(&[record(
            "MODIFY",
            "1",
            image("2", 6, time),
            image("1", 6, time),
        )]);
        assert_eq!(
            (
                batch.changes[0].written_at_ms,
                batch.changes[0].whole_seconds
            ),
            (1_767_323_045_000, true)
        );
    }

    #[test]
    fn removals_carry_no_value_and_those_by_a_ttl_are_announced_like_any_other() {
        let mut removal = record(
            "REMOVE",
            "1",
            Value::Null,
            image("1", 6, "2026-01-02T03:00:00Z"),
        );
        let batch = read(std::slice::from_ref(&removal));
        assert_eq!(
            (&batch.changes[0].state, batch.changes[0].revision.version),
            (&NewState::Absent, 6)
        );
        removal["userIdentity"] =
            json!({"type": "Service", "principalId": "dynamodb.amazonaws.com"});
        assert_eq!(read(&[removal]).changes, batch.changes);
    }

    #[test]
    fn an_item_that_cannot_be_served_is_announced() {
        let new = json!({"PK": {"S": "TENANT#A1"}, "SK": {"S": "CONFIG#x"}});
        assert_eq!(
            read(&[record("MODIFY", "1", new, Value::Null)]).changes[0].state,
            NewState::Unknown
        );
    }

    #[test]
    fn unreadable_records_are_reported_and_hold_back_nobody() {
        let good = record("INSERT", "3", image("1", 1, ""), Value::Null);
        let mut other_item = good.clone();
        other_item["dynamodb"]["Keys"]["SK"]["S"] = json!("OTHER#x");
        let batch = read(&[
            json!({"dynamodb": {"SequenceNumber": "1"}}),
            json!({"eventName": "INSERT", "dynamodb": {"SequenceNumber": "2", "Keys": {"PK": {"N": "1"}}}}),
            good,
            other_item,
            json!("nonsense"),
        ]);
        assert_eq!(batch.failed, ["1", "2", ""]);
        assert_eq!(batch.changes.len(), 1);
    }

    #[test]
    fn only_the_last_change_of_a_location_is_sent() {
        let batch = read(&[
            record("MODIFY", "1", image("1", 1, ""), Value::Null),
            record("MODIFY", "2", image("2", 2, ""), Value::Null),
        ]);
        let latest = latest(batch.changes);
        assert_eq!(latest.len(), 1);
        assert_eq!(latest[0].revision.version, 2);
    }
}

//! A decoded change, as it is journalled and sent.

use std::collections::HashMap;

use bytes::Bytes;
use tagged_config_domain::{Check, LocationId, Record, Revision, Value};
use tagged_config_proto::v1::{self as pb, change::State};
use tagged_config_stores::Entry;

/// The largest bytes that are sent to every task. What is larger is named by its hash.
const PUSHED_BYTES: usize = 256 * 1024;

/// One location that changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// Where.
    pub id: LocationId,
    /// The new revision; for [`NewState::Absent`] in Parameter Store, the event's time as incarnation.
    pub revision: Revision,
    /// What is there now.
    pub state: NewState,
    /// When it was written, in unix milliseconds; 0 if unknown.
    pub written_at_ms: i64,
    /// Whether that is known to the second only.
    pub whole_seconds: bool,
    /// What the journal says of it.
    pub entry: Entry,
    /// Its place in the history, where that is not the time of writing.
    pub noted: Option<Noted>,
}

/// The place of a change among those of its key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Noted {
    /// In unix milliseconds.
    pub at_ms: i64,
    /// The same as the stream says it, in whole seconds.
    pub seen_ms: i64,
    /// Orders changes of one millisecond.
    pub order: String,
    /// The version that it replaced; `None` where nothing was there.
    pub previous: Option<i64>,
}

/// The new state of a location.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NewState {
    /// This value.
    Value(Record),
    /// Nothing.
    Absent,
    /// Not carried by the event: to be read from the backend.
    Unknown,
}

impl Change {
    /// The message; a secret goes without its value, and so does what is too large for one.
    pub(crate) fn to_wire(&self) -> pb::Change {
        let mut digest = Bytes::new();
        let state = match &self.state {
            NewState::Value(record) if record.secret => State::Unknown(true),
            NewState::Value(record) => {
                let (value, data) = match &record.value {
                    Value::Text(text) => (Some(text.as_ref().to_owned()), Bytes::new()),
                    Value::Bytes(bytes) if bytes.len() <= PUSHED_BYTES => {
                        (Some(String::new()), bytes.clone())
                    }
                    Value::Bytes(_) | Value::Remote(_) => (None, Bytes::new()),
                };
                if let Some(value) = value {
                    State::Value(pb::Value {
                        value,
                        data,
                        content_type: record.content_type.as_ref().to_owned(),
                        modified_ms: record.modified_ms.unwrap_or(0),
                        checked: record.check == Check::Written,
                    })
                } else {
                    digest = Bytes::copy_from_slice(record.digest());
                    State::Unknown(true)
                }
            }
            NewState::Absent => State::Absent(true),
            NewState::Unknown => State::Unknown(true),
        };
        pb::Change {
            location: Some(pb::Location {
                backend: self.id.backend().0.to_owned(),
                partition: self.id.partition().to_owned(),
                sort: self.id.sort().to_owned(),
            }),
            incarnation: self.revision.incarnation,
            version: self.revision.version,
            written_at_ms: self.written_at_ms,
            written_at_whole_seconds: self.whole_seconds,
            state: Some(state),
            id: Bytes::copy_from_slice(self.entry.id.as_bytes()),
            digest,
        }
    }
}

/// Only the last change of each location, in the order in which they came.
pub(crate) fn latest(changes: Vec<Change>) -> Vec<Change> {
    let last: HashMap<LocationId, usize> = changes
        .iter()
        .enumerate()
        .map(|(index, change)| (change.id.clone(), index))
        .collect();
    let keep = |(index, change): &(usize, Change)| last.get(&change.id) == Some(index);
    changes
        .into_iter()
        .enumerate()
        .filter(keep)
        .map(|(_, change)| change)
        .collect()
}

//! "Object Created" and "Object Deleted" events of the bucket. They say what changed, and their order says nothing, since they
//! are delivered in any: so the object is read, consistently, and what is there now is sent; a large value by its hash alone
//! (`change.rs`).
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tagged_config_domain::{LocationId, Record, Revision, StoreError};
use tagged_config_stores::{
    Entry,
    s3::{Objects, location_of},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    change::{Change, NewState},
    source::{Announcement, Source},
};

/// Waits before each read, in milliseconds.
const WAITS_MS: [u64; 3] = [0, 100, 400];

/// Reads objects.
pub(crate) trait Read: Send + Sync {
    /// What lies there now.
    fn get(
        &self,
        id: &LocationId,
    ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;
}

/// The objects of a bucket.
pub(crate) struct BlobSource<R = Objects> {
    objects: R,
    bucket: String,
}

/// What an event announces.
struct Announced<'a, R> {
    objects: &'a R,
    id: LocationId,
    /// The event's time, which AWS gives in whole seconds.
    time_ms: i64,
    /// The event's own id.
    event: String,
    is_sent: bool,
}

// === impl BlobSource ===

impl<R> BlobSource<R> {
    /// Of this bucket.
    pub(crate) fn new(objects: R, bucket: String) -> Self {
        Self { objects, bucket }
    }
}

impl<R: Read> Source for BlobSource<R> {
    fn announced(&self, event: &Value) -> Option<Box<dyn Announcement + '_>> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let is_change = matches!(
            text("/detail-type"),
            Some("Object Created" | "Object Deleted")
        );
        let is_ours = text("/source") == Some("aws.s3")
            && text("/detail/bucket/name") == Some(self.bucket.as_str());
        if !is_change || !is_ours {
            return None;
        }
        let time = OffsetDateTime::parse(text("/time")?, &Rfc3339).ok()?;
        Some(Box::new(Announced {
            objects: &self.objects,
            id: location_of(text("/detail/object/key")?)?,
            time_ms: time.unix_timestamp() * 1_000,
            event: text("/id").unwrap_or_default().to_owned(),
            is_sent: false,
        }))
    }
}

// === impl Announced ===

#[async_trait]
impl<R: Read> Announcement for Announced<'_, R> {
    async fn next(&mut self) -> Option<Change> {
        if std::mem::replace(&mut self.is_sent, true) {
            return None;
        }
        let mut found = Err(None);
        for wait in WAITS_MS {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            match self.objects.get(&self.id).await {
                Ok(record) => {
                    found = Ok(record);
                    break;
                }
                Err(error) => found = Err(Some(error)),
            }
        }
        let state = match found {
            Ok(Some(record)) => NewState::Value(record),
            Ok(None) => NewState::Absent,
            Err(error) => {
                let error = error.map(|error| tagged_config_runtime::telemetry::chain(&error));
                tracing::warn!(location = %self.id, error, "the announced change cannot be read; sent without its value");
                NewState::Unknown
            }
        };
        Some(self.change(state))
    }
}

impl<R> Announced<'_, R> {
    fn change(&self, state: NewState) -> Change {
        let (revision, modified_ms) = match &state {
            NewState::Value(record) => (record.revision, record.modified_ms),
            NewState::Absent | NewState::Unknown => (Revision::default(), None),
        };
        // The service's own writes know their millisecond.
        let own_ms = modified_ms.filter(|_| revision.version > 0);
        let written_at_ms = own_ms.unwrap_or(self.time_ms);
        Change {
            // The object may have changed again since the event, which then says so twice: each event has its entry.
            entry: Entry::edited(&self.id, revision, written_at_ms, &self.event),
            id: self.id.clone(),
            revision,
            state,
            written_at_ms,
            whole_seconds: own_ms.is_none(),
            noted: None,
        }
    }
}

impl Read for Objects {
    async fn get(&self, id: &LocationId) -> Result<Option<Record>, StoreError> {
        Objects::get(self, id).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;
    use tagged_config_domain::Remote;
    use tagged_config_proto::v1::change::State;
    use tagged_config_stores::{ChangeKind, s3::BACKEND};

    use super::*;

    /// Answers one after the other, the last one for ever.
    struct Scripted(Mutex<Vec<Result<Option<Record>, ()>>>);

    impl Read for Scripted {
        async fn get(&self, _: &LocationId) -> Result<Option<Record>, StoreError> {
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0].clone()
            };
            answer.map_err(|()| StoreError::Throttled { backend: BACKEND })
        }
    }

    fn event(kind: &str, key: &str) -> Value {
        json!({
            "version": "0", "id": "17793124", "detail-type": kind, "source": "aws.s3", "account": "123456789012",
            "time": "2026-01-02T03:04:05Z", "region": "us-east-1", "resources": ["arn:aws:s3:::b"],
            "detail": {
                "version": "0", "bucket": {"name": "b"},
                "object": {"key": key, "size": 5, "etag": "b1946ac92492d2347c6235b4d2611184", "version-id": "IYV3p45B",
                           "sequencer": "00617F08299329D189"},
                "request-id": "N4N7GDK58NMKJ12R", "requester": "123456789012", "reason": "PutObject"
            }
        })
    }

    fn record(value: impl Into<tagged_config_domain::Value>, version: i64) -> Record {
        let revision = Revision {
            incarnation: 0,
            version,
        };
        Record::new(value, "text/plain", revision, Some(version + 1))
    }

    async fn sent(answers: Vec<Result<Option<Record>, ()>>) -> Change {
        let source = BlobSource::new(Scripted(Mutex::new(answers)), "b".to_owned());
        let event = event("Object Created", "tenants/A/x");
        let mut announced = source.announced(&event).unwrap();
        let change = announced.next().await.unwrap();
        assert!(announced.next().await.is_none(), "one event, one change");
        change
    }

    #[test]
    fn events_of_configuration_in_the_bucket_and_no_others() {
        let source = BlobSource::new(Scripted(Mutex::default()), "b".to_owned());
        let is_announced = |event: &Value| source.announced(event).is_some();
        for (kind, key, wanted) in [
            ("Object Created", "tenants/A/x", true),
            ("Object Deleted", "global/x", true),
            ("Object Tags Added", "global/x", false),
            ("Object Created", "elsewhere/x", false),
            ("Object Created", "tenants/A/", false),
        ] {
            assert_eq!(is_announced(&event(kind, key)), wanted, "{kind} {key}");
        }
        let mut other = event("Object Created", "global/x");
        other["detail"]["bucket"]["name"] = json!("another");
        assert!(!is_announced(&other));
        assert!(!is_announced(&json!({"source": "aws.s3"})));
    }

    #[tokio::test(start_paused = true)]
    async fn small_values_are_sent_and_large_ones_named() {
        let small = record(bytes::Bytes::from_static(b"\xff"), 1_767_323_045_250);
        let change = sent(vec![Ok(Some(small))]).await;
        assert_eq!(
            (change.written_at_ms, change.whole_seconds),
            (1_767_323_045_251, false)
        );
        let wire = change.to_wire();
        assert!(matches!(&wire.state, Some(State::Value(value)) if *value.data == b"\xff"[..]));
        let remote = Remote {
            bytes: 1 << 22,
            name: "v1".into(),
        };
        let held = bytes::Bytes::from(vec![0; 256 * 1024 + 1]);
        for large in [
            record(remote, 1_767_323_045_250),
            record(held, 1_767_323_045_250),
        ] {
            let wire = sent(vec![Ok(Some(large.clone()))]).await.to_wire();
            assert_eq!(wire.state, Some(State::Unknown(true)));
            assert_eq!(
                (wire.version, &wire.digest[..]),
                (1_767_323_045_250, &large.digest()[..])
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_now_is_sent_whatever_the_event_says() {
        let change = sent(vec![Ok(None)]).await;
        assert_eq!(
            (change.state, change.entry.kind),
            (NewState::Absent, ChangeKind::Edited)
        );
        let change = sent(vec![Err(()), Err(()), Ok(Some(record("by hand", 0)))]).await;
        assert!(matches!(change.state, NewState::Value(_)));
        assert_eq!(
            (change.written_at_ms, change.whole_seconds),
            (1_767_323_045_000, true)
        );
        let change = sent(vec![Err(())]).await;
        assert_eq!(change.state, NewState::Unknown, "the tasks read it");
    }
}

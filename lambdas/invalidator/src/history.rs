//! Entries of the history for what the service did not write itself: changes past it, and of backends that keep their own
//! versions.

use aws_config::SdkConfig;
use futures::{StreamExt, TryStreamExt, stream};
use tagged_config_domain::{
    ChangeOperation, Check, LocationId, Record as DomainRecord, StoreError, history::sha256_of,
};
use tagged_config_stores::{Entry, History, HistoryConfig, NewEntry, dynamodb, s3};

use crate::{
    change::{Change, NewState},
    config::Config,
};

/// The largest value that an entry has, in bytes. An item has 400 KB at most, and an entry some attributes more than what
/// somebody wrote by hand.
const MAX_VALUE_BYTES: usize = 390 * 1024;
/// Entries under way at once.
const CONCURRENCY: usize = 16;

/// Where entries go, and which keys lie where.
pub(crate) struct Recorder {
    history: History,
    config: Config,
}

/// Somewhere to note changes.
pub(crate) trait Record: Send + Sync {
    /// Makes sure that each of these changes has its entry.
    fn record(&self, changes: &[Change]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Recorder {
    /// The history of this deployment, if it has one.
    pub(crate) fn connect(sdk: &SdkConfig, config: &Config) -> Option<Self> {
        let table = config.history.clone()?;
        let history = HistoryConfig {
            table,
            retention: config.history_retention,
            required: true,
        };
        Some(Self {
            history: History::new(sdk, history),
            config: config.clone(),
        })
    }

    /// The partition and the key of what lies there.
    fn place_of(&self, id: &LocationId) -> Option<(String, String)> {
        if id.backend() == dynamodb::BACKEND {
            let key = dynamodb::key_of(id)?;
            return Some((id.partition().to_owned(), key.as_str().to_owned()));
        }
        let (tag, (partition, name)) = if id.backend() == s3::BACKEND {
            (
                "blob",
                tagged_config_stores::owner_and_name(id.partition())?,
            )
        } else if id.backend() == tagged_config_stores::parameter_store::BACKEND {
            (
                "param",
                self.config.parameters.owner_and_name(id.partition())?,
            )
        } else {
            let secrets = self.config.secrets.as_ref()?;
            ("secret", secrets.owner_and_name(id.partition())?)
        };
        Some((partition, format!("{tag}_config_{name}")))
    }

    async fn note(&self, change: &Change) -> Result<(), StoreError> {
        let Some((partition, key)) = self.place_of(&change.id) else {
            return Ok(());
        };
        let (mut at_ms, order, seen_ms) = match &change.noted {
            Some(noted) => (noted.at_ms, noted.order.clone(), noted.seen_ms),
            None => (change.written_at_ms, String::new(), change.written_at_ms),
        };
        let version = change.revision.version;
        let is_of = |backend| change.id.backend() == backend;
        let is_noted = if is_of(dynamodb::BACKEND) {
            let change = (change.entry.id, order.as_str());
            self.history
                .is_of_the_service(&partition, &key, change, seen_ms)
                .await?
        } else if is_of(s3::BACKEND) && change.state == NewState::Absent {
            self.history.has_deletion(&partition, &key, at_ms).await?
        } else {
            // The service notes its own writes, and S3 keeps who made them.
            let is_written = |record: &DomainRecord| record.check == Check::Written;
            is_of(s3::BACKEND)
                && matches!(&change.state, NewState::Value(record) if is_written(record))
        };
        if is_noted {
            return Ok(());
        }
        if let Some(noted) = &change.noted {
            let is_new = noted.previous.is_none() && change.state != NewState::Absent;
            let place = (order.as_str(), is_new);
            let before = self
                .history
                .comes_after(&partition, &key, place, seen_ms)
                .await?;
            at_ms = at_ms.max(before.unwrap_or(at_ms));
        }
        let is_in_table = is_of(dynamodb::BACKEND);
        let record = match &change.state {
            NewState::Value(record) => Some(record),
            NewState::Absent | NewState::Unknown => None,
        };
        // What one event brings in several rounds is one change.
        let id = match (
            &change.state,
            is_of(tagged_config_stores::parameter_store::BACKEND),
        ) {
            (NewState::Value(record), true) => {
                Entry::written(&change.id, record.revision, at_ms).id
            }
            (NewState::Absent, true) => Entry::removed(&change.id, change.revision, at_ms, "").id,
            (NewState::Unknown, true) => return Ok(()),
            // Somebody may write the same again, to the letter.
            _ if !order.is_empty() => Entry::edited(&change.id, change.revision, 0, &order).id,
            _ => change.entry.id,
        };
        let shown = record.filter(|record| !record.secret);
        let entry = NewEntry {
            key,
            change: id,
            order,
            at_ms,
            version: if change.state == NewState::Absent {
                0
            } else {
                version
            },
            previous: change.noted.as_ref().and_then(|noted| noted.previous),
            operation: if change.state == NewState::Absent {
                ChangeOperation::Delete
            } else {
                ChangeOperation::Put
            },
            author: None,
            kept_from_ms: None,
            by: None,
            sha256: shown
                .map(|record| sha256_of(&record.value))
                .unwrap_or_default(),
            bytes: shown.map_or(0, |record| record.value.len()),
            content_type: shown.map_or("", |record| &record.content_type),
            value: shown
                .filter(|_| is_in_table)
                .and_then(|record| record.value.as_text())
                .filter(|value| value.len() <= MAX_VALUE_BYTES),
        };
        if self.history.append(&partition, &entry).await? {
            tracing::info!(location = %change.id, "a change past the service is in the history");
        }
        Ok(())
    }
}

impl Record for Recorder {
    async fn record(&self, changes: &[Change]) -> Result<(), StoreError> {
        // Those of one place one after the other: each looks at the entries of those before it.
        let mut places: Vec<Vec<&Change>> = Vec::new();
        for change in changes {
            let place = places.iter_mut().find(|place| place[0].id == change.id);
            match place {
                Some(place) => place.push(change),
                None => places.push(vec![change]),
            }
        }
        let notes = places.into_iter().map(async |place| {
            for change in place {
                self.note(change).await?;
            }
            Ok(())
        });
        let notes: Vec<_> = notes.collect();
        stream::iter(notes)
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }
}

//! From an event to a fan-out.

use std::time::{Duration, Instant};

use aws_sdk_ssm::Client;
use bytes::Bytes;
use lambda_runtime::Error;
use serde_json::{Value, json};
use tagged_config_discovery::{CloudMap, Discover};
use tagged_config_proto::v1::FlushRequest;
use tagged_config_stores::{Entry, Journal, aws, dynamodb::BACKEND};

use crate::{
    change::{Change, latest},
    config::Config,
    credential::Credential,
    dynamodb,
    fanout::{self, Fanout, GrpcRefresher, Message, OnTimeout, Refresher},
    history::{Record, Recorder},
    journal::{self, Append, Journalled},
    receipt::{self, Stages},
    source::{self, Announcement, Source},
};

/// Handles a stream's batches and announced changes.
pub(crate) struct Handler<D = CloudMap, R = GrpcRefresher, J = Journal, H = Recorder> {
    discover: D,
    refresher: R,
    sources: Vec<Box<dyn Source>>,
    journal: Option<J>,
    history: Option<H>,
}

impl Handler {
    /// Connected to AWS.
    pub(crate) async fn connect(config: Config) -> Self {
        let sdk = aws::sdk_config().await;
        let credential = Credential::new(Client::new(&sdk), config.credential_parameter.clone());
        // A failure shows at the first event, which is then tried again.
        if let Err(error) = credential.get().await {
            tracing::error!(
                error = format!("{error:#}"),
                "cold start without the refresh credential"
            );
        }
        Self {
            discover: CloudMap::new(&sdk, config.tasks.clone()),
            refresher: GrpcRefresher::new(credential),
            sources: source::all(&sdk, &config),
            history: Recorder::connect(&sdk, &config),
            journal: config.journal.map(|table| journal::connect(&sdk, table)),
        }
    }
}

impl<D: Discover, R: Refresher, J: Append, H: Record> Handler<D, R, J, H> {
    /// Handles one event. For a stream's batch, the answer names the records to be tried again.
    pub(crate) async fn handle(&self, event: &Value) -> Result<Value, Error> {
        let started_ms = tagged_config_runtime::clock::unix_ms();
        if let Some(records) = event.get("Records").and_then(Value::as_array) {
            return Ok(self.stream(records, started_ms).await);
        }
        if event.get("flush").and_then(Value::as_bool) == Some(true) {
            return self.flush().await;
        }
        let mut announced = self
            .sources
            .iter()
            .filter_map(|source| source.announced(event));
        if let Some(announcement) = announced.next() {
            self.announced(announcement, started_ms).await?;
        } else {
            tracing::info!("an event that changes no configuration was ignored");
        }
        Ok(Value::Null)
    }

    async fn stream(&self, records: &[Value], started_ms: i64) -> Value {
        let batch = dynamodb::read(records);
        let mut failed = batch.failed;
        let stages = Stages {
            started_ms,
            reading: Duration::ZERO,
        };
        let (recorded, sent) = futures::join!(
            self.record(&batch.changes),
            self.send_latest(&batch.changes, stages)
        );
        if let Err(error) = &sent {
            tracing::error!(
                error = format!("{error:#}"),
                "no task could be reached; the batch will be retried"
            );
        }
        if sent.is_err() || recorded.is_err() {
            failed = batch.first.into_iter().collect();
        }
        if !failed.is_empty() {
            receipt::emit_failed_batch(BACKEND);
        }
        let failures: Vec<Value> = failed
            .into_iter()
            .map(|id| json!({"itemIdentifier": id}))
            .collect();
        json!({"batchItemFailures": failures})
    }

    async fn announced(
        &self,
        mut announcement: Box<dyn Announcement + '_>,
        started_ms: i64,
    ) -> Result<(), Error> {
        let began = Instant::now();
        while let Some(change) = announcement.next().await {
            let stages = Stages {
                started_ms,
                reading: began.elapsed(),
            };
            let change = [change];
            let (recorded, sent) = futures::join!(self.record(&change), self.send(&change, stages));
            sent?;
            recorded?;
        }
        Ok(())
    }

    async fn send_latest(&self, changes: &[Change], stages: Stages) -> anyhow::Result<()> {
        self.send(&latest(changes.to_vec()), stages).await
    }

    /// Each change in the history; a failure is tried again with the whole event, and lands in the queue of dead letters.
    async fn record(&self, changes: &[Change]) -> anyhow::Result<()> {
        let Some(history) = &self.history else {
            return Ok(());
        };
        let recorded = history.record(changes).await;
        recorded.map_err(|error| {
            receipt::emit_history_failure();
            tracing::error!(
                error = tagged_config_runtime::telemetry::chain(&error),
                "a change is not in the history; the event will be retried"
            );
            error.into()
        })
    }

    async fn send(&self, changes: &[Change], stages: Stages) -> anyhow::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let entries = changes.iter().map(|change| change.entry.clone()).collect();
        let journalled = journal::append_all(self.journal.as_ref(), entries).await;
        let messages = fanout::messages(changes);
        let on_timeout = match journalled {
            Journalled::Yes => OnTimeout::DeferToJournal,
            Journalled::No | Journalled::Without => OnTimeout::Retry,
        };
        let fanout = fanout::run(&messages, on_timeout, &self.discover, &self.refresher).await;
        let fanout = match fanout {
            Err(error) if journalled == Journalled::Yes => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "no task could be reached; the tasks find the changes in the journal"
                );
                Fanout::default()
            }
            fanout => fanout?,
        };
        receipt::emit(changes, journalled, stages, &fanout);
        if journalled == Journalled::No && !fanout.laggards.is_empty() {
            anyhow::bail!("some tasks know of the changes neither by a call nor by the journal");
        }
        Ok(())
    }

    /// Has every task forget what it cached: those that a call does not reach, by the journal.
    async fn flush(&self) -> Result<Value, Error> {
        let entry = Entry::flush(tagged_config_runtime::clock::unix_ms());
        let message = Message::Flush(FlushRequest {
            id: Bytes::copy_from_slice(entry.id.as_bytes()),
        });
        let journalled = journal::append_all(self.journal.as_ref(), vec![entry]).await;
        let fanout = fanout::run(
            &[message],
            OnTimeout::Retry,
            &self.discover,
            &self.refresher,
        )
        .await?;
        tracing::info!(
            targets = fanout.targets,
            acknowledged = fanout.acknowledged,
            ?journalled,
            "flushed"
        );
        if journalled == Journalled::No {
            return Err("the flush is not in the journal: run it again".into());
        }
        Ok(json!({"flushed": {"targets": fanout.targets, "acknowledged": fanout.acknowledged}}))
    }
}

#[cfg(test)]
mod tests;

//! Appending to the change journal, so that tasks find what no call reached them with.

use std::{future::Future, time::Duration};

use aws_config::{SdkConfig, timeout::TimeoutConfig};
use futures::{StreamExt, stream};
use tagged_config_domain::StoreError;
use tagged_config_runtime::telemetry;
use tagged_config_stores::{Entry, Journal};

/// A journal that does not answer holds back no push for longer.
const APPEND_TIMEOUT: Duration = Duration::from_millis(1_200);
/// One attempt. A connection that died while the function was frozen then costs one attempt, and not the entry. A cold
/// start has DNS and TLS in its first.
const ATTEMPT: Duration = Duration::from_millis(600);
/// Entries under way at once.
const CONCURRENCY: usize = 32;

/// Whether every task will find the changes in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journalled {
    /// It holds all of them.
    Yes,
    /// It did not take all of them.
    No,
    /// There is none.
    Without,
}

/// The journal in this table, with attempts short enough for [`APPEND_TIMEOUT`].
pub(crate) fn connect(sdk: &SdkConfig, table: String) -> Journal {
    let timeouts = sdk
        .timeout_config()
        .map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(APPEND_TIMEOUT)
        .build();
    let sdk = sdk.to_builder().timeout_config(timeouts).build();
    Journal::new(&sdk, table)
}

/// Somewhere to append entries.
pub(crate) trait Append: Send + Sync {
    /// Appends an entry, or finds it there.
    fn append(&self, entry: &Entry) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Append for Journal {
    async fn append(&self, entry: &Entry) -> Result<(), StoreError> {
        Journal::append(self, entry, tagged_config_runtime::clock::unix_ms())
            .await
            .map(drop)
    }
}

/// Appends all entries.
pub(crate) async fn append_all(journal: Option<&impl Append>, entries: Vec<Entry>) -> Journalled {
    let Some(journal) = journal else {
        return Journalled::Without;
    };
    let appends = entries.into_iter().map(|entry| async move {
        let error = match tokio::time::timeout(APPEND_TIMEOUT, journal.append(&entry)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => telemetry::chain(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::error!(error, "a change is not in the journal");
        false
    });
    let failed = stream::iter(appends)
        .buffer_unordered(CONCURRENCY)
        .filter(|written| std::future::ready(!written))
        .count()
        .await;
    if failed == 0 {
        Journalled::Yes
    } else {
        Journalled::No
    }
}

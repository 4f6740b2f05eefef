//! `param_config_*`: `/<root>/tenants/<tenantId>/<name>` over `/<root>/global/<name>`, both read in one
//! GetParameters call. Read-only here: operators write parameters through AWS.
//!
//! Calls are shared: GetParameters takes ten names, and the account has 40 calls a second in all.

use std::num::NonZeroU32;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_ssm::{
    Client,
    config::http::HttpResponse,
    error::SdkError,
    operation::get_parameter_history::GetParameterHistoryError,
    types::{Parameter, ParameterHistory, ParameterType},
};
use tagged_config_domain::{
    Admitted, Author, Backend, ChangeOperation, ConfigKey, ConfigName, HistoryEntry, HistoryPage,
    HistoryRequest, Layers, Location, LocationId, NewValue, Operation, Order, Precondition, Quota,
    Record, Revision, Store, StoreError, TenantId, Written,
    history::{UNKNOWN, sha256_of},
};

use crate::{
    aws::{OPERATION_TIMEOUT, store_error},
    bulkhead::Bulkhead,
    overlay,
    parameter_store::batch::Batcher,
};

mod batch;

/// The backend's name.
pub const BACKEND: Backend = Backend("parameter-store");
/// Versions on one page of a parameter's history: the most that there are.
const HISTORY_PAGE: i32 = 50;
/// Histories read at once, and of these, those of one tenant.
const MAX_HISTORIES: usize = 4;
const MAX_HISTORIES_OF_A_TENANT: usize = 1;

/// Settings of [`ParameterStore`].
#[derive(Clone, Debug)]
pub struct ParameterStoreConfig {
    /// The path under which all configuration lies, such as `/tagged-config/config`; no trailing slash.
    pub root: String,
    /// Calls a second of this process. Account and region have 40, for all callers together, unless they pay for more:
    /// <https://docs.aws.amazon.com/general/latest/gr/ssm.html>
    pub calls_per_second: NonZeroU32,
}

/// What one process may call where nobody says how many processes there are.
pub const DEFAULT_CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(30).unwrap(); // evaluated by the compiler

/// The parameters under the root.
pub struct ParameterStore {
    /// The root, with a slash behind it.
    below_root: String,
    batcher: Batcher,
    client: Client,
    histories: Bulkhead,
}

// === impl ParameterStoreConfig ===

impl ParameterStoreConfig {
    /// The defaults, under this root.
    pub fn at(root: impl Into<String>) -> Self {
        Self {
            root: root.into(),
            calls_per_second: DEFAULT_CALLS_PER_SECOND,
        }
    }

    /// The partition of the history, and the name, of a parameter's path.
    pub fn owner_and_name<'p>(&self, path: &'p str) -> Option<(String, &'p str)> {
        let below = path.strip_prefix(self.root.as_str())?.strip_prefix('/')?;
        overlay::owner_and_name(below)
    }

    /// The place of a parameter's path, or `None` for one that holds no configuration.
    pub fn location_of(&self, path: &str) -> Option<LocationId> {
        let below = path.strip_prefix(self.root.as_str())?.strip_prefix('/')?;
        overlay::holds_configuration(below).then(|| LocationId::new(BACKEND, path, ""))
    }
}

// === impl ParameterStore ===

impl ParameterStore {
    /// A store over these parameters. Must be called within a Tokio runtime: calls are batched by a task.
    pub fn new(sdk: &SdkConfig, config: &ParameterStoreConfig) -> Self {
        Self {
            batcher: Batcher::spawn(Client::new(sdk), config.calls_per_second),
            client: Client::new(sdk),
            histories: Bulkhead::new(MAX_HISTORIES, MAX_HISTORIES_OF_A_TENANT),
            below_root: format!("{}/", config.root),
        }
    }
}

#[async_trait]
impl Store for ParameterStore {
    fn backend(&self) -> Backend {
        BACKEND
    }

    fn order(&self) -> Order {
        Order::Revisions
    }

    fn read_quota(&self) -> Quota {
        // One tenant cannot use up the names of a task's calls: ten a call. Unit: one key.
        Quota {
            per_second: 50,
            burst: 200,
        }
    }

    fn is_writable(&self) -> bool {
        false
    }

    fn keeps_history(&self) -> bool {
        false
    }

    fn key_at(&self, id: &LocationId) -> Option<(String, ConfigKey)> {
        let below = id.partition().strip_prefix(&self.below_root)?;
        overlay::key_at("param", overlay::owner_and_name(below))
    }

    fn locate(&self, tenant: &TenantId, name: ConfigName<'_>) -> Layers {
        overlay::layers(tenant, BACKEND, &self.below_root, name)
    }

    async fn read(
        &self,
        admitted: &Admitted,
        locations: &[Location],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let paths = locations.iter().map(|l| l.id().partition().to_owned());
        self.batcher
            .get(admitted.tenant(), paths.collect(), Secrets::Hidden)
            .await
    }

    async fn reveal(
        &self,
        admitted: &Admitted,
        location: &Location,
    ) -> Result<Option<Record>, StoreError> {
        let path = location.id().partition().to_owned();
        let mut found = self
            .batcher
            .get(admitted.tenant(), vec![path], Secrets::Shown)
            .await?;
        Ok(found.pop().flatten())
    }

    async fn put(
        &self,
        _: &Admitted,
        _: ConfigName<'_>,
        _: NewValue<'_>,
        _: Precondition,
    ) -> Result<Written, StoreError> {
        let instead = ": an operator writes them with `aws ssm put-parameter --overwrite`, \
                       under <root>/tenants/<tenant>/ for one tenant or <root>/global/ for all";
        Err(StoreError::Unsupported {
            backend: BACKEND,
            operation: Operation::Put,
            instead,
        })
    }

    async fn delete(
        &self,
        _: &Admitted,
        _: ConfigName<'_>,
        _: Precondition,
        _: Author<'_>,
    ) -> Result<i64, StoreError> {
        let instead = ": an operator deletes them with `aws ssm delete-parameter`";
        Err(StoreError::Unsupported {
            backend: BACKEND,
            operation: Operation::Delete,
            instead,
        })
    }

    /// What Parameter Store keeps: the last hundred versions of a parameter that was not deleted since.
    async fn history(
        &self,
        admitted: &Admitted,
        location: &Location,
        request: &HistoryRequest<'_>,
    ) -> Result<HistoryPage, StoreError> {
        let _permit = self
            .histories
            .acquire(Some(admitted.tenant()), OPERATION_TIMEOUT)
            .await
            .ok_or(StoreError::Throttled { backend: BACKEND })?;
        let mut versions = Vec::new();
        let mut pages = self
            .client
            .get_parameter_history()
            .name(location.id().partition())
            .max_results(HISTORY_PAGE)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => versions.extend(page.parameters().iter().map(entry)),
                Err(error) if is_missing(&error) => return Ok(HistoryPage::default()),
                Err(error) => return Err(store_error(BACKEND, error)),
            }
        }
        versions.sort_by_key(|entry| std::cmp::Reverse((entry.at_ms, entry.version)));
        let mut entries: Vec<_> = versions
            .into_iter()
            .filter(|entry| (request.since_ms..request.until_ms).contains(&entry.at_ms))
            .skip_while(|entry| {
                request
                    .after
                    .is_some_and(|after| cursor(entry).as_str() != after)
            })
            .skip(usize::from(request.after.is_some()))
            .collect();
        let next_after =
            (entries.len() > request.limit).then(|| cursor(&entries[request.limit - 1]));
        entries.truncate(request.limit);
        if !request.values {
            for entry in &mut entries {
                entry.value = None;
            }
        }
        Ok(HistoryPage {
            entries,
            next_after,
        })
    }
}

fn cursor(entry: &HistoryEntry) -> String {
    format!("{}#{}", entry.at_ms, entry.version)
}

fn is_missing(error: &SdkError<GetParameterHistoryError, HttpResponse>) -> bool {
    error
        .as_service_error()
        .is_some_and(GetParameterHistoryError::is_parameter_not_found)
}

fn entry(version: &ParameterHistory) -> HistoryEntry {
    let is_secret = version.r#type() == Some(&ParameterType::SecureString);
    let value = version.value().filter(|_| !is_secret);
    HistoryEntry {
        key: String::new(),
        version: version.version(),
        at_ms: version
            .last_modified_date()
            .and_then(|date| date.to_millis().ok())
            .unwrap_or_default(),
        operation: ChangeOperation::Put,
        by: version.last_modified_user().unwrap_or(UNKNOWN).to_owned(),
        role: String::new(),
        request_id: String::new(),
        note: String::new(),
        bytes: value.map_or(0, |value| value.len() as u64),
        sha256: value
            .map(|value| sha256_of(&value.into()))
            .unwrap_or_default(),
        content_type: value
            .map(Record::guess_content_type)
            .unwrap_or_default()
            .to_owned(),
        previous: None,
        value: value.map(Into::into),
    }
}

/// What becomes of a `SecureString`'s value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// It is left out.
    Hidden,
    /// It is kept; the parameter was read with decryption.
    Shown,
}

/// The record that a parameter holds.
pub fn record(parameter: &Parameter, secrets: Secrets) -> Record {
    let is_secret = parameter.r#type() == Some(&ParameterType::SecureString);
    let value = if is_secret && secrets == Secrets::Hidden {
        ""
    } else {
        parameter.value().unwrap_or_default()
    };
    let modified_ms = parameter
        .last_modified_date()
        .and_then(|date| date.to_millis().ok());
    let revision = Revision {
        incarnation: modified_ms.unwrap_or(0),
        version: parameter.version(),
    };
    let record = Record::new(
        value,
        Record::guess_content_type(value),
        revision,
        modified_ms,
    );
    if is_secret { record.secret() } else { record }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_hold_configuration() {
        let config = ParameterStoreConfig::at("/app/config");
        for path in [
            "/app/config/global/tax/rate",
            "/app/config/tenants/A1/tax/rate",
        ] {
            assert_eq!(config.location_of(path).unwrap().partition(), path);
        }
        for path in [
            "/app/config",
            "/app/config/global/",
            "/app/config/tenants/A1",
            "/app/configuration/global/x",
            "/app/internal/refresh",
            "/app/config/other/x",
            "app/config/global/x",
            "/app/config/global/a//b",
        ] {
            assert_eq!(config.location_of(path), None, "{path}");
        }
    }
}

//! `param_config_*`: `/<root>/tenants/<tenantId>/<name>` over `/<root>/global/<name>`, both read in one
//! GetParameters call. Read-only here: operators write parameters through AWS.
//!
//! Calls are shared: GetParameters takes ten names, and the account has 40 calls a second in all.

use std::num::NonZeroU32;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_ssm::{
    Client,
    types::{Parameter, ParameterType},
};
use tagged_config_domain::{
    Admitted, Backend, ConfigName, Layers, Location, LocationId, NewValue, Operation, Order,
    Precondition, Quota, Record, Revision, Store, StoreError, TenantId, Written,
};

use crate::{overlay, parameter_store::batch::Batcher};

mod batch;

/// The backend's name.
pub const BACKEND: Backend = Backend("parameter-store");

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
    ) -> Result<i64, StoreError> {
        let instead = ": an operator deletes them with `aws ssm delete-parameter`";
        Err(StoreError::Unsupported {
            backend: BACKEND,
            operation: Operation::Delete,
            instead,
        })
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

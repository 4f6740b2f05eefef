//! `secret_config_*`: the secrets `<root>/tenants/<tenantId>/<name>` over `<root>/global/<name>`, each with the value that is
//! labelled `AWSCURRENT`. Read-only here: operators, and rotation, write secrets through AWS.
//!
//! A read finds which version is current and never its value, so that no cache holds one; the value is read for each request that
//! may see it. Versions of secrets have ids and no order, so no version is given to callers, and two values differ in the id
//! that Secrets Manager gave them.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_secretsmanager::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    types::SecretVersionsListEntry,
};
use futures::future::try_join_all;
use tagged_config_domain::{
    Admitted, Author, Backend, ChangeOperation, ConfigName, HistoryEntry, HistoryPage,
    HistoryRequest, Layers, Location, LocationId, NewValue, Operation, Order, Precondition, Quota,
    Record, Revision, Store, StoreError, TenantId, Value, Written, history::UNKNOWN,
};

use crate::{
    aws::{OPERATION_TIMEOUT, store_error},
    bulkhead::{Bulkhead, Permit},
    overlay,
};

/// Versions that a secret's history shows.
const MAX_HISTORY: i32 = 100;
/// The backend's name.
pub const BACKEND: Backend = Backend("secrets-manager");
/// The label of the value that is served.
pub const CURRENT: &str = "AWSCURRENT";

/// Calls in flight, and of these, those of one tenant. Account and region have 10,000 GetSecretValue and 40,000
/// DescribeSecret a second; at 10 ms a call, these are 3,200 for a process:
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html>
const MAX_CALLS: usize = 32;
const MAX_CALLS_OF_A_TENANT: usize = 4;

/// What Secrets Manager appends to a name in its ARN: a hyphen and so many letters and digits.
const ARN_SUFFIX: usize = 6;

/// Settings of [`SecretsManagerStore`].
#[derive(Clone, Debug)]
pub struct SecretsManagerConfig {
    /// What all ARNs have before the name, up to `:secret:`. Secrets are asked for by their ARN then: of a name that does not
    /// exist, IAM may know no ARN, and refuse what a policy allows by ARN.
    arn: Option<String>,
    root: String,
}

/// The secrets under a root.
pub struct SecretsManagerStore {
    client: Client,
    config: SecretsManagerConfig,
    /// The root, with a slash behind it.
    below_root: String,
    calls: Bulkhead,
}

// === impl SecretsManagerConfig ===

impl SecretsManagerConfig {
    /// The secrets whose names, or ARNs, begin so, such as `tagged-config/config`; no slash at its ends.
    pub fn at(root: &str) -> Self {
        let (arn, root) = match root.rsplit_once(":secret:") {
            Some((arn, root)) => (Some(format!("{arn}:secret:")), root),
            None => (None, root),
        };
        Self {
            arn,
            root: root.to_owned(),
        }
    }

    /// What all names begin with.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The `SecretId` of a request. A name that ends like an ARN's suffix cannot be requested by an ARN without one; AWS advises
    /// against such names.
    fn secret_id(&self, name: &str) -> String {
        match &self.arn {
            Some(arn) if !looks_suffixed(name) => format!("{arn}{name}"),
            _ => name.to_owned(),
        }
    }

    /// The partition of the history, and the name, of a secret's name.
    pub fn owner_and_name<'s>(&self, secret: &'s str) -> Option<(String, &'s str)> {
        let below = secret.strip_prefix(self.root.as_str())?.strip_prefix('/')?;
        overlay::owner_and_name(below)
    }

    /// The place of a secret's name, or `None` for one that holds no configuration.
    pub fn location_of(&self, secret: &str) -> Option<LocationId> {
        let below = secret.strip_prefix(self.root.as_str())?.strip_prefix('/')?;
        overlay::holds_configuration(below).then(|| LocationId::new(BACKEND, secret, ""))
    }
}

// === impl SecretsManagerStore ===

impl SecretsManagerStore {
    /// A store over these secrets.
    pub fn new(sdk: &SdkConfig, config: SecretsManagerConfig) -> Self {
        Self {
            client: Client::new(sdk),
            below_root: format!("{}/", config.root),
            config,
            calls: Bulkhead::new(MAX_CALLS, MAX_CALLS_OF_A_TENANT),
        }
    }

    /// `None` for a secret that does not exist, is to be deleted, or has no current value.
    fn existing<T, E>(
        &self,
        name: &str,
        answer: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<Option<T>, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let error = match answer {
            Ok(found) => return Ok(Some(found)),
            Err(error) => error,
        };
        let service_error = error.as_service_error();
        match service_error.and_then(ProvideErrorMetadata::code) {
            Some("ResourceNotFoundException" | "InvalidRequestException") => Ok(None),
            // Requested by name, of which IAM may know no ARN, if it does not exist.
            Some("AccessDeniedException") if self.config.arn.is_some() && looks_suffixed(name) => {
                Ok(None)
            }
            _ => Err(store_error(BACKEND, error)),
        }
    }

    async fn permit(&self, tenant: &TenantId) -> Result<Permit, StoreError> {
        self.calls
            .acquire(Some(tenant), OPERATION_TIMEOUT)
            .await
            .ok_or(StoreError::Throttled { backend: BACKEND })
    }

    /// What is current, without its value.
    async fn describe(&self, id: &LocationId) -> Result<Option<Record>, StoreError> {
        let answer = self
            .client
            .describe_secret()
            .secret_id(self.config.secret_id(id.partition()))
            .send()
            .await;
        let name = id.partition();
        let Some(secret) = self.existing(name, answer)? else {
            return Ok(None);
        };
        if secret.deleted_date().is_some() || secret.name() != Some(name) {
            return Ok(None);
        }
        let labels = secret.version_ids_to_stages().into_iter().flatten();
        let current = labels
            .filter(|(_, labels)| labels.iter().any(|label| label == CURRENT))
            .map(|(id, _)| id)
            .next();
        Ok(current.map(|version_id| {
            let hidden = Value::from("");
            Record::new(hidden, "text/plain", Revision::default(), None).secret_named(version_id)
        }))
    }
}

#[async_trait]
impl Store for SecretsManagerStore {
    fn backend(&self) -> Backend {
        BACKEND
    }

    fn order(&self) -> Order {
        Order::ConsistentReads
    }

    fn read_quota(&self) -> Quota {
        // Unit: one key, whose two places are asked for.
        Quota {
            per_second: 100,
            burst: 400,
        }
    }

    fn is_writable(&self) -> bool {
        false
    }

    fn keeps_history(&self) -> bool {
        false
    }

    fn locate(&self, tenant: &TenantId, name: ConfigName<'_>) -> Layers {
        overlay::layers(tenant, BACKEND, &self.below_root, name)
    }

    async fn read(
        &self,
        admitted: &Admitted,
        locations: &[Location],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let reads = locations.iter().map(|location| async {
            let _permit = self.permit(admitted.tenant()).await?;
            self.describe(location.id()).await
        });
        try_join_all(reads).await
    }

    async fn reveal(
        &self,
        admitted: &Admitted,
        location: &Location,
    ) -> Result<Option<Record>, StoreError> {
        let _permit = self.permit(admitted.tenant()).await?;
        let answer = self
            .client
            .get_secret_value()
            .secret_id(self.config.secret_id(location.id().partition()))
            .send()
            .await;
        let name = location.id().partition();
        let Some(secret) = self.existing(name, answer)? else {
            return Ok(None);
        };
        if secret.name() != Some(name) {
            return Ok(None);
        }
        let value = match (secret.secret_string(), secret.secret_binary()) {
            (Some(text), _) => Value::from(text),
            (None, Some(blob)) => Value::Bytes(blob.as_ref().to_vec().into()),
            (None, None) => return Ok(None),
        };
        let content_type = match &value {
            Value::Text(text) => Record::guess_content_type(text),
            Value::Bytes(_) | Value::Remote(_) => "application/octet-stream",
        };
        let created_ms = secret.created_date().and_then(|at| at.to_millis().ok());
        let record = Record::new(value, content_type, Revision::default(), created_ms);
        Ok(Some(
            record.secret_named(secret.version_id().unwrap_or_default()),
        ))
    }

    async fn put(
        &self,
        _: &Admitted,
        _: ConfigName<'_>,
        _: NewValue<'_>,
        _: Precondition,
    ) -> Result<Written, StoreError> {
        let instead = ": an operator writes them with `aws secretsmanager create-secret` or `put-secret-value`, \
                       named <root>/tenants/<tenant>/... for one tenant or <root>/global/... for all";
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
        let instead = ": an operator deletes them with `aws secretsmanager delete-secret`";
        Err(StoreError::Unsupported {
            backend: BACKEND,
            operation: Operation::Delete,
            instead,
        })
    }

    /// The versions that Secrets Manager keeps, without their values. A version's name and its labels are its note.
    async fn history(
        &self,
        admitted: &Admitted,
        location: &Location,
        request: &HistoryRequest<'_>,
    ) -> Result<HistoryPage, StoreError> {
        let _permit = self.permit(admitted.tenant()).await?;
        let name = location.id().partition();
        let answer = self
            .client
            .list_secret_version_ids()
            .secret_id(self.config.secret_id(name))
            .include_deprecated(true)
            .max_results(MAX_HISTORY)
            .send()
            .await;
        let Some(answer) = self.existing(name, answer)? else {
            return Ok(HistoryPage::default());
        };
        if answer.name() != Some(name) {
            return Ok(HistoryPage::default());
        }
        let mut entries: Vec<_> = answer.versions().iter().map(entry).collect();
        entries.retain(|entry| (request.since_ms..request.until_ms).contains(&entry.at_ms));
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.at_ms));
        entries.truncate(request.limit);
        Ok(HistoryPage {
            entries,
            next_after: None,
        })
    }
}

fn entry(version: &SecretVersionsListEntry) -> HistoryEntry {
    let labels = version.version_stages().join(", ");
    HistoryEntry {
        key: String::new(),
        version: 0,
        at_ms: version
            .created_date()
            .and_then(|at| at.to_millis().ok())
            .unwrap_or_default(),
        operation: ChangeOperation::Put,
        by: UNKNOWN.to_owned(),
        role: String::new(),
        request_id: String::new(),
        note: format!("{} {labels}", version.version_id().unwrap_or_default())
            .trim_end()
            .to_owned(),
        bytes: 0,
        sha256: String::new(),
        content_type: String::new(),
        previous: None,
        value: None,
    }
}

fn looks_suffixed(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == ARN_SUFFIX && end.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_hold_configuration() {
        let config = SecretsManagerConfig::at("app/config");
        for name in ["app/config/global/key", "app/config/tenants/A1/pay/key"] {
            assert_eq!(config.location_of(name).unwrap().partition(), name);
        }
        for name in [
            "app/config/global/",
            "app/config/tenants/A1",
            "app/configuration/global/x",
            "/app/config/global/x",
            "app/config/other/x",
        ] {
            assert_eq!(config.location_of(name), None, "{name}");
        }
    }

    #[test]
    fn secrets_are_asked_for_by_arn_where_it_is_known() {
        let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:app/config";
        let config = SecretsManagerConfig::at(arn);
        assert_eq!(config.root(), "app/config");
        let name = "app/config/global/pay-key";
        assert_eq!(config.secret_id(name), format!("{arn}/global/pay-key"));
        let suffixed = "app/config/global/pay-abc123";
        assert_eq!(config.secret_id(suffixed), suffixed);
        assert_eq!(SecretsManagerConfig::at("app/config").secret_id(name), name);
        assert!(config.location_of(name).is_some());
    }
}

//! The secrets that a load test reads, by Secrets Manager's own API. They guard nothing: their values follow from their tenants.

use aws_sdk_secretsmanager::{
    Client,
    operation::{create_secret::CreateSecretError, delete_secret::DeleteSecretError},
};

use crate::{
    accounts::failed,
    targets::{self, Targets, need},
};

/// The key of a tenant's secret, with its tag.
pub(crate) const KEY: &str = "secret_config_loadtest/secret";

/// The secrets of a deployment.
pub(crate) struct Secrets {
    client: Client,
    root: String,
}

/// The value of this tenant's secret.
pub(crate) fn value(tenant: &str) -> String {
    format!("loadtest of {tenant}")
}

// === impl Secrets ===

impl Secrets {
    /// Those of these targets.
    pub(crate) async fn of(targets: &Targets) -> anyhow::Result<Self> {
        Ok(Self {
            root: need(&targets.secret_root, "secret-root")?.to_owned(),
            client: Client::new(&targets::sdk_config().await),
        })
    }

    /// Makes the tenant's secret, if it is not there.
    pub(crate) async fn seed(&self, tenant: &str) -> anyhow::Result<()> {
        let create = self.client.create_secret().name(self.name(tenant));
        match create.secret_string(value(tenant)).send().await {
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(CreateSecretError::is_resource_exists_exception) =>
            {
                Ok(())
            }
            other => other
                .map(|_| ())
                .map_err(|error| failed("CreateSecret", &error)),
        }
    }

    /// Removes the tenant's secret for good, so that the next seed can make it again.
    pub(crate) async fn clear(&self, tenant: &str) -> anyhow::Result<()> {
        let delete = self.client.delete_secret().secret_id(self.name(tenant));
        match delete.force_delete_without_recovery(true).send().await {
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DeleteSecretError::is_resource_not_found_exception) =>
            {
                Ok(())
            }
            other => other
                .map(|_| ())
                .map_err(|error| failed("DeleteSecret", &error)),
        }
    }

    fn name(&self, tenant: &str) -> String {
        format!("{}/tenants/{tenant}/loadtest/secret", self.root)
    }
}

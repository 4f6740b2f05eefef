//! The store conformance suite over the real wire protocols.

use async_trait::async_trait;
use e2e::Stack;
use tagged_config_domain::{Store, TenantId};
use tagged_config_stores::{DynamoDbConfig, DynamoDbStore, ParameterStore, ParameterStoreConfig};
use tagged_config_testkit::conformance::{self, Subject};

struct DynamoDb<'s> {
    stack: &'s Stack,
    store: DynamoDbStore,
}

struct Parameters<'s> {
    stack: &'s Stack,
    store: ParameterStore,
}

#[async_trait]
impl Subject for DynamoDb<'_> {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn writable(&self) -> bool {
        true
    }

    async fn set(&self, tenant: &TenantId, name: &str, value: &str) {
        self.stack
            .put_item(tenant.as_str(), name, value)
            .await
            .unwrap();
    }

    async fn unset(&self, tenant: &TenantId, name: &str) {
        self.stack.delete_item(tenant.as_str(), name).await.unwrap();
    }

    async fn set_shared(&self, _: &str, _: &str) -> bool {
        false
    }
}

#[async_trait]
impl Subject for Parameters<'_> {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn writable(&self) -> bool {
        false
    }

    async fn set(&self, tenant: &TenantId, name: &str, value: &str) {
        self.stack
            .put_parameter(&format!("tenants/{tenant}/{name}"), value, false)
            .await
            .unwrap();
    }

    async fn unset(&self, tenant: &TenantId, name: &str) {
        self.stack
            .delete_parameter(&format!("tenants/{tenant}/{name}"))
            .await
            .unwrap();
    }

    async fn set_shared(&self, name: &str, value: &str) -> bool {
        self.stack
            .put_parameter(&format!("global/{name}"), value, false)
            .await
            .unwrap();
        true
    }
}

#[tokio::test]
async fn dynamodb() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let store = DynamoDbStore::new(
        &stack.sdk,
        DynamoDbConfig {
            journal: None,
            table: stack.table.clone(),
        },
    );
    conformance::run(&DynamoDb {
        stack: &stack,
        store,
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn parameter_store() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let store = ParameterStore::new(
        &stack.sdk,
        ParameterStoreConfig {
            root: stack.parameter_root.clone(),
        },
    );
    conformance::run(&Parameters {
        stack: &stack,
        store,
    })
    .await;
    Ok(())
}

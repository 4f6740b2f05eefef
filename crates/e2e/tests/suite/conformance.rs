//! The store conformance suite over the real wire protocols.

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType},
};
use e2e::Stack;
use tagged_config_domain::{ConfigName, NewValue, Precondition, Store, TenantId};
use tagged_config_stores::{
    ChangeKind, DynamoDbConfig, DynamoDbStore, Journal, Kind, ParameterStore, ParameterStoreConfig,
    S3Config, S3Store, SecretsManagerConfig, SecretsManagerStore,
};
use tagged_config_testkit::{
    Issuer, admitted,
    conformance::{self, Subject, tester},
};

struct DynamoDb<'s> {
    stack: &'s Stack,
    store: DynamoDbStore,
}

struct Blobs<'s> {
    stack: &'s Stack,
    store: S3Store,
}

struct Secrets<'s> {
    stack: &'s Stack,
    store: SecretsManagerStore,
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
impl Subject for Blobs<'_> {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn writable(&self) -> bool {
        true
    }

    async fn set(&self, tenant: &TenantId, name: &str, value: &str) {
        let key = format!("tenants/{tenant}/{name}");
        self.stack.put_object(&key, value).await.unwrap();
    }

    async fn unset(&self, tenant: &TenantId, name: &str) {
        let key = format!("tenants/{tenant}/{name}");
        self.stack.delete_object(&key).await.unwrap();
    }

    async fn set_shared(&self, name: &str, value: &str) -> bool {
        let key = format!("global/{name}");
        self.stack.put_object(&key, value).await.unwrap();
        true
    }
}

#[async_trait]
impl Subject for Secrets<'_> {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn writable(&self) -> bool {
        false
    }

    async fn set(&self, tenant: &TenantId, name: &str, value: &str) {
        let name = format!("tenants/{tenant}/{name}");
        self.stack.put_secret(&name, value).await.unwrap();
    }

    async fn unset(&self, tenant: &TenantId, name: &str) {
        let name = format!("tenants/{tenant}/{name}");
        self.stack.delete_secret(&name).await.unwrap();
    }

    async fn set_shared(&self, name: &str, value: &str) -> bool {
        let name = format!("global/{name}");
        self.stack.put_secret(&name, value).await.unwrap();
        true
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
            history: None,
            kind: Kind::Tenant,
            operator: None,
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
    let store = ParameterStore::new(&stack.sdk, &ParameterStoreConfig::at(&stack.parameter_root));
    conformance::run(&Parameters {
        stack: &stack,
        store,
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn s3() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let config = S3Config::of(&stack.bucket);
    let store = S3Store::new(&stack.sdk, &config);
    conformance::run(&Blobs {
        stack: &stack,
        store,
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn secrets_manager() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    // By ARN, as a deployment does.
    let arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:";
    let config = SecretsManagerConfig::at(&format!("{arn}{}", stack.secret_root));
    let store = SecretsManagerStore::new(&stack.sdk, config);
    conformance::run(&Secrets {
        stack: &stack,
        store,
    })
    .await;
    Ok(())
}

/// In tables of its own, which no invalidator looks at.
#[tokio::test]
async fn every_write_is_in_the_journal_once() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let client = Client::new(&stack.sdk);
    let run = uuid::Uuid::new_v4();
    let tables = [format!("items-{run}"), format!("journal-{run}")];
    for table in &tables {
        create_table(&client, table).await?;
    }
    let [items, entries] = &tables;
    let store = DynamoDbStore::new(
        &stack.sdk,
        DynamoDbConfig {
            journal: Some(entries.clone()),
            history: None,
            kind: Kind::Tenant,
            operator: None,
            table: items.clone(),
        },
    );
    let journal = Journal::new(&stack.sdk, entries.clone());
    let tenant = Issuer::new().tenant("A");
    let begun = now_ms();
    let mut wanted = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let name = ConfigName::parse(name)?;
        let value = NewValue {
            value: &"1".into(),
            content_type: "text/plain",
            author: tester(),
            is_rollback: false,
        };
        let put = store
            .put(&admitted(&tenant), name, value, Precondition::None)
            .await?;
        wanted.push((ChangeKind::Written, put.record.revision.version));
        store
            .delete(&admitted(&tenant), name, Precondition::None, tester())
            .await?;
        wanted.push((ChangeKind::Removed, put.record.revision.version));
    }
    let read = async || anyhow::Ok(journal.read(begun, now_ms()).await?);
    let found = read().await?;
    for change in wanted {
        let entries = found
            .iter()
            .filter(|entry| (entry.kind, entry.revision.version) == change);
        assert_eq!(entries.count(), 1, "{change:?}");
    }
    for entry in &found {
        assert!(!journal.append(entry, now_ms()).await?, "it is there");
    }
    assert_eq!(read().await?.len(), found.len());
    for table in &tables {
        client.delete_table().table_name(table).send().await?;
    }
    Ok(())
}

async fn create_table(client: &Client, table: &str) -> anyhow::Result<()> {
    let mut create = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest);
    for (name, kind) in [("PK", KeyType::Hash), ("SK", KeyType::Range)] {
        create = create
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name(name)
                    .attribute_type(ScalarAttributeType::S)
                    .build()?,
            )
            .key_schema(
                KeySchemaElement::builder()
                    .attribute_name(name)
                    .key_type(kind)
                    .build()?,
            );
    }
    create.send().await?;
    Ok(())
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

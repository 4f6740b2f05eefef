//! What a load test reads: tenants `lt-00001` and on, each with a user and the same keys. Where blobs or secrets are wanted, a few
//! tenants `lt-admin-1` and on have them, each with an admin. A manifest among the items says what there is, so that a run can use
//! it and `unseed` remove it, from any machine.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context;
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, DeleteRequest, PutRequest, WriteRequest},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{
    Ended,
    accounts::{Accounts, Role, failed},
    blobs::Bucket,
    cli::{SeedOptions, Shape, UnseedOptions},
    progress,
    secrets::Secrets,
    stop::Stop,
    targets::{self, Targets, need},
};

/// Tenants that are created or removed concurrently. Cognito allows few administrators' calls a second; the SDK backs off.
const AT_ONCE: usize = 8;
/// Items in one BatchWriteItem.
const BATCH: usize = 25;
/// The tenant that holds the manifest. No user has it.
const MANIFEST_TENANT: &str = "lt-manifest";
const MANIFEST: &str = "loadtest/manifest";
/// Tenants with an admin, each of which has blobs and a secret where those are wanted: as many as there are others, and at most
/// four.
const ADMINS: u32 = 4;
const ADMIN: &str = "lt-admin-";
/// What the flag's treatment takes off, in percent: a tenth.
pub(crate) const DISCOUNT_PERCENT: u32 = 10;

/// What items are like; another number is another dataset.
const FORMAT: u32 = 1;

/// What was seeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dataset {
    /// Tenants.
    pub(crate) tenants: u32,
    /// Keys of each.
    pub(crate) keys: u32,
    /// Bytes of each value.
    pub(crate) value_bytes: u32,
    /// Whether the admins' tenants have blobs, and secrets.
    #[serde(default)]
    blobs: bool,
    #[serde(default)]
    secrets: bool,
    #[serde(default)]
    format: u32,
    /// False while it is being made.
    #[serde(default)]
    complete: bool,
}

/// The stores of the optional tags, as far as a dataset has something in them.
struct Optional {
    bucket: Option<Bucket>,
    secrets: Option<Secrets>,
}

/// The table, by DynamoDB's own API.
pub(crate) struct Table {
    client: Client,
    name: String,
}

// === impl Dataset ===

impl Dataset {
    /// The dataset of this shape.
    pub(crate) fn of(shape: &Shape) -> Self {
        Self {
            tenants: shape.tenants,
            keys: shape.keys,
            value_bytes: shape.value_bytes,
            blobs: false,
            secrets: false,
            format: FORMAT,
            complete: true,
        }
    }

    /// The same with blobs and secrets, if they are wanted.
    pub(crate) fn with(self, blobs: bool, secrets: bool) -> Self {
        Self {
            blobs,
            secrets,
            ..self
        }
    }

    /// Whether all of another dataset is in this one, to the letter.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.complete && self.can_hold(other)
    }

    /// Whether it will be, once this one is complete.
    fn can_hold(&self, other: &Self) -> bool {
        let alike = Self {
            tenants: other.tenants,
            complete: other.complete,
            blobs: other.blobs,
            secrets: other.secrets,
            ..*self
        };
        let has = |mine: bool, theirs: bool| mine || !theirs;
        self.tenants >= other.tenants
            && has(self.blobs, other.blobs)
            && has(self.secrets, other.secrets)
            && alike == *other
    }

    /// The tenant's id, from 1.
    pub(crate) fn tenant(number: u32) -> String {
        format!("lt-{number:05}")
    }

    /// The same with the blobs and secrets of one that it can hold otherwise.
    fn keeping(self, old: &Self) -> Self {
        let both = self.with(self.blobs || old.blobs, self.secrets || old.secrets);
        if both.can_hold(old) { both } else { self }
    }

    /// The tenants with an admin, where blobs or secrets are wanted.
    pub(crate) fn admins(&self) -> Vec<String> {
        let count = if self.blobs || self.secrets {
            self.tenants.min(ADMINS)
        } else {
            0
        };
        (1..=count)
            .map(|number| format!("{ADMIN}{number}"))
            .collect()
    }

    /// Whether it is one of those.
    pub(crate) fn is_admin(tenant: &str) -> bool {
        tenant.starts_with(ADMIN)
    }

    /// The name of a key, from 1.
    pub(crate) fn name(key: u32) -> String {
        format!("loadtest/k{key:04}")
    }

    /// The value of a key: it names its tenant and itself, so that a wrong answer shows.
    pub(crate) fn value(&self, tenant: &str, key: u32) -> String {
        let mut value = format!(r#"{{"tenant":"{tenant}","key":{key},"pad":""#);
        let end = "\"}";
        let pad = (self.value_bytes as usize).saturating_sub(value.len() + end.len());
        value.extend(std::iter::repeat_n('x', pad));
        value.push_str(end);
        value
    }

    /// The items of a tenant: the keys, and what order-service prices with.
    fn items(&self, tenant: &str) -> Vec<(String, String)> {
        let mut items: Vec<_> = (1..=self.keys)
            .map(|key| (Self::name(key), self.value(tenant, key)))
            .chain(crate::scenarios::writers::seeds(tenant))
            .collect();
        items.push((
            "pricing".to_owned(),
            format!(r#"{{"currency":"USD","discountPercent":"{DISCOUNT_PERCENT}"}}"#),
        ));
        items.push((
            "featureFlagX".to_owned(),
            r#"{"enabled":true,"variant":"treatment"}"#.to_owned(),
        ));
        items
    }
}

// === impl Optional ===

impl Optional {
    async fn of(targets: &Targets, dataset: &Dataset) -> anyhow::Result<Self> {
        let (mut bucket, mut secrets) = (None, None);
        if dataset.blobs {
            bucket = Some(Bucket::of(targets).await?);
        }
        if dataset.secrets {
            secrets = Some(Secrets::of(targets).await?);
        }
        Ok(Self { bucket, secrets })
    }

    async fn seed(&self, tenant: &str) -> anyhow::Result<()> {
        if let Some(bucket) = &self.bucket {
            bucket.seed(tenant).await?;
        }
        if let Some(secrets) = &self.secrets {
            secrets.seed(tenant).await?;
        }
        Ok(())
    }

    async fn clear(&self, tenant: &str) -> anyhow::Result<()> {
        if let Some(bucket) = &self.bucket {
            bucket.clear(tenant).await?;
        }
        if let Some(secrets) = &self.secrets {
            secrets.clear(tenant).await?;
        }
        Ok(())
    }
}

// === impl Table ===

impl Table {
    /// The table of these targets.
    pub(crate) async fn of(targets: &Targets) -> anyhow::Result<Self> {
        Ok(Self {
            name: need(&targets.table, "table")?.to_owned(),
            client: Client::new(&targets::sdk_config().await),
        })
    }

    /// What was seeded, if anything was.
    pub(crate) async fn manifest(&self) -> anyhow::Result<Option<Dataset>> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key(MANIFEST_TENANT, MANIFEST)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failed("GetItem", &error))?;
        let Some(item) = answer.item else {
            return Ok(None);
        };
        let text = item
            .get("configValue")
            .and_then(|value| value.as_s().ok())
            .context("the load test's manifest has no text: run `loadtest unseed`")?;
        serde_json::from_str(text)
            .map(Some)
            .context("the load test's manifest is not what seed writes")
    }

    /// Reads an item that is not there. Whether DynamoDB answered.
    pub(crate) async fn read_absent(&self, tenant: &str, name: &str) -> bool {
        let read = self.client.get_item().table_name(&self.name);
        let read = read.set_key(Some(key(tenant, name))).consistent_read(true);
        read.send().await.is_ok()
    }

    async fn write_manifest(&self, dataset: &Dataset) -> anyhow::Result<()> {
        let item = (MANIFEST.to_owned(), serde_json::to_string(dataset)?);
        self.write(MANIFEST_TENANT, vec![item]).await
    }

    /// Writes items of a tenant, in batches.
    pub(crate) async fn write(
        &self,
        tenant: &str,
        items: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        let put = |(name, value): (String, String)| {
            let mut item = key(tenant, &name);
            item.insert("configValue".to_owned(), AttributeValue::S(value));
            item.insert(
                "contentType".to_owned(),
                AttributeValue::S("application/json".to_owned()),
            );
            let put = PutRequest::builder()
                .set_item(Some(item))
                .build()
                .context("an item")?;
            Ok(WriteRequest::builder().put_request(put).build())
        };
        let requests: anyhow::Result<Vec<_>> = items.into_iter().map(put).collect();
        self.batches(requests?).await
    }

    /// Removes all items of a tenant.
    pub(crate) async fn clear(&self, tenant: &str) -> anyhow::Result<()> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.name)
            .key_condition_expression("PK = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(format!("TENANT#{tenant}")))
            .projection_expression("PK, SK")
            .into_paginator()
            .send();
        let mut requests = Vec::new();
        while let Some(page) = pages.next().await {
            for item in page.map_err(|error| failed("Query", &error))?.items() {
                let delete = DeleteRequest::builder()
                    .set_key(Some(item.clone()))
                    .build()
                    .context("a key")?;
                requests.push(WriteRequest::builder().delete_request(delete).build());
            }
        }
        self.batches(requests).await
    }

    /// Updates one item as an operator's tool does that knows the schema; the version is the caller's choice.
    pub(crate) async fn update(
        &self,
        tenant: &str,
        name: &str,
        value: &str,
        version: i64,
        modified: &str,
    ) -> anyhow::Result<()> {
        self.client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key(tenant, name)))
            .update_expression("SET configValue = :value, version = :version, lastModified = :at, contentType = :type, modifiedBy = :by")
            // One that was thought lost and arrives late must not undo a later one.
            .condition_expression("attribute_not_exists(version) OR version < :version")
            .expression_attribute_values(":value", AttributeValue::S(value.to_owned()))
            .expression_attribute_values(":version", AttributeValue::N(version.to_string()))
            .expression_attribute_values(":at", AttributeValue::S(modified.to_owned()))
            .expression_attribute_values(":type", AttributeValue::S("application/json".to_owned()))
            .expression_attribute_values(":by", AttributeValue::S("loadtest".to_owned()))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| failed("UpdateItem", &error))
    }

    async fn batches(&self, requests: Vec<WriteRequest>) -> anyhow::Result<()> {
        for batch in requests.chunks(BATCH) {
            let mut rest = HashMap::from([(self.name.clone(), batch.to_vec())]);
            for attempt in 0_u64.. {
                let answer = self
                    .client
                    .batch_write_item()
                    .set_request_items(Some(rest))
                    .send()
                    .await
                    .map_err(|error| failed("BatchWriteItem", &error))?;
                rest = answer.unprocessed_items.unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
                anyhow::ensure!(attempt < 10, "DynamoDB throttles: fewer tenants or keys");
                tokio::time::sleep(std::time::Duration::from_millis(50 << attempt)).await;
            }
        }
        Ok(())
    }
}

/// `loadtest seed`.
pub(crate) async fn seed_command(options: SeedOptions, stop: &Stop) -> anyhow::Result<Ended> {
    let targets = Targets::find(&options.place).await?;
    let wanted = Dataset::of(&options.shape).with(options.blobs, options.secrets);
    seed(&targets, wanted, stop).await?;
    if stop.is_set() {
        return Ok(Ended::Interrupted);
    }
    println!(
        "seeded {} tenants with {} keys of {} bytes each; remove them with `loadtest unseed`",
        wanted.tenants, wanted.keys, wanted.value_bytes
    );
    Ok(Ended::Well)
}

/// Makes this dataset; one of another shape is removed first.
pub(crate) async fn seed(targets: &Targets, wanted: Dataset, stop: &Stop) -> anyhow::Result<()> {
    let table = Arc::new(Table::of(targets).await?);
    let accounts = Arc::new(Accounts::of(targets).await?);
    let there = table.manifest().await?;
    let wanted = there.map_or(wanted, |old| wanted.keeping(&old));
    let optional = Optional::of(targets, &wanted).await?;
    // One that is a part of the wanted one is only added to.
    let differs = |old: Dataset| !wanted.can_hold(&old);
    if there.is_some_and(differs) {
        remove(targets, &table, &accounts, stop).await?;
    }
    if stop.is_set() {
        return Ok(());
    }
    // First, so that an interrupted seed can be removed; again at the end, when it is complete.
    let begun = Dataset {
        complete: false,
        ..wanted
    };
    table.write_manifest(&begun).await?;
    let bar = progress::counting("seeding tenants", u64::from(wanted.tenants));
    stream::iter(1..=wanted.tenants)
        .take_until(stop.wait())
        .map(|number| {
            let (table, accounts, bar) = (Arc::clone(&table), Arc::clone(&accounts), bar.clone());
            async move {
                let tenant = Dataset::tenant(number);
                accounts.ensure(&tenant, Role::Writer).await?;
                table.write(&tenant, wanted.items(&tenant)).await?;
                bar.inc(1);
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish_and_clear();
    for tenant in wanted.admins() {
        if !stop.is_set() {
            accounts.ensure(&tenant, Role::Admin).await?;
            optional.seed(&tenant).await?;
        }
    }
    if !stop.is_set() {
        table.write_manifest(&wanted).await?;
    }
    Ok(())
}

/// `loadtest unseed`.
pub(crate) async fn unseed_command(options: UnseedOptions, stop: &Stop) -> anyhow::Result<Ended> {
    let targets = Targets::find(&options.place).await?;
    let table = Arc::new(Table::of(&targets).await?);
    let accounts = Arc::new(Accounts::of(&targets).await?);
    match remove(&targets, &table, &accounts, stop).await? {
        None => println!("nothing was seeded"),
        Some(_) if stop.is_set() => return Ok(Ended::Interrupted),
        Some(old) => println!("removed {} tenants with their users", old.tenants),
    }
    Ok(Ended::Well)
}

async fn remove(
    targets: &Targets,
    table: &Arc<Table>,
    accounts: &Arc<Accounts>,
    stop: &Stop,
) -> anyhow::Result<Option<Dataset>> {
    let Some(old) = table.manifest().await? else {
        return Ok(None);
    };
    let optional = Optional::of(targets, &old).await?;
    let bar = progress::counting("removing tenants", u64::from(old.tenants));
    stream::iter(1..=old.tenants)
        .take_until(stop.wait())
        .map(|number| {
            let (table, accounts, bar) = (Arc::clone(table), Arc::clone(accounts), bar.clone());
            async move {
                let tenant = Dataset::tenant(number);
                table.clear(&tenant).await?;
                accounts.remove(&tenant).await?;
                bar.inc(1);
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish_and_clear();
    for tenant in old.admins() {
        if !stop.is_set() {
            optional.clear(&tenant).await?;
            accounts.remove(&tenant).await?;
        }
    }
    if !stop.is_set() {
        table.clear(MANIFEST_TENANT).await?;
    }
    Ok(Some(old))
}

fn key(tenant: &str, name: &str) -> HashMap<String, AttributeValue> {
    HashMap::from([
        (
            "PK".to_owned(),
            AttributeValue::S(format!("TENANT#{tenant}")),
        ),
        ("SK".to_owned(), AttributeValue::S(format!("CONFIG#{name}"))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_name_their_owner() {
        let dataset = Dataset::of(&Shape {
            tenants: 2,
            keys: 3,
            value_bytes: 200,
        });
        let value = dataset.value("lt-00001", 3);
        assert_eq!(value.len(), 200);
        let parsed: serde_json::Value = serde_json::from_str(&value).unwrap();
        assert_eq!(parsed["tenant"], "lt-00001");
        assert_ne!(value, dataset.value("lt-00002", 3));
        assert_ne!(value, dataset.value("lt-00001", 2));
    }

    #[test]
    fn a_dataset_holds_a_smaller_one_of_its_kind() {
        let of = |tenants, keys| {
            Dataset::of(&Shape {
                tenants,
                keys,
                value_bytes: 100,
            })
        };
        assert!(of(3, 5).holds(&of(3, 5)) && of(3, 5).holds(&of(2, 5)));
        assert!(!of(2, 5).holds(&of(3, 5)) && !of(3, 5).holds(&of(3, 4)));
        let half = Dataset {
            complete: false,
            ..of(3, 5)
        };
        assert!(!half.holds(&of(3, 5)) && half.can_hold(&of(3, 5)));
        let older = serde_json::from_str(r#"{"tenants": 1, "keys": 5, "value_bytes": 100}"#);
        assert!(!of(3, 5).holds(&older.unwrap()), "an older format");
    }

    #[test]
    fn blobs_and_secrets_are_for_a_few_admins_and_added_to_what_is_there() {
        let of = |tenants| {
            Dataset::of(&Shape {
                tenants,
                keys: 5,
                value_bytes: 100,
            })
        };
        assert!(of(20).admins().is_empty());
        let with_both = of(20).with(true, true);
        assert_eq!(with_both.admins().len(), 4);
        assert_eq!(of(1).with(false, true).admins(), ["lt-admin-1"]);
        assert!(Dataset::is_admin("lt-admin-1") && !Dataset::is_admin(&Dataset::tenant(1)));
        assert!(with_both.holds(&of(20)) && with_both.holds(&of(9).with(true, false)));
        assert!(!of(20).with(true, false).holds(&with_both));
        assert!(with_both.can_hold(&of(20)), "only added to");
        assert_eq!(of(30).keeping(&with_both), of(30).with(true, true));
        assert_eq!(of(10).keeping(&with_both), of(10), "made anew");
    }
}

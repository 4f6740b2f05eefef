//! The locations that are updated, each the item or parameter of a tenant of its own, and who updates them.
//!
//! A value names its tenant and counts its versions, in a form that prices an order: the version can be read from the
//! value, and from the price.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use aws_sdk_ssm::{operation::delete_parameter::DeleteParameterError, types::ParameterType};
use parking_lot::Mutex;
use serde_json::Value;
use tagged_config_proto::v1::{PutConfigRequest, config_service_client::ConfigServiceClient};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    accounts::failed,
    cli::Source,
    client::{cents_of, signed},
    dataset::Table,
    staleness::history::Write,
    stop::Stop,
    targets::{self, Targets, need},
    tokens::Caller,
};

/// A writer's own count of its updates of one location, from 1; 0 is what was there before.
pub(crate) type Version = u64;

/// Versions must be less: they are six digits of a price.
pub(crate) const VERSION_LIMIT: Version = 1_000_000;
/// The order that is priced: so that the discount's whole units, and the tax rate's millionths, are versions.
pub(crate) const ORDER_CENTS: u64 = 100_000_000;
/// Tenants' numbers are told apart by so much.
const NUMBERS: u64 = 100;
/// How long a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a location is left alone after a write that failed.
const REST: Duration = Duration::from_secs(10);

const ITEM: &str = "pricing";
const PARAMETER: &str = "tax/rate";

/// A location.
pub(crate) struct Cell {
    /// How it is updated.
    pub(crate) source: Source,
    /// Its tenant's caller.
    pub(crate) caller: Arc<Caller>,
    /// The tenant's number, which a parameter's value names.
    pub(crate) number: u32,
    /// The newest version that a write was begun for.
    pub(crate) issued: AtomicU64,
    /// The newest version that was acknowledged.
    pub(crate) acked: AtomicU64,
    /// The newest version that was given to DynamoDB.
    given: AtomicI64,
    /// Held while it is written: one writer at a time. Until when it rests: a write that failed may yet arrive.
    busy: tokio::sync::Mutex<Option<Instant>>,
}

/// Writes through AWS's own APIs, and through the service's.
pub(crate) struct Writer {
    pub(crate) table: Table,
    ssm: aws_sdk_ssm::Client,
    root: String,
    service: Vec<Channel>,
}

/// A write and where the stores say it is.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    /// For the checker.
    pub(crate) write: Write,
    /// The store's version, to find its receipt by.
    pub(crate) store_version: i64,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
}

/// What one source's writer did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Updates {
    /// In the order in which they were begun.
    pub(crate) made: Vec<Update>,
    /// Those that were due while their location was still being written, or rested.
    pub(crate) passed_over: u64,
}

/// The run's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(pub(crate) Instant);

impl Clock {
    /// Microseconds since the run began.
    pub(crate) fn us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

// === impl Cell ===

impl Cell {
    /// A location of this tenant, not updated yet.
    pub(crate) fn new(source: Source, caller: Arc<Caller>, number: u32) -> Self {
        Self {
            source,
            caller,
            number,
            issued: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            given: AtomicI64::new(0),
            busy: tokio::sync::Mutex::default(),
        }
    }

    /// Its key.
    pub(crate) fn key(&self) -> String {
        match self.source {
            Source::Dynamodb | Source::PutConfig => format!("tenant_config_{ITEM}"),
            Source::ParameterStore => format!("param_config_{PARAMETER}"),
        }
    }

    /// For people.
    pub(crate) fn name(&self) -> String {
        format!("{} of {}", self.key(), self.caller.tenant)
    }

    /// As the invalidator's receipts name it.
    pub(crate) fn location(&self, root: &str) -> String {
        match self.source {
            Source::Dynamodb | Source::PutConfig => {
                format!("dynamodb:TENANT#{}/CONFIG#{ITEM}", self.caller.tenant)
            }
            Source::ParameterStore => {
                format!(
                    "parameter-store:{root}/tenants/{}/{PARAMETER}",
                    self.caller.tenant
                )
            }
        }
    }

    fn value(&self, version: Version) -> String {
        match self.source {
            Source::Dynamodb | Source::PutConfig => {
                let cents = version * NUMBERS + u64::from(self.number) % NUMBERS;
                format!(
                    r#"{{"tenant":"{}","currency":"USD","discountPercent":"{}.{:06}","v":{version}}}"#,
                    self.caller.tenant,
                    cents / 1_000_000,
                    cents % 1_000_000
                )
            }
            Source::ParameterStore => format!("0.{version:06}{:03}", self.number),
        }
    }

    /// The version that a value shows, and whether it is this tenant's own; `None` if it is no such value.
    pub(crate) fn version_of(&self, value: &str) -> Option<(Version, bool)> {
        match self.source {
            Source::Dynamodb | Source::PutConfig => {
                let value: Value = serde_json::from_str(value).ok()?;
                Some((
                    value["v"].as_u64()?,
                    value["tenant"].as_str()? == &*self.caller.tenant,
                ))
            }
            Source::ParameterStore => self.of_rate(value),
        }
    }

    /// The same of a priced order.
    pub(crate) fn version_of_order(&self, order: &Value) -> Option<(Version, bool)> {
        match self.source {
            Source::Dynamodb | Source::PutConfig => {
                let cents = cents_of(order["discount"].as_str()?)?;
                let own = cents % NUMBERS == u64::from(self.number) % NUMBERS;
                Some((cents / NUMBERS, own))
            }
            Source::ParameterStore => self.of_rate(order["taxRate"].as_str()?),
        }
    }

    fn of_rate(&self, rate: &str) -> Option<(Version, bool)> {
        let digits = rate.strip_prefix("0.").filter(|digits| digits.len() == 9)?;
        let (version, number) = digits.split_at_checked(6)?;
        Some((
            version.parse().ok()?,
            number.parse::<u32>().ok()? == self.number,
        ))
    }
}

// === impl Writer ===

impl Writer {
    /// Of these targets.
    pub(crate) async fn of(
        targets: &Targets,
        sources: &[Source],
        service: Vec<Channel>,
    ) -> anyhow::Result<Self> {
        let root = if sources.contains(&Source::ParameterStore) {
            need(&targets.parameter_root, "parameter-root")?
        } else {
            &targets.parameter_root
        };
        Ok(Self {
            table: Table::of(targets).await?,
            ssm: aws_sdk_ssm::Client::new(&targets::sdk_config().await),
            root: root.to_owned(),
            service,
        })
    }

    /// Makes what order-service needs of a tenant, and the location itself in version 0.
    pub(crate) async fn prepare(&self, cell: &Cell) -> anyhow::Result<()> {
        let tenant = &cell.caller.tenant;
        if cell.source == Source::ParameterStore {
            return self
                .put_parameter(cell, &cell.value(0))
                .await
                .map(|_| ())
                .context("Parameter Store");
        }
        let flag = (
            "featureFlagX".to_owned(),
            r#"{"enabled":true,"variant":"treatment"}"#.to_owned(),
        );
        let item = (ITEM.to_owned(), cell.value(0));
        self.table.write(tenant, vec![flag, item]).await
    }

    /// Removes the tenant's parameter.
    pub(crate) async fn remove_parameter(&self, tenant: &str) -> anyhow::Result<()> {
        let removed = self
            .ssm
            .delete_parameter()
            .name(self.parameter(tenant))
            .send()
            .await;
        match removed {
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DeleteParameterError::is_parameter_not_found) =>
            {
                Ok(())
            }
            other => other
                .map(|_| ())
                .map_err(|error| failed("DeleteParameter", &error)),
        }
    }

    /// Updates; the store's version.
    pub(crate) async fn write(&self, cell: &Cell, version: Version) -> anyhow::Result<i64> {
        let value = cell.value(version);
        match cell.source {
            Source::Dynamodb => {
                let now = time::OffsetDateTime::now_utc();
                let modified = now.format(&time::format_description::well_known::Rfc3339)?;
                let millis = i64::try_from(now.unix_timestamp_nanos() / 1_000_000)?;
                // One writer at a time: nobody else gives one meanwhile.
                let given = millis.max(cell.given.load(Ordering::Acquire) + 1);
                cell.given.store(given, Ordering::Release);
                self.table
                    .update(&cell.caller.tenant, ITEM, &value, given, &modified)
                    .await?;
                Ok(given)
            }
            Source::PutConfig => {
                let index = usize::try_from(version).unwrap_or(0) % self.service.len();
                let request = PutConfigRequest {
                    key: cell.key(),
                    value,
                    ..Default::default()
                };
                let mut client = ConfigServiceClient::new(self.service[index].clone());
                let written = client
                    .put_config(signed(request, &cell.caller.token(), WRITE_TIMEOUT))
                    .await
                    .map_err(|status| {
                        anyhow::anyhow!("PutConfig: {}", crate::client::code_name(status.code()))
                    })?;
                Ok(written.into_inner().version)
            }
            Source::ParameterStore => self.put_parameter(cell, &value).await,
        }
    }

    async fn put_parameter(&self, cell: &Cell, value: &str) -> anyhow::Result<i64> {
        let written = self
            .ssm
            .put_parameter()
            .name(self.parameter(&cell.caller.tenant))
            .value(value)
            .r#type(ParameterType::String)
            .overwrite(true)
            .send()
            .await
            .map_err(|error| failed("PutParameter", &error))?;
        Ok(written.version())
    }

    fn parameter(&self, tenant: &str) -> String {
        format!("{}/tenants/{tenant}/{PARAMETER}", self.root)
    }
}

/// Updates the cells of one source in turn, at a rate, for a time. A cell that is still being written is passed over.
pub(crate) async fn update_at(
    rate: f64,
    duration: Duration,
    cells: Vec<(usize, Arc<Cell>)>,
    writer: Arc<Writer>,
    clock: Clock,
    stop: Stop,
) -> Updates {
    let updates = Arc::new(Mutex::new(Vec::new()));
    let passed_over = Arc::new(AtomicU64::new(0));
    let mut interval = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    let begun = Instant::now();
    let mut next = 0;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = stop.wait() => break,
        }
        if begun.elapsed() >= duration {
            break;
        }
        next += 1;
        let (index, cell) = cells[next % cells.len()].clone();
        let (writer, updates) = (Arc::clone(&writer), Arc::clone(&updates));
        let passed_over = Arc::clone(&passed_over);
        under_way.spawn(async move {
            let rests = |until: Option<Instant>| until.is_some_and(|until| Instant::now() < until);
            let Some(mut rest) = cell.busy.try_lock().ok().filter(|until| !rests(**until)) else {
                passed_over.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let version = cell.issued.fetch_add(1, Ordering::AcqRel) + 1;
            if version >= VERSION_LIMIT {
                return;
            }
            let issued_us = clock.us();
            let written = tokio::time::timeout(WRITE_TIMEOUT, writer.write(&cell, version)).await;
            let acked_us = clock.us();
            let (store_version, failure) = match written {
                Ok(Ok(version)) => (version, None),
                Ok(Err(error)) => (0, Some(format!("{error:#}"))),
                Err(_) => (0, Some("no answer in time".to_owned())),
            };
            if failure.is_none() {
                cell.acked.fetch_max(version, Ordering::AcqRel);
            } else {
                *rest = Some(Instant::now() + REST);
            }
            updates.lock().push(Update {
                write: Write {
                    cell: index,
                    version,
                    issued_us,
                    acked_us: failure.is_none().then_some(acked_us),
                },
                store_version,
                failure,
            });
        });
    }
    while under_way.join_next().await.is_some() {}
    let mut updates = std::mem::take(&mut *updates.lock());
    updates.sort_by_key(|update| update.write.issued_us);
    Updates {
        made: updates,
        passed_over: passed_over.load(Ordering::Relaxed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(source: Source) -> Cell {
        Cell::new(
            source,
            crate::tokens::tests::callers(&["lt-s1"]).remove(0),
            7,
        )
    }

    #[test]
    fn a_version_can_be_read_from_value_and_price() {
        for source in [Source::Dynamodb, Source::ParameterStore] {
            let cell = cell(source);
            for version in [0, 1, 9_999, 10_000, 999_999] {
                assert_eq!(cell.version_of(&cell.value(version)), Some((version, true)));
            }
        }
        let item = cell(Source::Dynamodb);
        let order = serde_json::json!({"discount": "123.07", "taxRate": "0.000123007"});
        assert_eq!(item.version_of_order(&order), Some((123, true)));
        let of_another = serde_json::json!({"discount": "123.08"});
        assert_eq!(item.version_of_order(&of_another), Some((123, false)));
        let parameter = cell(Source::ParameterStore);
        assert_eq!(parameter.version_of_order(&order), Some((123, true)));
        assert_eq!(
            parameter.version_of("0.000123008"),
            Some((123, false)),
            "another tenant's"
        );
        for other in ["0.19", "", "x", "0.00012300é", "1.000123007"] {
            assert_eq!(parameter.version_of(other), None, "{other}");
        }
        assert_eq!(item.version_of("{}"), None);
    }

    /// What order-service makes of it: the discount is the version, and the tenant's number in its cents.
    #[test]
    fn a_version_makes_a_price() {
        let value: Value = serde_json::from_str(&cell(Source::Dynamodb).value(12_345)).unwrap();
        let percent: f64 = value["discountPercent"].as_str().unwrap().parse().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "a constant")]
        let discount = ORDER_CENTS as f64 / 100.0 * percent / 100.0;
        assert!((discount - 12_345.07).abs() < 1e-6, "{discount}");
    }
}

//! The locations that are updated, each the item, parameter or object of a tenant of its own, and who updates them.
//!
//! A value names its tenant and counts its versions, in a form that prices an order: the version can be read from the
//! value, and, unless it is an object's, from the price.

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
use rand::{SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Exp};
use serde_json::Value;
use tagged_config_proto::v1::{PutConfigRequest, config_service_client::ConfigServiceClient};
use tokio::{sync::watch, task::JoinSet};
use tonic::transport::Channel;

use crate::{
    accounts::failed,
    blobs::Bucket,
    cli::Source,
    client::{cents_of, signed},
    dataset::Table,
    staleness::history::{Shown, Write},
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
/// Tenants differ in their numbers modulo this.
const NUMBERS: u64 = 100;
/// How long a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a location is left alone after a write that failed.
const REST: Duration = Duration::from_secs(10);

const ITEM: &str = "pricing";
const PARAMETER: &str = "tax/rate";
const OBJECT: &str = "loadtest/cell";

/// A location.
pub(crate) struct Cell {
    /// How it is updated.
    pub(crate) source: Source,
    /// Its tenant's caller.
    pub(crate) caller: Arc<Caller>,
    /// The tenant's number, which a parameter's value names.
    pub(crate) number: u32,
    /// The newest version that a write was begun for. Observers wait for its changes.
    pub(crate) issued: watch::Sender<Version>,
    /// The newest version that was acknowledged.
    pub(crate) acked: AtomicU64,
    /// The newest version whose write failed: no observer waits for it.
    failed: AtomicU64,
    /// The newest version that was given to DynamoDB or S3.
    given: AtomicI64,
    /// Held while it is written: one writer at a time. Until when it rests: a write that failed may yet arrive.
    busy: tokio::sync::Mutex<Option<Instant>>,
}

/// Writes through AWS's own APIs, and through the service's.
pub(crate) struct Writer {
    pub(crate) table: Table,
    ssm: aws_sdk_ssm::Client,
    root: String,
    /// Where objects are updated.
    bucket: Option<Bucket>,
    service: Vec<Channel>,
}

/// A write and where the stores say it is.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    /// For the checker.
    pub(crate) write: Write,
    /// The store's version, to find its receipt and its entry in the change history by. Of a write that failed: what the store
    /// was given, 0 if it gives versions itself.
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

/// Where the writes of a location stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The newest version that a write was begun for.
    pub(crate) issued: Version,
    /// The newest version that the store was given; 0 if it gives versions itself.
    pub(crate) given: i64,
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
            issued: watch::Sender::new(0),
            acked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            given: AtomicI64::new(0),
            busy: tokio::sync::Mutex::default(),
        }
    }

    /// Where its writes stand now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            issued: *self.issued.borrow(),
            given: self.given.load(Ordering::Acquire),
        }
    }

    /// The newest version that may become visible, where `issued` is the newest that was begun.
    pub(crate) fn awaited(&self, issued: Version) -> Version {
        if self.failed.load(Ordering::Acquire) == issued {
            self.acked.load(Ordering::Acquire)
        } else {
            issued
        }
    }

    /// Its key.
    pub(crate) fn key(&self) -> String {
        match self.source {
            Source::Dynamodb | Source::PutConfig => format!("tenant_config_{ITEM}"),
            Source::ParameterStore => format!("param_config_{PARAMETER}"),
            Source::S3 => format!("blob_config_{OBJECT}"),
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
            Source::S3 => format!("s3:tenants/{}/{OBJECT}", self.caller.tenant),
        }
    }

    /// The version that the store is given: the time in unix milliseconds, and above the last one. One writer at a time: nobody
    /// else gives one meanwhile.
    fn give(&self, now: time::OffsetDateTime) -> anyhow::Result<i64> {
        let millis = i64::try_from(now.unix_timestamp_nanos() / 1_000_000)?;
        let given = millis.max(self.given.load(Ordering::Acquire) + 1);
        self.given.store(given, Ordering::Release);
        Ok(given)
    }

    fn value(&self, version: Version) -> String {
        match self.source {
            Source::Dynamodb | Source::PutConfig | Source::S3 => {
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

    /// What a value of this location's key shows.
    pub(crate) fn shown(&self, value: &str) -> Shown {
        let (version, own) = match self.source {
            Source::Dynamodb | Source::PutConfig | Source::S3 => {
                let Ok(parsed) = serde_json::from_str::<Value>(value) else {
                    return Shown::Torn;
                };
                let (Some(version), Some(tenant)) =
                    (parsed["v"].as_u64(), parsed["tenant"].as_str())
                else {
                    return Shown::Torn;
                };
                (version, tenant == &*self.caller.tenant)
            }
            Source::ParameterStore => match version_and_number(value) {
                Some((version, number)) => (version, number == self.number),
                None => return Shown::Torn,
            },
        };
        if !own {
            Shown::Foreign
        } else if version < VERSION_LIMIT && value == self.value(version) {
            Shown::Version(version)
        } else {
            Shown::Torn
        }
    }

    /// What a priced order shows of it. `None` if it is no such order.
    pub(crate) fn shown_by_order(&self, order: &Value) -> Option<Shown> {
        let own_number = u64::from(self.number) % NUMBERS;
        let (version, own) = match self.source {
            Source::Dynamodb | Source::PutConfig => {
                let cents = cents_of(order["discount"].as_str()?)?;
                // No discount is what an order without configuration has.
                if cents == 0 && own_number != 0 {
                    return Some(Shown::Absent);
                }
                (cents / NUMBERS, cents % NUMBERS == own_number)
            }
            Source::ParameterStore => match version_and_number(order["taxRate"].as_str()?) {
                Some((version, number)) => (version, number == self.number),
                // The shared default.
                None => return Some(Shown::Absent),
            },
            // No price depends on an object.
            Source::S3 => return None,
        };
        Some(if own {
            Shown::Version(version)
        } else {
            Shown::Foreign
        })
    }
}

/// The version and the tenant's number that a rate shows; `None` if it is no rate of these.
fn version_and_number(rate: &str) -> Option<(Version, u32)> {
    let digits = rate.strip_prefix("0.").filter(|digits| digits.len() == 9)?;
    let (version, number) = digits.split_at_checked(6)?;
    Some((version.parse().ok()?, number.parse().ok()?))
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
            bucket: if sources.contains(&Source::S3) {
                Some(Bucket::of(targets).await?)
            } else {
                None
            },
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
        if cell.source == Source::S3 {
            return self.put_object(cell, cell.value(0)).await.map(|_| ());
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

    /// Removes the tenant's object.
    pub(crate) async fn remove_object(&self, tenant: &str) -> anyhow::Result<()> {
        match &self.bucket {
            Some(bucket) => bucket.remove(tenant, OBJECT).await,
            None => Ok(()),
        }
    }

    /// Updates; the store's version.
    pub(crate) async fn write(&self, cell: &Cell, version: Version) -> anyhow::Result<i64> {
        let value = cell.value(version);
        match cell.source {
            Source::Dynamodb => {
                let now = time::OffsetDateTime::now_utc();
                let modified = now.format(&time::format_description::well_known::Rfc3339)?;
                let given = cell.give(now)?;
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
            Source::S3 => self.put_object(cell, value).await,
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

    async fn put_object(&self, cell: &Cell, value: String) -> anyhow::Result<i64> {
        let bucket = self.bucket.as_ref().context("there is no bucket")?;
        let given = cell.give(time::OffsetDateTime::now_utc())?;
        let update = bucket.update(&cell.caller.tenant, OBJECT, value, given);
        update.await?;
        Ok(given)
    }

    fn parameter(&self, tenant: &str) -> String {
        format!("{}/tenants/{tenant}/{PARAMETER}", self.root)
    }
}

/// Updates the cells of one source, round-robin, for a time. The gaps are drawn from an exponential distribution with this mean
/// rate, so that updates meet every phase of whatever is periodic. A cell that is still being written is passed over.
pub(crate) async fn update_at(
    rate: f64,
    duration: Duration,
    cells: Vec<(usize, Arc<Cell>)>,
    writer: Arc<Writer>,
    clock: Clock,
    stop: Stop,
    seed: u64,
) -> anyhow::Result<Updates> {
    let updates = Arc::new(Mutex::new(Vec::new()));
    let passed_over = Arc::new(AtomicU64::new(0));
    let mut under_way = JoinSet::new();
    let begun = tokio::time::Instant::now();
    for (next, at) in gaps(rate, duration, seed)?.enumerate() {
        tokio::select! {
            () = tokio::time::sleep_until(begun + at) => {}
            () = stop.wait() => break,
        }
        let (index, cell) = cells[next % cells.len()].clone();
        let (writer, updates) = (Arc::clone(&writer), Arc::clone(&updates));
        let passed_over = Arc::clone(&passed_over);
        under_way.spawn(async move {
            let rests = |until: Option<Instant>| until.is_some_and(|until| Instant::now() < until);
            let Some(mut rest) = cell.busy.try_lock().ok().filter(|until| !rests(**until)) else {
                passed_over.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let version = *cell.issued.borrow() + 1;
            if version >= VERSION_LIMIT {
                return;
            }
            let issued_us = clock.us();
            cell.issued.send_replace(version);
            let written = tokio::time::timeout(WRITE_TIMEOUT, writer.write(&cell, version)).await;
            let acked_us = clock.us();
            let (store_version, failure) = match written {
                Ok(Ok(version)) => (version, None),
                Ok(Err(error)) => (cell.mark().given, Some(format!("{error:#}"))),
                Err(_) => (cell.mark().given, Some("no answer in time".to_owned())),
            };
            if failure.is_none() {
                cell.acked.fetch_max(version, Ordering::AcqRel);
            } else {
                cell.failed.store(version, Ordering::Release);
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
    Ok(Updates {
        made: updates,
        passed_over: passed_over.load(Ordering::Relaxed),
    })
}

/// When updates are due, from the beginning on. The same seed gives the same times.
fn gaps(
    rate: f64,
    duration: Duration,
    seed: u64,
) -> anyhow::Result<impl Iterator<Item = Duration>> {
    let law = Exp::new(rate).context("the rate of updates")?;
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut at = 0.0;
    Ok(std::iter::from_fn(move || {
        at += law.sample(&mut rng);
        (at < duration.as_secs_f64()).then(|| Duration::from_secs_f64(at))
    }))
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
        for source in [Source::Dynamodb, Source::ParameterStore, Source::S3] {
            let cell = cell(source);
            for version in [0, 1, 9_999, 10_000, 999_999] {
                assert_eq!(cell.shown(&cell.value(version)), Shown::Version(version));
            }
        }
        let item = cell(Source::Dynamodb);
        let priced =
            |discount: &str, tax: &str| serde_json::json!({"discount": discount, "taxRate": tax});
        let order = priced("123.07", "0.000123007");
        assert_eq!(item.shown_by_order(&order), Some(Shown::Version(123)));
        assert_eq!(
            item.shown_by_order(&priced("123.08", "")),
            Some(Shown::Foreign)
        );
        assert_eq!(
            item.shown_by_order(&priced("0.00", "")),
            Some(Shown::Absent)
        );
        assert_eq!(item.shown_by_order(&serde_json::json!({})), None);
        let parameter = cell(Source::ParameterStore);
        assert_eq!(parameter.shown_by_order(&order), Some(Shown::Version(123)));
        assert_eq!(
            parameter.shown_by_order(&priced("", "0.19")),
            Some(Shown::Absent)
        );
        assert_eq!(parameter.shown("0.000123008"), Shown::Foreign);
        assert_eq!(cell(Source::S3).shown_by_order(&order), None);
        for other in ["0.19", "", "x", "0.00012300é", "1.000123007"] {
            assert_eq!(parameter.shown(other), Shown::Torn, "{other}");
        }
    }

    #[test]
    fn versions_that_are_given_rise() -> anyhow::Result<()> {
        let (cell, now) = (cell(Source::S3), time::OffsetDateTime::UNIX_EPOCH);
        assert_eq!((cell.give(now)?, cell.give(now)?), (1, 2));
        let later = now + time::Duration::seconds(1);
        assert_eq!((cell.give(later)?, cell.give(now)?), (1_000, 1_001));
        assert_eq!((cell.mark().issued, cell.mark().given), (0, 1_001));
        assert_eq!(cell.location(""), "s3:tenants/lt-s1/loadtest/cell");
        Ok(())
    }

    #[test]
    fn a_mix_of_two_versions_is_torn() {
        let cell = cell(Source::Dynamodb);
        let value = cell.value(12);
        let mixed = value.replace("\"v\":12", "\"v\":13");
        assert_ne!(mixed, value);
        for torn in [
            &mixed,
            &value[..value.len() - 1],
            "{}",
            &format!("{value} "),
        ] {
            assert_eq!(cell.shown(torn), Shown::Torn, "{torn}");
        }
        assert_eq!(cell.shown(&value.replace("lt-s1", "lt-s2")), Shown::Foreign);
    }

    #[test]
    fn updates_keep_their_mean_rate_and_no_phase() -> anyhow::Result<()> {
        let of = |seed| gaps(5.0, Duration::from_secs(2_000), seed).map(Vec::from_iter);
        let due = of(7)?;
        assert!((9_500..10_500).contains(&due.len()), "{}", due.len());
        // As many in each tenth of the 200 ms that a fixed rate would have between two.
        let phase = |at: &Duration| usize::try_from(at.as_millis() % 200 / 20).unwrap();
        let mut phases = [0; 10];
        for at in &due {
            phases[phase(at)] += 1;
        }
        assert!(
            phases.iter().all(|count| (800..1_200).contains(count)),
            "{phases:?}"
        );
        assert_eq!(due, of(7)?);
        assert_ne!(due, of(8)?);
        Ok(())
    }

    /// What order-service makes of it: the discount is the version, and the tenant's number in its cents.
    #[test]
    fn a_version_makes_a_price() {
        let value: Value = serde_json::from_str(&cell(Source::Dynamodb).value(12_345)).unwrap();
        let percent: f64 = value["discountPercent"].as_str().unwrap().parse().unwrap();
        let discount = ORDER_CENTS as f64 / 100.0 * percent / 100.0;
        assert!((discount - 12_345.07).abs() < 1e-6, "{discount}");
    }
}

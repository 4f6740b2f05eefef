//! Admission control. A [`Gate`] weighs what an operation costs against what its tenant may use, and makes an
//! [`Admitted`] of it; every method of [`Store`](crate::Store) takes one, so that a path which forgets the gate does not
//! compile. An answer needs an [`AnswerPermit`], which only the gate makes, too.
//!
//! Quotas are token buckets that may go into debt: an operation is admitted while its tenant's balance is positive, and is
//! charged what it turns out to cost. So one large operation is paid for by a longer wait afterwards.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use thiserror::Error;

use crate::{Backend, TenantId};

/// Tenants whose use is remembered; a forgotten one starts anew.
const TENANTS: usize = 10_000;
/// Answers of fewer bytes are not counted: a caller has fewer of them under way than it takes to matter, and the hot path
/// pays nothing for them.
pub const SMALL_ANSWER_BYTES: u64 = 16 * 1024;
/// The part of the answers' memory that one tenant may use: one in so many.
const ANSWER_SHARE: u64 = 4;
/// After this time an answer's memory may be free again.
const ANSWER_RETRY: Duration = Duration::from_millis(500);

/// What all tenants share, and each may use a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Reads of a backend. Unit: what the backend bills, see [`Store::read_quota`](crate::Store::read_quota).
    Reads(Backend),
    /// Consistent reads that bypass the cache (`min_version`). Unit: one read.
    ForcedReads,
    /// Writes and deletes, each with its entry in the change journal. Unit: one write.
    Writes,
    /// Watches that are opened. Unit: one key.
    WatchedKeys,
    /// Requests that neither read a backend nor build a large answer. Unit: one request.
    Requests,
}

/// How much a tenant may use of a [`Resource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Units that become available each second. Not 0.
    pub per_second: u32,
    /// Units that are available at once after a quiet time. Not 0.
    pub burst: u32,
}

/// The quotas, and what each tenant has used of them. One per process.
pub struct Gate {
    quotas: Vec<(Resource, Quota)>,
    tenants: Cache<TenantId, Arc<Account>>,
    answers: Arc<AtomicU64>,
    bodies: Arc<AtomicU64>,
    /// For answers, and as much for bodies.
    memory: u64,
}

/// Proof that the gate admitted an operation of a tenant. Cheap to clone.
#[derive(Clone)]
pub struct Admitted {
    tenant: TenantId,
    account: Arc<Account>,
    resource: Resource,
}

/// Memory that an answer may use until it is sent, or a request's body until it is written; returned when it is dropped.
#[derive(Debug, Default)]
pub struct AnswerPermit(Option<CountedBytes>);

#[derive(Debug)]
struct CountedBytes {
    all: Arc<AtomicU64>,
    of_tenant: Arc<AtomicU64>,
    bytes: u64,
}

/// The tenant has used its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many {what} of this tenant; try again in {} ms", retry_after.as_millis())]
pub struct Refused {
    /// Of what; completes "too many ...".
    pub what: &'static str,
    /// When a retry may succeed.
    pub retry_after: Duration,
}

/// What one tenant has used.
struct Account {
    buckets: Vec<(Resource, Bucket)>,
    answers: Arc<AtomicU64>,
    bodies: Arc<AtomicU64>,
}

/// A token bucket that may go into debt.
struct Bucket {
    quota: Quota,
    balance: Mutex<(f64, Instant)>,
}

// === impl Resource ===

impl Resource {
    fn what(self) -> &'static str {
        match self {
            Self::Reads(_) => "reads that the cache cannot answer",
            Self::ForcedReads => "reads with min_version",
            Self::Writes => "writes",
            Self::WatchedKeys => "keys of new watches",
            Self::Requests => "requests",
        }
    }
}

// === impl Gate ===

impl Gate {
    /// A gate with these quotas for each tenant, and for all so many bytes of answers under way, and as many of bodies. A
    /// resource without a quota admits nothing.
    pub fn new(quotas: impl IntoIterator<Item = (Resource, Quota)>, memory: u64) -> Self {
        Self {
            quotas: quotas.into_iter().collect(),
            tenants: Cache::new(TENANTS),
            answers: Arc::default(),
            bodies: Arc::default(),
            memory,
        }
    }

    /// Admits an operation that costs at least so many units.
    pub fn admit(
        &self,
        tenant: &TenantId,
        resource: Resource,
        units: u32,
    ) -> Result<Admitted, Refused> {
        let account = self.account(tenant);
        account
            .bucket(resource)
            .map_or(Err(Duration::from_secs(1)), |bucket| {
                bucket.take(units, Instant::now())
            })
            .map_err(|retry_after| Refused {
                what: resource.what(),
                retry_after,
            })?;
        Ok(Admitted {
            tenant: tenant.clone(),
            account,
            resource,
        })
    }

    /// Memory for an answer of so many bytes.
    pub fn admit_answer(&self, tenant: &TenantId, bytes: u64) -> Result<AnswerPermit, Refused> {
        if bytes < SMALL_ANSWER_BYTES {
            return Ok(AnswerPermit(None));
        }
        let used = (&self.answers, &self.account(tenant).answers);
        self.admit_memory(used, bytes, "large answers under way")
    }

    /// Memory for a request's body of so many bytes.
    pub fn admit_body(&self, tenant: &TenantId, bytes: u64) -> Result<AnswerPermit, Refused> {
        if bytes < SMALL_ANSWER_BYTES {
            return Ok(AnswerPermit(None));
        }
        let used = (&self.bodies, &self.account(tenant).bodies);
        self.admit_memory(used, bytes, "large values being written")
    }

    fn admit_memory(
        &self,
        (all, of_tenant): (&Arc<AtomicU64>, &Arc<AtomicU64>),
        bytes: u64,
        what: &'static str,
    ) -> Result<AnswerPermit, Refused> {
        let counted = CountedBytes::count(all, of_tenant, bytes);
        let of_tenant = counted.of_tenant.load(Ordering::Relaxed);
        let all = counted.all.load(Ordering::Relaxed);
        // One fits, however small the budget is.
        let is_first = of_tenant == bytes;
        let is_too_much = all > self.memory || of_tenant > self.memory / ANSWER_SHARE;
        if is_too_much && !is_first {
            return Err(Refused {
                what,
                retry_after: ANSWER_RETRY,
            });
        }
        Ok(AnswerPermit(Some(counted)))
    }

    /// Bytes of answers under way that are counted.
    pub fn answer_bytes(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    fn account(&self, tenant: &TenantId) -> Arc<Account> {
        let account = self.tenants.get_or_insert_with(tenant, || {
            Ok::<_, Infallible>(Arc::new(Account::new(&self.quotas)))
        });
        let Ok(account) = account;
        account
    }
}

// === impl Admitted ===

impl Admitted {
    /// The tenant whose operation it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Charges what the operation cost beyond what it was admitted for.
    pub fn charge(&self, units: u32) {
        if units > 0
            && let Some(bucket) = self.account.bucket(self.resource)
        {
            bucket.charge(units, Instant::now());
        }
    }
}

// === impl AnswerPermit ===

impl AnswerPermit {
    /// Whether the answer is so large that its memory is counted.
    pub fn is_counted(&self) -> bool {
        self.0.is_some()
    }
}

impl CountedBytes {
    fn count(all: &Arc<AtomicU64>, of_tenant: &Arc<AtomicU64>, bytes: u64) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        of_tenant.fetch_add(bytes, Ordering::Relaxed);
        Self {
            all: Arc::clone(all),
            of_tenant: Arc::clone(of_tenant),
            bytes,
        }
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of_tenant.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

// === impl Account ===

impl Account {
    fn new(quotas: &[(Resource, Quota)]) -> Self {
        let bucket = |(resource, quota): &(Resource, Quota)| (*resource, Bucket::full(*quota));
        Self {
            buckets: quotas.iter().map(bucket).collect(),
            answers: Arc::default(),
            bodies: Arc::default(),
        }
    }

    fn bucket(&self, resource: Resource) -> Option<&Bucket> {
        let mut buckets = self.buckets.iter();
        buckets
            .find(|(of, _)| *of == resource)
            .map(|(_, bucket)| bucket)
    }
}

// === impl Bucket ===

impl Bucket {
    fn full(quota: Quota) -> Self {
        Self {
            quota,
            balance: Mutex::new((f64::from(quota.burst), Instant::now())),
        }
    }

    /// Takes units if the balance is positive; the debt that this may leave is paid by time.
    fn take(&self, units: u32, now: Instant) -> Result<(), Duration> {
        let mut balance = self.refilled(now);
        if balance.0 < 1.0 {
            let missing = 1.0 - balance.0;
            return Err(Duration::from_secs_f64(
                missing / f64::from(self.quota.per_second.max(1)),
            ));
        }
        balance.0 -= f64::from(units);
        Ok(())
    }

    fn charge(&self, units: u32, now: Instant) {
        self.refilled(now).0 -= f64::from(units);
    }

    fn refilled(&self, now: Instant) -> parking_lot::MutexGuard<'_, (f64, Instant)> {
        let mut balance = self.balance.lock();
        let passed = now.saturating_duration_since(balance.1).as_secs_f64();
        let earned = passed * f64::from(self.quota.per_second);
        balance.0 = (balance.0 + earned).min(f64::from(self.quota.burst));
        balance.1 = balance.1.max(now);
        balance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READS: Resource = Resource::Reads(Backend("memory"));

    fn gate(per_second: u32, burst: u32) -> Gate {
        Gate::new([(READS, Quota { per_second, burst })], 1 << 20)
    }

    fn tenant(id: &str) -> TenantId {
        TenantId::of_test(id)
    }

    #[test]
    fn a_tenant_uses_up_its_own_quota_only() {
        let gate = gate(1, 1);
        let (a, b) = (tenant("A"), tenant("B"));
        assert!(gate.admit(&a, READS, 1).is_ok());
        let refused = gate.admit(&a, READS, 1).err().unwrap();
        assert!(refused.retry_after.as_millis() > 500 && refused.retry_after.as_millis() <= 1_000);
        assert!(gate.admit(&b, READS, 1).is_ok());
    }

    #[test]
    fn what_an_operation_turns_out_to_cost_is_paid_by_waiting() {
        let bucket = Bucket::full(Quota {
            per_second: 100,
            burst: 200,
        });
        let start = Instant::now();
        assert_eq!(bucket.take(1, start), Ok(()));
        bucket.charge(299, start);
        let wait = bucket.take(1, start).unwrap_err();
        assert_eq!(wait.as_millis(), 1_010);
        assert_eq!(bucket.take(1, start + wait), Ok(()));
        // A long quiet time fills the bucket to its burst, and no further.
        let later = start + Duration::from_hours(1);
        assert_eq!(bucket.take(200, later), Ok(()));
        assert!(bucket.take(1, later).is_err());
    }

    #[test]
    fn a_resource_without_a_quota_admits_nothing() {
        assert!(gate(1, 1).admit(&tenant("A"), Resource::Writes, 1).is_err());
    }

    #[test]
    fn one_tenants_answers_leave_room_for_another_ones() {
        let gate = gate(1, 1);
        let (a, b) = (tenant("A"), tenant("B"));
        let quarter = 1 << 18;
        let first = gate.admit_answer(&a, quarter).unwrap();
        assert!(gate.admit_answer(&a, quarter).is_err());
        assert!(
            gate.admit_answer(&a, 1_000).is_ok(),
            "small answers are not counted"
        );
        assert!(gate.admit_answer(&b, quarter).is_ok());
        drop(first);
        let huge = gate.admit_answer(&a, 1 << 30).unwrap();
        assert!(huge.is_counted(), "one answer fits, however large it is");
        drop(huge);
        assert_eq!(gate.answer_bytes(), 0);
    }
}

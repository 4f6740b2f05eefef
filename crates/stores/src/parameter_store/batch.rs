//! Batches many waiting reads into few GetParameters calls: at most ten names each, within a rate that leaves the account's
//! other callers room. Reads wait in one [`FairQueue`], secrets among them. A tenant may cause half of the calls; its other
//! reads wait, or share a call that goes for another tenant.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_ssm::Client;
use parking_lot::Mutex;
use tagged_config_domain::{Record, StoreError, TenantId};
use tagged_config_runtime::tasks::spawn_critical;
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, sleep_until, timeout_at},
};

use super::{BACKEND, Secrets, record};
use crate::{
    aws::{OPERATION_TIMEOUT, store_error},
    fair_queue::FairQueue,
};

/// Names in one GetParameters call.
const MAX_NAMES: usize = 10;
/// Calls in flight.
const MAX_CALLS: usize = 8;
/// Reads that may wait; one more is throttled at once.
const MAX_WAITING: usize = 1_024;
/// A read with less time left than a call needs is dropped.
const CALL: Duration = Duration::from_millis(200);
/// Tenants whose calls are counted before those are forgotten that have not called for a while.
const COUNTED_TENANTS: usize = 1_024;

/// What the batches read from.
#[async_trait]
pub(super) trait Parameters: Send + Sync + 'static {
    /// The parameters that exist under these names, at most [`MAX_NAMES`].
    async fn get(
        &self,
        names: Vec<String>,
        secrets: Secrets,
    ) -> Result<HashMap<String, Record>, StoreError>;
}

pub(super) struct Batcher {
    waiting: Arc<Waiting>,
}

struct Waiting {
    reads: Mutex<FairQueue<Read>>,
    arrived: Notify,
}

/// The paths that one reader needs together, ten at most.
struct Read {
    paths: Vec<String>,
    secrets: Secrets,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Vec<Option<Record>>, Arc<StoreError>>;

/// A token bucket on Tokio's clock.
#[derive(Clone, Copy)]
struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

/// The calls' rate, in total and per tenant.
struct Rates {
    total: Bucket,
    share: Bucket,
    tenants: HashMap<Option<TenantId>, Bucket>,
}

// === impl Batcher ===

impl Batcher {
    /// Batches calls, at most this many a second, and at most a third of them at once after a quiet time: so no second has
    /// more than four thirds.
    pub(super) fn spawn(parameters: impl Parameters, calls_per_second: NonZeroU32) -> Self {
        let waiting = Arc::new(Waiting {
            reads: Mutex::new(FairQueue::new(MAX_WAITING, CALL)),
            arrived: Notify::new(),
        });
        let rates = Rates::new(calls_per_second);
        let run = run(Arc::new(parameters), Arc::downgrade(&waiting), rates);
        spawn_critical("batcher", run);
        Self { waiting }
    }

    /// What lies at these paths, in their order.
    pub(super) async fn get(
        &self,
        tenant: &TenantId,
        paths: Vec<String>,
        secrets: Secrets,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        debug_assert!(paths.len() <= MAX_NAMES, "a key has two layers");
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        let (answer, answered) = oneshot::channel();
        let read = Read {
            paths,
            secrets,
            answer,
        };
        let pushed = self.waiting.reads.lock().push(Some(tenant), read, deadline);
        pushed.map_err(|_| StoreError::Throttled { backend: BACKEND })?;
        self.waiting.arrived.notify_one();
        match timeout_at(deadline, answered).await {
            Ok(Ok(Ok(records))) => Ok(records),
            Ok(Ok(Err(shared))) => Err(unshare(&shared)),
            Ok(Err(_)) | Err(_) => Err(StoreError::TimedOut { backend: BACKEND }),
        }
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.waiting.arrived.notify_one();
    }
}

/// Waits for the rate first and takes reads then: a read that arrives meanwhile shares the call. Ends with its [`Batcher`].
async fn run(parameters: Arc<dyn Parameters>, waiting: std::sync::Weak<Waiting>, mut rates: Rates) {
    let calls = Arc::new(Semaphore::new(MAX_CALLS));
    loop {
        let Some(queue) = waiting.upgrade() else {
            return;
        };
        let now = Instant::now();
        let due = queue
            .reads
            .lock()
            .tenants()
            .map(|tenant| rates.due(tenant, now))
            .min();
        match due {
            Some(due) if due <= now => {}
            due => {
                let later = async {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = later => {}
                    () = queue.arrived.notified() => {}
                }
                continue;
            }
        }
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else {
            return;
        };
        let (batch, names, secrets) =
            next_batch(&mut queue.reads.lock(), &mut rates, Instant::now());
        if batch.is_empty() {
            continue;
        }
        let parameters = Arc::clone(&parameters);
        tokio::spawn(async move {
            let _permit = permit;
            let result = parameters.get(names, secrets).await.map_err(Arc::new);
            for read in batch {
                let answer = match &result {
                    Ok(found) => Ok(read
                        .paths
                        .iter()
                        .map(|path| found.get(path).cloned())
                        .collect()),
                    Err(error) => Err(Arc::clone(error)),
                };
                let _ = read.answer.send(answer);
            }
        });
    }
}

/// The reads of one call. The first one is of a tenant whose rate allows a call, and pays for it. Others share the call if
/// they need the same kind of parameter, and their names fit.
fn next_batch(
    queue: &mut FairQueue<Read>,
    rates: &mut Rates,
    now: Instant,
) -> (Vec<Read>, Vec<String>, Secrets) {
    let mut names: Vec<String> = Vec::new();
    let mut batch: Vec<Read> = Vec::new();
    let mut payer = None;
    let mut secrets = Secrets::Hidden;
    loop {
        let is_first = batch.is_empty();
        let accepts = |tenant: Option<&TenantId>, read: &Read| {
            if is_first {
                payer = Some(tenant.cloned());
                return rates.due(tenant, now) <= now;
            }
            let new = read.paths.iter().filter(|path| !names.contains(path));
            read.secrets == secrets && names.len() + new.count() <= MAX_NAMES
        };
        let Some(read) = queue.pop(now, |read| !read.answer.is_closed(), accepts) else {
            break;
        };
        secrets = read.secrets;
        for path in &read.paths {
            if !names.contains(path) {
                names.push(path.clone());
            }
        }
        batch.push(read);
    }
    if !batch.is_empty() {
        rates.take(payer.flatten(), now);
    }
    (batch, names, secrets)
}

#[async_trait]
impl Parameters for Client {
    async fn get(
        &self,
        names: Vec<String>,
        secrets: Secrets,
    ) -> Result<HashMap<String, Record>, StoreError> {
        let answer = self
            .get_parameters()
            .set_names(Some(names))
            .set_with_decryption((secrets == Secrets::Shown).then_some(true))
            .send()
            .await
            .map_err(|e| store_error(BACKEND, e))?;
        let found = answer.parameters().iter();
        Ok(found
            .filter_map(|p| Some((p.name()?.to_owned(), record(p, secrets))))
            .collect())
    }
}

// === impl Bucket ===

impl Bucket {
    fn full(per_second: f64, burst: f64) -> Self {
        Self {
            per_second,
            burst,
            tokens: burst,
            at: Instant::now(),
        }
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + passed * self.per_second).min(self.burst)
    }

    /// When there is a token.
    fn due(&self, now: Instant) -> Instant {
        let missing = 1.0 - self.tokens_at(now);
        if missing <= 1e-9 {
            return now;
        }
        // Rounded up, since timers are exact to the millisecond.
        now + Duration::from_secs_f64(missing / self.per_second) + Duration::from_micros(1)
    }

    fn take(&mut self, now: Instant) {
        self.tokens = self.tokens_at(now) - 1.0;
        self.at = now;
    }
}

// === impl Rates ===

impl Rates {
    fn new(calls_per_second: NonZeroU32) -> Self {
        let rate = f64::from(calls_per_second.get());
        Self {
            total: Bucket::full(rate, (rate / 3.0).max(1.0)),
            share: Bucket::full(rate / 2.0, (rate / 6.0).max(1.0)),
            tenants: HashMap::new(),
        }
    }

    /// When a call for this tenant may begin.
    fn due(&self, tenant: Option<&TenantId>, now: Instant) -> Instant {
        let own = self.tenants.get(&tenant.cloned());
        let own = own.map_or(now, |bucket| bucket.due(now));
        own.max(self.total.due(now))
    }

    fn take(&mut self, tenant: Option<TenantId>, now: Instant) {
        self.total.take(now);
        if self.tenants.len() >= COUNTED_TENANTS {
            self.tenants
                .retain(|_, bucket| bucket.tokens_at(now) < bucket.burst);
        }
        let full = Bucket {
            tokens: self.share.burst,
            at: now,
            ..self.share
        };
        self.tenants.entry(tenant).or_insert(full).take(now);
    }
}

/// The same failure for each of the reads that shared the call.
fn unshare(error: &Arc<StoreError>) -> StoreError {
    match &**error {
        StoreError::TimedOut { .. } => StoreError::TimedOut { backend: BACKEND },
        StoreError::Throttled { .. } => StoreError::Throttled { backend: BACKEND },
        StoreError::Refused { reason, .. } => StoreError::Refused {
            backend: BACKEND,
            reason: reason.clone(),
        },
        _ => StoreError::Unavailable {
            backend: BACKEND,
            source: Box::new(Arc::clone(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tagged_config_testkit::Issuer;
    use tokio::time::{advance, interval};

    use super::*;

    const RATE: NonZeroU32 = NonZeroU32::new(30).unwrap(); // evaluated by the compiler

    /// Answers that nothing is there, after some time.
    struct Slow {
        time: Duration,
        calls: Arc<AtomicUsize>,
        names: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl Parameters for Slow {
        async fn get(
            &self,
            names: Vec<String>,
            _: Secrets,
        ) -> Result<HashMap<String, Record>, StoreError> {
            assert!(names.len() <= MAX_NAMES);
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.names.fetch_add(names.len(), Ordering::SeqCst);
            tokio::time::sleep(self.time).await;
            Ok(HashMap::new())
        }
    }

    struct Fixture {
        batcher: Arc<Batcher>,
        calls: Arc<AtomicUsize>,
        names: Arc<AtomicUsize>,
        issuer: Issuer,
    }

    fn fixture(time: Duration) -> Fixture {
        let (calls, names) = (Arc::default(), Arc::default());
        let slow = Slow {
            time,
            calls: Arc::clone(&calls),
            names: Arc::clone(&names),
        };
        Fixture {
            batcher: Arc::new(Batcher::spawn(slow, RATE)),
            calls,
            names,
            issuer: Issuer::new(),
        }
    }

    impl Fixture {
        fn read(
            &self,
            tenant: &TenantId,
            path: String,
            secrets: Secrets,
        ) -> tokio::task::JoinHandle<Result<Vec<Option<Record>>, StoreError>> {
            let (batcher, tenant) = (Arc::clone(&self.batcher), tenant.clone());
            tokio::spawn(async move { batcher.get(&tenant, vec![path], secrets).await })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readers_share_calls_and_names() {
        let f = fixture(Duration::from_millis(10));
        let tenant = f.issuer.tenant("A");
        let reads: Vec<_> = (0..40)
            .map(|n| f.read(&tenant, format!("/p/{}", n % 20), Secrets::Hidden))
            .collect();
        for read in reads {
            assert!(read.await.unwrap().is_ok());
        }
        assert!(f.calls.load(Ordering::SeqCst) <= 4);
        assert!(f.names.load(Ordering::SeqCst) <= 40);
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_calls_than_the_account_allows() {
        let f = fixture(Duration::from_millis(1));
        for round in 0..5 {
            let before = f.calls.load(Ordering::SeqCst);
            // Many tenants, so that no tenant's own rate is the bound.
            for n in 0..200 {
                let tenant = f.issuer.tenant(&format!("T{}", n % 8));
                drop(f.read(&tenant, format!("/p/{round}/{n}"), Secrets::Hidden));
                advance(Duration::from_millis(5)).await;
                tokio::task::yield_now().await;
            }
            let made = f.calls.load(Ordering::SeqCst) - before;
            assert!(made <= 40, "{made}");
        }
    }

    /// Goodput stays at what the rate allows when reads arrive faster: a read that is given up costs nothing.
    #[tokio::test(start_paused = true)]
    async fn overload_keeps_goodput() {
        let f = fixture(Duration::from_millis(50));
        let tenants: Vec<_> = (0..8).map(|n| f.issuer.tenant(&format!("T{n}"))).collect();
        let mut ticks = interval(Duration::from_millis(40));
        let mut reads = Vec::new();
        for tick in 0..250 {
            ticks.tick().await;
            for n in 0..20 {
                let tenant = &tenants[n % tenants.len()];
                reads.push((
                    tick,
                    f.read(tenant, format!("/p/{tick}/{n}"), Secrets::Hidden),
                ));
            }
        }
        let mut answered = 0;
        for (tick, read) in reads {
            let is_ok = read.await.unwrap().is_ok();
            answered += usize::from(is_ok && (125..200).contains(&tick));
        }
        // 3 s of 30 calls with ten names.
        assert!(answered >= 800, "{answered} of 1,500 in 3 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_of_secrets_does_not_delay_another_tenants_cold_reads() {
        let f = fixture(Duration::from_millis(10));
        let (noisy, quiet) = (f.issuer.tenant("A"), f.issuer.tenant("B"));
        let looping = {
            let (batcher, noisy) = (Arc::clone(&f.batcher), noisy.clone());
            tokio::spawn(async move {
                loop {
                    for n in 0..2 {
                        let (batcher, noisy) = (Arc::clone(&batcher), noisy.clone());
                        let path = vec![format!("/secret/{n}")];
                        tokio::spawn(async move {
                            let _ = batcher.get(&noisy, path, Secrets::Shown).await;
                        });
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        };
        tokio::time::sleep(Duration::from_secs(5)).await;
        for n in 0..40 {
            let started = Instant::now();
            let read = f
                .read(&quiet, format!("/cold/{n}"), Secrets::Hidden)
                .await
                .unwrap();
            assert!(read.is_ok());
            let took = started.elapsed();
            assert!(took <= Duration::from_millis(50), "{took:?}");
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
        looping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn one_tenants_queue_is_bounded() {
        let f = fixture(Duration::from_mins(1));
        let tenant = f.issuer.tenant("A");
        let reads: Vec<_> = (0..2_000)
            .map(|n| f.read(&tenant, format!("/p/{n}"), Secrets::Hidden))
            .collect();
        tokio::task::yield_now().await;
        assert!(f.batcher.waiting.reads.lock().len() <= MAX_WAITING / 4);
        let mut throttled = 0;
        for read in reads {
            let answer = read.await.unwrap();
            throttled += usize::from(matches!(answer, Err(StoreError::Throttled { .. })));
        }
        assert!(throttled > 1_000, "{throttled}");
    }
}

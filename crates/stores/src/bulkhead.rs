//! A bulkhead in front of one backend: bounds calls in flight, in total and per tenant. Waiters are served by a
//! [`FairQueue`], so that tenants take turns; a waiter that would get its permit too late gets none.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tagged_config_domain::TenantId;
use tokio::{
    sync::oneshot,
    time::{Duration, Instant, timeout_at},
};

use crate::fair_queue::FairQueue;

/// Calls that wait; one more is refused at once.
const MAX_WAITING: usize = 4_096;
/// A call needs about this long: a waiter with less time left gets no permit.
const CALL: Duration = Duration::from_millis(200);

/// Bounds calls in flight.
pub struct Bulkhead(Arc<Shared>);

struct Shared {
    per_tenant: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    in_flight: HashMap<TenantId, usize>,
    waiting: FairQueue<oneshot::Sender<Permit>>,
}

/// Permission for one call, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    shared: Weak<Shared>,
    tenant: Option<TenantId>,
}

// === impl Bulkhead ===

impl Bulkhead {
    /// So many calls in flight in total, and so many of them for one tenant.
    pub fn new(total: usize, per_tenant: usize) -> Self {
        Self(Arc::new(Shared {
            per_tenant,
            state: Mutex::new(State {
                free: total,
                in_flight: HashMap::new(),
                waiting: FairQueue::new(MAX_WAITING, CALL),
            }),
        }))
    }

    /// Waits for a permit; `None` if the queue is full, or no permit is free in time. What belongs to no tenant is bounded by
    /// the total only.
    pub async fn acquire(&self, tenant: Option<&TenantId>, timeout: Duration) -> Option<Permit> {
        let deadline = Instant::now() + timeout;
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.0.state.lock();
            state.waiting.push(tenant, sender, deadline).ok()?;
            self.0.serve(&mut state);
        }
        timeout_at(deadline, receiver).await.ok()?.ok()
    }
}

// === impl Shared ===

impl Shared {
    /// Gives free permits to waiters.
    fn serve(self: &Arc<Self>, state: &mut State) {
        let now = Instant::now();
        while state.free > 0 {
            let State {
                in_flight, waiting, ..
            } = state;
            let mut next = None;
            let accepts = |tenant: Option<&TenantId>, _: &oneshot::Sender<Permit>| {
                let used = tenant.and_then(|tenant| in_flight.get(tenant));
                let is_free = used.is_none_or(|used| *used < self.per_tenant);
                if is_free {
                    next = tenant.cloned();
                }
                is_free
            };
            let Some(sender) = waiting.pop(now, |sender| !sender.is_closed(), accepts) else {
                return;
            };
            state.free -= 1;
            if let Some(tenant) = &next {
                *state.in_flight.entry(tenant.clone()).or_default() += 1;
            }
            let permit = Permit {
                shared: Arc::downgrade(self),
                tenant: next,
            };
            if let Err(mut permit) = sender.send(permit) {
                // The waiter has gone. Its permit is returned here, under the lock that dropping it would take.
                permit.shared = Weak::new();
                state.release(permit.tenant.as_ref());
            }
        }
    }
}

// === impl State ===

impl State {
    fn release(&mut self, tenant: Option<&TenantId>) {
        self.free += 1;
        if let Some(tenant) = tenant
            && let Some(used) = self.in_flight.get_mut(tenant)
        {
            *used -= 1;
            if *used == 0 {
                self.in_flight.remove(tenant);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.state.lock();
            state.release(self.tenant.as_ref());
            shared.serve(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use tagged_config_testkit::Issuer;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_tenant_waits_behind_itself_only() {
        let issuer = Issuer::new();
        let (a, b) = (issuer.tenant("A"), issuer.tenant("B"));
        let bulkhead = Bulkhead::new(4, 2);
        let first = bulkhead.acquire(Some(&a), TIMEOUT).await.unwrap();
        let _second = bulkhead.acquire(Some(&a), TIMEOUT).await.unwrap();
        assert!(bulkhead.acquire(Some(&a), TIMEOUT).await.is_none());
        let _other = bulkhead.acquire(Some(&b), TIMEOUT).await.unwrap();
        let _nobodys = bulkhead.acquire(None, TIMEOUT).await.unwrap();
        drop(first);
        assert!(bulkhead.acquire(Some(&a), TIMEOUT).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_in_flight_are_bounded_and_a_waiter_that_left_holds_nothing() {
        let issuer = Issuer::new();
        let bulkhead = Bulkhead::new(2, 2);
        let _one = bulkhead.acquire(Some(&issuer.tenant("A")), TIMEOUT).await;
        let two = bulkhead.acquire(Some(&issuer.tenant("B")), TIMEOUT).await;
        let third = issuer.tenant("C");
        let started = Instant::now();
        assert!(bulkhead.acquire(Some(&third), TIMEOUT).await.is_none());
        assert_eq!(started.elapsed(), TIMEOUT);
        drop(two);
        let _first = bulkhead.acquire(Some(&third), TIMEOUT).await.unwrap();
        assert!(bulkhead.acquire(Some(&third), TIMEOUT).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_tenant_is_served_before_the_rest_of_a_noisy_neighbours_queue() {
        let issuer = Issuer::new();
        let (noisy, quiet) = (issuer.tenant("A"), issuer.tenant("B"));
        let bulkhead = Arc::new(Bulkhead::new(1, 1));
        let held = bulkhead.acquire(Some(&noisy), TIMEOUT).await.unwrap();
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                let (bulkhead, noisy) = (Arc::clone(&bulkhead), noisy.clone());
                tokio::spawn(async move { bulkhead.acquire(Some(&noisy), TIMEOUT).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let quiet = {
            let (bulkhead, quiet) = (Arc::clone(&bulkhead), quiet.clone());
            tokio::spawn(async move { bulkhead.acquire(Some(&quiet), TIMEOUT).await.is_some() })
        };
        tokio::task::yield_now().await;
        drop(held);
        // One of the noisy neighbour's calls, then the quiet tenant's.
        let mut waiters = waiters.into_iter();
        drop(waiters.next().unwrap().await.unwrap());
        assert!(quiet.await.unwrap());
        assert_eq!(bulkhead.0.state.lock().waiting.len(), 48);
    }
}

//! A bounded queue that serves tenants in turn: a tenant that sends much waits behind itself. What cannot be answered in
//! time is dropped, so that an overloaded backend works only for callers that still wait.

use std::collections::{HashMap, VecDeque};

use tagged_config_domain::TenantId;
use tokio::time::{Duration, Instant};

/// The part of the queue that one tenant may fill: one in so many.
const TENANT_SHARE: usize = 4;

/// Items of tenants, first in first out for each. `None` is what belongs to no tenant.
pub(crate) struct FairQueue<T> {
    capacity: usize,
    len: usize,
    /// Less time than this before its deadline, an item is not worth the backend's work.
    least_time: Duration,
    lanes: HashMap<Option<TenantId>, VecDeque<Waiting<T>>>,
    /// Tenants with items, in the order in which they are served next.
    order: VecDeque<Option<TenantId>>,
}

struct Waiting<T> {
    item: T,
    deadline: Instant,
}

/// The queue, or the tenant's part of it, is full. Gives the item back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full<T>(pub(crate) T);

// === impl FairQueue ===

impl<T> FairQueue<T> {
    pub(crate) fn new(capacity: usize, least_time: Duration) -> Self {
        Self {
            capacity,
            len: 0,
            least_time,
            lanes: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Items that wait, also those that are too late.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends an item that must be served by `deadline`.
    pub(crate) fn push(
        &mut self,
        tenant: Option<&TenantId>,
        item: T,
        deadline: Instant,
    ) -> Result<(), Full<T>> {
        let lane_len = self.lanes.get(&tenant.cloned()).map_or(0, VecDeque::len);
        if self.len >= self.capacity || lane_len >= (self.capacity / TENANT_SHARE).max(1) {
            return Err(Full(item));
        }
        let lane = self.lanes.entry(tenant.cloned()).or_default();
        if lane.is_empty() {
            self.order.push_back(tenant.cloned());
        }
        lane.push_back(Waiting { item, deadline });
        self.len += 1;
        Ok(())
    }

    /// Takes the first item that `accepts`, of the tenant that was served the longest ago. Drops what is too late, or is not
    /// `wanted` any more. A tenant whose first item is not accepted keeps its place.
    pub(crate) fn pop(
        &mut self,
        now: Instant,
        wanted: impl Fn(&T) -> bool,
        mut accepts: impl FnMut(Option<&TenantId>, &T) -> bool,
    ) -> Option<T> {
        let mut index = 0;
        while index < self.order.len() {
            let tenant = self.order[index].clone();
            let lane = self.lanes.get_mut(&tenant)?;
            while let Some(first) = lane.front() {
                if now + self.least_time <= first.deadline && wanted(&first.item) {
                    break;
                }
                lane.pop_front();
                self.len -= 1;
            }
            let is_accepted = lane
                .front()
                .map(|first| accepts(tenant.as_ref(), &first.item));
            match is_accepted {
                None => {
                    self.lanes.remove(&tenant);
                    self.order.remove(index);
                }
                Some(false) => index += 1,
                Some(true) => {
                    let taken = lane.pop_front();
                    self.len -= 1;
                    self.order.remove(index);
                    if lane.is_empty() {
                        self.lanes.remove(&tenant);
                    } else {
                        self.order.push_back(tenant);
                    }
                    return taken.map(|waiting| waiting.item);
                }
            }
        }
        None
    }

    /// Tenants that wait.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = Option<&TenantId>> {
        self.order.iter().map(Option::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use tagged_config_testkit::Issuer;

    use super::*;

    const LEAST: Duration = Duration::from_millis(200);
    const DEADLINE: Duration = Duration::from_secs(3);

    fn drain(queue: &mut FairQueue<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(now, |_| true, |_, _| true)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_are_served_in_turn() {
        let issuer = Issuer::new();
        let (a, b) = (issuer.tenant("A"), issuer.tenant("B"));
        let mut queue = FairQueue::new(100, LEAST);
        let now = Instant::now();
        for item in 1..=5 {
            queue.push(Some(&a), item, now + DEADLINE).unwrap();
        }
        queue.push(Some(&b), 10, now + DEADLINE).unwrap();
        queue.push(None, 20, now + DEADLINE).unwrap();
        assert_eq!(drain(&mut queue, now), [1, 10, 20, 2, 3, 4, 5]);
        assert!(queue.is_empty() && queue.lanes.is_empty() && queue.order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_bound_holds_in_all_and_for_one_tenant() {
        let issuer = Issuer::new();
        let mut queue = FairQueue::new(8, LEAST);
        let deadline = Instant::now() + DEADLINE;
        let noisy = issuer.tenant("A");
        let accepted = (0..100).filter(|item| queue.push(Some(&noisy), *item, deadline).is_ok());
        assert_eq!(accepted.count(), 2, "a quarter");
        for other in ["B", "C", "D"] {
            let other = issuer.tenant(other);
            for item in 0..2 {
                queue.push(Some(&other), item, deadline).unwrap();
            }
        }
        assert_eq!(
            queue.push(Some(&issuer.tenant("E")), 7, deadline),
            Err(Full(7))
        );
        assert_eq!(queue.len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_late_or_not_wanted_is_dropped() {
        let issuer = Issuer::new();
        let a = issuer.tenant("A");
        let mut queue = FairQueue::new(100, LEAST);
        let now = Instant::now();
        queue
            .push(Some(&a), 1, now + Duration::from_millis(199))
            .unwrap();
        queue.push(Some(&a), 2, now + DEADLINE).unwrap();
        queue.push(Some(&a), 3, now + DEADLINE).unwrap();
        assert_eq!(queue.pop(now, |item| *item != 2, |_, _| true), Some(3));
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_is_not_accepted_keeps_its_place() {
        let issuer = Issuer::new();
        let (a, b) = (issuer.tenant("A"), issuer.tenant("B"));
        let mut queue = FairQueue::new(100, LEAST);
        let now = Instant::now();
        queue.push(Some(&a), 1, now + DEADLINE).unwrap();
        queue.push(Some(&b), 2, now + DEADLINE).unwrap();
        let only_b = |tenant: Option<&TenantId>, _: &u32| tenant == Some(&b);
        assert_eq!(queue.pop(now, |_| true, only_b), Some(2));
        assert_eq!(queue.pop(now, |_| true, only_b), None);
        assert_eq!(drain(&mut queue, now), [1]);
    }
}

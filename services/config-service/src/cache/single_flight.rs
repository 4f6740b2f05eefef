//! The reads that are under way: at most one that new readers may join for each location.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use tagged_config_domain::{Backend, LocationId, Record, StoreError};
use tokio::sync::watch;

use crate::change::pause::Epoch;

/// What a read brought; shared by all who waited for it.
pub(crate) type Outcome = Result<Option<Record>, Arc<StoreError>>;

const STRIPES: usize = 64;

pub(super) struct Flights {
    stripes: Arc<[Mutex<Stripe>]>,
    hasher: RandomState,
    next_id: AtomicU64,
}

#[derive(Default)]
pub(super) struct Stripe(HashMap<LocationId, Flight>);

struct Flight {
    id: u64,
    epoch: Epoch,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// A place in a read.
pub(super) enum Ticket {
    /// Somebody else reads.
    Join(Waiter),
    /// The caller reads, and waits as everybody.
    Lead(Leader, Waiter),
}

pub(super) struct Waiter(watch::Receiver<Option<Outcome>>);

/// The duty to bring an outcome. Dropped without one (a panic), the location is free for others to read.
pub(super) struct Leader {
    id: u64,
    location: LocationId,
    outcome: watch::Sender<Option<Outcome>>,
    stripes: Arc<[Mutex<Stripe>]>,
    stripe: usize,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            next_id: AtomicU64::new(0),
        }
    }

    /// The lock under which everything about this location happens.
    pub(super) fn lock(&self, id: &LocationId) -> MutexGuard<'_, Stripe> {
        self.stripes[self.stripe_of(id)].lock()
    }

    /// A read that began in an earlier epoch may show what was there before a pause: nobody joins it.
    pub(super) fn join_or_lead(&self, location: &LocationId, epoch: Epoch) -> Ticket {
        let stripe = self.stripe_of(location);
        let mut flights = self.stripes[stripe].lock();
        if let Some(flight) = flights.0.get(location)
            && flight.epoch == epoch
        {
            return Ticket::Join(Waiter(flight.outcome.clone()));
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = watch::channel(None);
        flights.0.insert(
            location.clone(),
            Flight {
                id,
                epoch,
                outcome: receiver.clone(),
            },
        );
        let stripes = Arc::clone(&self.stripes);
        Ticket::Lead(
            Leader {
                id,
                location: location.clone(),
                outcome: sender,
                stripes,
                stripe,
            },
            Waiter(receiver),
        )
    }

    /// No read that is under way counts any more.
    pub(super) fn cancel_all(&self) {
        for stripe in &*self.stripes {
            stripe.lock().0.clear();
        }
    }

    fn stripe_of(&self, id: &LocationId) -> usize {
        usize::try_from(self.hasher.hash_one(id) % STRIPES as u64).unwrap_or(0)
    }
}

impl Stripe {
    /// Lets nobody join the read that is under way, and keeps its outcome out of the cache. Whether there
    /// was one.
    pub(super) fn cancel(&mut self, id: &LocationId) -> bool {
        self.0.remove(id).is_some()
    }

    /// Ends a read. Whether it still counts: nothing changed since it began.
    pub(super) fn complete(&mut self, id: &LocationId, leader: &Leader) -> bool {
        let current = self.0.get(id).is_some_and(|flight| flight.id == leader.id);
        if current {
            self.0.remove(id);
        }
        current
    }
}

impl Leader {
    pub(super) fn finish(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let mut flights = self.stripes[self.stripe].lock();
        if flights
            .0
            .get(&self.location)
            .is_some_and(|flight| flight.id == self.id)
        {
            flights.0.remove(&self.location);
        }
    }
}

impl Waiter {
    pub(super) async fn outcome(mut self, backend: Backend) -> Outcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome
                .clone()
                .unwrap_or_else(|| Err(super::abandoned(backend))),
            Err(_) => Err(super::abandoned(backend)),
        }
    }
}

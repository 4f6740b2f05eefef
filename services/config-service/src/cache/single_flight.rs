//! Single-flight: at most one read of a location that new readers may join. A change detaches the read that is in flight:
//! its readers still get its result, later readers start their own.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tagged_config_domain::{Backend, LocationId, Record, StoreError};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    entry::Began,
    sync::{Mutex, MutexGuard},
};

/// What a read found; shared by all that waited for it.
pub(crate) type Outcome = Result<Found, Arc<StoreError>>;

/// What a location held.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The value, `None` for nothing.
    pub(crate) record: Option<Record>,
    /// When the backend was known to hold it.
    pub(crate) since: Instant,
}

const STRIPES: usize = 64;

pub(super) struct Flights {
    stripes: Arc<[Mutex<Stripe>]>,
    hasher: RandomState,
    next_id: AtomicU64,
}

/// The reads in flight of some locations. All that changes an entry happens under its stripe's lock.
#[derive(Default)]
pub(super) struct Stripe(HashMap<LocationId, Flight>);

struct Flight {
    id: u64,
    began: Began,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// A part in a read.
pub(super) enum Ticket {
    /// Another reader leads.
    Follow(Waiter),
    /// The caller leads, and waits like every reader.
    Lead(Leader, Waiter),
}

/// Waits for a read's outcome.
pub(super) struct Waiter {
    began: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// The duty to bring an outcome. When it is dropped without one (a panic), the location is free for another leader.
pub(super) struct Leader {
    id: u64,
    pub(super) began: Began,
    location: LocationId,
    outcome: watch::Sender<Option<Outcome>>,
    stripes: Arc<[Mutex<Stripe>]>,
    stripe: usize,
}

// === impl Flights ===

impl Flights {
    pub(super) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            next_id: AtomicU64::new(0),
        }
    }

    /// The lock under which a location's entry and reads in flight change.
    pub(super) fn lock(&self, id: &LocationId) -> MutexGuard<'_, Stripe> {
        self.stripes[self.stripe_of(id)].lock()
    }

    /// Joins the read in flight, or leads one. A read that began in an earlier epoch may show what was there before a pause:
    /// it is not joined.
    pub(super) fn join_or_lead(&self, location: &LocationId, began: Began) -> Ticket {
        let stripe = self.stripe_of(location);
        let mut flights = self.stripes[stripe].lock();
        if let Some(flight) = flights.0.get(location)
            && flight.began.epoch == began.epoch
        {
            return Ticket::Follow(Waiter {
                began: flight.began.at,
                outcome: flight.outcome.clone(),
            });
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = watch::channel(None);
        flights.0.insert(
            location.clone(),
            Flight {
                id,
                began,
                outcome: receiver.clone(),
            },
        );
        let stripes = Arc::clone(&self.stripes);
        Ticket::Lead(
            Leader {
                id,
                began,
                location: location.clone(),
                outcome: sender,
                stripes,
                stripe,
            },
            Waiter {
                began: began.at,
                outcome: receiver,
            },
        )
    }

    /// Detaches every read in flight.
    pub(super) fn detach_all(&self) {
        for stripe in &*self.stripes {
            stripe.lock().0.clear();
        }
    }

    fn stripe_of(&self, id: &LocationId) -> usize {
        usize::try_from(self.hasher.hash_one(id) % STRIPES as u64).unwrap_or(0)
    }
}

// === impl Stripe ===

impl Stripe {
    /// No reader joins the read in flight any more, and its outcome is not cached.
    pub(super) fn detach(&mut self, id: &LocationId) {
        self.0.remove(id);
    }

    /// Whether a read is in flight that began at this moment or before, and that new readers join.
    pub(super) fn has_read_from(&self, id: &LocationId, moment: Instant) -> bool {
        self.0
            .get(id)
            .is_some_and(|flight| flight.began.at <= moment)
    }

    /// Ends a read. Whether it is attached: nothing detached it since it began.
    pub(super) fn complete(&mut self, id: &LocationId, leader: &Leader) -> bool {
        let is_attached = self.0.get(id).is_some_and(|flight| flight.id == leader.id);
        if is_attached {
            self.0.remove(id);
        }
        is_attached
    }
}

// === impl Leader ===

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

// === impl Waiter ===

impl Waiter {
    /// When the read began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The outcome, or a time-out at `deadline`; the read goes on.
    pub(super) async fn outcome(mut self, backend: Backend, deadline: Option<Instant>) -> Outcome {
        let abandoned = || {
            Arc::new(StoreError::Unavailable {
                backend,
                source: "the read was abandoned".into(),
            })
        };
        let outcome = self.outcome.wait_for(Option::is_some);
        let outcome = match deadline {
            None => outcome.await,
            Some(deadline) => match timeout_at(deadline, outcome).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(Arc::new(StoreError::TimedOut { backend })),
            },
        };
        match outcome {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(abandoned())),
            Err(_) => Err(abandoned()),
        }
    }
}

//! Interleavings of the cache's concurrent shell, explored by shuttle: readers, a writer and its events, in threads whose
//! schedule the model checker picks.

use std::sync::{Arc, LazyLock, Mutex as PlainMutex};

use shuttle::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use tagged_config_domain::{Backend, TenantId};
use tagged_config_testkit::Issuer;

use super::*;

static TENANT: LazyLock<TenantId> = LazyLock::new(|| Issuer::new().tenant("A"));

const START_MS: i64 = 1_700_000_000_000;
const WRITES: usize = 3;
const SCHEDULES: usize = 5_000;

struct World {
    cache: Cache,
    location: Location,
    /// The source: the number of the last write.
    source: AtomicUsize,
    /// The last write that is announced.
    announced: AtomicUsize,
    /// The highest write that a hit has shown. Not a scheduling point.
    shown: PlainMutex<usize>,
}

/// What the source holds after so many writes: nothing first, then values and deletions by turns.
fn state(writes: usize) -> Option<Record> {
    let version = START_MS + i64::try_from(writes).unwrap() * 10_000;
    let revision = Revision {
        incarnation: 0,
        version,
    };
    let value = format!("{writes}");
    (!writes.is_multiple_of(3)).then(|| Record::new(value, "text/plain", revision, None))
}

impl World {
    fn new() -> Self {
        let config = CacheConfig {
            ttl: Duration::from_hours(1),
            max_stale: Duration::from_hours(1),
            bytes: 1 << 20,
        };
        let surroundings = Surroundings {
            jitter: || 0.0,
            unix_ms: || START_MS,
        };
        Self {
            cache: Cache::new(
                config,
                surroundings,
                Arc::new(PauseDetector::new(Arc::new(|| 0), Duration::MAX)),
                WatchRegistry::new(),
                Metrics::new(),
            ),
            location: Location::owned_by(&TENANT, Backend("memory"), |tenant| {
                (tenant.as_str().to_owned(), "x".to_owned())
            }),
            source: AtomicUsize::new(0),
            announced: AtomicUsize::new(0),
            shown: PlainMutex::new(0),
        }
    }

    /// A reader: served by the cache, or by a read that it leads.
    fn read(&self) {
        let announced = self.announced.load(Ordering::SeqCst);
        let before = *self.shown.lock().unwrap();
        let id = self.location.id();
        match self.cache.lookup(id, Instant::now()) {
            Lookup::Fresh(entry) => {
                let floor = announced.max(before);
                let shown = (floor..=WRITES).find(|writes| state(*writes) == entry.record);
                let shown = shown.unwrap_or_else(|| {
                    panic!("a hit shows {:?} after write {floor}", entry.record)
                });
                let mut highest = self.shown.lock().unwrap();
                *highest = shown.max(*highest);
            }
            _ => {
                if let Ticket::Lead(leader, _) =
                    self.cache.flights.join_or_lead(id, self.cache.began())
                {
                    let found = state(self.source.load(Ordering::SeqCst));
                    thread::yield_now();
                    let order = Order::ConsistentReads;
                    self.cache
                        .complete(&self.location, order, leader, Ok(found));
                }
            }
        }
    }

    fn announce(&self, writes: usize) {
        let change = match state(writes) {
            Some(record) => ChangedTo::Value(record),
            None => ChangedTo::Absent(0),
        };
        let id = self.location.id();
        self.cache.apply(id, Order::ConsistentReads, change, None);
        self.announced.fetch_max(writes, Ordering::SeqCst);
    }
}

/// One writer whose events arrive in order, after their writes; two readers.
#[test]
fn shuttle_readers_and_events_in_any_interleaving() {
    shuttle::check_random(
        || {
            let world = Arc::new(World::new());
            let mut threads = Vec::new();
            for _ in 0..2 {
                let world = Arc::clone(&world);
                threads.push(thread::spawn(move || {
                    for _ in 0..4 {
                        world.read();
                        thread::yield_now();
                    }
                }));
            }
            let writer = Arc::clone(&world);
            threads.push(thread::spawn(move || {
                for writes in 1..=WRITES {
                    writer.source.store(writes, Ordering::SeqCst);
                    thread::yield_now();
                    writer.announce(writes);
                }
            }));
            for thread in threads {
                thread.join().unwrap();
            }
            world.read();
            world.read();
            let Lookup::Fresh(entry) = world.cache.lookup(world.location.id(), Instant::now())
            else {
                panic!("nobody reads any more, and the last read was not cached");
            };
            assert_eq!(entry.record, state(WRITES));
        },
        SCHEDULES,
    );
}

/// Events late and in any order: two threads announce, each write once.
#[test]
fn shuttle_events_out_of_order() {
    shuttle::check_random(
        || {
            let world = Arc::new(World::new());
            let mut threads = Vec::new();
            for writes in 1..=WRITES {
                let world = Arc::clone(&world);
                threads.push(thread::spawn(move || {
                    world.source.fetch_max(writes, Ordering::SeqCst);
                    thread::yield_now();
                    let id = world.location.id();
                    let change = match state(writes) {
                        Some(record) => ChangedTo::Value(record),
                        None => ChangedTo::Absent(0),
                    };
                    world.cache.apply(id, Order::ConsistentReads, change, None);
                }));
            }
            let reader = Arc::clone(&world);
            threads.push(thread::spawn(move || {
                for _ in 0..4 {
                    let id = reader.location.id();
                    if !matches!(reader.cache.lookup(id, Instant::now()), Lookup::Fresh(_))
                        && let Ticket::Lead(leader, _) =
                            reader.cache.flights.join_or_lead(id, reader.cache.began())
                    {
                        let found = state(reader.source.load(Ordering::SeqCst));
                        thread::yield_now();
                        let order = Order::ConsistentReads;
                        reader
                            .cache
                            .complete(&reader.location, order, leader, Ok(found));
                    }
                }
            }));
            for thread in threads {
                thread.join().unwrap();
            }
            world.read();
            if let Lookup::Fresh(entry) = world.cache.lookup(world.location.id(), Instant::now()) {
                assert_eq!(entry.record, state(WRITES), "all has been announced");
            }
        },
        SCHEDULES,
    );
}

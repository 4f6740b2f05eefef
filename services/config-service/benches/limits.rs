//! What `make bench-peers` cannot ask from outside, as lines of `name value`: the cost of a token never seen, the calls that
//! one cold key costs, and what entries and threads do to a hit.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot be set up has no result; its figures are for people"
)]

use std::{
    hint::black_box,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use config_service::bench::Service;
use tagged_config_domain::{Principal, Record, Revision, SigningKeys, TokenRules};
use tagged_config_stores::Stores;
use tagged_config_testkit::{AUDIENCE, ISSUER, Issuer, MemoryStore};
use tokio::runtime::{Builder, Runtime};

const KEYS: usize = 100;
const READERS: usize = 10_000;
const ROUNDS: usize = 7;
const SCALING_ROUNDS: usize = 15;

fn main() {
    verification();
    cold_key();
    let small = filled(1_000);
    let one_k = nanoseconds(&small);
    drop(small);
    let large = filled(1_000_000);
    let one_m = nanoseconds(&large);
    println!("hit_ns_1k {one_k:.0}");
    println!("hit_ns_1m {one_m:.0}");
    drop(large);
    scaling();
}

fn key(number: usize) -> String {
    format!("tenant_config_service/feature-{number:04}")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn record(bytes: usize) -> Record {
    let revision = Revision {
        incarnation: 1,
        version: 1,
    };
    Record::new("x".repeat(bytes), "application/json", revision, None)
}

/// Microseconds for a token that was never seen: each of these is another one.
fn verification() {
    let issuer = Issuer::new();
    let rules = TokenRules::new(ISSUER, AUDIENCE);
    let keys = SigningKeys::from_jwks(issuer.jwks().as_bytes()).unwrap();
    let tokens: Vec<String> = (0..2_000)
        .map(|number| issuer.token(&format!("tenant-{number:05}"), "reader"))
        .collect();
    let started = Instant::now();
    for token in &tokens {
        black_box(rules.verify(black_box(token), &keys).unwrap());
    }
    let each = started.elapsed().as_secs_f64() * 1e6 / tokens.len() as f64;
    println!("verification_us {each:.1}");
}

/// Store calls that many concurrent readers of one cold key cost (single-flight).
fn cold_key() {
    let store = Arc::new(MemoryStore::default());
    store.set("tenant-00000", "service/feature-0000", record(200));
    let service = Arc::new(Service::new(
        Stores::from_parts(vec![("tenant", store.clone())]),
        1 << 26,
    ));
    let caller = Arc::new(Issuer::new().principal("tenant-00000", "reader"));
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (service, caller) = (Arc::clone(&service), Arc::clone(&caller));
                tokio::spawn(async move { service.get(&caller, &key(0)).await })
            })
            .collect();
        for reader in readers {
            assert!(reader.await.unwrap(), "every reader has an answer");
        }
    });
    println!("cold_key_readers {READERS}");
    println!("cold_key_calls {}", store.reads());
}

struct Filled {
    service: Service,
    callers: Vec<Principal>,
    keys: Vec<String>,
}

fn filled(entries: usize) -> Filled {
    let runtime = runtime();
    let store = Arc::new(MemoryStore::default());
    let service = Service::new(Stores::from_parts(vec![("tenant", store.clone())]), 4 << 30);
    let issuer = Issuer::new();
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let mut callers = Vec::new();
    for number in 0..entries / KEYS {
        let tenant = format!("tenant-{number:05}");
        let caller = issuer.principal(&tenant, "reader");
        for key in &keys {
            store.set(
                &tenant,
                key.trim_start_matches("tenant_config_"),
                record(200),
            );
            assert!(runtime.block_on(service.get(&caller, key)));
        }
        callers.push(caller);
    }
    assert_eq!(service.entries(), entries, "nothing was evicted");
    Filled {
        service,
        callers,
        keys,
    }
}

impl Filled {
    /// Reads random keys of random tenants until `stop`; how many.
    fn read(&self, seed: u64, mut stop: impl FnMut(u64) -> bool) -> u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let runtime = runtime();
        runtime.block_on(async {
            let mut reads = 0;
            while !stop(reads) {
                let caller = &self.callers[random.usize(..self.callers.len())];
                let key = &self.keys[random.usize(..self.keys.len())];
                assert!(self.service.get(caller, key).await);
                reads += 1;
            }
            reads
        })
    }
}

/// Nanoseconds of a hit, the median of some rounds.
fn nanoseconds(filled: &Filled) -> f64 {
    const READS: u64 = 200_000;
    filled.read(0, |reads| reads == READS);
    let rounds = (0..ROUNDS as u64)
        .map(|seed| {
            let started = Instant::now();
            filled.read(seed, |reads| reads == READS);
            started.elapsed().as_secs_f64() * 1e9 / READS as f64
        })
        .collect();
    median(rounds)
}

/// How many times the hits of one thread two threads answer, and how many times the work of one thread that shares nothing:
/// what the machine gives. The medians of some rounds.
fn scaling() {
    let filled = filled(10_000);
    let alone = |seed: u64, end: Instant| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rounds = 0;
        while Instant::now() < end {
            for _ in 0..1_000 {
                black_box(random.u64(..));
            }
            rounds += 1;
        }
        rounds
    };
    let hits = |seed: u64, end: Instant| {
        filled.read(seed, |reads| {
            reads.is_multiple_of(256) && Instant::now() >= end
        })
    };
    let (mut machine, mut service) = (Vec::new(), Vec::new());
    for _ in 0..SCALING_ROUNDS {
        machine.push(together(2, &alone) as f64 / together(1, &alone) as f64);
        service.push(together(2, &hits) as f64 / together(1, &hits) as f64);
    }
    println!("two_threads_machine {:.2}", median(machine));
    println!("two_threads {:.2}", median(service));
}

/// What so many threads get done together in a while.
fn together(threads: u64, work: &(impl Fn(u64, Instant) -> u64 + Sync)) -> u64 {
    let end = Instant::now() + Duration::from_millis(400);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|seed| scope.spawn(move || work(seed, end)))
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum()
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

//! One test or more for each cache invariant, by its number in ARCHITECTURE.md.

use std::sync::{Arc, LazyLock};

use tagged_config_domain::{ConfigName, LocationId, Record, Revision, Store, TenantId};
use tagged_config_testkit::{Issuer, MemoryStore, admitted};
use tokio::time::advance;

use super::{
    entry::{LAGGING_TTL, SKEW_MS},
    *,
};
use crate::telemetry::metrics::GaugeSnapshot;

/// Where the wall clock of these tests begins.
const NOW_MS: i64 = 1_700_000_000_000;

thread_local! {
    static WALL_MS: std::cell::Cell<i64> = const { std::cell::Cell::new(NOW_MS) };
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::new);

#[derive(Clone)]
struct Fixture {
    cache: Arc<Cache>,
    memory: Arc<MemoryStore>,
    store: Arc<dyn Store>,
    tenant: TenantId,
}

fn fixture_with(memory: MemoryStore, bytes: u64) -> Fixture {
    let config = CacheConfig {
        ttl: Duration::from_mins(1),
        max_stale: Duration::from_hours(1),
        bytes,
    };
    let memory = Arc::new(memory);
    let pauses = Arc::new(PauseDetector::new(Arc::new(|| 0), Duration::MAX));
    Fixture {
        cache: Arc::new(Cache::new(
            config,
            Surroundings {
                jitter: || 0.0,
                unix_ms: || WALL_MS.get(),
            },
            pauses,
            WatchRegistry::new(),
            Metrics::new(),
        )),
        store: memory.clone(),
        memory,
        tenant: ISSUER.tenant("A"),
    }
}

fn fixture() -> Fixture {
    fixture_with(MemoryStore::default(), 1 << 20)
}

fn layered() -> Fixture {
    fixture_with(MemoryStore::layered(), 1 << 20)
}

fn text_of(record: &Record) -> String {
    record.value.as_text().expect("text").to_owned()
}

fn record(value: &str, version: i64) -> Record {
    Record::new(
        value,
        "text/plain",
        Revision {
            incarnation: 0,
            version,
        },
        None,
    )
}

/// As Parameter Store orders: by time, then version.
fn parameter(value: &str, modified_ms: i64, version: i64) -> Record {
    Record::new(
        value,
        "text/plain",
        Revision {
            incarnation: modified_ms,
            version,
        },
        Some(modified_ms),
    )
}

impl Fixture {
    fn location(&self, name: &str) -> Location {
        self.store
            .locate(&self.tenant, ConfigName::parse(name).unwrap())
            .first()
            .clone()
    }

    fn id(&self, name: &str) -> LocationId {
        self.location(name).id().clone()
    }

    fn set(&self, name: &str, record: Record) {
        self.memory.set(self.tenant.as_str(), name, record);
    }

    /// Reads through the cache; the value and whether it came from there.
    async fn read(&self, name: &str) -> (Option<String>, bool) {
        let text = |record: &Option<Record>| record.as_ref().map(text_of);
        match self.cache.lookup(&self.id(name), Instant::now()) {
            Lookup::Fresh(entry) => (text(&entry.record), true),
            Lookup::Stale(_) | Lookup::Miss(_) => {
                let found = self.fill(name).await.unwrap();
                (text(&found.record), false)
            }
        }
    }

    async fn fill(&self, name: &str) -> Outcome {
        let location = self.location(name);
        let admitted = admitted(&self.tenant);
        self.cache
            .fill(&self.store, &admitted, &[location], Wait::UntilDone)
            .await
            .pop()
            .unwrap()
    }

    /// Reads locations of any tenant into the cache.
    async fn fill_all(&self, locations: &[Location]) {
        let admitted = admitted(&self.tenant);
        self.cache
            .fill(&self.store, &admitted, locations, Wait::UntilDone)
            .await;
    }

    async fn value(&self, name: &str) -> Option<String> {
        self.read(name).await.0
    }

    fn change(&self, name: &str, change: ChangedTo) -> Applied {
        self.cache
            .apply(&self.id(name), self.store.order(), change, None)
    }

    /// A read that has taken its value from the source and not yet returned.
    async fn read_under_way(&self, name: &'static str) -> tokio::task::JoinHandle<Outcome> {
        self.memory.hold_reads();
        let before = self.memory.reads();
        let f = self.clone();
        let reader = tokio::spawn(async move { f.fill(name).await });
        while self.memory.reads() == before {
            tokio::task::yield_now().await;
        }
        self.memory.stop_holding();
        reader
    }
}

#[tokio::test(start_paused = true)]
async fn inv1_an_event_maps_to_exactly_one_entry() {
    let f = fixture();
    let other = ISSUER.tenant("B");
    f.set("x", record("a", 1));
    f.memory.set("B", "x", record("b", 1));
    let of_b = f
        .store
        .locate(&other, ConfigName::parse("x").unwrap())
        .first()
        .clone();
    f.value("x").await;
    f.fill_all(std::slice::from_ref(&of_b)).await;
    assert_eq!(
        f.change("x", ChangedTo::Value(record("a2", 2))),
        Applied::Updated
    );
    assert_eq!(f.read("x").await, (Some("a2".to_owned()), true));
    assert!(matches!(f.cache.lookup(of_b.id(), Instant::now()),
        Lookup::Fresh(entry) if entry.record.as_ref().unwrap().value == "b"));
}

#[tokio::test(start_paused = true)]
async fn inv2_older_and_repeated_changes_never_replace_newer_values() {
    let f = fixture();
    f.set("x", record("v5", 5));
    f.value("x").await;
    // The record of an earlier write, late: in doubt, the source decides.
    assert_eq!(
        f.change("x", ChangedTo::Value(record("v3", 3))),
        Applied::Invalidated
    );
    assert_eq!(f.value("x").await.as_deref(), Some("v5"));
    // The same record again changes nothing.
    assert_eq!(
        f.change("x", ChangedTo::Value(record("v5", 5))),
        Applied::NotNewer
    );
    assert_eq!(f.read("x").await, (Some("v5".to_owned()), true));
}

#[tokio::test(start_paused = true)]
async fn inv2_a_hand_edit_that_keeps_or_lowers_the_version_is_seen() {
    let f = fixture();
    f.set("x", record("A", 7));
    f.value("x").await;
    for (value, version) in [("B", 7), ("A", 7), ("C", 0), ("D", 3)] {
        f.set("x", record(value, version));
        assert_eq!(
            f.change("x", ChangedTo::Value(record(value, version))),
            Applied::Invalidated,
            "{value}"
        );
        assert_eq!(
            f.read("x").await,
            (Some(value.to_owned()), false),
            "A -> B -> A included"
        );
    }
    // The stream repeats a record from before the hand edits: its version is higher, its value is not newer.
    assert_eq!(
        f.change("x", ChangedTo::Value(record("A", 7))),
        Applied::Invalidated
    );
    assert_eq!(f.value("x").await.as_deref(), Some("D"));
}

#[tokio::test(start_paused = true)]
async fn inv2_delete_and_recreate_in_parameter_store() {
    let f = layered();
    f.set("x", parameter("old", 10_000, 9));
    f.value("x").await;
    assert_eq!(f.change("x", ChangedTo::Absent(12_000)), Applied::Updated);
    assert_eq!(f.read("x").await, (None, true));
    // A lagging replica still has the deleted one.
    assert_eq!(
        f.change("x", ChangedTo::Value(parameter("old", 10_000, 9))),
        Applied::NotNewer
    );
    // Version 1 again, and newer.
    assert_eq!(
        f.change("x", ChangedTo::Value(parameter("new", 13_000, 1))),
        Applied::Updated
    );
    assert_eq!(f.read("x").await, (Some("new".to_owned()), true));
    // The deletion's event comes late.
    assert_eq!(f.change("x", ChangedTo::Absent(12_000)), Applied::NotNewer);
    // Within the second that the event's time leaves open, the source decides.
    f.set("x", parameter("new", 13_000, 1));
    assert_eq!(
        f.change("x", ChangedTo::Absent(12_500)),
        Applied::Invalidated
    );
    assert_eq!(f.value("x").await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn inv2_a_lagging_copy_does_not_replace_what_an_event_brought() {
    let f = layered();
    f.set("x", parameter("v1", 1_000, 1));
    f.value("x").await;
    f.change("x", ChangedTo::Value(parameter("v2", 2_000, 2)));
    advance(Duration::from_mins(2)).await;
    assert_eq!(
        f.value("x").await.as_deref(),
        Some("v2"),
        "the copy is older than what we hold"
    );
    // A secret's change is announced without its value: the old copy is served for a moment only.
    f.change(
        "x",
        ChangedTo::Unknown(
            Revision {
                incarnation: 3_000,
                version: 3,
            },
            None,
        ),
    );
    f.value("x").await;
    f.set("x", parameter("v3", 3_000, 3));
    advance(LAGGING_TTL).await;
    assert_eq!(f.value("x").await.as_deref(), Some("v3"));
}

/// Found by `loadtest chaos`: who joins a read is not answered with less than was served before it joined.
#[tokio::test(start_paused = true)]
async fn inv2_a_lagging_copy_answers_nobody_whose_read_a_change_overtook() {
    let f = layered();
    f.set("x", parameter("v1", 1_000, 1));
    f.value("x").await;
    f.change("x", ChangedTo::Value(parameter("v2", 2_000, 2)));
    assert_eq!(f.value("x").await.as_deref(), Some("v2"));
    advance(Duration::from_mins(2)).await;
    f.memory.hold_reads();
    let reader = tokio::spawn({
        let f = f.clone();
        async move { f.value("x").await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    f.change("x", ChangedTo::Value(parameter("v3", 3_000, 3)));
    f.memory.release(1);
    assert_eq!(reader.await.unwrap().as_deref(), Some("v3"), "and not v1");

    // Nor with what is known to be deleted.
    advance(Duration::from_mins(2)).await;
    let reader = tokio::spawn({
        let f = f.clone();
        async move { f.value("x").await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    f.change("x", ChangedTo::Absent(5_000));
    f.memory.release(1);
    assert_eq!(reader.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn inv2_a_change_that_names_what_is_held_changes_nothing() {
    let f = fixture();
    let held = record("held", 1);
    f.set("x", held.clone());
    f.value("x").await;
    let named = |record: &Record| ChangedTo::Unknown(record.revision, Some(*record.digest()));
    assert_eq!(f.change("x", named(&held)), Applied::NotNewer);
    assert_eq!(f.read("x").await, (Some("held".to_owned()), true));
    // The same version of another value: a hand edit.
    let edited = record("edited", 1);
    f.set("x", edited.clone());
    assert_eq!(f.change("x", named(&edited)), Applied::Invalidated);
    assert_eq!(f.read("x").await, (Some("edited".to_owned()), false));
}

#[tokio::test(start_paused = true)]
async fn inv3_a_read_under_way_does_not_insert_after_an_invalidation() {
    let f = fixture();
    f.set("x", record("old", 1));
    let early = f.read_under_way("x").await;
    f.set("x", record("new", 2));
    assert_eq!(
        f.change("x", ChangedTo::Unknown(Revision::default(), None)),
        Applied::NotCached
    );
    // Who comes now does not join the early read, which is still under way.
    assert_eq!(f.read("x").await, (Some("new".to_owned()), false));
    f.memory.release(1);
    assert_eq!(
        early.await.unwrap().unwrap().record.unwrap().value,
        "old",
        "who asked before may see the value of then"
    );
    assert_eq!(
        f.read("x").await,
        (Some("new".to_owned()), true),
        "the early read did not overwrite the cache"
    );
}

#[tokio::test(start_paused = true)]
async fn inv3_after_a_value_that_comes_during_a_read_the_backend_is_read() {
    let f = fixture();
    f.set("x", record("old", 1));
    let early = f.read_under_way("x").await;
    f.set("x", record("new", 2));
    assert_eq!(
        f.change("x", ChangedTo::Value(record("new", 2))),
        Applied::NotCached
    );
    f.memory.release(1);
    early.await.unwrap().unwrap();
    assert_eq!(f.read("x").await, (Some("new".to_owned()), false));
}

#[tokio::test(start_paused = true)]
async fn inv3_a_cancelled_leader_does_not_fail_its_followers() {
    let f = fixture();
    f.set("x", record("v", 1));
    let leader = f.read_under_way("x").await;
    let other = f.clone();
    let follower = tokio::spawn(async move { other.fill("x").await });
    tokio::task::yield_now().await;
    leader.abort();
    f.memory.release(1);
    assert!(follower.await.unwrap().unwrap().record.is_some());
    assert_eq!(f.memory.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn inv4_after_an_invalidation_the_source_is_read() {
    let f = fixture();
    f.set("x", record("1", 1));
    f.value("x").await;
    f.set("x", record("2", 2));
    assert_eq!(f.read("x").await, (Some("1".to_owned()), true));
    assert_eq!(
        f.change("x", ChangedTo::Unknown(Revision::default(), None)),
        Applied::Invalidated
    );
    assert_eq!(f.read("x").await, (Some("2".to_owned()), false));
    assert_eq!(
        f.change("x", ChangedTo::Value(record("3", 3))),
        Applied::Updated
    );
    assert_eq!(
        f.read("x").await,
        (Some("3".to_owned()), true),
        "or the value that the event carried is taken"
    );
    // A removal is an invalidation: somebody may have made it anew meanwhile.
    f.set("x", record("4", 4));
    assert_eq!(f.change("x", ChangedTo::Absent(0)), Applied::Invalidated);
    assert_eq!(f.read("x").await, (Some("4".to_owned()), false));
}

#[tokio::test(start_paused = true)]
async fn inv5_many_readers_of_a_cold_location_make_one_call() {
    let f = Arc::new(fixture());
    f.set("x", record("v", 1));
    let readers: Vec<_> = (0..1_000)
        .map(|_| {
            let f = Arc::clone(&f);
            tokio::spawn(async move { f.value("x").await })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap().as_deref(), Some("v"));
    }
    assert_eq!(f.memory.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn inv5_absence_is_cached_for_the_ttl_and_ends_with_an_event() {
    let f = fixture();
    assert_eq!(f.read("x").await, (None, false));
    advance(Duration::from_secs(59)).await;
    assert_eq!(f.read("x").await, (None, true));
    let later = NOW_MS + SKEW_MS + 1;
    WALL_MS.set(later);
    assert_eq!(
        f.change("x", ChangedTo::Value(record("v", later))),
        Applied::Updated
    );
    assert_eq!(f.read("x").await, (Some("v".to_owned()), true));
    assert_eq!(f.memory.reads(), 1);
}

/// Finding H5: nothing that was written before an absence was known replaces it as fresh.
#[tokio::test(start_paused = true)]
async fn inv0_a_late_push_does_not_bring_a_deleted_key_back() {
    for version in [7, NOW_MS - 60_000, NOW_MS, NOW_MS + SKEW_MS, NOW_MS * 2] {
        for written_at in [None, Some(NOW_MS - 60_000), Some(NOW_MS)] {
            let f = fixture();
            assert_eq!(f.read("x").await, (None, false));
            let change = ChangedTo::Value(record("old", version));
            let applied = f
                .cache
                .apply(&f.id("x"), f.store.order(), change, written_at);
            assert_eq!(applied, Applied::Invalidated, "{version} {written_at:?}");
            assert_eq!(f.value("x").await, None, "the backend decides");
            assert_eq!(f.read("x").await, (None, true));
        }
    }
}

/// The same while the read that finds nothing is in flight.
#[tokio::test(start_paused = true)]
async fn inv0_a_late_push_during_a_read_does_not_bring_a_deleted_key_back() {
    let f = fixture();
    let early = f.read_under_way("x").await;
    f.change("x", ChangedTo::Value(record("old", 7)));
    f.memory.release(1);
    assert!(early.await.unwrap().unwrap().record.is_none());
    assert_eq!(f.value("x").await, None);
}

/// The same after the task deleted the key itself, or heard of a later deletion first.
#[tokio::test(start_paused = true)]
async fn inv0_a_late_push_does_not_bring_back_what_was_deleted_since() {
    for own in [true, false] {
        let f = fixture();
        f.set("x", record("1", 1));
        f.value("x").await;
        f.memory.unset(f.tenant.as_str(), "x");
        if own {
            f.cache.invalidate(&f.id("x"));
        } else {
            f.change("x", ChangedTo::Absent(0));
        }
        f.change("x", ChangedTo::Value(record("2", 2)));
        assert_eq!(f.read("x").await, (None, false));
    }
}

/// Finding L20b: a copy that shows nothing of an announced parameter is not believed for a whole TTL.
#[tokio::test(start_paused = true)]
async fn inv2_a_lagging_copy_without_an_announced_parameter_is_read_again_soon() {
    let f = layered();
    assert_eq!(f.read("x").await, (None, false));
    let announced = parameter("v", NOW_MS + 10_000, 1);
    f.change("x", ChangedTo::Unknown(announced.revision, None));
    assert_eq!(f.value("x").await, None, "the copy lags");
    f.set("x", announced);
    advance(LAGGING_TTL).await;
    assert_eq!(f.value("x").await.as_deref(), Some("v"));
}

/// But an announcement that no copy ever shows does not cost reads for ever.
#[tokio::test(start_paused = true)]
async fn inv2_a_copy_that_never_shows_an_announced_parameter_is_right_in_the_end() {
    let f = layered();
    f.value("x").await;
    let announced = parameter("v", NOW_MS + 10_000, 1);
    f.change("x", ChangedTo::Unknown(announced.revision, None));
    for _ in 0..60 {
        f.value("x").await;
        advance(LAGGING_TTL).await;
    }
    let before = f.memory.reads();
    for _ in 0..40 {
        f.value("x").await;
        advance(LAGGING_TTL).await;
    }
    assert!(f.memory.reads() - before <= 1);
}

/// Finding L23: a version far ahead of the clock, once it is gone, does not hide later ones from the journal.
#[tokio::test(start_paused = true)]
async fn inv2_a_hand_edit_far_ahead_does_not_blind_the_journal() {
    let f = fixture();
    f.set("x", record("far", NOW_MS * 3));
    f.value("x").await;
    f.memory.unset(f.tenant.as_str(), "x");
    let journal = |kind, version| {
        let revision = record("", version).revision;
        f.cache
            .catch_up(&f.id("x"), f.store.order(), kind, revision)
    };
    assert_eq!(
        journal(ChangeKind::Removed, NOW_MS * 3),
        Applied::Invalidated
    );
    assert_eq!(f.value("x").await, None);
    f.set("x", record("new", NOW_MS));
    assert_eq!(journal(ChangeKind::Written, NOW_MS), Applied::Invalidated);
    assert_eq!(f.value("x").await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn inv5_absences_cannot_push_out_values() {
    let f = fixture_with(MemoryStore::default(), 64 * 1024);
    f.set("kept", record("v", 1));
    f.value("kept").await;
    for n in 0..2_000 {
        f.value(&format!("missing{n}")).await;
    }
    assert_eq!(f.read("kept").await, (Some("v".to_owned()), true));
    assert!(f.cache.bytes() <= 64 * 1024);
}

#[tokio::test(start_paused = true)]
async fn inv6_the_cache_is_bounded_in_bytes() {
    let bytes = 256 * 1024;
    let f = fixture_with(MemoryStore::default(), bytes);
    for n in 0..500 {
        let name = format!("n{n}");
        f.set(&name, record(&"x".repeat(2_000), 1));
        f.value(&name).await;
        assert!(f.cache.bytes() <= bytes);
    }
    assert!(f.cache.entries() > 20, "and it is used");
    // One value larger than the whole cache is served all the same.
    f.set("huge", record(&"x".repeat(300 * 1024), 1));
    assert_eq!(f.value("huge").await.unwrap().len(), 300 * 1024);
    assert!(f.cache.bytes() <= bytes);
}

#[tokio::test(start_paused = true)]
async fn inv7_a_failed_read_evicts_nothing() {
    let f = fixture();
    f.set("x", record("v", 1));
    f.value("x").await;
    f.change("x", ChangedTo::Unknown(Revision::default(), None));
    f.memory.set_down(true);
    assert!(f.fill("x").await.is_err());
    let known = |lookup| match lookup {
        Lookup::Stale(entry) | Lookup::Miss(Some(entry)) => entry.record.as_ref().map(text_of),
        _ => None,
    };
    let lookup = f.cache.lookup(&f.id("x"), Instant::now());
    assert!(
        matches!(lookup, Lookup::Stale(_)),
        "not asked again at once"
    );
    advance(Duration::from_mins(59)).await;
    assert_eq!(
        known(f.cache.lookup(&f.id("x"), Instant::now())).as_deref(),
        Some("v")
    );
    advance(Duration::from_mins(2)).await;
    assert_eq!(
        known(f.cache.lookup(&f.id("x"), Instant::now())),
        None,
        "the maximum age"
    );
}

/// Whether no reader sees what was before a change.
#[tokio::test(start_paused = true)]
async fn a_change_is_shown_if_no_reader_is_answered_with_what_was_before() {
    use Awaited::{Deleted, Written};
    let f = fixture();
    let shows = |awaited| f.cache.shows(&f.id("x"), awaited, Instant::now());
    assert!(
        shows(Written(18)) && shows(Deleted(18)),
        "nothing is cached"
    );
    f.set("x", record("17", 17));
    f.value("x").await;
    assert!(shows(Written(17)) && shows(Deleted(16)));
    assert!(!shows(Written(18)) && !shows(Deleted(17)) && !shows(Deleted(0)));
    f.set("x", record("18", 18));
    f.change("x", ChangedTo::Unknown(Revision::default(), None));
    assert!(shows(Written(18)), "the next reader waits for a read");
    f.value("x").await;
    assert!(shows(Written(18)) && !shows(Written(19)));
    f.memory.unset(f.tenant.as_str(), "x");
    f.change("x", ChangedTo::Absent(0));
    assert!(shows(Deleted(19)));
    f.value("x").await;
    assert!(shows(Deleted(19)) && shows(Deleted(0)));
    assert!(shows(Written(18)), "it was deleted since");
    assert!(!shows(Written(20)));
    advance(Duration::from_mins(1)).await;
    assert!(shows(Written(20)), "its TTL has ended");
}

/// Served as stale, or trusted again by a sweep that began before the change.
#[tokio::test(start_paused = true)]
async fn what_stands_in_while_the_backend_fails_or_after_a_pause_shows_no_change() {
    let f = fixture();
    let shows = |version| {
        let awaited = Awaited::Written(version);
        f.cache.shows(&f.id("x"), awaited, Instant::now())
    };
    f.set("x", record("17", 17));
    f.value("x").await;
    f.cache.pauses.invalidate_all();
    assert!(shows(17) && !shows(18));
    f.change("x", ChangedTo::Value(record("18", 18)));
    f.memory.set_down(true);
    f.change("x", ChangedTo::Unknown(record("", 19).revision, None));
    assert!(f.fill("x").await.is_err());
    assert!(shows(18) && !shows(19));
}

/// A reader that joins it is answered with what it found.
#[tokio::test(start_paused = true)]
async fn a_read_in_flight_from_before_shows_no_change() {
    let f = fixture();
    let shows = |asked| f.cache.shows(&f.id("x"), Awaited::Written(2), asked);
    f.set("x", record("old", 1));
    let early = f.read_under_way("x").await;
    f.set("x", record("new", 2));
    let asked = Instant::now();
    assert!(!shows(asked));
    f.memory.release(1);
    early.await.unwrap().unwrap();
    assert!(!shows(asked), "it is cached");
    f.cache.invalidate(&f.id("x"));
    assert!(shows(asked));
    advance(Duration::from_millis(1)).await;
    let later = f.read_under_way("x").await;
    assert!(shows(asked), "it began after the change");
    f.memory.release(1);
    assert_eq!(later.await.unwrap().unwrap().record.unwrap().value, "new");
    assert!(shows(asked));
}

#[tokio::test(start_paused = true)]
async fn inv8_an_entry_knows_its_age_and_ends_with_its_ttl() {
    let f = fixture();
    f.set("x", record("1", 1));
    f.value("x").await;
    advance(Duration::from_secs(30)).await;
    let Lookup::Fresh(entry) = f.cache.lookup(&f.id("x"), Instant::now()) else {
        panic!("it is fresh")
    };
    assert_eq!(entry.since.elapsed(), Duration::from_secs(30));
    f.set("x", record("2", 2));
    advance(Duration::from_secs(31)).await;
    assert_eq!(f.read("x").await, (Some("2".to_owned()), false));
    let exposition = f.cache.metrics.exposition(GaugeSnapshot::of(0, 0));
    assert!(
        exposition.contains(r#"config_repairs_total{by="ttl"} 1"#),
        "the TTL found what no event brought"
    );
}

/// Readers, writers behind the store's back, and events in any order: after the last event, the value is right.
#[tokio::test]
async fn changes_reads_and_events_in_any_order_end_at_the_truth() {
    for order in 0..200_u64 {
        let mut random = fastrand::Rng::with_seed(order);
        let f = fixture();
        let mut events = Vec::new();
        let mut version = 1_000;
        for step in 0..30 {
            match random.u8(0..5) {
                0 => {
                    version += 1;
                    let new = record(&format!("api{step}"), version);
                    f.set("x", new.clone());
                    events.push(ChangedTo::Value(new));
                }
                1 => {
                    let new = record(&format!("hand{step}"), random.i64(0..5));
                    f.set("x", new.clone());
                    events.push(ChangedTo::Value(new));
                }
                2 => {
                    f.memory.unset(f.tenant.as_str(), "x");
                    events.push(ChangedTo::Absent(0));
                }
                3 if !events.is_empty() => {
                    // At least once, in the order of the stream: repeats go back to an earlier record.
                    let from = random.usize(0..events.len());
                    for event in &events[from..] {
                        f.change("x", event.clone());
                    }
                }
                _ => {
                    f.value("x").await;
                }
            }
        }
        for event in events {
            f.change("x", event);
        }
        let layers = f.store.locate(&f.tenant, ConfigName::parse("x").unwrap());
        let truth = f
            .store
            .read(&admitted(&f.tenant), &[layers.first().clone()])
            .await
            .unwrap()
            .pop()
            .unwrap();
        let seen = f.value("x").await;
        assert_eq!(seen, truth.as_ref().map(text_of), "seed {order}");
    }
}

/// A tenant that fills the cache pushes out itself.
#[tokio::test(start_paused = true)]
async fn inv6_a_tenant_that_churns_keeps_to_its_share() {
    let bytes = 1 << 18;
    let f = fixture_with(MemoryStore::default(), bytes);
    // Making one takes a signature.
    let tenants = ["quiet", "noisy"].map(|tenant| (tenant, ISSUER.tenant(tenant)));
    let of = |tenant: &str, name: &str| {
        let (_, id) = tenants.iter().find(|(known, _)| *known == tenant).unwrap();
        let name = ConfigName::parse(name).unwrap();
        f.store.locate(id, name).first().clone()
    };
    let quiet: Vec<Location> = (0..20).map(|n| of("quiet", &format!("k{n}"))).collect();
    for location in &quiet {
        f.memory
            .set("quiet", location.id().sort(), record("steady", 1));
    }
    f.fill_all(&quiet).await;
    for n in 0..10_000 {
        let name = format!("churn{n}");
        if n % 2 == 0 {
            f.memory.set("noisy", &name, record("x", 1));
        }
        f.fill_all(&[of("noisy", &name)]).await;
    }
    for location in &quiet {
        let found = f.cache.lookup(location.id(), Instant::now());
        assert!(matches!(found, Lookup::Fresh(_)), "{}", location.id());
    }
    // A quarter, a sixteenth for what is beyond it, and the quiet tenant's own.
    let most = bytes / 4 + bytes / 16 + 20 * 1_024;
    assert!(f.cache.bytes() <= most, "{}", f.cache.bytes());
    // What is forgotten is counted no more.
    f.cache.clear();
    let names: Vec<_> = (0..100)
        .map(|n| of("noisy", &format!("churn{}", 2 * n)))
        .collect();
    f.fill_all(&names).await;
    assert_eq!(f.cache.entries(), 100, "they fit once more");
}

#[tokio::test(start_paused = true)]
async fn inv7_what_stands_in_does_not_go_back_behind_what_was_given() {
    let f = fixture();
    f.set("x", record("old", 1));
    f.value("x").await;
    f.change("x", ChangedTo::Unknown(Revision::default(), None));
    f.set("x", record("new", 2));
    advance(Duration::from_millis(1)).await;
    let reader = f.read_under_way("x").await;
    // A change arrives while the read is under way: its value is given, and not kept as fresh.
    f.change("x", ChangedTo::Unknown(Revision::default(), None));
    f.memory.release(1);
    let given = reader.await.unwrap().unwrap().record.unwrap();
    assert_eq!(given.value, "new");
    let Lookup::Miss(Some(known)) = f.cache.lookup(&f.id("x"), Instant::now()) else {
        panic!("it is to be read again, with something that stands in")
    };
    assert_eq!(known.record.as_ref().unwrap().value, "new");
}

#[tokio::test(start_paused = true)]
async fn inv3_a_detached_read_that_brought_something_else_invalidates_what_is_cached() {
    let f = fixture();
    f.set("x", record("old", 1));
    f.value("x").await;
    f.set("x", record("new", 2));
    advance(Duration::from_millis(1)).await;
    // A reader that does not trust what is cached, as after a pause.
    let reader = f.read_under_way("x").await;
    assert_eq!(
        f.change("x", ChangedTo::Value(record("old", 1))),
        Applied::NotNewer,
        "a late copy of what is cached"
    );
    f.memory.release(1);
    reader.await.unwrap().unwrap();
    assert_eq!(f.read("x").await, (Some("new".to_owned()), false));
}

/// A read can begin before an event and be made after it: what its readers were given is not taken back.
#[tokio::test(start_paused = true)]
async fn inv3_what_a_detached_read_gave_its_readers_is_not_taken_back() {
    let f = fixture();
    f.set("x", record("1", 1));
    f.value("x").await;
    advance(Duration::from_millis(1)).await;
    f.set("x", record("3", 3));
    let reader = f.read_under_way("x").await;
    advance(Duration::from_millis(1)).await;
    assert_eq!(
        f.change("x", ChangedTo::Value(record("2", 2))),
        Applied::Updated
    );
    f.memory.release(1);
    let given = reader.await.unwrap().unwrap().record.unwrap();
    assert_eq!(given.value, "3");
    assert_eq!(f.read("x").await, (Some("3".to_owned()), false));
}

/// Nor by a read that was made before it and answers after it.
#[tokio::test(start_paused = true)]
async fn inv3_an_older_read_does_not_replace_a_detached_newer_one() {
    for is_cached in [true, false] {
        let f = fixture();
        if is_cached {
            f.set("x", record("1", 1));
            f.value("x").await;
            advance(Duration::from_millis(1)).await;
        }
        f.set("x", record("3", 3));
        let newer = f.read_under_way("x").await;
        f.change("x", ChangedTo::Unknown(Revision::default(), None));
        f.set("x", record("2", 2));
        let older = f.read_under_way("x").await;
        f.memory.release(1);
        assert_eq!(newer.await.unwrap().unwrap().record.unwrap().value, "3");
        f.set("x", record("3", 3));
        f.memory.release(1);
        assert_eq!(older.await.unwrap().unwrap().record.unwrap().value, "2");
        assert_eq!(f.read("x").await, (Some("3".to_owned()), false));
        assert_eq!(f.read("x").await, (Some("3".to_owned()), true));
    }
}

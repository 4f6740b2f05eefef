//! The sweep over a journal in memory; time is the test's.

use std::sync::{LazyLock, Mutex};

use tagged_config_domain::{ConfigName, Location, LocationId, Record, Revision, Store};
use tagged_config_proto::v1 as pb;
use tagged_config_stores::{ChangeKind, Stores};
use tagged_config_testkit::{Issuer, MemoryStore, admitted};
use tokio::time::{Instant, advance};

use super::*;
use crate::{
    cache::{Cache, CacheConfig, Lookup, Surroundings, Wait},
    telemetry::metrics::RepairedBy,
    watch::registry::WatchRegistry,
};

static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::new);

const INTERVAL: Duration = Duration::from_secs(2);

/// A journal of which each sweep finds everything; or nothing, when it is down.
#[derive(Clone, Default)]
struct Rows(Arc<Mutex<(Vec<Entry>, bool)>>);

impl ReadJournal for Rows {
    async fn read(&self, _: i64, _: i64) -> Result<Vec<Entry>, StoreError> {
        let rows = self.0.lock().unwrap();
        if rows.1 {
            let backend = tagged_config_domain::Backend("journal");
            return Err(StoreError::TimedOut { backend });
        }
        Ok(rows.0.clone())
    }
}

struct Fixture {
    memory: Arc<MemoryStore>,
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    changes: Arc<Changes>,
    metrics: Arc<Metrics>,
    rows: Rows,
    now_ms: Arc<AtomicU64>,
    health: Arc<SweepHealth>,
    sweeper: Sweeper<Rows>,
}

fn fixture() -> Fixture {
    let now_ms = Arc::new(AtomicU64::new(1_000_000));
    let read = Arc::clone(&now_ms);
    let clock: Clock = Arc::new(move || read.load(Ordering::SeqCst));
    let metrics = Metrics::new();
    let health = Arc::new(SweepHealth::new(Arc::clone(&clock), INTERVAL));
    let pauses = Arc::new(PauseDetector::new(clock, health.promise()));
    let config = CacheConfig {
        ttl: Duration::from_mins(5),
        max_stale: Duration::from_hours(1),
        bytes: 1 << 20,
    };
    let cache = Cache::new(
        config,
        Surroundings {
            jitter: || 0.0,
            unix_ms,
        },
        Arc::clone(&pauses),
        WatchRegistry::new(),
        Arc::clone(&metrics),
    );
    let cache = Arc::new(cache);
    let memory = Arc::new(MemoryStore::default());
    let stores = Stores::from_parts(vec![("tenant", memory.clone())]);
    let changes = Changes::new(stores, Arc::clone(&cache), Arc::clone(&metrics), None);
    let changes = Arc::new(changes);
    let rows = Rows::default();
    Fixture {
        store: memory.clone(),
        memory,
        cache,
        sweeper: Sweeper::new(
            Some(rows.clone()),
            INTERVAL,
            Arc::clone(&changes),
            pauses,
            Arc::clone(&health),
            Arc::clone(&metrics),
        ),
        changes,
        metrics,
        rows,
        now_ms,
        health,
    }
}

fn revision(version: i64) -> Revision {
    Revision {
        incarnation: 0,
        version,
    }
}

impl Fixture {
    fn location(&self) -> Location {
        let tenant = ISSUER.tenant("A");
        let name = ConfigName::parse("x").unwrap();
        self.store.locate(&tenant, name).first().clone()
    }

    fn id(&self) -> LocationId {
        self.location().id().clone()
    }

    fn set(&self, value: &str, version: i64) {
        let record = Record::new(value, "text/plain", revision(version), None);
        self.memory.set("A", "x", record);
    }

    fn journal(&self, entry: Entry) {
        self.rows.0.lock().unwrap().0.push(entry);
    }

    fn journal_is_down(&self, down: bool) {
        self.rows.0.lock().unwrap().1 = down;
    }

    fn written(&self, version: i64) -> Entry {
        Entry::written(&self.id(), revision(version), unix_ms())
    }

    /// What a reader gets, and whether without a call.
    async fn read(&self) -> (Option<String>, bool) {
        let text = |record: Option<Record>| {
            record.map(|record| record.value.as_text().unwrap().to_owned())
        };
        if let Lookup::Fresh(entry) = self.cache.lookup(&self.id(), Instant::now()) {
            return (text(entry.record.clone()), true);
        }
        let read = self
            .cache
            .fill(
                &self.store,
                &admitted(&ISSUER.tenant("A")),
                &[self.location()],
                Wait::UntilDone,
            )
            .await
            .pop();
        (text(read.unwrap().unwrap().record), false)
    }

    /// Cached is what the source does not hold any more; the journal knows.
    async fn changed_unseen(&self) -> Entry {
        self.set("old", 1);
        self.read().await;
        self.set("new", 2);
        let entry = self.written(2);
        self.journal(entry.clone());
        entry
    }

    fn push(&self, entry: &Entry, value: &str) -> pb::Receipt {
        let (backend, id) = (self.store.backend(), self.id());
        self.changes.pushed(pb::Change {
            location: Some(pb::Location {
                backend: backend.0.to_owned(),
                partition: id.partition().to_owned(),
                sort: id.sort().to_owned(),
            }),
            version: entry.revision.version,
            state: Some(pb::change::State::Value(pb::Value {
                checked: true,
                value: value.to_owned(),
                content_type: "text/plain".to_owned(),
                ..Default::default()
            })),
            id: entry.id.as_bytes().to_vec().into(),
            ..Default::default()
        })
    }

    fn repairs(&self) -> u64 {
        self.metrics.repairs(RepairedBy::sweep)
    }

    fn pass(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    async fn sweep_after(&mut self, time: Duration) {
        self.pass(time);
        advance(time).await;
        self.sweeper.sweep().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_no_push_brought_is_found_and_counted_once() {
    let mut f = fixture();
    f.changed_unseen().await;
    assert_eq!(f.read().await, (Some("old".to_owned()), true));
    f.sweep_after(INTERVAL).await;
    assert_eq!(f.read().await, (Some("new".to_owned()), false));
    for _ in 0..3 {
        f.sweep_after(INTERVAL).await;
    }
    assert_eq!(f.read().await, (Some("new".to_owned()), true));
    assert_eq!(f.repairs(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_pushed_is_not_repaired() {
    let mut f = fixture();
    let entry = f.changed_unseen().await;
    f.push(&entry, "new");
    f.sweep_after(INTERVAL).await;
    f.sweep_after(INTERVAL).await;
    assert_eq!(f.read().await, (Some("new".to_owned()), true));
    assert_eq!(f.repairs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_the_sweep_overtook_is_no_repair() {
    let mut f = fixture();
    let entry = f.changed_unseen().await;
    f.sweep_after(INTERVAL).await;
    f.push(&entry, "new");
    // The key may have been deleted since: one read decides.
    assert_eq!(f.read().await, (Some("new".to_owned()), false));
    f.sweep_after(INTERVAL).await;
    f.sweep_after(INTERVAL).await;
    assert_eq!(f.repairs(), 0);
}

#[tokio::test(start_paused = true)]
async fn removals_and_hand_edits_that_lower_or_keep_the_version_are_found() {
    let mut f = fixture();
    f.set("old", 5);
    f.read().await;
    f.memory.unset("A", "x");
    f.journal(Entry::removed(&f.id(), revision(5), unix_ms(), ""));
    f.sweep_after(INTERVAL).await;
    assert_eq!(f.read().await, (None, false));
    for (value, version) in [("B", 5), ("A", 5), ("lower", 1)] {
        f.set(value, version);
        f.journal(Entry::edited(&f.id(), revision(version), unix_ms(), value));
        f.sweep_after(INTERVAL).await;
        assert_eq!(f.read().await, (Some(value.to_owned()), false));
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_removal_does_not_touch_what_was_made_since() {
    let mut f = fixture();
    f.set("new", unix_ms());
    f.read().await;
    let removed = revision(unix_ms() - 60_000);
    f.journal(Entry::removed(&f.id(), removed, unix_ms(), ""));
    f.sweep_after(INTERVAL).await;
    assert_eq!(f.read().await, (Some("new".to_owned()), true));
    assert_eq!(f.repairs(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_no_hit_is_fresh_until_a_sweep_succeeded() {
    let mut f = fixture();
    f.set("old", 1);
    f.sweep_after(INTERVAL).await;
    f.read().await;
    f.set("new", 2);
    // The process stops, and a reader is first to run again.
    f.pass(Duration::from_secs(30));
    assert_eq!(f.read().await, (Some("new".to_owned()), false));
    assert_eq!(f.read().await, (Some("new".to_owned()), true));
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_and_a_sweep_the_cache_serves_what_did_not_change() {
    let mut f = fixture();
    f.set("same", 1);
    f.sweep_after(INTERVAL).await;
    f.read().await;
    f.sweep_after(Duration::from_secs(30)).await;
    assert_eq!(f.read().await, (Some("same".to_owned()), true));
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_with_the_journal_down_everything_is_asked_for_again() {
    let mut f = fixture();
    f.set("same", 1);
    f.sweep_after(INTERVAL).await;
    f.read().await;
    f.journal_is_down(true);
    f.sweep_after(Duration::from_secs(30)).await;
    assert_eq!(f.read().await, (Some("same".to_owned()), false));
}

#[tokio::test(start_paused = true)]
async fn a_gap_beyond_what_is_caught_up_with_flushes() {
    let mut f = fixture();
    f.set("same", 1);
    f.sweep_after(INTERVAL).await;
    f.read().await;
    // The wall clock is the system's: the cursor goes back instead.
    f.sweeper.since_ms -= i64::try_from((MAX_GAP + INTERVAL).as_millis()).unwrap();
    f.sweep_after(INTERVAL).await;
    assert_eq!(f.read().await, (Some("same".to_owned()), false));
}

#[tokio::test(start_paused = true)]
async fn a_flush_in_the_journal_reaches_a_task_once() {
    let mut f = fixture();
    f.set("9", 9);
    f.read().await;
    // A restore: versions go backwards.
    f.set("3", 3);
    f.journal(Entry::flush(unix_ms()));
    f.sweep_after(INTERVAL).await;
    assert_eq!(f.read().await, (Some("3".to_owned()), false));
    f.sweep_after(INTERVAL).await;
    assert_eq!(f.read().await, (Some("3".to_owned()), true));
}

#[tokio::test(start_paused = true)]
async fn the_bound_is_promised_only_while_sweeps_succeed() {
    let mut f = fixture();
    assert_eq!(f.health.bound(), None, "before the first sweep");
    f.sweep_after(INTERVAL).await;
    assert_eq!(f.health.bound(), Some(Duration::from_secs(4)));
    f.journal_is_down(true);
    f.sweep_after(INTERVAL).await;
    f.sweep_after(INTERVAL + Duration::from_millis(1)).await;
    assert_eq!(f.health.bound(), None);
    assert_eq!(f.metrics.sweeps(), [("failed", 2), ("ok", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_began_before_a_swept_change_is_not_kept() {
    let mut f = fixture();
    f.set("old", 1);
    f.memory.hold_reads();
    let (cache, store, location) = (Arc::clone(&f.cache), Arc::clone(&f.store), f.location());
    let reader = tokio::spawn(async move {
        cache
            .fill(
                &store,
                &admitted(&ISSUER.tenant("A")),
                &[location],
                Wait::UntilDone,
            )
            .await
    });
    while f.memory.reads() == 0 {
        tokio::task::yield_now().await;
    }
    f.memory.stop_holding();
    f.set("new", 2);
    f.journal(f.written(2));
    f.sweep_after(INTERVAL).await;
    f.memory.release(1);
    reader.await.unwrap();
    assert_eq!(f.read().await, (Some("new".to_owned()), false));
    assert_eq!(f.written(2).kind, ChangeKind::Written);
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_nobody_joins_a_read_from_before_it() {
    let mut f = fixture();
    f.set("old", 1);
    f.sweep_after(INTERVAL).await;
    f.memory.hold_reads();
    let (cache, store, location) = (Arc::clone(&f.cache), Arc::clone(&f.store), f.location());
    let before = f.memory.reads();
    let early = tokio::spawn(async move {
        cache
            .fill(
                &store,
                &admitted(&ISSUER.tenant("A")),
                &[location],
                Wait::UntilDone,
            )
            .await
    });
    while f.memory.reads() == before {
        tokio::task::yield_now().await;
    }
    f.memory.stop_holding();
    f.set("new", 2);
    f.pass(Duration::from_secs(30));
    assert_eq!(f.read().await, (Some("new".to_owned()), false));
    f.memory.release(1);
    early.await.unwrap();
    assert_eq!(f.read().await, (Some("new".to_owned()), true));
}

//! Watches over stores in memory; time is the test's.

use tagged_config_domain::{ConfigName, Principal, Record, Store};
use tagged_config_runtime::shutdown::{ShutdownTrigger, shutdown_pair};
use tagged_config_testkit::{Issuer, MemoryStore};

use super::*;
use crate::cache::{Cache, ChangedTo};

const TTL: Duration = Duration::from_mins(1);
const KEY: &str = "tenant_config_x";
const SHARED_KEY: &str = "param_config_x";

struct Fixture {
    api: Arc<ConfigApi>,
    cache: Arc<Cache>,
    own: Arc<MemoryStore>,
    layered: Arc<MemoryStore>,
    a: Principal,
    b: Principal,
    stop: Shutdown,
    trigger: ShutdownTrigger,
}

type Events = Pin<Box<dyn Stream<Item = Result<Event, Ended>> + Send>>;

fn fixture() -> Fixture {
    let service = crate::fixture::service(TTL);
    let issuer = Issuer::new();
    let (trigger, stop) = shutdown_pair();
    Fixture {
        api: service.api,
        cache: service.cache,
        own: service.tenant_store,
        layered: service.shared_store,
        a: issuer.principal("A", "reader"),
        b: issuer.principal("B", "reader"),
        stop,
        trigger,
    }
}

fn record(value: &str, version: i64) -> Record {
    let revision = Revision {
        incarnation: version,
        version,
    };
    Record::new(value, "text/plain", revision, None)
}

impl Fixture {
    fn watch_for(&self, who: &Principal, keys: &[&str], limits: [Duration; 2]) -> Events {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let [connection, token] = limits.map(|limit| Instant::now() + limit);
        let limits = Limits {
            connection_ends: connection,
            token_ends: token,
            stop: self.stop.clone(),
            revoked: Box::pin(std::future::pending()),
        };
        Box::pin(self.api.watch(who, keys).unwrap().events(limits))
    }

    fn watch(&self, who: &Principal, keys: &[&str]) -> Events {
        self.watch_for(who, keys, [Duration::from_hours(9); 2])
    }

    /// The source changes and the push arrives.
    fn change(
        &self,
        store: &Arc<MemoryStore>,
        partition: &str,
        name: &str,
        record: Option<Record>,
    ) {
        let store: &MemoryStore = store;
        match &record {
            Some(record) => store.set(partition, name, record.clone()),
            None => store.unset(partition, name),
        }
        self.push(store, partition, name, record);
    }

    fn push(&self, store: &MemoryStore, partition: &str, name: &str, record: Option<Record>) {
        use tagged_config_domain::{LocationId, Store};
        let id = LocationId::new(store.backend(), partition, name);
        let change = record.map_or(ChangedTo::Absent(i64::MAX - 999), ChangedTo::Value);
        self.cache.apply(&id, store.order(), change, None);
    }
}

/// What the next event says, in short.
async fn next(events: &mut Events) -> String {
    match events.next().await {
        None => "end".to_owned(),
        Some(Err(ended)) => format!("{ended:?}"),
        Some(Ok(Event::Upserted(served))) => {
            let stale = match served.result {
                ReadResult::stale => " stale",
                _ => "",
            };
            format!(
                "{}={} {}{stale}",
                served.key,
                served.record.value.as_text().unwrap(),
                served.origin.as_str()
            )
        }
        Some(Ok(Event::Changed(key))) => format!("{key} changed"),
        Some(Ok(Event::Deleted(key, version))) => format!("{key} deleted {version}"),
        Some(Ok(Event::InSync(whole))) => format!("in_sync {whole}"),
        Some(Ok(Event::Heartbeat)) => "heartbeat".to_owned(),
        Some(Ok(Event::Failed(key, error))) => format!("{key} {:?}", error.answer().code),
    }
}

/// The events up to now, without heartbeats.
async fn now(events: &mut Events) -> Vec<String> {
    let mut found = Vec::new();
    while let Ok(event) = tokio::time::timeout(Duration::from_millis(1), next(events)).await {
        if event != "heartbeat" {
            found.push(event);
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_then_changes() {
    let f = fixture();
    f.own.set("A", "x", record("1", 1));
    let mut events = f.watch(&f.a, &[KEY, "tenant_config_none", KEY]);
    assert_eq!(
        now(&mut events).await,
        ["tenant_config_x=1 tenant", "in_sync true"]
    );
    f.change(&f.own, "A", "x", Some(record("2", 2)));
    assert_eq!(next(&mut events).await, "tenant_config_x=2 tenant");
    f.change(&f.own, "A", "none", Some(record("n", 1)));
    assert_eq!(next(&mut events).await, "tenant_config_none=n tenant");
    f.change(&f.own, "A", "x", None);
    assert_eq!(next(&mut events).await, "tenant_config_x deleted 2");
    assert!(now(&mut events).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn deleting_an_override_is_an_upsert_of_the_default() {
    let f = fixture();
    f.layered.set("global/x", "", record("default", 1));
    f.layered.set("A", "x", record("own", 2));
    let mut events = f.watch(&f.a, &[SHARED_KEY]);
    let mut of_b = f.watch(&f.b, &[SHARED_KEY]);
    assert_eq!(
        now(&mut events).await,
        ["param_config_x=own tenant", "in_sync true"]
    );
    now(&mut of_b).await;
    f.change(&f.layered, "A", "x", None);
    assert_eq!(now(&mut events).await, ["param_config_x=default global"]);
    assert!(now(&mut of_b).await.is_empty(), "nothing of A reaches B");
    f.change(&f.layered, "global/x", "", Some(record("new", 3)));
    // At once: the default is watched, too, not only looked at now and then.
    assert_eq!(now(&mut events).await, ["param_config_x=new global"]);
    assert_eq!(now(&mut of_b).await, ["param_config_x=new global"]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_receives_its_own_changes_only() {
    let f = fixture();
    let (mut of_a, mut of_b) = (f.watch(&f.a, &[KEY]), f.watch(&f.b, &[KEY]));
    now(&mut of_a).await;
    now(&mut of_b).await;
    f.change(&f.own, "B", "x", Some(record("of B", 1)));
    assert_eq!(now(&mut of_b).await, ["tenant_config_x=of B tenant"]);
    assert!(now(&mut of_a).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_a_notice_of_missed_states_and_then_the_current_one() {
    let f = fixture();
    let (mut slow, mut quick) = (f.watch(&f.a, &[KEY]), f.watch(&f.a, &[KEY]));
    now(&mut slow).await;
    now(&mut quick).await;
    for version in 1..=9 {
        let value = version.to_string();
        f.change(&f.own, "A", "x", Some(record(&value, version)));
        assert_eq!(
            now(&mut quick).await,
            [format!("tenant_config_x={value} tenant")]
        );
        tokio::time::advance(Duration::from_millis(300)).await;
    }
    assert_eq!(
        now(&mut slow).await,
        ["in_sync false", "tenant_config_x=9 tenant", "in_sync true"]
    );
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_token_the_connection_and_the_task() {
    let f = fixture();
    let (soon, late) = (Duration::from_secs(5), Duration::from_secs(50));
    let ends = async |mut events: Events| loop {
        let event = next(&mut events).await;
        if !event.starts_with("in_sync") && event != "heartbeat" {
            assert_eq!(next(&mut events).await, "end");
            return event;
        }
    };
    let token = f.watch_for(&f.a, &[KEY], [late, soon]);
    assert_eq!(ends(token).await, "TokenExpired");
    let mut connection = f.watch_for(&f.a, &[KEY], [soon, late]);
    assert_eq!(next(&mut connection).await, "in_sync true");
    assert_eq!(next(&mut connection).await, "end");
    let task = f.watch(&f.a, &[KEY]);
    f.trigger.fire();
    assert_eq!(ends(task).await, "Stopping");
    drop(connection);
    assert_eq!(f.cache.registry().watches(), 0, "nothing is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_changes_has_a_heartbeat() {
    let f = fixture();
    let mut events = f.watch(&f.a, &[KEY]);
    assert_eq!(next(&mut events).await, "in_sync true");
    let began = Instant::now();
    assert_eq!(next(&mut events).await, "heartbeat");
    assert_eq!(began.elapsed(), HEARTBEAT);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_fails_and_is_sent_when_it_can() {
    let f = fixture();
    f.own.set("A", "x", record("1", 1));
    f.own.set_down(true);
    let mut events = f.watch(&f.a, &[KEY]);
    assert_eq!(
        now(&mut events).await,
        ["tenant_config_x Unavailable", "in_sync true"]
    );
    f.own.set_down(false);
    let began = Instant::now();
    assert_eq!(next(&mut events).await, "tenant_config_x=1 tenant");
    assert!(
        began.elapsed() <= RETRY + Duration::from_secs(1),
        "by a retry, not by a poll"
    );
}

/// Finding M12: a watch sends that a value became stale, and that it is current again, though its revision is the same.
#[tokio::test(start_paused = true)]
async fn staleness_is_sent_and_taken_back() {
    let f = fixture();
    f.own.set("A", "x", record("1", 1));
    let mut events = f.watch(&f.a, &[KEY]);
    now(&mut events).await;
    f.own.set_down(true);
    let store: Arc<dyn Store> = f.own.clone();
    let name = ConfigName::parse("x").unwrap();
    let layers = store.locate(f.a.tenant(), name);
    f.cache.invalidate(layers.first().id());
    assert_eq!(next(&mut events).await, "tenant_config_x=1 tenant stale");
    f.own.set_down(false);
    let began = Instant::now();
    assert_eq!(next(&mut events).await, "tenant_config_x=1 tenant");
    assert!(began.elapsed() <= 3 * RETRY, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_change_that_no_event_brought_is_sent_within_the_ttl() {
    let f = fixture();
    f.own.set("A", "x", record("1", 1));
    let mut events = f.watch(&f.a, &[KEY]);
    now(&mut events).await;
    f.own.set("A", "x", record("2", 2));
    let began = Instant::now();
    loop {
        let event = next(&mut events).await;
        if event != "heartbeat" {
            assert_eq!(event, "tenant_config_x=2 tenant");
            break;
        }
    }
    assert!(began.elapsed() <= TTL, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_read_again() {
    let f = fixture();
    f.own.set("A", "x", record("9", 9));
    let mut events = f.watch(&f.a, &[KEY]);
    now(&mut events).await;
    f.own.set("A", "x", record("restored", 3));
    f.cache.clear();
    assert_eq!(next(&mut events).await, "tenant_config_x=restored tenant");
}

#[tokio::test(start_paused = true)]
async fn of_a_secret_admins_learn_that_it_changed_and_nobody_more() {
    let f = fixture();
    f.layered.set("A", "x", record("hidden", 1).secret());
    let mut events = f.watch(&f.a, &[SHARED_KEY]);
    assert_eq!(
        now(&mut events).await,
        ["param_config_x PermissionDenied", "in_sync true"]
    );
    let admin = Issuer::new().principal("A", "admin");
    let mut events = f.watch(&admin, &[SHARED_KEY]);
    assert_eq!(
        now(&mut events).await,
        ["param_config_x changed", "in_sync true"]
    );
    f.layered.set("A", "x", record("hidden too", 2).secret());
    f.cache.clear();
    assert_eq!(next(&mut events).await, "param_config_x changed");
}

#[tokio::test(start_paused = true)]
async fn bad_requests_and_one_watch_too_many_are_refused() {
    let f = fixture();
    let watch = |keys: Vec<String>| f.api.watch(&f.a, keys).map(drop).unwrap_err();
    assert!(matches!(watch(vec![]), ApiError::Invalid(_)));
    assert!(matches!(
        watch(vec![KEY.to_owned(); MAX_KEYS + 1]),
        ApiError::Invalid(_)
    ));
    assert!(matches!(
        watch(vec!["other_config_x".to_owned()]),
        ApiError::Key { .. }
    ));
    let one = || f.api.watch(&f.a, vec![KEY.to_owned()]);
    let held: Vec<_> = std::iter::from_fn(|| one().ok()).take(20_001).collect();
    assert_eq!(held.len(), 5_000, "a quarter of all");
    assert!(matches!(one(), Err(ApiError::RateLimited { .. })));
    assert!(f.api.watch(&f.b, vec![KEY.to_owned()]).is_ok());
    drop(held);
    assert!(one().is_ok());
}

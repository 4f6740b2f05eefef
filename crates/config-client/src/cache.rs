//! A cache in the process: one WatchConfig call for each active tenant keeps a [`Snapshot`], and reads are a look at it.
//!
//! A tenant's call is made with a caller's own token. When that has expired, the last known values are served until the
//! next caller of the tenant brings a new one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use quick_cache::sync::Cache as QuickCache;
use tagged_config_domain::TenantId;
use tagged_config_proto::v1::{
    WatchConfigRequest, config_service_client::ConfigServiceClient, watch_config_response::Event,
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Request, Status};

use crate::{CallerToken, ConfigClient, Snapshot};

/// config-service speaks every 15 s at least: a connection that is silent for longer than this is dead.
const SILENCE: Duration = Duration::from_secs(40);
/// How long an answer counts that was asked for because no watch tells.
const UNWATCHED_TTL: Duration = Duration::from_secs(1);
/// The first wait before a watch is made anew after a failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Settings of [`ConfigCache`].
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The keys of every tenant that are kept, 1 to 500.
    pub keys: Vec<String>,
    /// Tenants that are kept at once; the one that was not asked for the longest goes first.
    pub tenants: usize,
    /// How old the last known values may get while config-service cannot be reached.
    pub max_stale: Duration,
}

/// Told of what happens, for metrics. All methods do nothing by default, and must not block.
pub trait Observer: Send + Sync + 'static {
    /// A watch has told its snapshot.
    fn connected(&self) {}
    /// A watch ended; `Ok` when it was to be made anew.
    fn ended(&self, _code: Code) {}
    /// A key has changed.
    fn updated(&self, _key: &str) {}
    /// There was no watch in time, and the keys were read by a call of their own.
    fn fell_back(&self) {}
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

/// Tenants' configuration, kept in the process. Cheap to clone.
#[derive(Clone)]
pub struct ConfigCache {
    client: ConfigClient,
    config: Arc<CacheConfig>,
    sessions: Arc<QuickCache<TenantId, Arc<Session>>>,
    observer: Arc<dyn Observer>,
}

/// One tenant's configuration. Reads are synchronous. Keeps its watch alive.
#[derive(Clone)]
pub struct TenantConfig {
    session: Arc<Session>,
    max_stale: Duration,
}

/// How current a tenant's configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Whether a watch brings changes now.
    pub live: bool,
    /// Since config-service was heard.
    pub age: Duration,
    /// At most this long a change may stay unseen by the task that is watched, as it said last.
    pub staleness_bound: Duration,
}

struct Session {
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    snapshot: ArcSwap<Snapshot>,
    /// Whether there is something to read.
    ready: watch::Sender<bool>,
    live: AtomicBool,
    began: Instant,
    /// Milliseconds after `began`.
    heard_ms: AtomicU64,
    staleness_bound_ms: AtomicI64,
    token: Mutex<CallerToken>,
    token_changed: Notify,
    /// Held by who asks because no watch tells.
    asking: tokio::sync::Mutex<()>,
}

impl Observer for Unobserved {}

// === impl ConfigCache ===

impl ConfigCache {
    /// A cache that watches through this client. Must be used within a Tokio runtime.
    pub fn new(client: ConfigClient, config: CacheConfig, observer: Arc<dyn Observer>) -> Self {
        Self {
            client,
            sessions: Arc::new(QuickCache::new(config.tenants)),
            config: Arc::new(config),
            observer,
        }
    }

    /// The configuration of a tenant. `token` must be the one that proved `tenant`: config-service answers for the token's
    /// tenant. Waits for the first snapshot only; without one in time, asks for the keys by a call.
    pub async fn tenant(
        &self,
        tenant: &TenantId,
        token: &CallerToken,
    ) -> Result<TenantConfig, Status> {
        let session = self.session(tenant, token);
        session.state.offer(token);
        let found = TenantConfig {
            session,
            max_stale: self.config.max_stale,
        };
        self.settle(&found, token).await?;
        Ok(found)
    }

    /// Waits or asks until there is something current to read, or something that has to do.
    async fn settle(&self, found: &TenantConfig, token: &CallerToken) -> Result<(), Status> {
        let state = &found.session.state;
        if !*state.ready.borrow() {
            let mut ready = state.ready.subscribe();
            let patience = self.client.deadline / 2;
            let _ = timeout(patience, ready.wait_for(|ready| *ready)).await;
        }
        if found.is_current() {
            return Ok(());
        }
        // One caller asks; who comes meanwhile takes what is known, if something is.
        let _asking = match state.asking.try_lock() {
            Ok(asking) => asking,
            Err(_) if found.has_values() => return Ok(()),
            Err(_) => state.asking.lock().await,
        };
        if found.is_current() {
            return Ok(());
        }
        self.observer.fell_back();
        let batch = self.client.batch_get(token, self.config.keys.clone());
        match batch.await {
            Ok(batch) => state.take(Snapshot::from(batch)),
            Err(status) if has_no_answer(&status) && found.has_values() => {}
            Err(status) => return Err(status),
        }
        Ok(())
    }

    fn session(&self, tenant: &TenantId, token: &CallerToken) -> Arc<Session> {
        let made = self.sessions.get_or_insert_with(tenant, || {
            let state = Arc::new(State::new(token.clone()));
            let watcher = Watcher {
                client: self.client.clone(),
                config: Arc::clone(&self.config),
                observer: Arc::clone(&self.observer),
                state: Arc::clone(&state),
            };
            let task = tokio::spawn(watcher.run()).abort_handle();
            Ok::<_, std::convert::Infallible>(Arc::new(Session { state, task }))
        });
        let Ok(session) = made;
        session
    }
}

// === impl TenantConfig ===

impl TenantConfig {
    /// What is known now. Fails with UNAVAILABLE if config-service was not heard for longer than the maximum age.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, Status> {
        if self.has_values() {
            Ok(self.session.state.snapshot.load_full())
        } else {
            Err(Status::unavailable(
                "config-service was not heard for too long",
            ))
        }
    }

    /// How current it is.
    pub fn freshness(&self) -> Freshness {
        let state = &self.session.state;
        let bound = state.staleness_bound_ms.load(Ordering::Relaxed);
        Freshness {
            live: state.live.load(Ordering::Acquire),
            age: state.age(),
            staleness_bound: Duration::from_millis(bound.max(0).unsigned_abs()),
        }
    }

    /// Nothing has to be asked: a watch tells, or a call told a moment ago.
    fn is_current(&self) -> bool {
        let state = &self.session.state;
        let asked = *state.ready.borrow() && state.age() <= UNWATCHED_TTL.min(self.max_stale);
        state.live.load(Ordering::Acquire) || asked
    }

    /// Something is known that is not too old.
    fn has_values(&self) -> bool {
        let state = &self.session.state;
        let young = *state.ready.borrow() && state.age() <= self.max_stale;
        state.live.load(Ordering::Acquire) || young
    }
}

// === impl Session ===

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl State ===

impl State {
    fn new(token: CallerToken) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            ready: watch::channel(false).0,
            live: AtomicBool::new(false),
            began: Instant::now(),
            heard_ms: AtomicU64::new(0),
            staleness_bound_ms: AtomicI64::new(0),
            token: Mutex::new(token),
            token_changed: Notify::new(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    fn age(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Acquire));
        self.began.elapsed().saturating_sub(heard)
    }

    fn heard(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(now, Ordering::Release);
    }

    /// Takes a caller's token for the next watch: a newer one mostly lives longer.
    fn offer(&self, token: &CallerToken) {
        let mut held = self.token.lock();
        if *held != *token {
            *held = token.clone();
            self.token_changed.notify_one();
        }
    }

    fn take(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.heard();
        self.ready.send_replace(true);
    }
}

struct Watcher {
    client: ConfigClient,
    config: Arc<CacheConfig>,
    observer: Arc<dyn Observer>,
    state: Arc<State>,
}

// === impl Watcher ===

impl Watcher {
    async fn run(self) {
        let mut wait = FIRST_WAIT;
        loop {
            let token = self.state.token.lock().clone();
            let (told, ended) = self.watch(&token).await;
            self.state.live.store(false, Ordering::Release);
            let code = ended.as_ref().map_or(Code::Ok, Status::code);
            self.observer.ended(code);
            if told {
                wait = FIRST_WAIT;
            }
            match code {
                // Its connection is to be made anew.
                Code::Ok => {}
                Code::Unauthenticated | Code::PermissionDenied => {
                    let is_new = *self.state.token.lock() != token;
                    if !is_new {
                        self.state.token_changed.notified().await;
                    }
                }
                Code::ResourceExhausted => sleep(jittered(LONGEST_WAIT)).await,
                _ => {
                    sleep(jittered(wait)).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// Watches until the call ends: whether it told its snapshot, and why it ended.
    async fn watch(&self, token: &CallerToken) -> (bool, Option<Status>) {
        let Some(member) = self.client.pool.pick(&[]).await else {
            return (false, Some(Status::unavailable("no address is known")));
        };
        let mut request = Request::new(WatchConfigRequest {
            keys: self.config.keys.clone(),
        });
        request
            .metadata_mut()
            .insert("authorization", token.0.clone());
        let mut client = ConfigServiceClient::new(member.channel());
        let mut events = match timeout(SILENCE, client.watch_config(request)).await {
            Ok(Ok(events)) => events.into_inner(),
            Ok(Err(status)) => {
                if status.code() == Code::Unavailable {
                    member.failed();
                }
                return (false, Some(status));
            }
            Err(_) => return (false, Some(Status::unavailable("no answer in time"))),
        };
        let mut coming = Some(Snapshot::default());
        loop {
            let event = match timeout(SILENCE, events.message()).await {
                Ok(Ok(Some(message))) => message.event,
                Ok(Ok(None)) => return (coming.is_none(), None),
                Ok(Err(status)) => return (coming.is_none(), Some(status)),
                Err(_) => {
                    let silent = Status::unavailable("the connection is silent");
                    return (coming.is_none(), Some(silent));
                }
            };
            self.state.heard();
            let Some(event) = event else { continue };
            if event == Event::InSync(true)
                && let Some(whole) = coming.take()
            {
                self.state.take(whole);
                self.state.live.store(true, Ordering::Release);
                self.observer.connected();
                continue;
            }
            if let Some(whole) = &mut coming {
                self.apply(whole, event);
            } else {
                let mut next = Snapshot::clone(&self.state.snapshot.load());
                self.apply(&mut next, event);
                self.state.snapshot.store(Arc::new(next));
            }
        }
    }

    fn apply(&self, snapshot: &mut Snapshot, event: Event) {
        match event {
            Event::Upserted(entry) => {
                let bound = &self.state.staleness_bound_ms;
                bound.store(entry.staleness_bound_ms, Ordering::Relaxed);
                self.observer.updated(&entry.key);
                snapshot.upsert(entry);
            }
            Event::Deleted(deleted) => {
                self.observer.updated(&deleted.key);
                snapshot.delete(&deleted.key);
            }
            Event::Failed(error) => snapshot.fail(error),
            Event::Heartbeat(beat) => {
                let bound = &self.state.staleness_bound_ms;
                bound.store(beat.staleness_bound_ms, Ordering::Relaxed);
            }
            Event::InSync(_) => {}
        }
    }
}

/// Whether config-service did not answer, so that the last known values stand in.
fn has_no_answer(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
    )
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + 0.5 * fastrand::f64())
}

#[cfg(test)]
mod tests;

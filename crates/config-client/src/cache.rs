//! A cache in the process: one WatchConfig call for each active tenant keeps a [`Snapshot`], and reads are a look at it.
//!
//! A tenant's watch is made with a caller's own token. When that has expired, the last known values are served until the
//! next caller of the tenant brings a new one. A watch shows the same to every role, so what it tells is kept for the tenant;
//! what a call of one caller tells may depend on the caller's role, and stays in the caller's own handle.

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
use thiserror::Error;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{Code, Request, Status};

use crate::{CallerToken, ConfigClient, Snapshot};

/// config-service speaks every 15 s at least: a connection that is silent for longer than this is dead.
const SILENCE: Duration = Duration::from_secs(40);
/// Most keys that a cache keeps of each tenant: what config-service lets one watch have.
pub const MAX_KEYS: usize = 500;
/// Keys of one BatchGetConfig call.
const BATCH: usize = 100;
/// After a call without an answer the last known values are taken without another one for so long.
const GIVEN_UP: Duration = Duration::from_secs(1);
/// The first wait before a watch is made anew after a failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Settings of [`ConfigCache`].
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The keys of every tenant that are kept, 1 to [`MAX_KEYS`]. No secrets: a watch does not tell them.
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

/// The number of keys is not one that can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a cache keeps 1 to {MAX_KEYS} keys of each tenant, not {0}")]
pub struct BadKeys(usize);

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

/// One tenant's configuration, for the caller who asked for it. Reads are synchronous. Keeps its watch alive.
#[derive(Clone)]
pub struct TenantConfig {
    session: Arc<Session>,
    max_stale: Duration,
    /// What a call told this caller, since no watch told anything current. Nobody else's to see.
    own: Option<(Arc<Snapshot>, Instant)>,
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
    phase: watch::Sender<Phase>,
    live: AtomicBool,
    began: Instant,
    /// Milliseconds after `began`.
    heard_ms: AtomicU64,
    staleness_bound_ms: AtomicI64,
    token: Mutex<CallerToken>,
    token_changed: Notify,
    /// When a call was not answered, in milliseconds after `began`; 0 for never.
    unanswered_ms: AtomicU64,
}

/// What came of the watches so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first one is under way.
    First,
    /// None has told its snapshot yet.
    Failed,
    /// One has: there is something to read.
    Told,
}

impl Observer for Unobserved {}

// === impl ConfigCache ===

impl ConfigCache {
    /// A cache that watches through this client. Must be used within a Tokio runtime.
    pub fn new(
        client: ConfigClient,
        config: CacheConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, BadKeys> {
        if config.keys.is_empty() || config.keys.len() > MAX_KEYS {
            return Err(BadKeys(config.keys.len()));
        }
        Ok(Self {
            client,
            sessions: Arc::new(QuickCache::new(config.tenants)),
            config: Arc::new(config),
            observer,
        })
    }

    /// The configuration of a tenant, for the caller with this token: PERMISSION_DENIED if it is not a token of the tenant.
    /// Ask for it in each request, since the watch goes on with the next caller's token. Waits for the first watch only;
    /// where none tells, asks for the keys by a call within the client's deadline.
    pub async fn tenant(
        &self,
        tenant: &TenantId,
        token: &CallerToken,
    ) -> Result<TenantConfig, Status> {
        let deadline = Instant::now() + self.client.deadline;
        let session = self.session(tenant, token)?;
        let mut found = TenantConfig {
            session,
            max_stale: self.config.max_stale,
            own: None,
        };
        let state = &found.session.state;
        if *state.phase.borrow() == Phase::First {
            let mut phase = state.phase.subscribe();
            let patience = self.client.deadline / 2;
            let _ = timeout(patience, phase.wait_for(|phase| *phase != Phase::First)).await;
        }
        let known = found.has_values();
        if state.live.load(Ordering::Acquire) || known && state.gave_up() {
            return Ok(found);
        }
        self.observer.fell_back();
        let late = || Status::deadline_exceeded("config-service did not answer in time");
        let asked = timeout_at(deadline, self.ask(token)).await;
        match asked.unwrap_or_else(|_| Err(late())) {
            Ok(snapshot) => found.own = Some((Arc::new(snapshot), Instant::now())),
            Err(status) if has_no_answer(&status) && known => state.give_up(),
            Err(status) => return Err(status),
        }
        Ok(found)
    }

    async fn ask(&self, token: &CallerToken) -> Result<Snapshot, Status> {
        let mut whole = Snapshot::default();
        for keys in self.config.keys.chunks(BATCH) {
            let batch = self.client.batch_get(token, keys.to_vec()).await?;
            whole.add(batch);
        }
        Ok(whole)
    }

    /// The tenant's, with this token as the one for the next watch.
    fn session(&self, tenant: &TenantId, token: &CallerToken) -> Result<Arc<Session>, Status> {
        // Only what was found to be of the tenant is held.
        if let Some(session) = self.sessions.get(tenant)
            && *session.state.token.lock() == *token
        {
            return Ok(session);
        }
        if !token.claims(tenant) {
            return Err(Status::permission_denied("the token is not of this tenant"));
        }
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
        session.state.offer(token);
        Ok(session)
    }
}

// === impl TenantConfig ===

impl TenantConfig {
    /// What is known now. Fails with UNAVAILABLE if config-service was not heard for longer than the maximum age.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, Status> {
        if let Some((own, asked)) = self.own_if_newer()
            && asked.elapsed() <= self.max_stale
        {
            return Ok(Arc::clone(own));
        }
        if self.has_values() {
            return Ok(self.session.state.snapshot.load_full());
        }
        Err(Status::unavailable(
            "config-service was not heard for too long",
        ))
    }

    /// How current it is.
    pub fn freshness(&self) -> Freshness {
        let state = &self.session.state;
        let bound = state.staleness_bound_ms.load(Ordering::Relaxed);
        Freshness {
            live: state.live.load(Ordering::Acquire),
            age: match self.own_if_newer() {
                Some((_, asked)) => asked.elapsed(),
                None => state.age(),
            },
            staleness_bound: Duration::from_millis(bound.max(0).unsigned_abs()),
        }
    }

    /// What the caller was told by a call, until a watch tells.
    fn own_if_newer(&self) -> Option<&(Arc<Snapshot>, Instant)> {
        let own = self.own.as_ref();
        own.filter(|_| !self.session.state.live.load(Ordering::Acquire))
    }

    /// A watch has told something that is not too old.
    fn has_values(&self) -> bool {
        let state = &self.session.state;
        // While one is live, that is all there is to ask, and no clock is read.
        let told = || *state.phase.borrow() == Phase::Told;
        state.live.load(Ordering::Acquire) || told() && state.age() <= self.max_stale
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
            phase: watch::channel(Phase::First).0,
            live: AtomicBool::new(false),
            began: Instant::now(),
            heard_ms: AtomicU64::new(0),
            staleness_bound_ms: AtomicI64::new(0),
            token: Mutex::new(token),
            token_changed: Notify::new(),
            unanswered_ms: AtomicU64::new(0),
        }
    }

    /// Since a watch was heard.
    fn age(&self) -> Duration {
        self.since(&self.heard_ms)
    }

    fn heard(&self) {
        self.heard_ms.store(self.now_ms(), Ordering::Release);
    }

    /// A call was not answered.
    fn give_up(&self) {
        let now = self.now_ms().max(1);
        self.unanswered_ms.store(now, Ordering::Release);
    }

    /// A call was not answered a moment ago.
    fn gave_up(&self) -> bool {
        let is_set = self.unanswered_ms.load(Ordering::Acquire) != 0;
        is_set && self.since(&self.unanswered_ms) <= GIVEN_UP
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, ms: &AtomicU64) -> Duration {
        let at = Duration::from_millis(ms.load(Ordering::Acquire));
        self.began.elapsed().saturating_sub(at)
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
        self.live.store(true, Ordering::Release);
        self.phase.send_replace(Phase::Told);
    }

    /// A watch ended; who waits for the first one waits no longer.
    fn ended(&self) {
        self.live.store(false, Ordering::Release);
        self.phase.send_if_modified(|phase| {
            let was_first = *phase == Phase::First;
            if was_first {
                *phase = Phase::Failed;
            }
            was_first
        });
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
            self.state.ended();
            let code = ended.as_ref().map_or(Code::Ok, Status::code);
            self.observer.ended(code);
            if told {
                wait = FIRST_WAIT;
            }
            match code {
                Code::Unauthenticated | Code::PermissionDenied => {
                    let is_new = *self.state.token.lock() != token;
                    if !is_new {
                        self.state.token_changed.notified().await;
                    }
                }
                Code::ResourceExhausted => sleep(jittered(LONGEST_WAIT)).await,
                // Also after OK, when its connection is to be made anew: all of them end at about that time.
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
        let mut client = ConfigServiceClient::new(member.watching());
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
        let mut told = false;
        // What is being told as a whole: the snapshot, or what a slow reader missed.
        let mut coming = Some(Snapshot::default());
        let ended = loop {
            let event = match timeout(SILENCE, events.message()).await {
                Ok(Ok(Some(message))) => message.event,
                Ok(Ok(None)) => break None,
                Ok(Err(status)) => break Some(status),
                Err(_) => break Some(Status::unavailable("the connection is silent")),
            };
            self.state.heard();
            match event {
                Some(Event::InSync(true)) => {
                    if let Some(whole) = coming.take() {
                        self.state.take(whole);
                        if !told {
                            self.observer.connected();
                        }
                        told = true;
                    }
                }
                Some(Event::InSync(false)) => {
                    coming.get_or_insert_with(|| Snapshot::clone(&self.state.snapshot.load()));
                }
                Some(event) => {
                    if let Some(whole) = &mut coming {
                        self.apply(whole, event);
                    } else {
                        let mut next = Snapshot::clone(&self.state.snapshot.load());
                        self.apply(&mut next, event);
                        self.state.snapshot.store(Arc::new(next));
                    }
                }
                None => {}
            }
        };
        if ended
            .as_ref()
            .is_some_and(|status| status.code() == Code::Unavailable)
        {
            // The next one goes elsewhere, if there is another.
            member.failed();
        }
        (told, ended)
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

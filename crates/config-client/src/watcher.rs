//! Opens a tenant's watch, again after each end, and makes the calls while there is none. All decisions are the session's.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tagged_config_proto::v1::{WatchConfigRequest, watch_config_response::Event as Message};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Request, Status};
use tower::retry::budget::Budget;

use crate::{
    CacheConfig, CallerToken, ConfigClient, Observer, connection_failed,
    endpoints::Load,
    grpc_client,
    session::{Effects, Event, LONGEST_WAIT, Reopen, Session, View},
};

/// config-service sends a heartbeat every 15 s: a connection that is silent for longer than this is dead.
const SILENCE: Duration = Duration::from_secs(40);

/// The outcome of a call that several callers may wait for.
type Flight = watch::Receiver<Option<Result<(), Status>>>;

/// One tenant's watch and calls. Ends its task when it is dropped.
pub(crate) struct Watcher {
    pub(crate) shared: Arc<Shared>,
    keys: Vec<String>,
    /// Calls under way, by the caller's token (single-flight).
    flights: Arc<Mutex<HashMap<CallerToken, Flight>>>,
    task: AbortHandle,
}

/// A session and its view, for the watcher's task and for readers.
pub(crate) struct Shared {
    session: Mutex<Session>,
    view: ArcSwap<View>,
    /// Whether the first watch is in sync or has failed.
    attempted: watch::Sender<bool>,
    token_offered: Notify,
}

/// What the watcher's task has.
struct Task {
    client: ConfigClient,
    config: Arc<CacheConfig>,
    observer: Arc<dyn Observer>,
    shared: Arc<Shared>,
}

// === impl Watcher ===

impl Watcher {
    pub(crate) fn start(
        client: &ConfigClient,
        config: &Arc<CacheConfig>,
        observer: &Arc<dyn Observer>,
        token: &CallerToken,
    ) -> Self {
        let keys: HashSet<Arc<str>> = config.keys.iter().map(|key| key.as_str().into()).collect();
        let session = Session::new(Arc::new(keys), config.max_stale, token.clone());
        let shared = Arc::new(Shared {
            view: ArcSwap::default(),
            session: Mutex::new(session),
            attempted: watch::channel(false).0,
            token_offered: Notify::new(),
        });
        let task = Task {
            client: client.clone(),
            config: Arc::clone(config),
            observer: Arc::clone(observer),
            shared: Arc::clone(&shared),
        };
        Self {
            shared,
            keys: config.keys.clone(),
            flights: Arc::default(),
            task: tokio::spawn(task.run()).abort_handle(),
        }
    }

    /// Reads all keys by a call. Joins the call that is under way with this token, if there is one. The call is a task of its
    /// own: a leader that is cancelled fails no follower.
    pub(crate) async fn batch(
        &self,
        client: &ConfigClient,
        token: &CallerToken,
    ) -> Result<(), Status> {
        let mut flight = {
            let mut flights = self.flights.lock();
            if let Some(flight) = flights.get(token) {
                flight.clone()
            } else {
                let (sender, flight) = watch::channel(None);
                flights.insert(token.clone(), flight.clone());
                let (client, token, keys) = (client.clone(), token.clone(), self.keys.clone());
                let (shared, flights) = (Arc::clone(&self.shared), Arc::clone(&self.flights));
                tokio::spawn(async move {
                    let answer = client.batch_get(&token, keys).await;
                    let (event, outcome) = match answer {
                        Ok(batch) => (Event::BatchAnswered(token.clone(), batch), Ok(())),
                        Err(status) => (Event::BatchFailed(status.code()), Err(status)),
                    };
                    shared.step(event);
                    flights.lock().remove(&token);
                    sender.send_replace(Some(outcome));
                });
                flight
            }
        };
        let aborted = || Status::unavailable("the call was given up");
        if let Ok(outcome) = flight.wait_for(Option::is_some).await {
            return outcome.clone().unwrap_or_else(|| Err(aborted()));
        }
        self.flights.lock().remove(token);
        Err(aborted())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Shared ===

impl Shared {
    /// Takes an event into the session, and publishes the view.
    pub(crate) fn step(&self, event: Event) -> Effects {
        let now = Instant::now();
        let effects = {
            let mut session = self.session.lock();
            let effects = session.step(event, now);
            self.view.store(Arc::new(session.view(now)));
            effects
        };
        if effects.reopen == Some(Reopen::Now) {
            self.token_offered.notify_one();
        } else if effects.is_connected || effects.reopen.is_some() {
            self.attempted.send_replace(true);
        }
        effects
    }

    /// Reads what every caller may see. While a watch is live, no lock is taken and no clock is read.
    pub(crate) fn read<T>(&self, read: impl Fn(&View) -> T) -> T {
        let view = self.view.load();
        if view.due.is_some_and(|due| Instant::now() >= due) {
            self.step(Event::Time);
            return read(&self.view.load());
        }
        read(&view)
    }

    /// What a caller sees whose call was answered with `own`: what is known for its token now, or else the newer of the
    /// tenant's view and its own.
    pub(crate) fn view_of(&self, token: &CallerToken, own: &View) -> View {
        let now = Instant::now();
        let mut session = self.session.lock();
        let is_due = |view: &View| view.due.is_some_and(|due| now >= due);
        if session.own_view(token, now).as_ref().is_some_and(is_due) || is_due(&session.view(now)) {
            session.step(Event::Time, now);
        }
        session.own_view(token, now).unwrap_or_else(|| {
            let view = session.view(now);
            if view.is_live || view.confirmed_at > own.confirmed_at {
                return view;
            }
            let max_stale = session.max_stale();
            let is_known = |at: Instant| now.saturating_duration_since(at) < max_stale;
            View {
                is_live: false,
                is_known: own.confirmed_at.is_some_and(is_known),
                ..own.clone()
            }
        })
    }

    /// What the last call with this token answered, if that counts.
    pub(crate) fn own_view(&self, token: &CallerToken) -> Option<View> {
        self.session.lock().own_view(token, Instant::now())
    }

    pub(crate) fn needs_call(&self, token: &CallerToken) -> bool {
        !self.read(|view| view.is_live) && self.session.lock().needs_call(token, Instant::now())
    }

    pub(crate) fn is_known(&self, token: &CallerToken) -> bool {
        self.session.lock().is_known(token, Instant::now())
    }

    pub(crate) fn holds(&self, token: &CallerToken) -> bool {
        self.session.lock().token() == token
    }

    /// Takes a caller's token for the next watch.
    pub(crate) fn offer(&self, token: &CallerToken) {
        if !self.holds(token) {
            self.step(Event::TokenOffered(token.clone()));
        }
    }

    /// Whether the first watch is in sync or has failed.
    pub(crate) fn attempted(&self) -> watch::Receiver<bool> {
        self.attempted.subscribe()
    }
}

// === impl Task ===

impl Task {
    async fn run(self) {
        loop {
            let shared = &self.shared;
            let token = shared.session.lock().token().clone();
            let ended = self.watch(&token).await;
            let code = ended.as_ref().map_or(Code::Ok, Status::code);
            let effects = shared.step(Event::WatchEnded(token, code));
            self.observer.ended(code);
            match effects.reopen {
                Some(Reopen::WithNewToken) => shared.token_offered.notified().await,
                Some(Reopen::After(wait)) => self.wait(wait, code).await,
                Some(Reopen::Now) | None => {}
            }
        }
    }

    /// Waits before the next watch: after a failure also until the retry budget of the client's watches allows it.
    async fn wait(&self, mut wait: Duration, code: Code) {
        sleep(jittered(wait)).await;
        while code != Code::Ok && !self.client.watch_budget.withdraw() {
            wait = (wait * 2).min(LONGEST_WAIT);
            sleep(jittered(wait)).await;
        }
    }

    /// Watches until the call ends. Returns why, or `None` if it ended with OK.
    async fn watch(&self, token: &CallerToken) -> Option<Status> {
        let Some(member) = self.client.pool.pick(Load::Watch, &[]).await else {
            return Some(Status::unavailable("no address is known"));
        };
        let mut request = Request::new(WatchConfigRequest {
            keys: self.config.keys.clone(),
        });
        request
            .metadata_mut()
            .insert("authorization", token.0.clone());
        let silent = || Status::unavailable("config-service is silent");
        let mut client = grpc_client(member.channel());
        let opened = timeout(SILENCE, client.watch_config(request)).await;
        let ended = match opened.unwrap_or_else(|_| Err(silent())) {
            Err(status) => Some(status),
            Ok(messages) => {
                self.shared.step(Event::WatchOpened);
                let mut messages = messages.into_inner();
                loop {
                    let message = timeout(SILENCE, messages.message()).await;
                    match message.unwrap_or_else(|_| Err(silent())) {
                        Ok(Some(message)) => {
                            if let Some(event) = message.event {
                                self.receive(event);
                            }
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                }
            }
        };
        // config-service ends a watch with UNAVAILABLE when the task stops. The next watch goes elsewhere.
        if ended
            .as_ref()
            .is_some_and(|status| status.code() == Code::Unavailable || connection_failed(status))
        {
            member.failed();
        }
        ended
    }

    fn receive(&self, message: Message) {
        match &message {
            Message::Upserted(entry) => self.observer.updated(&entry.key),
            Message::Deleted(deleted) => self.observer.updated(&deleted.key),
            Message::Changed(changed) => self.observer.updated(&changed.key),
            Message::InSync(_) | Message::Heartbeat(_) | Message::Failed(_) => {}
        }
        if self.shared.step(Event::Received(message)).is_connected {
            self.client.watch_budget.deposit();
            self.observer.connected();
        }
    }
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + 0.5 * fastrand::f64())
}

//! WatchConfig: a snapshot of some keys, then what changes. Each time its caller is ready for more, a watch reads its marked
//! keys through the cache, like every other reader, and sends what differs from what it sent before.

pub(crate) mod registry;

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use tagged_config_domain::{AnswerPermit, Backend, Origin, Refused, Revision, Role};
use tagged_config_runtime::shutdown::Shutdown;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::Code;

use crate::{
    api::{ConfigApi, READS_SECRETS, Served},
    errors::ApiError,
    telemetry::metrics::ReadResult,
    watch::registry::Registration,
};

/// Most keys of one watch.
pub(crate) const MAX_KEYS: usize = 500;
/// How often a watch without changes sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A key that could not be read is read again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// Keys that are read at once.
const CONCURRENCY: usize = 32;
/// Each TTL every key is read this often, so that the cache refreshes what has no other reader.
const POLLS: u32 = 5;

/// What a watch sends.
#[derive(Debug)]
pub(crate) enum Event {
    /// The key's present value.
    Upserted(Box<Served>),
    /// It has none any more. The highest version that was seen.
    Deleted(String, i64),
    /// See the proto file.
    InSync(bool),
    /// The watch is alive.
    Heartbeat,
    /// The key cannot be served now.
    Failed(String, ApiError),
    /// The key's value is a secret, and new to this watch.
    Changed(String),
}

impl Event {
    /// Takes the memory of its value.
    pub(crate) fn take_permit(&mut self) -> AnswerPermit {
        match self {
            Self::Upserted(served) => std::mem::take(&mut served.permit),
            _ => AnswerPermit::default(),
        }
    }
}

/// Why a watch ended, other than well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The caller's token.
    TokenExpired,
    /// The key that signed the caller's token has left.
    TokenRefused,
    /// There are no keys to verify tokens with any more.
    KeysUnavailable,
    /// The task stops.
    Stopping,
}

/// When a watch ends.
pub(crate) struct Limits {
    /// When its connection is to be made anew.
    pub connection_ends: Instant,
    /// When the token ends.
    pub token_ends: Instant,
    /// When the task stops.
    pub stop: Shutdown,
    /// When the token is refused before its end.
    pub revoked: Pin<Box<dyn Future<Output = Ended> + Send>>,
}

/// One watch.
pub(crate) struct Watch {
    api: Arc<ConfigApi>,
    caller: Role,
    keys: Vec<String>,
    backends: Vec<Backend>,
    registration: Registration,
    sent: Vec<Sent>,
    queue: VecDeque<Event>,
    in_snapshot: bool,
    /// Keys to be read again at this time.
    retry: Vec<usize>,
    retry_at: Option<Instant>,
}

/// What was sent of a key last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    Value {
        origin: Origin,
        revision: Revision,
        digest: [u8; 16],
        /// A value that becomes stale, or is current again, is sent again.
        stale: bool,
    },
    Failed(i32),
}

// === impl Watch ===

impl Watch {
    /// A watch of registered keys, each with the backend that it is routed to.
    pub(crate) fn new(
        api: Arc<ConfigApi>,
        caller: Role,
        keys: Vec<String>,
        backends: Vec<Backend>,
        registration: Registration,
    ) -> Self {
        Self {
            api,
            caller,
            backends,
            sent: vec![Sent::Nothing; keys.len()],
            keys,
            registration,
            queue: VecDeque::new(),
            in_snapshot: true,
            retry: Vec::new(),
            retry_at: None,
        }
    }

    /// The events, until one of the limits. It does nothing while nobody polls it.
    pub(crate) fn events(self, limits: Limits) -> impl Stream<Item = Result<Event, Ended>> + Send {
        let poll = (self.api.staleness_bound() / POLLS).max(Duration::from_millis(10));
        let running = Running {
            watch: self,
            stop: Box::pin(limits.stop.wait()),
            limits,
            polls: every(poll),
            heartbeats: every(HEARTBEAT),
            ended: false,
        };
        stream::unfold(running, async |mut running| {
            running.next().await.map(|event| (event, running))
        })
    }

    /// The next event, with memory for its value; or when there may be memory for it.
    fn next_event(&mut self) -> Option<Result<Event, Refused>> {
        let mut event = self.queue.pop_front()?;
        if let Event::Upserted(served) = &mut event {
            let bytes = served.record.value.held_bytes() as u64;
            match self.api.admit_answer(self.registration.tenant(), bytes) {
                Ok(permit) => served.permit = permit,
                Err(refused) => {
                    self.queue.push_front(event);
                    return Some(Err(refused));
                }
            }
        }
        Some(Ok(event))
    }

    /// Reads what is marked, and queues what differs from what was sent.
    async fn poll(&mut self) {
        let marked = self.registration.marks().take();
        let reads = marked.keys.into_iter().filter_map(|key| {
            let name = self.keys.get(key)?.as_str();
            let layers = self.registration.layers(key)?;
            let (api, backend) = (&self.api, self.backends.get(key)?);
            let tenant = self.registration.tenant();
            Some(async move {
                (
                    key,
                    name,
                    api.read_watched(tenant, backend, name, layers).await,
                )
            })
        });
        let answers: Vec<_> = stream::iter(reads).buffered(CONCURRENCY).collect().await;
        let mut events = VecDeque::new();
        for (key, name, answer) in answers {
            let Some(sent) = self.sent.get_mut(key) else {
                continue;
            };
            let retryable = match &answer {
                Ok(None) => true,
                Ok(Some(served)) => served.result == ReadResult::stale,
                Err(error) => {
                    matches!(
                        error.answer().code,
                        Code::Unavailable | Code::ResourceExhausted
                    )
                }
            };
            if retryable {
                self.retry.push(key);
            }
            let answer = match answer {
                Ok(Some(served)) if served.record.secret && self.caller < READS_SECRETS => {
                    Err(ApiError::Forbidden(READS_SECRETS))
                }
                Ok(Some(served)) => Ok(served),
                // An absence that may be over does not end what was sent.
                Ok(None) if *sent != Sent::Nothing => continue,
                Ok(None) => Err(ApiError::NotFound),
                Err(error) => Err(error),
            };
            let (now, event) = match answer {
                Ok(served) => (
                    Sent::Value {
                        origin: served.origin,
                        revision: served.record.revision,
                        digest: *served.record.digest(),
                        // Of a secret, only its change is told.
                        stale: served.result == ReadResult::stale && !served.record.secret,
                    },
                    if served.record.secret {
                        Event::Changed(name.to_owned())
                    } else {
                        Event::Upserted(Box::new(served))
                    },
                ),
                Err(ApiError::NotFound) => {
                    let version = self
                        .registration
                        .layers(key)
                        .map(|l| self.api.highest_seen_version(l));
                    let deleted = Event::Deleted(name.to_owned(), version.unwrap_or_default());
                    (Sent::Nothing, deleted)
                }
                Err(error) => (
                    Sent::Failed(error.answer().code.into()),
                    Event::Failed(name.to_owned(), error),
                ),
            };
            if *sent != now {
                *sent = now;
                events.push_back(event);
            }
        }
        if !self.retry.is_empty() {
            self.retry_at.get_or_insert(Instant::now() + RETRY);
        }
        if std::mem::take(&mut self.in_snapshot) {
            events.push_back(Event::InSync(true));
        } else if marked.slow && !events.is_empty() {
            events.push_front(Event::InSync(false));
            events.push_back(Event::InSync(true));
        }
        self.queue.append(&mut events);
    }
}

/// A watch and its clocks.
struct Running {
    watch: Watch,
    limits: Limits,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    polls: Interval,
    heartbeats: Interval,
    ended: bool,
}

// === impl Running ===

impl Running {
    async fn next(&mut self) -> Option<Result<Event, Ended>> {
        while !self.ended {
            let blocked = match self.watch.next_event() {
                Some(Ok(event)) => return Some(Ok(event)),
                Some(Err(refused)) => Some(refused.retry_after),
                None => None,
            };
            let retry_at = self.watch.retry_at;
            let retry = async {
                match retry_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut self.stop => {
                    self.ended = true;
                    return Some(Err(Ended::Stopping));
                }
                () = tokio::time::sleep_until(self.limits.token_ends) => {
                    self.ended = true;
                    return Some(Err(Ended::TokenExpired));
                }
                ended = &mut self.limits.revoked => {
                    self.ended = true;
                    return Some(Err(ended));
                }
                () = tokio::time::sleep_until(self.limits.connection_ends) => self.ended = true,
                () = self.watch.registration.marks().wait(), if blocked.is_none() => {
                    self.watch.poll().await;
                }
                () = tokio::time::sleep(blocked.unwrap_or_default()), if blocked.is_some() => {}
                () = retry => {
                    self.watch.retry_at = None;
                    let keys = std::mem::take(&mut self.watch.retry);
                    self.watch.registration.marks().mark_again(keys);
                }
                _ = self.polls.tick() => {
                    let all = 0..self.watch.keys.len();
                    self.watch.registration.marks().mark_again(all);
                }
                _ = self.heartbeats.tick() => return Some(Ok(Event::Heartbeat)),
            }
        }
        None
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests;

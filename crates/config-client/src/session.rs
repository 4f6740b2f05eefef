//! The state of one tenant's configuration in this process: events in, a view out. Pure: no I/O, and no clock of its own.
//! `watcher.rs` feeds it; `cache.rs` reads its view.
//!
//! What a watch sends is the same for every role, and is shared by the tenant's callers. What a call answers may depend on
//! its caller's role, and is kept by the caller's token.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tagged_config_proto::v1::{BatchGetConfigResponse, watch_config_response::Event as Message};
use tokio::time::Instant;
use tonic::Code;

use crate::{
    CallerToken,
    snapshot::{Entry, Failure, Known, Snapshot, Succession, earlier, is_passing},
};

/// A watch that ended with OK counts as live for so long: config-service ends each one every few minutes, and the next one
/// is in sync within milliseconds.
const GRACE: Duration = Duration::from_secs(2);
/// After a call without an answer the last known values are served without another call for so long.
const CALL_BACK_OFF: Duration = Duration::from_secs(1);
/// The wait before a watch is opened again after it ended: the first, and the longest. The watcher adds jitter.
const FIRST_WAIT: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Callers whose last answer is kept as the last known values of their next call.
const ANSWERS: usize = 16;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A watch was accepted.
    WatchOpened,
    /// It sent this.
    Received(Message),
    /// The watch with this token ended, or could not be opened.
    WatchEnded(CallerToken, Code),
    /// A call with this token was answered.
    BatchAnswered(CallerToken, BatchGetConfigResponse),
    /// A call had no answer.
    BatchFailed(Code),
    /// A caller came with this token.
    TokenOffered(CallerToken),
    /// Time passed.
    Time,
}

/// What the watcher has to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// The watch is in sync for the first time.
    pub(crate) is_connected: bool,
    /// When to open the next watch.
    pub(crate) reopen: Option<Reopen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reopen {
    Now,
    After(Duration),
    /// As soon as a caller offers another token.
    WithNewToken,
}

/// What readers see. Valid until [`Self::due`].
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Whether a watch brings changes, or ended a moment ago to be opened again.
    pub(crate) is_live: bool,
    /// Whether there are values that are not too old.
    pub(crate) is_known: bool,
    /// When the snapshot was last known to be current.
    pub(crate) confirmed_at: Option<Instant>,
    pub(crate) staleness_bound: Duration,
    /// When time alone changes the view.
    pub(crate) due: Option<Instant>,
}

/// One tenant's session.
#[derive(Debug)]
pub(crate) struct Session {
    keys: Arc<HashSet<Arc<str>>>,
    max_stale: Duration,
    /// The token of the next watch.
    token: CallerToken,
    /// The token that config-service refused, while there is no other one.
    refused: Option<CallerToken>,
    wait: Duration,
    watch: Option<Watch>,
    /// Watches and calls so far.
    sources: u64,
    /// What the watches sent.
    shared: State,
    grace_until: Option<Instant>,
    staleness_bound: Duration,
    unanswered_at: Option<Instant>,
    /// What calls answered, by their callers' tokens. Empty while a watch is in sync, except where an answer is ahead of it.
    answers: Vec<(CallerToken, State)>,
}

/// An open watch.
#[derive(Debug, Default)]
struct Watch {
    source: u64,
    /// What it sent last, by key.
    said: Snapshot,
    is_in_sync: bool,
    was_in_sync: bool,
}

/// A snapshot and its times.
#[derive(Clone, Debug, Default)]
struct State {
    snapshot: Arc<Snapshot>,
    /// When it was last known to be current.
    confirmed_at: Option<Instant>,
    /// When time alone changes it.
    due: Option<Instant>,
}

// === impl Session ===

impl Session {
    pub(crate) fn new(
        keys: Arc<HashSet<Arc<str>>>,
        max_stale: Duration,
        token: CallerToken,
    ) -> Self {
        Self {
            keys,
            max_stale,
            token,
            refused: None,
            wait: FIRST_WAIT,
            watch: None,
            sources: 0,
            shared: State::default(),
            grace_until: None,
            staleness_bound: Duration::ZERO,
            unanswered_at: None,
            answers: Vec::new(),
        }
    }

    /// The token of the next watch: the one that was offered last, since it mostly lives the longest.
    pub(crate) fn token(&self) -> &CallerToken {
        &self.token
    }

    pub(crate) fn max_stale(&self) -> Duration {
        self.max_stale
    }

    pub(crate) fn step(&mut self, event: Event, now: Instant) -> Effects {
        let mut effects = Effects::default();
        match event {
            Event::WatchOpened => {
                self.sources += 1;
                self.watch = Some(Watch {
                    source: self.sources,
                    ..Watch::default()
                });
            }
            Event::Received(message) => effects.is_connected = self.receive(message, now),
            Event::WatchEnded(token, code) => {
                effects.reopen = Some(self.end_watch(token, code, now));
            }
            Event::BatchAnswered(token, batch) => self.answer(token, batch, now),
            Event::BatchFailed(code) => {
                if is_passing(code) {
                    self.unanswered_at = Some(now);
                }
            }
            Event::TokenOffered(token) => {
                if self
                    .refused
                    .as_ref()
                    .is_some_and(|refused| *refused != token)
                {
                    self.refused = None;
                    effects.reopen = Some(Reopen::Now);
                }
                self.token = token;
            }
            Event::Time => self.refresh(now),
        }
        effects
    }

    /// What every caller of the tenant may see.
    pub(crate) fn view(&self, now: Instant) -> View {
        self.view_from(&self.shared, now)
    }

    /// What the caller with this token may see, if a call was answered: no watch is in sync, or the answer is ahead of it.
    pub(crate) fn own_view(&self, token: &CallerToken, now: Instant) -> Option<View> {
        self.answer_of(token)
            .map(|state| self.view_from(state, now))
    }

    /// Whether the caller has to make a call: no watch is live, and there was no call without an answer a moment ago.
    pub(crate) fn needs_call(&self, token: &CallerToken, now: Instant) -> bool {
        let is_backing_off = self
            .unanswered_at
            .is_some_and(|at| now.saturating_duration_since(at) <= CALL_BACK_OFF);
        !(self.is_live(now) || is_backing_off && self.is_known(token, now))
    }

    /// Whether the caller has values that are not too old.
    pub(crate) fn is_known(&self, token: &CallerToken, now: Instant) -> bool {
        let own = self.own_view(token, now);
        own.unwrap_or_else(|| self.view(now)).is_known
    }

    fn view_from(&self, state: &State, now: Instant) -> View {
        let is_open = self.has_snapshot();
        let grace = self.grace_until.filter(|until| now < *until);
        let is_live = is_open || grace.is_some();
        let ends = state.confirmed_at.map(|at| at + self.max_stale);
        let ends = ends.filter(|ends| now < *ends && !is_open);
        View {
            snapshot: Arc::clone(&state.snapshot),
            is_live,
            is_known: is_live || ends.is_some(),
            confirmed_at: state.confirmed_at,
            staleness_bound: self.staleness_bound,
            due: earlier(earlier(state.due, ends), grace),
        }
    }

    fn is_live(&self, now: Instant) -> bool {
        self.has_snapshot() || self.grace_until.is_some_and(|until| now < until)
    }

    /// Whether the open watch has sent its snapshot.
    fn has_snapshot(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.was_in_sync)
    }

    /// Takes a message of the watch. Returns whether it is in sync for the first time.
    fn receive(&mut self, message: Message, now: Instant) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        let mut is_connected = false;
        let mut bound = None;
        let is_heartbeat = matches!(message, Message::Heartbeat(_));
        let said = match message {
            Message::Upserted(response) => {
                bound = Some(response.staleness_bound_ms);
                let key = response.key.clone();
                let entry = Entry::new(response, now, watch.source);
                Some((key, Known::Value(Arc::new(entry))))
            }
            Message::Deleted(deleted) => Some((deleted.key, Known::ABSENT)),
            Message::Changed(changed) => Some((changed.key, Known::Failed(Failure::secret()))),
            Message::Failed(mut error) => {
                let key = std::mem::take(&mut error.key);
                Some((key, Known::Failed(error.into())))
            }
            Message::InSync(is_in_sync) => {
                watch.is_in_sync = is_in_sync;
                if is_in_sync && !watch.was_in_sync {
                    watch.was_in_sync = true;
                    fill(&mut watch.said, &self.keys);
                    self.wait = FIRST_WAIT;
                    self.grace_until = None;
                    is_connected = true;
                }
                None
            }
            Message::Heartbeat(beat) => {
                bound = Some(beat.staleness_bound_ms);
                None
            }
        };
        // Only the requested keys: the map stays bounded.
        let changed = said.and_then(|(key, known)| {
            let key = self.keys.get(key.as_str())?;
            watch.said.keys.insert(Arc::clone(key), known);
            Some(Arc::clone(key))
        });
        if let Some(ms) = bound
            .and_then(|ms| u64::try_from(ms).ok())
            .filter(|ms| *ms > 0)
        {
            self.staleness_bound = Duration::from_millis(ms);
        }
        if watch.is_in_sync {
            match changed {
                None if is_heartbeat => {}
                None => self.refresh(now),
                Some(key) => self.refresh_key(&key, now),
            }
            self.shared.confirmed_at = Some(now);
        }
        is_connected
    }

    /// Takes what the watch said into the shared state; without a watch in sync, takes that time passed.
    fn refresh(&mut self, now: Instant) {
        let rules = self.rules(now);
        match &self.watch {
            Some(watch) if watch.is_in_sync => {
                self.shared.succeed(&watch.said, &rules);
                self.refresh_answers(&rules);
            }
            // The rest of the snapshot follows.
            Some(watch) if watch.was_in_sync => {}
            _ => {
                self.shared.age(&rules);
                for (_, state) in &mut self.answers {
                    state.age(&rules);
                }
            }
        }
    }

    fn refresh_key(&mut self, key: &Arc<str>, now: Instant) {
        let rules = self.rules(now);
        if let Some(watch) = &self.watch {
            self.shared.succeed_key(key, &watch.said, &rules);
        }
        self.refresh_answers(&rules);
    }

    /// Drops the answers that the watch has caught up with.
    fn refresh_answers(&mut self, rules: &Succession) {
        let shared = Arc::clone(&self.shared.snapshot);
        self.answers.retain_mut(|(_, state)| {
            let is_ahead = state.succeed(&shared, rules);
            state.confirmed_at = Some(rules.now);
            is_ahead
        });
    }

    fn end_watch(&mut self, token: CallerToken, code: Code, now: Instant) -> Reopen {
        let was_in_sync = self.watch.take().is_some_and(|watch| watch.was_in_sync);
        if was_in_sync && code == Code::Ok {
            self.grace_until = Some(now + GRACE);
        }
        self.refresh(now);
        match code {
            Code::Unauthenticated | Code::PermissionDenied if token == self.token => {
                self.refused = Some(token);
                Reopen::WithNewToken
            }
            // Too many watches: another attempt at once would be refused too.
            Code::ResourceExhausted => Reopen::After(LONGEST_WAIT),
            // Also after OK: all watches of a connection end at about the same time.
            _ => {
                let wait = self.wait;
                self.wait = (wait * 2).min(LONGEST_WAIT);
                Reopen::After(wait)
            }
        }
    }

    fn answer(&mut self, token: CallerToken, batch: BatchGetConfigResponse, now: Instant) {
        self.sources += 1;
        let mut said = Snapshot::of_batch(batch, now, self.sources);
        fill(&mut said, &self.keys);
        let rules = self.rules(now);
        let mut state = match self.answer_of(&token) {
            Some(answer) => answer.clone(),
            None => self.shared.clone(),
        };
        state.succeed(&said, &rules);
        state.confirmed_at = Some(now);
        self.unanswered_at = None;
        self.answers.retain(|(other, _)| *other != token);
        if self.answers.len() >= ANSWERS {
            self.answers.remove(0);
        }
        self.answers.push((token, state));
        if self.has_snapshot() {
            self.refresh_answers(&rules);
        }
    }

    fn answer_of(&self, token: &CallerToken) -> Option<&State> {
        let mut answers = self.answers.iter();
        answers
            .find(|(other, _)| other == token)
            .map(|(_, state)| state)
    }

    fn rules(&self, now: Instant) -> Succession {
        Succession {
            now,
            confirmed_at: now,
            max_stale: self.max_stale,
            staleness_bound: self.staleness_bound,
        }
    }
}

/// Keys of which nothing was said have no value.
fn fill(said: &mut Snapshot, keys: &HashSet<Arc<str>>) {
    for key in keys {
        said.keys.entry(Arc::clone(key)).or_insert(Known::ABSENT);
    }
}

// === impl State ===

impl State {
    /// Takes what config-service said. Returns whether something known before was kept in its place.
    fn succeed(&mut self, said: &Snapshot, rules: &Succession) -> bool {
        let next = said.succeeding(&self.snapshot, &self.rules(rules));
        self.snapshot = Arc::new(next.state);
        self.due = next.due;
        next.is_kept
    }

    /// Takes what config-service said of one key.
    fn succeed_key(&mut self, key: &Arc<str>, said: &Snapshot, rules: &Succession) {
        let rules = self.rules(rules);
        let snapshot = Arc::make_mut(&mut self.snapshot);
        let due = snapshot.succeed_key(key, said, &rules);
        self.due = earlier(self.due, due);
    }

    /// Takes that time passed while config-service said nothing.
    fn age(&mut self, rules: &Succession) {
        let next = self.snapshot.aged(&self.rules(rules));
        self.snapshot = Arc::new(next.state);
        self.due = next.due;
    }

    fn rules(&self, rules: &Succession) -> Succession {
        Succession {
            confirmed_at: self.confirmed_at.unwrap_or(rules.now),
            ..*rules
        }
    }
}

#[cfg(test)]
mod tests;

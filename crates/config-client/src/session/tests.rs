use std::collections::HashMap;

use proptest::prelude::*;
use tagged_config_proto::v1::{Deleted, GetConfigResponse, Heartbeat, KeyError};

use super::*;

const X: &str = "tenant_config_x";
const Y: &str = "tenant_config_y";
const MAX_STALE: Duration = Duration::from_secs(100);
const BOUND: Duration = Duration::from_secs(10);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn token(name: &str) -> CallerToken {
    CallerToken::from_authorization(name).unwrap()
}

fn response(key: &str, version: i64) -> GetConfigResponse {
    GetConfigResponse {
        key: key.to_owned(),
        value: version.to_string(),
        version,
        staleness_bound_ms: 10_000,
        ..Default::default()
    }
}

fn upserted(key: &str, version: i64) -> Message {
    Message::Upserted(response(key, version))
}

fn stale(key: &str, version: i64) -> Message {
    Message::Upserted(GetConfigResponse {
        stale: true,
        ..response(key, version)
    })
}

fn error(key: &str, code: Code) -> KeyError {
    KeyError {
        key: key.to_owned(),
        code: code.into(),
        message: String::new(),
    }
}

fn failed(key: &str, code: Code) -> Message {
    Message::Failed(error(key, code))
}

/// A session and the time.
struct Fixture {
    session: Session,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let keys = [X, Y].map(Arc::from).into_iter().collect();
        Self {
            session: Session::new(Arc::new(keys), MAX_STALE, token("t")),
            now: Instant::now(),
        }
    }

    fn step(&mut self, event: Event) -> Effects {
        self.session.step(event, self.now)
    }

    /// A new watch that sends this as its snapshot.
    fn watch(&mut self, messages: impl IntoIterator<Item = Message>) {
        self.step(Event::WatchOpened);
        for message in messages.into_iter().chain([Message::InSync(true)]) {
            self.step(Event::Received(message));
        }
    }

    fn receive(&mut self, message: Message) {
        self.step(Event::Received(message));
    }

    fn end(&mut self, code: Code) -> Option<Reopen> {
        self.step(Event::WatchEnded(token("t"), code)).reopen
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.step(Event::Time);
    }

    fn batch(&mut self, caller: &str, entries: &[GetConfigResponse], errors: &[KeyError]) {
        let answer = BatchGetConfigResponse {
            entries: entries.to_vec(),
            errors: errors.to_vec(),
            ..Default::default()
        };
        self.step(Event::BatchAnswered(token(caller), answer));
    }

    /// Version and staleness of a key in a view.
    fn of(view: &View, key: &str) -> Option<(i64, bool)> {
        let response = view.snapshot.entry(key)?.response();
        Some((response.version, response.stale))
    }

    fn shown(&self, key: &str) -> Option<(i64, bool)> {
        Self::of(&self.session.view(self.now), key)
    }

    fn own(&self, caller: &str, key: &str) -> Option<(i64, bool)> {
        let own = self.session.own_view(&token(caller), self.now);
        Self::of(&own.unwrap_or_else(|| self.session.view(self.now)), key)
    }

    fn has_failed(&self, key: &str) -> bool {
        let view = self.session.view(self.now);
        view.snapshot.failures().any(|(failed, _)| failed == key)
    }
}

/// H1, the first path.
#[test]
fn a_new_watch_whose_store_is_down_keeps_the_last_known_values() {
    let mut f = Fixture::new();
    f.watch([upserted(X, 1)]);
    f.end(Code::Unavailable);
    f.pass(seconds(5));
    f.watch([failed(X, Code::Unavailable), failed(Y, Code::Unavailable)]);
    assert_eq!(f.shown(X), Some((1, true)));
    assert!(!f.has_failed(Y), "it is known that there was none");
    // Once more, and no new life: the age counts from when it was last known to be current.
    f.end(Code::Unavailable);
    f.pass(seconds(50));
    f.watch([failed(X, Code::Unavailable), failed(Y, Code::Unavailable)]);
    assert_eq!(f.shown(X), Some((1, true)));
    f.pass(seconds(45));
    assert_eq!(f.shown(X), None);
    assert!(f.has_failed(X) && f.has_failed(Y));
}

/// H1, the second path.
#[test]
fn a_call_whose_store_is_down_keeps_the_last_known_values() {
    let mut f = Fixture::new();
    f.watch([upserted(X, 1)]);
    f.end(Code::Unavailable);
    f.batch("a", &[], &[error(X, Code::Unavailable)]);
    assert_eq!(f.own("a", X), Some((1, true)));
    // Of a call, too.
    f.batch("b", &[response(X, 2)], &[]);
    f.batch("b", &[], &[error(X, Code::ResourceExhausted)]);
    assert_eq!(f.own("b", X), Some((2, true)));
    assert_eq!(
        f.own("a", X),
        Some((1, true)),
        "another caller's answer is not shown"
    );
    f.pass(seconds(100));
    f.batch("a", &[], &[error(X, Code::Unavailable)]);
    assert_eq!(f.own("a", X), None);
}

#[test]
fn a_failure_that_is_an_answer_replaces_the_last_known_value() {
    for code in [Code::DataLoss, Code::Unimplemented, Code::PermissionDenied] {
        let mut f = Fixture::new();
        f.watch([upserted(X, 1)]);
        f.receive(failed(X, code));
        assert!(f.has_failed(X));
        f.receive(failed(X, Code::Unavailable));
        assert!(f.has_failed(X), "what failed has no last known value");
        f.receive(upserted(X, 2));
        assert_eq!(f.shown(X), Some((2, false)));
    }
}

/// M12.
#[test]
fn staleness_is_shown_and_taken_back() {
    let mut f = Fixture::new();
    f.watch([upserted(X, 1)]);
    for notice in [stale(X, 1), failed(X, Code::Unavailable)] {
        f.receive(notice);
        assert_eq!(f.shown(X), Some((1, true)));
        f.receive(upserted(X, 1));
        assert_eq!(f.shown(X), Some((1, false)));
    }
}

/// M16.
#[test]
fn a_version_does_not_go_back_within_the_staleness_bound() {
    let mut f = Fixture::new();
    f.watch([upserted(X, 2)]);
    f.end(Code::Ok);
    f.watch([upserted(X, 1)]);
    assert_eq!(
        f.shown(X),
        Some((2, false)),
        "the other task has not seen it yet"
    );
    f.pass(seconds(5));
    f.receive(upserted(X, 2));
    f.pass(seconds(20));
    assert_eq!(f.shown(X), Some((2, false)));
    f.end(Code::Ok);
    f.batch("a", &[response(X, 3)], &[]);
    f.watch([upserted(X, 2)]);
    assert_eq!(
        f.own("a", X),
        Some((3, false)),
        "nor behind the caller's own answer"
    );
    assert_eq!(f.shown(X), Some((2, false)));
    f.receive(upserted(X, 3));
    assert_eq!(f.session.answers.len(), 0, "the watch has caught up");
    f.end(Code::Unavailable);
    f.batch("b", &[response(X, 2)], &[]);
    assert_eq!(f.own("b", X), Some((3, false)), "nor by a call");
}

/// M16, its limits: what is lower and stays so gets through.
#[test]
fn a_version_that_was_lowered_by_hand_gets_through() {
    let mut f = Fixture::new();
    f.watch([upserted(X, 9)]);
    f.receive(upserted(X, 5));
    assert_eq!(
        f.shown(X),
        Some((5, false)),
        "one task does not go back by itself"
    );
    f.end(Code::Ok);
    f.watch([upserted(X, 0)]);
    assert_eq!(f.shown(X), Some((5, false)));
    let due = f.session.view(f.now).due;
    assert_eq!(due, Some(f.now + BOUND), "readers know when to ask again");
    f.pass(BOUND);
    assert_eq!(f.shown(X), Some((0, false)));
    f.receive(Message::Deleted(Deleted {
        key: X.to_owned(),
        version: 9,
    }));
    assert_eq!(f.shown(X), None);
    f.receive(upserted(X, 1));
    assert_eq!(f.shown(X), Some((1, false)), "deleted and made again");
    // Another origin has an order of its own.
    let global = GetConfigResponse {
        origin: "global".to_owned(),
        ..response(X, 0)
    };
    f.end(Code::Ok);
    f.watch([Message::Upserted(global)]);
    assert_eq!(f.shown(X), Some((0, false)));
}

/// M17.
#[test]
fn a_watch_that_ended_well_counts_as_live_for_a_moment() {
    let mut f = Fixture::new();
    assert!(f.session.needs_call(&token("a"), f.now));
    f.watch([upserted(X, 1)]);
    f.pass(seconds(3));
    assert!(matches!(f.end(Code::Ok), Some(Reopen::After(_))));
    f.pass(Duration::from_millis(1_500));
    let view = f.session.view(f.now);
    assert!(view.is_live && !f.session.needs_call(&token("a"), f.now));
    let age = f.now - view.confirmed_at.unwrap();
    assert_eq!(age, Duration::from_millis(4_500), "the age is shown");
    f.pass(Duration::from_millis(500));
    assert!(!f.session.view(f.now).is_live);
    assert!(f.session.needs_call(&token("a"), f.now));
    // After a failure at once.
    f.watch([upserted(X, 1)]);
    f.end(Code::Unavailable);
    assert!(f.session.needs_call(&token("a"), f.now));
    f.step(Event::BatchFailed(Code::Unavailable));
    assert!(
        !f.session.needs_call(&token("a"), f.now),
        "not again at once"
    );
    f.pass(Duration::from_millis(1_001));
    assert!(f.session.needs_call(&token("a"), f.now));
}

#[test]
fn a_refused_token_waits_for_another_one() {
    let mut f = Fixture::new();
    assert_eq!(f.end(Code::Unauthenticated), Some(Reopen::WithNewToken));
    let offer = |f: &mut Fixture, name| f.step(Event::TokenOffered(token(name))).reopen;
    assert_eq!(offer(&mut f, "t"), None);
    assert_eq!(offer(&mut f, "u"), Some(Reopen::Now));
    // The next one came while the watch was open.
    assert!(matches!(
        f.end(Code::Unauthenticated),
        Some(Reopen::After(_))
    ));
}

#[test]
fn waits_grow_until_a_watch_is_in_sync() {
    let mut f = Fixture::new();
    let first = f.end(Code::Unavailable);
    assert_eq!(first, Some(Reopen::After(FIRST_WAIT)));
    for _ in 0..10 {
        f.end(Code::Unavailable);
    }
    assert_eq!(f.end(Code::Unavailable), Some(Reopen::After(LONGEST_WAIT)));
    f.watch([]);
    assert_eq!(f.end(Code::Unavailable), first);
    assert_eq!(
        f.end(Code::ResourceExhausted),
        Some(Reopen::After(LONGEST_WAIT))
    );
}

#[test]
fn memory_is_bounded() {
    let mut f = Fixture::new();
    f.watch([upserted("tenant_config_other", 1)]);
    assert_eq!(f.session.view(f.now).snapshot.keys.len(), 2);
    f.end(Code::Unavailable);
    for caller in 0..100 {
        f.batch(&caller.to_string(), &[response(X, 1)], &[]);
    }
    assert_eq!(f.session.answers.len(), ANSWERS);
}

// === The model ===

#[derive(Clone, Debug)]
enum Action {
    Open,
    Upsert {
        key: usize,
        origin: bool,
        version: i64,
        is_stale: bool,
    },
    Delete {
        key: usize,
    },
    Fail {
        key: usize,
        is_passing: bool,
    },
    InSync(bool),
    Heartbeat,
    End(bool),
    Batch {
        caller: bool,
        versions: [Option<i64>; 2],
        is_down: bool,
    },
    Pass(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let key = || 0..2_usize;
    prop_oneof![
        2 => Just(Action::Open),
        6 => (key(), any::<bool>(), 0..6_i64, any::<bool>()).prop_map(
            |(key, origin, version, is_stale)| Action::Upsert { key, origin, version, is_stale }
        ),
        1 => key().prop_map(|key| Action::Delete { key }),
        2 => (key(), any::<bool>()).prop_map(|(key, is_passing)| Action::Fail { key, is_passing }),
        4 => proptest::bool::weighted(0.8).prop_map(Action::InSync),
        1 => Just(Action::Heartbeat),
        1 => any::<bool>().prop_map(Action::End),
        2 => (any::<bool>(), any::<[Option<u8>; 2]>(), any::<bool>()).prop_map(
            |(caller, versions, is_down)| Action::Batch {
                caller,
                versions: versions.map(|version| version.map(|version| i64::from(version % 6))),
                is_down,
            }
        ),
        3 => (0..40_u64).prop_map(Action::Pass),
    ]
}

/// What the open watch said of a key.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Value {
        origin: bool,
        version: i64,
        is_stale: bool,
    },
    Absent,
    Silent,
    Answer,
}

/// The reference: what the open watch said, and when each shown value was current.
#[derive(Default)]
struct Model {
    is_open: bool,
    was_in_sync: bool,
    is_in_sync: bool,
    said: HashMap<usize, Said>,
    /// Versions that the open watch said.
    by_watch: Vec<(usize, bool, i64)>,
    /// When the watch said it.
    received: [Option<Instant>; 2],
    /// When the shown value of a key was last confirmed.
    confirmed: [Option<Instant>; 2],
    /// When the shown version of a key was first shown.
    first_shown: [Option<(bool, i64, Instant)>; 2],
}

const KEYS: [&str; 2] = [X, Y];

fn origin(is_global: bool) -> &'static str {
    if is_global { "global" } else { "tenant" }
}

fn shown(view: &View, key: usize) -> Option<(bool, i64, bool)> {
    let response = view.snapshot.entry(KEYS[key])?.response();
    Some((
        response.origin == "global",
        response.version,
        response.stale,
    ))
}

impl Model {
    fn take(&mut self, action: &Action, now: Instant) {
        match action {
            Action::Open => {
                *self = Self {
                    is_open: true,
                    confirmed: self.confirmed,
                    first_shown: self.first_shown,
                    ..Self::default()
                };
            }
            Action::End(_) => {
                (self.is_open, self.was_in_sync, self.is_in_sync) = (false, false, false);
            }
            _ if !self.is_open => {}
            Action::Upsert {
                key,
                origin,
                version,
                is_stale,
            } => {
                let said = Said::Value {
                    origin: *origin,
                    version: *version,
                    is_stale: *is_stale,
                };
                self.said.insert(*key, said);
                self.received[*key] = Some(now);
                self.by_watch.push((*key, *origin, *version));
            }
            Action::Delete { key } => drop(self.said.insert(*key, Said::Absent)),
            Action::Fail { key, is_passing } => {
                let said = if *is_passing {
                    Said::Silent
                } else {
                    Said::Answer
                };
                self.said.insert(*key, said);
            }
            Action::InSync(is_in_sync) => {
                self.is_in_sync = *is_in_sync;
                self.was_in_sync |= is_in_sync;
            }
            Action::Heartbeat | Action::Batch { .. } | Action::Pass(_) => {}
        }
    }

    fn said(&self, key: usize) -> Said {
        self.said.get(&key).cloned().unwrap_or(Said::Absent)
    }
}

fn event(action: &Action) -> Event {
    match action {
        Action::Open => Event::WatchOpened,
        Action::Upsert {
            key,
            origin: is_global,
            version,
            is_stale,
        } => Event::Received(Message::Upserted(GetConfigResponse {
            origin: origin(*is_global).to_owned(),
            stale: *is_stale,
            ..response(KEYS[*key], *version)
        })),
        Action::Delete { key } => Event::Received(Message::Deleted(Deleted {
            key: KEYS[*key].to_owned(),
            version: 9,
        })),
        Action::Fail { key, is_passing } => {
            let code = if *is_passing {
                Code::Unavailable
            } else {
                Code::DataLoss
            };
            Event::Received(failed(KEYS[*key], code))
        }
        Action::InSync(is_in_sync) => Event::Received(Message::InSync(*is_in_sync)),
        Action::Heartbeat => Event::Received(Message::Heartbeat(Heartbeat::default())),
        Action::End(is_ok) => {
            let code = if *is_ok { Code::Ok } else { Code::Unavailable };
            Event::WatchEnded(token("t"), code)
        }
        Action::Batch {
            caller,
            versions,
            is_down,
        } => {
            let mut batch = BatchGetConfigResponse::default();
            for (key, version) in KEYS.iter().zip(versions) {
                match version {
                    Some(version) => batch.entries.push(GetConfigResponse {
                        origin: "tenant".to_owned(),
                        ..response(key, *version)
                    }),
                    None if *is_down => batch.errors.push(error(key, Code::Unavailable)),
                    None => batch.missing.push((*key).to_owned()),
                }
            }
            Event::BatchAnswered(token(if *caller { "a" } else { "b" }), batch)
        }
        Action::Pass(_) => Event::Time,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Every intermediate view, against the reference.
    #[test]
    fn views_never_lose_what_is_known_and_never_go_back(
        actions in proptest::collection::vec(action(), 1..60)
    ) {
        let (mut f, mut model) = (Fixture::new(), Model::default());
        for action in actions {
            // A watch is opened when the last one has ended.
            if matches!(action, Action::Open) && model.is_open {
                continue;
            }
            if let Action::Pass(time) = action {
                f.now += seconds(time);
            }
            let before = f.session.view(f.now);
            let callers = ["a", "b"].map(|caller| f.session.own_view(&token(caller), f.now));
            f.step(event(&action));
            model.take(&action, f.now);
            let after = f.session.view(f.now);
            for key in 0..2 {
                let (was, is) = (shown(&before, key), shown(&after, key));
                let said = model.said(key);
                let is_message = !matches!(
                    action,
                    Action::Open | Action::End(_) | Action::Batch { .. } | Action::Pass(_)
                );
                let received = model.received[key].unwrap_or(f.now);
                let is_fresh = is.is_some_and(|(_, _, is_stale)| !is_stale)
                    && matches!(said, Said::Value { is_stale: false, .. });
                if model.is_in_sync && is_message && is_fresh {
                    model.confirmed[key] = Some(f.now);
                }
                let confirmed = model.confirmed[key].get_or_insert(received);
                let is_too_old = f.now >= *confirmed + MAX_STALE;
                if let (Some(_), None) = (was, is) {
                    let is_removed = model.is_in_sync && matches!(said, Said::Absent | Said::Answer);
                    prop_assert!(is_removed || is_too_old, "{key} vanished by {action:?}, said {said:?}");
                }
                if let (Some((from, old, _)), Some((to, new, _))) = (was, is)
                    && from == to && new < old
                {
                    let (_, _, since) = model.first_shown[key].unwrap();
                    let by_one_watch = model.by_watch.contains(&(key, from, old));
                    prop_assert!(
                        by_one_watch || f.now >= since + BOUND || is_too_old,
                        "{key} went from {old} to {new} by {action:?}"
                    );
                }
                if let (Action::Upsert { key: upserted, origin, version, is_stale: false }, true) =
                    (&action, model.is_in_sync)
                    && *upserted == key
                    && was.is_none_or(|(from, old, _)| from != *origin || old <= *version)
                {
                    prop_assert_eq!(is, Some((*origin, *version, false)), "stale stays");
                }
                // Nothing is kept for ever.
                if let (Action::Pass(_), true, Said::Value { version, is_stale: false, .. }) =
                    (&action, model.is_in_sync, &said)
                    && model.first_shown[key].is_some_and(|(_, _, since)| f.now >= since + BOUND)
                {
                    prop_assert_eq!(is.map(|(_, shown, _)| shown), Some(*version));
                }
                let first = model.first_shown[key].filter(|(origin, version, _)| {
                    is.is_some_and(|(to, new, _)| to == *origin && new == *version)
                });
                model.first_shown[key] =
                    first.or(is.map(|(origin, version, _)| (origin, version, received)));
                if is.is_none() {
                    model.confirmed[key] = None;
                }
            }
            // A caller's own answers follow the same rules.
            if let (Action::Batch { caller, versions, is_down: true }, false) =
                (&action, model.was_in_sync)
            {
                let index = usize::from(!caller);
                let previous = callers[index].as_ref().unwrap_or(&before);
                let own = f.session.own_view(&token(["a", "b"][index]), f.now);
                let own = own.unwrap_or_else(|| f.session.view(f.now));
                for (key, version) in versions.iter().enumerate() {
                    let is_young = previous.confirmed_at.is_some_and(|at| f.now < at + seconds(1));
                    let was = shown(previous, key);
                    if version.is_none() && is_young && was.is_some_and(|(_, _, stale)| !stale) {
                        let is = shown(&own, key).map(|(_, version, is_stale)| (version, is_stale));
                        prop_assert_eq!(is, was.map(|(_, version, _)| (version, true)));
                    }
                }
            }
        }
    }
}

#[test]
fn a_secret_that_a_call_brought_is_not_kept() {
    let batch = BatchGetConfigResponse {
        entries: vec![GetConfigResponse {
            key: "secret_config_x".to_owned(),
            value: "\"s3cret\"".to_owned(),
            secret: true,
            ..Default::default()
        }],
        ..Default::default()
    };
    let snapshot = Snapshot::from(batch);
    let read = snapshot.get::<String>("secret_config_x");
    assert!(
        matches!(&read, Err(crate::ReadError::Failed { failure, .. }) if failure.code == Code::Unimplemented),
        "{read:?}"
    );
    assert!(!format!("{snapshot:?}").contains("s3cret"));
}

/// Two hand edits of one size have version 0, and no value in an event.
#[test]
fn a_large_value_that_changed_is_told_apart_by_its_tag() {
    let mut f = Fixture::new();
    let large = |etag: &str| {
        Message::Upserted(GetConfigResponse {
            key: X.to_owned(),
            omitted_bytes: 1 << 21,
            etag: etag.to_owned(),
            ..Default::default()
        })
    };
    f.watch([large("\"1\"")]);
    f.receive(large("\"2\""));
    let view = f.session.view(f.now);
    assert_eq!(view.snapshot.entry(X).unwrap().response().etag, "\"2\"");
}

//! What the cache knows of one location, as a state machine: [`step`] takes an entry and an [`Event`] and gives the next
//! entry and its [`Effects`]. It is pure. Locks, single-flight, watchers and metrics are outside, in
//! [`Cache`](super::Cache), which applies the effects under the location's lock.
//!
//! The rules follow from what a backend's [`Order`] promises:
//!
//! - *Consistent reads* (DynamoDB): a read shows everything that was written before it began. Versions may go back by
//!   hand edits, so a pushed value is only taken over when nothing speaks against it; in doubt, one read decides.
//! - *Revisions* (Parameter Store): a revision never goes back, but a read may come from a lagging copy. The higher
//!   revision is right.

use std::time::Duration;

use tagged_config_domain::{Order, Record, Revision, TenantId};
use tagged_config_stores::ChangeKind;
use tokio::time::Instant;

use crate::change::pause::Epoch;

/// After a failed read the last known value is served without another read for this long.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// For this long after a failed read, readers are served the last known value while one read goes on in the background
/// (stale-while-revalidate).
const FAILING_FOR: Duration = Duration::from_secs(10);
/// After this part of its TTL a value is refreshed while it is still served.
const REFRESH_AT: f64 = 0.8;
/// How long a value is served that is known to be older than one that was announced.
pub(super) const LAGGING_TTL: Duration = Duration::from_millis(250);
/// A copy that does not show an announced revision for longer than this is right, and the announcement was wrong.
pub(super) const MAX_LAG: Duration = Duration::from_secs(10);
/// How far the clocks of writers, backends and tasks may be apart.
pub(super) const SKEW_MS: i64 = 3_000;
/// The resolution of a parameter event's time.
const EVENT_RESOLUTION_MS: i64 = 999;
/// Versions from here on are unix milliseconds; lower ones were written by hand and say nothing about time.
const FIRST_TIMESTAMP: i64 = 1_000_000_000_000;

/// What is known of one location.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What the backend held; `None` for nothing (a negative entry).
    pub(crate) record: Option<Record>,
    /// When the backend was last known to hold it: for a read, when it began.
    pub(crate) since: Instant,
    /// The same on the wall clock, in unix milliseconds; for a pushed value, when it was written.
    pub(super) since_ms: i64,
    /// The same clock when it may have changed last, unseen: the backend answers a read some time before the read ends.
    pub(super) until_ms: i64,
    /// Whose it is, where that is known.
    pub(super) owner: Option<TenantId>,
    /// When it was learnt, in the pause detector's terms.
    pub(super) epoch: Epoch,
    pub(super) state: State,
    /// The highest revision that was ever seen here, also if the present one is lower (a hand edit, a lagging copy).
    pub(super) highest_seen: Revision,
    /// When that one was first seen.
    highest_seen_at: Instant,
    /// Of backends ordered by revisions: what was modified until then (unix milliseconds) is deleted.
    removed_until_ms: Option<i64>,
}

/// Whether an entry may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Served without a read until its TTL ends.
    Fresh {
        /// From here on one reader has it read again, without waiting (refresh-ahead).
        refresh_from: Instant,
        /// The end of its TTL.
        until: Instant,
    },
    /// A change was announced that this entry does not show: the next reader waits for a read.
    Invalidated,
    /// The backend failed when it was last read: served as stale (stale-if-error).
    Failing {
        /// When the backend failed.
        at: Instant,
        /// The next background read.
        retry_at: Instant,
    },
}

/// What a reader may do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Serve it as current.
    Fresh,
    /// Serve it as stale without waiting.
    Stale,
    /// Read the backend; serve it as stale if that takes too long.
    Fallback,
    /// Too old to be served.
    None,
}

/// What happens to a location.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A read completed, and no change was announced while it was in flight.
    Read {
        /// When it began.
        began: Began,
        /// What it found.
        record: Option<Record>,
        /// Whose the location is.
        owner: Option<TenantId>,
    },
    /// A read completed that was invalidated while in flight.
    DetachedRead {
        /// When it began.
        began: Began,
        /// What it found.
        record: Option<Record>,
        /// Whose the location is.
        owner: Option<TenantId>,
    },
    /// A read failed: the backend did not answer.
    ReadFailed,
    /// A change event arrived.
    Pushed {
        /// What it says.
        change: ChangedTo,
        /// When the backend was written, in unix milliseconds, where known. Rounded down.
        written_at_ms: Option<i64>,
    },
    /// The change journal names the location.
    Journal {
        /// What happened.
        kind: ChangeKind,
        /// To which revision.
        revision: Revision,
    },
}

/// When a read began: what it finds was true then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    pub(super) at: Instant,
    pub(super) at_ms: i64,
    pub(super) epoch: Epoch,
}

/// What a change event says of a location.
#[derive(Clone, Debug)]
pub(crate) enum ChangedTo {
    /// It holds this value, of this revision.
    Value(Record),
    /// It holds nothing. For [`Order::Revisions`]: what it held was last modified at or before these unix milliseconds;
    /// up to 999 ms later is undecided.
    Absent(i64),
    /// It changed. The revision is the announced one, or the lowest; with the new value's [`Record::digest`] where that is
    /// known.
    Unknown(Revision, Option<[u8; 16]>),
}

/// A change that readers are to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A write, which gave this version.
    Written(i64),
    /// A deletion, which gave this version; 0 if that is not known.
    Deleted(i64),
}

impl Awaited {
    /// The version that it gave.
    pub(crate) fn version(self) -> i64 {
        match self {
            Self::Written(version) | Self::Deleted(version) => version,
        }
    }
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The cache holds the new state.
    Updated,
    /// The next read reads the backend.
    Invalidated,
    /// Nothing was cached.
    NotCached,
    /// The cache holds this or newer.
    NotNewer,
}

/// The surroundings of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) order: Order,
    pub(super) now: Instant,
    pub(super) now_ms: i64,
    /// The TTL of an entry that is made now.
    pub(super) ttl: Duration,
    /// Whether entries of the old entry's epoch may be served.
    pub(super) is_trusted: bool,
}

/// What a step does outside of the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent effects")]
pub(super) struct Effects {
    /// Reads in flight must not be joined, nor cached: they may have begun before the change.
    pub(super) detach: bool,
    /// Watchers must read the location.
    pub(super) notify: bool,
    /// A read found a change that no event announced.
    pub(super) is_repair: bool,
    /// A read came from a lagging copy: its waiters are given the stored entry in place of what it found.
    pub(super) is_lagging: bool,
}

/// The result of a step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The entry to store; `None` keeps what is there.
    pub(super) entry: Option<Entry>,
    pub(super) applied: Applied,
    pub(super) effects: Effects,
}

// === impl Applied ===

impl Applied {
    /// As messages spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Updated => "updated",
            Self::Invalidated => "invalidated",
            Self::NotCached => "not-cached",
            Self::NotNewer => "not-newer",
        }
    }
}

// === impl Entry ===

impl Entry {
    /// What a reader may do with the entry now. `is_trusted`: no pause of the process since it was learnt.
    pub(super) fn usable(&self, now: Instant, is_trusted: bool, max_stale: Duration) -> Use {
        match self.state {
            State::Fresh { until, .. } if now < until && is_trusted => Use::Fresh,
            _ if now.saturating_duration_since(self.since) > max_stale => Use::None,
            State::Failing { at, .. } if now < at + FAILING_FOR => Use::Stale,
            _ => Use::Fallback,
        }
    }

    /// Whether a change was announced that the entry does not have.
    pub(crate) fn is_invalidated(&self) -> bool {
        self.state == State::Invalidated
    }

    /// Whether no reader can be answered with what was before a change: the entry holds the change or a later one, or a read
    /// decides. For backends with consistent reads.
    ///
    /// An entry that is not trusted after a pause counts as served: it is trusted again after a sweep, which may have begun
    /// before the change.
    pub(super) fn shows(&self, awaited: Awaited, now: Instant) -> bool {
        let held = self.record.as_ref().map(|record| record.revision.version);
        let holds_it = match awaited {
            Awaited::Written(version) => held.is_some_and(|held| held >= version),
            Awaited::Deleted(0) => held.is_none(),
            Awaited::Deleted(version) => held.is_none_or(|held| held > version),
        };
        match self.state {
            // An edit past the service may have a lower version, and a deletion leaves none.
            State::Fresh { until, .. } if now < until => holds_it || self.has_seen(awaited),
            State::Failing { .. } => holds_it,
            State::Fresh { .. } | State::Invalidated => true,
        }
    }

    fn has_seen(&self, awaited: Awaited) -> bool {
        match awaited {
            Awaited::Written(version) => self.highest_seen.version >= version,
            Awaited::Deleted(_) => false,
        }
    }

    /// Whether the entry should be read in the background now.
    pub(crate) fn is_refresh_due(&self, now: Instant) -> bool {
        match self.state {
            State::Fresh { refresh_from, .. } => now >= refresh_from,
            State::Failing { retry_at, .. } => now >= retry_at,
            State::Invalidated => false,
        }
    }

    fn is_fresh(&self) -> bool {
        matches!(self.state, State::Fresh { .. })
    }

    /// An entry as a read found it.
    fn read(
        began: Began,
        record: Option<Record>,
        owner: Option<TenantId>,
        context: &Context,
    ) -> Self {
        Self {
            highest_seen: record.as_ref().map(Record::stored).unwrap_or_default(),
            highest_seen_at: context.now,
            record,
            since: began.at,
            since_ms: began.at_ms,
            until_ms: context.now_ms,
            owner,
            epoch: began.epoch,
            state: State::fresh(began.at, context.ttl),
            removed_until_ms: None,
        }
    }

    /// The entry after a change event that carried its new state.
    fn pushed(
        &self,
        record: Option<Record>,
        written_at_ms: Option<i64>,
        context: &Context,
    ) -> Self {
        let mut entry = self.clone().raised(
            record.as_ref().map(Record::stored).unwrap_or_default(),
            context,
        );
        entry.record = record;
        entry.since = context.now;
        entry.since_ms = written_at_ms.unwrap_or(context.now_ms);
        entry.until_ms = entry.since_ms;
        entry.state = State::fresh(context.now, context.ttl);
        entry
    }

    fn invalidated(&self) -> Self {
        Self {
            state: State::Invalidated,
            ..self.clone()
        }
    }

    fn raised(mut self, revision: Revision, context: &Context) -> Self {
        if revision > self.highest_seen {
            self.highest_seen = revision;
            self.highest_seen_at = context.now;
        }
        self
    }

    /// Notes that a revision was removed.
    fn removed(mut self, revision: Revision, context: &Context) -> Self {
        match context.order {
            Order::ConsistentReads => self.raised(revision, context),
            Order::Revisions => {
                let until = Some(revision.incarnation);
                self.removed_until_ms = self.removed_until_ms.max(until);
                self
            }
        }
    }

    /// Whether this is known to be deleted.
    fn has_removed(&self, record: &Record) -> bool {
        self.removed_until_ms
            .is_some_and(|until| record.stored().incarnation <= until)
    }

    /// Whether this may be deleted: it was modified in the second of a deletion, or before.
    fn may_have_removed(&self, record: &Record) -> bool {
        self.removed_until_ms.is_some_and(|until| {
            record.stored().incarnation <= until.saturating_add(EVENT_RESOLUTION_MS)
        })
    }

    /// Whether a copy that shows this shows the past: it is deleted; or it may be, and the entry holds nothing, and what it held
    /// before was perhaps a later one.
    fn is_past(&self, record: &Record) -> bool {
        self.has_removed(record) || self.record.is_none() && self.may_have_removed(record)
    }

    /// Whether a read that found this came from a copy that lags behind what is known.
    fn is_ahead_of(&self, found: Option<&Record>, now: Instant) -> bool {
        let is_recent = now < self.highest_seen_at + MAX_LAG;
        let Some(found) = found else {
            // Deletions are events, too: without one, a value that was just announced is there.
            let announced = self.highest_seen.incarnation;
            let is_removed = self
                .removed_until_ms
                .is_some_and(|until| announced <= until);
            return is_recent && !is_removed && self.highest_seen > Revision::default();
        };
        if self.has_removed(found) {
            return true;
        }
        let holds_newer = self
            .record
            .as_ref()
            .is_some_and(|held| held.stored() > found.stored());
        found.stored() < self.highest_seen && (holds_newer || is_recent)
    }
}

impl State {
    fn fresh(since: Instant, ttl: Duration) -> Self {
        Self::Fresh {
            refresh_from: since + ttl.mul_f64(REFRESH_AT),
            until: since + ttl,
        }
    }
}

// === impl Step ===

impl Step {
    fn keep(applied: Applied) -> Self {
        Self {
            entry: None,
            applied,
            effects: Effects::default(),
        }
    }

    fn put(entry: Entry, applied: Applied) -> Self {
        Self {
            entry: Some(entry),
            applied,
            effects: Effects::default(),
        }
    }

    fn detach(mut self) -> Self {
        self.effects.detach = true;
        self
    }

    fn notify(mut self, notify: bool) -> Self {
        self.effects.notify = notify;
        self
    }
}

/// The next entry of a location, and what else there is to do.
pub(super) fn step(old: Option<&Entry>, event: Event, context: &Context) -> Step {
    match event {
        Event::Read {
            began,
            record,
            owner,
        } => completed(old, began, record, owner, context),
        Event::DetachedRead {
            began,
            record,
            owner,
        } => reconcile_detached(old, began, record, owner, context),
        Event::ReadFailed => failed(old, context),
        Event::Pushed {
            change,
            written_at_ms,
        } => {
            let Some(old) = old else {
                // A value that arrives while a read is in flight may be older than what the read finds.
                return Step::keep(Applied::NotCached).detach().notify(true);
            };
            let step = match change {
                ChangedTo::Value(record) => value(old, record, written_at_ms, context),
                ChangedTo::Absent(until_ms) => absent(old, until_ms, context),
                ChangedTo::Unknown(revision, digest) => unknown(old, revision, digest, context),
            };
            let notify = step.applied != Applied::NotNewer;
            step.detach().notify(notify)
        }
        Event::Journal { kind, revision } => journal(old, kind, revision, context),
    }
}

fn completed(
    old: Option<&Entry>,
    began: Began,
    record: Option<Record>,
    owner: Option<TenantId>,
    context: &Context,
) -> Step {
    let Some(old) = old else {
        let entry = Entry::read(began, record, owner, context);
        return Step::put(entry, Applied::Updated).notify(true);
    };
    if context.order == Order::Revisions && old.is_ahead_of(record.as_ref(), context.now) {
        return lagging(old, began, record, context);
    }
    let differs = old.record != record;
    let mut entry = Entry::read(began, record, owner, context);
    entry.removed_until_ms = old.removed_until_ms;
    // A version far ahead of the clock was written by hand. Once it is gone, it must not hide later ones.
    let is_plausible = old.highest_seen.version <= context.now_ms.saturating_add(SKEW_MS);
    let keeps = match context.order {
        Order::ConsistentReads => is_plausible,
        Order::Revisions => context.now < old.highest_seen_at + MAX_LAG,
    };
    if keeps && old.highest_seen > entry.highest_seen {
        entry.highest_seen = old.highest_seen;
        entry.highest_seen_at = old.highest_seen_at;
    }
    let mut step = Step::put(entry, Applied::Updated).notify(differs);
    step.effects.is_repair = differs && old.is_fresh();
    step
}

/// A lagging copy answered with less than is known. A held value that is newer stays; either way the next read is soon.
fn lagging(old: &Entry, began: Began, copy: Option<Record>, context: &Context) -> Step {
    let copy = copy.filter(|copy| !old.is_past(copy));
    let keeps_held = match (&old.record, &copy) {
        (Some(held), Some(copy)) => held.stored() >= copy.stored(),
        (Some(held), None) => !old.may_have_removed(held),
        (None, _) => old.is_fresh() || copy.is_none(),
    };
    let record = if keeps_held { old.record.clone() } else { copy };
    let until = context.now + LAGGING_TTL;
    let entry = Entry {
        record: record.clone(),
        state: State::Fresh {
            refresh_from: until,
            until,
        },
        epoch: began.epoch,
        ..old.clone()
    };
    let differs = old.record != record;
    let mut step = Step::put(entry, Applied::Updated).notify(differs);
    step.effects.is_lagging = true;
    step
}

/// Merges the result of a read that was invalidated while in flight. It is never cached as fresh. If it is newer than the
/// cached record it becomes the stale-if-error fallback, so that no reader sees a version older than one already returned.
fn reconcile_detached(
    old: Option<&Entry>,
    began: Began,
    record: Option<Record>,
    owner: Option<TenantId>,
    context: &Context,
) -> Step {
    let Some(old) = old else {
        if record.is_none() {
            return Step::keep(Applied::NotCached);
        }
        let entry = Entry::read(began, record, owner, context);
        return Step::put(entry.invalidated(), Applied::Invalidated).detach();
    };
    let revision = |record: Option<&Record>| record.map(Record::stored);
    let is_past = context.order == Order::Revisions
        && record.as_ref().is_some_and(|record| old.is_past(record));
    let is_newer = match (&old.record, &record) {
        _ if is_past => false,
        // Absence has no version. What the service wrote before the place was known to be empty was deleted since.
        (None, Some(found))
            if context.order == Order::ConsistentReads && is_timestamp(found.stored().version) =>
        {
            found.stored().version > old.since_ms
        }
        (held, found) => revision(held.as_ref()) < revision(found.as_ref()),
    };
    // Who waits for a lagging copy may have been served what is known, before the read.
    let is_lagging = context.order == Order::Revisions
        && match (&old.record, &record) {
            (Some(held), Some(copy)) => held.stored() > copy.stored(),
            (Some(held), None) => !old.may_have_removed(held),
            (None, _) => is_past,
        };
    // A read that began before the cached state was learnt is the older one, unless its version says otherwise.
    if old.record == record || began.at <= old.since && !is_newer {
        let mut step = Step::keep(Applied::NotNewer);
        step.effects.is_lagging = is_lagging;
        return step;
    }
    let mut entry = old.invalidated();
    if is_newer {
        entry = entry.raised(revision(record.as_ref()).unwrap_or_default(), context);
        entry.record = record;
        entry.since = began.at;
        entry.since_ms = began.at_ms;
        entry.until_ms = context.now_ms;
        entry.epoch = began.epoch;
    }
    let mut step = Step::put(entry, Applied::Invalidated);
    step.effects.is_lagging = is_lagging;
    // An older read that is still in flight must not be cached after this one.
    if is_newer { step.detach() } else { step }
}

fn failed(old: Option<&Entry>, context: &Context) -> Step {
    let Some(old) = old else {
        return Step::keep(Applied::NotCached);
    };
    let retry_at = context.now + RETRY_AFTER;
    let state = match old.state {
        State::Fresh { until, .. } if context.now < until && context.is_trusted => State::Fresh {
            refresh_from: retry_at,
            until,
        },
        _ => State::Failing {
            at: context.now,
            retry_at,
        },
    };
    let entry = Entry {
        state,
        ..old.clone()
    };
    Step::put(entry, Applied::NotNewer)
}

fn value(old: &Entry, record: Record, written_at_ms: Option<i64>, context: &Context) -> Step {
    if old.is_fresh() && old.record.as_ref() == Some(&record) {
        return Step::keep(Applied::NotNewer);
    }
    match context.order {
        Order::ConsistentReads => value_by_time(old, record, written_at_ms, context),
        Order::Revisions => value_by_revision(old, record, context),
    }
}

/// Whether a pushed value may replace an entry that is fresh, for backends with consistent reads.
///
/// Versions that the service gives are timestamps and rise, so between two of them the version decides. Versions that were
/// written by hand say nothing, and a negative entry has none: the pushed value must have been written after the entry was
/// known. In doubt the answer is no, and one read decides.
fn value_by_time(
    old: &Entry,
    record: Record,
    written_at_ms: Option<i64>,
    context: &Context,
) -> Step {
    let version = record.stored().version;
    let is_ahead = is_timestamp(version) && version > context.now_ms.saturating_add(SKEW_MS);
    let stamped = is_timestamp(version).then_some(version);
    let time = [stamped, written_at_ms].into_iter().flatten().min();
    let is_after = time.map(|time| time > old.until_ms.saturating_add(SKEW_MS));
    let is_higher = record.stored() > old.highest_seen;
    let is_newer = match &old.record {
        Some(held) if is_timestamp(held.stored().version) && is_timestamp(version) => {
            is_higher && time.is_some_and(|time| time >= old.since_ms.saturating_sub(SKEW_MS))
        }
        Some(_) => is_after.unwrap_or(true) && is_higher,
        None => is_after.unwrap_or(false) && is_higher,
    };
    if old.is_fresh() && is_newer && !is_ahead {
        return Step::put(old.pushed(Some(record), time, context), Applied::Updated);
    }
    let entry = old.invalidated().raised(record.stored(), context);
    Step::put(entry, Applied::Invalidated)
}

fn is_timestamp(version: i64) -> bool {
    version >= FIRST_TIMESTAMP
}

fn value_by_revision(old: &Entry, record: Record, context: &Context) -> Step {
    let modified_ms = record.stored().incarnation;
    let undecided_until = match (&old.record, old.removed_until_ms) {
        (_, Some(until)) if modified_ms <= until => return Step::keep(Applied::NotNewer),
        (_, Some(until)) => until.saturating_add(EVENT_RESOLUTION_MS),
        // The copy that showed nothing may have lagged; the value may have been deleted since.
        (None, None) => old.until_ms.saturating_add(SKEW_MS),
        (Some(_), None) => i64::MIN,
    };
    let is_current = if old.is_fresh() {
        record.stored() > old.highest_seen
    } else {
        record.stored() >= old.highest_seen
    };
    if !is_current {
        return if old.is_fresh() {
            Step::keep(Applied::NotNewer)
        } else {
            Step::put(old.invalidated(), Applied::Invalidated)
        };
    }
    if modified_ms <= undecided_until {
        let entry = old.invalidated().raised(record.stored(), context);
        return Step::put(entry, Applied::Invalidated);
    }
    let time = Some(modified_ms);
    Step::put(old.pushed(Some(record), time, context), Applied::Updated)
}

fn absent(old: &Entry, until_ms: i64, context: &Context) -> Step {
    if context.order == Order::ConsistentReads {
        // It may be there again by now.
        return Step::put(old.invalidated(), Applied::Invalidated);
    }
    let removed = Entry {
        removed_until_ms: old.removed_until_ms.max(Some(until_ms)),
        ..old.clone()
    };
    // A revision that was announced since is not shown by any event that was received.
    let is_latest = old.highest_seen.incarnation <= until_ms;
    match &old.record {
        Some(held) if held.stored().incarnation <= until_ms && is_latest => Step::put(
            removed.pushed(None, Some(until_ms), context),
            Applied::Updated,
        ),
        Some(held) if held.stored().incarnation > until_ms.saturating_add(EVENT_RESOLUTION_MS) => {
            Step::put(removed, Applied::NotNewer)
        }
        None if old.is_fresh() => Step::put(removed, Applied::NotNewer),
        _ => Step::put(removed.invalidated(), Applied::Invalidated),
    }
}

fn unknown(old: &Entry, revision: Revision, digest: Option<[u8; 16]>, context: &Context) -> Step {
    let is_known = context.order == Order::Revisions
        && revision != Revision::default()
        && revision <= old.highest_seen;
    let is_held = old.record.as_ref().is_some_and(|held| {
        held.stored() == revision && digest.is_some_and(|digest| *held.digest() == digest)
    });
    if old.is_fresh() && (is_known || is_held) {
        return Step::keep(Applied::NotNewer);
    }
    let entry = old.invalidated().raised(revision, context);
    Step::put(entry, Applied::Invalidated)
}

fn journal(old: Option<&Entry>, kind: ChangeKind, revision: Revision, context: &Context) -> Step {
    let Some(old) = old else {
        return Step::keep(Applied::NotCached).detach().notify(true);
    };
    let is_plausible = old.highest_seen.version <= context.now_ms.saturating_add(SKEW_MS);
    let is_known = match (kind, &old.record, context.order) {
        (ChangeKind::Written, _, Order::Revisions) => old.highest_seen >= revision,
        // A version far ahead of the clock was written by hand, and says nothing about those below it.
        (ChangeKind::Written, _, Order::ConsistentReads) => {
            is_plausible && old.highest_seen >= revision
        }
        (ChangeKind::Removed, None, Order::Revisions) => true,
        (ChangeKind::Removed, None, Order::ConsistentReads) => is_timestamp(revision.version),
        (ChangeKind::Removed, Some(held), Order::ConsistentReads) => {
            let are_timestamps =
                is_timestamp(held.stored().version) && is_timestamp(revision.version);
            is_plausible && are_timestamps && held.stored() > revision
        }
        (ChangeKind::Removed, Some(held), Order::Revisions) => {
            held.stored().incarnation > revision.incarnation.saturating_add(EVENT_RESOLUTION_MS)
        }
        (ChangeKind::Edited | ChangeKind::Flush, ..) => false,
    };
    if is_known && kind == ChangeKind::Removed && old.record.is_none() {
        // A late push of what was removed is recognised. A read in flight may have found it.
        let removed = old.clone().removed(revision, context);
        return Step::put(removed, Applied::NotNewer).detach();
    }
    if is_known {
        return Step::keep(Applied::NotNewer);
    }
    if old.state == State::Invalidated {
        return Step::keep(Applied::NotNewer).detach();
    }
    let mut entry = old.invalidated();
    match (kind, context.order) {
        (ChangeKind::Removed, _) => entry = entry.removed(revision, context),
        // Of consistent reads, the push that may still come carries the value; of revisions, lagging copies must be
        // recognised.
        (_, Order::ConsistentReads) => {}
        (_, Order::Revisions) => entry = entry.raised(revision, context),
    }
    Step::put(entry, Applied::Invalidated).detach().notify(true)
}

#[cfg(test)]
mod tests;

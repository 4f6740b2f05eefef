//! Model checks of the state machine: random histories of a source of truth, events that are late, lost, repeated and
//! reordered, reads that begin and end, pauses, deletions, hand edits and evictions. Every intermediate read is checked.

use proptest::prelude::*;

use super::*;
use crate::change::pause::PauseDetector;

const START_MS: i64 = 1_700_000_000_000;
const TTL: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
enum Op {
    /// The service writes.
    Put,
    /// Somebody writes past the service, with this version (0: the present one).
    Edit(i64),
    /// Somebody writes a version far ahead of the clock.
    EditAhead,
    Delete,
    /// An event of the history arrives, counted from its end; with its time, or without.
    Push(usize, bool),
    /// A journal entry of the history arrives.
    Journal(usize),
    /// A reader arrives: it is served, or joins or begins a read.
    Read,
    /// The oldest read in flight takes its value from the source.
    Sample,
    /// A read in flight ends.
    End(usize),
    /// A read in flight fails.
    Fail(usize),
    Evict,
    Pause,
    Wait(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Put),
        2 => (0..5_i64).prop_map(Op::Edit),
        1 => Just(Op::EditAhead),
        2 => Just(Op::Delete),
        5 => (0..6_usize, any::<bool>()).prop_map(|(back, timed)| Op::Push(back, timed)),
        2 => (0..6_usize).prop_map(Op::Journal),
        6 => Just(Op::Read),
        5 => Just(Op::Sample),
        5 => (0..3_usize).prop_map(Op::End),
        1 => (0..3_usize).prop_map(Op::Fail),
        1 => Just(Op::Evict),
        1 => Just(Op::Pause),
        4 => (0..9_000_u16).prop_map(Op::Wait),
    ]
}

/// A change of the source.
#[derive(Clone, Debug)]
struct Change {
    record: Option<Record>,
    at_ms: i64,
    kind: ChangeKind,
    /// For a removal, of what was removed.
    revision: Revision,
}

struct Flight {
    began: Began,
    /// What must be visible to it: changes that were announced before it began.
    floor: usize,
    sampled: Option<(usize, Option<Record>)>,
    attached: bool,
}

struct Model {
    order: Order,
    entry: Option<Entry>,
    history: Vec<Change>,
    flights: Vec<Flight>,
    base: Instant,
    now_ms: i64,
    detector: PauseDetector,
    trusted_from: Epoch,
    /// Hits must show this change or a later one.
    floor: usize,
    /// What readers were given: this change or an earlier one.
    served: usize,
    writes: u32,
}

impl Model {
    fn new(order: Order) -> Self {
        let detector = PauseDetector::new(std::sync::Arc::new(|| 0), Duration::MAX);
        let trusted_from = detector.epoch();
        Self {
            order,
            entry: None,
            history: vec![Change {
                record: None,
                at_ms: START_MS,
                kind: ChangeKind::Edited,
                revision: Revision::default(),
            }],
            flights: Vec::new(),
            base: Instant::now(),
            now_ms: START_MS,
            detector,
            trusted_from,
            floor: 0,
            served: 0,
            writes: 0,
        }
    }

    fn now(&self) -> Instant {
        let passed = u64::try_from(self.now_ms - START_MS).unwrap();
        self.base + Duration::from_millis(passed)
    }

    fn began(&self) -> Began {
        Began {
            at: self.now(),
            at_ms: self.now_ms,
            epoch: self.detector.epoch(),
        }
    }

    fn is_trusted(&self) -> bool {
        let entry = self.entry.as_ref();
        entry.is_some_and(|entry| entry.epoch >= self.trusted_from)
    }

    fn step(&mut self, event: Event) -> Step {
        let context = Context {
            order: self.order,
            now: self.now(),
            now_ms: self.now_ms,
            ttl: TTL,
            is_trusted: self.is_trusted(),
        };
        let step = step(self.entry.as_ref(), event, &context);
        if step.effects.detach {
            for flight in &mut self.flights {
                flight.attached = false;
            }
        }
        if let Some(entry) = &step.entry {
            self.entry = Some(entry.clone());
        }
        step
    }

    fn held(&self) -> Option<&Record> {
        self.history
            .last()
            .and_then(|change| change.record.as_ref())
    }

    fn write(&mut self, revision: Revision, kind: ChangeKind) {
        self.writes += 1;
        self.now_ms += 1;
        let value = format!("value {}", self.writes);
        self.history.push(Change {
            record: Some(Record::new(value, "text/plain", revision, None)),
            at_ms: self.now_ms,
            kind,
            revision,
        });
    }

    /// As the service gives versions: above what is there, at least the clock.
    fn put(&mut self) {
        let held = self.held().map_or(0, |record| record.revision.version);
        let version = (held + 1).max(self.now_ms + 1);
        let revision = match self.order {
            Order::ConsistentReads => Revision {
                incarnation: 0,
                version,
            },
            Order::Revisions => Revision {
                incarnation: self.now_ms + 1,
                version: held.min(1_000) + 1,
            },
        };
        self.write(revision, ChangeKind::Written);
    }

    fn edit(&mut self, version: i64) {
        let held = self.held().map_or(0, |record| record.revision.version);
        let version = if version == 0 { held } else { version };
        let revision = Revision {
            incarnation: 0,
            version,
        };
        self.write(revision, ChangeKind::Edited);
    }

    fn delete(&mut self) {
        let Some(held) = self.held() else { return };
        let revision = match self.order {
            Order::ConsistentReads => held.revision,
            Order::Revisions => Revision {
                incarnation: (self.now_ms + 1).div_euclid(1_000) * 1_000,
                version: 0,
            },
        };
        self.now_ms += 1;
        self.history.push(Change {
            record: None,
            at_ms: self.now_ms,
            kind: ChangeKind::Removed,
            revision,
        });
    }

    fn change(&self, back: usize) -> Option<(usize, Change)> {
        let index = self.history.len().checked_sub(back + 1)?;
        (index > 0).then(|| (index, self.history[index].clone()))
    }

    fn push(&mut self, back: usize, timed: bool) {
        let Some((index, change)) = self.change(back) else {
            return;
        };
        let announced = match (change.record, self.order) {
            (Some(record), _) => ChangedTo::Value(record),
            (None, Order::ConsistentReads) => ChangedTo::Absent(0),
            (None, Order::Revisions) => ChangedTo::Absent(change.revision.incarnation),
        };
        // Stream records carry whole seconds, rounded down.
        let is_by_hand = change.kind != ChangeKind::Written;
        let written = change.at_ms.div_euclid(1_000) * 1_000;
        self.step(Event::Pushed {
            change: announced,
            written_at_ms: (timed || is_by_hand).then_some(written),
        });
        self.floor = self.floor.max(index);
    }

    fn journal(&mut self, back: usize) {
        let Some((index, change)) = self.change(back) else {
            return;
        };
        self.step(Event::Journal {
            kind: change.kind,
            revision: change.revision,
        });
        self.floor = self.floor.max(index);
    }

    /// Whether somebody wrote past the service: of two reads in flight, no version then tells which is the later.
    fn has_hand_edits(&self) -> bool {
        let mut later = self.history.iter().skip(1);
        later.any(|change| change.kind == ChangeKind::Edited)
    }

    /// What a copy shows that lags by so many changes, those of them that are recent.
    fn copy(&self, back: usize) -> Option<Record> {
        let mut index = self.history.len() - 1;
        for _ in 0..back {
            if index > 0 && self.history[index].at_ms > self.now_ms - LAG_MS {
                index -= 1;
            }
        }
        self.history[index].record.clone()
    }

    /// The first change at or after `floor` that left the source like this.
    fn shown(&self, record: Option<&Record>, floor: usize) -> Option<usize> {
        (floor..self.history.len()).find(|index| self.history[*index].record.as_ref() == record)
    }

    fn read(&mut self) -> Result<(), TestCaseError> {
        if let Some(entry) = &self.entry
            && entry.usable(self.now(), self.is_trusted(), Duration::from_hours(1)) == Use::Fresh
        {
            let shown = self.shown(entry.record.as_ref(), self.floor);
            prop_assert!(
                shown.is_some(),
                "a hit goes back behind change {}: {:?} of {:?}",
                self.floor,
                entry,
                self.history
            );
            self.floor = shown.unwrap();
            self.served = self.served.max(self.floor);
            return Ok(());
        }
        if let Some(entry) = &self.entry
            && entry.usable(self.now(), self.is_trusted(), Duration::from_hours(1)) != Use::None
            && !self.has_hand_edits()
        {
            let shown = self.shown(entry.record.as_ref(), self.served);
            prop_assert!(
                shown.is_some(),
                "what is served as stale goes back behind change {}: {:?} of {:?}",
                self.served,
                entry,
                self.history
            );
        }
        if !self.flights.iter().any(|flight| flight.attached) {
            self.flights.push(Flight {
                began: self.began(),
                floor: self.floor,
                sampled: None,
                attached: true,
            });
        }
        Ok(())
    }

    fn sample(&mut self) {
        let last = self.history.len() - 1;
        let record = self.history[last].record.clone();
        let waiting = self
            .flights
            .iter_mut()
            .find(|flight| flight.sampled.is_none());
        if let Some(flight) = waiting {
            flight.sampled = Some((last, record));
        }
    }

    fn end(&mut self, which: usize, fails: bool) -> Result<(), TestCaseError> {
        if which >= self.flights.len() || self.flights[which].sampled.is_none() {
            return Ok(());
        }
        let flight = self.flights.remove(which);
        if fails {
            if flight.attached {
                self.step(Event::ReadFailed);
            }
            return Ok(());
        }
        let (index, record) = flight.sampled.unwrap();
        let began = flight.began;
        let event = if flight.attached {
            Event::Read {
                began,
                record: record.clone(),
                owner: None,
            }
        } else {
            Event::DetachedRead {
                began,
                record: record.clone(),
                owner: None,
            }
        };
        self.step(event);
        prop_assert!(
            index >= flight.floor,
            "a read goes back behind what was announced"
        );
        if flight.attached {
            self.floor = self
                .floor
                .max(self.shown(record.as_ref(), flight.floor).unwrap());
            self.served = self
                .served
                .max(self.shown(record.as_ref(), flight.floor).unwrap());
        }
        Ok(())
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Put => self.put(),
            Op::Edit(version) => self.edit(version),
            Op::EditAhead => self.edit(self.now_ms * 2),
            Op::Delete => self.delete(),
            Op::Push(back, timed) => self.push(back, timed),
            Op::Journal(back) => self.journal(back),
            Op::Read => self.read()?,
            Op::Sample => self.sample(),
            Op::End(which) => self.end(which, false)?,
            Op::Fail(which) => self.end(which, true)?,
            Op::Evict => {
                // With the entry goes what is known of what was served.
                self.entry = None;
                self.served = 0;
            }
            Op::Pause => {
                self.detector.invalidate_all();
                self.trusted_from = self.detector.epoch();
                for flight in &mut self.flights {
                    flight.attached = false;
                }
            }
            Op::Wait(ms) => self.now_ms += i64::from(ms),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// DynamoDB: every hit shows the last announced change or a later one, and never an older state than a reader was given;
    /// nor, among the service's own writes, does what is served as stale.
    #[test]
    fn with_consistent_reads_no_hit_goes_back(ops in prop::collection::vec(op(), 1..40)) {
        let mut model = Model::new(Order::ConsistentReads);
        for op in ops {
            model.run(&op)?;
        }
    }
}

/// What the model has found before.
#[test]
fn found_by_the_model() {
    for ops in [
        // The read was answered long after it began: the push before the edit is not the newer one.
        vec![
            Op::Read,
            Op::Pause,
            Op::Read,
            Op::Wait(3_000),
            Op::Put,
            Op::Edit(1),
            Op::Sample,
            Op::Sample,
            Op::End(1),
            Op::Push(1, false),
            Op::Read,
        ],
        // A version that was written by hand, far ahead, hides no removal.
        vec![
            Op::Read,
            Op::EditAhead,
            Op::Sample,
            Op::End(0),
            Op::Edit(1),
            Op::Put,
            Op::Delete,
            Op::Put,
            Op::Journal(1),
            Op::Read,
        ],
        // A read in flight from before a deletion does not bring back, as stale, what it found.
        vec![
            Op::Put,
            Op::Put,
            Op::Read,
            Op::Push(0, false),
            Op::Read,
            Op::Sample,
            Op::Delete,
            Op::Sample,
            Op::End(1),
            Op::End(0),
            Op::Read,
        ],
    ] {
        let mut model = Model::new(Order::ConsistentReads);
        for op in &ops {
            model.run(op).unwrap();
        }
    }
}

/// What reads of Parameter Store may see: the source, or a copy that lags.
#[derive(Clone, Debug)]
enum LaggingOp {
    Put,
    Delete,
    Push(usize),
    Announce(usize),
    /// A read of the copy as of so many changes ago, if that is within the lag.
    Read(usize),
    /// The same, of a read that a change invalidated while it was in flight.
    Detached(usize),
    /// A read fails.
    Fail,
    /// A journal entry of the history arrives.
    Journal(usize),
    /// A reader is served what is cached, be it as stale.
    Hit,
    Wait(u16),
}

fn lagging_op() -> impl Strategy<Value = LaggingOp> {
    prop_oneof![
        4 => Just(LaggingOp::Put),
        2 => Just(LaggingOp::Delete),
        5 => (0..5_usize).prop_map(LaggingOp::Push),
        2 => (0..5_usize).prop_map(LaggingOp::Announce),
        4 => (0..4_usize).prop_map(LaggingOp::Read),
        2 => (0..4_usize).prop_map(LaggingOp::Detached),
        1 => Just(LaggingOp::Fail),
        2 => (0..5_usize).prop_map(LaggingOp::Journal),
        6 => Just(LaggingOp::Hit),
        4 => (0..3_000_u16).prop_map(LaggingOp::Wait),
    ]
}

const LAG_MS: i64 = 2_000;

/// No reader is served a lower revision than one that was served, not as stale either, nor, as current, what a deletion has
/// ended; and when everything
/// has arrived, and copies have caught up, it shows the source.
fn run_lagging(ops: &[LaggingOp]) -> Result<(), TestCaseError> {
    let mut model = Model::new(Order::Revisions);
    let mut highest = Revision::default();
    let mut removed_until = i64::MIN;
    let mut check = |model: &Model| -> Result<(), TestCaseError> {
        let Some(entry) = &model.entry else {
            return Ok(());
        };
        if entry.usable(model.now(), true, TTL) == Use::None {
            return Ok(());
        }
        if let Some(record) = &entry.record {
            prop_assert!(
                record.revision >= highest,
                "{entry:?} goes back behind {highest:?}"
            );
            highest = record.revision;
        }
        Ok(())
    };
    for op in ops {
        match *op {
            LaggingOp::Put => model.put(),
            LaggingOp::Delete => model.delete(),
            LaggingOp::Push(back) => {
                if let Some((_, change)) = model.change(back)
                    && change.record.is_none()
                {
                    removed_until = removed_until.max(change.revision.incarnation);
                }
                let had_entry = model.entry.is_some();
                model.push(back, true);
                if had_entry
                    && let Some(entry) = &model.entry
                    && entry.is_fresh()
                    && let Some(record) = &entry.record
                {
                    prop_assert!(
                        record.revision.incarnation > removed_until,
                        "{entry:?} was deleted"
                    );
                } else if !had_entry {
                    removed_until = i64::MIN;
                }
            }
            LaggingOp::Announce(back) => {
                if let Some((_, change)) = model.change(back)
                    && change.record.is_some()
                {
                    let change = ChangedTo::Unknown(change.revision, None);
                    model.step(Event::Pushed {
                        change,
                        written_at_ms: None,
                    });
                }
            }
            LaggingOp::Read(back) => {
                let record = model.copy(back);
                let began = model.began();
                model.step(Event::Read {
                    began,
                    record,
                    owner: None,
                });
            }
            LaggingOp::Detached(back) => {
                let record = model.copy(back);
                let began = model.began();
                model.step(Event::DetachedRead {
                    began,
                    record,
                    owner: None,
                });
            }
            LaggingOp::Fail => {
                model.step(Event::ReadFailed);
            }
            LaggingOp::Journal(back) => model.journal(back),
            LaggingOp::Hit => check(&model)?,
            LaggingOp::Wait(ms) => model.now_ms += i64::from(ms),
        }
    }
    // Everything arrives once more, in order; copies catch up.
    for back in (0..model.history.len() - 1).rev() {
        model.push(back, true);
    }
    model.now_ms += 30_000;
    if model
        .entry
        .as_ref()
        .is_none_or(|entry| entry.usable(model.now(), true, TTL) != Use::Fresh)
    {
        let record = model.held().cloned();
        let began = model.began();
        model.step(Event::Read {
            began,
            record,
            owner: None,
        });
    }
    prop_assert_eq!(model.entry.as_ref().unwrap().record.as_ref(), model.held());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Parameter Store.
    #[test]
    fn with_revisions_no_hit_goes_back(ops in prop::collection::vec(lagging_op(), 1..40)) {
        run_lagging(&ops)?;
    }
}

/// What the model has found before: a key that is deleted and written again within a second, and a copy from before that.
#[test]
fn found_by_the_model_of_lagging_copies() {
    for ops in [
        vec![
            LaggingOp::Put,
            LaggingOp::Put,
            LaggingOp::Read(0),
            LaggingOp::Hit,
            LaggingOp::Delete,
            LaggingOp::Put,
            LaggingOp::Push(1),
            LaggingOp::Read(1),
            LaggingOp::Push(0),
            LaggingOp::Read(3),
            LaggingOp::Hit,
        ],
        // Of a read in flight, which leaves what is served as stale.
        vec![
            LaggingOp::Put,
            LaggingOp::Delete,
            LaggingOp::Put,
            LaggingOp::Put,
            LaggingOp::Put,
            LaggingOp::Read(0),
            LaggingOp::Push(3),
            LaggingOp::Push(0),
            LaggingOp::Hit,
            LaggingOp::Read(3),
            LaggingOp::Detached(1),
            LaggingOp::Hit,
        ],
    ] {
        run_lagging(&ops).unwrap();
    }
}

/// A failed read, in each state: what readers are served, and when one of them reads again.
#[test]
fn a_failed_read_serves_the_last_known_value_and_is_retried_in_the_background() {
    let mut model = Model::new(Order::ConsistentReads);
    model.put();
    let max_stale = Duration::from_hours(1);
    let record = model.held().cloned();
    let read = Event::Read {
        began: model.began(),
        record,
        owner: None,
    };
    model.step(read);
    let usable = |model: &Model| {
        let entry = model.entry.as_ref().unwrap();
        (
            entry.usable(model.now(), model.is_trusted(), max_stale),
            entry.is_refresh_due(model.now()),
        )
    };
    assert_eq!(usable(&model), (Use::Fresh, false));
    model.now_ms += 50_000;
    assert_eq!(usable(&model), (Use::Fresh, true), "refresh-ahead");
    model.step(Event::ReadFailed);
    assert_eq!(usable(&model), (Use::Fresh, false));
    model.now_ms += 1_000;
    assert_eq!(usable(&model), (Use::Fresh, true));
    model.now_ms += 20_000;
    assert_eq!(usable(&model).0, Use::Fallback, "its TTL has ended");
    model.step(Event::ReadFailed);
    assert_eq!(usable(&model), (Use::Stale, false));
    model.now_ms += 1_000;
    assert_eq!(
        usable(&model),
        (Use::Stale, true),
        "one reader reads in the background"
    );
    model.now_ms += 10_000;
    assert_eq!(
        usable(&model).0,
        Use::Fallback,
        "the backend may be back: readers wait for it"
    );
    model.now_ms += 3_600_000;
    assert_eq!(usable(&model).0, Use::None);
}

//! The faults, and what is promised under each.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::Source::{self, Dynamodb, ParameterStore, PutConfig};

/// Where only a push can bring a change (it bypassed the service, and the invalidator has not received it yet).
pub(super) const PUSH: Duration = Duration::from_secs(3);
/// How long a delayed event is late at most.
const DELAY_MS: u64 = 2_000;
/// How old the copies are that a lagging source answers with.
const LAG_MS: u64 = 1_500;
/// How long a replica stops.
const PAUSE: Duration = Duration::from_secs(3);

/// A fault.
#[derive(Clone, Copy)]
pub(super) struct Fault {
    /// For the command line.
    pub(super) name: &'static str,
    /// Title in reports.
    pub(super) title: &'static str,
    /// How updates are made under it.
    pub(super) sources: &'static [Source],
    /// What the emulator does.
    emulator: fn() -> Value,
    /// What happens to a process.
    pub(super) process: Process,
    /// How long an update may stay unseen.
    pub(super) promise: Promise,
    /// Whether the fault is over when updates are; else it stays until all are seen.
    pub(super) ends_with_the_updates: bool,
}

/// What happens to the first replica.
#[derive(Clone, Copy)]
pub(super) enum Process {
    /// Nothing.
    None,
    /// It is stopped for this long (SIGSTOP), and goes on.
    Paused(Duration),
    /// It ends at once (SIGKILL), and a new one starts.
    Killed,
    /// A new one takes its place in the middle of the updates.
    Restarted,
    /// Cloud Map does not know it for this long: the invalidator calls all others.
    UnknownToTheFanOut(Duration),
    /// Nothing, but another tenant requests more than its quota.
    NoisyNeighbour,
}

/// What bounds how long an update may stay unseen.
#[derive(Clone, Copy)]
pub(super) enum Promise {
    /// The sweep of the journal.
    Journal,
    /// The same, after the fault itself.
    JournalAfter(Duration),
    /// A push, that much late.
    PushAfter(Duration),
}

/// All of them; the stores' outage is the last, since writers rest after a write that failed.
pub(super) const FAULTS: [Fault; 14] = [
    Fault {
        name: "none",
        title: "none",
        sources: &[Dynamodb, PutConfig, ParameterStore],
        emulator: || json!({}),
        process: Process::None,
        promise: Promise::PushAfter(Duration::ZERO),
        ends_with_the_updates: false,
    },
    Fault {
        name: "dropped",
        title: "events dropped, all of them",
        sources: &[PutConfig],
        emulator: || json!({"events": {"dynamodb": {"drop": 1.0}}}),
        process: Process::None,
        promise: Promise::Journal,
        ends_with_the_updates: false,
    },
    Fault {
        name: "delayed",
        title: "events delayed by up to 2 s",
        sources: &[Dynamodb, PutConfig, ParameterStore],
        emulator: || {
            let late = json!({"delay": 0.7, "delay_ms": [200, DELAY_MS]});
            json!({"events": {"dynamodb": late, "parameter-store": late}})
        },
        process: Process::None,
        promise: Promise::PushAfter(Duration::from_millis(2 * DELAY_MS)),
        ends_with_the_updates: false,
    },
    Fault {
        name: "duplicated",
        title: "events duplicated, the copy late",
        sources: &[Dynamodb, PutConfig, ParameterStore],
        emulator: || {
            let twice = json!({"duplicate": 0.7, "delay_ms": [100, DELAY_MS]});
            json!({"events": {"dynamodb": twice, "parameter-store": twice}})
        },
        process: Process::None,
        promise: Promise::PushAfter(Duration::ZERO),
        ends_with_the_updates: false,
    },
    Fault {
        name: "reordered",
        title: "events reordered",
        sources: &[Dynamodb, PutConfig, ParameterStore],
        emulator: || {
            json!({"events": {
                "dynamodb": {"reorder": 0.5},
                "parameter-store": {"delay": 0.5, "delay_ms": [10, 1_000]},
            }})
        },
        process: Process::None,
        promise: Promise::PushAfter(Duration::from_secs(1)),
        ends_with_the_updates: false,
    },
    Fault {
        name: "invalidator",
        title: "invalidator fails, each time",
        sources: &[PutConfig],
        emulator: || json!({"invalidator": {"fail": 1.0}}),
        process: Process::None,
        promise: Promise::Journal,
        ends_with_the_updates: false,
    },
    Fault {
        name: "throttled",
        title: "Parameter Store throttles half",
        sources: &[ParameterStore],
        emulator: || json!({"calls": {"ssm": {"throttle": 0.5}}}),
        process: Process::None,
        promise: Promise::PushAfter(Duration::from_secs(3)),
        ends_with_the_updates: false,
    },
    Fault {
        name: "lagging",
        title: "Parameter Store lags by 1.5 s",
        sources: &[ParameterStore],
        emulator: || json!({"stale_reads": {"ssm": {"share": 0.8, "lag_ms": LAG_MS}}}),
        process: Process::None,
        promise: Promise::PushAfter(Duration::from_millis(2 * LAG_MS)),
        ends_with_the_updates: false,
    },
    Fault {
        name: "cut",
        title: "replica unknown to the fan-out",
        sources: &[PutConfig, Dynamodb],
        emulator: || json!({}),
        process: Process::UnknownToTheFanOut(Duration::from_secs(3)),
        promise: Promise::JournalAfter(PUSH),
        ends_with_the_updates: false,
    },
    Fault {
        name: "paused",
        title: "replica paused for 3 s",
        sources: &[PutConfig, Dynamodb],
        emulator: || json!({}),
        process: Process::Paused(PAUSE),
        promise: Promise::JournalAfter(PAUSE),
        ends_with_the_updates: false,
    },
    Fault {
        name: "started",
        title: "replica replaced mid-change",
        sources: &[PutConfig, Dynamodb, ParameterStore],
        emulator: || json!({}),
        process: Process::Restarted,
        promise: Promise::JournalAfter(Duration::from_secs(5)),
        ends_with_the_updates: false,
    },
    Fault {
        name: "killed",
        title: "replica killed, and a new one",
        sources: &[PutConfig, Dynamodb, ParameterStore],
        emulator: || json!({}),
        process: Process::Killed,
        promise: Promise::JournalAfter(Duration::from_secs(5)),
        ends_with_the_updates: false,
    },
    Fault {
        name: "noisy",
        title: "a tenant churns 10,000 keys",
        sources: &[PutConfig, Dynamodb],
        emulator: || json!({}),
        process: Process::NoisyNeighbour,
        promise: Promise::PushAfter(Duration::ZERO),
        ends_with_the_updates: false,
    },
    Fault {
        name: "down",
        title: "both stores down, and back",
        sources: &[PutConfig, Dynamodb],
        emulator: || json!({"down": {"dynamodb": true, "ssm": true}}),
        process: Process::None,
        promise: Promise::JournalAfter(Duration::from_secs(10)),
        ends_with_the_updates: true,
    },
];

// === impl Fault ===

impl Fault {
    /// For the emulator, which spares the calls that this access key signs: the harness's own.
    pub(super) fn document(&self, seed: u64, own_key: &str) -> Value {
        let mut document = (self.emulator)();
        document["seed"] = json!(seed);
        document["exempt_access_keys"] = json!([own_key]);
        document
    }
}

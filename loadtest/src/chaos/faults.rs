//! The faults, and what is promised under each.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    cli::Source::{self, Dynamodb, ParameterStore, PutConfig, S3},
    targets::Targets,
};

/// Where only a push can bring a change (it bypassed the service, and the invalidator has not received it yet).
pub(super) const PUSH: Duration = Duration::from_secs(3);
/// How long a delayed event is late at most.
const DELAY_MS: u64 = 2_000;
/// How old the copies are that a lagging source answers with.
const LAG_MS: u64 = 1_500;
/// The tag of what a tenant's own item holds, and that of secrets.
const TENANT: &str = "tenant";
const SECRET: &str = "secret";
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
    /// Nothing, but another tenant requests more than its quota, of this tag.
    NoisyNeighbour(&'static str),
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
pub(super) const FAULTS: [Fault; 18] = [
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
        process: Process::NoisyNeighbour(TENANT),
        promise: Promise::PushAfter(Duration::ZERO),
        ends_with_the_updates: false,
    },
    Fault {
        name: "s3-throttled",
        title: "S3 throttles half",
        sources: &[S3],
        emulator: || json!({"calls": {"s3": {"throttle": 0.5}}}),
        process: Process::None,
        promise: Promise::PushAfter(Duration::from_secs(3)),
        ends_with_the_updates: false,
    },
    Fault {
        name: "s3-down",
        title: "S3 down, and back",
        sources: &[S3],
        emulator: || json!({"down": {"s3": true}}),
        process: Process::None,
        promise: Promise::JournalAfter(Duration::from_secs(10)),
        ends_with_the_updates: true,
    },
    // No value of a secret is cached, so its reads fail with their store. The promise is that no other tag notices, although a
    // tenant requests secrets all the time.
    Fault {
        name: "secrets-throttled",
        title: "Secrets Manager throttles half",
        sources: &[PutConfig, Dynamodb],
        emulator: || json!({"calls": {"secretsmanager": {"throttle": 0.5}}}),
        process: Process::NoisyNeighbour(SECRET),
        promise: Promise::PushAfter(Duration::ZERO),
        ends_with_the_updates: false,
    },
    Fault {
        name: "secrets-down",
        title: "Secrets Manager down",
        sources: &[PutConfig, Dynamodb],
        emulator: || json!({"down": {"secretsmanager": true}}),
        process: Process::NoisyNeighbour(SECRET),
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
    /// Whether events become dead letters: the function fails on them three times before the fault is over.
    pub(super) fn leaves_dead_letters(&self) -> bool {
        self.name == "down"
    }

    /// The variable of a store that it is about and these targets lack: a deployment may leave a tag out.
    pub(super) fn lacks(&self, targets: &Targets) -> Option<&'static str> {
        let is_about_secrets = matches!(self.process, Process::NoisyNeighbour(SECRET));
        if self.sources.contains(&S3) && targets.blob_bucket.is_empty() {
            Some("BLOB_BUCKET")
        } else if is_about_secrets && targets.secret_root.is_empty() {
            Some("SECRET_ROOT")
        } else {
            None
        }
    }

    /// For the emulator, which spares the calls that this access key signs: the harness's own.
    pub(super) fn document(&self, seed: u64, own_key: &str) -> Value {
        let mut document = (self.emulator)();
        document["seed"] = json!(seed);
        document["exempt_access_keys"] = json!([own_key]);
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_is_left_out_leaves_out_its_faults_alone() {
        let lacking = |targets: &Targets| {
            let lacks = |fault: &&Fault| fault.lacks(targets).is_some();
            let names = FAULTS.iter().filter(lacks).map(|fault| fault.name);
            names.collect::<Vec<_>>()
        };
        let (s3, secrets) = (
            ["s3-throttled", "s3-down"],
            ["secrets-throttled", "secrets-down"],
        );
        let neither = Targets::default();
        assert_eq!(lacking(&neither), [s3, secrets].concat());
        let blobs = Targets {
            blob_bucket: "b".to_owned(),
            ..Targets::default()
        };
        assert_eq!(lacking(&blobs), secrets);
        let both = Targets {
            secret_root: "r".to_owned(),
            ..blobs
        };
        assert!(lacking(&both).is_empty());
    }
}

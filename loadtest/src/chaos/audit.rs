//! Audits the change history of one location: each acknowledged write has exactly one entry, and the entries stand in the
//! order of the writes. It knows no network and no clock.
//!
//! An entry belongs to the write whose value it holds: no two writes of a location have the same value. An entry without a
//! value belongs to the write that has its store version.

use std::{collections::BTreeMap, fmt};

use crate::staleness::cells::{Mark, Version};

#[cfg(test)]
mod tests;

/// A write of the location. One writer at a time: a write is issued after the one before it has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    /// The writer's own count.
    pub(super) version: Version,
    /// The store's version; 0 if it is not known.
    pub(super) store_version: i64,
    /// Whether it was acknowledged. One that failed may have an entry or not.
    pub(super) acknowledged: bool,
}

/// An entry of the change history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// What the location held from then on.
    pub(super) held: Held,
    /// The store's version; 0 if the entry has none.
    pub(super) store_version: i64,
}

/// What an entry says that its location held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Exactly the value of this write.
    Value(Version),
    /// A value that the history leaves out.
    Omitted,
    /// Something that no writer wrote, in words.
    Other(&'static str),
}

/// What the audit of one location found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Audited {
    /// Writes that must have an entry.
    pub(super) required: u64,
    /// Of these, those that have one.
    pub(super) recorded: u64,
    /// All of them.
    pub(super) violations: Vec<Violation>,
}

/// A violation; versions are the writer's, unless they are said to be the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// An acknowledged write has no entry.
    Missing { version: Version },
    /// A write has several entries, whether it was acknowledged or not.
    Repeated { version: Version, entries: u64 },
    /// The entry of an acknowledged write stands behind the entry of a write that was issued later.
    OutOfOrder { version: Version, after: Version },
    /// The entry names another store version than the write got.
    WrongVersion {
        version: Version,
        given: i64,
        recorded: i64,
    },
    /// No write explains the entry.
    Unexplained { held: Held, store_version: i64 },
}

/// Which write explains an entry.
enum Explained<'w> {
    By(&'w Write),
    /// One before those that are audited.
    Earlier,
    Not,
}

/// Checks a location. `writes` are in the order in which they were issued, all after `before`; `entries` are oldest first.
/// The store keeps the last `kept` of the writes at least: an earlier one need not have its entry any more.
pub(super) fn check(before: Mark, writes: &[Write], kept: usize, entries: &[Entry]) -> Audited {
    let mut found = Audited::default();
    let mut counts: BTreeMap<Version, u64> = BTreeMap::new();
    let mut newest: Version = 0;
    for entry in entries {
        let write = match explain(before, writes, entry) {
            Explained::By(write) => write,
            Explained::Earlier => continue,
            Explained::Not => {
                found.violations.push(Violation::Unexplained {
                    held: entry.held,
                    store_version: entry.store_version,
                });
                continue;
            }
        };
        let version = write.version;
        let count = counts.entry(version).or_default();
        *count += 1;
        if *count == 1 && write.acknowledged && version < newest {
            let after = newest;
            found
                .violations
                .push(Violation::OutOfOrder { version, after });
        }
        newest = newest.max(version);
        let (given, recorded) = (write.store_version, entry.store_version);
        if given > 0 && recorded != given {
            found.violations.push(Violation::WrongVersion {
                version,
                given,
                recorded,
            });
        }
    }
    let first_kept = writes.len().saturating_sub(kept);
    for (index, write) in writes.iter().enumerate() {
        let version = write.version;
        let entries = counts.get(&version).copied().unwrap_or(0);
        if write.acknowledged && index >= first_kept {
            found.required += 1;
            if entries == 0 {
                found.violations.push(Violation::Missing { version });
            } else {
                found.recorded += 1;
            }
        }
        if entries > 1 {
            found
                .violations
                .push(Violation::Repeated { version, entries });
        }
    }
    found
}

fn explain<'w>(before: Mark, writes: &'w [Write], entry: &Entry) -> Explained<'w> {
    let is_its = |write: &&Write| match entry.held {
        Held::Value(version) => write.version == version,
        Held::Omitted => entry.store_version > 0 && write.store_version == entry.store_version,
        Held::Other(_) => false,
    };
    let is_earlier = match entry.held {
        Held::Value(version) => version <= before.issued,
        Held::Omitted => (1..=before.given).contains(&entry.store_version),
        Held::Other(_) => false,
    };
    match writes.iter().find(is_its) {
        Some(write) => Explained::By(write),
        None if is_earlier => Explained::Earlier,
        None => Explained::Not,
    }
}

// === impl Violation ===

impl Violation {
    /// In words, with the name of the location.
    pub(super) fn describe(self, cell: &str) -> String {
        let what = match self {
            Self::Missing { version } => {
                format!("not in the history: update {version} has no entry")
            }
            Self::Repeated { version, entries } => {
                format!("repeated in the history: update {version} has {entries} entries")
            }
            Self::OutOfOrder { version, after } => {
                format!("out of order in the history: update {version} stands after update {after}")
            }
            Self::WrongVersion {
                version,
                given,
                recorded,
            } => format!(
                "wrong in the history: update {version} has version {recorded}, the store gave {given}"
            ),
            Self::Unexplained {
                held,
                store_version,
            } => {
                format!(
                    "unexplained in the history: no update made the entry of version {store_version} ({held})"
                )
            }
        };
        format!("{what}: {cell}")
    }
}

// === impl Held ===

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(version) => write!(f, "the value of update {version}"),
            Self::Omitted => f.write_str("a value that is left out"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

//! The checker: from all writes and all reads of a run, what must not be. It knows no network and no clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::staleness::cells::Version;

#[cfg(test)]
mod tests;

/// Where answers do not name their task, so many reads in a row must show an update.
pub(crate) const CONFIRMATIONS: usize = 3;

/// A write, in the order in which its location got them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    /// The location.
    pub(crate) cell: usize,
    /// Its version: the writer's own count, from 1.
    pub(crate) version: Version,
    /// When it began, in microseconds of the run.
    pub(crate) issued_us: u64,
    /// When it was acknowledged; a write that failed may or may not be there.
    pub(crate) acked_us: Option<u64>,
}

/// What an answer showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Exactly the value of this version.
    Version(Version),
    /// The tenant has no value: NOT_FOUND, or the shared default in its place.
    Absent,
    /// Another tenant's value.
    Foreign,
    /// A value that no writer wrote: not whole, or a mix of two.
    Torn,
}

/// A read that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    /// The observer's number.
    pub(crate) observer: usize,
    /// The number of the task that answered; absent if the answer does not name it.
    pub(crate) server: Option<u32>,
    /// The location.
    pub(crate) cell: usize,
    /// What was there.
    pub(crate) shown: Shown,
    /// Whether the task said that its source did not answer, and this is the last known value.
    pub(crate) stale: bool,
    /// When it began.
    pub(crate) started_us: u64,
    /// When its answer was there.
    pub(crate) ended_us: u64,
}

/// A violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// What.
    pub(crate) kind: Kind,
    /// The observer.
    pub(crate) observer: usize,
    /// The location.
    pub(crate) cell: usize,
    /// When the answer was there, or when the lost update was due.
    pub(crate) at_us: u64,
}

/// Kinds of violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A task showed a version, and then, to a read that began later, an older one.
    WentBack { from: Version, to: Version },
    /// A value was shown, and a read that began later found none. No writer deletes.
    Vanished,
    /// Another tenant's value.
    Foreign,
    /// A value that no writer wrote.
    Torn,
    /// A version that no writer had begun to write.
    FromNowhere { version: Version },
    /// A read that began after the bound did not show the update, nor a later one. An answer that is marked stale says
    /// so itself, and proves no loss.
    Lost { version: Version },
}

/// When something became visible: not before `after_us`, and at `by_us` at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The start of the last read that did not show it, or of the write.
    pub(crate) after_us: u64,
    /// The end of the first read that showed it.
    pub(crate) by_us: u64,
}

/// When one observer saw a write or a later one; `None` if it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// At the first task behind it.
    pub(crate) first: Option<Window>,
    /// At all tasks that answer there. Where answers do not name their task: from when on no read showed an older version,
    /// confirmed by [`CONFIRMATIONS`] reads in a row.
    pub(crate) all: Option<Window>,
}

/// The visibility of one write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// By observer.
    pub(crate) seen: Vec<Seen>,
    /// Whether some observer lost it.
    pub(crate) lost: bool,
    /// Whether it was acknowledged, not lost, and not seen everywhere.
    pub(crate) undecided: bool,
}

/// The checker's result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// All of them.
    pub(crate) violations: Vec<Violation>,
    /// By write, as given.
    pub(crate) sightings: Vec<Sighting>,
}

/// Observer, cell and task.
type Place = (usize, usize, Option<u32>);

/// Checks a history of `observers` observers. An update that is unseen `lost_after_us` after its acknowledgement is lost.
pub(crate) fn check(
    observers: usize,
    writes: &[Write],
    reads: &[Read],
    lost_after_us: u64,
) -> Findings {
    let mut violations = Vec::new();
    let mut by_start: Vec<&Read> = reads.iter().collect();
    by_start.sort_by_key(|read| read.started_us);
    let issued = issued(writes);
    // By observer and cell: when a value had been shown first.
    let mut first_value: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for read in reads {
        if matches!(read.shown, Shown::Version(_)) {
            let first = first_value.entry((read.observer, read.cell));
            let first = first.or_insert(read.ended_us);
            *first = read.ended_us.min(*first);
        }
    }
    // A NOT_FOUND does not name its task where values do: it says nothing about one task.
    let named = reads.iter().filter(|read| read.server.is_some());
    let named: BTreeSet<usize> = named.map(|read| read.observer).collect();
    let mut tasks: Vec<BTreeSet<Option<u32>>> = vec![BTreeSet::new(); observers];
    let mut places: BTreeMap<Place, Vec<&Read>> = BTreeMap::new();
    for read in by_start {
        let newest = issued.get(&read.cell).map_or(0, |begun| {
            let before = begun.partition_point(|(issued_us, _)| *issued_us <= read.ended_us);
            before.checked_sub(1).map_or(0, |last| begun[last].1)
        });
        let value_before = first_value.get(&(read.observer, read.cell));
        let kind = match read.shown {
            Shown::Foreign => Some(Kind::Foreign),
            Shown::Torn => Some(Kind::Torn),
            Shown::Version(version) if version > newest => Some(Kind::FromNowhere { version }),
            Shown::Absent if value_before.is_some_and(|ended| *ended <= read.started_us) => {
                Some(Kind::Vanished)
            }
            Shown::Version(_) | Shown::Absent => None,
        };
        violations.extend(kind.map(|kind| read.violation(kind)));
        let names_tasks = || named.contains(&read.observer);
        if read.rank().is_some() && (read.server.is_some() || !names_tasks()) {
            tasks[read.observer].insert(read.server);
            let place = (read.observer, read.cell, read.server);
            places.entry(place).or_default().push(read);
        }
    }
    for ((.., server), reads) in &places {
        if server.is_some() {
            went_back(reads, &mut violations);
        }
    }
    let places = places.into_iter();
    let probes: BTreeMap<_, _> = places
        .map(|(place, reads)| (place, Probes::new(reads)))
        .collect();
    let sightings = writes.iter().map(|write| {
        let mut found = Sighting::default();
        for (observer, tasks) in tasks.iter().enumerate() {
            let at = |task: &Option<u32>| probes.get(&(observer, write.cell, *task));
            let seen = tasks.iter().map(|task| {
                at(task).map_or_else(Seen::default, |probes| probes.seen(write, task.is_some()))
            });
            let seen = seen.reduce(Seen::and).unwrap_or_default();
            found.seen.push(seen);
            let Some(acked_us) = write.acked_us else {
                continue;
            };
            let deadline = acked_us.saturating_add(lost_after_us);
            let is_older = |probes: &Probes<'_>| probes.is_older_after(deadline, write.version);
            if tasks.iter().filter_map(at).any(is_older) {
                found.lost = true;
                violations.push(Violation {
                    kind: Kind::Lost {
                        version: write.version,
                    },
                    observer,
                    cell: write.cell,
                    at_us: deadline,
                });
            } else if seen.all.is_none() {
                found.undecided = true;
            }
        }
        found.undecided &= !found.lost;
        found
    });
    let sightings = sightings.collect();
    Findings {
        violations,
        sightings,
    }
}

/// By cell: when writes began, and the newest version that was begun until then.
fn issued(writes: &[Write]) -> BTreeMap<usize, Vec<(u64, Version)>> {
    let mut issued: BTreeMap<usize, Vec<(u64, Version)>> = BTreeMap::new();
    for write in writes {
        let of_cell = issued.entry(write.cell).or_default();
        of_cell.push((write.issued_us, write.version));
    }
    for of_cell in issued.values_mut() {
        of_cell.sort_unstable();
        let mut newest = 0;
        for (_, version) in of_cell {
            newest = newest.max(*version);
            *version = newest;
        }
    }
    issued
}

/// Compares each read at one task with the newest version of all reads that had ended before it began: reads that overlap
/// may be answered in either order. `reads` are in the order in which they began.
fn went_back(reads: &[&Read], violations: &mut Vec<Violation>) {
    let mut ended = reads.to_vec();
    ended.sort_by_key(|read| read.ended_us);
    let mut ended = ended.into_iter().peekable();
    let mut newest = 0;
    for read in reads {
        while let Some(before) = ended.next_if(|before| before.ended_us <= read.started_us) {
            if let Shown::Version(version) = before.shown {
                newest = newest.max(version);
            }
        }
        if let Shown::Version(to) = read.shown
            && to < newest
        {
            violations.push(read.violation(Kind::WentBack { from: newest, to }));
        }
    }
}

/// The reads at one place, in the order in which they began, to be searched.
struct Probes<'r> {
    reads: Vec<&'r Read>,
    /// The highest rank until each.
    newest_until: Vec<u64>,
    /// The lowest rank from each on.
    oldest_from: Vec<u64>,
    /// The same without answers that are marked stale.
    oldest_fresh_from: Vec<u64>,
}

impl<'r> Probes<'r> {
    fn new(reads: Vec<&'r Read>) -> Self {
        let rank = |read: &&Read| read.rank().unwrap_or(0);
        let newest_until = running(reads.iter().map(rank), u64::max);
        let mut oldest_from = running(reads.iter().rev().map(rank), u64::min);
        oldest_from.reverse();
        let fresh = reads.iter().rev();
        let fresh = fresh.map(|read| if read.stale { u64::MAX } else { rank(read) });
        let mut oldest_fresh_from = running(fresh, u64::min);
        oldest_fresh_from.reverse();
        Self {
            reads,
            newest_until,
            oldest_from,
            oldest_fresh_from,
        }
    }

    fn seen(&self, write: &Write, names_its_task: bool) -> Seen {
        let wanted = rank_of(write.version);
        let first = self.newest_until.partition_point(|rank| *rank < wanted);
        let first = self.window(first, write);
        let settled = self.oldest_from.partition_point(|rank| *rank < wanted);
        let all = if names_its_task {
            first
        } else if self.reads.len() - settled >= CONFIRMATIONS {
            self.window(settled, write)
        } else {
            None
        };
        Seen { first, all }
    }

    fn window(&self, at: usize, write: &Write) -> Option<Window> {
        let by_us = self.reads.get(at)?.ended_us;
        let before = at
            .checked_sub(1)
            .map_or(0, |last| self.reads[last].started_us);
        Some(Window {
            after_us: before.max(write.issued_us).min(by_us),
            by_us,
        })
    }

    /// Whether a read that began at this time or later shows an older version, and does not say that it is stale.
    fn is_older_after(&self, us: u64, version: Version) -> bool {
        let at = self.reads.partition_point(|read| read.started_us < us);
        let oldest = self.oldest_fresh_from.get(at);
        oldest.is_some_and(|oldest| *oldest < rank_of(version))
    }
}

fn running(ranks: impl Iterator<Item = u64>, combine: fn(u64, u64) -> u64) -> Vec<u64> {
    let mut so_far = None;
    ranks
        .map(|rank| *so_far.insert(so_far.map_or(rank, |before| combine(before, rank))))
        .collect()
}

/// Versions in order; an absent value is older than each of them.
fn rank_of(version: Version) -> u64 {
    version.saturating_add(1)
}

// === impl Read ===

impl Read {
    fn rank(&self) -> Option<u64> {
        match self.shown {
            Shown::Version(version) => Some(rank_of(version)),
            Shown::Absent => Some(0),
            Shown::Foreign | Shown::Torn => None,
        }
    }

    fn violation(&self, kind: Kind) -> Violation {
        Violation {
            kind,
            observer: self.observer,
            cell: self.cell,
            at_us: self.ended_us,
        }
    }
}

// === impl Seen ===

impl Seen {
    /// Of two tasks: the first is the earlier one, and all are the later one.
    fn and(self, other: Self) -> Self {
        let both = |a: Window, b: Window, pick: fn(u64, u64) -> u64| Window {
            after_us: pick(a.after_us, b.after_us),
            by_us: pick(a.by_us, b.by_us),
        };
        Self {
            first: match (self.first, other.first) {
                (Some(a), Some(b)) => Some(both(a, b, u64::min)),
                (one, None) | (None, one) => one,
            },
            all: match (self.all, other.all) {
                (Some(a), Some(b)) => Some(both(a, b, u64::max)),
                _ => None,
            },
        }
    }

    /// The same of several observers.
    pub(crate) fn of_all(seen: impl IntoIterator<Item = Self>) -> Self {
        seen.into_iter().reduce(Self::and).unwrap_or_default()
    }
}

// === impl Violation ===

impl Violation {
    /// In words, with the names of observers and locations.
    pub(crate) fn describe(&self, observers: &[String], cells: &[String]) -> String {
        let (observer, cell) = (&observers[self.observer], &cells[self.cell]);
        let what = match self.kind {
            Kind::WentBack { from, to } => format!("went back from version {from} to {to}"),
            Kind::Vanished => "vanished after it had been shown".to_owned(),
            Kind::Foreign => "another tenant's value was shown".to_owned(),
            Kind::Torn => "torn: a value was shown that no writer wrote".to_owned(),
            Kind::FromNowhere { version } => {
                format!("from nowhere: version {version} was shown before it was written")
            }
            Kind::Lost { version } => format!("lost: update {version} was not shown in time"),
        };
        format!("{what}: {cell} at {observer}, {} ms", self.at_us / 1_000)
    }
}

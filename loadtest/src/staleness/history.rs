//! The checker: from all writes and all reads of a run, what must not be. It knows no network and no clock.

use std::collections::HashMap;

use crate::staleness::cells::Version;

#[cfg(test)]
mod tests;

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

/// A read that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    /// Who read.
    pub(crate) observer: usize,
    /// Which task answered, as a number; reads of one observer at one task are in order.
    pub(crate) server: u32,
    /// The location.
    pub(crate) cell: usize,
    /// The version that was there.
    pub(crate) version: Version,
    /// Whether the value was this location's tenant's own.
    pub(crate) own: bool,
    /// Whether the task said that its source did not answer, and this is the last known value.
    pub(crate) stale: bool,
    /// When it began.
    pub(crate) started_us: u64,
    /// When its answer was there.
    pub(crate) ended_us: u64,
}

/// Whoever reads.
#[derive(Clone, Debug)]
pub(crate) struct ObserverName {
    /// For people.
    pub(crate) name: String,
    /// Whether its answers come from one task at a time and say which: then versions must not go back.
    pub(crate) ordered: bool,
}

/// What the checker needs beside the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// An update that is unseen for so long after its acknowledgement is lost.
    pub(crate) lost_after_us: u64,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A reader saw a version, and then an older one at the same task.
    WentBack {
        observer: usize,
        cell: usize,
        from: Version,
        to: Version,
        at_us: u64,
    },
    /// A reader saw what is not this tenant's own: another tenant's value, or a default under it.
    NotItsOwn {
        observer: usize,
        cell: usize,
        at_us: u64,
    },
    /// A reader saw a version that nobody had begun to write.
    FromNowhere {
        observer: usize,
        cell: usize,
        version: Version,
        at_us: u64,
    },
    /// A reader never saw an update, nor a later one, in time.
    Lost {
        observer: usize,
        cell: usize,
        version: Version,
        last_seen: Option<Version>,
    },
}

/// When each observer first saw a write or a later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// By observer; `None` is not at all.
    pub(crate) seen_us: Vec<Option<u64>>,
    /// By observer: since when it might have been visible there unseen: since the write began, or the probe before.
    pub(crate) blind_us: Vec<Option<u64>>,
    /// Whether some observer lost it.
    pub(crate) lost: bool,
    /// Whether it was too early to say.
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

/// Checks a history. `reads` of one observer and cell are in the order in which they were made.
pub(crate) fn check(
    observers: &[ObserverName],
    writes: &[Write],
    reads: &[Read],
    rules: Rules,
) -> Findings {
    let mut violations = Vec::new();
    let mut by_place: HashMap<(usize, usize), Vec<&Read>> = HashMap::new();
    for read in reads {
        if read.own {
            by_place
                .entry((read.observer, read.cell))
                .or_default()
                .push(read);
        } else {
            violations.push(Violation::NotItsOwn {
                observer: read.observer,
                cell: read.cell,
                at_us: read.ended_us,
            });
        }
    }
    let mut issued: HashMap<usize, Vec<(u64, Version)>> = HashMap::new();
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
    for reads in by_place.values() {
        from_nowhere(reads, &issued, &mut violations);
        if reads
            .first()
            .is_some_and(|read| observers[read.observer].ordered)
        {
            went_back(reads, &mut violations);
        }
    }
    let by_place: HashMap<_, _> = by_place
        .into_iter()
        .map(|(place, reads)| (place, Probes::new(reads)))
        .collect();
    let sightings = writes
        .iter()
        .map(|write| sighting(observers, write, &by_place, rules, &mut violations))
        .collect();
    Findings {
        violations,
        sightings,
    }
}

/// The probes of one observer at one cell, to be searched.
#[derive(Default)]
struct Probes<'r> {
    reads: Vec<&'r Read>,
    /// The newest version until each.
    newest_until: Vec<Version>,
    /// The oldest version from each on.
    oldest_from: Vec<Version>,
}

impl<'r> Probes<'r> {
    fn new(reads: Vec<&'r Read>) -> Self {
        let mut newest = 0;
        let newest_until = reads.iter().map(|read| {
            newest = newest.max(read.version);
            newest
        });
        let newest_until = newest_until.collect();
        let mut oldest = Version::MAX;
        let mut oldest_from: Vec<_> = reads
            .iter()
            .rev()
            .map(|read| {
                oldest = oldest.min(read.version);
                oldest
            })
            .collect();
        oldest_from.reverse();
        Self {
            reads,
            newest_until,
            oldest_from,
        }
    }

    /// The first that shows this version or a later one.
    fn first_with(&self, version: Version) -> Option<usize> {
        let at = self
            .newest_until
            .partition_point(|newest| *newest < version);
        (at < self.reads.len()).then_some(at)
    }

    /// Whether one that began at this time or later shows an older version.
    fn is_older_after(&self, us: u64, version: Version) -> bool {
        let at = self.reads.partition_point(|read| read.started_us < us);
        self.oldest_from
            .get(at)
            .is_some_and(|oldest| *oldest < version)
    }
}

/// `issued` of each cell: when, and the newest version that was begun until then.
fn from_nowhere(
    reads: &[&Read],
    issued: &HashMap<usize, Vec<(u64, Version)>>,
    violations: &mut Vec<Violation>,
) {
    for read in reads {
        let begun = issued
            .get(&read.cell)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let before = begun.partition_point(|(issued_us, _)| *issued_us <= read.ended_us);
        let newest = before.checked_sub(1).map_or(0, |last| begun[last].1);
        if read.version > newest {
            violations.push(Violation::FromNowhere {
                observer: read.observer,
                cell: read.cell,
                version: read.version,
                at_us: read.ended_us,
            });
        }
    }
}

fn went_back(reads: &[&Read], violations: &mut Vec<Violation>) {
    let mut seen: HashMap<u32, Vec<&Read>> = HashMap::new();
    for read in reads {
        seen.entry(read.server).or_default().push(read);
    }
    for reads in seen.values_mut() {
        reads.sort_by_key(|read| read.started_us);
        let mut newest: Option<&Read> = None;
        for read in reads.iter() {
            // Reads that overlap may be answered in either order.
            if let Some(before) = newest
                && before.ended_us <= read.started_us
                && read.version < before.version
            {
                violations.push(Violation::WentBack {
                    observer: read.observer,
                    cell: read.cell,
                    from: before.version,
                    to: read.version,
                    at_us: read.ended_us,
                });
            }
            if newest.is_none_or(|before| read.version >= before.version) {
                newest = Some(read);
            }
        }
    }
}

fn sighting(
    observers: &[ObserverName],
    write: &Write,
    probes: &HashMap<(usize, usize), Probes>,
    rules: Rules,
    violations: &mut Vec<Violation>,
) -> Sighting {
    let mut found = Sighting::default();
    let none = Probes::default();
    for observer in 0..observers.len() {
        let probes = probes.get(&(observer, write.cell)).unwrap_or(&none);
        let at = probes.first_with(write.version);
        found.seen_us.push(at.map(|at| probes.reads[at].ended_us));
        found.blind_us.push(at.map(|at| {
            let before = at
                .checked_sub(1)
                .map_or(0, |last| probes.reads[last].started_us);
            let since = before.max(write.issued_us);
            probes.reads[at].ended_us.saturating_sub(since)
        }));
        let Some(acked_us) = write.acked_us else {
            continue;
        };
        let deadline = acked_us.saturating_add(rules.lost_after_us);
        // Only a probe proves it: an observer whose probes failed knows nothing.
        if probes.is_older_after(deadline, write.version) {
            found.lost = true;
            violations.push(Violation::Lost {
                observer,
                cell: write.cell,
                version: write.version,
                last_seen: probes.reads.last().map(|read| read.version),
            });
        } else if at.is_none() {
            found.undecided = true;
        }
    }
    found
}

impl Violation {
    /// In words, with the names of places and readers.
    pub(crate) fn describe(&self, observers: &[ObserverName], cells: &[String]) -> String {
        match self {
            Self::WentBack {
                observer,
                cell,
                from,
                to,
                at_us,
            } => format!(
                "{} went back from version {from} to {to} of {} at {} ms",
                observers[*observer].name,
                cells[*cell],
                at_us / 1_000
            ),
            Self::NotItsOwn {
                observer,
                cell,
                at_us,
            } => format!(
                "{} got what is not the tenant's own value for {} at {} ms",
                observers[*observer].name,
                cells[*cell],
                at_us / 1_000
            ),
            Self::FromNowhere {
                observer,
                cell,
                version,
                at_us,
            } => format!(
                "{} saw version {version} of {} at {} ms, before anybody wrote it",
                observers[*observer].name,
                cells[*cell],
                at_us / 1_000
            ),
            Self::Lost {
                observer,
                cell,
                version,
                last_seen,
            } => format!(
                "update {version} of {} was lost at {}: the last version seen there is {}",
                cells[*cell],
                observers[*observer].name,
                last_seen.map_or("none".to_owned(), |seen| seen.to_string())
            ),
        }
    }
}

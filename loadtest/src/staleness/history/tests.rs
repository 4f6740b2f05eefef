use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;

/// A replica, and order-service, whose answers do not name their task.
const OBSERVERS: usize = 2;
const LOST_AFTER_US: u64 = 1_000;

fn write(version: Version, issued_us: u64) -> Write {
    Write {
        cell: 0,
        version,
        issued_us,
        acked_us: Some(issued_us + 10),
    }
}

fn read(observer: usize, version: Version, started_us: u64) -> Read {
    Read {
        observer,
        server: (observer == 0).then_some(1),
        cell: 0,
        shown: Shown::Version(version),
        stale: false,
        started_us,
        ended_us: started_us + 5,
    }
}

fn shown(shown: Shown, read: Read) -> Read {
    Read { shown, ..read }
}

fn kinds(writes: &[Write], reads: &[Read]) -> Vec<Kind> {
    let found = check(OBSERVERS, writes, reads, LOST_AFTER_US);
    found.violations.iter().map(|one| one.kind).collect()
}

/// Three reads of a price that confirm a version.
fn prices(version: Version, from_us: u64) -> [Read; 3] {
    [0, 10, 20].map(|later| read(1, version, from_us + later))
}

#[test]
fn a_good_history_is_good() {
    let writes = [write(1, 100), write(2, 500), write(3, 520)];
    let reads = [
        read(0, 0, 50),
        read(0, 0, 105),
        read(0, 1, 115),
        // The second was overtaken: a later one is as good.
        read(0, 3, 600),
    ];
    let reads = [&reads[..], &prices(1, 130), &prices(3, 610)].concat();
    let found = check(OBSERVERS, &writes, &reads, LOST_AFTER_US);
    assert_eq!(found.violations, []);
    let window = |after_us, by_us| Some(Window { after_us, by_us });
    let replica = |write: usize| found.sightings[write].seen[0].all;
    assert_eq!(replica(0), window(105, 120), "since the read at 105");
    assert_eq!(replica(1), window(500, 605), "since the write");
    assert_eq!(found.sightings[1].seen[1].all, window(500, 615));
    assert!(found.sightings.iter().all(|one| !one.undecided));
}

#[test]
fn behind_a_load_balancer_all_tasks_must_show_it() {
    let at = |server, read: Read| Read {
        server: Some(server),
        ..read
    };
    let reads = [
        at(1, read(0, 0, 90)),
        at(2, read(0, 0, 95)),
        at(1, read(0, 1, 120)),
        at(2, read(0, 0, 130)),
        at(2, read(0, 1, 180)),
    ];
    let seen =
        |reads: &[Read]| check(1, &[write(1, 100)], reads, LOST_AFTER_US).sightings[0].clone();
    let whole = seen(&reads).seen[0];
    assert_eq!(whole.first.map(|it| it.by_us), Some(125), "a lucky read");
    let all = Window {
        after_us: 130,
        by_us: 185,
    };
    assert_eq!(whole.all, Some(all));
    let half = seen(&reads[..4]);
    assert!(half.undecided && half.seen[0].all.is_none() && half.seen[0].first.is_some());
}

#[test]
fn a_price_that_flips_back_is_not_settled_until_it_stays() {
    let flips = [
        read(1, 1, 120),
        read(1, 0, 140),
        read(1, 1, 150),
        read(1, 1, 160),
    ];
    let seen =
        |reads: &[Read]| check(2, &[write(1, 100)], reads, LOST_AFTER_US).sightings[0].seen[1];
    assert_eq!(seen(&flips).first.map(|it| it.by_us), Some(125));
    assert_eq!(seen(&flips).all, None, "two in a row are too few");
    let settled = [&flips[..], &[read(1, 1, 170)]].concat();
    assert_eq!(seen(&settled).all.map(|it| it.by_us), Some(155));
}

#[test]
fn a_lost_update_is_found() {
    let reads = [read(0, 0, 50), read(0, 0, 5_000), read(1, 1, 200)];
    let found = check(OBSERVERS, &[write(1, 100)], &reads, LOST_AFTER_US);
    let text = found.violations[0].describe(&["replica 1".into(), "order".into()], &["k".into()]);
    assert_eq!(
        text,
        "lost: update 1 was not shown in time: k at replica 1, 1 ms"
    );
    assert_eq!(found.violations.len(), 1);
    assert!(found.sightings[0].lost && !found.sightings[0].undecided);
}

#[test]
fn only_a_read_that_began_after_the_bound_proves_a_loss() {
    let late = [read(0, 0, 2_000), read(0, 1, 5_000)];
    assert_eq!(kinds(&[write(1, 100)], &late), [Kind::Lost { version: 1 }]);
    assert_eq!(kinds(&[write(1, 100)], &[read(0, 1, 5_000)]), []);
    assert_eq!(kinds(&[write(1, 100)], &[read(0, 0, 1_109)]), []);
}

#[test]
fn an_answer_that_says_it_is_stale_is_no_loss_and_no_proof_either() {
    let stale = Read {
        stale: true,
        ..read(0, 0, 5_000)
    };
    let found = check(1, &[write(1, 100)], &[stale], LOST_AFTER_US);
    assert_eq!(found.violations, []);
    assert!(found.sightings[0].undecided);
    // The last known value is not older than what the task showed.
    let back = [read(0, 1, 200), stale];
    let wanted = Kind::WentBack { from: 1, to: 0 };
    assert_eq!(kinds(&[write(1, 100)], &back), [wanted]);
}

#[test]
fn what_was_not_observed_long_enough_is_undecided() {
    let found = check(1, &[write(1, 99_500)], &[read(0, 0, 99_600)], LOST_AFTER_US);
    assert_eq!(found.violations, []);
    assert!(found.sightings[0].undecided && !found.sightings[0].lost);
    assert!(check(1, &[write(1, 100)], &[], LOST_AFTER_US).sightings[0].undecided);
}

#[test]
fn a_failed_write_may_be_there_or_not() {
    let failed = Write {
        acked_us: None,
        ..write(1, 100)
    };
    assert_eq!(kinds(&[failed], &[read(0, 0, 5_000)]), []);
    assert_eq!(kinds(&[failed], &[read(0, 1, 200)]), []);
}

#[test]
fn going_back_counts_at_one_task_only() {
    let writes = [write(1, 100), write(2, 200)];
    let back = Kind::WentBack { from: 2, to: 1 };
    assert_eq!(kinds(&writes, &[read(0, 2, 250), read(0, 1, 260)]), [back]);
    for elsewhere in [Some(2), None] {
        let other = Read {
            server: elsewhere,
            ..read(0, 1, 260)
        };
        assert_eq!(kinds(&writes, &[read(0, 2, 250), other]), []);
    }
    assert_eq!(kinds(&writes, &[read(1, 2, 300), read(1, 1, 310)]), []);
}

#[test]
fn overlapping_reads_hide_no_proof() {
    let writes = [write(4, 0), write(5, 10)];
    let long = |version, started_us, ended_us| Read {
        ended_us,
        ..read(0, version, started_us)
    };
    let (first, newer) = (long(5, 100, 200), long(5, 190, 400));
    let back = Kind::WentBack { from: 5, to: 4 };
    assert_eq!(kinds(&writes, &[first, newer, long(4, 250, 280)]), [back]);
    assert_eq!(
        kinds(&writes, &[newer, long(4, 250, 280)]),
        [],
        "they overlap"
    );
}

#[test]
fn a_value_that_vanishes_is_found() {
    let absent = |started_us| shown(Shown::Absent, read(0, 0, started_us));
    assert_eq!(
        kinds(&[], &[read(0, 0, 100), absent(110)]),
        [Kind::Vanished]
    );
    assert_eq!(
        kinds(&[], &[absent(90), read(0, 0, 100)]),
        [],
        "not there yet"
    );
    let unnamed = Read {
        server: None,
        ..absent(110)
    };
    let reads = [read(0, 1, 105), unnamed, read(0, 1, 120)];
    let found = check(1, &[write(1, 100)], &reads, LOST_AFTER_US);
    assert_eq!(found.violations[0].kind, Kind::Vanished);
    assert!(!found.sightings[0].undecided, "its task is not known");
    let never = kinds(&[write(1, 100)], &[absent(5_000)]);
    assert_eq!(never, [Kind::Lost { version: 1 }]);
}

/// A random history that is legal: three observers (a replica, a load balancer with two tasks, order-service), reads that
/// overlap, writes that fail, updates that each task shows at a time of its own.
struct Legal {
    writes: Vec<Write>,
    reads: Vec<Read>,
}

fn legal(seed: u64) -> Legal {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut writes, mut now) = (Vec::new(), 1_000);
    let count = rng.random_range(3..25_u64);
    for version in 1..=count {
        now += rng.random_range(20..400);
        let fails = version < count && rng.random_bool(0.2);
        let acked_us = (!fails).then_some(now + rng.random_range(1..100));
        writes.push(Write {
            cell: 0,
            version,
            issued_us: now,
            acked_us,
        });
    }
    let end = now + 3 * LOST_AFTER_US;
    let mut reads = Vec::new();
    for (observer, servers) in [(0, &[Some(0)][..]), (1, &[Some(1), Some(2)]), (2, &[None])] {
        for server in servers {
            // When each version is visible there; never, for some that failed.
            let visible: Vec<(u64, Version)> = writes
                .iter()
                .filter(|write| write.acked_us.is_some() || rng.random_bool(0.5))
                .map(|write| {
                    let latest = write.acked_us.unwrap_or(write.issued_us) + LOST_AFTER_US;
                    (write.issued_us, latest, write.version)
                })
                .collect::<Vec<_>>()
                .into_iter()
                .map(|(from, until, version)| (rng.random_range(from..until), version))
                .collect();
            let mut started_us = 0;
            while started_us < end {
                let took = rng.random_range(1..300);
                let instant = started_us + rng.random_range(0..took);
                let there = visible.iter().filter(|(from, _)| *from <= instant);
                let version = there.map(|(_, version)| *version).max().unwrap_or(0);
                reads.push(Read {
                    server: *server,
                    ended_us: started_us + took,
                    ..read(observer, version, started_us)
                });
                started_us += rng.random_range(1..120);
            }
        }
    }
    Legal { writes, reads }
}

impl Legal {
    fn kinds(&self) -> Vec<Kind> {
        let found = check(3, &self.writes, &self.reads, LOST_AFTER_US);
        found.violations.iter().map(|one| one.kind).collect()
    }

    /// Reads that begin after another one of the same task has ended, which showed an update.
    fn later(&self) -> Vec<usize> {
        let shows = |read: &Read| matches!(read.shown, Shown::Version(1..));
        let after = |read: &Read, before: &Read| {
            read.server == before.server && before.ended_us <= read.started_us && shows(before)
        };
        let all = 0..self.reads.len();
        all.filter(|at| self.reads[*at].server.is_some())
            .filter(|at| {
                self.reads
                    .iter()
                    .any(|before| after(&self.reads[*at], before))
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn a_legal_history_violates_nothing(seed: u64) {
        prop_assert_eq!(legal(seed).kinds(), []);
    }

    /// Each planted violation is reported by its kind.
    #[test]
    fn a_planted_violation_is_found(seed: u64, victim: prop::sample::Index) {
        let history = legal(seed);
        let later = history.later();
        let one = later[victim.index(later.len())];
        let newest = history.writes.len() as Version;
        for (lie, wanted) in [
            (Shown::Version(0), "WentBack"),
            (Shown::Absent, "Vanished"),
            (Shown::Foreign, "Foreign"),
            (Shown::Torn, "Torn"),
            (Shown::Version(newest + 1), "FromNowhere"),
        ] {
            let mut planted = legal(seed);
            planted.reads[one].shown = lie;
            let found = format!("{:?}", planted.kinds());
            prop_assert!(found.contains(wanted), "{wanted} is not in {found}");
        }
        // One task that never shows the last update.
        let mut planted = legal(seed);
        let server = planted.reads[one].server;
        for read in planted.reads.iter_mut().filter(|read| read.server == server) {
            if read.shown == Shown::Version(newest) {
                read.shown = Shown::Version(newest - 1);
            }
        }
        let found = planted.kinds();
        prop_assert!(found.contains(&Kind::Lost { version: newest }), "{found:?}");
    }
}

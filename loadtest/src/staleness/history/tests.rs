use proptest::prelude::*;

use super::*;

fn observers() -> Vec<ObserverName> {
    let named = |name: &str, ordered| ObserverName {
        name: name.to_owned(),
        ordered,
    };
    vec![named("replica 1", true), named("order", false)]
}

const RULES: Rules = Rules {
    lost_after_us: 1_000,
};

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
        server: 1,
        cell: 0,
        version,
        own: true,
        stale: false,
        started_us,
        ended_us: started_us + 5,
    }
}

fn violations(writes: &[Write], reads: &[Read]) -> Vec<Violation> {
    check(&observers(), writes, reads, RULES).violations
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
        read(1, 1, 130),
        read(1, 3, 610),
    ];
    let found = check(&observers(), &writes, &reads, RULES);
    assert_eq!(found.violations, []);
    assert_eq!(found.sightings[0].seen_us, [Some(120), Some(135)]);
    assert_eq!(found.sightings[1].seen_us, [Some(605), Some(615)]);
    assert_eq!(
        found.sightings[0].blind_us[0],
        Some(15),
        "since the read at 105"
    );
    assert_eq!(found.sightings[1].blind_us[0], Some(105), "since the write");
}

#[test]
fn a_lost_update_is_found() {
    let reads = [read(0, 0, 50), read(0, 0, 5_000), read(1, 1, 200)];
    let lost = violations(&[write(1, 100)], &reads);
    assert_eq!(
        lost,
        [Violation::Lost {
            observer: 0,
            cell: 0,
            version: 1,
            last_seen: Some(0)
        }]
    );
    let text = lost[0].describe(&observers(), &["the price".to_owned()]);
    assert!(
        text.contains("update 1 of the price was lost at replica 1"),
        "{text}"
    );
}

#[test]
fn an_update_that_comes_too_late_is_lost() {
    let reads = [read(0, 0, 2_000), read(0, 1, 5_000), read(1, 1, 200)];
    assert!(matches!(
        violations(&[write(1, 100)], &reads)[..],
        [Violation::Lost { observer: 0, .. }]
    ));
    let blind = [read(0, 1, 5_000), read(1, 1, 200)];
    assert_eq!(
        violations(&[write(1, 100)], &blind),
        [],
        "nobody looked in time: that proves nothing"
    );
}

#[test]
fn what_was_not_observed_long_enough_is_undecided() {
    let found = check(
        &observers(),
        &[write(1, 99_500)],
        &[read(0, 0, 99_600)],
        RULES,
    );
    assert_eq!(found.violations, []);
    assert!(found.sightings[0].undecided && !found.sightings[0].lost);
}

#[test]
fn a_failed_write_may_be_there_or_not() {
    let failed = Write {
        acked_us: None,
        ..write(1, 100)
    };
    assert_eq!(violations(&[failed], &[read(0, 0, 5_000)]), []);
    assert_eq!(violations(&[failed], &[read(0, 1, 200)]), []);
}

#[test]
fn a_version_that_goes_back_is_found() {
    let writes = [write(1, 100), write(2, 200)];
    let seen = [read(1, 2, 300)];
    let back = [read(0, 2, 250), read(0, 1, 260), read(0, 2, 270)];
    assert!(matches!(
        violations(&writes, &[&back[..], &seen[..]].concat())[..],
        [Violation::WentBack { from: 2, to: 1, .. }]
    ));
}

#[test]
fn going_back_counts_at_one_task_only() {
    let writes = [write(1, 100), write(2, 200)];
    let elsewhere = Read {
        server: 2,
        ..read(0, 1, 260)
    };
    let reads = [read(0, 2, 250), elsewhere, read(1, 2, 300), read(1, 1, 310)];
    assert_eq!(
        violations(&writes, &reads),
        [],
        "another task may lag behind"
    );
    let overlapping = Read {
        started_us: 252,
        ..read(0, 1, 260)
    };
    let reads = [read(0, 2, 250), overlapping, read(1, 2, 300)];
    assert_eq!(violations(&writes, &reads), [], "they overlapped");
}

#[test]
fn another_tenants_value_is_found() {
    let foreign = Read {
        own: false,
        stale: false,
        ..read(0, 1, 200)
    };
    assert!(matches!(
        violations(&[write(1, 100)], &[foreign, read(1, 1, 200)])[..],
        [Violation::NotItsOwn { observer: 0, .. }]
    ));
}

#[test]
fn a_version_from_nowhere_is_found() {
    let reads = [read(0, 2, 150), read(1, 1, 200)];
    assert!(
        violations(&[write(1, 100), write(2, 900)], &reads)
            .iter()
            .any(|one| matches!(one, Violation::FromNowhere { version: 2, .. }))
    );
}

proptest! {
    /// A reader that sees each version some time after its write, in order, violates nothing; and if one read is
    /// set back, that is found.
    #[test]
    fn one_read_set_back_is_found(gaps in proptest::collection::vec(20_u64..200, 3..40), victim in 2_usize..40) {
        let mut writes = Vec::new();
        let mut reads = Vec::new();
        let mut now = 0;
        for (version, gap) in (1..).zip(&gaps) {
            writes.push(write(version, now));
            reads.push(read(0, version, now + 12));
            reads.push(read(1, version, now + 13));
            now += gap;
        }
        prop_assert_eq!(violations(&writes, &reads), []);
        let victim = 2 * (1 + victim % (gaps.len() - 1));
        reads[victim].version = 0;
        let found = violations(&writes, &reads);
        prop_assert!(found.iter().any(|one| matches!(one, Violation::WentBack { to: 0, .. })), "{:?}", found);
    }
}

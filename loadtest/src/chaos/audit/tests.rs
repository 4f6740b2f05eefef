use super::*;

/// Three writes came before those that are audited.
const BEFORE: Mark = Mark {
    issued: 3,
    given: 1_003,
};

fn write(version: Version) -> Write {
    Write {
        version,
        store_version: store_version(version),
        acknowledged: true,
    }
}

fn failed(version: Version) -> Write {
    Write {
        store_version: 0,
        acknowledged: false,
        ..write(version)
    }
}

fn entry(version: Version) -> Entry {
    Entry {
        held: Held::Value(version),
        store_version: store_version(version),
    }
}

fn store_version(version: Version) -> i64 {
    1_000 + i64::try_from(version).unwrap()
}

fn violations(writes: &[Write], entries: &[Entry]) -> Vec<Violation> {
    check(BEFORE, writes, usize::MAX, entries).violations
}

fn unexplained(entry: Entry) -> Violation {
    Violation::Unexplained {
        held: entry.held,
        store_version: entry.store_version,
    }
}

#[test]
fn an_entry_for_each_write_in_order_is_good() {
    let (writes, entries) = ([4, 5, 6].map(write), [3, 4, 5, 6].map(entry));
    let found = check(BEFORE, &writes, usize::MAX, &entries);
    let wanted = Audited {
        required: 3,
        recorded: 3,
        violations: Vec::new(),
    };
    assert_eq!(found, wanted);
    assert_eq!(check(BEFORE, &[], usize::MAX, &[]), Audited::default());
}

#[test]
fn a_write_without_an_entry_is_missing() {
    let found = check(BEFORE, &[4, 5].map(write), usize::MAX, &[entry(5)]);
    assert_eq!(found.violations, [Violation::Missing { version: 4 }]);
    assert_eq!((found.required, found.recorded), (2, 1));
    assert_eq!(
        found.violations[0].describe("k of t"),
        "not in the history: update 4 has no entry: k of t"
    );
}

#[test]
fn a_write_with_two_entries_is_repeated() {
    let twice = Violation::Repeated {
        version: 4,
        entries: 2,
    };
    let writes = [4, 5].map(write);
    assert_eq!(violations(&writes, &[4, 4, 5].map(entry)), [twice]);
    // The second one came late: the order is that of the first.
    assert_eq!(violations(&writes, &[4, 5, 4].map(entry)), [twice]);
}

#[test]
fn entries_stand_in_the_order_of_acknowledged_writes() {
    let behind = |version, after| Violation::OutOfOrder { version, after };
    let writes = [4, 5, 6].map(write);
    assert_eq!(violations(&writes, &[4, 6, 5].map(entry)), [behind(5, 6)]);
    assert_eq!(
        violations(&writes, &[6, 4, 5].map(entry)),
        [behind(4, 6), behind(5, 6)]
    );
    // It was issued after 4 was acknowledged, so it cannot be older.
    let writes = [write(4), failed(5)];
    assert_eq!(violations(&writes, &[5, 4].map(entry)), [behind(4, 5)]);
    // It may have arrived at any time after it was issued.
    let writes = [failed(4), write(5)];
    assert_eq!(violations(&writes, &[5, 4].map(entry)), []);
}

#[test]
fn an_entry_that_no_write_explains_is_found() {
    let held = |held| Entry {
        held,
        store_version: 1_009,
    };
    let deletion = held(Held::Other("a deletion"));
    for strange in [entry(5), deletion, held(Held::Omitted)] {
        let found = violations(&[write(4)], &[entry(4), strange]);
        assert_eq!(found, [unexplained(strange)]);
    }
    assert_eq!(
        unexplained(deletion).describe("k of t"),
        "unexplained in the history: no update made the entry of version 1009 (a deletion): k of t"
    );
}

#[test]
fn entries_of_earlier_writes_are_passed_over() {
    let omitted = |store_version| Entry {
        held: Held::Omitted,
        store_version,
    };
    // Version 0 of a writer is what was there first, written by hand without a version.
    let first = Entry {
        held: Held::Value(0),
        store_version: 0,
    };
    assert_eq!(violations(&[], &[first, entry(2), omitted(1_003)]), []);
    let foreign = omitted(0);
    assert_eq!(violations(&[], &[foreign]), [unexplained(foreign)]);
}

#[test]
fn a_write_that_failed_has_one_entry_at_most() {
    let writes = [failed(4), write(5)];
    assert_eq!(violations(&writes, &[entry(5)]), []);
    assert_eq!(violations(&writes, &[4, 5].map(entry)), []);
    let twice = Violation::Repeated {
        version: 4,
        entries: 2,
    };
    assert_eq!(violations(&writes, &[4, 4, 5].map(entry)), [twice]);
    let found = check(BEFORE, &writes, usize::MAX, &[4, 5].map(entry));
    assert_eq!((found.required, found.recorded), (1, 1));
}

#[test]
fn an_entry_without_its_value_belongs_to_the_write_with_its_version() {
    let omitted = |version| Entry {
        held: Held::Omitted,
        ..entry(version)
    };
    let writes = [4, 5].map(write);
    assert_eq!(violations(&writes, &[3, 4, 5].map(omitted)), []);
    let found = violations(&writes, &[omitted(5), omitted(4)]);
    let behind = Violation::OutOfOrder {
        version: 4,
        after: 5,
    };
    assert_eq!(found, [behind]);
}

#[test]
fn hand_edits_without_a_version_are_known_by_their_values() {
    let by_hand = |version| {
        let write = Write {
            store_version: 0,
            ..write(version)
        };
        let entry = Entry {
            store_version: 0,
            ..entry(version)
        };
        (write, entry)
    };
    let [(one, its), (other, others)] = [4, 5].map(by_hand);
    assert_eq!(violations(&[one, other], &[its, others]), []);
    let missing = Violation::Missing { version: 5 };
    assert_eq!(violations(&[one, other], &[its]), [missing]);
}

#[test]
fn an_entry_names_the_version_that_the_store_gave() {
    // A hand edit often keeps the version of what it replaced.
    let kept = Entry {
        store_version: 1_004,
        ..entry(5)
    };
    let wrong = Violation::WrongVersion {
        version: 5,
        given: 1_005,
        recorded: 1_004,
    };
    assert_eq!(violations(&[4, 5].map(write), &[entry(4), kept]), [wrong]);
}

#[test]
fn what_the_store_no_longer_keeps_is_not_missing() {
    let writes = [4, 5, 6].map(write);
    let found = check(BEFORE, &writes, 2, &[5, 6].map(entry));
    assert_eq!(found.violations, []);
    assert_eq!((found.required, found.recorded), (2, 2));
    let found = check(BEFORE, &writes, 2, &[4, 6].map(entry));
    assert_eq!(found.violations, [Violation::Missing { version: 5 }]);
}

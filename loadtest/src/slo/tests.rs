use proptest::prelude::*;

use super::*;
use crate::recorder::CacheResult;

/// Everything that a cache result can be is a part that can be named.
const RESULTS: [CacheResult; 6] = [
    CacheResult::Hit,
    CacheResult::Miss,
    CacheResult::Stale,
    CacheResult::Absent,
    CacheResult::None,
    CacheResult::Failed,
];

fn verdict(slo: &str) -> Verdict {
    slo.parse::<Slo>()
        .unwrap()
        .judge(&crate::report::tests::sample())
}

#[test]
fn demands_are_judged_by_the_worst_place() {
    // The sample: 200 hits of 100 us and 2 failures in the closed loop, 100 hits of 300 us in the open one.
    assert!(verdict("grpc.hit.p99<2ms").met);
    assert!(verdict("closed.grpc.hit.p99<0.2ms").met);
    assert!(
        !verdict("grpc.hit.p99<0.2ms").met,
        "the open loop breaks it"
    );
    assert!(verdict("grpc.hit.p99<0.2ms").measured.contains("open loop"));
    assert!(!verdict("errors<0.1%").met);
    assert!(verdict("errors<1%").met);
    assert!(verdict("staleness.dynamodb.p50<100ms").met);
    assert!(verdict("staleness.lost<1").met);
}

#[test]
fn what_cannot_be_judged_is_not_met() {
    for (slo, reason) in [
        ("grpc.hit.p99.9<1s", "needs 1000 samples"),
        ("grpc.stale.p50<1s", "no sample"),
        ("edge.p50<1s", "nothing was measured"),
        ("staleness.dynamodb.p99<1s", "needs 100 samples"),
    ] {
        let verdict = verdict(slo);
        assert!(
            !verdict.met && verdict.measured.contains(reason),
            "{slo}: {}",
            verdict.measured
        );
    }
}

#[test]
fn names_are_known_or_refused() {
    assert!(RESULTS.iter().all(|result| PARTS.contains(&result.name())));
    for bad in [
        "",
        "grpc",
        "grpc<1ms",
        "grpc.p98<1ms",
        "grpcs.p99<1ms",
        "grpc.hits.p99<1ms",
        "grpc.hit.p99<1",
        "grpc.hit.p99<",
        "grpc.hit.p99=1ms",
        "errors<x",
        "errors.p99<1ms",
        "staleness.sqs.p99<1s",
        "staleness.dynamodb.moon.p99<1s",
        "staleness.errors<1%",
        "grpc.lost<1",
        "grpc.hit.errors<1%",
        "errors<1",
        "grpc.rate>-1",
        "open.closed.grpc.p99<1ms",
        "grpc.hit.get.p99<1ms",
    ] {
        assert!(bad.parse::<Slo>().is_err(), "{bad}");
    }
    let message = "grpc.p98<1ms".parse::<Slo>().unwrap_err();
    assert!(
        message.contains("p99.9"),
        "it lists the known ones: {message}"
    );
}

#[test]
fn what_is_not_measured_cannot_be_demanded() {
    let only_grpc = Measured {
        paths: vec!["grpc"],
        loops: vec!["open"],
        sources: Vec::new(),
        unseen: Vec::new(),
    };
    let check = |slo: &str| check(&[slo.parse().unwrap()], &only_grpc);
    assert!(check("grpc.hit.p99<2ms").is_ok() && check("errors<1%").is_ok());
    for bad in [
        "edge.p99<2ms",
        "closed.grpc.p99<2ms",
        "staleness.dynamodb.p99<1s",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}

fn any_slo() -> impl Strategy<Value = Slo> {
    let path = (
        proptest::option::of(prop_oneof![Just("open"), Just("closed")]),
        proptest::sample::select(PATHS.as_slice()),
        proptest::option::of(proptest::sample::select(PARTS.as_slice())),
    )
        .prop_map(|(loop_kind, path, part)| Subject::Path {
            loop_kind: loop_kind.map(ToOwned::to_owned),
            path: path.to_owned(),
            part: part.map(ToOwned::to_owned),
        });
    let staleness = (
        proptest::option::of(proptest::sample::select(SOURCES.as_slice())),
        proptest::sample::select(STAGES.as_slice()),
    )
        .prop_map(|(source, stage)| Subject::Staleness {
            source: source.map(ToOwned::to_owned),
            stage: stage.to_owned(),
        });
    let times = prop_oneof![
        Just(Statistic::P50),
        Just(Statistic::P99),
        Just(Statistic::P999),
        Just(Statistic::Max),
        Just(Statistic::Mean)
    ];
    let relation = prop_oneof![
        Just(Relation::Less),
        Just(Relation::AtMost),
        Just(Relation::More),
        Just(Relation::AtLeast)
    ];
    (
        prop_oneof![path, staleness],
        times,
        relation,
        1_u32..100_000_000,
    )
        .prop_map(|(subject, statistic, relation, bound)| Slo {
            subject,
            statistic,
            relation,
            bound: f64::from(bound),
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(slo in any_slo()) {
        let read: Slo = slo.to_string().parse().unwrap();
        prop_assert_eq!(&read.subject, &slo.subject);
        prop_assert_eq!((read.statistic, read.relation), (slo.statistic, slo.relation));
        prop_assert!((read.bound - slo.bound).abs() <= slo.bound * 1e-9);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[a-z.]{1,20}[<>]=?[0-9.]{0,6}[a-z%µ]{0,3}") {
        if let Ok(slo) = text.parse::<Slo>() {
            let again = slo.to_string();
            prop_assert!(again.parse::<Slo>().is_ok(), "{}", again);
        }
    }
}

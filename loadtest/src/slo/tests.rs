use clap::Parser;
use proptest::prelude::*;

use super::*;
use crate::{
    cli::{Cli, Command},
    figures::{expected, figures},
    report::{
        Ratio,
        soak::{Soak, Trend},
        tests::sample,
    },
};

fn verdict(slo: &str) -> Verdict {
    slo.parse::<Slo>().unwrap().judge(&figures(&sample()))
}

#[test]
fn slos_are_judged_by_the_worst_place() {
    // The sample: 200 hits of 100 us and 2 failures in the closed loop, 100 hits of 300 us in the open one.
    assert!(verdict("grpc.hit.p99<2ms").met);
    assert!(verdict("closed.grpc.hit.p99<0.2ms").met);
    assert!(
        !verdict("grpc.hit.p99<0.2ms").met,
        "the open loop breaks it"
    );
    assert_eq!(
        verdict("grpc.hit.p99<0.2ms").measured,
        "300 µs [300, -] in open"
    );
    assert!(!verdict("errors<0.1%").met);
    assert!(verdict("errors<1%").met);
    assert!(verdict("grpc.hit.share>=100%").met && !verdict("grpc.hit.share>100%").met);
    assert!(verdict("staleness.dynamodb.p50<100ms").met);
    assert!(verdict("staleness.dynamodb.last_replica.p50<100ms").met);
    assert!(
        verdict("staleness.dynamodb.edge.max<100ms").met,
        "the earlier name"
    );
    assert!(verdict("staleness.lost<1").met && verdict("staleness.violations<1").met);
}

#[test]
fn without_a_part_failures_count_as_the_time_out() {
    assert!(verdict("closed.grpc.hit.max<1ms").met);
    assert_eq!(verdict("closed.grpc.max<1ms").measured, "10.00 s");
    assert!(verdict("closed.grpc.failed.max<1ms").met, "what they took");
    assert_eq!(
        verdict("closed.grpc.rate>1000").measured,
        "100.0/s",
        "right answers only"
    );
}

#[test]
fn what_cannot_be_judged_is_not_met() {
    for (slo, reason) in [
        ("grpc.hit.p99.9<1s", "needs 1000 samples"),
        ("edge.p50<1s", "nothing was measured"),
        ("staleness.dynamodb.p99<1s", "needs 100 samples"),
        ("grpc.hit.p99<1", "a time with its unit"),
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
fn updates_without_a_verdict_leave_no_percentile() {
    let mut report = sample();
    report.staleness[0].sources[0].undecided = 1;
    let found = figures(&report);
    let judge = |slo: &str| slo.parse::<Slo>().unwrap().judge(&found);
    let verdict = judge("staleness.dynamodb.p50<100ms");
    assert!(
        !verdict.met && verdict.measured.contains("1 updates were undecided"),
        "{verdict:?}"
    );
    assert!(!judge("staleness.undecided<1").met);
}

/// What the command line says of an SLO.
fn checked(arguments: &[&str], slo: &str) -> Result<(), String> {
    let slo: Slo = slo.parse()?;
    let line = ["loadtest"].iter().chain(arguments);
    let expected = match Cli::try_parse_from(line).unwrap().command {
        Command::Latency(options) => expected::latency(&options),
        Command::Capacity(options) => expected::capacity(&options),
        Command::Soak(options) => expected::soak(&options),
        Command::Staleness(options) => expected::staleness(&options),
        Command::Neighbours(options) => expected::neighbours(&options),
        Command::Chaos(options) => expected::chaos(&options, ["dropped", "killed"].into_iter()),
        Command::Watchers(_) => expected::watchers(),
        _ => panic!("another command"),
    };
    check(&[slo], &expected).map_err(|error| error.to_string())
}

#[test]
fn names_are_measured_or_refused() {
    let latency = ["latency", "--target", "grpc,edge"];
    for good in [
        "errors<1%",
        "grpc.p99<2ms",
        "grpc.hit.p99<2ms",
        "open.edge.p50<=40ms",
        "closed.grpc.rate>1000/s",
        "grpc.hit.share>99%",
        "grpc.get-absent.p99.9<1s",
        "grpc.failed.max<1s",
        "grpc.writers.errors<1%",
        "edge.rest.p99<1s",
        "open.grpc.lag.p99<1ms",
        "grpc.unsustained<1",
    ] {
        assert_eq!(checked(&latency, good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "grpc",
        "grpc<1ms",
        "<1ms",
        "p99<1ms",
        "grpc.p98<1ms",
        "grpcs.p99<1ms",
        "rpc.p99<1ms",
        "alb.p99<1ms",
        "grpc.hits.p99<1ms",
        "grpc.rest.p99<1ms",
        "grpc.background.p99<1ms",
        "grpc.hit.p99<1",
        "grpc.hit.p99<",
        "grpc.hit.p99=1ms",
        "errors<x",
        "errors<1",
        "errors.p99<1ms",
        "grpc.lost<1",
        "grpc.hit.errors<1%",
        "grpc.rate>-1",
        "open.closed.grpc.p99<1ms",
        "grpc.hit.get.p99<1ms",
        "closed.grpc.lag.p99<1ms",
        "staleness.dynamodb.p99<1s",
    ] {
        assert!(checked(&latency, bad).is_err(), "{bad}");
    }
    let message = checked(&latency, "grpc.hit.p98<1ms").unwrap_err();
    assert!(
        message.contains("grpc.hit.p99.9"),
        "it lists the known ones: {message}"
    );
    let open = ["latency", "--loop", "open", "--scenarios", "hot"];
    assert!(checked(&open, "grpc.hit.p99<1ms").is_ok());
    assert!(checked(&open, "closed.grpc.hit.p99<1ms").is_err());
    assert!(checked(&open, "grpc.put.p99<1ms").is_err(), "nobody writes");
}

#[test]
fn names_of_updates_are_measured_or_refused() {
    let staleness = [
        "staleness",
        "--source",
        "dynamodb",
        "--background",
        "0,500",
        "--no-orders",
    ];
    for good in [
        "staleness.p99<1s",
        "staleness.dynamodb.p99<1s",
        "staleness.dynamodb.edge_all.p99<1s",
        "staleness.edge.max<1s",
        "staleness.dynamodb.start_to_last.p99<20ms",
        "beside-500.staleness.dynamodb.p99<1s",
        "staleness.lost<1",
        "staleness.violations<1",
        "grpc.hit.p99<5ms",
        "open.grpc.hit.share>90%",
    ] {
        assert_eq!(checked(&staleness, good), Ok(()), "{good}");
    }
    for bad in [
        "staleness.sqs.p99<1s",
        "staleness.put-config.p99<1s",
        "staleness.dynamodb.moon.p99<1s",
        "staleness.order_all.p99<1s",
        "staleness.errors<1%",
        "beside-7.staleness.dynamodb.p99<1s",
        "closed.grpc.hit.p99<5ms",
    ] {
        assert!(checked(&staleness, bad).is_err(), "{bad}");
    }
    let quiet = ["staleness", "--background", "0"];
    assert!(
        checked(&quiet, "grpc.hit.p99<5ms").is_err(),
        "nobody reads beside"
    );
    let neighbours = ["neighbours", "--noise", "lists"];
    assert!(checked(&neighbours, "neighbours.lists.dynamodb.ratio<2").is_ok());
    assert!(checked(&neighbours, "neighbours.writes.dynamodb.ratio<2").is_err());
}

#[test]
fn names_of_faults_and_watchers_are_measured_or_refused() {
    let chaos = ["chaos", "--seed", "1,2"];
    for good in [
        "chaos.dropped.worst<4s",
        "seed-2.chaos.killed.broken<1",
        "chaos.killed.quiet.p99<100ms",
        "chaos.killed.quiet.errors<1%",
        "chaos.killed.history_violations<1",
    ] {
        assert_eq!(checked(&chaos, good), Ok(()), "{good}");
    }
    for bad in [
        "chaos.down.worst<4s",
        "seed-3.chaos.killed.broken<1",
        "chaos.worst<1s",
    ] {
        assert!(checked(&chaos, bad).is_err(), "{bad}");
    }
    assert!(checked(&["watchers"], "watchers.last.p99<1s").is_ok());
    assert!(checked(&["watchers"], "watchers.missing<1").is_ok());
    assert!(checked(&["watchers"], "watchers.p99<1s").is_err());
}

#[test]
fn names_of_knees_and_trends_are_measured_or_refused() {
    let capacity = ["capacity", "--target", "grpc,edge"];
    assert_eq!(checked(&capacity, "capacity.grpc.knee>1000/s"), Ok(()));
    assert!(checked(&capacity, "capacity.alb.knee>1000").is_err());
    assert!(checked(&capacity, "grpc.p99<1ms").is_err());
    for good in [
        "soak.p99.growth<50%",
        "soak.memory.growth<10%",
        "soak.descriptors.growth<=0%",
        "open.grpc.p99<5ms",
    ] {
        assert_eq!(checked(&["soak"], good), Ok(()), "{good}");
    }
    assert!(checked(&["soak"], "soak.memory.growth<10").is_err());
    assert!(checked(&["soak"], "soak.p50.growth<10%").is_err());
}

#[test]
fn a_trend_is_judged_by_the_replica_that_grows_most() {
    let mut report = sample();
    let trend = |of: &str, value| Trend {
        what: "memory".to_owned(),
        of: of.to_owned(),
        growth: Some(Ratio {
            value,
            low: value - 0.01,
            high: value + 0.01,
        }),
        ..Trend::default()
    };
    report.soak = Some(Soak {
        trends: vec![trend("config-1", -0.02), trend("config-2", 0.15)],
        ..Soak::default()
    });
    let judge = |slo: &str| slo.parse::<Slo>().unwrap().judge(&figures(&report));
    let verdict = judge("soak.memory.growth<10%");
    assert!(!verdict.met);
    assert_eq!(verdict.measured, "+15.0% [+14.0%, +16.0%] in config-2");
    assert!(judge("config-1.soak.memory.growth<10%").met);
    assert!(!judge("soak.descriptors.growth<10%").met, "not measured");
}

/// What is expected of a run is what its result has: otherwise a good SLO is refused, or a bad one is not.
#[test]
fn a_result_has_the_expected_names() {
    let found = figures(&sample());
    for name in [
        "closed.grpc.hit.p99",
        "open.grpc.rate",
        "beside-0.staleness.dynamodb.p99",
        "errors",
    ] {
        assert!(
            found.contains_key(name),
            "{name} is not in {:?}",
            found.keys()
        );
    }
    let line = ["loadtest", "latency", "--scenarios", "hot"];
    let Command::Latency(options) = Cli::try_parse_from(line).unwrap().command else {
        panic!("another command");
    };
    let mut report = sample();
    report.staleness.clear();
    let expected = expected::latency(&options);
    for name in figures(&report).keys() {
        assert!(expected.contains_key(name), "{name} was not expected");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[a-z.]{1,20}[<>]=?[0-9.]{0,6}[a-z%µ]{0,3}") {
        if let Ok(slo) = text.parse::<Slo>() {
            let again = slo.to_string();
            prop_assert_eq!(again.parse::<Slo>(), Ok(slo.clone()), "{}", again);
            let _ = slo.judge(&figures(&sample()));
            let _ = checked(&["latency"], &text);
        }
    }
}

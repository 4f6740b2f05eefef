//! `loadtest capacity`: the rate at which each path breaks. The rate doubles from step to step, each an open loop, until a
//! step breaks; then the interval between the highest rate that held and the lowest that broke is halved. A step that
//! breaks is measured twice more, and holds if both hold: a short disturbance of the machine is not a limit of the target.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    Ended,
    cli::{CapacityOptions, Target, distinct},
    client::Client,
    figures::expected,
    latency::{self, Bench, harness_limited, open, open_phase},
    progress::{self, Live},
    report::{
        Phase, Report, Series,
        capacity::{Capacity, Step},
        findings::is_wrong,
        finish, table,
    },
    slo,
    stop::Stop,
};

/// This part of the requests must have a good answer within the limit.
const WITHIN: f64 = 0.99;
/// A step of fewer requests is measured for longer, since one slow request would decide; so many times longer at most.
const FEWEST: f64 = 500.0;
const LONGEST: f64 = 5.0;
/// Below this rate, in requests a second, the search gives up.
const LOWEST: f64 = 1.0;
/// A search for more precision than this would not end.
const FINEST: f64 = 0.01;
/// After a step that broke, so that its backlog is no part of the next.
const SETTLE: Duration = Duration::from_secs(1);

/// `loadtest capacity`.
pub(crate) async fn run(options: Box<CapacityOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let options = Box::new(CapacityOptions {
        load: latency::available(&options.load).await?,
        ..*options
    });
    let targets = distinct(&options.targets);
    latency::check(&options.load, &targets)?;
    slo::check(&options.output.slos, &expected::capacity(&options))?;
    options.output.check()?;
    let bench = Bench::prepare(&options.load, &targets, &stop).await?;
    let mut found = Vec::new();
    for (target, client) in bench.clients() {
        if !stop.is_set() {
            found.push(knee(&options, &bench, *target, client, &stop).await);
        }
    }
    let report = Report {
        capacity: found,
        ..bench.report("capacity", &stop, settings(&options))
    };
    finish(report, &options.output)
}

async fn knee(
    options: &CapacityOptions,
    bench: &Bench,
    target: Target,
    client: &Arc<Client>,
    stop: &Stop,
) -> Capacity {
    let mix = latency::mix_of(&options.load, target);
    let load = bench.load(client);
    let from = match target {
        Target::Grpc => options.from,
        Target::Alb | Target::Edge => options.rest_from,
    };
    let measure = async |rate: f64| {
        let title = format!("{}, {rate:.0}/s", target.name());
        let times_longer = FEWEST / rate / options.duration.as_secs_f64();
        let duration = options.duration.mul_f64(times_longer.clamp(1.0, LONGEST));
        let bar = progress::timing(&title, options.warm_up + duration, stop);
        let plan = |duration| open::Plan {
            // A second's worth: with more in flight the rate is not sustained, and the backlog would be long.
            max_in_flight: options.load.max_in_flight.min(backlog(rate)),
            ..bench.plan(rate, duration)
        };
        latency::open_load(load.warming(), mix.clone(), plan(options.warm_up), stop).await;
        let requests = load.clone().requests(mix.clone());
        let live = Live::beside(&bar);
        let phase = open_phase(plan(duration), stop, &live, requests).await;
        bar.finish_and_clear();
        let measured = step_of(&phase, options);
        if measured.broken_because.is_some() && !stop.is_set() {
            tokio::time::sleep(SETTLE).await;
        }
        // An interrupted step is not a result.
        (!stop.is_set()).then_some(measured)
    };
    let steps = search(from, options.max_rate, options.precision, measure).await;
    Capacity::of(target.name(), options.p99, steps)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate of at most a million"
)]
fn backlog(rate: f64) -> u32 {
    rate as u32 + 100
}

/// The steps of a search, until one cannot be measured.
async fn search(
    from: f64,
    max: f64,
    precision: f64,
    mut measure: impl AsyncFnMut(f64) -> Option<Step>,
) -> Vec<Step> {
    let (mut held, mut broken) = (None, None);
    let (mut steps, mut rate) = (Vec::new(), from.min(max));
    loop {
        let mut held_so_far = 0;
        let holds = loop {
            let Some(step) = measure(rate).await else {
                return steps;
            };
            let attempts = steps.iter().rev();
            let again = attempts.take_while(|one: &&Step| one.is_at(rate)).count() > 0;
            let holds = step.broken_because.is_none();
            steps.push(step);
            held_so_far += u32::from(holds);
            match (again, holds, held_so_far) {
                (false, true, _) | (true, true, 2) => break true,
                (true, false, _) => break false,
                _ => {}
            }
        };
        *(if holds { &mut held } else { &mut broken }) = Some(rate);
        rate = match (held, broken) {
            (Some(low), None) if low < max => (low * 2.0).min(max),
            (Some(low), Some(high)) if high > low * (1.0 + precision.max(FINEST)) => {
                f64::sqrt(low * high)
            }
            (None, Some(high)) if high / 2.0 >= LOWEST => high / 2.0,
            _ => return steps,
        };
    }
}

impl Capacity {
    fn of(path: &str, p99: Duration, steps: Vec<Step>) -> Self {
        // The last attempt decides: it broke, or it was the second of two that held.
        let attempts = |rate: f64| steps.iter().filter(move |step| step.is_at(rate));
        let holds = |rate: f64| {
            let last = attempts(rate).next_back();
            last.is_some_and(|step| step.broken_because.is_none())
        };
        let rates = || steps.iter().map(|step| step.offered_per_second);
        let held = rates().filter(|rate| holds(*rate)).reduce(f64::max);
        let broken = rates()
            .filter(|rate| !holds(*rate) && held.is_none_or(|held| *rate > held))
            .reduce(f64::min);
        let harness_limited = broken.is_some_and(|rate| {
            let mut broke = attempts(rate).filter(|step| step.broken_because.is_some());
            broke.all(|step| step.harness_limited)
        });
        Self {
            path: path.to_owned(),
            p99_limit_us: crate::recorder::micros(p99),
            held_per_second: held,
            broken_per_second: broken,
            harness_limited,
            steps,
        }
    }
}

/// The step that a phase measured.
fn step_of(phase: &Phase, options: &CapacityOptions) -> Step {
    let limit = crate::recorder::micros(options.p99);
    let requests: u64 = phase.series.iter().map(|series| series.count).sum();
    let errors = phase.errors();
    let all = phase.times(|_| true, true);
    let within = |series: &Series| -> u64 {
        let good = (series.result != "failed").then_some(&series.histogram);
        let times = good.into_iter().flatten();
        times
            .filter(|(us, _)| *us <= limit)
            .map(|(_, count)| count)
            .sum()
    };
    let late = requests - phase.series.iter().map(within).sum::<u64>();
    let quantile = |q| (!all.is_empty()).then(|| all.value_at_quantile(q));
    let harness = harness_limited(phase, options.load.max_lag);
    let wrong = errors.iter().find(|(code, _)| is_wrong(code));
    let broken_because = if let Some((code, count)) = wrong {
        Some(format!("wrong answers: {code} x {count}"))
    } else if let Some(reason) = &phase.not_sustained_because {
        Some(reason.clone())
    } else if late as f64 > (1.0 - WITHIN) * requests as f64 || requests == 0 {
        let mut by_operation: BTreeMap<&str, u64> = BTreeMap::new();
        for series in &phase.series {
            *by_operation.entry(&series.operation).or_default() += series.count - within(series);
        }
        let most = by_operation.into_iter().max_by_key(|(_, late)| *late);
        let most = most.map(|(operation, late)| format!(", {late} of them {operation}"));
        Some(format!(
            "{late} of {requests} requests failed or took longer than {}{}{}",
            table::time(limit as f64),
            most.unwrap_or_default(),
            // The lag is in the times: where they are within the limit, it does not matter.
            harness.as_ref().map_or(String::new(), |reason| format!(
                "; harness-limited: {reason}"
            ))
        ))
    } else {
        None
    };
    Step {
        offered_per_second: phase.offered_per_second.unwrap_or_default(),
        answered_per_second: phase.answered_per_second,
        requests,
        failed: errors.values().sum(),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        lag_p99_us: phase.lag.as_ref().and_then(|lag| lag.p99_us),
        machine_busy: phase.cpu.machine_busy,
        harness_limited: harness.is_some() && broken_because.is_some(),
        broken_because,
        errors: errors
            .into_iter()
            .map(|(code, count)| (code.to_owned(), count))
            .collect(),
    }
}

fn settings(options: &CapacityOptions) -> impl IntoIterator<Item = (&'static str, Value)> {
    [
        ("fromPerSecond", json!(options.from)),
        ("restFromPerSecond", json!(options.rest_from)),
        ("maxRatePerSecond", json!(options.max_rate)),
        ("precision", json!(options.precision)),
        ("p99LimitSeconds", json!(options.p99.as_secs_f64())),
        ("durationSeconds", json!(options.duration.as_secs_f64())),
        ("warmUpSeconds", json!(options.warm_up.as_secs_f64())),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::{
        baseline_target::tests::{SHAPE, started},
        cli::{Cli, Command},
        report::tests::sample,
        tokens::tests::TokenFile,
    };

    fn a_step(rate: f64, holds: bool) -> Step {
        Step {
            offered_per_second: rate,
            answered_per_second: rate,
            requests: 1,
            failed: 0,
            errors: BTreeMap::new(),
            p50_us: None,
            p99_us: None,
            lag_p99_us: None,
            machine_busy: None,
            harness_limited: false,
            broken_because: (!holds).then(|| "slow".to_owned()),
        }
    }

    async fn found(from: f64, max: f64, mut holds: impl FnMut(f64) -> bool) -> Capacity {
        let steps = search(from, max, 0.1, async |rate| Some(a_step(rate, holds(rate)))).await;
        assert!(steps.len() < 40, "{} steps", steps.len());
        Capacity::of("grpc", Duration::from_millis(10), steps)
    }

    #[tokio::test]
    async fn the_knee_lies_in_a_narrow_interval_wherever_it_is() {
        for limit in [2.5, 30.0, 499.0, 500.0, 777.0, 12_345.0] {
            let found = found(500.0, 1e6, |rate| rate <= limit).await;
            let (held, broken) = (
                found.held_per_second.unwrap(),
                found.broken_per_second.unwrap(),
            );
            assert!(held <= limit && limit < broken, "{held} {limit} {broken}");
            assert!(broken <= held * 1.1, "{held} to {broken}");
        }
    }

    #[tokio::test]
    async fn a_search_without_a_knee_ends() {
        let never = found(500.0, 4_000.0, |_| true).await;
        assert_eq!(
            (never.held_per_second, never.broken_per_second),
            (Some(4_000.0), None)
        );
        let always = found(500.0, 4_000.0, |_| false).await;
        assert_eq!(always.held_per_second, None);
        assert!(always.broken_per_second < Some(2.0));
    }

    #[tokio::test]
    async fn a_step_that_breaks_holds_if_both_repetitions_do() {
        for (held, knee) in [(&[2, 3][..], 2_700.0), (&[2], 900.0), (&[3], 900.0)] {
            let mut attempts = 0;
            let found = found(500.0, 1e6, |rate| {
                attempts += u32::from(rate == 1_000.0);
                rate <= 3_000.0 && (rate != 1_000.0 || held.contains(&attempts))
            });
            let found = found.await;
            let rate = found.held_per_second.unwrap();
            assert!((knee..knee * 1.12).contains(&rate), "{held:?}: {found:?}");
        }
    }

    #[tokio::test]
    async fn a_knee_is_the_harness_s_only_if_every_attempt_was() {
        let mut attempts = 0;
        let steps = search(500.0, 1_000.0, 0.1, async |rate| {
            attempts += u32::from(rate > 900.0);
            let late = rate > 900.0 && attempts == 1;
            Some(Step {
                harness_limited: late,
                ..a_step(rate, rate <= 500.0)
            })
        });
        let steps = steps.await;
        let found = Capacity::of("grpc", Duration::from_millis(10), steps);
        assert!(!found.harness_limited, "{found:?}");
    }

    #[test]
    fn a_wrong_answer_breaks_a_step_however_fast_it_is() {
        let (out, tokens) = (std::env::temp_dir(), TokenFile::new(&["lt-00001"]));
        let places = ("127.0.0.1:1".to_owned(), "http://127.0.0.1:1".to_owned());
        let options = options(&out, &places, &tokens, "9s");
        let mut phase = sample().phases.remove(2);
        assert_eq!(step_of(&phase, &options).broken_because, None);
        phase.series[0].errors = [("wrong value".to_owned(), 1)].into();
        let step = step_of(&phase, &options);
        assert_eq!(
            step.broken_because.as_deref(),
            Some("wrong answers: wrong value x 1")
        );
        let mut report = Report {
            capacity: vec![Capacity::of("grpc", options.p99, vec![step])],
            ..sample()
        };
        assert!(report.warn());
        assert!(
            report
                .untrusted_because
                .contains(&"grpc: wrong value x 1".to_owned())
        );
    }

    fn options(
        out: &Path,
        (grpc, url): &(String, String),
        tokens: &TokenFile,
        p99: &str,
    ) -> Box<CapacityOptions> {
        let line = [
            "loadtest",
            "capacity",
            "--target",
            "grpc,edge",
            "--grpc",
            grpc,
            "--order-url",
            url,
            "--api-url",
            url,
            "--token-file",
            tokens.path(),
            "--out",
            out.to_str().unwrap(),
            "--from",
            "40",
            "--rest-from",
            "40",
            "--max-rate",
            "80",
            "--duration",
            "300ms",
            "--warm-up",
            "50ms",
            "--p99",
            p99,
            "--max-lag",
            "10s",
            "--tenants",
            "2",
            "--keys",
            "5",
            "--value-bytes",
            "200",
        ];
        match Cli::try_parse_from(line).unwrap().command {
            Command::Capacity(options) => options,
            _ => panic!("another command"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_service_is_measured_until_it_breaks() -> anyhow::Result<()> {
        let (places, tokens) = (
            started(&SHAPE).await,
            TokenFile::new(&["lt-00001", "lt-00002"]),
        );
        let out = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        // Far more than any answer takes: all rates hold. A microsecond: none does.
        for (p99, from, held, ended) in [
            ("9s", 40.0, Some(80.0), Ended::Well),
            ("1us", 2.0, None, Ended::Poorly),
        ] {
            let mut options = options(&out, &places, &tokens, p99);
            (options.from, options.rest_from) = (from, from);
            assert_eq!(run(options, Stop::default()).await?, ended);
            let report = Report::read(&out.join("result.json"))?;
            assert_eq!(report.kind, "capacity");
            let paths: Vec<_> = report
                .capacity
                .iter()
                .map(|one| one.path.as_str())
                .collect();
            assert_eq!(paths, ["grpc", "edge"]);
            for one in &report.capacity {
                assert_eq!(one.held_per_second, held, "{one:?}");
                assert!(
                    one.steps
                        .iter()
                        .all(|step| step.failed == 0 && step.requests > 0),
                    "{one:?}"
                );
            }
            let text = table::render(&report);
            let knee = if held.is_some() {
                "80 requests/s or more"
            } else {
                "no rate held"
            };
            assert!(
                text.contains(knee) && text.contains("edge: the knee"),
                "{text}"
            );
        }
        std::fs::remove_dir_all(out)?;
        Ok(())
    }
}

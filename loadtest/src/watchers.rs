//! `loadtest watchers`: many WatchConfig calls, one change for each tenant, and the time from the change's acknowledgement until
//! each call has it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tagged_config_proto::v1::{
    WatchConfigRequest, WatchConfigResponse, config_service_client::ConfigServiceClient,
    watch_config_response::Event,
};
use tokio::task::JoinSet;
use tonic::{Streaming, transport::Channel};

use crate::{
    Ended,
    accounts::Accounts,
    cli::{Source, WatchersOptions},
    client::signed,
    figures::expected,
    recorder::{buckets, histogram, quantiles},
    report::{Begun, Report, Watchers, finish},
    slo,
    staleness::{
        cells::Cell,
        experiment::{Experiment, Setup, connect_all},
        history::Shown,
    },
    stop::Stop,
    targets::Targets,
};

/// Calls that are opened at once.
const OPENED_AT_ONCE: usize = 64;
/// Longer than any run.
const CALL: Duration = Duration::from_mins(30);
/// A change that a watcher does not have after this time is lost.
const LOST: Duration = Duration::from_secs(30);
/// Between two tenants' changes.
const BETWEEN: Duration = Duration::from_millis(200);

/// `loadtest watchers`.
pub(crate) async fn run(options: Box<WatchersOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let begun = Begun::now();
    slo::check(&options.output.slos, &expected::watchers())?;
    options.output.check()?;
    let targets = Targets::find(&options.place).await?;
    let addresses = targets
        .need_grpc()?
        .iter()
        .flat_map(|address| std::iter::repeat_n(address.clone(), options.connections as usize));
    let channels = connect_all(&addresses.collect::<Vec<_>>()).await?;
    let setup = Setup {
        targets: &targets,
        accounts: Arc::new(Accounts::of(&targets).await?),
        sources: vec![Source::Dynamodb],
        cells: options.tenants,
        service: Vec::new(),
        observers: Vec::new(),
        stop: stop.clone(),
    };
    let measuring =
        setup.run(async |experiment: Experiment| measure(&options, &experiment, &channels).await);
    let measured = measuring.await?;
    let settings = [
        ("watchers", json!(options.watchers)),
        ("tenants", json!(options.tenants)),
        ("connections", json!(options.connections)),
    ];
    let report = Report {
        watchers: Some(measured),
        ..begun.report("watchers", &targets, settings, &stop)
    };
    finish(report, &options.output)
}

async fn measure(
    options: &WatchersOptions,
    experiment: &Experiment,
    channels: &[Channel],
) -> anyhow::Result<Watchers> {
    let (cells, clock) = (&experiment.cells, experiment.clock);
    let begun = Instant::now();
    let watches: Vec<(usize, Streaming<WatchConfigResponse>)> =
        stream::iter(0..options.watchers as usize)
            .map(|number| async move {
                let cell = number % cells.len();
                let channel = channels[(number / cells.len()) % channels.len()].clone();
                let watch = open(&cells[cell], channel).await;
                anyhow::Ok((cell, watch.context("a watch could not be opened")?))
            })
            .buffer_unordered(OPENED_AT_ONCE)
            .try_collect()
            .await?;
    let opened_seconds = begun.elapsed().as_secs_f64();
    let mut listening = JoinSet::new();
    for (number, mut watch) in watches {
        let cell = Arc::clone(&cells[number]);
        listening.spawn(async move {
            loop {
                let event = watch.message().await.ok()??.event?;
                if let Event::Upserted(entry) = event
                    && cell.shown(&entry.value) == Shown::Version(1)
                {
                    return Some((number, clock.us()));
                }
            }
        });
    }
    let (mut acked_us, mut acknowledge) = (BTreeMap::new(), histogram(3));
    for (number, cell) in cells.iter().enumerate() {
        if experiment.stop.is_set() {
            break;
        }
        let issued_us = clock.us();
        experiment.writer.write(cell, 1).await?;
        acked_us.insert(number, clock.us());
        acknowledge.saturating_record(clock.us() - issued_us);
        tokio::time::sleep(BETWEEN).await;
    }
    let mut heard = Vec::new();
    let deadline = tokio::time::Instant::now() + LOST;
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout_at(deadline, listening.join_next()) => next,
            () = experiment.stop.wait() => break,
        };
        let Ok(Some(one)) = next else { break };
        heard.extend(one.context("a watcher task failed")?);
    }
    let (each, last) = distributions(&acked_us, &heard);
    Ok(Watchers {
        calls: options.watchers,
        tenants: options.tenants,
        connections: u32::try_from(channels.len()).unwrap_or(u32::MAX),
        opened_seconds,
        changes: acked_us.len() as u64,
        heard: each.len(),
        acknowledge: (!acknowledge.is_empty()).then(|| quantiles(&acknowledge)),
        last_watcher: (!last.is_empty()).then(|| quantiles(&last)),
        each_watcher: (!each.is_empty()).then(|| quantiles(&each)),
        last_watcher_histogram: buckets(&last),
        each_watcher_histogram: buckets(&each),
    })
}

type Times = hdrhistogram::Histogram<u64>;

/// How long each watcher waited, and how long the last watcher of each change waited, from the times of acknowledgement and of
/// receipt.
fn distributions(acked_us: &BTreeMap<usize, u64>, heard: &[(usize, u64)]) -> (Times, Times) {
    let (mut each, mut last) = (histogram(3), histogram(3));
    let mut worst: BTreeMap<usize, u64> = BTreeMap::new();
    for (cell, at_us) in heard {
        if let Some(acked_us) = acked_us.get(cell) {
            let us = at_us.saturating_sub(*acked_us);
            each.saturating_record(us);
            let worst = worst.entry(*cell).or_default();
            *worst = us.max(*worst);
        }
    }
    for us in worst.values() {
        last.saturating_record(*us);
    }
    (each, last)
}

/// A watch that has sent its snapshot.
async fn open(cell: &Cell, channel: Channel) -> anyhow::Result<Streaming<WatchConfigResponse>> {
    let request = WatchConfigRequest {
        keys: vec![cell.key()],
    };
    let mut watch = ConfigServiceClient::new(channel)
        .watch_config(signed(request, &cell.caller.token(), CALL))
        .await?
        .into_inner();
    let mut has_key = false;
    while let Some(message) = watch.message().await? {
        match message.event {
            Some(Event::Upserted(_)) => has_key = true,
            Some(Event::InSync(true)) => {
                ensure!(has_key, "the snapshot lacks the key");
                return Ok(watch);
            }
            _ => {}
        }
    }
    anyhow::bail!("it ended before its snapshot was complete")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_of_one_change_are_one_sample() {
        let acked_us = BTreeMap::from([(0, 1_000), (1, 5_000)]);
        let heard = [(0, 1_500), (0, 1_900), (0, 900), (1, 5_200), (2, 9_000)];
        let (each, last) = distributions(&acked_us, &heard);
        assert_eq!((each.len(), last.len()), (4, 2));
        assert_eq!((last.min(), last.max()), (200, 900));
    }
}

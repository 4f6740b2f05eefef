//! `loadtest watchers`: many WatchConfig calls, one change for each, and how long from the change's writing until each has
//! heard of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use tagged_config_proto::v1::{
    WatchConfigRequest, WatchConfigResponse, config_service_client::ConfigServiceClient,
    watch_config_response::Event,
};
use tokio::task::JoinSet;
use tonic::{Streaming, transport::Channel};

use crate::{
    Ended, Interrupted,
    accounts::Accounts,
    cli::{Source, WatchersOptions},
    client::{connect, signed},
    recorder::{histogram, quantiles},
    staleness::{
        cells::{Cell, Clock, Writer},
        clean_up, prepare, tenants,
    },
    stop::Stop,
    targets::Targets,
};

const SOURCES: [Source; 1] = [Source::Dynamodb];
/// Calls that are opened at once.
const OPENED_AT_ONCE: usize = 64;
/// Longer than any run.
const CALL: Duration = Duration::from_mins(30);
/// A change that is not heard of for so long is lost.
const LOST: Duration = Duration::from_secs(30);
/// Between two tenants' changes.
const BETWEEN: Duration = Duration::from_millis(200);

/// `loadtest watchers`.
pub(crate) async fn run(options: Box<WatchersOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let targets = Targets::find(&options.place).await?;
    let mut channels = Vec::new();
    for address in targets.need_grpc()? {
        for _ in 0..options.connections {
            channels.push(connect(address).await?);
        }
    }
    let writer = Arc::new(Writer::of(&targets, &SOURCES, Vec::new()).await?);
    let accounts = Arc::new(Accounts::of(&targets).await?);
    let names = tenants(options.tenants, &SOURCES);
    let made = prepare(options.tenants, &SOURCES, &names, &accounts, &writer, &stop).await;
    let result = match made {
        Ok(cells) => measure(&options, &cells, &channels, &writer, &stop).await,
        Err(error) => Err(error),
    };
    clean_up(options.tenants, &SOURCES, &names, &accounts, &writer).await;
    let (opened, heard) = result?;
    if stop.is_set() {
        return Err(Interrupted.into());
    }
    let times = quantiles(&heard);
    let ms = |us: Option<u64>| us.map_or("-".to_owned(), |us| format!("{}", us.div_ceil(1_000)));
    println!(
        "{} watchers of {} tenants on {} connections, opened in {:.1} s",
        options.watchers,
        options.tenants,
        channels.len(),
        opened.as_secs_f64()
    );
    println!(
        "from a change's writing until a watcher has it, ms: p50 {}  p90 {}  p99 {}  longest {}; heard by {} of {}",
        ms(times.p50_us),
        ms(times.p90_us),
        ms(times.p99_us),
        ms(Some(times.max_us)),
        times.count,
        options.watchers
    );
    Ok(if times.count == u64::from(options.watchers) {
        Ended::Well
    } else {
        Ended::Poorly
    })
}

/// How long opening took, and how long each watcher's change took in microseconds.
async fn measure(
    options: &WatchersOptions,
    cells: &[Arc<Cell>],
    channels: &[Channel],
    writer: &Writer,
    stop: &Stop,
) -> anyhow::Result<(Duration, Histogram<u64>)> {
    let clock = Clock(Instant::now());
    let begun: Arc<Vec<AtomicU64>> = Arc::new(cells.iter().map(|_| AtomicU64::new(0)).collect());
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
    let opened = clock.0.elapsed();
    let mut listening = JoinSet::new();
    for (number, mut watch) in watches {
        let (begun, cell) = (Arc::clone(&begun), Arc::clone(&cells[number]));
        listening.spawn(async move {
            loop {
                let event = watch.message().await.ok()??.event?;
                if let Event::Upserted(entry) = event
                    && cell.version_of(&entry.value) == Some((1, true))
                {
                    let since = begun[number].load(Ordering::Acquire);
                    return Some(clock.us().saturating_sub(since));
                }
            }
        });
    }
    for (number, cell) in cells.iter().enumerate() {
        if stop.is_set() {
            break;
        }
        begun[number].store(clock.us(), Ordering::Release);
        writer.write(cell, 1).await?;
        tokio::time::sleep(BETWEEN).await;
    }
    let mut heard = histogram(3);
    let deadline = tokio::time::Instant::now() + LOST;
    while let Ok(Some(one)) = tokio::time::timeout_at(deadline, listening.join_next()).await {
        if let Some(us) = one.context("a watcher ended badly")? {
            heard.saturating_record(us.max(1));
        }
    }
    Ok((opened, heard))
}

/// A watch that has told its snapshot.
async fn open(cell: &Cell, channel: Channel) -> anyhow::Result<Streaming<WatchConfigResponse>> {
    let request = WatchConfigRequest {
        keys: vec![cell.key()],
    };
    let mut watch = ConfigServiceClient::new(channel)
        .watch_config(signed(request, &cell.caller.token(), CALL))
        .await?
        .into_inner();
    let mut told = false;
    while let Some(message) = watch.message().await? {
        match message.event {
            Some(Event::Upserted(_)) => told = true,
            Some(Event::InSync(true)) => {
                ensure!(told, "the snapshot lacks the key");
                return Ok(watch);
            }
            _ => {}
        }
    }
    anyhow::bail!("it ended before its snapshot was told")
}

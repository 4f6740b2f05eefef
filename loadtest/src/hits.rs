//! `loadtest hits`: one question at a fixed rate, with many tokens: what `make bench-peers` measures tails with, and floods
//! with tokens that were never seen. An open loop ([`open`]), so each answer is timed from when its question was due.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Serialize;
use tagged_config_proto::v1::{GetConfigRequest, config_service_client::ConfigServiceClient};
use tonic::transport::Channel;

use crate::{
    Ended,
    cli::HitsOptions,
    client::{RestClient, code_name, connect, signed},
    latency::open,
    recorder::{histogram, micros, per_second, quantiles},
    report::Quantiles,
    stop::Stop,
    tokens::Token,
};

/// How long a question may take.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_IN_FLIGHT: u32 = 10_000;
/// What a good answer that is too small is counted as.
const WRONG: &str = "too small";

/// What is printed.
#[derive(Serialize)]
struct Measured {
    answered_per_second: f64,
    /// Answers by gRPC code or HTTP status; good ones that are too small count apart.
    codes: BTreeMap<String, u64>,
    /// Why the rate was not sustained, if it was not.
    not_sustained_because: Option<String>,
    /// From when a question was due until its answer was there, whatever it was.
    times: Quantiles,
}

struct Asker {
    tokens: Vec<Token>,
    next: AtomicUsize,
    least_bytes: usize,
    way: Way,
}

enum Way {
    Grpc {
        channels: Vec<Channel>,
        key: String,
    },
    Rest {
        client: RestClient,
        url: String,
        body: Option<Vec<u8>>,
    },
}

struct Seen {
    times: Histogram<u64>,
    codes: BTreeMap<String, u64>,
}

/// `loadtest hits`.
pub(crate) async fn run(options: Box<HitsOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let file = &options.token_file;
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let tokens = text.lines().map(Token::new).collect::<Result<Vec<_>, _>>();
    let tokens = tokens.with_context(|| format!("{} holds no ID tokens", file.display()))?;
    ensure!(!tokens.is_empty(), "{} is empty", file.display());
    let asker = Arc::new(Asker {
        tokens,
        next: AtomicUsize::new(0),
        least_bytes: options.least_bytes,
        way: Way::of(&options).await?,
    });
    if let Some(warm_up) = options.warm_up {
        measure(&asker, options.rate, warm_up, &stop).await;
    }
    let measured = measure(&asker, options.rate, options.duration, &stop).await;
    println!("{}", serde_json::to_string(&measured)?);
    let is_good = measured.not_sustained_because.is_none() && !measured.codes.contains_key(WRONG);
    Ok(match (stop.is_set(), is_good) {
        (true, _) => Ended::Interrupted,
        (false, true) => Ended::Well,
        (false, false) => Ended::Poorly,
    })
}

async fn measure(asker: &Arc<Asker>, rate: f64, duration: Duration, stop: &Stop) -> Measured {
    let seen = Arc::new(Mutex::new(Seen {
        times: histogram(3),
        codes: BTreeMap::new(),
    }));
    let plan = open::Plan {
        rate,
        duration,
        max_in_flight: MAX_IN_FLIGHT,
        timeout: TIMEOUT,
    };
    let (asker, record) = (Arc::clone(asker), Arc::clone(&seen));
    let outcome = open::run(plan, stop, move |due: Instant| {
        let (asker, record) = (Arc::clone(&asker), Arc::clone(&record));
        async move {
            let code = asker.ask().await;
            let mut seen = record.lock();
            seen.times.saturating_record(micros(due.elapsed()));
            *seen.codes.entry(code).or_default() += 1;
        }
    })
    .await;
    let seen = seen.lock();
    Measured {
        answered_per_second: per_second(outcome.answered, outcome.seconds),
        codes: seen.codes.clone(),
        not_sustained_because: outcome.not_sustained,
        times: quantiles(&seen.times),
    }
}

impl Way {
    async fn of(options: &HitsOptions) -> anyhow::Result<Self> {
        if let (Some(address), Some(key)) = (&options.grpc, &options.key) {
            let mut channels = Vec::new();
            for _ in 0..options.connections {
                channels.push(connect(address).await?);
            }
            let key = key.clone();
            return Ok(Self::Grpc { channels, key });
        }
        let body = match &options.body {
            Some(file) => {
                let read = fs::read(file);
                Some(read.with_context(|| format!("cannot read {}", file.display()))?)
            }
            None => None,
        };
        Ok(Self::Rest {
            client: RestClient::new("", options.connections, TIMEOUT)?,
            url: options.url.clone().context("--grpc or --url is needed")?,
            body,
        })
    }

    /// The bytes of a good answer, or why there is none.
    async fn ask(&self, turn: usize, token: &Token) -> Result<usize, String> {
        match self {
            Self::Grpc { channels, key } => {
                let request = GetConfigRequest {
                    key: key.clone(),
                    ..Default::default()
                };
                let channel = &channels[turn % channels.len()];
                let mut client = ConfigServiceClient::new(channel.clone());
                let answer = client.get_config(signed(request, token, TIMEOUT)).await;
                let entry = answer.map_err(|status| code_name(status.code()))?;
                Ok(entry.get_ref().value.len())
            }
            Self::Rest { client, url, body } => {
                let request = match body {
                    Some(body) => client
                        .client()
                        .post(url)
                        .header(CONTENT_TYPE, "application/json")
                        .body(body.clone()),
                    None => client.client().get(url),
                };
                let sent = request.header(AUTHORIZATION, &token.header).send().await;
                let answer = sent.map_err(|_| "no answer".to_owned())?;
                let status = answer.status();
                let body = answer.bytes().await;
                if status.is_success() {
                    body.map(|body| body.len())
                        .map_err(|_| "half an answer".to_owned())
                } else {
                    Err(status.as_u16().to_string())
                }
            }
        }
    }
}

impl Asker {
    /// The next question; how it was answered.
    async fn ask(&self) -> String {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let token = &self.tokens[turn % self.tokens.len()];
        match self.way.ask(turn, token).await {
            Ok(bytes) if bytes >= self.least_bytes => "OK".to_owned(),
            Ok(_) => WRONG.to_owned(),
            Err(code) => code,
        }
    }
}

//! `loadtest hits`: one request at a fixed rate, with many tokens. `make bench-peers` uses it for tail latencies and for floods
//! of new tokens. An open loop ([`open`] or [`spin`]), so each answer is timed from when its request was
//! due.

mod grpc;
mod spin;

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tagged_config_proto::{
    REFRESH_CREDENTIAL_HEADER,
    v1::{self as pb, refresh_service_client::RefreshServiceClient},
};
use tagged_config_runtime::env::{Env, ProcessEnv};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use self::grpc::Grpc;
use crate::{
    Ended,
    cli::HitsOptions,
    client::{RestClient, connect},
    latency::open,
    recorder::{histogram, micros, per_second, quantiles},
    report::Quantiles,
    stop::Stop,
    tokens::Token,
};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_IN_FLIGHT: u32 = 10_000;
const CREDENTIAL: &str = "TAGGED_CONFIG_REFRESH_CREDENTIAL";
const REWRITTEN_EVERY: Duration = Duration::from_millis(100);
/// What a good answer that is too small is counted as.
const WRONG: &str = "too small";
const GOOD: &str = "OK";
/// Codes of requests without an answer: the connection failed, the answer ended early, or it took longer than [`TIMEOUT`].
const NO_ANSWER: &str = "no answer";
const HALF_AN_ANSWER: &str = "half an answer";
const TOO_LATE: &str = "no answer in time";

/// What is printed.
#[derive(Serialize)]
struct Measured {
    answered_per_second: f64,
    /// Answers by gRPC code or HTTP status; good ones that are too small count apart.
    codes: BTreeMap<String, u64>,
    /// Why the rate was not sustained, if it was not.
    not_sustained_because: Option<String>,
    /// How late requests left: the part of the times that is the load generator's own.
    lag: Quantiles,
    /// From when a request was due until its good answer was there.
    times: Quantiles,
    /// The same of all other answers: a quick refusal is not a fast answer.
    failed_times: Quantiles,
    /// How often the key was rewritten.
    rewritten: u64,
}

struct Sender {
    authorizations: Vec<HeaderValue>,
    next: AtomicUsize,
    least_bytes: usize,
    way: Way,
}

enum Way {
    Grpc(Grpc),
    Rest {
        client: RestClient,
        url: String,
        body: Option<Vec<u8>>,
    },
}

struct Seen {
    times: Histogram<u64>,
    failed_times: Histogram<u64>,
    codes: BTreeMap<String, u64>,
}

/// `loadtest hits`.
pub(crate) async fn run(options: Box<HitsOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let measured = if options.spin {
        let stop = stop.clone();
        // A runtime and a thread of its own: this one's workers would take processor time.
        let spinning = tokio::task::spawn_blocking(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build()?;
            runtime.block_on(warmed_up(&options, &stop))
        });
        spinning.await??
    } else {
        warmed_up(&options, &stop).await?
    };
    println!("{}", serde_json::to_string(&measured)?);
    let is_good = measured.not_sustained_because.is_none() && !measured.codes.contains_key(WRONG);
    Ok(match (stop.is_set(), is_good) {
        (true, _) => Ended::Interrupted,
        (false, true) => Ended::Well,
        (false, false) => Ended::Poorly,
    })
}

async fn warmed_up(options: &HitsOptions, stop: &Stop) -> anyhow::Result<Measured> {
    let sender = Arc::new(Sender::of(options).await?);
    if let Some(warm_up) = options.warm_up {
        measure(&sender, options, warm_up, stop).await;
    }
    let rewriter = Rewriter::of(options).await?;
    let measuring = measure(&sender, options, options.duration, stop);
    match rewriter {
        None => Ok(measuring.await),
        Some(mut rewriter) => {
            tokio::select! {
                measured = measuring => Ok(Measured { rewritten: rewriter.written, ..measured }),
                error = rewriter.run() => Err(error),
            }
        }
    }
}

async fn measure(
    sender: &Arc<Sender>,
    options: &HitsOptions,
    duration: Duration,
    stop: &Stop,
) -> Measured {
    let seen = Arc::new(Mutex::new(Seen {
        times: histogram(3),
        failed_times: histogram(3),
        codes: BTreeMap::new(),
    }));
    let plan = open::Plan {
        rate: options.rate,
        duration,
        max_in_flight: MAX_IN_FLIGHT,
        timeout: TIMEOUT,
    };
    let (sender, record) = (Arc::clone(sender), Arc::clone(&seen));
    let send = move |due: Instant| {
        let (sender, record) = (Arc::clone(&sender), Arc::clone(&record));
        async move {
            let code = sender.send().await;
            record.lock().record(code, due.elapsed());
        }
    };
    let outcome = if options.spin {
        spin::run(plan, stop, send).await
    } else {
        open::run(plan, stop, send).await
    };
    let seen = seen.lock();
    Measured {
        answered_per_second: per_second(outcome.answered, outcome.seconds),
        codes: seen.codes.clone(),
        not_sustained_because: outcome.not_sustained.map(|why| why.reason),
        lag: quantiles(&outcome.lag),
        times: quantiles(&seen.times),
        failed_times: quantiles(&seen.failed_times),
        rewritten: 0,
    }
}

/// Updates one key of some tenants, round-robin.
struct Rewriter {
    client: RefreshServiceClient<Channel>,
    credential: MetadataValue<Ascii>,
    locations: Vec<pb::Location>,
    value: String,
    written: u64,
}

impl Rewriter {
    async fn of(options: &HitsOptions) -> anyhow::Result<Option<Self>> {
        let (Some(address), Some(key)) = (&options.rewrite, &options.key) else {
            return Ok(None);
        };
        let name = key.strip_prefix("tenant_config_");
        let name = name.context("only a tenant_config_ key can be updated")?;
        let credential = ProcessEnv.get(CREDENTIAL);
        let credential = credential.with_context(|| format!("{CREDENTIAL} is not set"))?;
        let location = |tenant: &String| pb::Location {
            backend: "dynamodb".to_owned(),
            partition: format!("TENANT#{tenant}"),
            sort: format!("CONFIG#{name}"),
        };
        Ok(Some(Self {
            client: RefreshServiceClient::new(connect(address).await?),
            credential: credential.parse()?,
            locations: options.rewritten_tenants.iter().map(location).collect(),
            value: "y".repeat(options.least_bytes),
            written: 0,
        }))
    }

    /// Ends with an error only.
    async fn run(&mut self) -> anyhow::Error {
        let mut ticks = tokio::time::interval(REWRITTEN_EVERY);
        loop {
            ticks.tick().await;
            if let Err(status) = self.write().await {
                return anyhow::anyhow!("the key could not be updated: {status}");
            }
            self.written += 1;
        }
    }

    async fn write(&mut self) -> Result<(), Status> {
        let turn = usize::try_from(self.written).unwrap_or(0) % self.locations.len();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let version = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let value = pb::Value {
            checked: true,
            value: self.value.clone(),
            content_type: "text/plain".to_owned(),
            // In whole seconds, so that all answers have the same size.
            modified_ms: version / 1_000 * 1_000,
            ..Default::default()
        };
        let change = pb::Change {
            location: Some(self.locations[turn].clone()),
            version,
            written_at_ms: version,
            state: Some(pb::change::State::Value(value)),
            ..Default::default()
        };
        let mut request = Request::new(pb::RefreshRequest {
            changes: vec![change],
        });
        request
            .metadata_mut()
            .insert(REFRESH_CREDENTIAL_HEADER, self.credential.clone());
        self.client.refresh(request).await.map(drop)
    }
}

impl Seen {
    fn record(&mut self, code: String, took: Duration) {
        let times = if code == GOOD {
            &mut self.times
        } else {
            &mut self.failed_times
        };
        times.saturating_record(micros(took));
        *self.codes.entry(code).or_default() += 1;
    }
}

impl Way {
    async fn of(options: &HitsOptions) -> anyhow::Result<Self> {
        if let (Some(address), Some(key)) = (&options.grpc, &options.key) {
            let grpc = Grpc::connect(address, options.connections, key).await?;
            return Ok(Self::Grpc(grpc));
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
    async fn send(&self, turn: usize, authorization: &HeaderValue) -> Result<usize, String> {
        match self {
            Self::Grpc(grpc) => grpc.send(turn, authorization).await,
            Self::Rest { client, url, body } => {
                let request = match body {
                    Some(body) => client
                        .client()
                        .post(url)
                        .header(CONTENT_TYPE, "application/json")
                        .body(body.clone()),
                    None => client.client().get(url),
                };
                let sent = request.header(AUTHORIZATION, authorization).send().await;
                let answer = sent.map_err(|_| NO_ANSWER.to_owned())?;
                let status = answer.status();
                let body = answer.bytes().await;
                if status.is_success() {
                    body.map(|body| body.len())
                        .map_err(|_| HALF_AN_ANSWER.to_owned())
                } else {
                    Err(status.as_u16().to_string())
                }
            }
        }
    }
}

impl Sender {
    async fn of(options: &HitsOptions) -> anyhow::Result<Self> {
        let file = &options.token_file;
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let lines = text.lines().map(|line| authorization(line, options));
        let authorizations = lines
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{} holds no ID tokens", file.display()))?;
        ensure!(!authorizations.is_empty(), "{} is empty", file.display());
        Ok(Self {
            authorizations,
            next: AtomicUsize::new(0),
            least_bytes: options.least_bytes,
            way: Way::of(options).await?,
        })
    }

    /// The next request; how it was answered.
    async fn send(&self) -> String {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let authorization = &self.authorizations[turn % self.authorizations.len()];
        let answer = tokio::time::timeout(TIMEOUT, self.way.send(turn, authorization));
        match answer.await {
            Ok(Ok(bytes)) if bytes >= self.least_bytes => GOOD.to_owned(),
            Ok(Ok(_)) => WRONG.to_owned(),
            Ok(Err(code)) => code,
            Err(_) => TOO_LATE.to_owned(),
        }
    }
}

/// The header of one line. It is not marked as sensitive, so that HTTP/2 sends it once for each connection and then names it.
fn authorization(line: &str, options: &HitsOptions) -> anyhow::Result<HeaderValue> {
    if options.as_it_is {
        return Ok(HeaderValue::from_str(line)?);
    }
    let mut header = Token::new(line)?.header;
    header.set_sensitive(false);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::Ipv4Addr};

    use axum::{Router, http::HeaderMap, routing::post};
    use clap::Parser;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        baseline_target::tests::{SHAPE, started},
        cli::{Cli, Command},
        tokens::tests::TokenFile,
    };

    const KEY: &str = "tenant_config_loadtest/k0001";
    const SENT: u64 = 60;

    fn options(tokens: &TokenFile, target: &[&str]) -> Box<HitsOptions> {
        let file = tokens.path();
        let line = ["loadtest", "hits", "--token-file", file, "--rate", "200"];
        let line = line.iter().chain(&["--duration", "300ms"]).chain(target);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Hits(options) => options,
            _ => panic!("another command"),
        }
    }

    async fn measured(options: &HitsOptions) -> Measured {
        let sender = Arc::new(Sender::of(options).await.unwrap());
        measure(&sender, options, options.duration, &Stop::default()).await
    }

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_answer_that_is_too_small_is_no_good_one() {
        let (address, _) = started(&SHAPE).await;
        let tokens = TokenFile::new(&["lt-1"]);
        for (least, code, ended) in [("200", "OK", Ended::Well), ("201", WRONG, Ended::Poorly)] {
            let target = ["--grpc", &address, "--key", KEY, "--least-bytes", least];
            let options = options(&tokens, &target);
            let measured = measured(&options).await;
            assert_eq!(measured.codes, BTreeMap::from([(code.to_owned(), SENT)]));
            let mut options = options;
            options.spin = true;
            assert_eq!(run(options, Stop::default()).await.unwrap(), ended);
        }
    }

    /// What grpc.rs reads itself: a status in the trailers, one in the head, and a connection that is gone.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn refused_and_lost_calls_have_a_code_of_their_own() {
        let (address, _) = started(&SHAPE).await;
        let tokens = TokenFile::new(&["lt-1"]);
        let target = |key| ["--grpc", &*address, "--key", key, "--least-bytes", "1"];
        let sender = Sender::of(&options(&tokens, &target(KEY))).await.unwrap();
        assert_eq!(sender.send().await, GOOD);
        let Way::Grpc(grpc) = &sender.way else {
            panic!("another way")
        };
        let unknown = grpc.at("/tagged.config.v1.ConfigService/Unknown");
        let refused = unknown.send(0, &sender.authorizations[0]).await;
        assert_eq!(refused, Err("UNIMPLEMENTED".to_owned()));
        // A server that takes a call and is gone.
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    let _ = connection.accept().await;
                });
            }
        });
        let target = [
            "--grpc",
            &*address,
            "--key",
            "tenant_config_a",
            "--least-bytes",
            "1",
        ];
        let sender = Sender::of(&options(&tokens, &target)).await.unwrap();
        assert_eq!(sender.send().await, NO_ANSWER);
    }

    #[test]
    fn a_line_is_a_token_or_the_whole_header() {
        let tokens = TokenFile::new(&["lt-1"]);
        let mut options = options(&tokens, &["--url", "http://x", "--least-bytes", "1"]);
        assert!(authorization("*:production.key", &options).is_err());
        options.as_it_is = true;
        let header = authorization("*:production.key", &options).unwrap();
        assert_eq!(
            (header.to_str().unwrap(), header.is_sensitive()),
            ("*:production.key", false)
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_token_is_used_as_often_and_each_answer_is_counted_by_its_status() {
        let seen = Arc::new(Mutex::new(HashMap::<String, u64>::new()));
        let record = Arc::clone(&seen);
        let answer = async move |headers: HeaderMap, body: String| {
            let token = headers[AUTHORIZATION].to_str().unwrap().to_owned();
            let count = {
                let mut seen = record.lock();
                let count = seen.entry(token).or_default();
                *count += 1;
                *count
            };
            if count <= 5 {
                Ok(body)
            } else {
                Err(axum::http::StatusCode::TOO_MANY_REQUESTS)
            }
        };
        let (http, address) = listener().await;
        let routes = Router::new().route("/v1/orders", post(answer));
        tokio::spawn(async move { axum::serve(http, routes).await });
        let (tokens, url) = (
            TokenFile::new(&["lt-1", "lt-2", "lt-3"]),
            format!("http://{address}/v1/orders"),
        );
        // Any file will do as what is posted.
        let body = tokens.path();
        let measured = measured(&options(
            &tokens,
            &["--url", &url, "--body", body, "--least-bytes", "1"],
        ))
        .await;
        let codes = [("OK".to_owned(), 15), ("429".to_owned(), SENT - 15)];
        assert_eq!(measured.codes, BTreeMap::from(codes));
        assert_eq!(
            (measured.times.count, measured.failed_times.count),
            (15, 45)
        );
        assert_eq!(measured.lag.count, SENT);
        assert_eq!(
            seen.lock().values().copied().collect::<Vec<_>>(),
            [SENT / 3; 3]
        );
    }

    #[tokio::test]
    async fn what_cannot_be_measured_is_refused() {
        let says = async |tokens: &TokenFile, target: &[&str]| {
            let target = [target, &["--least-bytes", "1"]].concat();
            let error = run(options(tokens, &target), Stop::default())
                .await
                .unwrap_err();
            format!("{error:#}")
        };
        let (address, _) = started(&SHAPE).await;
        let nobody = ["--url", "http://127.0.0.1:1/"];
        assert!(
            says(&TokenFile::new(&[]), &nobody)
                .await
                .ends_with("is empty")
        );
        let tokens = TokenFile::new(&["lt-1"]);
        let closed = ["--grpc", "127.0.0.1:1", "--key", "tenant_config_a"];
        assert!(says(&tokens, &closed).await.contains("cannot reach"));
        let rewritten = [
            "--rewrite",
            &address,
            "--rewritten-tenants",
            "lt-1",
            "--grpc",
            &address,
        ];
        let key = [&rewritten[..], &["--key", "param_config_a"]].concat();
        assert!(
            says(&tokens, &key)
                .await
                .contains("only a tenant_config_ key")
        );
        let key = [&rewritten[..], &["--key", "tenant_config_a"]].concat();
        assert!(says(&tokens, &key).await.contains(CREDENTIAL));
    }
}

//! `loadtest hits`: one request at a fixed rate, with many tokens, one after the other. `make bench-peers` measures tails with
//! it, and floods servers with tokens that were never seen. An open loop like those of `loadtest latency`.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
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

use crate::{
    Ended,
    cli::HitsOptions,
    client::{Client, Expect, Operation, RestClient, Wanted, connect},
    latency::{open, open_phase},
    progress::Live,
    recorder::{Observation, quantiles, restored},
    report::{Phase, Quantiles},
    stop::Stop,
    tokens::Caller,
};

const MAX_IN_FLIGHT: u32 = 10_000;
const CREDENTIAL: &str = "TAGGED_CONFIG_REFRESH_CREDENTIAL";
const REWRITTEN_EVERY: Duration = Duration::from_millis(100);
const GOOD: &str = "OK";

/// What is printed.
#[derive(Debug, Serialize)]
struct Measured {
    answered_per_second: f64,
    /// Answers by code: `OK`, or why it is none.
    codes: BTreeMap<String, u64>,
    /// Why the rate was not sustained, if it was not; there are no times then.
    not_sustained_because: Option<String>,
    /// Why the times are the harness's as much as the server's, if they are. No failure: the caller has the lag.
    harness_limited_because: Option<String>,
    /// From when a request was due until its good answer was there.
    times: Quantiles,
    /// The same of requests that failed.
    failed_times: Quantiles,
    /// How long after they were due requests were sent.
    lag: Option<Quantiles>,
    /// How often the key was rewritten.
    rewritten: u64,
}

/// The request, and who sends it.
struct Sender {
    callers: Vec<Arc<Caller>>,
    next: AtomicUsize,
    client: Client,
    operation: Operation,
}

/// `loadtest hits`.
pub(crate) async fn run(options: Box<HitsOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let sender = Arc::new(Sender::of(&options).await?);
    if let Some(warm_up) = options.warm_up {
        sender.measure(&options, warm_up, &stop).await;
    }
    let rewriter = Rewriter::of(&options).await?;
    let measuring = sender.measure(&options, options.duration, &stop);
    let measured = match rewriter {
        None => measuring.await,
        Some(mut rewriter) => {
            tokio::select! {
                measured = measuring => Measured { rewritten: rewriter.written, ..measured },
                error = rewriter.run() => return Err(error),
            }
        }
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(match (stop.is_set(), measured.is_good(&options.expect)) {
        (true, _) => Ended::Interrupted,
        (false, true) => Ended::Well,
        (false, false) => Ended::Poorly,
    })
}

// === impl Measured ===

impl Measured {
    fn of(phase: Phase) -> Self {
        let mut codes = BTreeMap::new();
        for series in &phase.series {
            let failed: u64 = series.errors.values().sum();
            if series.count > failed {
                *codes.entry(GOOD.to_owned()).or_default() += series.count - failed;
            }
            for (code, count) in &series.errors {
                *codes.entry(code.clone()).or_default() += count;
            }
        }
        let times = |failed: bool| {
            let series = phase.series.iter();
            let selected = series.filter(|series| (series.result == "failed") == failed);
            quantiles(&restored(selected.flat_map(|series| &series.histogram)))
        };
        Self {
            answered_per_second: phase.answered_per_second,
            codes,
            times: times(false),
            failed_times: times(true),
            not_sustained_because: phase.not_sustained_because,
            harness_limited_because: phase.harness_limited_because,
            lag: phase.lag,
            rewritten: 0,
        }
    }

    /// Whether the rate was sustained, and each answer had an expected code.
    fn is_good(&self, expected: &[String]) -> bool {
        self.not_sustained_because.is_none()
            && self.codes.keys().all(|code| expected.contains(code))
    }
}

// === impl Sender ===

impl Sender {
    async fn of(options: &HitsOptions) -> anyhow::Result<Self> {
        let callers = Caller::from_file(&options.token_file)?;
        let at_least = options.least_bytes;
        let (client, operation) = if let (Some(address), Some(key)) = (&options.grpc, &options.key)
        {
            let addresses = std::slice::from_ref(address);
            let client = Client::grpc(addresses, options.connections, options.timeout, None);
            let wanted = Wanted {
                key: key.clone(),
                expect: Expect::AtLeast(at_least),
            };
            (client.await?, Operation::Get(wanted))
        } else {
            let url = options.url.as_ref().context("--grpc or --url is needed")?;
            let read = |file: &PathBuf| {
                fs::read(file).with_context(|| format!("cannot read {}", file.display()))
            };
            let body = options.body.as_ref().map(read).transpose()?.map(Into::into);
            let client = RestClient::new(url, options.connections, options.timeout)?;
            (Client::Rest(client), Operation::Fetch { body, at_least })
        };
        Ok(Self {
            callers,
            next: AtomicUsize::new(0),
            client,
            operation,
        })
    }

    async fn measure(
        self: &Arc<Self>,
        options: &HitsOptions,
        duration: Duration,
        stop: &Stop,
    ) -> Measured {
        let plan = open::Plan {
            rate: options.rate,
            duration,
            max_in_flight: MAX_IN_FLIGHT,
            timeout: options.timeout,
        };
        let sender = Arc::clone(self);
        let send = move |due| Arc::clone(&sender).send(due);
        Measured::of(open_phase(plan, stop, &Live::default(), send).await)
    }

    /// The next request.
    async fn send(self: Arc<Self>, due: Instant) -> Observation {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let caller = &self.callers[next % self.callers.len()];
        let answer = self.client.send(caller, &self.operation).await;
        Observation {
            scenario: "hits",
            operation: self.operation.name(),
            answer,
            took: due.elapsed(),
        }
    }
}

/// Writes one key of some tenants, one after the other.
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
        let name = name.context("only a key of tenant_config_ can be rewritten")?;
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
                return anyhow::anyhow!("the key could not be rewritten: {status}");
            }
            self.written += 1;
        }
    }

    async fn write(&mut self) -> Result<(), Status> {
        let next = usize::try_from(self.written).unwrap_or(0) % self.locations.len();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let version = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let value = pb::Value {
            value: self.value.clone(),
            content_type: "text/plain".to_owned(),
            // In whole seconds, so that all answers have the same size.
            modified_ms: version / 1_000 * 1_000,
        };
        let change = pb::Change {
            location: Some(self.locations[next].clone()),
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

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::Ipv4Addr};

    use axum::{
        Router,
        http::{HeaderMap, header::AUTHORIZATION},
        routing::post,
    };
    use clap::Parser;
    use parking_lot::Mutex;
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
        let line = ["loadtest", "hits", "--token-file", file, "--rate", "60"];
        let line = line.iter().chain(&["--duration", "1s"]).chain(target);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Hits(options) => options,
            _ => panic!("another command"),
        }
    }

    async fn measured(options: &HitsOptions) -> Measured {
        let sender = Arc::new(Sender::of(options).await.unwrap());
        sender
            .measure(options, options.duration, &Stop::default())
            .await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_answer_that_is_too_small_is_no_good_one() {
        let (address, _) = started(&SHAPE).await;
        let tokens = TokenFile::new(&["lt-1"]);
        for (least, code, expect, ended) in [
            ("200", GOOD, GOOD, Ended::Well),
            ("201", "too small", GOOD, Ended::Poorly),
            ("201", "too small", "OK,too small", Ended::Well),
        ] {
            let server = ["--grpc", &address, "--key", KEY];
            let wanted = ["--least-bytes", least, "--expect", expect];
            let options = options(&tokens, &[server, wanted].concat());
            let measured = measured(&options).await;
            assert_eq!(measured.codes, BTreeMap::from([(code.to_owned(), SENT)]));
            let (good, failed) = (measured.times.count, measured.failed_times.count);
            assert_eq!(
                (good, failed),
                if code == GOOD { (SENT, 0) } else { (0, SENT) }
            );
            assert_eq!(measured.lag.unwrap().count, SENT);
            assert_eq!(run(options, Stop::default()).await.unwrap(), ended);
        }
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
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = http.local_addr().unwrap();
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
        let codes = [("OK".to_owned(), 15), ("HTTP 429".to_owned(), SENT - 15)];
        assert_eq!(measured.codes, BTreeMap::from(codes));
        assert!(
            !measured.is_good(&[GOOD.to_owned()]),
            "a refused request is no fast one"
        );
        assert_eq!(
            (measured.times.count, measured.failed_times.count),
            (15, SENT - 15)
        );
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
                .contains("only a key of tenant_config_")
        );
        let key = [&rewritten[..], &["--key", "tenant_config_a"]].concat();
        assert!(says(&tokens, &key).await.contains(CREDENTIAL));
    }
}

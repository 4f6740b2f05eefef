//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{Usage, neighbours::Noise, scenarios::Mix, slo::Slo};

/// Measures Tagged Config: how fast it answers, and how long an update takes to be visible everywhere.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 measured, and every check passed; 1 failed, or the result is not trustworthy; 2 an SLO was breached or a \
comparison shows a regression; 64 the command line cannot be used; 130 interrupted, with the report written.

Where the system under test is comes from options, from --terraform, or from the environment: \
eval \"$(make -s local-env)\" after `make local`.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure latency by path and cache result, in a closed and in an open loop
    Latency(Box<LatencyOptions>),
    /// Raise the rate until the 99th percentile or the failures exceed a limit: the knee of each path
    Capacity(Box<CapacityOptions>),
    /// Run one rate for a long time, and test memory, descriptors and the 99th percentile for growth; exits 2 if one grows
    Soak(Box<SoakOptions>),
    /// Measure how long an update takes to be visible at every replica, the edge and in an order's price
    Staleness(Box<StalenessOptions>),
    /// Measure how much a noisy neighbour slows a quiet tenant's cold reads; exits 2 above --limit
    Neighbours(Box<NeighboursOptions>),
    /// Measure how long a change takes to reach many WatchConfig calls
    Watchers(Box<WatchersOptions>),
    /// Send one request at a fixed rate, with the tokens of a file in rotation; prints JSON
    Hits(Box<HitsOptions>),
    /// Inject faults into the local stack: compare the staleness of reads with the promised bounds, and audit the change history
    Chaos(Box<ChaosOptions>),
    /// Create the tenants, users and items that a load test reads
    Seed(SeedOptions),
    /// Remove what seed created
    Unseed(UnseedOptions),
    /// Write the HTML page of a result and print its table
    Report(ReportOptions),
    /// Compare results; exits 2 if the new ones are worse
    Compare(CompareOptions),
    /// Print the JSON schema of results
    Schema,
    /// The baseline target that the harness measures itself with
    #[command(hide = true)]
    BaselineTarget(BaselineOptions),
}

/// Where the system under test is. What is not given is taken from Terraform's outputs, then from the environment.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Where {
    /// Take what is missing from `terraform output -json` in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) terraform: Option<PathBuf>,
    /// Take what is missing from a file that `terraform output -json` wrote
    #[arg(long, value_name = "FILE", conflicts_with = "terraform")]
    pub(crate) outputs: Option<PathBuf>,
    /// Base URL of the edge [env: API_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) api_url: Option<String>,
    /// Base URL of the load balancer [env: ALB_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) alb_url: Option<String>,
    /// Base URL of order-service [env: ORDER_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) order_url: Option<String>,
    /// gRPC addresses of the replicas, comma-separated [env: CONFIG_GRPC, or found by CLOUD_MAP_NAMESPACE]
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub(crate) grpc: Vec<String>,
    /// HTTP addresses of the replicas, for their metrics [env: CONFIG_HTTP]
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub(crate) http: Vec<String>,
    /// Cognito's user pool [env: USER_POOL_ID]
    #[arg(long, value_name = "ID")]
    pub(crate) user_pool_id: Option<String>,
    /// The pool's app client [env: CLIENT_ID]
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// The configuration table [env: TABLE_NAME]
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// The root of the parameters [env: PARAMETER_ROOT]
    #[arg(long, value_name = "PATH")]
    pub(crate) parameter_root: Option<String>,
    /// The bucket of blobs [env: BLOB_BUCKET]
    #[arg(long, value_name = "NAME")]
    pub(crate) blob_bucket: Option<String>,
    /// What the names of secrets begin with [env: SECRET_ROOT]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) secret_root: Option<String>,
    /// The invalidator's log group, where its receipts are [env: INVALIDATOR_LOG_GROUP]
    #[arg(long, value_name = "NAME")]
    pub(crate) log_group: Option<String>,
}

/// The data that is read.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shape {
    /// Tenants
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tenants: u32,
    /// Keys of each tenant
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) keys: u32,
    /// Bytes of each value
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(64..=262_144))]
    pub(crate) value_bytes: u32,
}

/// Output files, and the SLOs that the result must meet.
#[derive(Args, Clone, Debug)]
pub(crate) struct Output {
    /// Folder for result.json and report.html
    #[arg(
        long,
        default_value = "target/loadtest",
        value_name = "DIR",
        overrides_with = "out"
    )]
    pub(crate) out: PathBuf,
    /// An SLO on the result, such as 'grpc.hit.p99<2ms', 'grpc.hit.share>99%', 'staleness.dynamodb.p99<1s' or 'errors<0.1%'; a
    /// breach exits 2
    #[arg(long = "slo", value_name = "SLO")]
    pub(crate) slos: Vec<Slo>,
    /// Number of runs, written to the folders 1, 2, ... of --out; prints the median and range of each figure
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) export: Export,
}

/// Export formats of a result.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Export {
    /// Also write every figure as CSV
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Also write a JUnit file: a test case for each SLO and for each promise
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

impl Output {
    /// Makes the folder, and tries to write into it: a run whose result cannot be kept is refused before it measures.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let folder = self.out.display();
        let refused = |error: std::io::Error| Usage(format!("--out {folder}: {error}"));
        std::fs::create_dir_all(&self.out).map_err(refused)?;
        let probe = self.out.join("result.draft");
        std::fs::write(&probe, "{}").map_err(refused)?;
        std::fs::remove_file(&probe).map_err(refused)?;
        Ok(())
    }
}

/// Where the load goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Target {
    /// The public API: REST through WAF, API Gateway and load balancer
    Edge,
    /// REST through the load balancer
    Alb,
    /// gRPC to the replicas, orders to order-service
    Grpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Loop {
    /// Users who send the next request when they have their answer: measures throughput
    Closed,
    /// Requests at a fixed rate, independent of the answers, each timed from when it was due: measures latency at that rate
    Open,
}

/// Options of a load.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadOptions {
    /// Weighted scenarios: hot, mixed, batch, writers, orders, blob, secret, and rest (not over gRPC); by default a mix for the
    /// target, without blob and secret
    #[arg(long, value_name = "NAME=WEIGHT,...")]
    pub(crate) scenarios: Option<Mix>,
    /// Over gRPC, connections to each replica; over REST, pools of connections: a slow answer makes its pool open another one
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) connections: u32,
    /// How long a request may take before it counts as failed
    #[arg(long, default_value = "10s", value_parser = duration, overrides_with = "timeout")]
    pub(crate) timeout: Duration,
    /// Highest number of requests of an open loop in flight
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) max_in_flight: u32,
    /// An open loop whose lag is above this, and above a fifth of the answers' times (99th percentiles), is harness-limited
    #[arg(long, default_value = "1ms", value_parser = duration)]
    pub(crate) max_lag: Duration,
    /// Skew of the Zipf distribution over tenants and keys
    #[arg(long, default_value_t = 1.0, value_parser = skew)]
    pub(crate) zipf: f64,
    /// Use the ID tokens in this file, one per line, instead of signing in; their tenants must be seeded ones
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LatencyOptions {
    /// Where the load goes; several are measured one after the other
    #[arg(long = "target", default_values = ["grpc"], value_delimiter = ',')]
    pub(crate) targets: Vec<Target>,
    /// Loops to run
    #[arg(long = "loop", default_values = ["closed", "open"], value_delimiter = ',')]
    pub(crate) loops: Vec<Loop>,
    /// Users of the closed loop
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) users: u32,
    /// Requests a second of the open loop, over gRPC
    #[arg(long, default_value_t = 500.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Requests a second of the open loop, through load balancer or edge
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    pub(crate) rest_rate: f64,
    /// How long each loop of each target is measured, and its baseline before it
    #[arg(long, default_value = "15s", value_parser = duration, overrides_with = "duration")]
    pub(crate) duration: Duration,
    /// How long each loop runs before it is measured
    #[arg(long, default_value = "3s", value_parser = duration, overrides_with = "warm_up")]
    pub(crate) warm_up: Duration,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CapacityOptions {
    /// Where the load goes; several are measured one after the other
    #[arg(long = "target", default_values = ["grpc"], value_delimiter = ',')]
    pub(crate) targets: Vec<Target>,
    /// Requests a second of the first step, over gRPC
    #[arg(long, default_value_t = 500.0, value_parser = rate, overrides_with = "from")]
    pub(crate) from: f64,
    /// Requests a second of the first step, through load balancer or edge
    #[arg(long, default_value_t = 50.0, value_parser = rate, overrides_with = "rest_from")]
    pub(crate) rest_from: f64,
    /// Highest rate of a step
    #[arg(long, default_value_t = 100_000.0, value_parser = rate)]
    pub(crate) max_rate: f64,
    /// The search ends when the rate that broke is less than this above the one that held
    #[arg(long, default_value = "10%", value_parser = percent)]
    pub(crate) precision: f64,
    /// A step holds if the 99th percentile of all requests is at most this; a failed request counts as above it
    #[arg(long, default_value = "10ms", value_parser = duration, overrides_with = "p99")]
    pub(crate) p99: Duration,
    /// How long each step is measured
    #[arg(long, default_value = "3s", value_parser = duration, overrides_with = "duration")]
    pub(crate) duration: Duration,
    /// How long each step runs before it is measured
    #[arg(long, default_value = "500ms", value_parser = duration, overrides_with = "warm_up")]
    pub(crate) warm_up: Duration,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SoakOptions {
    /// Where the load goes
    #[arg(long, default_value = "grpc")]
    pub(crate) target: Target,
    /// Requests a second
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// How long the load is measured
    #[arg(long, default_value = "30m", value_parser = duration, overrides_with = "duration")]
    pub(crate) duration: Duration,
    /// How long the load runs before it is measured, so that caches fill
    #[arg(long, default_value = "1m", value_parser = duration, overrides_with = "warm_up")]
    pub(crate) warm_up: Duration,
    /// Length of a window: each has one 99th percentile and one sample of memory and descriptors
    #[arg(long, default_value = "1m", value_parser = duration, overrides_with = "window")]
    pub(crate) window: Duration,
    /// Allowed growth of memory and descriptors over the run, as a part of the median; five times this for the 99th
    /// percentile. Above it, the exit code is 2
    #[arg(long, default_value = "10%", value_parser = percent)]
    pub(crate) max_growth: f64,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Source {
    /// UpdateItem by DynamoDB's own API
    Dynamodb,
    /// PutConfig by the service's API
    PutConfig,
    /// PutParameter by Parameter Store's own API
    ParameterStore,
    /// PutObject by S3's own API
    S3,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StalenessOptions {
    /// How updates are made
    #[arg(long = "source", default_values = ["dynamodb", "put-config", "parameter-store"], value_delimiter = ',')]
    pub(crate) sources: Vec<Source>,
    /// Updates a second by DynamoDB, by PutConfig and by S3, each
    #[arg(long, default_value_t = 5.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Updates a second by Parameter Store (the account has some 3 PutParameter calls a second by default)
    #[arg(long, default_value_t = 2.0, value_parser = rate)]
    pub(crate) parameter_rate: f64,
    /// How long updates are made, for each background load: a 99th percentile with an interval needs 368 updates
    #[arg(long, default_value = "200s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Locations that each source updates, round-robin; each is an item of a separate tenant
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) cells: u32,
    /// Background load in gRPC reads a second; several are measured one after the other
    #[arg(long, default_values = ["0", "500"], value_delimiter = ',', value_parser = rate_or_none)]
    pub(crate) background: Vec<f64>,
    /// An update that is not visible after this time is lost [default: the bound that the replicas promise]
    #[arg(long, value_parser = duration)]
    pub(crate) lost_after: Option<Duration>,
    /// Seed of the gaps between updates, which are random, and of the jitter of polls
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Mean interval between reads of a replica that lags
    #[arg(long, default_value = "2ms", value_parser = duration)]
    pub(crate) poll: Duration,
    /// Mean interval between reads of the edge or order-service while they lag
    #[arg(long, default_value = "25ms", value_parser = duration)]
    pub(crate) edge_poll: Duration,
    /// Do not observe through the edge
    #[arg(long)]
    pub(crate) no_edge: bool,
    /// Do not observe order prices
    #[arg(long)]
    pub(crate) no_orders: bool,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) place: Where,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NeighboursOptions {
    /// What the noisy neighbour does; one after the other
    #[arg(long, default_values = ["secrets", "lists", "batches", "watches", "writes", "all"], value_delimiter = ',')]
    pub(crate) noise: Vec<Noise>,
    /// Cold reads of the quiet tenant per second, from each backend
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// How long the quiet tenant is measured alone, and again beside each noise
    #[arg(long, default_value = "6s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Number of rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// The quiet tenant's p99 beside a noise may be this many times its p99 alone; above it, the exit code is 2
    #[arg(long, default_value_t = 2.0, value_parser = rate)]
    pub(crate) limit: f64,
    /// There is no verdict if requests are sent later than this, and later than a fifth of the answers' times (99th percentiles)
    #[arg(long, default_value = "1ms", value_parser = duration, overrides_with = "max_lag")]
    pub(crate) max_lag: Duration,
    #[command(flatten)]
    pub(crate) place: Where,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct WatchersOptions {
    /// WatchConfig calls, spread over tenants and replicas
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) watchers: u32,
    /// Tenants, each with one key that changes once
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) tenants: u32,
    /// Connections to each replica; one carries at most 1,024 calls
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) connections: u32,
    #[command(flatten)]
    pub(crate) place: Where,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct HitsOptions {
    /// gRPC address of one server, where a key is read
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "key",
        conflicts_with = "url"
    )]
    pub(crate) grpc: Option<String>,
    /// The key
    #[arg(long, conflicts_with = "url")]
    pub(crate) key: Option<String>,
    /// A URL to get, or to post to
    #[arg(long, required_unless_present = "grpc")]
    pub(crate) url: Option<String>,
    /// File with the JSON body to post
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) body: Option<PathBuf>,
    /// Minimum bytes of a correct answer: of the value, or of the body
    #[arg(long, value_name = "BYTES")]
    pub(crate) least_bytes: usize,
    /// ID tokens, one per line; the requests use them in rotation
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// Send each line unchanged as the Authorization header: it is not an ID token
    #[arg(long)]
    pub(crate) as_it_is: bool,
    /// Requests a second
    #[arg(long, value_parser = rate)]
    pub(crate) rate: f64,
    /// Send from one busy-waiting thread, for rates above 10,000 a second; uses a whole processor
    #[arg(long)]
    pub(crate) spin: bool,
    /// How long requests are sent
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long requests are sent before they are measured
    #[arg(long, value_parser = duration)]
    pub(crate) warm_up: Option<Duration>,
    /// Address of the server's refresh port: also update the key of these tenants, one every 100 ms in rotation, as
    /// the invalidator does; the credential is TAGGED_CONFIG_REFRESH_CREDENTIAL
    #[arg(long, value_name = "HOST:PORT", requires_all = ["grpc", "rewritten_tenants"])]
    pub(crate) rewrite: Option<String>,
    /// The tenants whose key is updated
    #[arg(long, value_name = "TENANT,...", value_delimiter = ',')]
    pub(crate) rewritten_tenants: Vec<String>,
    /// Over gRPC, connections; over REST, pools of connections: a slow answer makes its pool open another one
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) connections: u32,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ChaosOptions {
    /// Random seeds: every fault is injected once for each
    #[arg(long = "seed", default_values = ["1"], value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    /// Only these faults, by name; an unknown name lists all
    #[arg(long = "fault", value_delimiter = ',')]
    pub(crate) faults: Vec<String>,
    /// How long updates are made under each fault
    #[arg(long, default_value = "6s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Reads of quiet tenants per second during each fault
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    pub(crate) quiet_rate: f64,
    /// Check every fault against this promise instead of its own. Every update breaks 0ms: a test of the checker
    #[arg(long, hide = true, value_parser = promise)]
    pub(crate) promise: Option<Duration>,
    #[command(flatten)]
    pub(crate) place: Where,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct SeedOptions {
    /// Also make what the scenario blob reads: 9.3 MiB of blobs for each of at most four tenants
    #[arg(long)]
    pub(crate) blobs: bool,
    /// Also make what the scenario secret reads: a secret for each of at most four tenants
    #[arg(long)]
    pub(crate) secrets: bool,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Args, Debug)]
pub(crate) struct UnseedOptions {
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Args, Debug)]
pub(crate) struct BaselineOptions {
    /// Bytes of each value
    #[arg(long, default_value_t = 200)]
    pub(crate) value_bytes: u32,
}

#[derive(Args, Debug)]
pub(crate) struct ReportOptions {
    /// A result
    #[arg(default_value = "target/loadtest/result.json")]
    pub(crate) result: PathBuf,
    /// The page to write
    #[arg(
        long,
        value_name = "FILE",
        help = "The page to write [default: report.html beside the result]"
    )]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) export: Export,
}

#[derive(Args, Debug)]
#[command(
    override_usage = "loadtest compare [OPTIONS] BASE NEW\n       loadtest compare [OPTIONS] BASE... -- NEW..."
)]
pub(crate) struct CompareOptions {
    /// The base result and the new one; or, before --, several base results. A folder stands
    /// for the results that --repeat wrote into it
    #[arg(required = true, value_name = "RESULT")]
    pub(crate) results: Vec<PathBuf>,
    /// New results
    #[arg(last = true, value_name = "NEW")]
    pub(crate) new: Vec<PathBuf>,
    /// Compare results even if their settings or machines differ
    #[arg(long)]
    pub(crate) force: bool,
    /// Also write a page with both results overlaid
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// A figure that is worse by more than this is a regression
    #[arg(long, default_value = "20%", value_parser = percent)]
    pub(crate) threshold: f64,
    /// Differences below this are noise, whatever their ratio
    #[arg(long, default_value = "100us", value_parser = duration)]
    pub(crate) noise: Duration,
}

impl Loop {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

impl Target {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Alb => "alb",
            Self::Grpc => "grpc",
        }
    }
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dynamodb => "dynamodb",
            Self::PutConfig => "put-config",
            Self::ParameterStore => "parameter-store",
            Self::S3 => "s3",
        }
    }
}

/// Without duplicates.
pub(crate) fn distinct<T: Clone + PartialEq>(given: &[T]) -> Vec<T> {
    given.iter().fold(Vec::new(), |mut kept, one| {
        if !kept.contains(one) {
            kept.push(one.clone());
        }
        kept
    })
}

fn between(text: &str, low: f64, high: f64) -> Result<f64, String> {
    match f64::from_str(text) {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("must be a number from {low} to {high}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    between(text, 0.01, 1e6)
}

fn promise(text: &str) -> Result<Duration, String> {
    if text == "0ms" {
        Ok(Duration::ZERO)
    } else {
        duration(text)
    }
}

fn rate_or_none(text: &str) -> Result<f64, String> {
    if text == "0" { Ok(0.0) } else { rate(text) }
}

fn skew(text: &str) -> Result<f64, String> {
    between(text, 0.01, 10.0)
}

/// A fraction, from `20%`.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text
        .strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok());
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .map(|number| number / 100.0)
        .ok_or_else(|| "must be a percentage such as 20%".to_owned())
}

/// A length of time with its unit: `15s`, `2ms`, `100us`, `5m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "must be a time with its unit, such as 15s, 2ms, 100us or 5m".to_owned();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(bad)?;
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit {
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(bad()),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero() && *duration <= Duration::from_hours(24))
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The Makefile passes options, and the user's ARGS come after them.
    #[test]
    fn the_last_one_counts() {
        let given = ["--duration", "1s", "--out", "a", "--slo", "errors<1%"];
        let again = ["--duration", "2s", "--out", "b", "--slo", "errors<2%"];
        let line = ["loadtest", "latency"].iter().chain(&given).chain(&again);
        let Command::Latency(options) = Cli::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        assert_eq!(options.duration, Duration::from_secs(2));
        assert_eq!(options.output.out, PathBuf::from("b"));
        assert_eq!(options.output.slos.len(), 2, "SLOs add up");
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("100us"), Ok(Duration::from_micros(100)));
        for bad in ["", "5", "s", "0s", "1h30", "-1s", "1e9s", "25000m", ".s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(percent("20%"), Ok(0.2));
        for bad in ["x%", "NaN%", "20", "-1%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_bounded() {
        assert_eq!((rate("0.5"), rate_or_none("0")), (Ok(0.5), Ok(0.0)));
        for bad in ["0", "-1", "1e-20", "1e15", "NaN", "inf", "x"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(distinct(&[2, 1, 2]), [2, 1]);
    }
}

//! Builds everything, binds early, serves, and drains on a signal.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tagged_config_auth::{Authenticator, Jwks};
use tagged_config_domain::{Backend, TokenRules};
use tagged_config_proto::PUBLIC_DESCRIPTOR_SET;
use tagged_config_runtime::{
    shutdown::{DRAIN_LIMIT, Readiness, shutdown_pair},
    tasks::{critical_task_panicked, spawn_critical},
};
use tagged_config_stores::{History, Journal, Stores, aws};
use tagged_config_web as web;
use tokio::{net::TcpListener, time::timeout};
use tonic::service::Routes;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

use crate::{
    api::ConfigApi,
    api::{guard::Guard, page_token::PageTokens, schema},
    cache::{Cache, CacheConfig, Surroundings},
    change::pause::{self, PauseDetector},
    change::sweep::{PAUSE, SweepHealth, Sweeper},
    change::{Changes, unix_ms},
    config::Config,
    tasks::Tasks,
    telemetry::emf,
    telemetry::metrics::Metrics,
    transport::connection::{incoming, server},
    transport::grpc::{
        Shared,
        calls::{CALL_TIMEOUT, GrpcCalls},
    },
    transport::http::{HttpState, router},
    transport::refresh,
    transport::writes::Writes,
    watch::registry::WatchRegistry,
};

/// Most connections of a gRPC listener. A client process holds one or two, whatever it watches; the invalidator one.
const MAX_GRPC_CONNECTIONS: usize = 1_024;
const MAX_REFRESH_CONNECTIONS: usize = 128;
/// Largest request to what needs no token, health and reflection: a service's name.
const MAX_OPEN_REQUEST_BYTES: usize = 1024;
/// For those, and after the public service's own limit: time in which a call's answer must begin.
const OPEN_CALL_TIMEOUT: Duration = Duration::from_secs(35);

/// The service, bound to its addresses.
pub(crate) struct App {
    config: Config,
    grpc: TcpListener,
    refresh: TcpListener,
    http: TcpListener,
}

impl App {
    /// Binds all listeners, so that a taken port shows before anything else happens.
    pub(crate) async fn bind(config: Config) -> anyhow::Result<Self> {
        let listen = &config.listen;
        let grpc = bind(listen.grpc, "TAGGED_CONFIG_GRPC_ADDR").await?;
        let refresh = bind(listen.refresh, "TAGGED_CONFIG_REFRESH_ADDR").await?;
        let http = bind(listen.http, "TAGGED_CONFIG_HTTP_ADDR").await?;
        Ok(Self {
            config,
            grpc,
            refresh,
            http,
        })
    }

    /// Serves until `stop` ends, then drains for as long as the task may.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            config,
            grpc,
            refresh,
            http,
        } = self;
        let sdk = aws::sdk_config().await;
        let metrics = Metrics::new();
        let clock = pause::system_clock();
        let sweeps = Arc::new(SweepHealth::new(Arc::clone(&clock), config.sweep_interval));
        let pauses = Arc::new(PauseDetector::new(clock, PAUSE));
        let cache = new_cache(config.cache, &pauses, &metrics);
        let stores = Stores::build(config.stores, &sdk);
        let history = config.history.map(|history| History::new(&sdk, history));
        let guard = new_guard(&stores, &cache, history.as_ref(), &metrics);
        let changes = Arc::new(Changes::new(
            stores.clone(),
            Arc::clone(&cache),
            Arc::clone(&metrics),
            guard.clone(),
        ));
        let sweeper = Sweeper::new(
            config.journal.map(|table| Journal::new(&sdk, table)),
            config.sweep_interval,
            Arc::clone(&changes),
            pauses,
            Arc::clone(&sweeps),
            Arc::clone(&metrics),
        );
        let backends = stores.backends();
        let rules = TokenRules::new(&config.auth.issuer, &config.auth.audience);
        let jwks = Jwks::new(&config.auth.jwks_url)
            .await
            .context("TAGGED_CONFIG_JWKS_URL")?;
        let authenticator = Arc::new(Authenticator::new(rules, jwks));
        let api = ConfigApi::new(
            stores,
            cache,
            Arc::clone(&changes),
            sweeps,
            Arc::clone(&metrics),
            PageTokens::new(config.refresh.exposed()),
            Arc::clone(&config.instance),
        );
        let tasks = Tasks::configured(&sdk, config.tasks, &config.refresh);
        let api = Arc::new(
            api.with_guard(guard)
                .with_history(history)
                .with_tasks(tasks),
        );
        let readiness = Readiness::default();
        let (trigger, shutdown) = shutdown_pair();
        let (health_reporter, health) = tonic_health::server::health_reporter();
        set_serving(&health_reporter, ServingStatus::NotServing).await;

        let keys = {
            let authenticator = Arc::clone(&authenticator);
            spawn_critical("keys", async move { authenticator.keep_fresh().await })
        };
        let sweeper = spawn_critical("sweeper", sweeper.run());
        let emf = config.emf_interval.map(|interval| {
            let (metrics, api) = (Arc::clone(&metrics), Arc::clone(&api));
            let (keys, stop) = (Arc::clone(&authenticator), shutdown.wait());
            let emit = emit_metrics(interval, metrics, api, keys, backends, stop);
            // Alarms read what it writes.
            spawn_critical("metrics", emit)
        });
        // Each process has an age of its own, so that the tasks of one deployment do not all reconnect at once.
        let connection_age = config
            .listen
            .max_connection_age
            .mul_f64(1.0 - 0.2 * fastrand::f64());
        let writes = Writes::default();
        let calls = GrpcCalls::new(Shared {
            api: Arc::clone(&api),
            authenticator: Arc::clone(&authenticator),
            writes: writes.clone(),
            connection_age,
            stop: shutdown.clone(),
        });
        let grpc_server = server(connection_age)
            .timeout(OPEN_CALL_TIMEOUT)
            .add_routes(open_services(health)?.add_service(calls))
            .serve_with_incoming_shutdown(
                incoming(grpc, MAX_GRPC_CONNECTIONS, connection_age, shutdown.clone()),
                shutdown.wait(),
            );
        let refresh_server = server(connection_age)
            .timeout(CALL_TIMEOUT)
            .add_service(refresh::service(changes, config.refresh, config.instance))
            .serve_with_incoming_shutdown(
                incoming(
                    refresh,
                    MAX_REFRESH_CONNECTIONS,
                    connection_age,
                    shutdown.clone(),
                ),
                shutdown.wait(),
            );
        let state = HttpState {
            api,
            authenticator: Arc::clone(&authenticator),
            metrics,
            readiness: readiness.clone(),
            writes: writes.clone(),
        };
        let routes = router(
            Arc::new(state),
            config.listen.path_prefix.as_ref(),
            &config.listen.allowed_origins,
        );
        let http_server = web::serve(http, routes, web::MAX_CONNECTIONS, shutdown);

        let mut servers = tokio::spawn(async move {
            tokio::try_join!(
                async { grpc_server.await.context("the gRPC listener") },
                async { refresh_server.await.context("the refresh listener") },
                async {
                    http_server.await;
                    Ok(())
                },
            )?;
            // The last call has ended, but perhaps not the write that it sent.
            writes.finished().await;
            anyhow::Ok(())
        });
        tracing::info!(
            grpc = %config.listen.grpc, http = %config.listen.http, refresh = %config.listen.refresh, "listening"
        );
        tokio::select! {
            ended = &mut servers => return ended?,
            task = critical_task_panicked() => anyhow::bail!("the task {task} panicked"),
            () = stop => {}
            () = serve(&authenticator, &readiness, &health_reporter) => {}
        }
        readiness.set(false);
        set_serving(&health_reporter, ServingStatus::NotServing).await;
        tokio::time::sleep(config.listen.drain_delay).await;
        trigger.fire();
        let drained = timeout(DRAIN_LIMIT, &mut servers).await;
        keys.abort();
        sweeper.abort();
        if let Some(emf) = emf {
            emf.await?;
        }
        if let Ok(ended) = drained {
            ended??;
        } else {
            tracing::warn!(limit = ?DRAIN_LIMIT, "calls were still running when the drain ended");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

fn new_cache(
    config: CacheConfig,
    pauses: &Arc<PauseDetector>,
    metrics: &Arc<Metrics>,
) -> Arc<Cache> {
    let surroundings = Surroundings {
        jitter: fastrand::f64,
        unix_ms,
    };
    let (pauses, metrics) = (Arc::clone(pauses), Arc::clone(metrics));
    let registry = WatchRegistry::new();
    Arc::new(Cache::new(config, surroundings, pauses, registry, metrics))
}

fn new_guard(
    stores: &Stores,
    cache: &Arc<Cache>,
    history: Option<&History>,
    metrics: &Arc<Metrics>,
) -> Option<Arc<Guard>> {
    let schemas = Arc::clone(stores.route(schema::TAG).ok()?);
    let (cache, metrics) = (Arc::clone(cache), Arc::clone(metrics));
    Some(Arc::new(Guard::new(
        schemas,
        cache,
        history.cloned(),
        metrics,
    )))
}

/// Is ready from the first keys on: a deployment whose keys cannot be fetched must not replace tasks that work. Does not end.
async fn serve(keys: &Authenticator<Jwks>, readiness: &Readiness, health: &HealthReporter) {
    keys.has_keys().await;
    readiness.set(true);
    set_serving(health, ServingStatus::Serving).await;
    tracing::info!("serving");
    std::future::pending::<()>().await;
}

/// What needs no token: health, and reflection of the public service.
fn open_services<H: Health>(health: HealthServer<H>) -> anyhow::Result<Routes> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(PUBLIC_DESCRIPTOR_SET)
    };
    let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    Ok(
        Routes::new(health.max_decoding_message_size(MAX_OPEN_REQUEST_BYTES))
            .add_service(v1.max_decoding_message_size(MAX_OPEN_REQUEST_BYTES))
            .add_service(v1alpha.max_decoding_message_size(MAX_OPEN_REQUEST_BYTES)),
    )
}

/// Writes the metrics for CloudWatch, the keys' age among them.
async fn emit_metrics(
    interval: Duration,
    metrics: Arc<Metrics>,
    api: Arc<ConfigApi>,
    keys: Arc<Authenticator<Jwks>>,
    backends: Vec<Backend>,
    stop: impl Future<Output = ()>,
) {
    let sampled = Arc::clone(&metrics);
    let sample = || {
        sampled.set_keys_age(keys.keys_age());
        api.gauges()
    };
    emf::emit_every(interval, metrics, sample, backends, stop).await;
}

/// Of the public service, and of the process as a whole.
async fn set_serving(reporter: &HealthReporter, status: ServingStatus) {
    let service = <GrpcCalls<Jwks> as tonic::server::NamedService>::NAME;
    for name in [service, ""] {
        reporter.set_service_status(name, status).await;
    }
}

async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({variable})"))
}

/// Waits for the signal; a process that cannot receive signals stops at once.
pub(crate) async fn until_signalled() {
    if let Err(error) = tagged_config_runtime::shutdown::stop_signal().await {
        tracing::error!(%error, "cannot listen for signals");
    }
}

#[cfg(test)]
mod tests;

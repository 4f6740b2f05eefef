//! Builds everything, binds early, serves, and drains when told to.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tagged_config_auth::{Authenticator, Jwks};
use tagged_config_domain::TokenRules;
use tagged_config_proto::{
    DESCRIPTOR_SET,
    v1::{
        config_service_server::ConfigServiceServer, refresh_service_server::RefreshServiceServer,
    },
};
use tagged_config_runtime::shutdown::{DRAIN_LIMIT, Readiness, shutdown_pair};
use tagged_config_stores::{Journal, Stores, aws};
use tokio::{net::TcpListener, time::timeout};
use tonic::transport::Server;

use crate::{
    api::ConfigApi,
    api::page_token::PageTokens,
    cache::Cache,
    change::Changes,
    change::pause::{self, Trust},
    change::sweep::{PAUSE, SweepHealth, Sweeper},
    config::Config,
    telemetry::emf,
    telemetry::metrics::Metrics,
    transport::connection::{CONNECTION_GRACE, incoming},
    transport::grpc::GrpcService,
    transport::http::{HttpState, router},
    transport::refresh::Refresh,
    watch::registry::Hub,
};

/// HTTP/2 pings that find dead peers.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a connection may use at once: one caller must not starve others.
const MAX_STREAMS: u32 = 1_024;
/// Largest request: a value, with room for the key and the framing; and a batch of changes.
const MAX_REQUEST_BYTES: usize = 512 * 1024;
const MAX_REFRESH_BYTES: usize = 4 * 1024 * 1024;

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
        let trust = Arc::new(Trust::new(clock, PAUSE));
        let cache = Arc::new(Cache::new(
            config.cache,
            fastrand::f64,
            Arc::clone(&trust),
            Hub::new(),
            Arc::clone(&metrics),
        ));
        let stores = Stores::build(config.stores, &sdk);
        let changes = Arc::new(Changes::new(
            stores.clone(),
            Arc::clone(&cache),
            Arc::clone(&metrics),
        ));
        let sweeper = Sweeper::new(
            config.journal.map(|table| Journal::new(&sdk, table)),
            config.sweep_interval,
            Arc::clone(&changes),
            trust,
            Arc::clone(&sweeps),
            Arc::clone(&metrics),
        );
        let backends = stores.backends();
        let rules = TokenRules::new(&config.auth.issuer, &config.auth.audience);
        let jwks = Jwks::new(&config.auth.jwks_url)
            .await
            .context("TAGGED_CONFIG_JWKS_URL")?;
        let authenticator = Arc::new(Authenticator::new(rules, jwks));
        let page_tokens = PageTokens::new(config.refresh.exposed());
        let api = Arc::new(ConfigApi::new(
            stores,
            cache,
            Arc::clone(&changes),
            sweeps,
            Arc::clone(&metrics),
            page_tokens,
            Arc::clone(&config.instance),
        ));
        let refresh_service = Refresh::new(changes, config.refresh, config.instance);
        let readiness = Readiness::default();
        let (trigger, shutdown) = shutdown_pair();
        let (health_reporter, health) = tonic_health::server::health_reporter();
        health_reporter
            .set_serving::<ConfigServiceServer<GrpcService<Jwks>>>()
            .await;

        let keys = {
            let authenticator = Arc::clone(&authenticator);
            tokio::spawn(async move { authenticator.keep_fresh().await })
        };
        let sweeper = tokio::spawn(sweeper.run());
        let emf = config.emf_interval.map(|interval| {
            let (metrics, api) = (Arc::clone(&metrics), Arc::clone(&api));
            let stop = shutdown.clone();
            tokio::spawn(async move {
                emf::emit_every(interval, metrics, || api.present(), backends, stop.wait()).await;
            })
        });
        // Each process has an age of its own, so that the tasks of one deployment do not all reconnect at once.
        let connection_age = config
            .listen
            .max_connection_age
            .mul_f64(1.0 - 0.2 * fastrand::f64());
        let service = ConfigServiceServer::new(GrpcService::new(
            Arc::clone(&api),
            Arc::clone(&authenticator),
            connection_age,
            shutdown.clone(),
        ))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR_SET);
        let grpc_server = server(connection_age)
            .add_service(service)
            .add_service(health)
            .add_service(reflection.build_v1()?)
            .serve_with_incoming_shutdown(incoming(grpc), shutdown.wait());
        let refresh_server = server(connection_age)
            .add_service(
                RefreshServiceServer::new(refresh_service)
                    .max_decoding_message_size(MAX_REFRESH_BYTES),
            )
            .serve_with_incoming_shutdown(incoming(refresh), shutdown.wait());
        let state = HttpState {
            api,
            authenticator,
            metrics,
            readiness: readiness.clone(),
        };
        let routes = router(
            Arc::new(state),
            config.listen.path_prefix.as_ref(),
            &config.listen.allowed_origins,
        );
        let http_server = axum::serve(http, routes).with_graceful_shutdown(shutdown.wait());

        let mut servers = tokio::spawn(async move {
            tokio::try_join!(
                async { grpc_server.await.context("the gRPC listener") },
                async { refresh_server.await.context("the refresh listener") },
                async { http_server.await.context("the HTTP listener") },
            )
            .map(|_| ())
        });
        readiness.set(true);
        tracing::info!(
            grpc = %config.listen.grpc, http = %config.listen.http, refresh = %config.listen.refresh, "serving"
        );
        tokio::select! {
            ended = &mut servers => return ended?,
            () = stop => {}
        }
        readiness.set(false);
        health_reporter
            .set_not_serving::<ConfigServiceServer<GrpcService<Jwks>>>()
            .await;
        health_reporter
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
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

fn server(connection_age: Duration) -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
        .max_connection_age(connection_age)
        .max_connection_age_grace(CONNECTION_GRACE)
        .tcp_nodelay(true)
}

async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({variable})"))
}

/// Waits for the signal; a process that cannot hear signals stops at once.
pub(crate) async fn until_signalled() {
    if let Err(error) = tagged_config_runtime::shutdown::stop_signal().await {
        tracing::error!(%error, "cannot listen for signals");
    }
}

//! Builds everything, binds early, serves, and drains when told to.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use tagged_config_auth::{Authenticator, Jwks};
use tagged_config_client::{CacheConfig, ConfigCache, ConfigClient, Unobserved};
use tagged_config_domain::TokenRules;
use tagged_config_runtime::shutdown::{DRAIN_LIMIT, Readiness, shutdown_pair, stop_signal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    config::Config,
    http::{HttpState, router},
    settings::Settings,
};

/// Tenants whose configuration is watched at once.
const TENANTS: usize = 1_000;
/// How old the last known configuration may get while config-service cannot be reached.
const MAX_STALE: Duration = Duration::from_hours(1);

/// Serves until a signal comes, then drains.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.http)
        .await
        .with_context(|| format!("cannot listen on {} (TAGGED_CONFIG_HTTP_ADDR)", config.http))?;
    let jwks = Jwks::new(&config.jwks_url)
        .await
        .context("TAGGED_CONFIG_JWKS_URL")?;
    let rules = TokenRules::new(&config.issuer, &config.audience);
    let authenticator = Arc::new(Authenticator::new(rules, jwks));
    let keys = {
        let authenticator = Arc::clone(&authenticator);
        tokio::spawn(async move { authenticator.keep_fresh().await })
    };
    let readiness = Readiness::default();
    let kept = CacheConfig {
        keys: Settings::KEYS.map(ToOwned::to_owned).into(),
        tenants: TENANTS,
        max_stale: MAX_STALE,
    };
    let client = ConfigClient::new(&config.client);
    let cache = ConfigCache::new(client, kept, Arc::new(Unobserved))?;
    let state = HttpState {
        authenticator,
        cache,
        readiness: readiness.clone(),
    };
    let (trigger, shutdown) = shutdown_pair();
    let routes = router(
        Arc::new(state),
        config.path_prefix.as_ref(),
        &config.allowed_origins,
    );
    let server = axum::serve(listener, routes).with_graceful_shutdown(shutdown.wait());
    let mut server = tokio::spawn(server.into_future());
    readiness.set(true);
    tracing::info!(http = %config.http, "serving");
    tokio::select! {
        ended = &mut server => return ended?.context("the HTTP listener"),
        signal = stop_signal() => signal.context("cannot listen for signals")?,
    }
    readiness.set(false);
    tokio::time::sleep(config.drain_delay).await;
    trigger.fire();
    if let Ok(ended) = timeout(DRAIN_LIMIT, &mut server).await {
        ended?.context("the HTTP listener")?;
    } else {
        tracing::warn!(limit = ?DRAIN_LIMIT, "calls were still running when the drain ended");
    }
    keys.abort();
    tracing::info!("stopped");
    Ok(())
}

/// `order-service --healthcheck`: what ECS runs in the container, which has no shell and no curl.
pub(crate) async fn healthcheck(mut address: SocketAddr) -> ExitCode {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    if let Ok(Ok(true)) = timeout(Duration::from_secs(2), ready(address)).await {
        ExitCode::SUCCESS
    } else {
        tracing::error!(%address, "not ready");
        ExitCode::FAILURE
    }
}

async fn ready(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"HTTP/1.1 200")
}

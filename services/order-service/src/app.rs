//! Builds everything, binds early, serves, and drains on a signal.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tagged_config_auth::{Authenticator, Jwks};
use tagged_config_client::{CacheConfig, ConfigCache, ConfigClient, Unobserved};
use tagged_config_domain::TokenRules;
use tagged_config_runtime::{
    shutdown::{DRAIN_LIMIT, Readiness, shutdown_pair, stop_signal},
    tasks::{critical_task_panicked, spawn_critical},
};
use tagged_config_web as web;
use tokio::{net::TcpListener, time::timeout};

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
        spawn_critical("keys", async move { authenticator.keep_fresh().await })
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
        authenticator: Arc::clone(&authenticator),
        cache,
        readiness: readiness.clone(),
    };
    let (trigger, shutdown) = shutdown_pair();
    let routes = router(
        Arc::new(state),
        config.path_prefix.as_ref(),
        &config.allowed_origins,
    );
    let server = web::serve(listener, routes, web::MAX_CONNECTIONS, shutdown);
    let mut server = tokio::spawn(server);
    tracing::info!(http = %config.http, "listening");
    // A deployment whose keys cannot be fetched must not replace tasks that work.
    let serve = async {
        authenticator.has_keys().await;
        readiness.set(true);
        tracing::info!("serving");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = &mut server => return ended.context("the HTTP listener"),
        task = critical_task_panicked() => anyhow::bail!("the task {task} panicked"),
        signal = stop_signal() => signal.context("cannot listen for signals")?,
        () = serve => {}
    }
    readiness.set(false);
    tokio::time::sleep(config.drain_delay).await;
    trigger.fire();
    if let Ok(ended) = timeout(DRAIN_LIMIT, &mut server).await {
        ended.context("the HTTP listener")?;
    } else {
        tracing::warn!(limit = ?DRAIN_LIMIT, "calls were still running when the drain ended");
    }
    keys.abort();
    tracing::info!("stopped");
    Ok(())
}

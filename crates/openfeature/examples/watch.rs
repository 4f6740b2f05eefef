//! Watches two keys of a tenant and evaluates one of them as a flag, against the local stack:
//!
//!     make local
//!     eval "$(make -s local-env)"
//!     TOKEN=$(make -s local-token) cargo run -p tagged-config-openfeature --example watch
//!
//! Then change the flag, and see it here:
//!
//!     curl -X PUT -H "Authorization: Bearer $(make -s local-token)" -H 'Content-Type: application/json' \
//!         -d '{"enabled": false}' $API_URL/v1/config/tenant_config_featureFlagX

#![expect(clippy::print_stdout, reason = "an example")]

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use open_feature::{EvaluationContext, provider::FeatureProvider};
use tagged_config_auth::{Authenticator, Jwks};
use tagged_config_client::{
    CacheConfig, CallerToken, ClientConfig, ConfigCache, ConfigClient, Unobserved,
};
use tagged_config_domain::TokenRules;
use tagged_config_openfeature::Provider;
use tagged_config_runtime::env::{Env, ProcessEnv};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let get = |name: &str| {
        ProcessEnv
            .get(name)
            .with_context(|| format!("{name} is not set: see the head of this example"))
    };
    // A service verifies its caller's token before anything else: that makes the tenant.
    let jwks = Jwks::new(&get("JWKS_URL")?).await?;
    let rules = TokenRules::new(&get("ISSUER")?, &get("CLIENT_ID")?);
    let authorization = format!("Bearer {}", get("TOKEN")?);
    let authenticator = Authenticator::new(rules, jwks);
    let caller = authenticator.authenticate(Some(&authorization)).await?;

    let endpoints: Vec<_> = get("CONFIG_GRPC")?
        .split(',')
        .map(|address| format!("http://{address}"))
        .collect();
    let client = ConfigClient::new(&ClientConfig {
        endpoints: endpoints.join(",").parse()?,
        deadline: Duration::from_secs(2),
    });
    let kept = CacheConfig {
        keys: vec![
            "tenant_config_featureFlagX".to_owned(),
            "param_config_tax/rate".to_owned(),
        ],
        tenants: 100,
        max_stale: Duration::from_hours(1),
    };
    let cache = ConfigCache::new(client, kept, Arc::new(Unobserved))?;
    let token = CallerToken::from_authorization(&authorization)?;
    let config = cache.tenant(caller.tenant(), &token).await?;
    let flags = Provider::new(config.clone());
    let mut printed = String::new();
    loop {
        let snapshot = config.snapshot()?;
        let rate = snapshot.get::<serde_json::Value>("param_config_tax/rate")?;
        let flag = flags
            .resolve_bool_value("featureFlagX", &EvaluationContext::default())
            .await;
        let now = match flag {
            Ok(flag) => format!("featureFlagX {} ({:?})", flag.value, flag.reason),
            Err(error) => format!("featureFlagX: {}", error.code),
        };
        let now = format!("{}: {now}, tax rate {rate:?}", caller.tenant());
        if now != printed {
            println!("{now}");
            printed = now;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

//! What is refused, and how keys come and go.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tagged_config_auth::{
    AuthError, Authenticator, MAX_KEYS_AGE, REFRESH_INTERVAL, RETRY_INTERVALS, REVOCATION_BOUND,
};
use tagged_config_domain::{Principal, SigningKeys, TokenRules};
use tagged_config_testkit::{AUDIENCE, ISSUER, Issuer, SharedJwks};
use tokio::time::{Duration, advance, timeout};

fn authenticator(jwks: &SharedJwks) -> Arc<Authenticator<SharedJwks>> {
    Arc::new(Authenticator::new(
        TokenRules::new(ISSUER, AUDIENCE),
        jwks.clone(),
    ))
}

async fn bearer(
    authenticator: &Authenticator<SharedJwks>,
    token: &str,
) -> Result<Arc<Principal>, AuthError> {
    authenticator
        .authenticate(Some(&format!("Bearer {token}")))
        .await
}

/// What happens every interval, once.
async fn refresh(authenticator: &Authenticator<SharedJwks>) {
    let _ = timeout(Duration::from_millis(10), authenticator.keep_fresh()).await;
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = Issuer::claims("A1", "writer");
    claims[claim] = value;
    claims
}

fn without(claim: &str) -> Value {
    let mut claims = Issuer::claims("A1", "writer");
    claims.as_object_mut().unwrap().remove(claim);
    claims
}

#[tokio::test]
async fn a_good_token_names_tenant_and_role() {
    let issuer = Issuer::new();
    let auth = authenticator(&SharedJwks::of(issuer.jwks()));
    let caller = bearer(&auth, &issuer.token("A1B2C3D4", "admin"))
        .await
        .unwrap();
    assert_eq!(
        (
            caller.tenant().as_str(),
            caller.role().as_str(),
            caller.subject()
        ),
        ("A1B2C3D4", "admin", "user-1")
    );
    let caller = bearer(&auth, &issuer.sign(&without("custom:userRole")))
        .await
        .unwrap();
    assert_eq!(caller.role().as_str(), "reader");
}

#[tokio::test]
async fn everything_else_is_refused() {
    let issuer = Issuer::new();
    let other = Issuer::new();
    let auth = authenticator(&SharedJwks::of(issuer.jwks()));
    let good = issuer.token("A1", "writer");
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let (_, foreign) = other
        .token("B2", "admin")
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let other_body = issuer.token("B2", "admin");
    let other_body = other_body.split('.').nth(1).unwrap();

    let mut unsigned = Header::new(Algorithm::HS256);
    unsigned.kid = Some(issuer.kid().to_owned());
    // The public key as an HMAC secret: the classic confusion.
    let confused = |secret: &[u8]| {
        encode(
            &unsigned,
            &Issuer::claims("A1", "admin"),
            &EncodingKey::from_secret(secret),
        )
        .unwrap()
    };
    let none = {
        use base64::Engine;
        let b64 = |value: Value| {
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
        };
        format!(
            "{}.{}.",
            b64(json!({"alg": "none", "kid": issuer.kid()})),
            b64(Issuer::claims("A1", "admin"))
        )
    };
    let now = unix_seconds();
    for (what, token) in [
        (
            "a signature of another key",
            format!("{head}.{body}.{foreign}"),
        ),
        (
            "a payload changed after signing",
            format!("{head}.{other_body}.{signature}"),
        ),
        ("no signature", format!("{head}.{body}.")),
        ("alg none", none),
        (
            "HS256 keyed with the modulus",
            confused(issuer.modulus().as_bytes()),
        ),
        (
            "HS256 keyed with the JWK",
            confused(issuer.jwk().to_string().as_bytes()),
        ),
        (
            "another issuer",
            issuer.sign(&with("iss", json!("https://evil.test"))),
        ),
        ("no issuer", issuer.sign(&without("iss"))),
        (
            "another audience",
            issuer.sign(&with("aud", json!("another-client"))),
        ),
        ("no audience", issuer.sign(&without("aud"))),
        (
            "an access token",
            issuer.sign(&with("token_use", json!("access"))),
        ),
        ("no token_use", issuer.sign(&without("token_use"))),
        ("expired", issuer.sign(&with("exp", json!(now - 1)))),
        ("no expiry", issuer.sign(&without("exp"))),
        (
            "an expiry that is text",
            issuer.sign(&with("exp", json!("never"))),
        ),
        ("not valid yet", issuer.sign(&with("nbf", json!(now + 600)))),
        ("no tenant", issuer.sign(&without("custom:tenantId"))),
        (
            "an empty tenant",
            issuer.sign(&with("custom:tenantId", json!(""))),
        ),
        (
            "a tenant that is a number",
            issuer.sign(&with("custom:tenantId", json!(7))),
        ),
        (
            "a list of tenants",
            issuer.sign(&with("custom:tenantId", json!(["A1", "B2"]))),
        ),
        (
            "a tenant with a slash",
            issuer.sign(&with("custom:tenantId", json!("A1/B2"))),
        ),
        (
            "a tenant with a hash",
            issuer.sign(&with("custom:tenantId", json!("A1#B2"))),
        ),
        ("a key nobody published", other.token("A1", "writer")),
        ("not a token", "abc".to_owned()),
        ("two dots", "..".to_owned()),
        ("too long", "a".repeat(9_000)),
        ("nothing", String::new()),
    ] {
        assert!(bearer(&auth, &token).await.is_err(), "{what}");
    }
    for header in [
        None,
        Some(good.clone()),
        Some(format!("Basic {good}")),
        Some("Bearer".to_owned()),
    ] {
        assert!(matches!(
            auth.authenticate(header.as_deref()).await,
            Err(AuthError::Missing)
        ));
    }
    assert!(
        auth.authenticate(Some(&format!("bearer {good}")))
            .await
            .is_ok(),
        "the scheme's case does not matter"
    );
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let jwks = SharedJwks::of(old.jwks());
    let auth = authenticator(&jwks);
    bearer(&auth, &old.token("A1", "reader")).await.unwrap();
    assert_eq!(jwks.fetches(), 1);
    jwks.publish(json!({"keys": [old.jwk(), new.jwk()]}).to_string());
    bearer(&auth, &new.token("A1", "reader")).await.unwrap();
    bearer(&auth, &old.token("A1", "reader")).await.unwrap();
    assert_eq!(jwks.fetches(), 2);
}

#[tokio::test]
async fn unknown_keys_cause_few_fetches_and_callers_share_one() {
    let (known, unknown) = (Issuer::new(), Issuer::new());
    let jwks = SharedJwks::of(known.jwks());
    let auth = authenticator(&jwks);
    bearer(&auth, &known.token("A1", "reader")).await.unwrap();
    let token = unknown.token("A1", "reader");
    let flood: Vec<_> = (0..200)
        .map(|_| {
            let (auth, token) = (Arc::clone(&auth), token.clone());
            tokio::spawn(async move { bearer(&auth, &token).await.is_err() })
        })
        .collect();
    for refused in flood {
        assert!(refused.await.unwrap());
    }
    let after_one_flood = jwks.fetches();
    for _ in 0..100 {
        assert!(bearer(&auth, &token).await.is_err());
    }
    assert!(
        jwks.fetches() <= 1 + 5 + 1,
        "{after_one_flood} then {}",
        jwks.fetches()
    );
    bearer(&auth, &known.token("A1", "reader")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tokens_of_a_key_that_left_are_refused_within_the_interval() {
    let (leaving, staying) = (Issuer::new(), Issuer::new());
    let jwks = SharedJwks::of(json!({"keys": [leaving.jwk(), staying.jwk()]}).to_string());
    let auth = authenticator(&jwks);
    let fresh = Arc::clone(&auth);
    let refreshing = tokio::spawn(async move { fresh.keep_fresh().await });
    let (old, kept) = (leaving.token("A1", "reader"), staying.token("A1", "reader"));
    bearer(&auth, &old).await.unwrap();
    bearer(&auth, &old).await.unwrap();
    jwks.publish(staying.jwks());
    bearer(&auth, &old).await.expect("not known yet");
    advance(REFRESH_INTERVAL + Duration::from_secs(1)).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(
        bearer(&auth, &old).await.is_err(),
        "although it was verified before"
    );
    bearer(&auth, &kept).await.unwrap();
    refreshing.abort();
}

#[tokio::test(start_paused = true)]
async fn without_keys_nobody_is_refused_for_good_and_a_failed_fetch_keeps_the_old_ones() {
    let issuer = Issuer::new();
    let jwks = SharedJwks::default();
    let auth = authenticator(&jwks);
    assert!(matches!(
        bearer(&auth, &issuer.token("A1", "reader")).await,
        Err(AuthError::KeysUnavailable)
    ));
    jwks.publish(issuer.jwks());
    bearer(&auth, &issuer.token("A1", "reader")).await.unwrap();
    jwks.go_down();
    refresh(&auth).await;
    bearer(&auth, &issuer.token("A1", "writer")).await.unwrap();
    jwks.publish("{half".to_owned());
    refresh(&auth).await;
    bearer(&auth, &issuer.token("A1", "admin")).await.unwrap();
}

#[tokio::test]
async fn a_verified_token_ends_with_its_expiry() {
    let issuer = Issuer::new();
    let auth = authenticator(&SharedJwks::of(issuer.jwks()));
    let token = issuer.sign(&with("exp", json!(unix_seconds() + 2)));
    bearer(&auth, &token).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert!(bearer(&auth, &token).await.is_err());
}

#[tokio::test]
async fn the_keys_of_other_purposes_are_not_used() {
    let issuer = Issuer::new();
    let mut encryption = issuer.jwk();
    encryption["use"] = json!("enc");
    let mut other_algorithm = issuer.jwk();
    other_algorithm["alg"] = json!("RS512");
    for jwk in [
        encryption,
        other_algorithm,
        json!({"kty": "oct", "kid": issuer.kid(), "k": "AAAA"}),
    ] {
        let keys = SigningKeys::from_jwks(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        assert!(keys.is_empty());
    }
}

/// Lets the task that keeps the keys fresh run.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_revocation_bound_holds_with_a_mirror_of_which_two_runs_fail() {
    let mirror = Duration::from_mins(1);
    let [_, longest_retry] = RETRY_INTERVALS;
    assert!(3 * mirror + REFRESH_INTERVAL + longest_retry < REVOCATION_BOUND);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_is_repeated_within_seconds() {
    let (leaving, staying) = (Issuer::new(), Issuer::new());
    let jwks = SharedJwks::of(json!({"keys": [leaving.jwk(), staying.jwk()]}).to_string());
    let auth = authenticator(&jwks);
    let fresh = Arc::clone(&auth);
    let refreshing = tokio::spawn(async move { fresh.keep_fresh().await });
    settle().await;
    let old = leaving.token("A1", "reader");
    bearer(&auth, &old).await.unwrap();
    jwks.go_down();
    advance(REFRESH_INTERVAL).await;
    settle().await;
    jwks.publish(staying.jwks());
    advance(RETRY_INTERVALS[1]).await;
    settle().await;
    assert!(bearer(&auth, &old).await.is_err());
    refreshing.abort();
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_fetched_for_a_day_are_dropped_and_come_back() {
    let issuer = Issuer::new();
    let jwks = SharedJwks::of(issuer.jwks());
    let auth = authenticator(&jwks);
    let mut generations = auth.generations();
    let fresh = Arc::clone(&auth);
    let refreshing = tokio::spawn(async move { fresh.keep_fresh().await });
    auth.has_keys().await;
    let token = issuer.token("A1", "reader");
    jwks.go_down();
    tokio::time::sleep(MAX_KEYS_AGE.saturating_sub(Duration::from_mins(1))).await;
    assert!(auth.keys_age().unwrap() >= MAX_KEYS_AGE.saturating_sub(Duration::from_mins(1)));
    bearer(&auth, &token).await.expect("an outage of hours");
    generations.mark_unchanged();
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(
        generations.has_changed().unwrap(),
        "watches verify their tokens anew"
    );
    assert_eq!(auth.keys_age(), None);
    let refused = bearer(&auth, &token).await;
    assert!(matches!(refused, Err(AuthError::KeysUnavailable)));
    jwks.publish(issuer.jwks());
    tokio::time::sleep(Duration::from_secs(2)).await;
    bearer(&auth, &token).await.unwrap();
    refreshing.abort();
}

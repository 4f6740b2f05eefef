//! Tokens that must not open anything, over REST and gRPC: with Cognito's own, and with an issuer that can
//! sign what Cognito never would.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use e2e::{JwksServer, Stack, Standalone, grpc_client, role_credentials};
use serde_json::{Value, json};
use tagged_config_proto::v1::GetConfigRequest;
use tagged_config_testkit::Issuer;
use tonic::Code;

fn request() -> GetConfigRequest {
    GetConfigRequest {
        key: "tenant_config_featureFlagX".to_owned(),
        ..Default::default()
    }
}

/// Refused over both transports, and the answer tells an attacker nothing.
async fn refused(grpc: &str, http: &str, token: &str, what: &str) -> anyhow::Result<()> {
    let status = grpc_client(grpc, token)
        .await?
        .get_config(request())
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "A valid token is needed"),
        "{what}"
    );
    let answer = reqwest::Client::new()
        .get(format!(
            "http://{http}/v1/config/tenant_config_featureFlagX"
        ))
        .bearer_auth(token)
        .send()
        .await?;
    assert_eq!(answer.status().as_u16(), 401, "{what}");
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    let body: Value = answer.json().await?;
    assert_eq!(
        body,
        json!({"type": "urn:tagged-config:problem:unauthenticated", "title": "A valid token is needed", "status": 401})
    );
    Ok(())
}

#[tokio::test]
async fn tampered_tokens_of_cognito() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let parts: Vec<&str> = user.token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&BASE64.decode(parts[1])?)?;
    claims["custom:tenantId"] = json!("A1B2C3D4");
    let forged_claims = BASE64.encode(claims.to_string());
    let none = BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#);
    for (what, token) in [
        (
            "another tenant under the old signature",
            format!("{}.{forged_claims}.{}", parts[0], parts[2]),
        ),
        ("alg none", format!("{none}.{forged_claims}.")),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("the access token", user.access_token.clone()),
        (
            "half a token",
            user.token[..user.token.len() / 2].to_owned(),
        ),
    ] {
        refused(&stack.grpc[0], &stack.http[0], &token, what).await?;
        let answer = stack
            .web
            .get(format!(
                "{}/v1/config/tenant_config_featureFlagX",
                stack.api_url
            ))
            .bearer_auth(&token);
        assert_eq!(
            answer.send().await?.status().as_u16(),
            401,
            "{what}, through the edge"
        );
        let order = stack
            .web
            .post(format!("{}/v1/orders", stack.order_url))
            .bearer_auth(&token)
            .body("{}");
        assert_eq!(
            order.send().await?.status().as_u16(),
            401,
            "{what}, at order-service"
        );
    }
    assert!(
        grpc_client(&stack.grpc[0], &user.token)
            .await?
            .get_config(request())
            .await
            .is_err_and(|s| s.code() == Code::NotFound)
    );
    Ok(())
}

#[tokio::test]
async fn tokens_of_a_hostile_issuer_and_key_rotation() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let (issuer, rotated, stranger) = (Issuer::new(), Issuer::new(), Issuer::new());
    let jwks = JwksServer::start(issuer.jwks()).await?;
    let role = role_credentials("config-service").await?;
    let mut settings = vec![
        ("AWS_ENDPOINT_URL", stack.emulator.as_str()),
        ("TAGGED_CONFIG_TABLE", stack.table.as_str()),
    ];
    settings.extend(role.iter().map(|(name, value)| (&**name, &**value)));
    let service = Standalone::start(&jwks.url, &settings).await?;
    let with = |claim: &str, value: Value| {
        let mut claims = Issuer::claims("A1B2C3D4", "admin");
        claims[claim] = value;
        issuer.sign(&claims)
    };
    for (what, token) in [
        ("another key", stranger.token("A1B2C3D4", "admin")),
        ("wrong issuer", with("iss", json!("https://evil.test"))),
        ("wrong audience", with("aud", json!("x"))),
        ("access token", with("token_use", json!("access"))),
        ("expired", with("exp", json!(1))),
        ("missing tenant", with("custom:tenantId", Value::Null)),
        ("malformed tenant", with("custom:tenantId", json!("A1/B2"))),
        (
            "tenant of another type",
            with("custom:tenantId", json!(["A1B2C3D4"])),
        ),
    ] {
        refused(&service.grpc, &service.http, &token, what).await?;
    }
    let get = async |token: &str| {
        grpc_client(&service.grpc, token)
            .await?
            .get_config(request())
            .await
            .map_err(anyhow::Error::from)
    };
    let good = issuer.token("A1B2C3D4", "reader");
    assert_eq!(get(&good).await?.into_inner().source, "dynamodb");
    // A new key is taken up when a token names it; the old one's tokens, also verified ones, end with it.
    jwks.publish(rotated.jwks());
    get(&rotated.token("A1B2C3D4", "reader")).await?;
    refused(&service.grpc, &service.http, &good, "the key has left").await?;
    assert_eq!(service.terminate().await?, Some(0));
    Ok(())
}

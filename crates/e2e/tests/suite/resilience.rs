//! A config-service of its own: bad settings, a taken port, a backend that is not there, a deadline, the end.

use std::{process::Stdio, time::Duration};

use e2e::{JwksServer, Stack, Standalone, grpc_client, program};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tagged_config_proto::v1::{GetConfigRequest, config_service_client::ConfigServiceClient};
use tagged_config_testkit::Issuer;
use tokio::{net::TcpListener, process::Command, time::timeout};
use tonic::{Code, Request};

fn get(key: &str) -> GetConfigRequest {
    GetConfigRequest {
        key: key.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn bad_settings_are_all_named_before_any_port_is_bound() -> anyhow::Result<()> {
    let mut command = Command::new(program("config-service")?);
    command
        .env_clear()
        .env("TAGGED_CONFIG_GRPC_ADDR", "nonsense")
        .stdout(Stdio::piped());
    let output = command.output().await?;
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stdout)?;
    for name in [
        "GRPC_ADDR must be ip:port",
        "HTTP_ADDR is not set",
        "TABLE is not set",
        "REFRESH_CREDENTIAL is not set",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named() -> anyhow::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let started = Standalone::start(
        "http://127.0.0.1:1/",
        &[("TAGGED_CONFIG_HTTP_ADDR", address.as_str())],
    )
    .await;
    assert!(started.is_err_and(|error| error.to_string().contains("ended at its start")));
    Ok(())
}

#[tokio::test]
async fn with_its_backend_gone_it_answers_and_says_so() -> anyhow::Result<()> {
    let issuer = Issuer::new();
    let jwks = JwksServer::start(issuer.jwks()).await?;
    let service =
        Standalone::start(&jwks.url, &[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]).await?;
    let mut client = grpc_client(&service.grpc, &issuer.token("A1", "reader")).await?;
    for key in ["tenant_config_x", "param_config_x"] {
        let status = client.get_config(get(key)).await.unwrap_err();
        assert_eq!(
            status.code(),
            Code::Unavailable,
            "{key}: {}",
            status.message()
        );
        assert!(
            !status.message().contains("127.0.0.1"),
            "no address in {:?}",
            status.message()
        );
    }
    let ready = reqwest::get(format!("http://{}/readyz", service.http)).await?;
    assert!(
        ready.status().is_success(),
        "readiness does not follow the backend"
    );
    assert_eq!(service.terminate().await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn without_keys_nobody_is_admitted_and_nobody_is_refused_for_good() -> anyhow::Result<()> {
    let service = Standalone::start_without_keys("http://127.0.0.1:1/jwks.json").await?;
    let status = grpc_client(&service.grpc, &Issuer::new().token("A1", "reader"))
        .await?
        .get_config(get("tenant_config_x"))
        .await;
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
    Ok(())
}

/// What the server says to a caller that gives it 200 ms.
async fn code_in_200_ms(service: &Standalone, token: &str) -> anyhow::Result<Code> {
    let mut request = Request::new(get("tenant_config_x"));
    let metadata = request.metadata_mut();
    metadata.insert("grpc-timeout", "200m".parse()?);
    metadata.insert("authorization", format!("Bearer {token}").parse()?);
    // tonic's own channel would watch the clock, too, and say CANCELLED if it were first.
    let mut connector = HttpConnector::new();
    // Else the message waits for its head's acknowledgement, and tonic's server answers before we do.
    connector.set_nodelay(true);
    let http = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build(connector);
    let origin = format!("http://{}", service.grpc).parse()?;
    let mut client = ConfigServiceClient::with_origin(http, origin);
    let answer = timeout(Duration::from_secs(2), client.get_config(request)).await?;
    Ok(answer.unwrap_err().code())
}

#[tokio::test]
async fn silent_keys_meet_the_callers_deadline() -> anyhow::Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let keys = format!("http://{}/jwks.json", silent.local_addr()?);
    let service = Standalone::start_without_keys(&keys).await?;
    let token = Issuer::new().token("A1", "reader");
    assert_eq!(
        code_in_200_ms(&service, &token).await?,
        Code::DeadlineExceeded
    );
    Ok(())
}

#[tokio::test]
async fn a_silent_backend_meets_the_callers_deadline() -> anyhow::Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let issuer = Issuer::new();
    let jwks = JwksServer::start(issuer.jwks()).await?;
    let service = Standalone::start(&jwks.url, &[("AWS_ENDPOINT_URL", endpoint.as_str())]).await?;
    let token = issuer.token("A1", "reader");
    assert_eq!(
        code_in_200_ms(&service, &token).await?,
        Code::DeadlineExceeded
    );
    // Without a deadline, our own limit on the backend ends it.
    let mut client = grpc_client(&service.grpc, &token).await?;
    let status = client.get_config(get("tenant_config_y")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{}", status.message());
    Ok(())
}

#[tokio::test]
async fn the_edge_passes_on_what_the_services_say() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let key = format!("{}/v1/config/tenant_config_edge", stack.api_url);
    let put = stack
        .web
        .put(&key)
        .bearer_auth(&user.token)
        .header("content-type", "application/json")
        .body("1")
        .send()
        .await?;
    assert_eq!(put.status().as_u16(), 201);
    let got = stack.web.get(&key).bearer_auth(&user.token).send().await?;
    let tag = got.headers()["etag"].to_str()?.to_owned();
    let same = stack
        .web
        .get(&key)
        .bearer_auth(&user.token)
        .header("if-none-match", &tag)
        .send()
        .await?;
    assert_eq!(same.status().as_u16(), 304);
    let conflict = stack
        .web
        .put(&key)
        .bearer_auth(&user.token)
        .header("if-none-match", "*")
        .body("2")
        .send()
        .await?;
    assert_eq!(conflict.status().as_u16(), 412);
    assert_eq!(
        conflict.headers()["content-type"],
        "application/problem+json"
    );
    let large = format!("\"https://example.com/?a=<b>&{}\"", "x".repeat(255 * 1024));
    let put = stack
        .web
        .put(&key)
        .bearer_auth(&user.token)
        .header("content-type", "application/json")
        .body(large)
        .send()
        .await?;
    assert_eq!(put.status().as_u16(), 200, "a large value with URLs in it");
    assert_eq!(
        stack
            .web
            .delete(&key)
            .bearer_auth(&user.token)
            .send()
            .await?
            .status()
            .as_u16(),
        200
    );
    Ok(())
}

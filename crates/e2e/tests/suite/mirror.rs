//! What the AWS target adds to the services: keys read from an S3 object that the mirror function wrote, and the stage
//! that a REST API puts before every path.

use std::{process::Stdio, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use e2e::{JwksServer, Stack, Standalone, program};
use serde_json::{Value, json};
use tagged_config_testkit::Issuer;
use tokio::{net::TcpListener, process::Command, sync::mpsc, time::timeout};
use uuid::Uuid;

const OBJECT: &str = "keys/jwks.json";

/// The runtime sends no content type.
fn document(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

type Answers = mpsc::Sender<Result<Value, Value>>;

async fn answered(State(answers): State<Answers>, body: Bytes) -> StatusCode {
    let _ = answers.send(Ok(document(&body))).await;
    StatusCode::ACCEPTED
}

async fn failed(State(answers): State<Answers>, body: Bytes) -> StatusCode {
    let _ = answers.send(Err(document(&body))).await;
    StatusCode::ACCEPTED
}

/// Runs the mirror as Lambda would, for one event, and returns what it answered: `Ok` or the error's document.
async fn mirror(stack: &Stack, issuer: &str, bucket: &str) -> anyhow::Result<Result<Value, Value>> {
    let (sender, mut answers) = mpsc::channel(1);
    let next = async || {
        let head = [
            ("lambda-runtime-aws-request-id", "1"),
            ("lambda-runtime-deadline-ms", "4102444800000"),
            ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:x"),
        ];
        (head, "{}").into_response()
    };
    let base = "/2018-06-01/runtime/invocation";
    let runtime = Router::new()
        .route(&format!("{base}/next"), get(next))
        .route(&format!("{base}/1/response"), post(answered))
        .route(&format!("{base}/1/error"), post(failed))
        .with_state(sender);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let server = tokio::spawn(async move { axum::serve(listener, runtime).await });
    let program = program("jwks-mirror")?;
    let _function = Command::new(program)
        .env_clear()
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "jwks-mirror"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "x"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "x"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_ENDPOINT_URL", stack.emulator.as_str()),
            ("TAGGED_CONFIG_ISSUER", issuer),
            ("TAGGED_CONFIG_JWKS_BUCKET", bucket),
            ("TAGGED_CONFIG_JWKS_KEY", OBJECT),
        ])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("jwks-mirror is not built: run `make test`")?;
    let answer = timeout(Duration::from_secs(20), answers.recv()).await;
    server.abort();
    answer?.context("the function gave no answer")
}

#[tokio::test]
async fn keys_come_from_the_mirrored_object() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let jwks = JwksServer::start(issuer.jwks()).await?;
    let origin = jwks.url.trim_end_matches("/jwks.json");
    let bucket = format!("jwks-{}", Uuid::new_v4());
    let made = stack.web.put(format!("{}/{bucket}", stack.emulator));
    made.send().await?.error_for_status()?;

    assert_eq!(
        mirror(&stack, origin, &bucket).await?,
        Ok(json!({"changed": true}))
    );
    assert_eq!(
        mirror(&stack, origin, &bucket).await?,
        Ok(json!({"changed": false}))
    );
    // What is no key set does not replace one.
    jwks.publish("{}".to_owned());
    assert!(mirror(&stack, origin, &bucket).await?.is_err());

    let url = format!("s3://{bucket}/{OBJECT}");
    let settings = [
        ("AWS_ENDPOINT_URL", stack.emulator.as_str()),
        ("TAGGED_CONFIG_TABLE", stack.table.as_str()),
        ("TAGGED_CONFIG_PATH_PREFIX", "/live"),
        // The local stack has no mirror, and so no role that may read one.
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let service = Standalone::start(&url, &settings).await?;
    let status = async |path: &str, token: &str| {
        let request = stack.web.get(format!("http://{}{path}", service.http));
        Ok::<_, anyhow::Error>(request.bearer_auth(token).send().await?.status().as_u16())
    };
    let token = issuer.token("A1B2C3D4", "reader");
    let key = "/v1/config/tenant_config_featureFlagX";
    for (path, token, expected) in [
        (key.to_owned(), &token, 200),
        (format!("/live{key}"), &token, 200),
        (
            format!("/live{key}"),
            &stranger.token("A1B2C3D4", "reader"),
            401,
        ),
        (
            "/live/v1/config?prefix=tenant_config_".to_owned(),
            &token,
            200,
        ),
        (format!("/live/live{key}"), &token, 404),
        (format!("/other{key}"), &token, 404),
        (
            "/live/v1/config/tenant_config_a%2fb".to_owned(),
            &token,
            404,
        ),
        (
            "/live/v1/config/tenant_config_a%252fb".to_owned(),
            &token,
            400,
        ),
    ] {
        assert_eq!(status(&path, token).await?, expected, "{path}");
    }
    assert_eq!(service.terminate().await?, Some(0));
    Ok(())
}

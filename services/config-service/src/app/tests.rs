//! The whole service, with a JWKS endpoint that a test opens.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use axum::{Router, http::StatusCode, routing::get};
use tagged_config_testkit::Issuer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus as Wire, health_client::HealthClient,
};

use super::*;

/// A JWKS endpoint that answers 503 until it is opened.
async fn jwks_endpoint() -> (String, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let (document, is_open) = (Issuer::new().jwks(), Arc::clone(&open));
    let answer = async move || {
        if is_open.load(Ordering::SeqCst) {
            (StatusCode::OK, document.clone())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, String::new())
        }
    };
    let routes = Router::new().route("/jwks.json", get(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, open)
}

fn settings(jwks_url: &str) -> HashMap<String, String> {
    [
        ("GRPC_ADDR", "127.0.0.1:0"),
        ("REFRESH_ADDR", "127.0.0.1:0"),
        ("HTTP_ADDR", "127.0.0.1:0"),
        ("JWKS_URL", jwks_url),
        ("ISSUER", "https://issuer"),
        ("AUDIENCE", "client"),
        ("TABLE", "T"),
        ("PARAMETER_ROOT", "/app/config"),
        ("CACHE_BYTES", "1048576"),
        ("REFRESH_CREDENTIAL", "0123456789abcdef"),
        ("DRAIN_DELAY", "0s"),
    ]
    .map(|(name, value)| (format!("TAGGED_CONFIG_{name}"), value.to_owned()))
    .into()
}

async fn readyz(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer["HTTP/1.1 ".len()..][..3].to_owned()
}

async fn health(address: SocketAddr) -> i32 {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    answer.into_inner().status
}

#[tokio::test]
async fn a_task_is_ready_only_after_its_first_keys() {
    let (url, open) = jwks_endpoint().await;
    let app = App::bind(Config::from_env(&settings(&url)).unwrap())
        .await
        .unwrap();
    let http = app.http.local_addr().unwrap();
    let grpc = app.grpc.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async {
        let _ = stopped.await;
    }));
    assert_eq!(readyz(http).await, "503");
    assert_eq!(health(grpc).await, i32::from(Wire::NotServing));
    // Without a token, nobody makes the task hold much.
    let channel = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let service = "x".repeat(2 * MAX_OPEN_REQUEST_BYTES);
    let refused = client.check(HealthCheckRequest { service }).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::OutOfRange);
    open.store(true, Ordering::SeqCst);
    // The fetch is repeated every second.
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while readyz(http).await != "200" {
        ticks.tick().await;
    }
    while health(grpc).await != i32::from(Wire::Serving) {
        ticks.tick().await;
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

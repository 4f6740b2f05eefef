//! What surrounds every handler: a request id, a log line, a time-out, and an answer in place of a panic.

use std::{any::Any, time::Duration};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn, map_request},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tagged_config_runtime::telemetry;
use tokio::time::timeout;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use crate::Problem;

/// Time that a handler has for its answer, its body's arrival included. Every backend gives up earlier: this bounds what
/// was overlooked. API Gateway waits 29 s.
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer request id of a caller is replaced.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// The router with all layers around its routes and its fallback.
///
/// Time-outs and logs are functions here, not tower-http's layers: a time-out answers with a problem document, and the log
/// line carries the request id, which `TraceLayer` keeps in a span that our log format leaves out.
pub fn layered(router: Router) -> Router {
    // The last one is the outermost.
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(limit_time))
        .layer(from_fn(refuse_encodings))
        .layer(from_fn(log))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(map_request(check_request_id))
}

/// Removes a request id that is too long or has characters that do not belong into a log.
async fn check_request_id(mut request: Request) -> Request {
    let usable = |id: &HeaderValue| {
        let bytes = id.as_bytes();
        (1..=MAX_REQUEST_ID_BYTES).contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.=;:".contains(b))
    };
    if !request.headers().get(REQUEST_ID).is_some_and(usable) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

async fn log(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).cloned();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    let id = id.as_ref().and_then(|id| id.to_str().ok());
    let (path, status) = (uri.path(), response.status().as_u16());
    if response.status().is_server_error() {
        tracing::warn!({ telemetry::REQUEST_ID } = id, %method, path, status, "request failed");
    } else {
        tracing::debug!({ telemetry::REQUEST_ID } = id, %method, path, status, "request");
    }
    response
}

/// No body is decoded here: a client that compressed one is told so, and that it may send it plain (RFC 9110, 15.5.16).
async fn refuse_encodings(request: Request, next: Next) -> Response {
    let encodings = request.headers().get_all(header::CONTENT_ENCODING);
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if encodings.iter().all(is_plain) {
        return next.run(request).await;
    }
    let problem = Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-encoding",
        "The body must be sent without a Content-Encoding",
    );
    ([(header::ACCEPT_ENCODING, "identity")], problem).into_response()
}

async fn limit_time(request: Request, next: Next) -> Response {
    timeout(HANDLER_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| {
            Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "deadline-exceeded",
                "Deadline exceeded",
            )
            .into_response()
        })
}

/// The panic's text goes to the log by the panic hook, and never to the caller.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "Internal error",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    use super::*;

    fn router() -> Router {
        layered(
            Router::new()
                .route("/", get(async || "ok"))
                .route(
                    "/panics",
                    get(async || -> &'static str { panic!("a secret") }),
                )
                .route("/hangs", get(std::future::pending::<&'static str>)),
        )
    }

    async fn answer(path: &str, id: Option<&str>) -> Response {
        let mut request = Request::get(path);
        if let Some(id) = id {
            request = request.header(REQUEST_ID, id);
        }
        let request = request.body(Body::empty()).unwrap();
        router().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_good_request_id_is_kept_and_every_other_is_replaced() {
        let id = async |path, given| {
            let answer = answer(path, given).await;
            answer.headers()[REQUEST_ID].to_str().unwrap().to_owned()
        };
        assert_eq!(id("/", Some("Root=1-67;Self=1")).await, "Root=1-67;Self=1");
        let long = "x".repeat(MAX_REQUEST_ID_BYTES + 1);
        for bad in [None, Some(""), Some("a b"), Some("{}"), Some(&*long)] {
            assert_eq!(id("/", bad).await.len(), 36, "{bad:?}");
        }
        assert_eq!(id("/nowhere", Some("a")).await, "a");
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_document_that_does_not_say_why() {
        let answer = answer("/panics", Some("a")).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers()[REQUEST_ID], "a");
        let body = axum::body::to_bytes(answer.into_body(), 1_000).await;
        let body = String::from_utf8(body.unwrap().into()).unwrap();
        assert!(body.contains("problem:internal"), "{body}");
        assert!(!body.contains("secret"), "{body}");
    }

    #[tokio::test]
    async fn a_compressed_body_is_refused_with_what_is_accepted() {
        for (encoding, status) in [("gzip", 415), ("identity", 200), ("Identity", 200)] {
            let request = Request::get("/").header("content-encoding", encoding);
            let request = request.body(Body::from("x")).unwrap();
            let answer = router().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{encoding}");
            let accepted = answer.headers().get("accept-encoding");
            assert_eq!(accepted.is_some(), status == 415);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_is_answered_for() {
        let answer = answer("/hangs", None).await;
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        let kind = &answer.headers()["content-type"];
        assert_eq!(kind, "application/problem+json");
    }
}

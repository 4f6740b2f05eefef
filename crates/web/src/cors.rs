//! Cross-origin resource sharing: which web pages may call the API from a browser (Fetch standard, section 3.2).

use std::time::Duration;

use axum::Router;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use tagged_config_runtime::env::FromEnv;
use tower_http::cors::CorsLayer;

/// How long a browser may keep the answer to a preflight.
const MAX_AGE: Duration = Duration::from_mins(10);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Why, of a write.
const CHANGE_NOTE: HeaderName = HeaderName::from_static("x-change-note");

/// Origins whose pages may call the API, comma-separated: `https://app.example.com,http://localhost:5173`. None by default.
#[derive(Clone, Debug, Default)]
pub struct AllowedOrigins(Vec<HeaderValue>);

impl FromEnv for AllowedOrigins {
    fn from_env(text: &str) -> Result<Self, String> {
        let origin = |text: &str| {
            origin(text).ok_or_else(|| {
                format!("must be origins such as https://app.example.com, separated by commas, not {text:?}")
            })
        };
        text.split(',')
            .map(str::trim)
            .map(origin)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// An origin as browsers write it: scheme, host and port in lower case, and nothing behind. Neither `*` nor `null`: the
/// answers are private.
fn origin(text: &str) -> Option<HeaderValue> {
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let is_origin = matches!(scheme, "http" | "https")
        && format!("{scheme}://{authority}") == text
        && !text.contains(['@', '*'])
        && text.to_ascii_lowercase() == text;
    is_origin.then(|| HeaderValue::from_str(text).ok())?
}

/// Answers preflights, which carry no token, and lets pages of these origins read every answer, errors included. With no
/// origins, the routes as they are. `exposed` are the headers that a page may read beside those of every answer.
pub fn cors(
    routes: Router,
    origins: &AllowedOrigins,
    exposed: impl IntoIterator<Item = HeaderName>,
) -> Router {
    if origins.0.is_empty() {
        return routes;
    }
    let exposed = [header::RETRY_AFTER, header::WWW_AUTHENTICATE, REQUEST_ID]
        .into_iter()
        .chain(exposed);
    routes.layer(
        CorsLayer::new()
            .allow_origin(origins.0.clone())
            .allow_methods([Method::GET, Method::PUT, Method::POST, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_MATCH,
                header::IF_NONE_MATCH,
                header::IF_RANGE,
                header::RANGE,
                CHANGE_NOTE,
                REQUEST_ID,
            ])
            .expose_headers(exposed.collect::<Vec<_>>())
            .max_age(MAX_AGE),
    )
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use http::{Request, Response, StatusCode};
    use tower::ServiceExt;

    use super::*;

    async fn call(origins: &str, method: Method, path: &str, from: &str) -> Response<Body> {
        let origins = match origins {
            "" => AllowedOrigins::default(),
            some => AllowedOrigins::from_env(some).unwrap(),
        };
        let routes = Router::new().route("/a", get(async || StatusCode::UNAUTHORIZED));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ORIGIN, from)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "PUT")
            .header(
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                "authorization,if-match",
            )
            .body(Body::empty())
            .unwrap();
        cors(routes, &origins, [header::ETAG])
            .oneshot(request)
            .await
            .unwrap()
    }

    #[test]
    fn only_whole_origins_are_taken() {
        assert!(AllowedOrigins::from_env("https://a.example, http://localhost:5173").is_ok());
        for bad in [
            "*",
            "null",
            "a.example",
            "https://a.example/",
            "https://a.example/x",
            "https://A.example",
            "https://*.example",
            "https://u@a.example",
            "ftp://a.example",
            "https://a.example,",
        ] {
            assert!(AllowedOrigins::from_env(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_preflight_needs_no_token() {
        let answer = call(
            "https://a.example",
            Method::OPTIONS,
            "/a",
            "https://a.example",
        )
        .await;
        assert_eq!(answer.status(), StatusCode::OK);
        let headers = answer.headers();
        assert_eq!(headers["access-control-allow-origin"], "https://a.example");
        let allowed = headers["access-control-allow-headers"].to_str().unwrap();
        for name in ["authorization", "content-type", "if-match", "if-none-match"] {
            assert!(allowed.contains(name), "{name}");
        }
        assert_eq!(
            headers["access-control-allow-methods"],
            "GET,PUT,POST,DELETE"
        );
    }

    #[tokio::test]
    async fn errors_can_be_read_too() {
        for (path, status) in [
            ("/a", StatusCode::UNAUTHORIZED),
            ("/none", StatusCode::NOT_FOUND),
        ] {
            let answer = call("https://a.example", Method::GET, path, "https://a.example").await;
            assert_eq!(answer.status(), status);
            let headers = answer.headers();
            assert_eq!(headers["access-control-allow-origin"], "https://a.example");
            let exposed = headers["access-control-expose-headers"].to_str().unwrap();
            for name in ["etag", "retry-after", "x-request-id"] {
                assert!(exposed.contains(name), "{exposed}");
            }
            let vary: Vec<_> = headers.get_all(header::VARY).iter().collect();
            assert!(
                vary.iter().any(|v| v.to_str().unwrap().contains("origin")),
                "{vary:?}"
            );
        }
    }

    #[tokio::test]
    async fn other_origins_are_not_let_in_and_none_by_default() {
        for origins in ["https://b.example", ""] {
            let answer = call(origins, Method::GET, "/a", "https://a.example").await;
            assert!(!answer.headers().contains_key("access-control-allow-origin"));
        }
        let answer = call("", Method::OPTIONS, "/a", "https://a.example").await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}

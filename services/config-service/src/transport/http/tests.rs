//! The REST facade over stores in memory, without a listener.

use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tagged_config_domain::{Record, Revision, TokenRules};
use tagged_config_runtime::env::FromEnv;
use tagged_config_testkit::{AUDIENCE, ISSUER, Issuer, MemoryStore, SharedJwks};
use tower::ServiceExt;

use super::*;
use crate::api::tests::{Fixture, fixture};

const KEY: &str = "/v1/config/tenant_config_x";

struct Rest {
    routes: Router,
    store: Arc<MemoryStore>,
    shared: Arc<MemoryStore>,
    issuer: Issuer,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Rest {
    fn new() -> Self {
        Self::with(None, &AllowedOrigins::default())
    }

    fn with(prefix: Option<&str>, origins: &AllowedOrigins) -> Self {
        let Fixture {
            api,
            tenant_store,
            shared_store,
            ..
        } = fixture();
        let issuer = Issuer::new();
        let rules = TokenRules::new(ISSUER, AUDIENCE);
        let state = HttpState {
            api,
            authenticator: Arc::new(Authenticator::new(rules, SharedJwks::of(issuer.jwks()))),
            metrics: Metrics::new(),
            readiness: Readiness::default(),
            writes: Writes::default(),
        };
        let prefix = prefix.map(|prefix| PathPrefix::from_env(prefix).unwrap());
        Self {
            routes: router(Arc::new(state), prefix.as_ref(), origins),
            store: tenant_store,
            shared: shared_store,
            issuer,
        }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send_as("writer", method, path, headers, body).await
    }

    async fn send_as(
        &self,
        role: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let (parts, bytes) = self
            .exchange(role, method, path, headers, body.into())
            .await;
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        }
    }

    async fn exchange(
        &self,
        role: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (axum::http::response::Parts, bytes::Bytes) {
        let mut request = Request::builder().method(method).uri(path).header(
            "authorization",
            format!("Bearer {}", self.issuer.token("A", role)),
        );
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        let answer = self.routes.clone().oneshot(request).await;
        let (parts, body) = answer.unwrap().into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    }

    async fn put(&self, headers: &[(&str, &str)], body: &str) -> u16 {
        self.send("PUT", KEY, headers, body).await.status
    }

    async fn tag(&self) -> String {
        let got = self.send("GET", KEY, &[], "").await;
        got.headers["etag"].to_str().unwrap().to_owned()
    }
}

fn record(value: &str) -> Record {
    let revision = Revision {
        incarnation: 1,
        version: 1,
    };
    Record::new(value, "application/json", revision, Some(1))
}

#[tokio::test(start_paused = true)]
async fn a_put_that_creates_says_so_and_gives_its_tag_in_the_body() {
    let rest = Rest::new();
    let created = rest.send("PUT", KEY, &[], "1").await;
    assert_eq!(created.status, 201);
    assert!(
        !created.headers.contains_key("etag"),
        "what was sent is not what GET gives"
    );
    assert_eq!(created.body["etag"], rest.tag().await);
    let replaced = rest.send("PUT", KEY, &[], "2").await;
    assert_eq!(replaced.status, 200);
    assert_eq!(rest.send("DELETE", KEY, &[], "").await.status, 200);
    assert_eq!(rest.put(&[("if-none-match", "*")], "3").await, 201);
}

#[tokio::test(start_paused = true)]
async fn writes_follow_their_conditions() {
    let rest = Rest::new();
    assert_eq!(rest.put(&[("if-match", "*")], "1").await, 412);
    rest.put(&[], "1").await;
    let tag = rest.tag().await;
    let weak = format!("W/{tag}");
    let (tag, weak) = (tag.as_str(), weak.as_str());
    for (headers, status) in [
        (vec![("if-none-match", "*")], 412),
        (vec![("if-none-match", tag)], 412),
        (vec![("if-none-match", weak)], 412),
        (vec![("if-match", weak)], 412),
        (vec![("if-match", "\"x\"")], 412),
        (vec![("if-match", "nonsense")], 400),
        (vec![("if-none-match", "nonsense")], 400),
        (vec![("if-match", tag), ("if-none-match", tag)], 412),
        (vec![("if-match", "\"x\""), ("if-none-match", "\"x\"")], 412),
    ] {
        assert_eq!(rest.put(&headers, "2").await, status, "{headers:?}");
        assert_eq!(
            rest.send("DELETE", KEY, &headers, "").await.status,
            status,
            "{headers:?}"
        );
    }
    assert_eq!(rest.tag().await, tag, "nothing was written");
    for conditions in [
        vec![("if-match", "TAG")],
        vec![("if-match", "\"x\", TAG")],
        vec![("if-match", "\"x\""), ("if-match", "TAG")],
        vec![("if-none-match", "\"x\"")],
        vec![("if-match", "TAG"), ("if-none-match", "\"x\"")],
    ] {
        let tag = rest.tag().await;
        let conditions: Vec<_> = conditions
            .into_iter()
            .map(|(name, value)| (name, value.replace("TAG", &tag)))
            .collect();
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert_eq!(rest.put(&conditions, "2").await, 200, "{conditions:?}");
    }
    rest.send("DELETE", KEY, &[], "").await;
    let gone = rest.send("DELETE", KEY, &[("if-match", tag)], "").await;
    assert_eq!(gone.status, 404, "conditions do not count where nothing is");
}

#[tokio::test(start_paused = true)]
async fn the_tag_of_a_shared_default_does_not_match_an_own_value() {
    let rest = Rest::new();
    rest.shared.set("global/x", "", record("1"));
    let default = rest.send("GET", "/v1/config/param_config_x", &[], "").await;
    assert_eq!(default.body["origin"], "global");
    let tag = default.headers["etag"].to_str().unwrap();
    rest.store.set("A", "x", record("1"));
    assert_eq!(rest.put(&[("if-match", tag)], "2").await, 412);
}

#[tokio::test(start_paused = true)]
async fn reads_follow_their_conditions() {
    let rest = Rest::new();
    rest.put(&[], "1").await;
    let tag = rest.tag().await;
    let weak = format!("W/{tag}");
    let (tag, weak) = (tag.as_str(), weak.as_str());
    for (headers, status) in [
        (
            vec![("if-none-match", weak), ("if-none-match", "\"y\"")],
            304,
        ),
        (
            vec![("if-none-match", "\"y\""), ("if-none-match", tag)],
            304,
        ),
        (vec![("if-none-match", "\"y\"")], 200),
        (vec![("if-match", tag)], 200),
        (vec![("if-match", weak)], 412),
        (vec![("if-match", "\"y\""), ("if-none-match", tag)], 412),
    ] {
        let got = rest.send("GET", KEY, &headers, "").await;
        assert_eq!(got.status, status, "{headers:?}");
        if status == 304 {
            assert_eq!(got.headers["etag"], tag);
            assert_eq!(got.headers["cache-control"], "private, no-cache");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_tag_is_one_configuration() {
    let rest = Rest::new();
    rest.store.set("A", "x", record("1"));
    let plain = format!("{KEY}?freshness=false");
    let miss = rest.send("GET", &plain, &[], "").await;
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    let hit = rest.send("GET", &plain, &[], "").await;
    assert_ne!(
        miss.headers["x-config-cache"],
        hit.headers["x-config-cache"]
    );
    assert_eq!(miss.headers["etag"], hit.headers["etag"]);
    assert_eq!(miss.body, hit.body);

    let fresh = rest.send("GET", KEY, &[], "").await;
    assert_eq!(fresh.headers["etag"], hit.headers["etag"]);
    assert_eq!(fresh.body["cached"], true);
    for field in [
        "stale",
        "ageMs",
        "servedBy",
        "stalenessBoundMs",
        "journalBoundMs",
    ] {
        assert!(!fresh.body[field].is_null(), "{field}");
        assert!(hit.body[field].is_null(), "{field}");
    }

    // Also when nothing but the time of writing was edited by hand.
    let edited = Record::new(
        "1",
        "application/json",
        Revision {
            incarnation: 1,
            version: 1,
        },
        Some(2),
    );
    rest.store.set("A", "x", edited);
    tokio::time::advance(std::time::Duration::from_mins(3)).await;
    let edited = rest.send("GET", KEY, &[], "").await;
    assert_ne!(edited.body["lastModified"], hit.body["lastModified"]);
    assert_ne!(edited.headers["etag"], hit.headers["etag"]);
}

#[tokio::test(start_paused = true)]
async fn secrets_are_stored_nowhere_and_lists_and_batches_neither() {
    let rest = Rest::new();
    let key = "/v1/config/param_config_pin";
    rest.shared.set("A", "pin", record("\"1234\"").secret());
    let got = rest.send_as("admin", "GET", key, &[], "").await;
    assert_eq!((got.status, &got.body["value"]), (200, &json!("\"1234\"")));
    assert_eq!(got.headers["cache-control"], "no-store");
    let tag = got.headers["etag"].to_str().unwrap().to_owned();
    let same = rest
        .send_as("admin", "GET", key, &[("if-none-match", tag.as_str())], "")
        .await;
    assert_eq!(same.status, 304);
    assert_eq!(same.headers["cache-control"], "no-store");
    let batch = json!({"keys": ["param_config_pin"]}).to_string();
    let list = format!("/v1/config?prefix={}", "tenant_config_");
    for (method, path, body, status) in [
        ("POST", "/v1/config:batchGet", batch.as_str(), 200),
        ("GET", &list, "", 200),
        ("GET", "/v1/config/tenant_config_none", "", 404),
        ("GET", "/v1/config/nonsense", "", 400),
    ] {
        let answer = rest.send_as("admin", method, path, &[], body).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["vary"], "authorization", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_encoded_slash_is_a_slash_and_one_cache_entry() {
    let rest = Rest::with(Some("/live"), &AllowedOrigins::default());
    rest.store.set("A", "tax/rate", record("1"));
    for (path, cache) in [
        ("/v1/config/tenant_config_tax/rate", "miss"),
        ("/v1/config/tenant_config_tax%2Frate", "hit"),
        ("/v1/config/tenant_config_tax%2frate", "hit"),
        ("/v1/config/%74enant_config_tax%2Frate", "hit"),
        ("/live/v1/config/tenant_config_tax%2Frate", "hit"),
    ] {
        let got = rest.send("GET", path, &[], "").await;
        assert_eq!(got.status, 200, "{path}");
        assert_eq!(got.headers["x-config-cache"], cache, "{path}");
        assert_eq!(got.body["key"], "tenant_config_tax/rate");
    }
    assert_eq!(rest.store.reads(), 1);
    for path in [
        "/v1/config/tenant_config_tax%252Frate",
        "/v1/config/tenant_config_%2E%2E/rate",
        "/v1/config/tenant_config_a%2F..%2Frate",
        "/v1/config/tenant_config_a/./rate",
        "/v1/config/tenant_config_tax%2F",
        "/v1/config/tenant_config_tax%2F%2Frate",
        "/v1/config/tenant_config_%zz",
        "/v1/config/tenant_config_%FF",
        "/live/v1/config/tenant_config_tax%252Frate",
    ] {
        let got = rest.send("GET", path, &[], "").await;
        assert_eq!(got.status, 400, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_path_names_its_methods() {
    let rest = Rest::new();
    for (path, allow) in [
        (KEY, "GET,HEAD,PUT,DELETE"),
        ("/v1/config/", "GET,HEAD,PUT,DELETE"),
        ("/v1/config", "GET,HEAD"),
        ("/v1/config:batchGet", "POST"),
        ("/v1/health", "GET,HEAD"),
        ("/openapi.yaml", "GET,HEAD"),
        ("/healthz", "GET,HEAD"),
        ("/readyz", "GET,HEAD"),
        ("/metrics", "GET,HEAD"),
    ] {
        let answer = rest.send("PATCH", path, &[], "").await;
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.headers["allow"], allow, "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_of_an_allowed_origin_may_call() {
    let origins = AllowedOrigins::from_env("https://app.example").unwrap();
    let rest = Rest::with(Some("/live"), &origins);
    let from = ("origin", "https://app.example");
    let preflight = [from, ("access-control-request-method", "PUT")];
    for path in [KEY, "/live/v1/config/tenant_config_x"] {
        let answer = rest.send("OPTIONS", path, &preflight, "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.headers["access-control-allow-origin"], from.1);
    }
    let missing = rest.send("GET", KEY, &[from], "").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.headers["access-control-allow-origin"], from.1);
    let exposed = missing.headers["access-control-expose-headers"]
        .to_str()
        .unwrap();
    for name in [
        "etag",
        "retry-after",
        "x-request-id",
        "x-config-age-ms",
        "x-config-journal-bound-ms",
    ] {
        assert!(exposed.contains(name), "{exposed}");
    }
    let vary: Vec<_> = missing.headers.get_all("vary").iter().collect();
    assert!(
        vary.iter().any(|value| *value == "authorization"),
        "{vary:?}"
    );
}

mod raw {
    use bytes::Bytes;

    use super::*;

    const BLOB: &str = "/v1/config/bytes_config_x";
    const RAW_BLOB: &str = "/v1/config/bytes_config_x:raw";

    /// Status, headers and bytes.
    async fn raw(
        rest: &Rest,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, HeaderMap, Bytes) {
        let (parts, body) = rest
            .exchange("writer", method, path, headers, Vec::new())
            .await;
        (parts.status.as_u16(), parts.headers, body)
    }

    async fn put(rest: &Rest, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let headers = [("content-type", content_type)];
        let (parts, body) = rest
            .exchange("writer", "PUT", path, &headers, body.to_vec())
            .await;
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&body).unwrap(),
        }
    }

    fn large() -> Vec<u8> {
        (0..=255).cycle().take(200_000).collect()
    }

    #[tokio::test]
    async fn values_come_to_the_byte_with_their_own_type_and_the_tag_of_their_write() {
        let rest = Rest::new();
        let path = |key: &str| format!("/v1/config/{key}");
        let cases: [(&str, &str, Vec<u8>); 4] = [
            ("bytes_config_x", "image/png", b"\xff\x00\xfe".to_vec()),
            ("bytes_config_y", "text/plain", b"text".to_vec()),
            ("bytes_config_z", "application/x-large", large()),
            (
                "tenant_config_x",
                "application/json",
                b"{\"a\": 1}".to_vec(),
            ),
        ];
        for (key, content_type, value) in cases {
            let written = put(&rest, &path(key), content_type, &value).await;
            assert_eq!(written.status, 201, "{}", written.body);
            let (status, headers, body) =
                raw(&rest, "GET", &format!("{}:raw", path(key)), &[]).await;
            assert_eq!(
                (status, &headers["content-type"]),
                (200, &HeaderValue::from_str(content_type).unwrap())
            );
            assert!(body == value, "{key}");
            assert_eq!(headers["etag"].to_str().unwrap(), written.body["etag"]);
            assert_eq!(
                headers["content-length"].to_str().unwrap(),
                value.len().to_string()
            );
            for name in [
                "content-security-policy",
                "x-content-type-options",
                "content-disposition",
            ] {
                assert!(headers.contains_key(name), "{name}");
            }
            let (status, headers, body) =
                raw(&rest, "HEAD", &format!("{}:raw", path(key)), &[]).await;
            assert_eq!((status, body.len()), (200, 0));
            assert_eq!(
                headers["content-length"].to_str().unwrap(),
                value.len().to_string()
            );
            let known = [("if-none-match", headers["etag"].to_str().unwrap())];
            assert_eq!(
                raw(&rest, "GET", &format!("{}:raw", path(key)), &known)
                    .await
                    .0,
                304
            );
        }
    }

    #[tokio::test]
    async fn parts_of_values_in_memory_and_of_streamed_ones() {
        let rest = Rest::new();
        for value in [b"0123456789".repeat(10), large()] {
            let etag = put(&rest, BLOB, "x/y", &value).await.body["etag"].clone();
            let etag = etag.as_str().unwrap();
            let last = value.len() - 1;
            for (range, expected) in [
                ("bytes=0-0".to_owned(), 0..1),
                ("bytes=10-".to_owned(), 10..value.len()),
                ("bytes=-7".to_owned(), value.len() - 7..value.len()),
                ("bytes=-999999".to_owned(), 0..value.len()),
                (format!("bytes=3-{}", 10 * value.len()), 3..value.len()),
            ] {
                let (status, headers, body) = raw(
                    &rest,
                    "GET",
                    RAW_BLOB,
                    &[("range", &range), ("if-range", etag)],
                )
                .await;
                assert_eq!(status, 206, "{range}");
                let said = format!(
                    "bytes {}-{}/{}",
                    expected.start,
                    expected.end - 1,
                    value.len()
                );
                assert_eq!(headers["content-range"].to_str().unwrap(), said);
                assert_eq!(
                    headers["content-length"].to_str().unwrap(),
                    expected.len().to_string()
                );
                assert!(body == value[expected], "{range}");
            }
            for (range, if_range) in [
                ("bytes=0-0, 5-6", None),
                ("lines=1-2", None),
                ("bytes=5-1", None),
                ("bytes=0-0", Some("\"another\"")),
            ] {
                let mut headers = vec![("range", range)];
                headers.extend(if_range.map(|tag| ("if-range", tag)));
                let (status, _, body) = raw(&rest, "GET", RAW_BLOB, &headers).await;
                assert!(
                    (status, body.len()) == (200, value.len()),
                    "{range}: {status}"
                );
            }
            let beyond = format!("bytes={}-", last + 1);
            let (status, headers, _) = raw(&rest, "GET", RAW_BLOB, &[("range", &beyond)]).await;
            assert_eq!(
                (status, headers["content-range"].to_str().unwrap()),
                (416, &*format!("bytes */{}", value.len()))
            );
        }
    }

    #[tokio::test]
    async fn json_holds_bytes_as_base64_and_a_streamed_value_whole() {
        let rest = Rest::new();
        put(&rest, BLOB, "x/y", b"\xff\xfe").await;
        let got = rest.send("GET", BLOB, &[], "").await.body;
        assert_eq!(
            (&got["value"], &got["encoding"]),
            (&json!("//4="), &json!("base64"))
        );
        put(&rest, BLOB, "x/y", &large()).await;
        let got = rest.send("GET", BLOB, &[], "").await.body;
        assert_eq!(
            BASE64.decode(got["value"].as_str().unwrap()).unwrap(),
            large()
        );
        let listed = rest
            .send("GET", "/v1/config?prefix=bytes_config_", &[], "")
            .await
            .body;
        assert_eq!(
            (
                &listed["entries"][0]["bytes"],
                &listed["entries"][0]["value"]
            ),
            (&json!(200_000), &Value::Null)
        );
        let keys = json!({"keys": ["bytes_config_x"]}).to_string();
        let batch = rest
            .send("POST", "/v1/config:batchGet", &[], &keys)
            .await
            .body;
        assert_eq!(batch["errors"][0]["status"], 406);
        assert!(
            batch["errors"][0]["detail"]
                .as_str()
                .unwrap()
                .contains("GET /v1/config/bytes_config_x:raw")
        );
    }

    #[tokio::test]
    async fn a_store_of_text_refuses_bytes_and_json_must_be_json() {
        let rest = Rest::new();
        let refused = put(&rest, KEY, "x/y", b"\xff").await;
        assert_eq!(refused.status, 400);
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(
            detail.contains("not UTF-8") && !detail.contains('\u{fffd}'),
            "{detail}"
        );
        assert_eq!(
            put(&rest, BLOB, "application/json", b"\xff").await.status,
            400
        );
        assert_eq!(
            put(&rest, BLOB, "application/json", b"{half").await.status,
            400
        );
        assert_eq!(
            put(&rest, BLOB, "x/y", &vec![0; 256 * 1024 + 1])
                .await
                .status,
            413
        );
        assert_eq!(raw(&rest, "GET", RAW_BLOB, &[]).await.0, 404);
    }

    #[tokio::test]
    async fn the_value_alone_is_only_read() {
        let rest = Rest::new();
        for path in [RAW_BLOB, "/v1/config/bytes_config_x%3Araw"] {
            for method in ["PUT", "DELETE", "OPTIONS", "POST"] {
                let (status, headers, _) = raw(&rest, method, path, &[]).await;
                assert_eq!(
                    (status, &headers["allow"]),
                    (405, &HeaderValue::from_static("GET,HEAD")),
                    "{method}"
                );
            }
        }
        let path = format!("{RAW_BLOB}:raw");
        assert_eq!(raw(&rest, "GET", &path, &[]).await.0, 400);
    }
}

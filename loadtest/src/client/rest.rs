//! REST, through the edge or the load balancer, and at order-service.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CONNECT_TIMEOUT, Expect, Operation, judge_batch};
use crate::{
    blobs::Blob,
    recorder::{Answer, CacheResult},
    targets::http_client,
    tokens::Caller,
};

/// REST at one base URL, by some pools of HTTP/1.1 connections: a slow answer makes its pool open another connection.
pub(crate) struct RestClient {
    base: String,
    clients: Vec<reqwest::Client>,
    next: AtomicUsize,
    /// What was last seen of each key, as a REST client that caches keeps it. Bounded by the dataset.
    tags: Mutex<HashMap<(Arc<str>, String), HeaderValue>>,
}

/// The part of a configuration in JSON that is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    key: String,
    value: String,
    origin: String,
    /// In batches only: the answer for one key says it in a header.
    #[serde(default)]
    cached: bool,
    #[serde(default)]
    stale: bool,
}

#[derive(Deserialize)]
struct Batch {
    entries: Vec<Entry>,
}

/// What a request says of its sender. A web ACL may refuse a request that says nothing.
const USER_AGENT: &str = concat!("tagged-config-loadtest/", env!("CARGO_PKG_VERSION"));

// === impl RestClient ===

impl RestClient {
    /// A client of this base URL; connects when it is first used.
    pub(crate) fn new(base: &str, pools: u32, timeout: Duration) -> anyhow::Result<Self> {
        let client = || {
            http_client(base)
                .user_agent(USER_AGENT)
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(timeout)
                .tcp_nodelay(true)
                .build()
        };
        let clients: Result<_, _> = (0..pools).map(|_| client()).collect();
        Ok(Self {
            base: base.to_owned(),
            clients: clients?,
            next: AtomicUsize::new(0),
            tags: Mutex::default(),
        })
    }

    /// The next of the pools.
    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.clients[self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len()]
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether anything answers there at all.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        let answer = self
            .client()
            .get(self.url("/v1/config/tenant_config_loadtest"))
            .send()
            .await;
        let answer = answer.with_context(|| format!("cannot reach {}: does it run?", self.base))?;
        anyhow::ensure!(
            answer.status().as_u16() == 401,
            "{} answered {} to a call without a token, not 401: is it the right address?",
            self.base,
            answer.status()
        );
        Ok(())
    }

    /// Sends a request and checks the answer.
    pub(super) async fn send(&self, caller: &Caller, operation: &Operation) -> Answer {
        match self.try_send(caller, operation).await {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() => Answer::failed("no answer in time"),
            Err(error) if error.is_connect() => Answer::failed("cannot connect"),
            Err(error) if error.is_decode() => Answer::failed("not the agreed JSON"),
            Err(_) => Answer::failed("connection broke"),
        }
    }

    async fn try_send(&self, caller: &Caller, operation: &Operation) -> reqwest::Result<Answer> {
        let token = caller.token();
        let client = self.client();
        let authorized = |request: reqwest::RequestBuilder| {
            request.header(reqwest::header::AUTHORIZATION, token.header.clone())
        };
        match operation {
            Operation::Get(wanted) => {
                let answer =
                    authorized(client.get(self.url(&format!("/v1/config/{}", wanted.key))))
                        .send()
                        .await?;
                let result = cache_result(answer.headers());
                match answer.status().as_u16() {
                    200 => {
                        let entry: Entry = answer.json().await?;
                        Ok(wanted.judge(&entry.key, &entry.value, &entry.origin, result))
                    }
                    404 if wanted.expect == Expect::Absent => {
                        // To the end, or the connection is not used again.
                        answer.bytes().await?;
                        Ok(Answer::good(CacheResult::Absent))
                    }
                    status => refused(status, answer).await,
                }
            }
            Operation::GetIfChanged(wanted) => {
                let id = (caller.tenant.clone(), wanted.key.clone());
                let known = self.tags.lock().get(&id).cloned();
                let mut request =
                    authorized(client.get(self.url(&format!("/v1/config/{}", wanted.key))));
                if let Some(tag) = &known {
                    request = request.header(reqwest::header::IF_NONE_MATCH, tag.clone());
                }
                let answer = request.send().await?;
                let result = cache_result(answer.headers());
                match (answer.status().as_u16(), known) {
                    (304, Some(_)) => Ok(Answer::good(result)),
                    (200, _) => {
                        let tag = answer.headers().get(reqwest::header::ETAG).cloned();
                        let entry: Entry = answer.json().await?;
                        let Some(tag) = tag else {
                            return Ok(Answer::failed("no ETag"));
                        };
                        let judged = wanted.judge(&entry.key, &entry.value, &entry.origin, result);
                        if judged.error.is_none() {
                            self.tags.lock().insert(id, tag);
                        }
                        Ok(judged)
                    }
                    (status, _) => refused(status, answer).await,
                }
            }
            Operation::Blob(blob) => {
                let url = self.url(&format!("/v1/config/{}:raw", blob.key()));
                let answer = authorized(client.get(url)).send().await?;
                match answer.status().as_u16() {
                    200 => judge_blob(blob, answer).await,
                    status => refused(status, answer).await,
                }
            }
            Operation::Batch(wanted) => {
                let keys: Vec<_> = wanted.iter().map(|one| one.key.as_str()).collect();
                let body = json!({"keys": keys});
                let answer = authorized(client.post(self.url("/v1/config:batchGet")))
                    .json(&body)
                    .send()
                    .await?;
                let status = answer.status().as_u16();
                if status != 200 {
                    return refused(status, answer).await;
                }
                let batch: Batch = answer.json().await?;
                let found = batch.entries.iter().map(|entry| {
                    (
                        entry.key.as_str(),
                        entry.value.as_str(),
                        entry.origin.as_str(),
                        CacheResult::of(entry.cached, entry.stale),
                    )
                });
                Ok(judge_batch(wanted, &found.collect::<Vec<_>>()))
            }
            Operation::Put { key, value } => {
                let answer = authorized(client.put(self.url(&format!("/v1/config/{key}"))))
                    .header(CONTENT_TYPE, "application/json")
                    .body(value.clone())
                    .send()
                    .await?;
                let status = answer.status().as_u16();
                if !matches!(status, 200 | 201) {
                    return refused(status, answer).await;
                }
                let written: Value = answer.json().await?;
                Ok(if written["version"].as_i64().is_some_and(|v| v > 0) {
                    Answer::good(CacheResult::None)
                } else {
                    Answer::failed("no version")
                })
            }
            Operation::Order { cents } => {
                let answer = authorized(client.post(self.url("/v1/orders")))
                    .json(&order(*cents))
                    .send()
                    .await?;
                let status = answer.status().as_u16();
                if status != 200 {
                    return refused(status, answer).await;
                }
                Ok(judge_order(*cents, &answer.json().await?))
            }
        }
    }
}

fn cache_result(headers: &HeaderMap) -> CacheResult {
    match headers.get("x-config-cache").map(HeaderValue::as_bytes) {
        Some(b"hit") => CacheResult::Hit,
        Some(b"miss") => CacheResult::Miss,
        Some(b"stale") => CacheResult::Stale,
        _ => CacheResult::None,
    }
}

/// Compares a blob as it arrives. To the end also if it is wrong, or the connection is not used again.
async fn judge_blob(blob: &Blob, mut answer: reqwest::Response) -> reqwest::Result<Answer> {
    let result = cache_result(answer.headers());
    let origin = answer.headers().get("x-config-origin");
    let mut is_right = origin.is_some_and(|origin| origin == "tenant");
    let mut length = 0;
    loop {
        match answer.chunk().await {
            Ok(Some(piece)) => {
                is_right = is_right && blob.has(length, &piece);
                length += piece.len();
            }
            Ok(None) if is_right && length == blob.size.bytes => return Ok(Answer::good(result)),
            Ok(None) => return Ok(Answer::failed("wrong value")),
            Err(error) if error.is_timeout() => return Err(error),
            // What reqwest calls an error of decoding.
            Err(_) => return Ok(Answer::failed("connection broke")),
        }
    }
}

async fn refused(status: u16, answer: reqwest::Response) -> reqwest::Result<Answer> {
    answer.bytes().await?;
    Ok(Answer::failed(format!("HTTP {status}")))
}

/// An order of one article at this price.
pub(crate) fn order(cents: u64) -> Value {
    json!({"lines": [{"sku": "loadtest", "quantity": 1, "unitPrice": amount(cents)}]})
}

/// What order-service answers for such an order of a seeded tenant; null for another one.
pub(crate) fn priced(order: &Value) -> Value {
    let price = order["lines"][0]["unitPrice"].as_str().and_then(cents_of);
    price.map_or(
        Value::Null,
        |cents| json!({"subtotal": amount(cents), "discount": amount(discount(cents))}),
    )
}

fn amount(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Half a cent rounds up.
fn discount(cents: u64) -> u64 {
    let percent = u64::from(crate::dataset::DISCOUNT_PERCENT);
    cents.saturating_mul(percent).saturating_add(50) / 100
}

/// The subtotal must be the order's, and the discount what the tenant's seeded configuration says.
fn judge_order(cents: u64, order: &Value) -> Answer {
    let amount = |name: &str| order[name].as_str().and_then(cents_of);
    if amount("subtotal") == Some(cents) && amount("discount") == Some(discount(cents)) {
        Answer::good(CacheResult::None)
    } else {
        Answer::failed("wrong price")
    }
}

/// Cents of an amount with two digits after the point.
pub(crate) fn cents_of(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    if part.len() != 2 {
        return None;
    }
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(part.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Web ACLs refuse callers without it.
    #[tokio::test]
    async fn requests_name_their_agent() -> anyhow::Result<()> {
        use tokio::io::AsyncReadExt as _;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        let client = RestClient::new(&base, 1, Duration::from_secs(5))?;
        tokio::spawn(client.client().get(&base).send());
        let (mut stream, _) = listener.accept().await?;
        let mut head = vec![0; 1_024];
        let length = stream.read(&mut head).await?;
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        assert!(
            head.contains(&format!("user-agent: {USER_AGENT}")),
            "{head}"
        );
        Ok(())
    }

    #[test]
    fn prices_are_checked_to_the_cent() {
        let priced =
            |subtotal: &str, discount: &str| json!({"subtotal": subtotal, "discount": discount});
        assert!(
            judge_order(1_999, &priced("19.99", "2.00")).error.is_none(),
            "half a cent rounds up"
        );
        assert!(judge_order(1_999, &priced("19.99", "0.00")).error.is_some());
        assert!(judge_order(1_999, &json!({})).error.is_some());
        assert_eq!(cents_of("1000000.07"), Some(100_000_007));
        assert_eq!(
            (cents_of("1"), cents_of("1.5"), cents_of("x.00")),
            (None, None, None)
        );
    }
}

//! Sends requests to the service, over gRPC or REST, and checks the answer: its key, its owner, its value.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use serde_json::Value;
use tagged_config_proto::v1::{
    BatchGetConfigRequest, GetConfigRequest, GetConfigResponse, PutConfigRequest,
    config_service_client::ConfigServiceClient,
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    blobs::Blob,
    recorder::{Answer, CacheResult},
    tokens::{Caller, Token},
};

mod rest;

pub(crate) use rest::{RestClient, cents_of, order, priced};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// One key.
    Get(Wanted),
    /// One key, with the ETag of the last answer (If-None-Match). REST only.
    GetIfChanged(Wanted),
    /// A seeded blob: by gRPC if a message holds it, else the bytes alone by REST.
    Blob(Blob),
    /// Many keys in one call.
    Batch(Vec<Wanted>),
    /// Writes a value.
    Put { key: String, value: String },
    /// Prices an order of this subtotal, in cents.
    Order { cents: u64 },
}

/// A key, and what its value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The whole key, with its tag.
    pub(crate) key: String,
    /// What is right.
    pub(crate) expect: Expect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Exactly this.
    Value(String),
    /// A number, of the shared default.
    Number,
    /// Something that this tenant's writer wrote.
    Of(Arc<str>),
    /// Nothing by that name.
    Absent,
}

/// A way to the service.
pub(crate) enum Client {
    /// gRPC for configuration; orders by REST at order-service, where that is known, and what no message holds by REST at the
    /// replicas.
    Grpc {
        channels: Vec<Channel>,
        next: AtomicUsize,
        orders: Option<RestClient>,
        raw: Vec<RestClient>,
        timeout: Duration,
    },
    /// REST for everything.
    Rest(RestClient),
}

// === impl Operation ===

impl Operation {
    /// As reports spell it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Get(Wanted {
                expect: Expect::Absent,
                ..
            }) => "get-absent",
            Self::Get(_) => "get",
            Self::GetIfChanged(_) => "get-if-changed",
            Self::Blob(blob) => blob.size.operation,
            Self::Batch(_) => "batch",
            Self::Put { .. } => "put",
            Self::Order { .. } => "order",
        }
    }

    /// Whether no message holds its answer.
    fn is_streamed(&self) -> bool {
        matches!(self, Self::Blob(blob) if !blob.fits_a_message())
    }
}

// === impl Wanted ===

impl Wanted {
    fn is_right(&self, key: &str, value: &str, origin: &str) -> bool {
        let is_mine = key == self.key && origin == "tenant";
        match &self.expect {
            Expect::Value(wanted) => value == wanted && is_mine,
            Expect::Number => key == self.key && value.parse::<f64>().is_ok() && origin == "global",
            Expect::Of(tenant) => {
                let parsed = serde_json::from_str::<Value>(value);
                is_mine && parsed.is_ok_and(|value| value["tenant"] == **tenant)
            }
            Expect::Absent => false,
        }
    }

    /// Checks an answer that has a value.
    fn judge(&self, key: &str, value: &str, origin: &str, result: CacheResult) -> Answer {
        if self.is_right(key, value, origin) {
            Answer::good(result)
        } else {
            Answer::failed("wrong value")
        }
    }
}

// === impl Client ===

impl Client {
    /// Connects to every replica.
    pub(crate) async fn grpc(
        addresses: &[String],
        connections: u32,
        timeout: Duration,
        orders: Option<RestClient>,
    ) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        for _ in 0..connections {
            for address in addresses {
                channels.push(connect(address).await?);
            }
        }
        Ok(Self::Grpc {
            channels,
            next: AtomicUsize::new(0),
            orders,
            raw: Vec::new(),
            timeout,
        })
    }

    /// The same with REST at the replicas, if it calls gRPC.
    pub(crate) fn with_raw(mut self, clients: Vec<RestClient>) -> Self {
        if let Self::Grpc { raw, .. } = &mut self {
            *raw = clients;
        }
        self
    }

    /// Sends a request and checks the answer. Never fails: a missing answer is reported as a failed one.
    pub(crate) async fn send(&self, caller: &Caller, operation: &Operation) -> Answer {
        match self {
            Self::Rest(client) => client.send(caller, operation).await,
            Self::Grpc {
                orders: Some(client),
                ..
            } if matches!(operation, Operation::Order { .. }) => {
                client.send(caller, operation).await
            }
            Self::Grpc { raw, next, .. } if operation.is_streamed() => {
                match raw.get(next.fetch_add(1, Ordering::Relaxed) % raw.len().max(1)) {
                    Some(client) => client.send(caller, operation).await,
                    None => Answer::failed("no message holds it"),
                }
            }
            Self::Grpc {
                channels,
                next,
                timeout,
                ..
            } => {
                let channel = &channels[next.fetch_add(1, Ordering::Relaxed) % channels.len()];
                match tokio::time::timeout(
                    *timeout,
                    grpc(channel.clone(), &caller.token(), operation, *timeout),
                )
                .await
                {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(status)) => Answer::failed(code_name(status.code())),
                    Err(_) => Answer::failed("no answer in time"),
                }
            }
        }
    }
}

/// A connection that is there; says so if there can be none.
pub(crate) async fn connect(address: &str) -> anyhow::Result<Channel> {
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .connect()
        .await
        .with_context(|| format!("cannot reach {address} (gRPC): does it run?"))
}

async fn grpc(
    channel: Channel,
    token: &Token,
    operation: &Operation,
    timeout: Duration,
) -> Result<Answer, Status> {
    let mut client = ConfigServiceClient::new(channel);
    match operation {
        Operation::Get(wanted) | Operation::GetIfChanged(wanted) => {
            let request = GetConfigRequest {
                key: wanted.key.clone(),
                ..Default::default()
            };
            match client.get_config(signed(request, token, timeout)).await {
                Ok(entry) => {
                    let entry = entry.get_ref();
                    let result = CacheResult::of(entry.cached, entry.stale);
                    Ok(wanted.judge(&entry.key, &entry.value, &entry.origin, result))
                }
                Err(status)
                    if status.code() == Code::NotFound && wanted.expect == Expect::Absent =>
                {
                    Ok(Answer::good(CacheResult::Absent))
                }
                Err(status) => Err(status),
            }
        }
        Operation::Blob(blob) => {
            let request = GetConfigRequest {
                key: blob.key(),
                ..Default::default()
            };
            let entry = client.get_config(signed(request, token, timeout)).await?;
            let entry = entry.get_ref();
            let is_own = entry.key == blob.key() && entry.origin == "tenant";
            Ok(if is_own && blob.is(&entry.data) {
                Answer::good(CacheResult::of(entry.cached, entry.stale))
            } else {
                Answer::failed("wrong value")
            })
        }
        Operation::Batch(wanted) => {
            let keys = wanted.iter().map(|one| one.key.clone()).collect();
            let request = BatchGetConfigRequest {
                keys,
                freshness: false,
            };
            let batch = client
                .batch_get_config(signed(request, token, timeout))
                .await?
                .into_inner();
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
            let request = PutConfigRequest {
                key: key.clone(),
                value: value.clone(),
                ..Default::default()
            };
            let written = client.put_config(signed(request, token, timeout)).await?;
            Ok(if written.get_ref().version > 0 {
                Answer::good(CacheResult::None)
            } else {
                Answer::failed("no version")
            })
        }
        Operation::Order { .. } => Ok(Answer::failed("not a call of gRPC")),
    }
}

/// A request with the caller's token and a time limit that the service honours too.
pub(crate) fn signed<T>(message: T, token: &Token, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", token.metadata.clone());
    request.set_timeout(timeout);
    request
}

/// The text of a value, also where its store keeps bytes; bytes that are no text have none.
pub(crate) fn text_of(entry: &GetConfigResponse) -> &str {
    if entry.data.is_empty() {
        &entry.value
    } else {
        std::str::from_utf8(&entry.data).unwrap_or_default()
    }
}

/// What an answer's parts say: each wanted key must be there once, and right.
fn judge_batch(wanted: &[Wanted], found: &[(&str, &str, &str, CacheResult)]) -> Answer {
    let mut worst = CacheResult::Hit;
    for one in wanted {
        let entry = found.iter().find(|(key, ..)| *key == one.key);
        match (entry, &one.expect) {
            (None, Expect::Absent) => {}
            (Some((key, value, origin, result)), _) if one.is_right(key, value, origin) => {
                worst = worst.worse(*result);
            }
            (None, _) => return Answer::failed("missing in batch"),
            (Some(_), _) => return Answer::failed("wrong value"),
        }
    }
    Answer::good(worst)
}

/// A code as the gRPC specification spells it.
pub(crate) fn code_name(code: Code) -> String {
    let spelled = format!("{code:?}");
    let mut name = String::with_capacity(spelled.len() + 4);
    for (index, letter) in spelled.char_indices() {
        if index > 0 && letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(key: &str, expect: Expect) -> Wanted {
        Wanted {
            key: key.to_owned(),
            expect,
        }
    }

    #[test]
    fn a_wrong_answer_is_a_failure() {
        let mine = wanted("k", Expect::Value("v".to_owned()));
        let error = |wanted: &Wanted, (key, value, origin): (&str, &str, &str)| {
            wanted.judge(key, value, origin, CacheResult::Hit).error
        };
        assert_eq!(error(&mine, ("k", "v", "tenant")), None);
        for wrong in [
            ("other", "v", "tenant"),
            ("k", "other", "tenant"),
            ("k", "v", "global"),
        ] {
            assert_eq!(
                error(&mine, wrong).as_deref(),
                Some("wrong value"),
                "{wrong:?}"
            );
        }
        let written = wanted("k", Expect::Of("lt-00001".into()));
        let by = |tenant: &str| format!(r#"{{"tenant":"{tenant}"}}"#);
        assert_eq!(error(&written, ("k", &by("lt-00001"), "tenant")), None);
        let foreign = error(&written, ("k", &by("lt-00002"), "tenant"));
        assert!(foreign.is_some(), "another tenant's value");
        let absent = wanted("k", Expect::Absent);
        assert!(
            error(&absent, ("k", "v", "tenant")).is_some(),
            "it must not be there"
        );
    }

    #[test]
    fn a_batch_is_as_good_as_its_worst_part() {
        let keys = [
            wanted("a", Expect::Value("1".to_owned())),
            wanted("b", Expect::Value("2".to_owned())),
            wanted("gone", Expect::Absent),
        ];
        let a = ("a", "1", "tenant", CacheResult::Hit);
        let b = ("b", "2", "tenant", CacheResult::Miss);
        assert_eq!(judge_batch(&keys, &[a, b]).result, CacheResult::Miss);
        assert_eq!(
            judge_batch(&keys, &[a]).error.as_deref(),
            Some("missing in batch")
        );
        let wrong = ("b", "1", "tenant", CacheResult::Hit);
        assert_eq!(
            judge_batch(&keys, &[a, wrong]).error.as_deref(),
            Some("wrong value")
        );
    }

    #[test]
    fn bytes_that_are_text_are_read_as_text() {
        let of = |value: &str, data: &'static [u8]| {
            let entry = GetConfigResponse {
                value: value.to_owned(),
                data: data.into(),
                ..Default::default()
            };
            text_of(&entry).to_owned()
        };
        assert_eq!(of("a", b""), "a");
        assert_eq!(of("", b"b"), "b");
        assert_eq!(of("", b"\xff"), "");
    }

    #[test]
    fn codes_have_their_standard_names() {
        assert_eq!(code_name(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
        assert_eq!(code_name(Code::Ok), "OK");
    }
}

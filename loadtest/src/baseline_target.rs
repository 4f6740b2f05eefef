//! The baseline target: a process of its own, as a real target is, that answers each request of a load test immediately and
//! correctly, from the seed's rule and without a cache or a store. What the harness measures of it is the client overhead, and
//! the least that a network call costs on this machine.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::Arc,
};

use anyhow::{Context, bail};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response as HttpResponse},
    routing::{get, post},
};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tagged_config_proto::v1::{
    self as pb, BatchGetConfigRequest, BatchGetConfigResponse, DeleteConfigRequest,
    DeleteConfigResponse, ExplainConfigRequest, ExplainConfigResponse, GetConfigRequest,
    GetConfigResponse, ListConfigRequest, ListConfigResponse, PutConfigRequest, PutConfigResponse,
    WatchConfigRequest, WatchConfigResponse,
    config_service_server::{ConfigService, ConfigServiceServer},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    Ended,
    blobs::Blob,
    client,
    dataset::Dataset,
    scenarios::{mixed, writers},
    secrets,
    tokens::tenant_of,
};

/// The target's process. Ends with this value.
pub(crate) struct BaselineTarget {
    /// Its gRPC address.
    pub(crate) grpc: String,
    /// Its base URL.
    pub(crate) url: String,
    _process: Child,
}

impl BaselineTarget {
    /// Starts a process that answers with this dataset's values.
    pub(crate) async fn start(dataset: Dataset) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut process = Command::new(program)
            .args(["baseline-target", "--value-bytes"])
            .arg(dataset.value_bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the baseline target")?;
        let output = process.stdout.take().context("it has an output")?;
        let line = BufReader::new(output)
            .lines()
            .next_line()
            .await?
            .unwrap_or_default();
        let Some((grpc, http)) = line.split_once(' ') else {
            bail!("the baseline target did not start");
        };
        Ok(Self {
            grpc: grpc.to_owned(),
            url: format!("http://{http}"),
            _process: process,
        })
    }
}

/// `loadtest baseline-target`: serves until standard input ends, which it does with whoever started this.
pub(crate) async fn serve(dataset: Dataset) -> anyhow::Result<Ended> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let grpc = TcpListener::bind(any_port).await?;
    let http = TcpListener::bind(any_port).await?;
    println!("{} {}", grpc.local_addr()?, http.local_addr()?);
    let mut rest = Vec::new();
    let mut input = tokio::io::stdin();
    tokio::select! {
        ended = answer(dataset, grpc, http) => ended?,
        _ = input.read_to_end(&mut rest) => {}
    }
    Ok(Ended::Well)
}

/// Answers on both; ends with an error only.
pub(crate) async fn answer(
    dataset: Dataset,
    grpc: TcpListener,
    http: TcpListener,
) -> anyhow::Result<()> {
    let answers = Arc::new(Answers {
        dataset,
        blobs: Mutex::default(),
    });
    let incoming =
        tokio_stream::StreamExt::map(tokio_stream::wrappers::TcpListenerStream::new(grpc), |s| {
            s.inspect(|s| {
                let _ = s.set_nodelay(true);
            })
        });
    let grpc = tonic::transport::Server::builder()
        .add_service(ConfigServiceServer::from_arc(Arc::clone(&answers)))
        .serve_with_incoming(incoming);
    let http = axum::serve(
        axum::serve::ListenerExt::tap_io(http, |stream| {
            let _ = stream.set_nodelay(true);
        }),
        rest(answers),
    );
    tokio::select! {
        ended = grpc => ended?,
        ended = http => ended?,
    }
    Ok(())
}

/// The data of a seeded service.
struct Answers {
    dataset: Dataset,
    /// Blobs by tenant and key, made when they are first requested.
    blobs: Mutex<HashMap<(String, String), Bytes>>,
}

// === impl Answers ===

impl Answers {
    /// What this tenant finds by this key: a seeded one, the shared parameter, or nothing.
    fn entry(&self, tenant: &str, key: &str) -> Option<GetConfigResponse> {
        let (value, origin) = if key == mixed::PARAMETER {
            ("0.1".to_owned(), "global")
        } else if key == secrets::KEY {
            (secrets::value(tenant), "tenant")
        } else {
            let name = key.strip_prefix("tenant_config_loadtest/")?;
            let value = match (name.strip_prefix('k'), name.strip_prefix('w')) {
                (Some(number), _) => self.dataset.value(tenant, number.parse().ok()?),
                (_, Some(number)) => writers::value(tenant, number.parse().ok()?),
                _ => return None,
            };
            (value, "tenant")
        };
        Some(GetConfigResponse {
            key: key.to_owned(),
            value,
            version: 1,
            source: "dynamodb".to_owned(),
            cached: true,
            origin: origin.to_owned(),
            content_type: "application/json".to_owned(),
            ..Default::default()
        })
    }

    /// The blob that this tenant has by this key.
    fn blob(&self, tenant: &str, key: &str) -> Option<Bytes> {
        let blob = Blob::at(tenant, key)?;
        let mut made = self.blobs.lock();
        let content = made.entry((tenant.to_owned(), key.to_owned()));
        Some(content.or_insert_with(|| blob.content()).clone())
    }
}

// === gRPC ===

fn grpc_tenant(metadata: &MetadataMap) -> Result<String, Status> {
    let token = metadata.get("authorization").map(|token| token.to_str());
    let tenant = token.and_then(|token| tenant_of(token.ok()?));
    tenant.ok_or_else(|| Status::unauthenticated("no tenant"))
}

fn not_measured<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("no scenario calls this"))
}

#[tonic::async_trait]
impl ConfigService for Answers {
    type WatchConfigStream = tokio_stream::Empty<Result<WatchConfigResponse, Status>>;

    async fn get_config(
        &self,
        request: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let (tenant, key) = (grpc_tenant(request.metadata())?, &request.get_ref().key);
        if let Some(data) = self.blob(&tenant, key) {
            return Ok(Response::new(GetConfigResponse {
                key: key.clone(),
                data,
                cached: true,
                origin: "tenant".to_owned(),
                ..Default::default()
            }));
        }
        let entry = self.entry(&tenant, key);
        entry
            .map(Response::new)
            .ok_or_else(|| Status::not_found("no such key"))
    }

    async fn batch_get_config(
        &self,
        request: Request<BatchGetConfigRequest>,
    ) -> Result<Response<BatchGetConfigResponse>, Status> {
        let tenant = grpc_tenant(request.metadata())?;
        let keys = request.get_ref().keys.iter();
        Ok(Response::new(BatchGetConfigResponse {
            entries: keys.filter_map(|key| self.entry(&tenant, key)).collect(),
            ..Default::default()
        }))
    }

    async fn put_config(
        &self,
        _: Request<PutConfigRequest>,
    ) -> Result<Response<PutConfigResponse>, Status> {
        Ok(Response::new(PutConfigResponse {
            version: 1,
            ..Default::default()
        }))
    }

    async fn list_config(
        &self,
        _: Request<ListConfigRequest>,
    ) -> Result<Response<ListConfigResponse>, Status> {
        not_measured()
    }

    async fn delete_config(
        &self,
        _: Request<DeleteConfigRequest>,
    ) -> Result<Response<DeleteConfigResponse>, Status> {
        not_measured()
    }

    async fn list_history(
        &self,
        _: Request<pb::ListHistoryRequest>,
    ) -> Result<Response<pb::ListHistoryResponse>, Status> {
        not_measured()
    }

    async fn diff_config(
        &self,
        _: Request<pb::DiffConfigRequest>,
    ) -> Result<Response<pb::DiffConfigResponse>, Status> {
        not_measured()
    }

    async fn rollback_config(
        &self,
        _: Request<pb::RollbackConfigRequest>,
    ) -> Result<Response<pb::RollbackConfigResponse>, Status> {
        not_measured()
    }

    async fn undo_changes(
        &self,
        _: Request<pb::UndoChangesRequest>,
    ) -> Result<Response<pb::UndoChangesResponse>, Status> {
        not_measured()
    }

    async fn explain_config(
        &self,
        _: Request<ExplainConfigRequest>,
    ) -> Result<Response<ExplainConfigResponse>, Status> {
        not_measured()
    }

    async fn watch_config(
        &self,
        _: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        not_measured()
    }
}

// === REST ===

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

fn rest(answers: Arc<Answers>) -> Router {
    Router::new()
        .route(
            "/v1/config/{*key}",
            get(rest_get).put(async || Json(json!({"version": 1}))),
        )
        .route("/v1/config:batchGet", post(rest_batch))
        .route(
            "/v1/orders",
            post(async |Json(order): Json<Value>| Json(client::priced(&order))),
        )
        .with_state(answers)
}

fn rest_tenant(headers: &HeaderMap) -> Result<String, StatusCode> {
    let token = headers.get(AUTHORIZATION).map(|token| token.to_str());
    let tenant = token.and_then(|token| tenant_of(token.ok()?));
    tenant.ok_or(StatusCode::UNAUTHORIZED)
}

fn json_of(entry: &GetConfigResponse) -> Value {
    json!({"key": entry.key, "value": entry.value, "origin": entry.origin, "cached": entry.cached})
}

async fn rest_get(
    State(answers): State<Arc<Answers>>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<HttpResponse, StatusCode> {
    let tenant = rest_tenant(&headers)?;
    let blob = key.strip_suffix(":raw");
    if let Some(content) = blob.and_then(|key| answers.blob(&tenant, key)) {
        let known = [("x-config-cache", "hit"), ("x-config-origin", "tenant")];
        return Ok((known, content).into_response());
    }
    let entry = answers.entry(&tenant, &key).ok_or(StatusCode::NOT_FOUND)?;
    let known = [("x-config-cache", "hit"), (ETAG.as_str(), "\"1\"")];
    Ok(if headers.contains_key(IF_NONE_MATCH) {
        (StatusCode::NOT_MODIFIED, known).into_response()
    } else {
        (known, Json(json_of(&entry))).into_response()
    })
}

async fn rest_batch(
    State(answers): State<Arc<Answers>>,
    headers: HeaderMap,
    Json(wanted): Json<Keys>,
) -> Result<Json<Value>, StatusCode> {
    let tenant = rest_tenant(&headers)?;
    let found = wanted
        .keys
        .iter()
        .filter_map(|key| answers.entry(&tenant, key));
    let entries: Vec<Value> = found.map(|entry| json_of(&entry)).collect();
    Ok(Json(json!({"entries": entries})))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::{
        blobs::SIZES,
        cli::{Shape, Target},
        client::{Client, Operation, RestClient},
        scenarios::Mix,
        tokens::tests::callers,
        world::World,
    };

    pub(crate) const SHAPE: Shape = Shape {
        tenants: 2,
        keys: 5,
        value_bytes: 200,
    };

    /// One in this process: its gRPC address and its base URL.
    pub(crate) async fn started(shape: &Shape) -> (String, String) {
        let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let places = (grpc.local_addr().unwrap(), http.local_addr().unwrap());
        tokio::spawn(answer(Dataset::of(shape), grpc, http));
        (places.0.to_string(), format!("http://{}", places.1))
    }

    /// So that what checking an answer costs is in the baseline, too.
    #[tokio::test]
    async fn every_answer_to_every_scenario_is_right() -> anyhow::Result<()> {
        let (grpc, url) = started(&SHAPE).await;
        let timeout = Duration::from_secs(10);
        let rest = || RestClient::new(&url, 1, timeout);
        let clients = [
            (
                Target::Grpc,
                Client::grpc(&[grpc], 1, timeout, Some(rest()?)).await?,
            ),
            (Target::Edge, Client::Rest(rest()?)),
        ];
        let callers = callers(&["lt-00001", "lt-00002"]);
        for (target, client) in clients {
            // Another value than the seed's is a wrong one.
            for (shape, is_right) in [
                (SHAPE, true),
                (
                    Shape {
                        value_bytes: 201,
                        ..SHAPE
                    },
                    false,
                ),
            ] {
                let world = World::new(callers.clone(), Dataset::of(&shape), 1.0)?;
                let mut rng = SmallRng::seed_from_u64(1);
                let mut errors = BTreeMap::new();
                for _ in 0..300 {
                    let call = (Mix::default_of(target).pick(&mut rng).next)(&world, &mut rng);
                    let answer = client.send(&call.caller, &call.operation).await;
                    if let Some(code) = answer.error {
                        *errors.entry((call.operation.name(), code)).or_insert(0) += 1;
                    }
                }
                assert_eq!(errors.is_empty(), is_right, "{errors:?}");
                assert!(
                    errors.keys().all(|(_, code)| code == "wrong value"),
                    "{errors:?}"
                );
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn blobs_and_secrets_are_right_and_another_tenants_are_not() -> anyhow::Result<()> {
        let (grpc, url) = started(&SHAPE).await;
        let timeout = Duration::from_secs(10);
        let rest = || RestClient::new(&url, 1, timeout);
        let without = Client::grpc(std::slice::from_ref(&grpc), 1, timeout, None).await?;
        let with = Client::grpc(&[grpc], 1, timeout, None).await?;
        let clients = [with.with_raw(vec![rest()?]), Client::Rest(rest()?)];
        let callers = callers(&["lt-admin-1", "lt-admin-2"]);
        let mix: Mix = "blob,secret".parse().map_err(anyhow::Error::msg)?;
        let world = World::new(callers.clone(), Dataset::of(&SHAPE), 1.0)?;
        let world = world.with_admins(callers.clone());
        let foreign = SIZES.map(|size| Operation::Blob(Blob::of("lt-admin-2", size)));
        for client in clients {
            let mut rng = SmallRng::seed_from_u64(1);
            for _ in 0..50 {
                let call = (mix.pick(&mut rng).next)(&world, &mut rng);
                let answer = client.send(&call.caller, &call.operation).await;
                assert_eq!(answer.error, None, "{}", call.operation.name());
            }
            for operation in &foreign {
                let answer = client.send(&callers[0], operation).await;
                let name = operation.name();
                assert_eq!(answer.error.as_deref(), Some("wrong value"), "{name}");
            }
        }
        let answer = without.send(&callers[1], &foreign[3]).await;
        assert_eq!(answer.error.as_deref(), Some("no message holds it"));
        Ok(())
    }
}

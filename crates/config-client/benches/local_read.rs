//! A read of the cache in the process, beside a read of a map of the same size: `make bench`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up has no result"
)]

use std::{collections::HashMap, hint::black_box, pin::Pin, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use tagged_config_client::{
    CacheConfig, CallerToken, ClientConfig, ConfigCache, ConfigClient, TenantConfig, Unobserved,
};
use tagged_config_proto::v1::{
    BatchGetConfigRequest, BatchGetConfigResponse, DeleteConfigRequest, DeleteConfigResponse,
    ExplainConfigRequest, ExplainConfigResponse, GetConfigRequest, GetConfigResponse,
    ListConfigRequest, ListConfigResponse, PutConfigRequest, PutConfigResponse, WatchConfigRequest,
    WatchConfigResponse,
    config_service_server::{ConfigService, ConfigServiceServer},
    watch_config_response::Event,
};
use tagged_config_testkit::Issuer;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

const TENANT: &str = "A1B2C3D4";
/// Keys of the tenant.
const KEYS: usize = 100;

#[derive(Deserialize)]
struct Flag {
    enabled: bool,
}

fn key(number: usize) -> String {
    format!("tenant_config_service/feature-{number:04}")
}

/// Sends every watch the same snapshot, and no more. Other calls are not made.
struct Source;

#[tonic::async_trait]
impl ConfigService for Source {
    type WatchConfigStream =
        Pin<Box<dyn Stream<Item = Result<WatchConfigResponse, Status>> + Send>>;

    async fn watch_config(
        &self,
        request: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        let entries = request.into_inner().keys.into_iter().map(|key| {
            Event::Upserted(GetConfigResponse {
                key,
                value: r#"{"enabled":true,"variant":"treatment"}"#.to_owned(),
                version: 1,
                ..Default::default()
            })
        });
        let events = entries.chain([Event::InSync(true)]);
        let events = events.map(|event| Ok(WatchConfigResponse { event: Some(event) }));
        let events: Vec<_> = events.collect();
        Ok(Response::new(Box::pin(
            stream::iter(events).chain(stream::pending()),
        )))
    }

    async fn get_config(
        &self,
        _: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn batch_get_config(
        &self,
        _: Request<BatchGetConfigRequest>,
    ) -> Result<Response<BatchGetConfigResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_config(
        &self,
        _: Request<ListConfigRequest>,
    ) -> Result<Response<ListConfigResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn put_config(
        &self,
        _: Request<PutConfigRequest>,
    ) -> Result<Response<PutConfigResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_config(
        &self,
        _: Request<DeleteConfigRequest>,
    ) -> Result<Response<DeleteConfigResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_history(
        &self,
        _: Request<tagged_config_proto::v1::ListHistoryRequest>,
    ) -> Result<Response<tagged_config_proto::v1::ListHistoryResponse>, Status> {
        Err(Status::unimplemented("not called"))
    }

    async fn diff_config(
        &self,
        _: Request<tagged_config_proto::v1::DiffConfigRequest>,
    ) -> Result<Response<tagged_config_proto::v1::DiffConfigResponse>, Status> {
        Err(Status::unimplemented("not called"))
    }

    async fn rollback_config(
        &self,
        _: Request<tagged_config_proto::v1::RollbackConfigRequest>,
    ) -> Result<Response<tagged_config_proto::v1::RollbackConfigResponse>, Status> {
        Err(Status::unimplemented("not called"))
    }

    async fn undo_changes(
        &self,
        _: Request<tagged_config_proto::v1::UndoChangesRequest>,
    ) -> Result<Response<tagged_config_proto::v1::UndoChangesResponse>, Status> {
        Err(Status::unimplemented("not called"))
    }

    async fn explain_config(
        &self,
        _: Request<ExplainConfigRequest>,
    ) -> Result<Response<ExplainConfigResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn token() -> CallerToken {
    let claims = format!(r#"{{"custom:tenantId":"{TENANT}"}}"#);
    let claims = URL_SAFE_NO_PAD.encode(claims);
    CallerToken::from_authorization(&format!("Bearer e30.{claims}.c2ln")).unwrap()
}

async fn watched() -> TenantConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(ConfigServiceServer::new(Source));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let client = ConfigClient::new(&ClientConfig {
        endpoints: format!("http://{address}").parse().unwrap(),
        deadline: Duration::from_secs(10),
    });
    let config = CacheConfig {
        keys: (0..KEYS).map(key).collect(),
        tenants: 10,
        max_stale: Duration::from_mins(1),
    };
    let cache = ConfigCache::new(client, config, Arc::new(Unobserved)).unwrap();
    let tenant = Issuer::new().tenant(TENANT);
    let found = cache.tenant(&tenant, &token()).await.unwrap();
    assert!(found.freshness().live, "the watch has sent its snapshot");
    found
}

fn reads(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let tenant = runtime.block_on(watched());
    let wanted = key(42);
    let plain: HashMap<String, Arc<Flag>> = (0..KEYS)
        .map(|number| (key(number), Arc::new(Flag { enabled: true })))
        .collect();
    c.bench_function("local read/a plain map, for scale", |b| {
        b.iter(|| Arc::clone(&plain[black_box(wanted.as_str())]).enabled);
    });
    c.bench_function("local read/typed, one key", |b| {
        b.iter(|| {
            let snapshot = tenant.snapshot().unwrap();
            let flag = snapshot.get::<Flag>(black_box(&wanted)).unwrap().unwrap();
            flag.enabled
        });
    });
    c.bench_function("local read/typed, of a snapshot in hand", |b| {
        let snapshot = tenant.snapshot().unwrap();
        b.iter(|| {
            let flag = snapshot.get::<Flag>(black_box(&wanted)).unwrap().unwrap();
            flag.enabled
        });
    });
}

criterion_group!(benches, reads);
criterion_main!(benches);

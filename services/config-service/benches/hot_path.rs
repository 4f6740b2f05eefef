//! The parts of a cache hit, and the whole of it: `make bench`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up has no result"
)]

use std::{hint::black_box, sync::Arc};

use config_service::bench::Service;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tagged_config_auth::Authenticator;
use tagged_config_domain::{
    Backend, ConfigKey, LocationId, Record, Revision, SigningKeys, TokenRules,
};
use tagged_config_proto::v1::{
    Change, GetConfigRequest, GetConfigResponse, Location, Value, change::State,
    config_service_client::ConfigServiceClient,
};
use tagged_config_stores::Stores;
use tagged_config_testkit::{AUDIENCE, ISSUER, Issuer, MemoryStore, SharedJwks};
use tokio::runtime::Runtime;
use tonic::{
    Request,
    codegen::http::Uri,
    transport::{Channel, Endpoint, Server},
};

/// Keys of each tenant in the larger caches.
const KEYS: usize = 100;
const BACKEND: &str = "memory";

fn prost_len(message: &impl prost::Message) -> u64 {
    message.encoded_len() as u64
}

/// Names of keys and tenants as they are in production: long enough not to be a special case.
fn key(number: usize) -> String {
    format!("tenant_config_service/feature-{number:04}")
}

fn record(bytes: usize) -> Record {
    let revision = Revision {
        incarnation: 1,
        version: 1,
    };
    Record::new("x".repeat(bytes), "application/json", revision, None)
}

fn keys(c: &mut Criterion) {
    let stores = Stores::from_parts(vec![
        ("tenant", Arc::new(MemoryStore::default())),
        ("param", Arc::new(MemoryStore::layered())),
    ]);
    let text = key(42);
    c.bench_function("key/parse and route", |b| {
        b.iter(|| {
            let key = ConfigKey::parse(black_box(&text)).unwrap();
            stores.route(key.tag()).unwrap().backend()
        });
    });
}

fn tokens(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let issuer = Issuer::new();
    let rules = TokenRules::new(ISSUER, AUDIENCE);
    let keys = SigningKeys::from_jwks(issuer.jwks().as_bytes()).unwrap();
    let token = issuer.token("tenant-42", "writer");
    c.bench_function("token/full verification", |b| {
        b.iter(|| rules.verify(black_box(&token), &keys).unwrap());
    });
    let jwks = SharedJwks::of(issuer.jwks());
    let authenticator = Authenticator::new(TokenRules::new(ISSUER, AUDIENCE), jwks);
    let header = format!("Bearer {token}");
    c.bench_function("token/verified before", |b| {
        b.to_async(&runtime)
            .iter(|| authenticator.authenticate(Some(black_box(&header))));
    });
}

/// A service whose cache holds so many entries, and the places of some of them.
fn filled(runtime: &Runtime, entries: usize, bytes: usize) -> (Service, Vec<LocationId>) {
    let store = Arc::new(MemoryStore::default());
    let service = Service::new(Stores::from_parts(vec![("tenant", store.clone())]), 4 << 30);
    let issuer = Issuer::new();
    let mut places = Vec::new();
    for tenant in 0..entries.div_ceil(KEYS) {
        let name = format!("tenant-{tenant:05}");
        let principal = issuer.principal(&name, "reader");
        for number in 0..KEYS.min(entries) {
            let key = key(number);
            let short = key.strip_prefix("tenant_config_").unwrap();
            store.set(&name, short, record(bytes));
            assert!(runtime.block_on(service.get(&principal, &key)));
            places.push(LocationId::new(Backend(BACKEND), name.as_str(), short));
        }
    }
    assert_eq!(service.entries(), entries, "nothing was evicted");
    fastrand::Rng::with_seed(1).shuffle(&mut places);
    (service, places)
}

fn cache(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("cache/hit");
    for entries in [1_000, 100_000, 1_000_000] {
        let (service, places) = filled(&runtime, entries, 200);
        assert!(service.is_hit(&places[0]));
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(entries), |b| {
            b.iter(|| {
                next = (next + 1) % places.len();
                service.is_hit(black_box(&places[next]))
            });
        });
    }
    group.finish();
}

fn refresh(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (service, places) = filled(&runtime, 1_000, 200);
    let mut version = 1;
    c.bench_function("refresh/apply", |b| {
        b.iter_batched(
            || {
                version += 1;
                let place = &places[usize::try_from(version).unwrap() % places.len()];
                Change {
                    location: Some(Location {
                        backend: BACKEND.to_owned(),
                        partition: place.partition().to_owned(),
                        sort: place.sort().to_owned(),
                    }),
                    incarnation: 1,
                    version,
                    state: Some(State::Value(Value {
                        value: "y".repeat(200),
                        content_type: "application/json".to_owned(),
                        ..Default::default()
                    })),
                    ..Default::default()
                }
            },
            |change| assert!(service.refresh(change), "the change was applied"),
            BatchSize::SmallInput,
        );
    });
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("response/encode");
    for bytes in [200, 4_096] {
        let response = GetConfigResponse {
            key: key(42),
            value: "x".repeat(bytes),
            version: 1_764_000_000_000,
            source: "dynamodb".to_owned(),
            cached: true,
            content_type: "application/json".to_owned(),
            origin: "tenant".to_owned(),
            ..Default::default()
        };
        group.throughput(Throughput::Bytes(prost_len(&response)));
        let mut buffer = Vec::with_capacity(8_192);
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter(|| {
                buffer.clear();
                prost::Message::encode(black_box(&response), &mut buffer).unwrap();
                buffer.len()
            });
        });
    }
    group.finish();
}

/// A channel to the service that is no socket: what the service and HTTP/2 cost, without the kernel.
async fn in_process(service: &Service, issuer: &Issuer) -> Channel {
    let jwks = SharedJwks::of(issuer.jwks());
    let authenticator = Authenticator::new(TokenRules::new(ISSUER, AUDIENCE), jwks);
    let routes = service.routes(Arc::new(authenticator));
    let (client, server) = tokio::io::duplex(1 << 20);
    tokio::spawn(
        Server::builder()
            .add_routes(routes)
            .serve_with_incoming(futures::stream::iter([Ok::<_, std::io::Error>(server)])),
    );
    let mut client = Some(client);
    Endpoint::from_static("http://in-process")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let client = client.take();
            async move {
                client
                    .map(hyper_util::rt::TokioIo::new)
                    .ok_or_else(|| std::io::Error::other("connected already"))
            }
        }))
        .await
        .unwrap()
}

fn grpc(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let store = Arc::new(MemoryStore::default());
    store.set("tenant-42", "service/feature-0042", record(200));
    let service = Service::new(Stores::from_parts(vec![("tenant", store)]), 1 << 24);
    let issuer = Issuer::new();
    let channel = runtime.block_on(in_process(&service, &issuer));
    let authorization: tonic::metadata::MetadataValue<_> =
        format!("Bearer {}", issuer.token("tenant-42", "reader"))
            .parse()
            .unwrap();
    c.bench_function("grpc/GetConfig in process", |b| {
        b.to_async(&runtime).iter(|| {
            let mut client = ConfigServiceClient::new(channel.clone());
            let mut request = Request::new(GetConfigRequest {
                key: key(42),
                ..Default::default()
            });
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
            async move { client.get_config(request).await.unwrap() }
        });
    });
}

criterion_group!(benches, keys, tokens, encode, cache, refresh, grpc);
criterion_main!(benches);

//! What a cache hit allocates: few things, and the same number each time. One test, since the count is the process's.

use std::{alloc::System, sync::Arc};

use bytes::Bytes;
use config_service::bench::Service;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tagged_config_auth::Authenticator;
use tagged_config_domain::{Record, Revision, TokenRules};
use tagged_config_proto::v1::GetConfigRequest;
use tagged_config_stores::Stores;
use tagged_config_testkit::{AUDIENCE, ISSUER, Issuer, MemoryStore, SharedJwks};
use tokio::runtime::Builder;
use tonic::body::Body;
use tower::ServiceExt;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEY: &str = "tenant_config_service/feature-0042";
const METHOD: &str = "/tagged.config.v1.ConfigService/GetConfig";
const HITS: usize = 100;
/// Of a hit inside the service: the key, checked and answered, and the two parts of its place.
const MOST_INSIDE: usize = 4;
/// From the request's headers to the answer's bytes; the request that the test makes is among them.
const MOST_OVER_GRPC: usize = 44;

#[test]
fn a_hit_allocates_little() {
    let store = Arc::new(MemoryStore::default());
    let revision = Revision {
        incarnation: 1,
        version: 1,
    };
    let record = Record::new("x".repeat(200), "application/json", revision, None);
    store.set("tenant-42", "service/feature-0042", record);
    let service = Service::new(Stores::from_parts(vec![("tenant", store)]), 1 << 24);
    let issuer = Issuer::new();
    let caller = issuer.principal("tenant-42", "reader");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let inside = || assert!(runtime.block_on(service.get(&caller, KEY)));

    let jwks = SharedJwks::of(issuer.jwks());
    let authenticator = Authenticator::new(TokenRules::new(ISSUER, AUDIENCE), jwks);
    let routes = service.routes(Arc::new(authenticator)).prepare();
    let authorization = format!("Bearer {}", issuer.token("tenant-42", "reader"));
    let message = GetConfigRequest {
        key: KEY.to_owned(),
        ..Default::default()
    };
    let mut framed = vec![0, 0, 0, 0, u8::try_from(message.encoded_len()).unwrap()];
    message.encode(&mut framed).unwrap();
    let framed = Bytes::from(framed);
    let over_grpc = || {
        let request = Request::post(METHOD)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::AUTHORIZATION, &authorization)
            .body(Body::new(Full::new(framed.clone())))
            .unwrap();
        let answer = runtime.block_on(async {
            let answer = routes.clone().oneshot(request).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        assert!(answer.len() > 200, "the value is in the answer");
    };

    for (what, hit, most) in [
        ("inside", &inside as &dyn Fn(), MOST_INSIDE),
        ("over gRPC", &over_grpc, MOST_OVER_GRPC),
    ] {
        hit();
        let region = Region::new(COUNTED);
        for _ in 0..HITS {
            hit();
        }
        let change = region.change();
        let each = (change.allocations + change.reallocations) / HITS;
        println!("{what}: {each} allocations a hit");
        assert!(
            each <= most,
            "{what}: {each} allocations a hit, at most {most} were"
        );
        assert_eq!(
            change.allocations, change.deallocations,
            "{what}: a hit leaves nothing behind"
        );
    }
}

//! Answers as many hits as it is told, for callgrind to count their instructions (`scripts/instructions`, which `make bench`
//! runs): `get N` inside the service, `grpc N` from a decoded HTTP/2 request to the encoded answer. One thread.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up has no result"
)]

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use config_service::bench::Service;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tagged_config_auth::Authenticator;
use tagged_config_domain::{Record, Revision, TokenRules};
use tagged_config_proto::v1::GetConfigRequest;
use tagged_config_stores::Stores;
use tagged_config_testkit::{AUDIENCE, ISSUER, Issuer, MemoryStore, SharedJwks};
use tokio::runtime::Builder;
use tonic::body::Body;
use tower::ServiceExt;

const KEY: &str = "tenant_config_service/feature-0042";
const METHOD: &str = "/tagged.config.v1.ConfigService/GetConfig";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    // `cargo bench` passes options of its own.
    let (Some(what), Some(Ok(calls))) = (
        arguments.next(),
        arguments.next().map(|calls| calls.parse::<usize>()),
    ) else {
        return;
    };
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
    assert!(
        runtime.block_on(service.get(&caller, KEY)),
        "now it is cached"
    );
    if what == "get" {
        answer_hits(|| {
            for _ in 0..calls {
                assert!(runtime.block_on(service.get(&caller, black_box(KEY))));
            }
        });
        return;
    }
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
    let call = || {
        let request = Request::post(METHOD)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .header(header::AUTHORIZATION, &authorization)
            .body(Body::new(Full::new(framed.clone())))
            .unwrap();
        let answer = runtime.block_on(async {
            let answer = routes.clone().oneshot(request).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        assert!(answer.len() > 200, "the value is in the answer");
    };
    call();
    answer_hits(|| (0..calls).for_each(|_| call()));
}

/// What is counted: callgrind knows it by its name.
#[inline(never)]
fn answer_hits(hits: impl FnOnce()) {
    hits();
    black_box(());
}

//! One cache hit, from inside and over gRPC: what the instructions (`benches/instructions.rs`) and the allocations
//! (`tests/allocations.rs`) are counted of.

#![expect(clippy::unwrap_used, reason = "what cannot be set up has no result")]

use std::sync::Arc;

use bytes::Bytes;
use config_service::bench::Service;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tagged_config_auth::Authenticator;
use tagged_config_domain::{Principal, Record, Revision, TokenRules};
use tagged_config_proto::v1::GetConfigRequest;
use tagged_config_stores::Stores;
use tagged_config_testkit::{AUDIENCE, ISSUER, Issuer, MemoryStore, SharedJwks};
use tokio::runtime::{Builder, Runtime};
use tonic::{body::Body, service::Routes};
use tower::ServiceExt;

const KEY: &str = "tenant_config_service/feature-0042";
const METHOD: &str = "/tagged.config.v1.ConfigService/GetConfig";
const VALUE_BYTES: usize = 200;

/// A service on one thread, with one key in its cache.
pub(crate) struct Hit {
    runtime: Runtime,
    service: Service,
    caller: Principal,
    routes: Routes,
    authorization: String,
    message: Bytes,
}

impl Hit {
    pub(crate) fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let revision = Revision {
            incarnation: 1,
            version: 1,
        };
        let record = Record::new("x".repeat(VALUE_BYTES), "application/json", revision, None);
        store.set("tenant-42", "service/feature-0042", record);
        let service = Service::new(Stores::from_parts(vec![("tenant", store)]), 1 << 24);
        let issuer = Issuer::new();
        let jwks = SharedJwks::of(issuer.jwks());
        let authenticator = Authenticator::new(TokenRules::new(ISSUER, AUDIENCE), jwks);
        let request = GetConfigRequest {
            key: KEY.to_owned(),
            ..Default::default()
        };
        let mut message = vec![0, 0, 0, 0, u8::try_from(request.encoded_len()).unwrap()];
        request.encode(&mut message).unwrap();
        let hit = Self {
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            caller: issuer.principal("tenant-42", "reader"),
            routes: service.routes(Arc::new(authenticator)).prepare(),
            service,
            authorization: format!("Bearer {}", issuer.token("tenant-42", "reader")),
            message: message.into(),
        };
        // Now key and token are known.
        hit.over_grpc();
        hit
    }

    /// Asked for inside the service.
    pub(crate) fn inside(&self) {
        let found = self.runtime.block_on(self.service.get(&self.caller, KEY));
        assert!(found, "it is there");
    }

    /// From a request's decoded headers to the answer's bytes.
    pub(crate) fn over_grpc(&self) {
        let request = Request::post(METHOD)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .header(header::AUTHORIZATION, &self.authorization)
            .body(Body::new(Full::new(self.message.clone())))
            .unwrap();
        let answer = self.runtime.block_on(async {
            let answer = self.routes.clone().oneshot(request).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        assert!(answer.len() > VALUE_BYTES, "the value is in the answer");
    }
}

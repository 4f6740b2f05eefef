//! The internal listener: the invalidator says what changed, and other tasks ask whether a change has arrived. Guarded by a
//! credential, on a port of its own.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tagged_config_proto::{
    REFRESH_CREDENTIAL_HEADER,
    v1::{
        AwaitChangeRequest, AwaitChangeResponse, FlushRequest, FlushResponse, RefreshRequest,
        RefreshResponse,
        refresh_service_server::{RefreshService, RefreshServiceServer},
    },
};
use tokio::time::Instant;
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    service::{Interceptor, interceptor::InterceptedService},
};

use crate::{cache::Awaited, change::Changes, tasks::MAX_WAIT};

/// A credential of fewer bytes is warned of.
pub(crate) const GOOD_CREDENTIAL_BYTES: usize = 16;

/// What callers of the refresh port must present: the current one, or the one before it.
#[derive(Clone, Debug)]
pub(crate) struct RefreshCredentials {
    /// The current one.
    pub current: SecretString,
    /// The one before the last rotation.
    pub previous: Option<SecretString>,
}

/// Largest batch of changes, in bytes.
const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// The internal service. Its callers were checked before: see [`service`].
struct Refresh {
    changes: Arc<Changes>,
    instance: Arc<str>,
}

/// The service that hands changes on to these. The credential is checked before a call's body is read.
pub(crate) fn service(
    changes: Arc<Changes>,
    credentials: RefreshCredentials,
    instance: Arc<str>,
) -> InterceptedService<RefreshServiceServer<impl RefreshService>, impl Interceptor + Clone> {
    let server = RefreshServiceServer::new(Refresh { changes, instance })
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .accept_compressed(CompressionEncoding::Gzip);
    InterceptedService::new(server, move |request: Request<()>| {
        credentials.authorize(request.metadata())?;
        Ok(request)
    })
}

impl RefreshCredentials {
    /// The secrets, the current one first.
    pub(crate) fn exposed(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .map(ExposeSecret::expose_secret)
    }

    /// Whether this is one of them, in constant time.
    fn accept(&self, presented: &[u8]) -> bool {
        self.exposed().fold(false, |found, known| {
            found | bool::from(known.as_bytes().ct_eq(presented))
        })
    }

    /// Whether the caller may speak here.
    fn authorize(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let presented = metadata.get(REFRESH_CREDENTIAL_HEADER);
        if presented.is_some_and(|value| self.accept(value.as_bytes())) {
            return Ok(());
        }
        tracing::warn!("a caller of the refresh port was refused");
        Err(Status::unauthenticated("the refresh credential is needed"))
    }
}

#[tonic::async_trait]
impl RefreshService for Refresh {
    async fn refresh(
        &self,
        request: Request<RefreshRequest>,
    ) -> Result<Response<RefreshResponse>, Status> {
        let receipts = request
            .into_inner()
            .changes
            .into_iter()
            .map(|change| self.changes.pushed(change))
            .collect();
        Ok(Response::new(RefreshResponse {
            served_by: self.instance.as_ref().to_owned(),
            receipts,
        }))
    }

    async fn flush(
        &self,
        request: Request<FlushRequest>,
    ) -> Result<Response<FlushResponse>, Status> {
        let entries = self.changes.flush(&request.into_inner().id);
        Ok(Response::new(FlushResponse {
            served_by: self.instance.as_ref().to_owned(),
            entries: i64::try_from(entries).unwrap_or(i64::MAX),
        }))
    }

    async fn await_change(
        &self,
        request: Request<AwaitChangeRequest>,
    ) -> Result<Response<AwaitChangeResponse>, Status> {
        let started = Instant::now();
        let request = request.into_inner();
        let awaited = awaited(&request)?;
        let location = request.location.unwrap_or_default();
        let wait = Duration::from_millis(u64::try_from(request.wait_ms).unwrap_or_default());
        let is_live = self
            .changes
            .await_change(&location, awaited, wait.min(MAX_WAIT))
            .await
            .ok_or_else(|| Status::not_found("no such backend, or its reads may lag"))?;
        Ok(Response::new(AwaitChangeResponse {
            served_by: self.instance.as_ref().to_owned(),
            is_live,
            after_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
        }))
    }
}

/// The change that a request waits for.
fn awaited(request: &AwaitChangeRequest) -> Result<Awaited, Status> {
    match (request.deleted, request.version) {
        (true, version @ 0..) => Ok(Awaited::Deleted(version)),
        (false, version @ 1..) => Ok(Awaited::Written(version)),
        _ => Err(Status::invalid_argument(
            "version must be positive; 0 for a deletion whose version is not known",
        )),
    }
}

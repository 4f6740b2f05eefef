//! The internal listener: the invalidator says what changed. Guarded by a credential, on a port of its own.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tagged_config_domain::{LocationId, Record, Revision};
use tagged_config_proto::{
    REFRESH_CREDENTIAL_HEADER,
    v1::{
        Change, Receipt, RefreshRequest, RefreshResponse, change, receipt::Outcome,
        refresh_service_server::RefreshService,
    },
};
use tagged_config_stores::Stores;
use tonic::{Request, Response, Status};

use crate::{
    cache::{Applied, Cache, ChangedTo},
    metrics::Metrics,
};

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

/// The internal service.
pub(crate) struct Refresh {
    stores: Stores,
    cache: Arc<Cache>,
    credentials: RefreshCredentials,
    metrics: Arc<Metrics>,
    instance: Arc<str>,
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
}

impl Refresh {
    /// The service over this cache.
    pub(crate) fn new(
        stores: Stores,
        cache: Arc<Cache>,
        credentials: RefreshCredentials,
        metrics: Arc<Metrics>,
        instance: Arc<str>,
    ) -> Self {
        Self {
            stores,
            cache,
            credentials,
            metrics,
            instance,
        }
    }

    /// Applies one change.
    pub(crate) fn apply(&self, change: Change) -> Receipt {
        let location = change.location.clone().unwrap_or_default();
        let Some(store) = self.stores.by_backend(&location.backend) else {
            return Receipt {
                location: Some(location),
                outcome: Outcome::UnknownBackend.into(),
                version: 0,
            };
        };
        let backend = store.backend();
        let id = LocationId::new(backend, location.partition.as_str(), location.sort.as_str());
        let written_at_ms = change.written_at_ms;
        let whole_seconds = change.written_at_whole_seconds;
        let applied = self.cache.apply(&id, store.order(), changed_to(change));
        if matches!(applied, Applied::Updated | Applied::Invalidated)
            && let Some(took) = since(written_at_ms)
        {
            self.metrics.propagated(backend, took, whole_seconds);
        }
        Receipt {
            location: Some(location),
            outcome: outcome(applied).into(),
            version: self.cache.cached_version(&id),
        }
    }
}

#[tonic::async_trait]
impl RefreshService for Refresh {
    async fn refresh(
        &self,
        request: Request<RefreshRequest>,
    ) -> Result<Response<RefreshResponse>, Status> {
        let presented = request.metadata().get(REFRESH_CREDENTIAL_HEADER);
        if !presented.is_some_and(|value| self.credentials.accept(value.as_bytes())) {
            tracing::warn!("a caller of the refresh port was refused");
            return Err(Status::unauthenticated("the refresh credential is needed"));
        }
        let receipts = request
            .into_inner()
            .changes
            .into_iter()
            .map(|change| self.apply(change))
            .collect();
        Ok(Response::new(RefreshResponse {
            served_by: self.instance.as_ref().to_owned(),
            receipts,
        }))
    }
}

fn changed_to(change: Change) -> ChangedTo {
    let revision = Revision {
        incarnation: change.incarnation,
        version: change.version,
    };
    match change.state {
        Some(change::State::Value(value)) => {
            let modified_ms = (value.modified_ms != 0).then_some(value.modified_ms);
            ChangedTo::Value(Record::new(
                value.value,
                value.content_type,
                revision,
                modified_ms,
            ))
        }
        Some(change::State::Absent(true)) => ChangedTo::Absent(change.incarnation),
        Some(change::State::Absent(false) | change::State::Unknown(_)) | None => {
            ChangedTo::Unknown(revision)
        }
    }
}

fn outcome(applied: Applied) -> Outcome {
    match applied {
        Applied::Updated => Outcome::Applied,
        Applied::Invalidated => Outcome::Invalidated,
        Applied::NotCached => Outcome::NotCached,
        Applied::NotNewer => Outcome::NotNewer,
    }
}

fn since(written_at_ms: i64) -> Option<Duration> {
    let written_at = Duration::from_millis(u64::try_from(written_at_ms).ok().filter(|ms| *ms > 0)?);
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .map(|now| now.saturating_sub(written_at))
}

//! The gRPC contract: authenticate, convert, call [`ConfigApi`](crate::api::ConfigApi), convert.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{Stream, StreamExt};
use tagged_config_auth::{Authenticator, JwksSource};
use tagged_config_domain::{Precondition, Principal, Record};
use tagged_config_proto::v1::{
    self as pb, BatchGetConfigRequest, BatchGetConfigResponse, DeleteConfigRequest,
    DeleteConfigResponse, ExplainConfigRequest, ExplainConfigResponse, ExplainedLocation,
    GetConfigRequest, GetConfigResponse, KeyError, ListConfigRequest, ListConfigResponse,
    PutConfigRequest, PutConfigResponse, WatchConfigRequest, WatchConfigResponse,
    config_service_server::ConfigService, explained_location,
};
use tagged_config_runtime::shutdown::Shutdown;
use tokio::time::Instant;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    api::{ConfigApi, ExplainedLayer, Served},
    cache::State,
    errors::ApiError,
    telemetry::metrics::ReadResult,
    transport::{
        connection::{Accepted, CONNECTION_GRACE},
        etag::EntityTag,
    },
    watch::{self, Ended},
};

/// Room before the caller's deadline in which our own answer still reaches it.
const DEADLINE_MARGIN: Duration = Duration::from_millis(20);

/// The public service.
pub(crate) struct GrpcService<S> {
    api: Arc<ConfigApi>,
    authenticator: Arc<Authenticator<S>>,
    connection_age: Duration,
    stop: Shutdown,
}

impl<S> Clone for GrpcService<S> {
    fn clone(&self) -> Self {
        Self {
            api: Arc::clone(&self.api),
            authenticator: Arc::clone(&self.authenticator),
            connection_age: self.connection_age,
            stop: self.stop.clone(),
        }
    }
}

impl<S: JwksSource> GrpcService<S> {
    /// The service over these operations. Connections are to be made anew at this age; watches end with `stop`.
    pub(crate) fn new(
        api: Arc<ConfigApi>,
        authenticator: Arc<Authenticator<S>>,
        connection_age: Duration,
        stop: Shutdown,
    ) -> Self {
        Self {
            api,
            authenticator,
            connection_age,
            stop,
        }
    }

    /// A watch ends by itself before its connection is closed under it, and not at the same moment as all others.
    fn watch_limits(&self, accepted: Option<Accepted>, expires_at: u64) -> watch::Limits {
        let now = Instant::now();
        let accepted = accepted.map_or(now, |accepted| accepted.at);
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let left = Duration::from_secs(expires_at).saturating_sub(unix);
        watch::Limits {
            connection_ends: accepted
                + self.connection_age
                + CONNECTION_GRACE.mul_f64(0.6 * fastrand::f64()),
            token_ends: now + left,
            stop: self.stop.clone(),
        }
    }

    fn watched(&self, event: watch::Event) -> WatchConfigResponse {
        use pb::watch_config_response::Event as Wire;
        let event = match event {
            watch::Event::Upserted(served) => Wire::Upserted(self.response(*served, true)),
            watch::Event::Deleted(key, version) => Wire::Deleted(pb::Deleted { key, version }),
            watch::Event::InSync(whole) => Wire::InSync(whole),
            watch::Event::Heartbeat => Wire::Heartbeat(pb::Heartbeat {
                staleness_bound_ms: millis(self.api.staleness_bound()),
                journal_bound_ms: self.api.journal_bound().map_or(0, millis),
            }),
            watch::Event::Failed(key, error) => Wire::Failed(key_error((key, error))),
        };
        WatchConfigResponse { event: Some(event) }
    }

    async fn caller(&self, metadata: &MetadataMap) -> Result<Arc<Principal>, ApiError> {
        let mut values = metadata.get_all("authorization").iter();
        let authorization = values.next().and_then(|value| value.to_str().ok());
        // Two tokens would leave open which of them counts.
        let authorization = authorization.filter(|_| values.next().is_none());
        self.authenticator
            .authenticate(authorization)
            .await
            .map_err(|error| {
                tracing::debug!(
                    reason = tagged_config_runtime::telemetry::chain(&error),
                    "unauthenticated"
                );
                error.into()
            })
    }

    fn response(&self, served: Served, freshness: bool) -> GetConfigResponse {
        let etag = freshness.then(|| EntityTag::of(served.origin, &served.record).to_string());
        let mut response = GetConfigResponse {
            key: served.key,
            value: served.record.value.as_ref().to_owned(),
            version: served.record.revision.version,
            source: served.source.0.to_owned(),
            cached: served.result == ReadResult::hit,
            stale: served.result == ReadResult::stale,
            content_type: served.record.content_type.as_ref().to_owned(),
            last_modified: last_modified(&served.record),
            origin: served.origin.as_str().to_owned(),
            ..Default::default()
        };
        if let Some(etag) = etag {
            response.etag = etag;
            response.age_ms = millis(served.age);
            self.api.instance().clone_into(&mut response.served_by);
            response.staleness_bound_ms = millis(self.api.staleness_bound());
            response.journal_bound_ms = self.api.journal_bound().map_or(0, millis);
        }
        response
    }
}

#[tonic::async_trait]
impl<S: JwksSource> ConfigService for GrpcService<S> {
    type WatchConfigStream =
        Pin<Box<dyn Stream<Item = Result<WatchConfigResponse, Status>> + Send>>;

    async fn get_config(
        &self,
        request: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let served = within(deadline(&metadata), async {
            let caller = self.caller(&metadata).await?;
            self.api
                .get(&caller, &request.key, request.min_version)
                .await
        })
        .await?;
        Ok(Response::new(self.response(served, request.freshness)))
    }

    async fn batch_get_config(
        &self,
        request: Request<BatchGetConfigRequest>,
    ) -> Result<Response<BatchGetConfigResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let batch = within(deadline(&metadata), async {
            let caller = self.caller(&metadata).await?;
            self.api.batch(&caller, request.keys).await
        })
        .await?;
        Ok(Response::new(BatchGetConfigResponse {
            entries: batch
                .entries
                .into_iter()
                .map(|served| self.response(served, request.freshness))
                .collect(),
            missing: batch.missing,
            errors: batch.errors.into_iter().map(key_error).collect(),
        }))
    }

    async fn list_config(
        &self,
        request: Request<ListConfigRequest>,
    ) -> Result<Response<ListConfigResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let page = within(deadline(&metadata), async {
            let caller = self.caller(&metadata).await?;
            self.api
                .list(
                    &caller,
                    &request.prefix,
                    request.page_size,
                    &request.page_token,
                )
                .await
        })
        .await?;
        Ok(Response::new(ListConfigResponse {
            entries: page
                .entries
                .into_iter()
                .map(|served| self.response(served, false))
                .collect(),
            next_page_token: page.next_page_token,
            errors: page.errors.into_iter().map(key_error).collect(),
        }))
    }

    async fn put_config(
        &self,
        request: Request<PutConfigRequest>,
    ) -> Result<Response<PutConfigResponse>, Status> {
        let caller = self.caller(request.metadata()).await.map_err(status)?;
        let request = request.into_inner();
        let precondition = precondition(request.expected_version, request.expected_etag.as_deref())
            .map_err(status)?;
        let put = self.api.put(
            &caller,
            &request.key,
            &request.value,
            &request.content_type,
            precondition,
        );
        let written = put.await.map_err(status)?;
        Ok(Response::new(PutConfigResponse {
            version: written.record.revision.version,
        }))
    }

    async fn delete_config(
        &self,
        request: Request<DeleteConfigRequest>,
    ) -> Result<Response<DeleteConfigResponse>, Status> {
        let caller = self.caller(request.metadata()).await.map_err(status)?;
        let request = request.into_inner();
        let precondition = precondition(request.expected_version, request.expected_etag.as_deref())
            .map_err(status)?;
        let version = self
            .api
            .delete(&caller, &request.key, precondition)
            .await
            .map_err(status)?;
        Ok(Response::new(DeleteConfigResponse { version }))
    }

    async fn explain_config(
        &self,
        request: Request<ExplainConfigRequest>,
    ) -> Result<Response<ExplainConfigResponse>, Status> {
        let caller = self.caller(request.metadata()).await.map_err(status)?;
        let key = request.into_inner().key;
        let (source, layers) = self.api.explain(&caller, &key).map_err(status)?;
        Ok(Response::new(ExplainConfigResponse {
            key,
            source: source.0.to_owned(),
            locations: layers.into_iter().map(explained).collect(),
            served_by: self.api.instance().to_owned(),
            staleness_bound_ms: millis(self.api.staleness_bound()),
            journal_bound_ms: self.api.journal_bound().map_or(0, millis),
        }))
    }

    async fn watch_config(
        &self,
        request: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        let caller = self.caller(request.metadata()).await.map_err(status)?;
        let accepted = request.extensions().get::<Accepted>().copied();
        let limits = self.watch_limits(accepted, caller.expires_at());
        let watch = self
            .api
            .watch(&caller, request.into_inner().keys)
            .map_err(status)?;
        let service = self.clone();
        let events = watch.events(limits).map(move |event| match event {
            Ok(event) => Ok(service.watched(event)),
            Err(Ended::Stopping) => Err(Status::unavailable("this task stops; watch another one")),
            Err(Ended::TokenExpired) => Err(Status::unauthenticated("the token has expired")),
        });
        Ok(Response::new(Box::pin(events)))
    }
}

/// Neither: no condition. Version 0: only if the key does not exist. N: only this version. A tag: only what it was given of.
fn precondition(version: Option<i64>, etag: Option<&str>) -> Result<Precondition, ApiError> {
    let invalid = |problem: &str| Err(ApiError::Invalid(problem.to_owned()));
    match (version, etag) {
        (None, None) => Ok(Precondition::None),
        (Some(0), None) => Ok(Precondition::Absent),
        (Some(version @ 1..), None) => Ok(Precondition::Version(version)),
        (Some(_), None) => invalid("expected_version must not be negative"),
        (None, Some(etag)) => match EntityTag::parse(etag) {
            Some(tag) => Ok(Precondition::OneOf(tag.own_content().into_iter().collect())),
            None => invalid(
                "expected_etag takes the etag that GetConfig gives with freshness = true, or REST in ETag, with its quotes",
            ),
        },
        (Some(_), Some(_)) => invalid("give expected_version or expected_etag, not both"),
    }
}

fn key_error((key, error): (String, ApiError)) -> KeyError {
    KeyError {
        key,
        code: i32::from(error.answer().code),
        message: error.message(),
    }
}

/// The status that the table gives; with the time after which trying again may help, where that is known.
#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
pub(crate) fn status(error: ApiError) -> Status {
    let (code, message) = (error.answer().code, error.message());
    match error {
        ApiError::RateLimited { retry_after, .. } => Status::with_error_details(
            code,
            message,
            ErrorDetails::with_retry_info(Some(retry_after)),
        ),
        _ => Status::new(code, message),
    }
}

/// Milliseconds, for the wire.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn last_modified(record: &Record) -> Option<prost_types::Timestamp> {
    record.modified_ms.map(timestamp)
}

fn timestamp(unix_ms: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(unix_ms.rem_euclid(1_000)).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp {
        seconds: unix_ms.div_euclid(1_000),
        nanos,
    }
}

fn explained(layer: ExplainedLayer) -> ExplainedLocation {
    use explained_location::State as Wire;
    let state = match layer.cached.state {
        State::NotCached => Wire::NotCached,
        State::Value => Wire::Value,
        State::Absent => Wire::Absent,
        State::Invalidated => Wire::Invalidated,
        State::Expired => Wire::Expired,
    };
    ExplainedLocation {
        origin: layer.origin.as_str().to_owned(),
        location: layer.location,
        state: state.into(),
        version: layer.cached.version,
        age_ms: millis(layer.cached.age),
        last_change: layer.last_change.map(|change| pb::LastChange {
            by: change.by.as_str().to_owned(),
            outcome: change.applied.as_str().to_owned(),
            version: change.version,
            received_at: Some(timestamp(change.at_ms)),
        }),
    }
}

/// What the caller's `grpc-timeout` leaves for the work, the look at its token included: that may wait for keys, and
/// where we do not answer first, tonic answers with CANCELLED. Only reads are cut short: a write that was sent
/// runs to its end, so that its outcome is known and the cache follows it.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u32 = digits.parse().ok()?;
    let unit = match unit {
        "H" => Duration::from_hours(1),
        "M" => Duration::from_mins(1),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    let given = unit.checked_mul(count)?;
    Some(given.saturating_sub(DEADLINE_MARGIN.min(given / 10)))
}

async fn within<T>(
    deadline: Option<Duration>,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, Status> {
    match deadline {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .unwrap_or(Err(ApiError::DeadlineExceeded)),
    }
    .map_err(status)
}

#[cfg(test)]
mod tests {
    use tagged_config_domain::{Origin, Revision};

    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            deadline(&metadata)
        };
        assert_eq!(read("100m"), Some(Duration::from_millis(90)));
        assert_eq!(read("1S"), Some(Duration::from_millis(980)));
        assert_eq!(read("10u"), Some(Duration::from_micros(9)));
        for bad in ["", "m", "1x", "-1S", "99999999999S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn expected_versions() {
        let version = |version| precondition(version, None);
        assert_eq!(version(None).unwrap(), Precondition::None);
        assert_eq!(version(Some(0)).unwrap(), Precondition::Absent);
        assert_eq!(version(Some(7)).unwrap(), Precondition::Version(7));
        assert!(version(Some(-1)).is_err());
    }

    #[test]
    fn an_expected_etag_names_what_was_read_also_at_version_0() {
        let record = Record::new("1", "application/json", Revision::default(), None);
        let of = |origin| EntityTag::of(origin, &record).to_string();
        let etag = |etag: &str| precondition(None, Some(etag));
        assert_eq!(
            etag(&of(Origin::Tenant)).unwrap(),
            Precondition::OneOf(vec![record.content()])
        );
        assert_eq!(
            etag(&of(Origin::Global)).unwrap(),
            Precondition::OneOf(vec![]),
            "a write replaces no shared default"
        );
        for bad in ["", "*", "7", "\"x\"", &format!("W/{}", of(Origin::Tenant))] {
            assert!(etag(bad).is_err(), "{bad}");
        }
        assert!(precondition(Some(7), Some(&of(Origin::Tenant))).is_err());
    }
}

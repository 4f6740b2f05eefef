//! The gRPC contract: convert, call [`ConfigApi`](crate::api::ConfigApi), convert. [`calls`] stands before it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tagged_config_auth::{AuthError, Authenticator, JwksSource};
use tagged_config_domain::{AnswerPermit, Precondition, Principal, Record, Value};
use tagged_config_proto::v1::{
    self as pb, BatchGetConfigRequest, BatchGetConfigResponse, DeleteConfigRequest,
    DeleteConfigResponse, DiffConfigRequest, DiffConfigResponse, ExplainConfigRequest,
    ExplainConfigResponse, ExplainedLocation, GetConfigRequest, GetConfigResponse, KeyError,
    ListConfigRequest, ListConfigResponse, ListHistoryRequest, ListHistoryResponse,
    PutConfigRequest, PutConfigResponse, RollbackConfigRequest, RollbackConfigResponse,
    UndoChangesRequest, UndoChangesResponse, WatchConfigRequest, WatchConfigResponse,
    config_service_server::ConfigService, explained_location,
};
use tagged_config_runtime::{clock::since_epoch, shutdown::Shutdown};
use tagged_config_web::authorization;
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    api::{
        ConfigApi, ExplainedLayer, Fallback, Served,
        history::{Earlier, Outcome},
        undo::Culprit,
    },
    cache::Awaited,
    cache::State,
    errors::ApiError,
    telemetry::metrics::ReadResult,
    transport::{
        answer::HeldMemory,
        connection::{Accepted, CONNECTION_GRACE},
        etag::EntityTag,
        writes::Writes,
    },
    watch::{self, Ended},
};

pub(crate) mod calls;
mod history;

/// After a change of keys, watches verify their tokens within this time, not all at the same moment.
const VERIFY_AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// What all calls share.
pub(crate) struct Shared<S> {
    /// The operations.
    pub api: Arc<ConfigApi>,
    /// Who calls.
    pub authenticator: Arc<Authenticator<S>>,
    /// The writes under way.
    pub writes: Writes,
    /// Connections are to be made anew at this age.
    pub connection_age: Duration,
    /// Watches end with it.
    pub stop: Shutdown,
}

/// The public service, for one call of a verified caller.
pub(crate) struct GrpcService<S> {
    shared: Arc<Shared<S>>,
    caller: Arc<Principal>,
    /// How long the call may take.
    limit: Duration,
}

impl<S: JwksSource> GrpcService<S> {
    /// A watch ends by itself before its connection is closed under it, and not at the same moment as all others.
    fn watch_limits(&self, request: &Request<WatchConfigRequest>) -> watch::Limits {
        let now = Instant::now();
        let accepted = request.extensions().get::<Accepted>();
        let accepted = accepted.map_or(now, |accepted| accepted.at);
        let left = Duration::from_secs(self.caller.expires_at()).saturating_sub(since_epoch());
        let authorization = authorization(request.metadata().as_ref());
        watch::Limits {
            connection_ends: accepted
                + self.shared.connection_age
                + CONNECTION_GRACE.mul_f64(0.6 * fastrand::f64()),
            token_ends: now + left,
            stop: self.shared.stop.clone(),
            revoked: Box::pin(revoked(
                Arc::clone(&self.shared.authenticator),
                authorization.map(ToOwned::to_owned),
            )),
        }
    }

    fn api(&self) -> &Arc<ConfigApi> {
        &self.shared.api
    }

    /// What a write did or would do, and where it has arrived, if that is wanted.
    async fn answer(
        &self,
        key: &str,
        outcome: Outcome,
        wait: bool,
    ) -> Result<(i64, Option<pb::DryRun>, Option<pb::TasksReport>), Status> {
        let done = match outcome {
            Outcome::Dry(dry) => return Ok((dry.version, Some(history::dry(dry)), None)),
            Outcome::Done(done) => done,
        };
        if !wait {
            return Ok((done.version(), None, None));
        }
        let report = self.api().wait_for_tasks(&self.caller, key, done).await;
        let report = report.map_err(status)?;
        Ok((done.version(), None, Some(report.into())))
    }

    /// What a key held at a version, or at a time.
    async fn earlier(&self, request: &GetConfigRequest) -> Result<Served, ApiError> {
        let (api, key) = (self.api(), &request.key);
        let served = match (request.version, &request.as_of) {
            (0, Some(time)) if request.min_version == 0 => {
                let at_ms = history::millis_of(time)?;
                api.as_of(&self.caller, key, at_ms).await?
            }
            (version, None) if request.min_version == 0 => {
                api.at_version(&self.caller, key, version).await?
            }
            _ => {
                let problem = "give one of version, as_of and min_version";
                return Err(ApiError::Invalid(problem.to_owned()));
            }
        };
        api.whole(&self.caller, served).await
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
        let request = request.into_inner();
        let mut served = if request.version == 0 && request.as_of.is_none() {
            self.api()
                .get_whole(
                    &self.caller,
                    &request.key,
                    request.min_version,
                    Fallback::Within(Some(self.limit)),
                )
                .await
        } else {
            Box::pin(self.earlier(&request)).await
        }
        .map_err(status)?;
        let memory = memory_of(self.api(), &self.caller, &mut served).map_err(status)?;
        let message = response(self.api(), served, request.freshness);
        Ok(with_memory(message, memory))
    }

    async fn batch_get_config(
        &self,
        request: Request<BatchGetConfigRequest>,
    ) -> Result<Response<BatchGetConfigResponse>, Status> {
        let request = request.into_inner();
        let mut batch = self
            .api()
            .batch(
                &self.caller,
                request.keys,
                Fallback::Within(Some(self.limit)),
            )
            .await
            .map_err(status)?;
        let memory = HeldMemory::of(std::mem::take(&mut batch.permit));
        let message = BatchGetConfigResponse {
            entries: batch
                .entries
                .into_iter()
                .map(|served| response(self.api(), served, request.freshness))
                .collect(),
            missing: batch.missing,
            errors: batch.errors.into_iter().map(key_error).collect(),
        };
        Ok(with_memory(message, memory))
    }

    async fn list_config(
        &self,
        request: Request<ListConfigRequest>,
    ) -> Result<Response<ListConfigResponse>, Status> {
        let request = request.into_inner();
        let (prefix, size, token) = (&request.prefix, request.page_size, &request.page_token);
        let at_ms = history::optional_millis(request.as_of.as_ref()).map_err(status)?;
        let mut page = match at_ms {
            None => self.api().list(&self.caller, prefix, size, token).await,
            Some(at_ms) => {
                self.api()
                    .list_as_of(&self.caller, prefix, size, token, at_ms)
                    .await
            }
        }
        .map_err(status)?;
        let memory = HeldMemory::of(std::mem::take(&mut page.permit));
        let message = ListConfigResponse {
            entries: page
                .entries
                .into_iter()
                .map(|served| response(self.api(), served, false))
                .collect(),
            next_page_token: page.next_page_token,
            errors: page.errors.into_iter().map(key_error).collect(),
        };
        Ok(with_memory(message, memory))
    }

    async fn put_config(
        &self,
        request: Request<PutConfigRequest>,
    ) -> Result<Response<PutConfigResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let precondition = precondition(request.expected_version, request.expected_etag.as_deref())
            .map_err(status)?;
        let context = history::context(&metadata, request.note).map_err(status)?;
        let (key, wait) = (request.key.clone(), request.wait_for_tasks);
        let (api, caller) = (Arc::clone(self.api()), Arc::clone(&self.caller));
        let put = async move {
            let value = match (request.value, request.data) {
                (value, data) if data.is_empty() => value.into(),
                (value, data) if value.is_empty() => data,
                _ => {
                    let problem = "give value or data, not both";
                    return Err(ApiError::Invalid(problem.to_owned()));
                }
            };
            let (key, content_type) = (&request.key, &request.content_type);
            if request.dry_run {
                let dry = api.dry_put(&caller, key, value, content_type, &precondition);
                return dry.await.map(Outcome::Dry);
            }
            let written = api
                .put(&caller, key, value, content_type, precondition, &context)
                .await?;
            Ok(Outcome::Done(Awaited::Written(
                written.record.revision.version,
            )))
        };
        let outcome = self.shared.writes.run_to_end(put).await.map_err(status)?;
        let (version, dry_run, tasks) = self.answer(&key, outcome, wait).await?;
        Ok(Response::new(PutConfigResponse {
            version,
            dry_run,
            tasks,
        }))
    }

    async fn delete_config(
        &self,
        request: Request<DeleteConfigRequest>,
    ) -> Result<Response<DeleteConfigResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let precondition = precondition(request.expected_version, request.expected_etag.as_deref())
            .map_err(status)?;
        let context = history::context(&metadata, request.note).map_err(status)?;
        let (key, wait) = (request.key.clone(), request.wait_for_tasks);
        let (api, caller) = (Arc::clone(self.api()), Arc::clone(&self.caller));
        let delete = async move {
            if request.dry_run {
                let dry = api.dry_delete(&caller, &request.key, &precondition);
                return dry.await.map(Outcome::Dry);
            }
            let version = api
                .delete(&caller, &request.key, precondition, &context)
                .await?;
            Ok(Outcome::Done(Awaited::Deleted(version)))
        };
        let outcome = self
            .shared
            .writes
            .run_to_end(delete)
            .await
            .map_err(status)?;
        let (version, dry_run, tasks) = self.answer(&key, outcome, wait).await?;
        Ok(Response::new(DeleteConfigResponse {
            version,
            dry_run,
            tasks,
        }))
    }

    async fn list_history(
        &self,
        request: Request<ListHistoryRequest>,
    ) -> Result<Response<ListHistoryResponse>, Status> {
        let (key, query) = history::query(request.into_inner()).map_err(status)?;
        let found = self.api().history(&self.caller, &key, &query).await;
        let mut found = found.map_err(status)?;
        let memory = HeldMemory::of(std::mem::take(&mut found.permit));
        Ok(with_memory(history::listed(found), memory))
    }

    async fn diff_config(
        &self,
        request: Request<DiffConfigRequest>,
    ) -> Result<Response<DiffConfigResponse>, Status> {
        let DiffConfigRequest { key, from, to } = request.into_inner();
        let diff = self.api().diff(&self.caller, &key, from, to).await;
        Ok(Response::new(DiffConfigResponse {
            diff: Some(history::diff(diff.map_err(status)?)),
        }))
    }

    async fn rollback_config(
        &self,
        request: Request<RollbackConfigRequest>,
    ) -> Result<Response<RollbackConfigResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let precondition = precondition(request.expected_version, None).map_err(status)?;
        let context = history::context(&metadata, request.note).map_err(status)?;
        let (key, wait) = (request.key.clone(), request.wait_for_tasks);
        let (api, caller) = (Arc::clone(self.api()), Arc::clone(&self.caller));
        let rollback = async move {
            let as_of = history::optional_millis(request.as_of.as_ref())?;
            let version = (request.version != 0).then_some(request.version);
            api.rollback(
                &caller,
                &request.key,
                Earlier::of(version, as_of)?,
                precondition,
                &context,
                request.dry_run,
            )
            .await
        };
        let outcome = self.shared.writes.run_to_end(rollback).await;
        let (version, dry_run, tasks) = self.answer(&key, outcome.map_err(status)?, wait).await?;
        Ok(Response::new(RollbackConfigResponse {
            version,
            dry_run,
            tasks,
        }))
    }

    async fn undo_changes(
        &self,
        request: Request<UndoChangesRequest>,
    ) -> Result<Response<UndoChangesResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let context = history::context(&metadata, request.note).map_err(status)?;
        let since = history::optional_millis(request.since.as_ref()).map_err(status)?;
        let until = history::optional_millis(request.until.as_ref()).map_err(status)?;
        let (culprit, window) =
            Culprit::of(request.by, request.request_id, since, until).map_err(status)?;
        let (api, caller) = (Arc::clone(self.api()), Arc::clone(&self.caller));
        let undo = async move {
            api.undo(
                &caller,
                &culprit,
                window,
                &request.prefix,
                &context,
                request.execute,
            )
            .await
        };
        let undone = self.shared.writes.run_to_end(undo).await.map_err(status)?;
        Ok(Response::new(history::undone(undone)))
    }

    async fn explain_config(
        &self,
        request: Request<ExplainConfigRequest>,
    ) -> Result<Response<ExplainConfigResponse>, Status> {
        let key = request.into_inner().key;
        let (source, layers) = self.api().explain(&self.caller, &key).map_err(status)?;
        Ok(Response::new(ExplainConfigResponse {
            key,
            source: source.0.to_owned(),
            locations: layers.into_iter().map(explained).collect(),
            served_by: self.api().instance().to_owned(),
            staleness_bound_ms: millis(self.api().staleness_bound()),
            journal_bound_ms: self.api().journal_bound().map_or(0, millis),
        }))
    }

    async fn watch_config(
        &self,
        request: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        let limits = self.watch_limits(&request);
        let watch = self
            .api()
            .watch(&self.caller, request.into_inner().keys)
            .map_err(status)?;
        let api = Arc::clone(self.api());
        // Of the message that the transport took last. It is returned when the transport asks for the next one.
        let mut memory = AnswerPermit::default();
        let mut events = Box::pin(watch.events(limits));
        let events = stream::poll_fn(move |context| {
            drop(std::mem::take(&mut memory));
            let mut event = ready!(events.poll_next_unpin(context));
            if let Some(Ok(event)) = &mut event {
                memory = event.take_permit();
            }
            Poll::Ready(event)
        });
        let events = events.map(move |event| match event {
            Ok(event) => Ok(watched(&api, event)),
            Err(Ended::Stopping) => Err(Status::unavailable("this task stops; watch another one")),
            Err(Ended::TokenExpired) => Err(Status::unauthenticated("the token has expired")),
            Err(Ended::TokenRefused) => Err(status(ApiError::Unauthenticated)),
            Err(Ended::KeysUnavailable) => Err(status(ApiError::KeysUnavailable)),
        });
        Ok(Response::new(Box::pin(events)))
    }
}

/// Waits until the token is refused, or cannot be verified any more: verifies it again each time that the keys change.
async fn revoked<S: JwksSource>(
    authenticator: Arc<Authenticator<S>>,
    authorization: Option<String>,
) -> Ended {
    let mut generations = authenticator.generations();
    loop {
        match authenticator.authenticate(authorization.as_deref()).await {
            Ok(_) => {}
            Err(AuthError::KeysUnavailable) => return Ended::KeysUnavailable,
            Err(AuthError::Missing | AuthError::Refused(_)) => return Ended::TokenRefused,
        }
        // The sender lives in the authenticator.
        let _ = generations.changed().await;
        sleep(VERIFY_AGAIN_WITHIN.mul_f64(fastrand::f64())).await;
    }
}

/// A response whose memory is held until [`calls`] has sent its body.
fn with_memory<T>(message: T, memory: Option<HeldMemory>) -> Response<T> {
    let mut response = Response::new(message);
    if let Some(memory) = memory {
        response.extensions_mut().insert(memory);
    }
    response
}

fn watched(api: &ConfigApi, event: watch::Event) -> WatchConfigResponse {
    use pb::watch_config_response::Event as Wire;
    let event = match event {
        watch::Event::Upserted(served) => Wire::Upserted(response(api, *served, true)),
        watch::Event::Deleted(key, version) => Wire::Deleted(pb::Deleted { key, version }),
        watch::Event::InSync(whole) => Wire::InSync(whole),
        watch::Event::Heartbeat => Wire::Heartbeat(pb::Heartbeat {
            staleness_bound_ms: millis(api.staleness_bound()),
            journal_bound_ms: api.journal_bound().map_or(0, millis),
        }),
        watch::Event::Failed(key, error) => Wire::Failed(key_error((key, error))),
        watch::Event::Changed(key) => Wire::Changed(pb::Changed { key }),
    };
    WatchConfigResponse { event: Some(event) }
}

/// The memory of an answer with one value.
pub(crate) fn memory_of(
    api: &ConfigApi,
    caller: &Principal,
    served: &mut Served,
) -> Result<Option<HeldMemory>, ApiError> {
    // That of a value which was read for this answer alone is counted already.
    if !served.permit.is_counted() {
        let bytes = served.record.value.held_bytes() as u64;
        served.permit = api.admit_answer(caller.tenant(), bytes)?;
    }
    Ok(HeldMemory::of(std::mem::take(&mut served.permit)))
}

fn response(api: &ConfigApi, served: Served, freshness: bool) -> GetConfigResponse {
    let etag = freshness.then(|| EntityTag::of(served.origin, &served.record).to_string());
    let (mut value, mut data, mut omitted_bytes) = (String::new(), Bytes::new(), 0);
    match &served.record.value {
        Value::Text(text) => text.as_ref().clone_into(&mut value),
        Value::Bytes(bytes) => data = bytes.clone(),
        Value::Remote(remote) => omitted_bytes = i64::try_from(remote.bytes).unwrap_or(i64::MAX),
    }
    let mut response = GetConfigResponse {
        key: served.key,
        value,
        data,
        omitted_bytes,
        secret: served.record.secret,
        invalid_new_version: served.record.is_instead(),
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
        api.instance().clone_into(&mut response.served_by);
        response.staleness_bound_ms = millis(api.staleness_bound());
        response.journal_bound_ms = api.journal_bound().map_or(0, millis);
    }
    response
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
pub(crate) fn status(error: ApiError) -> Status {
    let (code, message) = (error.answer().code, error.message());
    match error {
        ApiError::RateLimited { retry_after, .. } => Status::with_error_details(
            code,
            message,
            ErrorDetails::with_retry_info(Some(retry_after)),
        ),
        ApiError::BreaksSchema(broken) => {
            let violations = broken.into_iter().map(|broken| {
                let (schema, of) = (broken.schema, broken.violation);
                FieldViolation::new(
                    format!("value{}", of.pointer),
                    format!("{schema}: {}", of.message),
                )
            });
            Status::with_error_details(
                code,
                message,
                ErrorDetails::with_bad_request(violations.collect::<Vec<_>>()),
            )
        }
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

#[cfg(test)]
mod tests {
    use tagged_config_domain::{Origin, Revision};

    use super::*;

    #[tokio::test]
    async fn a_cached_blob_is_not_copied_into_its_message() {
        let api = crate::api::tests::fixture().api;
        let bytes = Bytes::from(vec![1; 64 * 1024]);
        let served = Served {
            key: "bytes_config_x".to_owned(),
            record: Record::new(bytes.clone(), "image/png", Revision::default(), None),
            origin: Origin::Tenant,
            source: tagged_config_domain::Backend("memory"),
            result: ReadResult::hit,
            age: Duration::ZERO,
            permit: AnswerPermit::default(),
        };
        let message = response(&api, served, true);
        assert_eq!(
            (message.data.as_ptr(), message.data.len()),
            (bytes.as_ptr(), bytes.len())
        );
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

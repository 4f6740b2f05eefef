//! Against a server in the process that speaks the real protocol. A token says which tenant it is of.

use std::{collections::HashMap, net::SocketAddr, pin::Pin};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use tagged_config_proto::v1::{
    BatchGetConfigRequest, BatchGetConfigResponse, DeleteConfigRequest, DeleteConfigResponse,
    Deleted, ExplainConfigRequest, ExplainConfigResponse, GetConfigRequest, GetConfigResponse,
    KeyError, ListConfigRequest, ListConfigResponse, PutConfigRequest, PutConfigResponse,
    WatchConfigRequest, WatchConfigResponse,
    config_service_server::{ConfigService, ConfigServiceServer},
    watch_config_response::Event,
};
use tagged_config_testkit::Issuer;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::sleep,
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, transport::Server};

use super::*;
use crate::{ClientConfig, Failure, ReadError, endpoints::Load};

const KEY: &str = "tenant_config_x";

type Sender = mpsc::Sender<Result<WatchConfigResponse, Status>>;

/// What the server knows, and the watches that are open.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    values: HashMap<String, String>,
    watches: Vec<(String, Sender)>,
    opened: usize,
    refuse: Option<Code>,
    refuse_all: bool,
    only_admins: bool,
    /// What reads of the store fail with.
    store_fails: Option<Code>,
    version: i64,
    batches: usize,
    /// Calls wait for a permit, if there is one of these.
    gate: Option<Arc<Semaphore>>,
    /// Answers to GetConfig, which count.
    gets: usize,
    /// Values by key that BatchGetConfig answers, at most this many bytes of them at once.
    large: HashMap<String, String>,
    /// Keys whose reads are over the rate limit.
    limited: Vec<String>,
}

fn token_of(request: &tonic::metadata::MetadataMap) -> String {
    let value = request.get("authorization").and_then(|v| v.to_str().ok());
    value.unwrap_or_default().to_owned()
}

fn failure(code: Code) -> KeyError {
    KeyError {
        key: KEY.to_owned(),
        code: code.into(),
        message: String::new(),
    }
}

fn entry(value: &str) -> GetConfigResponse {
    GetConfigResponse {
        key: KEY.to_owned(),
        value: value.to_owned(),
        version: 1,
        staleness_bound_ms: 60_000,
        ..Default::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the stream's items are")]
fn message(event: Event) -> Result<WatchConfigResponse, Status> {
    Ok(WatchConfigResponse { event: Some(event) })
}

/// What a token says, without its signature: nobody verifies it here.
fn claims_of(token: &str) -> serde_json::Value {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn tenant_of(token: &str) -> String {
    let claims = claims_of(token);
    claims["custom:tenantId"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

impl Fake {
    async fn send(&self, tenant: &str, event: Event) {
        let senders: Vec<Sender> = {
            let world = self.0.lock();
            let of_tenant = world.watches.iter();
            of_tenant
                .filter(|(token, _)| tenant_of(token) == tenant)
                .map(|(_, sender)| sender.clone())
                .collect()
        };
        for sender in senders {
            let _ = sender.send(message(event.clone())).await;
        }
    }

    /// A change of which no watch hears.
    fn put(&self, tenant: &str, value: &str) {
        let values = &mut self.0.lock().values;
        values.insert(tenant.to_owned(), value.to_owned());
    }

    async fn set(&self, tenant: &str, value: &str) {
        self.put(tenant, value);
        self.send(tenant, Event::Upserted(entry(value))).await;
    }

    /// Ends every watch.
    async fn end(&self, status: Option<Status>) {
        let watches = std::mem::take(&mut self.0.lock().watches);
        for (_, sender) in watches {
            if let Some(status) = &status {
                let _ = sender.send(Err(status.clone())).await;
            }
        }
    }

    fn opened(&self) -> usize {
        self.0.lock().opened
    }

    fn open(&self) -> usize {
        let world = self.0.lock();
        world.watches.iter().filter(|(_, s)| !s.is_closed()).count()
    }
}

#[tonic::async_trait]
impl ConfigService for Fake {
    type WatchConfigStream =
        Pin<Box<dyn Stream<Item = Result<WatchConfigResponse, Status>> + Send>>;

    async fn batch_get_config(
        &self,
        request: Request<BatchGetConfigRequest>,
    ) -> Result<Response<BatchGetConfigResponse>, Status> {
        let gate = self.0.lock().gate.clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let mut world = self.0.lock();
        world.batches += 1;
        if world.refuse_all {
            return Err(Status::unavailable("down"));
        }
        if let Some(code) = world.store_fails {
            return Ok(Response::new(BatchGetConfigResponse {
                errors: vec![failure(code)],
                ..Default::default()
            }));
        }
        if !world.large.is_empty() {
            return Ok(Response::new(world.answer_large(request.into_inner().keys)));
        }
        let token = token_of(request.metadata());
        let value = world.values.get(&tenant_of(&token));
        // As for a secret: only an admin may read it.
        if world.only_admins && claims_of(&token)["role"] != "admin" {
            return Ok(Response::new(BatchGetConfigResponse {
                errors: vec![failure(Code::PermissionDenied)],
                ..Default::default()
            }));
        }
        Ok(Response::new(BatchGetConfigResponse {
            entries: value.map(|value| entry(value)).into_iter().collect(),
            ..Default::default()
        }))
    }

    async fn watch_config(
        &self,
        request: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        let token = token_of(request.metadata());
        let (sender, receiver) = mpsc::channel(16);
        let value = {
            let mut world = self.0.lock();
            if let Some(code) = world.refuse {
                return Err(Status::new(code, "refused"));
            }
            world.opened += 1;
            world.watches.push((token.clone(), sender.clone()));
            let value = world.values.get(&tenant_of(&token)).cloned();
            let version = world.version.max(1);
            let of_version = |value: String| GetConfigResponse {
                version,
                ..entry(&value)
            };
            match world.store_fails {
                Some(code) => Some(Event::Failed(failure(code))),
                None => value.map(|value| Event::Upserted(of_version(value))),
            }
        };
        if let Some(event) = value {
            let _ = sender.send(message(event)).await;
        }
        let _ = sender.send(message(Event::InSync(true))).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_config(
        &self,
        _: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let mut world = self.0.lock();
        world.gets += 1;
        let code = world.store_fails.unwrap_or(Code::Unimplemented);
        Err(Status::new(code, "the store"))
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

impl World {
    /// As config-service does: at most 3 MiB of values, and the other keys as errors.
    fn answer_large(&self, keys: Vec<String>) -> BatchGetConfigResponse {
        let mut answer = BatchGetConfigResponse::default();
        let mut bytes = 0;
        for key in keys {
            let Some(value) = self.large.get(&key) else {
                answer.missing.push(key);
                continue;
            };
            let is_limited = self.limited.contains(&key);
            if is_limited || bytes + value.len() > 3 * 1024 * 1024 {
                let message = if is_limited {
                    "too many reads"
                } else {
                    "ask for the key alone"
                };
                answer.errors.push(KeyError {
                    message: message.to_owned(),
                    key,
                    ..failure(Code::ResourceExhausted)
                });
                continue;
            }
            bytes += value.len();
            answer.entries.push(GetConfigResponse {
                key,
                ..entry(value)
            });
        }
        answer
    }
}

struct Fixture {
    fake: Fake,
    cache: ConfigCache,
    issuer: Issuer,
    server: JoinHandle<()>,
}

async fn serve(fake: &Fake) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .add_service(ConfigServiceServer::new(fake.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(async move { server.await.unwrap() });
    (address, server)
}

async fn fixture_with(tenants: usize, max_stale: Duration) -> Fixture {
    let fake = Fake::default();
    let (address, server) = serve(&fake).await;
    let client = ConfigClient::new(&ClientConfig {
        endpoints: format!("http://{address}").parse().unwrap(),
        deadline: Duration::from_secs(20),
    });
    let config = CacheConfig {
        keys: vec![KEY.to_owned()],
        tenants,
        max_stale,
    };
    Fixture {
        cache: ConfigCache::new(client, config, Arc::new(Unobserved)).unwrap(),
        fake,
        issuer: Issuer::new(),
        server,
    }
}

async fn fixture() -> Fixture {
    fixture_with(100, Duration::from_hours(1)).await
}

/// A caller is named `TENANT-role`.
fn token(caller: &str) -> CallerToken {
    let (tenant, role) = caller.split_once('-').unwrap();
    let claims = serde_json::json!({"custom:tenantId": tenant, "role": role}).to_string();
    let payload = URL_SAFE_NO_PAD.encode(claims);
    CallerToken::from_authorization(&format!("Bearer h.{payload}.s")).unwrap()
}

impl Fixture {
    async fn tenant(&self, tenant: &str, caller: &str) -> Result<TenantConfig, Status> {
        let tenant = self.issuer.tenant(tenant);
        self.cache.tenant(&tenant, &token(caller)).await
    }
}

fn value(config: &TenantConfig) -> Option<u32> {
    let snapshot = config.snapshot().unwrap();
    snapshot.get::<u32>(KEY).unwrap().map(|value| *value)
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("not within five seconds");
}

#[tokio::test]
async fn a_snapshot_then_changes_by_one_watch() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    assert_eq!(value(&config), Some(1));
    f.fake.set("A", "2").await;
    until(|| value(&config) == Some(2)).await;
    let deleted = Deleted {
        key: KEY.to_owned(),
        version: 2,
    };
    f.fake.send("A", Event::Deleted(deleted)).await;
    until(|| value(&config).is_none()).await;
    f.tenant("A", "A-1").await.unwrap();
    assert_eq!(f.fake.opened(), 1);
    let freshness = config.freshness();
    assert!(freshness.live);
    assert_eq!(freshness.staleness_bound, Duration::from_mins(1));
}

#[tokio::test]
async fn tenants_are_never_mixed() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    f.fake.set("B", "2").await;
    let (a, b) = (
        f.tenant("A", "A-1").await.unwrap(),
        f.tenant("B", "B-1").await.unwrap(),
    );
    assert_eq!((value(&a), value(&b)), (Some(1), Some(2)));
    f.fake.set("B", "3").await;
    until(|| value(&b) == Some(3)).await;
    assert_eq!(value(&a), Some(1));
}

#[tokio::test]
async fn after_the_tokens_end_the_next_callers_token_resumes() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-first").await.unwrap();
    f.fake.end(Some(Status::unauthenticated("expired"))).await;
    until(|| !config.freshness().live).await;
    f.fake.put("A", "2");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(f.fake.opened(), 1, "an expired token is not tried again");
    assert_eq!(value(&config), Some(1), "the last known value");
    let again = f.tenant("A", "A-second").await.unwrap();
    until(|| value(&again) == Some(2)).await;
    assert_eq!(f.fake.opened(), 2);
}

#[tokio::test]
async fn a_watch_that_ends_is_made_anew_and_brings_what_was_missed() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    for (number, status) in [None, Some(Status::unavailable("stops"))]
        .into_iter()
        .enumerate()
    {
        let next = u32::try_from(number).unwrap() + 2;
        f.fake.put("A", &next.to_string());
        f.fake.end(status).await;
        until(|| value(&config) == Some(next)).await;
    }
}

#[tokio::test]
async fn without_config_service_the_last_known_values_are_served_up_to_their_age() {
    let f = fixture_with(100, Duration::from_millis(300)).await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    {
        let mut world = f.fake.0.lock();
        world.refuse = Some(Code::Unavailable);
        world.refuse_all = true;
    }
    f.fake.end(Some(Status::unavailable("gone"))).await;
    f.server.abort();
    until(|| !config.freshness().live).await;
    assert_eq!(value(&config), Some(1));
    until(|| config.snapshot().is_err()).await;
    assert!(f.tenant("A", "A-1").await.is_err());
    assert!(f.tenant("B", "B-1").await.is_err(), "nothing is known");
}

#[tokio::test]
async fn a_new_caller_gets_the_last_known_values_while_config_service_is_gone() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    f.fake.0.lock().refuse = Some(Code::Unavailable);
    f.fake.0.lock().refuse_all = true;
    f.fake.end(Some(Status::unavailable("gone"))).await;
    until(|| !config.freshness().live).await;
    let again = f.tenant("A", "A-1").await.unwrap();
    assert_eq!((value(&again), again.freshness().live), (Some(1), false));
}

#[tokio::test]
async fn a_watch_that_is_refused_falls_back_on_a_call() {
    let f = fixture().await;
    f.fake.0.lock().refuse = Some(Code::ResourceExhausted);
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    assert_eq!(value(&config), Some(1));
    assert!(!config.freshness().live);
    f.fake.put("A", "2");
    let again = f.tenant("A", "A-1").await.unwrap();
    assert_eq!(value(&again), Some(2), "asked for each caller");
}

#[tokio::test]
async fn an_answer_to_one_caller_is_shown_to_no_other() {
    let f = fixture().await;
    {
        let mut world = f.fake.0.lock();
        world.refuse = Some(Code::ResourceExhausted);
        world.only_admins = true;
    }
    f.fake.set("A", "42").await;
    let admin = f.tenant("A", "A-admin").await.unwrap();
    assert_eq!(value(&admin), Some(42));
    for _ in 0..2 {
        let reader = f.tenant("A", "A-reader").await.unwrap();
        let denied = reader.snapshot().unwrap().get::<u32>(KEY).unwrap_err();
        assert!(matches!(
            denied,
            ReadError::Failed {
                failure: Failure {
                    code: Code::PermissionDenied,
                    ..
                },
                ..
            }
        ));
    }
    assert_eq!(value(&f.tenant("A", "A-admin").await.unwrap()), Some(42));
    // With config-service gone a caller without an answer knows nothing.
    f.fake.0.lock().refuse_all = true;
    assert!(f.tenant("A", "A-third").await.is_err());
    let reader = f.tenant("A", "A-reader").await.unwrap();
    assert!(reader.snapshot().unwrap().get::<u32>(KEY).is_err());
}

#[tokio::test]
async fn a_token_of_another_tenant_is_refused_before_it_is_used() {
    let f = fixture().await;
    f.fake.set("B", "1").await;
    let refused = f.tenant("A", "B-1").await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(f.fake.opened(), 0);
    f.fake.set("A", "1").await;
    // Nor where both tenants are watched, with a token that is held for the other one.
    for (tenant, token) in [("A", "A-1"), ("B", "B-1")] {
        f.tenant(tenant, token).await.unwrap();
    }
    for (tenant, token) in [("A", "B-1"), ("B", "A-1")] {
        let refused = f.tenant(tenant, token).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn watches_that_end_well_are_made_anew_one_after_the_other() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    f.tenant("A", "A-1").await.unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        f.fake.end(None).await;
        sleep(Duration::from_millis(1)).await;
    }
    assert!(
        f.fake.opened() <= 25,
        "{} in half a second",
        f.fake.opened()
    );
}

#[tokio::test]
async fn nobody_waits_for_a_watch_that_has_failed() {
    let f = fixture().await;
    f.fake.0.lock().refuse = Some(Code::ResourceExhausted);
    f.fake.set("A", "1").await;
    // Half the deadline is ten seconds.
    let asked = timeout(Duration::from_secs(5), f.tenant("A", "A-1")).await;
    assert!(asked.expect("in time").is_ok());
}

#[tokio::test]
async fn a_failed_key_keeps_its_value_only_while_the_source_is_silent() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    let stale = || {
        let snapshot = config.snapshot().unwrap();
        snapshot.entry(KEY).map(|entry| entry.response().stale)
    };
    f.fake
        .send("A", Event::Failed(failure(Code::Unavailable)))
        .await;
    until(|| stale() == Some(true)).await;
    assert_eq!(value(&config), Some(1));
    f.fake
        .send("A", Event::Failed(failure(Code::DataLoss)))
        .await;
    until(|| stale().is_none()).await;
    assert!(config.snapshot().unwrap().get::<u32>(KEY).is_err());
}

#[tokio::test]
async fn half_of_a_resynchronisation_is_not_shown() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    f.fake.send("A", Event::InSync(false)).await;
    f.fake.send("A", Event::Upserted(entry("2"))).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(value(&config), Some(1));
    f.fake.send("A", Event::InSync(true)).await;
    until(|| value(&config) == Some(2)).await;
}

#[tokio::test]
async fn a_number_of_keys_that_cannot_be_watched_is_refused() {
    let f = fixture().await;
    for keys in [0, MAX_KEYS + 1] {
        let config = CacheConfig {
            keys: vec![KEY.to_owned(); keys],
            tenants: 1,
            max_stale: Duration::ZERO,
        };
        let made = ConfigCache::new(f.cache.client.clone(), config, Arc::new(Unobserved));
        assert_eq!(made.map(drop).unwrap_err(), BadKeys::Count(keys));
    }
}

#[tokio::test]
async fn a_malformed_key_is_refused_before_it_fails_every_watch() {
    let f = fixture().await;
    for key in ["", "tenant_config_", "tenant_config_a//b", "x"] {
        let config = CacheConfig {
            keys: vec![KEY.to_owned(), key.to_owned()],
            tenants: 1,
            max_stale: Duration::ZERO,
        };
        let made = ConfigCache::new(f.cache.client.clone(), config, Arc::new(Unobserved));
        let refused = made.map(drop).unwrap_err();
        assert!(matches!(&refused, BadKeys::Malformed { key: named, .. } if named == key));
    }
}

#[tokio::test]
async fn a_tenant_that_is_pushed_out_is_watched_no_more() {
    let f = fixture_with(4, Duration::from_hours(1)).await;
    for tenant in 0..40 {
        let name = format!("T{tenant}");
        f.tenant(&name, &format!("{name}-1")).await.unwrap();
    }
    until(|| f.fake.open() <= 5).await;
}

#[tokio::test]
async fn typed_reads_say_what_is_wrong_without_the_value() {
    let f = fixture().await;
    f.fake.set("A", "\"secret\"").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    let snapshot = config.snapshot().unwrap();
    let error = snapshot.get::<u32>(KEY).unwrap_err();
    assert!(matches!(error, ReadError::Malformed { .. }));
    assert!(!error.to_string().contains("secret"));
    assert_eq!(
        snapshot.get::<String>(KEY).unwrap().as_deref(),
        Some(&"secret".to_owned())
    );
    // Parsed once.
    let (one, two) = (snapshot.get::<String>(KEY), snapshot.get::<String>(KEY));
    assert!(Arc::ptr_eq(&one.unwrap().unwrap(), &two.unwrap().unwrap()));
    let other = snapshot.get::<String>("tenant_config_none").unwrap_err();
    assert!(matches!(other, ReadError::NotKept { .. }));
}

/// H1, the first path.
#[tokio::test]
async fn a_new_watch_while_the_store_is_down_keeps_the_last_known_values() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    f.fake.0.lock().store_fails = Some(Code::Unavailable);
    let stale = || {
        let snapshot = config.snapshot().unwrap();
        snapshot.entry(KEY).map(|entry| entry.response().stale)
    };
    assert_eq!(stale(), Some(false));
    f.fake.end(None).await;
    until(|| f.fake.opened() == 2 && stale() == Some(true)).await;
    assert_eq!(value(&config), Some(1));
    assert!(config.freshness().live);
}

/// H1, the second path.
#[tokio::test]
async fn a_call_while_the_store_is_down_keeps_the_last_known_values() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    {
        let mut world = f.fake.0.lock();
        world.refuse = Some(Code::Unavailable);
        world.store_fails = Some(Code::Unavailable);
    }
    f.fake.end(Some(Status::unavailable("gone"))).await;
    until(|| !config.freshness().live).await;
    for caller in ["A-1", "A-2"] {
        let again = f.tenant("A", caller).await.unwrap();
        let snapshot = again.snapshot().unwrap();
        assert!(snapshot.entry(KEY).unwrap().response().stale);
        assert_eq!(value(&again), Some(1));
    }
    assert!(f.fake.0.lock().batches > 0);
}

/// M16: the next watch goes to a task that has not seen the last change yet.
#[tokio::test]
async fn the_next_watch_does_not_show_an_older_version() {
    let f = fixture().await;
    f.fake.0.lock().version = 2;
    f.fake.put("A", "2");
    let config = f.tenant("A", "A-1").await.unwrap();
    assert_eq!(value(&config), Some(2));
    f.fake.0.lock().version = 1;
    f.fake.put("A", "1");
    f.fake.end(None).await;
    until(|| f.fake.opened() == 2).await;
    let in_sync = Event::Heartbeat(tagged_config_proto::v1::Heartbeat {
        staleness_bound_ms: 7_000,
        ..Default::default()
    });
    until(|| f.fake.open() == 1).await;
    f.fake.send("A", in_sync).await;
    until(|| config.freshness().staleness_bound == Duration::from_secs(7)).await;
    assert_eq!(value(&config), Some(2));
}

/// M17: callers with one token share a call.
#[tokio::test]
async fn calls_with_one_token_are_coalesced() {
    let f = fixture().await;
    let gate = Arc::new(Semaphore::new(0));
    {
        let mut world = f.fake.0.lock();
        world.refuse = Some(Code::ResourceExhausted);
        world.gate = Some(Arc::clone(&gate));
    }
    f.fake.set("A", "1").await;
    // The leader is cancelled, and fails nobody.
    let leader = timeout(Duration::from_millis(50), f.tenant("A", "A-1")).await;
    assert!(leader.is_err());
    let callers = (0..50).map(|_| f.tenant("A", "A-1"));
    let all = futures::future::join_all(callers);
    let open = async {
        tokio::task::yield_now().await;
        gate.add_permits(1);
    };
    let (all, ()) = tokio::join!(timeout(Duration::from_secs(5), all), open);
    for config in all.expect("one permit is enough") {
        assert_eq!(value(&config.unwrap()), Some(1));
    }
    assert_eq!(f.fake.0.lock().batches, 1);
}

/// M17: a planned end of the watch costs no call.
#[tokio::test]
async fn a_planned_reconnect_costs_no_call() {
    let f = fixture().await;
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    f.fake.0.lock().refuse = Some(Code::Unavailable);
    f.fake.end(None).await;
    sleep(Duration::from_millis(100)).await;
    for _ in 0..100 {
        assert_eq!(value(&f.tenant("A", "A-1").await.unwrap()), Some(1));
    }
    assert_eq!(f.fake.0.lock().batches, 0);
    assert!(config.freshness().live && config.freshness().age >= Duration::from_millis(90));
}

/// M17: a store that is down is no reason to leave out a task, and retries are few.
#[tokio::test]
async fn a_store_that_is_down_marks_no_task_and_has_a_retry_budget() {
    let f = fixture().await;
    f.fake.0.lock().store_fails = Some(Code::Unavailable);
    let client = &f.cache.client;
    let calls = (0..1_000).map(|_| async {
        let (token, request) = (token("A-1"), GetConfigRequest::default());
        client.get(&token, request).await.unwrap_err()
    });
    for failed in futures::future::join_all(calls).await {
        assert!(!crate::connection_failed(&failed), "{failed:?}");
    }
    // A fifth of the calls, and a hundred that are always allowed.
    let gets = f.fake.0.lock().gets;
    assert!((1_200..=1_310).contains(&gets), "{gets}");
    let picked = client.pool.pick(Load::Call, &[]).await.unwrap();
    assert!(!picked.is_down());
    // A connection that fails does mark it.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let client = ConfigClient::new(&ClientConfig {
        endpoints: format!("http://{address}").parse().unwrap(),
        deadline: Duration::from_secs(20),
    });
    let failed = client.get(&token("A-1"), GetConfigRequest::default()).await;
    let failed = failed.unwrap_err();
    assert!(crate::connection_failed(&failed), "{failed:?}");
    assert!(client.pool.pick(Load::Call, &[]).await.unwrap().is_down());
}

/// H3, the client's part.
#[tokio::test]
async fn keys_that_do_not_fit_one_answer_are_read_by_further_calls() {
    let f = fixture().await;
    let key = |number: usize| format!("tenant_config_big/{number:03}");
    f.fake.0.lock().large = (0..40).map(|n| (key(n), "x".repeat(256 * 1024))).collect();
    let keys: Vec<_> = (0..40).map(key).collect();
    let answer = f
        .cache
        .client
        .batch_get(&token("A-1"), keys.clone())
        .await
        .unwrap();
    assert_eq!((answer.entries.len(), answer.errors.len()), (40, 0));
    assert_eq!(f.fake.0.lock().batches, 4);
    // A rate limit is an answer, beside small values and beside large ones.
    f.fake.0.lock().limited = vec![key(0), key(39)];
    let answer = f.cache.client.batch_get(&token("A-1"), keys).await.unwrap();
    assert_eq!((answer.entries.len(), answer.errors.len()), (38, 2));
    assert!(f.fake.0.lock().batches <= 9);
    f.fake.0.lock().batches = 0;
    let limited = f
        .cache
        .client
        .batch_get(&token("A-1"), vec![key(0), key(1)])
        .await
        .unwrap();
    assert_eq!((limited.entries.len(), limited.errors.len()), (1, 1));
    assert_eq!(f.fake.0.lock().batches, 1);
    // More keys than one call takes, most of them absent.
    let answer = f
        .cache
        .client
        .batch_get(&token("A-1"), (0..250).map(key).collect())
        .await;
    assert_eq!(answer.unwrap().missing.len(), 210);
}

/// H3: a message above gRPC's default of 4 MiB is taken.
#[tokio::test]
async fn an_answer_of_more_than_four_mebibytes_is_taken() {
    let f = fixture().await;
    f.fake.0.lock().refuse = Some(Code::ResourceExhausted);
    let large = format!("\"{}\"", "x".repeat(5 * 1024 * 1024));
    f.fake.set("A", &large).await;
    let config = f.tenant("A", "A-1").await.unwrap();
    let text = config.snapshot().unwrap().string(KEY).unwrap().unwrap();
    assert_eq!(text.len(), 5 * 1024 * 1024);
}

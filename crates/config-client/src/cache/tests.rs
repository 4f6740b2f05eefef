//! Against a server in the process that speaks the real protocol; tenants are told apart by their tokens.

use std::{collections::HashMap, net::SocketAddr, pin::Pin};

use tagged_config_proto::v1::{
    BatchGetConfigRequest, BatchGetConfigResponse, DeleteConfigRequest, DeleteConfigResponse,
    Deleted, ExplainConfigRequest, ExplainConfigResponse, GetConfigRequest, GetConfigResponse,
    ListConfigRequest, ListConfigResponse, PutConfigRequest, PutConfigResponse,
    WatchConfigResponse,
    config_service_server::{ConfigService, ConfigServiceServer},
};
use tagged_config_testkit::Issuer;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Response, transport::Server};

use super::*;
use crate::{ClientConfig, ReadError};

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
}

fn token_of(request: &tonic::metadata::MetadataMap) -> String {
    let value = request.get("authorization").and_then(|v| v.to_str().ok());
    value.unwrap_or_default().to_owned()
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

/// A token is `Bearer TENANT-anything`.
fn tenant_of(token: &str) -> String {
    let token = token.trim_start_matches("Bearer ");
    token.split('-').next().unwrap_or_default().to_owned()
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
        let world = self.0.lock();
        if world.refuse_all {
            return Err(Status::unavailable("down"));
        }
        let value = world.values.get(&tenant_of(&token_of(request.metadata())));
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
            world.values.get(&tenant_of(&token)).cloned()
        };
        if let Some(value) = value {
            let _ = sender.send(message(Event::Upserted(entry(&value)))).await;
        }
        let _ = sender.send(message(Event::InSync(true))).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_config(
        &self,
        _: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
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

    async fn explain_config(
        &self,
        _: Request<ExplainConfigRequest>,
    ) -> Result<Response<ExplainConfigResponse>, Status> {
        Err(Status::unimplemented(""))
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
        deadline: Duration::from_secs(2),
    });
    let config = CacheConfig {
        keys: vec![KEY.to_owned()],
        tenants,
        max_stale,
    };
    Fixture {
        cache: ConfigCache::new(client, config, Arc::new(Unobserved)),
        fake,
        issuer: Issuer::new(),
        server,
    }
}

async fn fixture() -> Fixture {
    fixture_with(100, Duration::from_hours(1)).await
}

fn token(text: &str) -> CallerToken {
    CallerToken::from_authorization(&format!("Bearer {text}")).unwrap()
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
async fn a_watch_that_is_refused_falls_back_on_a_call() {
    let f = fixture().await;
    f.fake.0.lock().refuse = Some(Code::ResourceExhausted);
    f.fake.set("A", "1").await;
    let config = f.tenant("A", "A-1").await.unwrap();
    assert_eq!(value(&config), Some(1));
    assert!(!config.freshness().live);
    f.fake.put("A", "2");
    sleep(UNWATCHED_TTL + Duration::from_millis(50)).await;
    f.tenant("A", "A-1").await.unwrap();
    assert_eq!(value(&config), Some(2), "asked again after a second");
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
    assert_eq!(snapshot.get::<String>("tenant_config_none").unwrap(), None);
}

//! Emulator and services as containers, by testcontainers: the path from end to end, and what readers see while networks
//! are cut and a container is paused. `make test` runs it where there is Docker; the images come from variables.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::Credentials;
use e2e::{Stack, User, grpc_client, poll_until, program};
use serde_json::{Value, json};
use tagged_config_proto::v1::{GetConfigRequest, PutConfigRequest};
use tagged_config_runtime::env::{Env, ProcessEnv};
use testcontainers::{
    ContainerAsync, GenericImage, ImageExt,
    core::{IntoContainerPort, WaitFor, wait::HttpWaitStrategy},
    runners::AsyncRunner,
};
use tokio::process::Command;
use uuid::Uuid;

const HTTP: u16 = 8080;
const GRPC: u16 = 50051;
const REFRESH: u16 = 50052;
const ORDER_HTTP: u16 = 8090;
const EMULATOR: u16 = 4566;
const CREDENTIALS_SECRET: &str = "TAGGED_CONFIG_CREDENTIALS_SECRET";
/// The sweep's interval and what a sweep may need, doubled: what is promised where a push is lost.
const JOURNAL_BOUND: Duration = Duration::from_secs(4);
/// A machine with two processors that everything shares.
const SLACK: Duration = Duration::from_secs(2);

/// Two networks: in one, services reach the stores; in the other, everybody reaches the services.
struct Networks {
    stores: String,
    tasks: String,
    folder: PathBuf,
    /// What opens the emulator's credentials endpoint.
    secret: String,
}

struct World {
    emulator: ContainerAsync<GenericImage>,
    replicas: Vec<ContainerAsync<GenericImage>>,
    _order: ContainerAsync<GenericImage>,
    stack: Stack,
    variables: HashMap<String, String>,
    /// The last to go.
    networks: Networks,
}

async fn docker(words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("docker").args(words).output().await?;
    ensure!(
        output.status.success(),
        "docker {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The image that this variable names, or a public one.
fn image(variable: &str, default: &str) -> GenericImage {
    let name = ProcessEnv.get(variable).unwrap_or(default.to_owned());
    let (repository, tag) = name.rsplit_once(':').unwrap_or((&name, "latest"));
    GenericImage::new(repository, tag)
}

async fn address(
    container: &ContainerAsync<GenericImage>,
    network: &str,
) -> anyhow::Result<String> {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    docker(&["inspect", "--format", &format, container.id()]).await
}

impl Networks {
    async fn make() -> anyhow::Result<Self> {
        let id = &Uuid::new_v4().simple().to_string()[..8];
        let networks = Self {
            stores: format!("stores-{id}"),
            tasks: format!("tasks-{id}"),
            folder: std::env::temp_dir().join(format!("containers-{id}")),
            secret: Uuid::new_v4().to_string(),
        };
        for name in [&networks.stores, &networks.tasks] {
            docker(&["network", "create", name]).await?;
        }
        Ok(networks)
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in [&self.stores, &self.tasks] {
            let _ = std::process::Command::new("docker")
                .args(["network", "rm", name])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn text_map(value: &Value) -> HashMap<String, String> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Terraform and the seed, as `make local` has them.
async fn provision(networks: &Networks, host: &str) -> anyhow::Result<Value> {
    let python = ProcessEnv
        .get("TAGGED_CONFIG_PYTHON")
        .context("TAGGED_CONFIG_PYTHON is not set: run `make test`")?;
    let output = Command::new(python)
        .args([
            "localstack/stack.py",
            "provision",
            host,
            "--port",
            &EMULATOR.to_string(),
            "--state-dir",
        ])
        .arg(&networks.folder)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .env(CREDENTIALS_SECRET, &networks.secret)
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).context("the last line is no JSON")
}

async fn service(
    image: GenericImage,
    port: u16,
    networks: &Networks,
    settings: &HashMap<String, String>,
) -> anyhow::Result<ContainerAsync<GenericImage>> {
    let ready = HttpWaitStrategy::new("/readyz")
        .with_port(port.tcp())
        .with_expected_status_code(200_u16);
    let mut request = image
        .with_exposed_port(port.tcp())
        .with_wait_for(WaitFor::http(ready))
        .with_network(&networks.stores)
        .with_readonly_rootfs(true);
    for (name, value) in settings {
        request = request.with_env_var(name, value);
    }
    let container = request.start().await?;
    docker(&["network", "connect", &networks.tasks, container.id()]).await?;
    Ok(container)
}

/// Registers a target of the load balancer.
async fn balance(stack: &Stack, group: &str, host: &str, port: u16) -> anyhow::Result<()> {
    let form = format!(
        "Action=RegisterTargets&Version=2015-12-01&TargetGroupArn={}&Targets.member.1.Id={host}&Targets.member.1.Port={port}",
        group.replace(':', "%3A").replace('/', "%2F")
    );
    let answer = stack
        .web
        .post(&stack.emulator)
        .header("content-type", "application/x-www-form-urlencoded")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/elasticloadbalancing/aws4_request, SignedHeaders=host, Signature=0",
        )
        .body(form)
        .send()
        .await?;
    ensure!(
        answer.status().is_success(),
        "RegisterTargets: {}",
        answer.text().await?
    );
    Ok(())
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let networks = Networks::make().await?;
        let ready = HttpWaitStrategy::new("/_ministack/health").with_expected_status_code(200_u16);
        let emulator = image(
            "TAGGED_CONFIG_EMULATOR_IMAGE",
            "tagged-config/emulator:latest",
        )
        .with_exposed_port(EMULATOR.tcp())
        .with_wait_for(WaitFor::http(ready))
        .with_network(&networks.stores)
        .with_env_var(CREDENTIALS_SECRET, &networks.secret)
        .start()
        .await
        .context("the emulator's container")?;
        docker(&["network", "connect", &networks.tasks, emulator.id()]).await?;
        let host = address(&emulator, &networks.stores).await?;
        let found = provision(&networks, &host).await?;
        let mut variables = text_map(&found["variables"]);

        let mut settings = text_map(&found["config"]);
        settings.extend([
            (
                "TAGGED_CONFIG_HTTP_ADDR".to_owned(),
                format!("0.0.0.0:{HTTP}"),
            ),
            (
                "TAGGED_CONFIG_GRPC_ADDR".to_owned(),
                format!("0.0.0.0:{GRPC}"),
            ),
            (
                "TAGGED_CONFIG_REFRESH_ADDR".to_owned(),
                format!("0.0.0.0:{REFRESH}"),
            ),
        ]);
        let mut replicas = Vec::new();
        let mut hosts = Vec::new();
        for number in 1..=2 {
            settings.insert(
                "TAGGED_CONFIG_INSTANCE_ID".to_owned(),
                format!("config-{number}"),
            );
            let image = image(
                "TAGGED_CONFIG_CONFIG_SERVICE_IMAGE",
                "tagged-config/config-service:latest",
            );
            let replica = service(image, HTTP, &networks, &settings).await?;
            hosts.push(address(&replica, &networks.tasks).await?);
            replicas.push(replica);
        }
        let at = |port: u16| {
            let all = hosts.iter().map(|host| format!("{host}:{port}"));
            all.collect::<Vec<_>>().join(",")
        };
        let mut settings = text_map(&found["order"]);
        let endpoints = hosts.iter().map(|host| format!("http://{host}:{GRPC}"));
        settings.extend([
            (
                "TAGGED_CONFIG_HTTP_ADDR".to_owned(),
                format!("0.0.0.0:{ORDER_HTTP}"),
            ),
            (
                "TAGGED_CONFIG_ENDPOINTS".to_owned(),
                endpoints.collect::<Vec<_>>().join(","),
            ),
        ]);
        let image = image(
            "TAGGED_CONFIG_ORDER_SERVICE_IMAGE",
            "tagged-config/order-service:latest",
        );
        let order = service(image, ORDER_HTTP, &networks, &settings).await?;
        let order_host = address(&order, &networks.tasks).await?;
        variables.extend([
            ("CONFIG_HTTP".to_owned(), at(HTTP)),
            ("CONFIG_GRPC".to_owned(), at(GRPC)),
            ("CONFIG_REFRESH".to_owned(), at(REFRESH)),
            (
                "ORDER_URL".to_owned(),
                format!("http://{order_host}:{ORDER_HTTP}"),
            ),
        ]);
        let endpoint = variables
            .get("AWS_ENDPOINT_URL")
            .context("no AWS_ENDPOINT_URL")?;
        let sdk = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .load()
            .await;
        let stack = Stack::of(|name| variables.get(name).cloned(), sdk)?;
        let text = |name: &str| found[name].as_str().unwrap_or_default();
        for (number, host) in hosts.iter().enumerate() {
            let instance = json!({"ServiceId": text("config_service_id"), "InstanceId": format!("config-{number}"),
                "Attributes": {"AWS_INSTANCE_IPV4": host, "AWS_INSTANCE_PORT": GRPC.to_string()}});
            let target = "Route53AutoNaming_v20170314.RegisterInstance";
            stack.aws("servicediscovery", target, &instance).await?;
            balance(&stack, text("config_target_group_arn"), host, HTTP).await?;
        }
        balance(
            &stack,
            text("order_target_group_arn"),
            &order_host,
            ORDER_HTTP,
        )
        .await?;
        Ok(Self {
            emulator,
            replicas,
            _order: order,
            stack,
            variables,
            networks,
        })
    }

    async fn cut(
        &self,
        network: &str,
        container: &ContainerAsync<GenericImage>,
    ) -> anyhow::Result<()> {
        docker(&["network", "disconnect", network, container.id()]).await?;
        Ok(())
    }

    async fn mend(
        &self,
        network: &str,
        container: &ContainerAsync<GenericImage>,
    ) -> anyhow::Result<()> {
        docker(&["network", "connect", network, container.id()]).await?;
        Ok(())
    }

    /// PutConfig at the first replica.
    async fn put(&self, user: &User, value: &str) -> anyhow::Result<()> {
        let request = PutConfigRequest {
            key: KEY.to_owned(),
            value: value.to_owned(),
            ..Default::default()
        };
        let mut client = grpc_client(&self.stack.grpc[0], &user.token).await?;
        client.put_config(request).await?;
        Ok(())
    }

    /// What the second replica says: the value, and whether it says that it is stale.
    async fn at_second(&self, user: &User) -> anyhow::Result<(String, bool)> {
        let request = GetConfigRequest {
            key: KEY.to_owned(),
            ..Default::default()
        };
        let mut client = grpc_client(&self.stack.grpc[1], &user.token).await?;
        let answer = client.get_config(request).await?.into_inner();
        Ok((answer.value, answer.stale))
    }

    async fn settled(&self, user: &User, value: &str) -> anyhow::Result<()> {
        self.put(user, value).await?;
        self.stack.wait_for(user, KEY, Some(value)).await
    }
}

const KEY: &str = "tenant_config_a";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_stores_in_containers() -> anyhow::Result<()> {
    let world = World::start().await?;
    let user = world.stack.writer().await?;
    the_path_from_end_to_end(&world, &user).await?;
    a_replica_that_the_invalidator_cannot_reach(&world, &user).await?;
    a_replica_that_cannot_reach_the_stores(&world, &user).await?;
    a_replica_that_was_paused(&world, &user).await?;
    the_history_of_a_cut(&world).await
}

async fn the_path_from_end_to_end(world: &World, user: &User) -> anyhow::Result<()> {
    let stack = &world.stack;
    world.settled(user, "1").await?;
    stack.put_item(&user.tenant, "a", "2").await?;
    stack.wait_for(user, KEY, Some("2")).await?;
    let other = stack.writer().await?;
    for replica in &stack.http {
        ensure!(
            stack.value_at(&other, replica, KEY).await?.is_none(),
            "another tenant's value"
        );
    }
    let seeded = ("TENANT_A_USER", "A1B2C3D4");
    let variable = |name: &str| world.variables.get(name).cloned().unwrap_or_default();
    let alice = stack
        .sign_in(&variable(seeded.0), &variable("DEMO_PASSWORD"), seeded.1)
        .await?;
    let order = json!({"lines": [{"sku": "book", "quantity": 2, "unitPrice": "19.99"}]});
    let answer = stack
        .web
        .post(format!("{}/v1/orders", stack.api_url))
        .bearer_auth(&alice.token)
        .json(&order)
        .send()
        .await?;
    ensure!(
        answer.status().as_u16() == 200,
        "an order: {}",
        answer.status()
    );
    Ok(())
}

/// The push is lost: the journal brings the change.
async fn a_replica_that_the_invalidator_cannot_reach(
    world: &World,
    user: &User,
) -> anyhow::Result<()> {
    world.settled(user, "10").await?;
    world.cut(&world.networks.tasks, &world.emulator).await?;
    let begun = Instant::now();
    world.put(user, "11").await?;
    let seen = poll_until("a change without a push", async || {
        Ok(world.at_second(user).await?.0 == "11")
    })
    .await;
    world.mend(&world.networks.tasks, &world.emulator).await?;
    seen?;
    let took = begun.elapsed();
    ensure!(took < JOURNAL_BOUND + SLACK, "it took {took:?}");
    Ok(())
}

/// What is cached is served on, and nobody is told an error; afterwards it is current again.
async fn a_replica_that_cannot_reach_the_stores(world: &World, user: &User) -> anyhow::Result<()> {
    world.settled(user, "20").await?;
    world
        .cut(&world.networks.stores, &world.replicas[1])
        .await?;
    world.put(user, "21").await?;
    let mut failed = None;
    for _ in 0..60 {
        if let Err(error) = world.at_second(user).await {
            failed = Some(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world
        .mend(&world.networks.stores, &world.replicas[1])
        .await?;
    if let Some(error) = failed {
        return Err(error.context("a read of what was cached failed"));
    }
    world.stack.wait_for(user, KEY, Some("21")).await
}

/// Nothing that was cached before the pause is served as fresh.
async fn a_replica_that_was_paused(world: &World, user: &User) -> anyhow::Result<()> {
    world.settled(user, "30").await?;
    let replica = &world.replicas[1];
    replica.pause().await?;
    world.put(user, "31").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    replica.unpause().await?;
    let (value, stale) = world.at_second(user).await?;
    ensure!(value == "31" || stale, "{value} was served as fresh");
    world.stack.wait_for(user, KEY, Some("31")).await
}

/// The harness's checker judges what it saw while pushes were lost for three seconds.
async fn the_history_of_a_cut(world: &World) -> anyhow::Result<()> {
    let out = world.networks.folder.join("history");
    // The edge is the emulator's, which is cut off from the services as well.
    let mut harness = Command::new(program("loadtest")?);
    harness
        .args([
            "staleness",
            "--duration",
            "8s",
            "--rate",
            "4",
            "--cells",
            "2",
        ])
        .args([
            "--source",
            "put-config",
            "--background",
            "0",
            "--lost-after",
            "10s",
            "--no-edge",
            "--out",
        ])
        .arg(&out)
        .envs(&world.variables)
        .kill_on_drop(true);
    let run = tokio::spawn(async move { harness.output().await });
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.cut(&world.networks.tasks, &world.emulator).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.mend(&world.networks.tasks, &world.emulator).await?;
    let output = run.await??;
    ensure!(
        output.status.success(),
        "the checker: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let result: Value = serde_json::from_slice(&std::fs::read(out.join("result.json"))?)?;
    ensure!(
        result["staleness"]
            .as_array()
            .is_some_and(|parts| !parts.is_empty()),
        "nothing was measured"
    );
    Ok(())
}

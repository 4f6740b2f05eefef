//! A rolling restart of the replicas under load: no call fails. Runs alone. Where the replicas are containers it is an ECS
//! deployment: new tasks have other addresses, which the load balancer and order-service learn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use e2e::Stack;
use serde_json::json;
use tagged_config_client::{CallerToken, ClientConfig, ConfigClient};
use tagged_config_proto::v1::GetConfigRequest;
use tagged_config_runtime::env::{Env, ProcessEnv};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_the_replicas_restart() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    stack.put_item(&user.tenant, "steady", "1").await?;
    let endpoints = stack
        .grpc
        .iter()
        .map(|a| format!("http://{a}"))
        .collect::<Vec<_>>()
        .join(",")
        .parse()?;
    let client = ConfigClient::new(&ClientConfig {
        endpoints,
        deadline: Duration::from_secs(2),
    });
    let token = CallerToken::from_authorization(&format!("Bearer {}", user.token))?;
    let in_containers = ProcessEnv.get("TAGGED_CONFIG_DOCKER_NETWORK").is_some();
    let callers = if in_containers { 0 } else { 8 };
    let (stop, calls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load: Vec<_> = (0..callers)
        .map(|_| {
            let (client, token, stop, calls) = (
                client.clone(),
                token.clone(),
                Arc::clone(&stop),
                Arc::clone(&calls),
            );
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let request = GetConfigRequest {
                        key: "tenant_config_steady".to_owned(),
                        ..Default::default()
                    };
                    match client.get(&token, request).await {
                        Ok(answer) if answer.value == "1" => {}
                        Ok(answer) => failed.push(format!("a wrong value: {}", answer.value)),
                        Err(status) => failed.push(status.to_string()),
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                failed
            })
        })
        .collect();
    // The edge is loaded too: a replica is out of the balancer before it is stopped.
    let alice = stack.seeded("TENANT_A_USER", "A1B2C3D4").await?;
    let get = stack
        .web
        .get(format!("{}/v1/config/tenant_config_steady", stack.api_url))
        .bearer_auth(&user.token);
    let order = stack
        .web
        .post(format!("{}/v1/orders", stack.api_url))
        .bearer_auth(&alice.token)
        .json(&json!({"lines": [{"sku": "book", "quantity": 2, "unitPrice": "19.99"}]}));
    // The one process of order-service is away while it restarts; as a container, the new one comes first.
    let orders = in_containers.then_some(("edge, orders", order));
    let edge: Vec<_> = [("edge, config", get)]
        .into_iter()
        .chain(orders)
        .map(|(name, request)| {
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let request = request.try_clone().unwrap();
                    match request.send().await {
                        Ok(answer) if answer.status().is_success() => {}
                        Ok(answer) => failed.push(format!("{name}: {}", answer.status())),
                        Err(error) => failed.push(format!("{name}: {error}")),
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                failed
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let restarted = restart().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::SeqCst);
    let mut failed = Vec::new();
    for worker in edge.into_iter().chain(load) {
        failed.extend(worker.await?);
    }
    restarted?;
    let calls = calls.load(Ordering::SeqCst);
    ensure!(
        failed.is_empty(),
        "{} of {calls} calls failed, such as {:?}",
        failed.len(),
        &failed[..failed.len().min(3)]
    );
    ensure!(
        calls > if callers > 0 { 500 } else { 100 },
        "only {calls} calls: not a load"
    );
    Ok(())
}

async fn restart() -> anyhow::Result<()> {
    let get = |name: &str| {
        ProcessEnv
            .get(name)
            .with_context(|| format!("{name} is not set: run `make test`"))
    };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let output = Command::new(get("TAGGED_CONFIG_PYTHON")?)
        .args([
            "localstack/stack.py",
            "rolling-restart",
            "--state-dir",
            &get("TAGGED_CONFIG_STACK_DIR")?,
        ])
        .current_dir(root)
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

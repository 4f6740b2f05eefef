//! Concurrent writers through two replicas, with hand edits and deletes between them, for ten seconds:
//! every version that the service gives is unique and above all that were given before it was asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use e2e::{Stack, User, grpc_client};
use tagged_config_proto::v1::{DeleteConfigRequest, PutConfigRequest};
use tonic::Code;

const KEY: &str = "tenant_config_contended";

async fn write(
    address: String,
    user: User,
    deletes: bool,
    stop: Arc<AtomicBool>,
    highest: Arc<AtomicI64>,
) -> anyhow::Result<Vec<i64>> {
    let mut client = grpc_client(&address, &user.token).await?;
    let mut given = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        // Whatever anybody was given before this call began must stay below what it brings.
        let floor = highest.load(Ordering::SeqCst);
        let answer = if deletes && given.len() % 3 == 2 {
            let request = DeleteConfigRequest {
                key: KEY.to_owned(),
                ..Default::default()
            };
            client
                .delete_config(request)
                .await
                .map(|answer| answer.into_inner().version)
        } else {
            let request = PutConfigRequest {
                key: KEY.to_owned(),
                value: "1".to_owned(),
                ..Default::default()
            };
            client
                .put_config(request)
                .await
                .map(|answer| answer.into_inner().version)
        };
        match answer {
            Ok(version) => {
                assert!(version > floor, "{version} was given after {floor}");
                highest.fetch_max(version, Ordering::SeqCst);
                given.push(version);
            }
            Err(status) if matches!(status.code(), Code::Aborted | Code::NotFound) => {}
            Err(status) => return Err(status.into()),
        }
    }
    Ok(given)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_unique_and_rise() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let (stop, highest) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicI64::new(0)),
    );
    let writers: Vec<_> = (0..6)
        .map(|n| {
            let address = stack.grpc[n % stack.grpc.len()].clone();
            tokio::spawn(write(
                address,
                user.clone(),
                n >= 4,
                Arc::clone(&stop),
                Arc::clone(&highest),
            ))
        })
        .collect();
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while tokio::time::Instant::now() < until {
        stack
            .put_item(&user.tenant, "contended", "\"by hand\"")
            .await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        stack.delete_item(&user.tenant, "contended").await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut all = Vec::new();
    for writer in writers {
        let given = writer.await??;
        assert!(given.is_sorted());
        all.extend(given);
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "two writers were given the same version");
    assert!(count > 50, "only {count} writes in ten seconds");
    Ok(())
}

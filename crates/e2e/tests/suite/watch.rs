//! WatchConfig on the running stack: what is told comes by push, through both replicas.

use std::time::Duration;

use e2e::{Stack, User, grpc_client};
use tagged_config_proto::v1::{
    ExplainConfigRequest, GetConfigRequest, WatchConfigRequest, WatchConfigResponse,
    explained_location::State, watch_config_response::Event,
};
use tonic::{Code, Streaming};

async fn watch(
    stack: &Stack,
    replica: usize,
    user: &User,
    keys: &[&str],
) -> anyhow::Result<Streaming<WatchConfigResponse>> {
    let mut client = grpc_client(&stack.grpc[replica], &user.token).await?;
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Ok(client
        .watch_config(WatchConfigRequest { keys })
        .await?
        .into_inner())
}

/// What the next message says, in short; heartbeats are passed over.
async fn next(watch: &mut Streaming<WatchConfigResponse>) -> anyhow::Result<String> {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), watch.message()).await??;
        let event = message.and_then(|message| message.event);
        return Ok(match event {
            Some(Event::Heartbeat(_)) => continue,
            Some(Event::Changed(changed)) => format!("{} changed", changed.key),
            Some(Event::Upserted(entry)) => {
                format!("{}={} {}", entry.key, entry.value, entry.origin)
            }
            Some(Event::Deleted(deleted)) => format!("{} deleted", deleted.key),
            Some(Event::InSync(whole)) => format!("in_sync {whole}"),
            Some(Event::Failed(error)) => format!("{} {}", error.key, error.message),
            None => "end".to_owned(),
        });
    }
}

#[tokio::test]
async fn a_watch_sends_a_snapshot_and_then_every_change_of_its_tenant() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let (user, other) = (stack.writer().await?, stack.writer().await?);
    stack.put_item(&user.tenant, "watched", "1").await?;
    let keys = ["tenant_config_watched", "tenant_config_none"];
    let mut watches = Vec::new();
    for replica in 0..stack.grpc.len() {
        let mut watch = watch(&stack, replica, &user, &keys).await?;
        assert_eq!(next(&mut watch).await?, "tenant_config_watched=1 tenant");
        assert_eq!(next(&mut watch).await?, "in_sync true");
        watches.push(watch);
    }
    let mut of_other = watch(&stack, 0, &other, &keys).await?;
    assert_eq!(next(&mut of_other).await?, "in_sync true");
    stack.put_item(&user.tenant, "watched", "2").await?;
    for watch in &mut watches {
        assert_eq!(next(watch).await?, "tenant_config_watched=2 tenant");
    }
    stack.delete_item(&user.tenant, "watched").await?;
    for watch in &mut watches {
        assert_eq!(next(watch).await?, "tenant_config_watched deleted");
    }
    stack
        .put_item(&other.tenant, "none", "of the other")
        .await?;
    assert_eq!(
        next(&mut of_other).await?,
        "tenant_config_none=of the other tenant"
    );
    // Nothing of the other tenant came in between.
    stack.put_item(&user.tenant, "none", "own").await?;
    assert_eq!(
        next(&mut watches[0]).await?,
        "tenant_config_none=own tenant"
    );
    Ok(())
}

#[tokio::test]
async fn deleting_an_override_sends_the_default() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let name = format!("watched-{}", user.tenant);
    let (default, own) = (
        format!("global/{name}"),
        format!("tenants/{}/{name}", user.tenant),
    );
    stack.put_parameter(&default, "\"d\"", false).await?;
    stack.put_parameter(&own, "\"o\"", false).await?;
    let key = format!("param_config_{name}");
    let mut watch = watch(&stack, 0, &user, &[&key]).await?;
    assert_eq!(next(&mut watch).await?, format!("{key}=\"o\" tenant"));
    assert_eq!(next(&mut watch).await?, "in_sync true");
    stack.delete_parameter(&own).await?;
    assert_eq!(next(&mut watch).await?, format!("{key}=\"d\" global"));
    stack.delete_parameter(&default).await?;
    assert_eq!(next(&mut watch).await?, format!("{key} deleted"));
    Ok(())
}

#[tokio::test]
async fn bad_watches_are_refused() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let mut client = grpc_client(&stack.grpc[0], &user.token).await?;
    for keys in [
        vec![],
        vec!["tenant_config_x".to_owned(); 501],
        vec!["other_config_x".to_owned()],
        vec!["tenant_config_../x".to_owned()],
    ] {
        let refused = client.watch_config(WatchConfigRequest { keys }).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
    let mut nobody = grpc_client(&stack.grpc[0], "not-a-token").await?;
    let request = WatchConfigRequest {
        keys: vec!["tenant_config_x".to_owned()],
    };
    let refused = nobody.watch_config(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    Ok(())
}

#[tokio::test]
async fn an_admin_reads_what_a_task_knows_of_a_key() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let admin = stack.user_of(&writer.tenant, "admin").await?;
    let key = "tenant_config_explained".to_owned();
    let explain = async |user: &User| {
        let mut client = grpc_client(&stack.grpc[0], &user.token).await?;
        let request = ExplainConfigRequest { key: key.clone() };
        anyhow::Ok(client.explain_config(request).await)
    };
    let refused = explain(&writer).await?;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    stack.put_item(&writer.tenant, "explained", "1").await?;
    stack.wait_for(&writer, &key, Some("1")).await?;
    stack.put_item(&writer.tenant, "explained", "2").await?;
    stack.wait_for(&writer, &key, Some("2")).await?;
    let told = explain(&admin).await??.into_inner();
    let place = &told.locations[0];
    assert_eq!(told.source, "dynamodb");
    assert_eq!(place.state(), State::Value);
    assert!(place.location.contains(&writer.tenant), "{place:?}");
    let last = place.last_change.as_ref().map(|change| change.by.as_str());
    assert!(matches!(last, Some("push" | "sweep")), "{place:?}");
    assert!(told.journal_bound_ms > 0 && told.staleness_bound_ms > told.journal_bound_ms);
    // Its own answer says the same bounds.
    let mut client = grpc_client(&stack.grpc[0], &admin.token).await?;
    let request = GetConfigRequest {
        key: key.clone(),
        freshness: true,
        ..Default::default()
    };
    let answer = client.get_config(request).await?.into_inner();
    assert_eq!(answer.journal_bound_ms, told.journal_bound_ms);
    Ok(())
}

//! `secret_config_*` on the running stack: for admins, read for each request, its changes announced without a value.

use e2e::{Stack, grpc_client};
use tagged_config_proto::v1::{GetConfigRequest, WatchConfigRequest, watch_config_response::Event};
use tonic::{Code, Streaming};

async fn next(
    watch: &mut Streaming<tagged_config_proto::v1::WatchConfigResponse>,
) -> anyhow::Result<String> {
    loop {
        let wait = std::time::Duration::from_secs(20);
        let message = tokio::time::timeout(wait, watch.message()).await??;
        return Ok(match message.and_then(|message| message.event) {
            Some(Event::Heartbeat(_)) => continue,
            Some(Event::Changed(changed)) => format!("{} changed", changed.key),
            Some(Event::InSync(_)) => "in sync".to_owned(),
            other => format!("{other:?}"),
        });
    }
}

#[tokio::test]
async fn the_current_value_is_for_admins_and_a_rotation_shows_at_once() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let tenant = format!("e2e-{}", uuid::Uuid::new_v4().simple());
    let admin = stack.user_of(&tenant, "admin").await?;
    let writer = stack.user_of(&tenant, "writer").await?;
    let stranger = stack.user_of(&format!("{tenant}-x"), "admin").await?;
    let name = format!("pay/key-of-{tenant}");
    let (own, global) = (format!("tenants/{tenant}/{name}"), format!("global/{name}"));
    let key = format!("secret_config_{name}");
    let path = format!("/v1/config/{key}");
    stack.put_secret(&own, "one").await?;
    stack.put_secret(&global, "shared").await?;
    for base in [stack.api_url.clone(), format!("http://{}", stack.http[0])] {
        let (status, body) = stack.get(&admin, &base, &path).await?;
        assert_eq!(
            (status, body["value"].as_str()),
            (200, Some("one")),
            "{body}"
        );
        assert_eq!(
            (body["source"].as_str(), body["version"].as_i64()),
            (Some("secrets-manager"), Some(0))
        );
        assert_eq!(stack.get(&writer, &base, &path).await?.0, 403);
        let (_, body) = stack.get(&stranger, &base, &path).await?;
        assert_eq!(body["value"], "shared", "its own would hide the shared one");
    }
    let answer = stack
        .web
        .get(format!("http://{}{path}", stack.http[0]))
        .bearer_auth(&admin.token)
        .send()
        .await?;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let tag = answer.headers()["etag"].to_str()?.to_owned();

    let watch_of = async |token: &str| -> anyhow::Result<_> {
        let mut client = grpc_client(&stack.grpc[1], token).await?;
        let keys = vec![key.clone()];
        Ok(client
            .watch_config(WatchConfigRequest { keys })
            .await?
            .into_inner())
    };
    let mut watch = watch_of(&admin.token).await?;
    assert_eq!(next(&mut watch).await?, format!("{key} changed"));
    assert_eq!(next(&mut watch).await?, "in sync");
    let mut refused = watch_of(&writer.token).await?;
    assert!(next(&mut refused).await?.contains("needs the role admin"));

    stack.put_secret(&own, "two").await?;
    for replica in &stack.http {
        // Without waiting for any event.
        assert_eq!(
            stack.value_at(&admin, replica, &key).await?.as_deref(),
            Some("two")
        );
    }
    assert_eq!(next(&mut watch).await?, format!("{key} changed"));
    let known = stack
        .web
        .get(format!("http://{}{path}", stack.http[0]))
        .bearer_auth(&admin.token)
        .header("if-none-match", tag);
    assert_eq!(
        known.send().await?.status().as_u16(),
        200,
        "another value, another tag"
    );

    stack.delete_secret(&own).await?;
    for replica in &stack.http {
        assert_eq!(
            stack.value_at(&admin, replica, &key).await?.as_deref(),
            Some("shared"),
            "what is gone hides nothing"
        );
    }
    stack.delete_secret(&global).await?;
    for replica in &stack.http {
        assert_eq!(stack.value_at(&admin, replica, &key).await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn secrets_are_read_only_and_not_listed() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let tenant = format!("e2e-{}", uuid::Uuid::new_v4().simple());
    let admin = stack.user_of(&tenant, "admin").await?;
    let base = format!("http://{}", stack.http[0]);
    let put = stack
        .web
        .put(format!("{base}/v1/config/secret_config_x"))
        .bearer_auth(&admin.token)
        .header("content-type", "text/plain")
        .body("x");
    let answer = put.send().await?;
    assert_eq!(answer.status().as_u16(), 409);
    assert!(answer.text().await?.contains("aws secretsmanager"));
    let (status, _) = stack
        .get(&admin, &base, "/v1/config?prefix=secret_config_")
        .await?;
    assert_eq!(status, 501);
    let mut client = grpc_client(&stack.grpc[0], &admin.token).await?;
    let get = GetConfigRequest {
        key: "secret_config_none".to_owned(),
        freshness: true,
        ..Default::default()
    };
    let missing = client.get_config(get).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    Ok(())
}

//! `blob_config_*` on the running stack: any bytes, of any size, over REST and gRPC; changes come by push.

use std::time::Duration;

use e2e::{JwksServer, Stack, Standalone, User, grpc_client, poll_until};
use serde_json::{Value, json};
use tagged_config_proto::v1::{
    BatchGetConfigRequest, GetConfigRequest, PutConfigRequest, WatchConfigRequest,
    watch_config_response::Event,
};
use tagged_config_testkit::Issuer;
use tonic::Code;

const MIB: usize = 1024 * 1024;

/// Bytes that are no text, and differ from place to place.
fn bytes(length: usize, salt: u8) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at * 31 / 8 % 251).unwrap() ^ salt)
        .collect()
}

fn raw(base: &str, key: &str) -> String {
    format!("{base}/v1/config/{key}:raw")
}

async fn put(
    stack: &Stack,
    base: &str,
    user: &User,
    key: &str,
    value: Vec<u8>,
) -> anyhow::Result<(u16, Value)> {
    let call = stack
        .web
        .put(format!("{base}/v1/config/{key}"))
        .bearer_auth(&user.token)
        .header("content-type", "application/x-test")
        .body(value);
    let answer = call.send().await?;
    let status = answer.status().as_u16();
    Ok((
        status,
        serde_json::from_slice(&answer.bytes().await?).unwrap_or_default(),
    ))
}

#[tokio::test]
async fn any_bytes_of_any_size_come_back_through_the_edge() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let (user, other) = (stack.writer().await?, stack.writer().await?);
    let key = "blob_config_models/one.bin";
    for (length, salt) in [(3, 1), (64 * 1024, 2), (2 * MIB, 3), (8 * MIB, 4), (0, 5)] {
        let value = bytes(length, salt);
        let (status, written) = put(&stack, &stack.api_url, &user, key, value.clone()).await?;
        anyhow::ensure!(matches!(status, 200 | 201), "{length}: {status} {written}");
        // The replica that did not write may not know yet.
        let own = format!("min_version={}", written["version"]);
        for base in [&stack.api_url, &format!("http://{}", stack.http[0])] {
            let get = || {
                let url = format!("{}?{own}", raw(base, key));
                stack.web.get(url).bearer_auth(&user.token)
            };
            let got = get().send().await?;
            assert_eq!(got.status().as_u16(), 200, "{base} {length}");
            assert_eq!(got.headers()["content-type"], "application/x-test");
            assert_eq!(got.headers()["etag"].to_str()?, written["etag"]);
            assert!(got.bytes().await? == value, "{base} {length}");
            let part = get().header("range", "bytes=1-2").send().await?;
            let (status, said) = (part.status().as_u16(), part.headers().get("content-range"));
            let wanted = format!("bytes 1-2/{length}");
            match length {
                0 => assert_eq!(status, 416),
                _ => assert_eq!((status, said.unwrap().to_str()?), (206, wanted.as_str())),
            }
            if length > 0 {
                assert_eq!(part.bytes().await?, value[1..3]);
            }
        }
    }
    let (status, refused) = put(
        &stack,
        &format!("http://{}", stack.http[0]),
        &user,
        key,
        bytes(8 * MIB + 1, 0),
    )
    .await?;
    assert_eq!(status, 413, "{refused}");
    for reader in [&user, &other] {
        let (status, listed) = stack
            .get(
                reader,
                &stack.api_url,
                "/v1/config?prefix=blob_config_models/",
            )
            .await?;
        let entries = listed["entries"].as_array().map(Vec::len);
        let own = usize::from(reader.tenant == user.tenant);
        assert_eq!((status, entries), (200, Some(own)), "{listed}");
    }
    let foreign = format!("blob_config_{}/models/one.bin", user.tenant);
    for key in [key, &foreign] {
        let got = stack
            .web
            .get(raw(&stack.api_url, key))
            .bearer_auth(&other.token);
        assert_eq!(
            got.send().await?.status().as_u16(),
            404,
            "another tenant's {key}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn changes_past_the_service_reach_every_replica_and_a_deletion_uncovers_the_default()
-> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let (user, other) = (stack.writer().await?, stack.writer().await?);
    let name = format!("table-{}", user.tenant);
    let key = format!("blob_config_{name}");
    let (own, global) = (
        format!("tenants/{}/{name}", user.tenant),
        format!("global/{name}"),
    );
    stack.wait_for(&user, &key, None).await?;
    stack.put_object(&global, "\"default\"").await?;
    stack.wait_for(&user, &key, Some("\"default\"")).await?;
    for round in 0..3 {
        let value = format!("\"own {round}\"");
        stack.put_object(&own, &value).await?;
        stack.wait_for(&user, &key, Some(&value)).await?;
    }
    stack.wait_for(&other, &key, Some("\"default\"")).await?;
    // Their events come in any order.
    for round in 0..20 {
        stack.put_object(&own, &format!("{round}")).await?;
    }
    stack.wait_for(&user, &key, Some("19")).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for replica in &stack.http {
        let seen = stack.value_at(&user, replica, &key).await?;
        assert_eq!(
            seen.as_deref(),
            Some("19"),
            "no late event brings back an older value"
        );
    }
    stack.delete_object(&own).await?;
    stack.wait_for(&user, &key, Some("\"default\"")).await?;
    stack.delete_object(&global).await?;
    stack.wait_for(&user, &key, None).await
}

#[tokio::test]
async fn grpc_has_what_a_message_holds_and_names_the_path_of_the_rest() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let mut client = grpc_client(&stack.grpc[0], &user.token).await?;
    let small = bytes(1_000, 7);
    let written = PutConfigRequest {
        key: "blob_config_small".to_owned(),
        data: small.clone().into(),
        content_type: "application/x-test".to_owned(),
        ..Default::default()
    };
    let version = client
        .put_config(written.clone())
        .await?
        .into_inner()
        .version;
    let get = |key: &str| GetConfigRequest {
        key: key.to_owned(),
        ..Default::default()
    };
    let got = client
        .get_config(get("blob_config_small"))
        .await?
        .into_inner();
    assert_eq!(
        (got.data.to_vec(), got.value.as_str(), got.version),
        (small, "", version)
    );
    let again = PutConfigRequest {
        expected_version: Some(version - 1),
        ..written
    };
    let refused = client.put_config(again).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    let at_least = GetConfigRequest {
        min_version: version,
        ..get("blob_config_small")
    };
    assert_eq!(
        client.get_config(at_least).await?.into_inner().version,
        version
    );

    let base = format!("http://{}", stack.http[0]);
    for (key, length) in [
        ("blob_config_medium", 2 * MIB),
        ("blob_config_large", 4 * MIB),
    ] {
        assert_eq!(
            put(&stack, &base, &user, key, bytes(length, 9)).await?.0,
            201
        );
    }
    let medium = client
        .get_config(get("blob_config_medium"))
        .await?
        .into_inner();
    assert!(medium.data == bytes(2 * MIB, 9), "a streamed value, whole");
    let refused = client
        .get_config(get("blob_config_large"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused
            .message()
            .contains("GET /v1/config/blob_config_large:raw"),
        "{refused}"
    );
    let (status, body) = stack
        .get(&user, &base, "/v1/config/blob_config_large")
        .await?;
    assert_eq!(status, 406, "{body}");
    // What needs no body is answered without one.
    let url = format!("{base}/v1/config/blob_config_large");
    let head = stack.web.head(&url).bearer_auth(&user.token).send().await?;
    assert_eq!(head.status().as_u16(), 200);
    let known = stack
        .web
        .get(&url)
        .bearer_auth(&user.token)
        .header("if-none-match", head.headers()["etag"].clone());
    assert_eq!(known.send().await?.status().as_u16(), 304);
    // In JSON, each of these bytes takes six.
    let (status, body) = put(
        &stack,
        &base,
        &user,
        "blob_config_control",
        vec![1; 2 * MIB],
    )
    .await?;
    assert_eq!(status, 201, "{body}");
    let (status, _) = stack
        .get(&user, &base, "/v1/config/blob_config_control")
        .await?;
    assert_eq!(status, 406, "more than an edge passes");

    stack.put_item(&user.tenant, "x", "1").await?;
    let keys = [
        "blob_config_small",
        "tenant_config_x",
        "blob_config_large",
        "blob_config_none",
        "other_config_x",
    ];
    let batch = BatchGetConfigRequest {
        keys: keys.map(ToOwned::to_owned).to_vec(),
        freshness: false,
    };
    let batch = client.batch_get_config(batch).await?.into_inner();
    let found: Vec<_> = batch
        .entries
        .iter()
        .map(|entry| entry.source.as_str())
        .collect();
    assert_eq!(found, ["s3", "dynamodb"]);
    assert_eq!(batch.missing, ["blob_config_none"]);
    let errors: Vec<_> = batch
        .errors
        .iter()
        .map(|error| error.key.as_str())
        .collect();
    assert_eq!(errors, ["blob_config_large", "other_config_x"]);
    let known = "tenant_config_, param_config_, blob_config_, secret_config_";
    assert!(
        batch.errors[1].message.contains(known),
        "{}",
        batch.errors[1].message
    );
    Ok(())
}

/// Two writers that read one version: one of them wins, whatever they wrote.
#[tokio::test]
async fn conditional_writes_of_blobs_exclude_each_other() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let url = |replica: usize| {
        format!(
            "http://{}/v1/config/blob_config_contended",
            stack.http[replica % stack.http.len()]
        )
    };
    let first = stack
        .web
        .put(url(0))
        .bearer_auth(&user.token)
        .json(&json!(0))
        .send()
        .await?;
    let first: Value = first.json().await?;
    let etag = first["etag"].as_str().unwrap();
    // Equal contents have one tag in S3, and so exclude nobody.
    let writers = (1..7).map(|writer| {
        stack
            .web
            .put(url(writer))
            .bearer_auth(&user.token)
            .header("if-match", etag)
            .json(&json!(writer))
            .send()
    });
    let mut statuses = Vec::new();
    for answer in futures::future::join_all(writers).await {
        statuses.push(answer?.status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412]);
    poll_until("the replicas agree", async || {
        let mut seen = Vec::new();
        for replica in &stack.http {
            seen.push(
                stack
                    .value_at(&user, replica, "blob_config_contended")
                    .await?,
            );
        }
        Ok(seen.windows(2).all(|pair| pair[0] == pair[1]))
    })
    .await
}

/// What an edge passes in one answer is less than what an operator may put there.
#[tokio::test]
async fn what_no_edge_passes_whole_is_read_in_parts() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let value = "0123456789".repeat(1_100_000);
    let key = format!("tenants/{}/huge", user.tenant);
    stack.put_object(&key, &value).await?;
    let get = |range: Option<&'static str>| {
        let call = stack
            .web
            .get(raw(&stack.api_url, "blob_config_huge"))
            .bearer_auth(&user.token);
        match range {
            Some(range) => call.header("range", range),
            None => call,
        }
    };
    let refused = get(None).send().await?;
    assert_eq!(refused.status().as_u16(), 406);
    let problem: Value = refused.json().await?;
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("11000000 bytes") && detail.contains("Range"),
        "{detail}"
    );
    let part = get(Some("bytes=10999990-")).send().await?;
    assert_eq!(part.status().as_u16(), 206);
    assert_eq!(part.bytes().await?, "0123456789");
    stack.delete_object(&key).await
}

#[tokio::test]
async fn a_watch_sends_small_blobs_and_sizes_of_large_ones() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let mut client = grpc_client(&stack.grpc[1], &user.token).await?;
    let keys = vec!["blob_config_watched".to_owned()];
    let mut watch = client
        .watch_config(WatchConfigRequest { keys })
        .await?
        .into_inner();
    let base = format!("http://{}", stack.http[0]);
    let mut entries = async || -> anyhow::Result<_> {
        loop {
            let wait = Duration::from_secs(20);
            let message = tokio::time::timeout(wait, watch.message()).await??;
            if let Some(Event::Upserted(entry)) = message.and_then(|message| message.event) {
                return Ok(entry);
            }
        }
    };
    for (length, omitted) in [(100, 0), (2 * MIB, 2 * 1_048_576), (200, 0)] {
        let value = bytes(length, 11);
        let (status, body) =
            put(&stack, &base, &user, "blob_config_watched", value.clone()).await?;
        assert!(matches!(status, 200 | 201), "{body}");
        let entry = entries().await?;
        assert_eq!(entry.omitted_bytes, omitted);
        let expected = if omitted == 0 { value } else { Vec::new() };
        assert!(entry.data == expected, "{length}");
    }
    Ok(())
}

#[tokio::test]
async fn a_deployment_without_the_tags_does_not_know_their_keys() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let issuer = Issuer::new();
    let jwks = JwksServer::start(issuer.jwks()).await?;
    let role = e2e::role_credentials("config-service").await?;
    let mut settings = vec![
        ("AWS_ENDPOINT_URL", stack.emulator.as_str()),
        ("TAGGED_CONFIG_TABLE", stack.table.as_str()),
        (
            "TAGGED_CONFIG_PARAMETER_ROOT",
            stack.parameter_root.as_str(),
        ),
    ];
    settings.extend(role.iter().map(|(name, value)| (&**name, &**value)));
    let service = Standalone::start(&jwks.url, &settings).await?;
    let mut client = grpc_client(&service.grpc, &issuer.token("A", "admin")).await?;
    for key in ["blob_config_x", "secret_config_x"] {
        let get = GetConfigRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        let refused = client.get_config(get).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let known = "unknown tag; known tags are tenant_config_, param_config_, schema_config_";
        assert_eq!(refused.message(), known);
    }
    assert_eq!(service.terminate().await?, Some(0));
    Ok(())
}

/// An eighth of what they hold, and not more: 64 streams of 8 MiB at once.
#[tokio::test]
async fn streams_take_the_memory_of_their_buffers() -> anyhow::Result<()> {
    const STREAMS: usize = 64;
    let stack = Stack::connect().await?;
    let issuer = Issuer::new();
    let jwks = JwksServer::start(issuer.jwks()).await?;
    let role = e2e::role_credentials("config-service").await?;
    let mut settings = vec![
        ("AWS_ENDPOINT_URL", stack.emulator.as_str()),
        ("TAGGED_CONFIG_TABLE", stack.table.as_str()),
        (
            "TAGGED_CONFIG_PARAMETER_ROOT",
            stack.parameter_root.as_str(),
        ),
        ("TAGGED_CONFIG_BLOB_BUCKET", stack.bucket.as_str()),
        ("TAGGED_CONFIG_CACHE_BYTES", "268435456"),
    ];
    settings.extend(role.iter().map(|(name, value)| (&**name, &**value)));
    let service = Standalone::start(&jwks.url, &settings).await?;
    let tenant = format!("e2e-{}", uuid::Uuid::new_v4().simple());
    let value = bytes(8 * MIB, 13);
    let object = format!("tenants/{tenant}/large");
    stack.put_object_bytes(&object, value.clone()).await?;
    let token = issuer.token(&tenant, "reader");
    let url = raw(&format!("http://{}", service.http), "blob_config_large");
    let (before, _) = service.resident_bytes()?;
    let streams = (0..STREAMS).map(async |_| -> anyhow::Result<()> {
        let mut answer = stack.web.get(&url).bearer_auth(&token).send().await?;
        assert_eq!(answer.status().as_u16(), 200);
        let mut at = 0;
        while let Some(piece) = answer.chunk().await? {
            assert!(value[at..].starts_with(&piece), "at {at}");
            at += piece.len();
        }
        assert_eq!(at, value.len());
        Ok(())
    });
    futures::future::try_join_all(streams).await?;
    let (_, most) = service.resident_bytes()?;
    let grown = most.saturating_sub(before);
    assert!(
        grown < (STREAMS * 8 * MIB / 8) as u64,
        "{grown} bytes for {STREAMS} streams"
    );
    stack.delete_object(&object).await?;
    assert_eq!(service.terminate().await?, Some(0));
    Ok(())
}

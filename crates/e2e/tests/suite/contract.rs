//! The wire contract, over gRPC and REST.

use std::time::Duration;

use e2e::{Stack, grpc_client};
use serde_json::{Value, json};
use tagged_config_proto::v1::config_service_client::ConfigServiceClient;
use tagged_config_proto::v1::{
    BatchGetConfigRequest, DeleteConfigRequest, GetConfigRequest, ListConfigRequest,
    PutConfigRequest, RefreshRequest, refresh_service_client::RefreshServiceClient,
};
use tonic::{Code, Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_reflection::pb::v1alpha;

fn get(key: &str) -> GetConfigRequest {
    GetConfigRequest {
        key: key.to_owned(),
        ..Default::default()
    }
}

fn put(key: &str, value: &str) -> PutConfigRequest {
    PutConfigRequest {
        key: key.to_owned(),
        value: value.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn grpc_reads_writes_and_errors() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let reader = stack.user_of(&user.tenant, "reader").await?;
    let mut client = grpc_client(&stack.grpc[0], &user.token).await?;

    let v1 = client
        .put_config(put("tenant_config_a", "{\"n\": 1}"))
        .await?
        .into_inner()
        .version;
    let miss = client
        .get_config(get("tenant_config_a"))
        .await?
        .into_inner();
    assert_eq!(
        (
            miss.value.as_str(),
            miss.version,
            miss.cached,
            miss.origin.as_str()
        ),
        ("{\"n\": 1}", v1, false, "tenant")
    );
    assert_eq!(
        (miss.source.as_str(), miss.content_type.as_str()),
        ("dynamodb", "application/json")
    );
    assert!(miss.last_modified.is_some());
    assert_eq!(
        (
            miss.age_ms,
            miss.served_by.as_str(),
            miss.staleness_bound_ms
        ),
        (0, "", 0),
        "only when asked for"
    );
    let fresh = GetConfigRequest {
        freshness: true,
        ..get("tenant_config_a")
    };
    let hit = client.get_config(fresh).await?.into_inner();
    assert_eq!((hit.cached, hit.staleness_bound_ms), (true, 300_000));
    // A process has the name that it is given; a container its own.
    assert!(!hit.served_by.is_empty() && !hit.served_by.starts_with("0.0.0.0"));

    let expect = |expected_version| PutConfigRequest {
        expected_version: Some(expected_version),
        ..put("tenant_config_a", "2")
    };
    assert_eq!(
        client.put_config(expect(0)).await.unwrap_err().code(),
        Code::Aborted
    );
    assert_eq!(
        client.put_config(expect(v1 - 1)).await.unwrap_err().code(),
        Code::Aborted
    );
    assert_eq!(
        client.put_config(expect(-1)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let v2 = client.put_config(expect(v1)).await?.into_inner().version;
    assert!(v2 > v1);
    let wanted = GetConfigRequest {
        min_version: v2,
        ..get("tenant_config_a")
    };
    let mut other = grpc_client(&stack.grpc[1], &user.token).await?;
    assert_eq!(
        other.get_config(wanted.clone()).await?.into_inner().value,
        "2",
        "its own write, on another replica"
    );
    let future = GetConfigRequest {
        min_version: v2 + 1_000_000,
        ..wanted
    };
    assert_eq!(
        other.get_config(future).await.unwrap_err().code(),
        Code::FailedPrecondition
    );

    for (request, code) in [
        (put("other_config_x", "1"), Code::InvalidArgument),
        (put("tenant_config_", "1"), Code::InvalidArgument),
        (put("tenant_config_a", "{half"), Code::InvalidArgument),
        (
            PutConfigRequest {
                content_type: "nonsense".to_owned(),
                ..put("tenant_config_a", "1")
            },
            Code::InvalidArgument,
        ),
        (
            put(
                "tenant_config_a",
                &format!("\"{}\"", "x".repeat(256 * 1024)),
            ),
            Code::InvalidArgument,
        ),
        (put("param_config_tax/rate", "1"), Code::FailedPrecondition),
    ] {
        let status = client.put_config(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{}", status.message());
    }
    let how = client
        .put_config(put("param_config_tax/rate", "1"))
        .await
        .unwrap_err();
    assert!(
        how.message().contains("aws ssm put-parameter"),
        "{}",
        how.message()
    );
    let unknown = client.get_config(get("other_config_x")).await.unwrap_err();
    assert!(
        unknown.message().contains("tenant_config_, param_config_"),
        "{}",
        unknown.message()
    );
    let mut read_only = grpc_client(&stack.grpc[0], &reader.token).await?;
    assert_eq!(
        read_only
            .put_config(put("tenant_config_a", "3"))
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    assert_eq!(
        read_only
            .get_config(get("tenant_config_a"))
            .await?
            .into_inner()
            .value,
        "2",
        "nothing was lost"
    );

    let keys = [
        "tenant_config_a",
        "tenant_config_none",
        "param_config_tax/rate",
        "nonsense",
    ]
    .map(ToOwned::to_owned)
    .into();
    let batch = client
        .batch_get_config(BatchGetConfigRequest {
            keys,
            freshness: false,
        })
        .await?
        .into_inner();
    assert_eq!(
        batch
            .entries
            .iter()
            .map(|e| e.key.as_str())
            .collect::<Vec<_>>(),
        ["tenant_config_a", "param_config_tax/rate"]
    );
    assert_eq!(batch.entries[1].origin, "global");
    assert_eq!(
        (batch.missing.as_slice(), batch.errors[0].code),
        (
            &["tenant_config_none".to_owned()][..],
            Code::InvalidArgument as i32
        )
    );
    let too_many = BatchGetConfigRequest {
        keys: (0..101).map(|n| format!("tenant_config_{n}")).collect(),
        freshness: false,
    };
    assert_eq!(
        client.batch_get_config(too_many).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    for name in ["b", "c"] {
        client
            .put_config(put(&format!("tenant_config_{name}"), "1"))
            .await?;
    }
    let list = |page_token: String| ListConfigRequest {
        prefix: "tenant_config_".to_owned(),
        page_size: 2,
        page_token,
        as_of: None,
    };
    let first = client.list_config(list(String::new())).await?.into_inner();
    // The other replica continues: page tokens hold for all of them.
    let second = other
        .list_config(list(first.next_page_token))
        .await?
        .into_inner();
    let keys = first
        .entries
        .iter()
        .chain(&second.entries)
        .map(|e| e.key.as_str())
        .collect::<Vec<_>>();
    assert_eq!(
        keys,
        ["tenant_config_a", "tenant_config_b", "tenant_config_c"]
    );
    let parameters = ListConfigRequest {
        prefix: "param_config_".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        client.list_config(parameters).await.unwrap_err().code(),
        Code::Unimplemented
    );

    let delete = |expected_version| DeleteConfigRequest {
        key: "tenant_config_a".to_owned(),
        expected_version,
        ..Default::default()
    };
    assert_eq!(
        client
            .delete_config(delete(Some(v1)))
            .await
            .unwrap_err()
            .code(),
        Code::Aborted
    );
    let v3 = client
        .delete_config(delete(Some(v2)))
        .await?
        .into_inner()
        .version;
    assert!(v3 > v2);
    assert_eq!(
        client
            .get_config(get("tenant_config_a"))
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    assert_eq!(
        client.delete_config(delete(None)).await.unwrap_err().code(),
        Code::NotFound
    );
    assert!(
        client
            .put_config(put("tenant_config_a", "1"))
            .await?
            .into_inner()
            .version
            > v3
    );
    Ok(())
}

#[tokio::test]
async fn an_item_of_version_0_is_replaced_by_its_etag_over_both_transports() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let mut client = grpc_client(&stack.grpc[0], &user.token).await?;
    stack.put_item(&user.tenant, "by_hand", "1").await?;
    let fresh = GetConfigRequest {
        freshness: true,
        ..get("tenant_config_by_hand")
    };
    let got = client.get_config(fresh).await?.into_inner();
    assert_eq!(got.version, 0);
    let absent = PutConfigRequest {
        expected_version: Some(0),
        ..put("tenant_config_by_hand", "2")
    };
    let refused = client.put_config(absent).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    assert!(refused.message().contains("expected_etag"), "{refused}");
    let url = format!("http://{}/v1/config/tenant_config_by_hand", stack.http[0]);
    let rest = stack.web.get(url).bearer_auth(&user.token).send().await?;
    assert_eq!(rest.headers()["etag"].to_str()?, got.etag, "one tag");
    let as_read = PutConfigRequest {
        expected_etag: Some(got.etag),
        ..put("tenant_config_by_hand", "2")
    };
    let written = client.put_config(as_read.clone()).await?.into_inner();
    assert!(written.version > 0);
    let again = client.put_config(as_read).await.unwrap_err();
    assert_eq!(again.code(), Code::Aborted, "it has changed since");
    Ok(())
}

#[tokio::test]
async fn secrets_are_for_admins() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let admin = stack.user_of(&writer.tenant, "admin").await?;
    let path = format!("tenants/{}/api-key", writer.tenant);
    stack.put_parameter(&path, "s3cret-one", true).await?;
    let mut as_writer = grpc_client(&stack.grpc[0], &writer.token).await?;
    let mut as_admin = grpc_client(&stack.grpc[0], &admin.token).await?;
    assert_eq!(
        as_writer
            .get_config(get("param_config_api-key"))
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    let got = as_admin
        .get_config(get("param_config_api-key"))
        .await?
        .into_inner();
    assert_eq!((got.value.as_str(), got.cached), ("s3cret-one", false));
    stack.put_parameter(&path, "s3cret-two", true).await?;
    assert_eq!(
        as_admin
            .get_config(get("param_config_api-key"))
            .await?
            .into_inner()
            .value,
        "s3cret-two"
    );
    assert_eq!(
        as_writer
            .get_config(get("param_config_api-key"))
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    Ok(())
}

#[tokio::test]
async fn rest_reads_writes_and_errors() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let url = |path: &str| format!("http://{}{path}", stack.http[0]);
    let key = url("/v1/config/tenant_config_deep/er/key");
    let json = "application/json";

    let created = stack
        .web
        .put(&key)
        .bearer_auth(&user.token)
        .header("if-none-match", "*")
        .body("{\"a\": 1}")
        .send()
        .await?;
    assert_eq!(created.status().as_u16(), 201);
    assert!(!created.headers().contains_key("etag"));
    let created: Value = created.json().await?;
    let tag = created["etag"].as_str().unwrap_or_default().to_owned();
    let again = stack
        .web
        .put(&key)
        .bearer_auth(&user.token)
        .header("if-none-match", "*")
        .body("2")
        .send()
        .await?;
    assert_eq!(again.status().as_u16(), 412);

    let got = stack.web.get(&key).bearer_auth(&user.token).send().await?;
    assert_eq!(
        got.headers()["etag"].to_str()?,
        tag,
        "what put gave is what get gives"
    );
    let encoded = key.replace("deep/er/key", "deep%2Fer%2Fkey");
    let got = stack
        .web
        .get(encoded)
        .bearer_auth(&user.token)
        .send()
        .await?;
    assert_eq!(got.headers()["etag"].to_str()?, tag);
    for header in [
        "age",
        "x-config-cache",
        "x-config-served-by",
        "x-config-staleness-bound-ms",
        "x-request-id",
    ] {
        assert!(got.headers().contains_key(header), "{header}");
    }
    let body: Value = got.json().await?;
    for field in [
        "key",
        "value",
        "contentType",
        "version",
        "source",
        "origin",
        "cached",
        "stale",
        "ageMs",
        "servedBy",
        "stalenessBoundMs",
        "lastModified",
    ] {
        assert!(!body[field].is_null(), "{field}");
    }
    assert_eq!(body["value"], "{\"a\": 1}");
    let same = stack
        .web
        .get(&key)
        .bearer_auth(&user.token)
        .header("if-none-match", &tag)
        .send()
        .await?;
    assert_eq!(same.status().as_u16(), 304);

    let put = |tag: &str, body: &'static str| {
        stack
            .web
            .put(&key)
            .bearer_auth(&user.token)
            .header("if-match", tag.to_owned())
            .header("content-type", json)
            .body(body)
    };
    let second = put(&tag, "{\"a\": 2}").send().await?;
    assert_eq!(second.status().as_u16(), 200);
    assert_eq!(
        put(&tag, "3").send().await?.status().as_u16(),
        412,
        "somebody was faster"
    );
    assert_eq!(put("nonsense", "3").send().await?.status().as_u16(), 400);
    for unmatched in ["\"foreign\"", &format!("W/{tag}")] {
        assert_eq!(put(unmatched, "3").send().await?.status().as_u16(), 412);
    }
    // A hand edit that keeps the version is noticed all the same.
    let second: Value = second.json().await?;
    let tag = second["etag"].as_str().unwrap_or_default().to_owned();
    stack
        .put_item(&user.tenant, "deep/er/key", "\"by hand\"")
        .await?;
    assert_eq!(put(&tag, "4").send().await?.status().as_u16(), 412);
    let got = stack.web.get(&key).bearer_auth(&user.token).send().await?;
    let tag = got.headers()["etag"].to_str()?.to_owned();
    let listed = format!("\"foreign\", {tag}");
    assert_eq!(put(&listed, "4").send().await?.status().as_u16(), 200);
    assert_eq!(put("*", "5").send().await?.status().as_u16(), 200);

    let large = format!("\"{}\"", "x".repeat(256 * 1024 - 2));
    let fits = stack
        .web
        .put(url("/v1/config/tenant_config_large"))
        .bearer_auth(&user.token)
        .body(large.clone())
        .send()
        .await?;
    assert_eq!(fits.status().as_u16(), 201, "256 KiB");
    let (status, body) = stack
        .get(&user, &url(""), "/v1/config/tenant_config_large")
        .await?;
    assert_eq!(
        (status, body["value"].as_str()),
        (200, Some(large.as_str()))
    );
    let page = url("/v1/config/tenant_config_page");
    let html = stack
        .web
        .put(&page)
        .bearer_auth(&user.token)
        .header("content-type", "text/html")
        .body("<a href=x>")
        .send()
        .await?;
    assert_eq!(
        html.status().as_u16(),
        201,
        "other types are not looked into"
    );

    let half = stack.web.put(&key).bearer_auth(&user.token).body("{half");
    let half = half
        .header("content-type", "application/x-www-form-urlencoded")
        .send()
        .await?;
    assert_eq!(
        half.status().as_u16(),
        400,
        "what curl -d sends is taken for JSON"
    );
    for (method, path, body, status) in [
        ("GET", "/v1/config/tenant_config_none", "", 404),
        ("GET", "/v1/config/nonsense", "", 400),
        ("GET", "/v1/config/", "", 400),
        ("GET", "/v1/config", "", 400),
        ("GET", "/v1/config?prefix=tenant", "", 400),
        (
            "GET",
            "/v1/config?prefix=tenant_config_&page_size=0x",
            "",
            400,
        ),
        (
            "GET",
            "/v1/config?prefix=tenant_config_&page_size=101",
            "",
            400,
        ),
        (
            "GET",
            "/v1/config?prefix=tenant_config_&page_token=x",
            "",
            400,
        ),
        ("GET", "/v1/config?prefix=param_config_", "", 501),
        ("GET", "/v1/config/tenant_config_a%2Fb", "", 404),
        ("GET", "/v1/config/tenant_config_a%252Fb", "", 400),
        ("GET", "/v1/config/tenant_config_a%2F%2E%2E%2Fb", "", 400),
        ("GET", "/v1/config/tenant_config_%2E%2E/b", "", 400),
        ("GET", "/v1/config/tenant_config_a//b", "", 400),
        ("GET", "/v1/config/tenant_config_a?min_version=x", "", 400),
        ("PUT", "/v1/config/tenant_config_a", "{half", 400),
        ("PUT", "/v1/config/param_config_x", "1", 409),
        ("PUT", "/v1/config/other_config_x", "1", 400),
        ("DELETE", "/v1/config/tenant_config_none", "", 404),
        ("PATCH", "/v1/config/tenant_config_a", "", 405),
        ("POST", "/v1/config", "{}", 405),
        ("POST", "/v1/config:batchGet", "", 400),
        ("POST", "/v1/config:batchGet", "{\"keys\": 1}", 400),
        ("POST", "/v1/config:batchGet", "{\"keys\": [", 400),
        ("GET", "/v2/anything", "", 404),
    ] {
        let call = stack
            .web
            .request(method.parse()?, url(path))
            .bearer_auth(&user.token)
            .body(body);
        let answer = call.send().await?;
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        assert_eq!(
            answer.headers()["content-type"],
            "application/problem+json",
            "{method} {path}"
        );
        let problem: Value = answer.json().await?;
        assert_eq!(problem["status"], status, "{method} {path}");
    }
    let not_utf8 = stack
        .web
        .put(&key)
        .bearer_auth(&user.token)
        .header("content-type", "text/plain")
        .body(vec![0xff])
        .send()
        .await?;
    assert_eq!(not_utf8.status().as_u16(), 400);
    let too_large = stack
        .web
        .put(&key)
        .bearer_auth(&user.token)
        .body("x".repeat(256 * 1024 + 1))
        .send()
        .await?;
    assert_eq!(too_large.status().as_u16(), 413);

    let keys =
        json!({"keys": ["tenant_config_large", "tenant_config_none", "nonsense"]}).to_string();
    let batch = stack
        .web
        .post(url("/v1/config:batchGet"))
        .bearer_auth(&user.token)
        .body(keys)
        .send()
        .await?;
    let batch: Value = batch.json().await?;
    assert_eq!(
        (batch["entries"].as_array().map(Vec::len), &batch["missing"]),
        (Some(1), &json!(["tenant_config_none"]))
    );
    assert_eq!(batch["errors"][0]["key"], "nonsense");
    let openapi = stack
        .web
        .get(url("/openapi.yaml"))
        .send()
        .await?
        .text()
        .await?;
    assert!(openapi.starts_with("openapi: 3.1.0"));
    Ok(())
}

#[tokio::test]
async fn health_reflection_and_metrics() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let channel = Channel::from_shared(format!("http://{}", stack.grpc[0]))?
        .connect()
        .await?;
    for service in ["", "tagged.config.v1.ConfigService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        assert_eq!(
            HealthClient::new(channel.clone())
                .check(request)
                .await?
                .into_inner()
                .status,
            1
        );
    }
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream_of(list))
        .await?
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(services)) =
        answers.message().await?.and_then(|m| m.message_response)
    else {
        anyhow::bail!("no list of services");
    };
    assert!(
        services
            .service
            .iter()
            .any(|s| s.name == "tagged.config.v1.ConfigService")
    );
    assert!(
        !services.service.iter().any(|s| s.name.contains("Refresh")),
        "the internal service is not on the public port"
    );
    // Older tools speak the version before.
    let list = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let older = v1alpha::server_reflection_client::ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream_of(list))
        .await?;
    assert!(older.into_inner().message().await?.is_some());
    let anonymous = ConfigServiceClient::new(channel)
        .get_config(get("tenant_config_x"))
        .await
        .unwrap_err();
    assert_eq!(anonymous.code(), Code::Unauthenticated);

    // The propagation of a change is measured when the first one arrives.
    let user = stack.writer().await?;
    let mut client = grpc_client(&stack.grpc[0], &user.token).await?;
    client.put_config(put("tenant_config_a", "1")).await?;
    client.get_config(get("tenant_config_a")).await?;
    stack.put_item(&user.tenant, "a", "2").await?;
    let names = [
        "config_reads_total",
        "config_read_duration_seconds",
        "config_cache_bytes",
        "config_cache_entries",
        "config_propagation_seconds",
    ];
    let address = format!("http://{}/metrics", stack.http[0]);
    let mut missing = Vec::new();
    for _ in 0..100 {
        let metrics = stack.web.get(&address).send().await?.text().await?;
        missing = names.to_vec();
        missing.retain(|name| !metrics.contains(name));
        if missing.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("not among the metrics: {missing:?}")
}

fn tokio_stream_of<T: Send + 'static>(item: T) -> impl futures::Stream<Item = T> + Send + 'static {
    futures::stream::iter([item])
}

#[tokio::test]
async fn the_refresh_port_needs_its_credential_and_is_not_behind_the_balancer() -> anyhow::Result<()>
{
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let channel = Channel::from_shared(format!("http://{}", stack.refresh[0]))?
        .connect()
        .await?;
    let mut client = RefreshServiceClient::new(channel);
    assert_eq!(
        client
            .refresh(RefreshRequest::default())
            .await
            .unwrap_err()
            .code(),
        Code::Unauthenticated
    );
    for (name, value) in [
        ("x-refresh-credential", "wrong".to_owned()),
        ("x-refresh-credential", "x".repeat(48)),
        ("authorization", format!("Bearer {}", user.token)),
    ] {
        let mut request = Request::new(RefreshRequest::default());
        request.metadata_mut().insert(name, value.parse()?);
        assert_eq!(
            client.refresh(request).await.unwrap_err().code(),
            Code::Unauthenticated
        );
    }
    let path = "/tagged.config.v1.RefreshService/Refresh";
    for base in [&stack.alb_url, &stack.api_url] {
        let answer = stack
            .web
            .post(format!("{base}{path}"))
            .bearer_auth(&user.token)
            .body("")
            .send()
            .await?;
        assert_eq!(answer.status().as_u16(), 404, "{base}");
    }
    for address in [&stack.http[0], &stack.grpc[0]] {
        let channel = Channel::from_shared(format!("http://{address}"))?
            .connect()
            .await;
        let Ok(channel) = channel else { continue };
        let status = RefreshServiceClient::new(channel)
            .refresh(RefreshRequest::default())
            .await
            .unwrap_err();
        assert_ne!(status.code(), Code::Ok, "{address}");
        assert_ne!(
            status.code(),
            Code::Unauthenticated,
            "{address} knows the refresh service"
        );
    }
    Ok(())
}

//! No request can name a tenant: tried in the key, query, headers, metadata, body and path.

use e2e::{Stack, grpc_client};
use serde_json::json;
use tagged_config_proto::v1::{
    BatchGetConfigRequest, GetConfigRequest, ListConfigRequest, PutConfigRequest,
};
use tonic::{Code, Request};

const HEADERS: [&str; 6] = [
    "x-tenant-id",
    "tenantid",
    "tenant-id",
    "x-amzn-oidc-identity",
    "custom-tenantid",
    "x-forwarded-tenant",
];

#[tokio::test]
async fn rest() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let (a, b) = (stack.writer().await?, stack.writer().await?);
    stack.put_item(&a.tenant, "secretPlan", "\"of a\"").await?;
    stack.put_item(&a.tenant, "both", "\"of a\"").await?;
    stack.put_item(&b.tenant, "both", "\"of b\"").await?;
    let t = &a.tenant;
    let (plan, key) = (
        format!("tenants/{t}/secretPlan"),
        format!("tenants/{t}/secretKey"),
    );
    stack.put_object(&plan, "\"of a\"").await?;
    stack.put_secret(&key, "of a").await?;
    // The most that a tenant can be.
    let b_admin = stack.user_of(&b.tenant, "admin").await?;
    for base in [stack.api_url.clone(), format!("http://{}", stack.http[0])] {
        for path in [
            "/v1/config/tenant_config_secretPlan".to_owned(),
            format!(
                "/v1/config/tenant_config_secretPlan?tenantId={t}&tenant={t}&x-tenant-id={t}&custom:tenantId={t}"
            ),
            format!("/v1/config/tenant_config_{t}/secretPlan"),
            format!("/v1/config/tenant_config_{t}_secretPlan"),
            format!("/v1/config/param_config_tenants/{t}/secretPlan"),
            "/v1/config/blob_config_secretPlan".to_owned(),
            "/v1/config/blob_config_secretPlan:raw".to_owned(),
            format!("/v1/config/blob_config_{t}/secretPlan:raw"),
            format!("/v1/config/blob_config_tenants/{t}/secretPlan"),
            "/v1/config/secret_config_secretKey".to_owned(),
            format!("/v1/config/secret_config_{t}/secretKey"),
            format!("/v1/config/secret_config_tenants/{t}/secretKey"),
        ] {
            let caller = if path.contains("secret_config_") {
                &b_admin
            } else {
                &b
            };
            let mut call = stack
                .web
                .get(format!("{base}{path}"))
                .bearer_auth(&caller.token);
            for header in HEADERS {
                call = call.header(header, t);
            }
            assert_eq!(call.send().await?.status().as_u16(), 404, "{path}");
        }
        for path in [
            format!("/v1/config/{t}/tenant_config_secretPlan"),
            format!("/v1/config/TENANT%23{t}"),
            format!("/v1/tenants/{t}/config/tenant_config_secretPlan"),
            format!("/v1/config/tenant_config_x%2F..%2F..%2F{t}%2FsecretPlan"),
            format!("/v1/config/blob_config_x%2F..%2F..%2F{t}%2FsecretPlan:raw"),
            format!("/v1/config/secret_config_..%2F{t}%2FsecretKey"),
        ] {
            let (status, body) = stack.get(&b, &base, &path).await?;
            assert!(matches!(status, 400 | 404), "{path}: {status} {body}");
        }
        let mut call = stack
            .web
            .get(format!("{base}/v1/config/tenant_config_both?tenantId={t}"))
            .bearer_auth(&b.token);
        for header in HEADERS {
            call = call.header(header, t);
        }
        let body: serde_json::Value = call.send().await?.json().await?;
        assert_eq!(
            body["value"], "\"of b\"",
            "its own, whatever the request says"
        );

        let (_, page) = stack
            .get(
                &b,
                &base,
                &format!("/v1/config?prefix=tenant_config_&tenantId={t}"),
            )
            .await?;
        assert!(
            !page.to_string().contains("of a")
                && page["entries"].as_array().is_some_and(|e| e.len() == 1),
            "{page}"
        );
        let batch = json!({"keys": ["tenant_config_secretPlan"], "tenantId": t});
        let call = stack
            .web
            .post(format!("{base}/v1/config:batchGet"))
            .bearer_auth(&b.token)
            .body(batch.to_string());
        assert_eq!(
            call.send().await?.status().as_u16(),
            400,
            "an unknown field is refused"
        );
    }
    let (_, page) = stack
        .get(&b, &stack.api_url, "/v1/config?prefix=blob_config_")
        .await?;
    assert_eq!(page["entries"].as_array().map(Vec::len), Some(0), "{page}");
    stack.delete_object(&plan).await?;
    stack.delete_secret(&key).await?;
    // A write with every hint at tenant A lands in tenant B.
    let mut call = stack.web.put(format!(
        "http://{}/v1/config/tenant_config_both?tenantId={t}",
        stack.http[0]
    ));
    for header in HEADERS {
        call = call.header(header, t);
    }
    let body = json!({"tenantId": t}).to_string();
    let call = call
        .bearer_auth(&b.token)
        .header("content-type", "application/json")
        .body(body);
    assert_eq!(call.send().await?.status().as_u16(), 200);
    assert_eq!(
        stack
            .value_at(&a, &stack.http[1], "tenant_config_both")
            .await?
            .as_deref(),
        Some("\"of a\"")
    );
    Ok(())
}

#[tokio::test]
async fn grpc() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let (a, b) = (stack.writer().await?, stack.writer().await?);
    stack.put_item(&a.tenant, "both", "\"of a\"").await?;
    stack.put_item(&b.tenant, "both", "\"of b\"").await?;
    let mut client = grpc_client(&stack.grpc[0], &b.token).await?;
    let mut request = Request::new(GetConfigRequest {
        key: "tenant_config_both".to_owned(),
        ..Default::default()
    });
    for header in HEADERS {
        request.metadata_mut().insert(header, a.tenant.parse()?);
    }
    assert_eq!(
        client.get_config(request).await?.into_inner().value,
        "\"of b\""
    );
    let keys = vec![
        format!("tenant_config_{}/both", a.tenant),
        "tenant_config_both".to_owned(),
    ];
    let batch = client
        .batch_get_config(BatchGetConfigRequest {
            keys,
            freshness: true,
        })
        .await?
        .into_inner();
    assert_eq!((batch.entries.len(), batch.missing.len()), (1, 1));
    assert_eq!(batch.entries[0].value, "\"of b\"");
    let list = |prefix: String| ListConfigRequest {
        prefix,
        ..Default::default()
    };
    let page = client
        .list_config(list("tenant_config_".to_owned()))
        .await?
        .into_inner();
    assert!(page.entries.iter().all(|entry| entry.value != "\"of a\""));
    let elsewhere = client
        .list_config(list(format!("TENANT#{}", a.tenant)))
        .await
        .unwrap_err();
    assert_eq!(elsewhere.code(), Code::InvalidArgument);
    let key = format!("tenant_config_../{}/both", a.tenant);
    let put = PutConfigRequest {
        key,
        value: "1".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        client.put_config(put).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    // Two tokens in one call: it is not left open which of them counts.
    let mut request = Request::new(GetConfigRequest {
        key: "tenant_config_both".to_owned(),
        ..Default::default()
    });
    request
        .metadata_mut()
        .append("authorization", format!("Bearer {}", a.token).parse()?);
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", stack.grpc[0]))?
        .connect()
        .await?;
    let mut plain =
        tagged_config_proto::v1::config_service_client::ConfigServiceClient::new(channel);
    request
        .metadata_mut()
        .append("authorization", format!("Bearer {}", b.token).parse()?);
    assert_eq!(
        plain.get_config(request).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    Ok(())
}

//! What a service logs when it is told to log everything.

use std::fs::{self, File};

use e2e::{JwksServer, Stack, Standalone, grpc_client, role_credentials};
use tagged_config_proto::v1::{BatchGetConfigRequest, GetConfigRequest, PutConfigRequest};
use tagged_config_testkit::Issuer;
use uuid::Uuid;

const CREDENTIAL: &str = "a-credential-for-tests-only";

#[tokio::test]
async fn no_value_secret_token_or_credential_is_logged_at_trace() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let issuer = Issuer::new();
    let jwks = JwksServer::start(issuer.jwks()).await?;
    let role = role_credentials("config-service").await?;
    let mut settings = vec![
        ("AWS_ENDPOINT_URL", stack.emulator.as_str()),
        ("TAGGED_CONFIG_TABLE", stack.table.as_str()),
        (
            "TAGGED_CONFIG_PARAMETER_ROOT",
            stack.parameter_root.as_str(),
        ),
        ("TAGGED_CONFIG_BLOB_BUCKET", stack.bucket.as_str()),
        ("TAGGED_CONFIG_SECRET_ROOT", stack.secret_root.as_str()),
        ("RUST_LOG", "trace,h2=trace"),
    ];
    settings.extend(role.iter().map(|(name, value)| (&**name, &**value)));
    let path = std::env::temp_dir().join(format!("{}.log", Uuid::new_v4()));
    let service = Standalone::start_logging(&jwks.url, &settings, File::create(&path)?).await?;

    let tenant = format!("e2e-{}", Uuid::new_v4().simple());
    let secret = format!("tenants/{tenant}/s1");
    let (writer, admin) = (
        issuer.token(&tenant, "writer"),
        issuer.token(&tenant, "admin"),
    );
    stack.put_parameter(&secret, "MARK-8842", true).await?;
    let mut client = grpc_client(&service.grpc, &writer).await?;
    let put = PutConfigRequest {
        key: "tenant_config_marked".to_owned(),
        value: r#"{"x":"MARK-7731"}"#.to_owned(),
        ..Default::default()
    };
    client.put_config(put).await?;
    stack.put_item(&tenant, "by-hand", "\"MARK-1\"").await?;
    let keys = ["tenant_config_marked", "tenant_config_by-hand"].map(ToOwned::to_owned);
    let batch = BatchGetConfigRequest {
        keys: keys.into(),
        ..Default::default()
    };
    assert_eq!(
        client
            .batch_get_config(batch)
            .await?
            .into_inner()
            .entries
            .len(),
        2
    );
    let get = GetConfigRequest {
        key: "param_config_s1".to_owned(),
        ..Default::default()
    };
    let mut as_admin = grpc_client(&service.grpc, &admin).await?;
    let revealed = as_admin.get_config(get).await?.into_inner().value;
    assert_eq!(revealed, "MARK-8842");
    stack.delete_parameter(&secret).await?;
    stack.put_secret(&secret, "MARK-9953").await?;
    let get = |key: &str| GetConfigRequest {
        key: key.to_owned(),
        ..Default::default()
    };
    let revealed = as_admin.get_config(get("secret_config_s1")).await?;
    assert_eq!(revealed.into_inner().value, "MARK-9953");
    stack.delete_secret(&secret).await?;
    let put = PutConfigRequest {
        key: "blob_config_marked".to_owned(),
        data: "MARK-5512".into(),
        content_type: "text/plain".to_owned(),
        ..Default::default()
    };
    client.put_config(put).await?;
    let blob = client.get_config(get("blob_config_marked")).await?;
    assert_eq!(blob.into_inner().data, "MARK-5512");
    for key in ["marked", "by-hand"] {
        stack.delete_item(&tenant, key).await?;
    }
    assert_eq!(service.terminate().await?, Some(0));

    let log = fs::read_to_string(&path)?;
    fs::remove_file(&path)?;
    assert!(
        log.contains("\"level\":\"INFO\""),
        "it logs something: {log}"
    );
    for forbidden in ["MARK-", "eyJ", CREDENTIAL, writer.as_str(), admin.as_str()] {
        let line = log.lines().find(|line| line.contains(forbidden));
        assert_eq!(line, None, "{forbidden:?} is in the log");
    }
    Ok(())
}

//! The stack that `make test` started, from the variables that `make -s local-env` prints.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_secretsmanager::operation::put_secret_value::PutSecretValueError;
use serde_json::{Value, json};
use tagged_config_proto::v1::config_service_client::ConfigServiceClient;
use tagged_config_runtime::env::{Env, ProcessEnv};
use tonic::{
    Request,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use uuid::Uuid;

/// A running stack.
pub struct Stack {
    /// The edge.
    pub api_url: String,
    /// The load balancer behind it.
    pub alb_url: String,
    /// order-service.
    pub order_url: String,
    /// gRPC addresses of the replicas.
    pub grpc: Vec<String>,
    /// HTTP addresses of the replicas.
    pub http: Vec<String>,
    /// Refresh addresses of the replicas.
    pub refresh: Vec<String>,
    /// The table.
    pub table: String,
    /// The path of all configuration in Parameter Store.
    pub parameter_root: String,
    /// The bucket of the blobs.
    pub bucket: String,
    /// What the names of all secrets begin with.
    pub secret_root: String,
    /// The emulator.
    pub emulator: String,
    /// For REST.
    pub web: reqwest::Client,
    /// For the AWS SDKs.
    pub sdk: SdkConfig,
    pool: String,
    client_id: String,
}

/// A user with a tenant, signed in.
#[derive(Clone)]
pub struct User {
    /// The tenant's id.
    pub tenant: String,
    /// The ID token.
    pub token: String,
    /// The access token, which must not open anything.
    pub access_token: String,
}

impl Stack {
    /// The stack of this test run.
    pub async fn connect() -> anyhow::Result<Self> {
        let sdk = tagged_config_stores::aws::sdk_config().await;
        Self::of(|name| ProcessEnv.get(name), sdk)
    }

    /// The stack that these variables name.
    pub fn of(variable: impl Fn(&str) -> Option<String>, sdk: SdkConfig) -> anyhow::Result<Self> {
        let get = |name: &str| {
            let hint = || {
                format!(
                    "{name} is not set: run `make test`, or `eval \"$(make -s local-env)\"` after `make local`"
                )
            };
            variable(name).with_context(hint)
        };
        let list = |name: &str| {
            get(name).map(|value| value.split(',').map(ToOwned::to_owned).collect::<Vec<_>>())
        };
        Ok(Self {
            api_url: get("API_URL")?,
            alb_url: get("ALB_URL")?,
            order_url: get("ORDER_URL")?,
            grpc: list("CONFIG_GRPC")?,
            http: list("CONFIG_HTTP")?,
            refresh: list("CONFIG_REFRESH")?,
            table: get("TABLE_NAME")?,
            parameter_root: get("PARAMETER_ROOT")?,
            bucket: get("BLOB_BUCKET")?,
            secret_root: get("SECRET_ROOT")?,
            emulator: get("EMULATOR_URL")?,
            pool: get("USER_POOL_ID")?,
            client_id: get("CLIENT_ID")?,
            web: reqwest::Client::builder()
                .timeout(Duration::from_secs(20))
                .build()?,
            sdk,
        })
    }

    /// One of the seeded users, by the variable that names it.
    pub async fn seeded(&self, variable: &str, tenant: &str) -> anyhow::Result<User> {
        let name = ProcessEnv
            .get(variable)
            .with_context(|| format!("{variable} is not set"))?;
        let password = ProcessEnv
            .get("DEMO_PASSWORD")
            .context("DEMO_PASSWORD is not set")?;
        self.sign_in(&name, &password, tenant).await
    }

    /// A new user of this tenant, signed in.
    pub async fn user_of(&self, tenant: &str, role: &str) -> anyhow::Result<User> {
        let name = format!("{}@example.com", Uuid::new_v4().simple());
        let password = format!("Pw-{}-9z", Uuid::new_v4().simple());
        let attributes = json!([
            {"Name": "email", "Value": name}, {"Name": "custom:tenantId", "Value": tenant},
            {"Name": "custom:userRole", "Value": role},
        ]);
        let create = json!({"UserPoolId": self.pool, "Username": name, "UserAttributes": attributes,
            "MessageAction": "SUPPRESS", "TemporaryPassword": password});
        self.cognito("AdminCreateUser", &create).await?;
        let permanent = json!({"UserPoolId": self.pool, "Username": name, "Password": password, "Permanent": true});
        self.cognito("AdminSetUserPassword", &permanent).await?;
        self.sign_in(&name, &password, tenant).await
    }

    /// A new writer of a new tenant.
    pub async fn writer(&self) -> anyhow::Result<User> {
        self.user_of(
            &format!("e2e-{}", &Uuid::new_v4().simple().to_string()[..12]),
            "writer",
        )
        .await
    }

    /// A user who is there, signed in.
    pub async fn sign_in(&self, name: &str, password: &str, tenant: &str) -> anyhow::Result<User> {
        let request = json!({"AuthFlow": "USER_PASSWORD_AUTH", "ClientId": self.client_id,
            "AuthParameters": {"USERNAME": name, "PASSWORD": password}});
        let answer = self.cognito("InitiateAuth", &request).await?;
        let text = |name: &str| {
            let value = answer
                .pointer(&format!("/AuthenticationResult/{name}"))
                .and_then(Value::as_str);
            value
                .map(ToOwned::to_owned)
                .with_context(|| format!("no {name} from Cognito"))
        };
        Ok(User {
            tenant: tenant.to_owned(),
            token: text("IdToken")?,
            access_token: text("AccessToken")?,
        })
    }

    async fn cognito(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        let target = format!("AWSCognitoIdentityProviderService.{operation}");
        self.aws("cognito-idp", &target, body).await
    }

    /// A call of an AWS API that speaks JSON and has no SDK here.
    pub async fn aws(&self, service: &str, target: &str, body: &Value) -> anyhow::Result<Value> {
        // The emulator routes by the scope and checks no signature.
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let mut attempts = 3;
        loop {
            let call = self
                .web
                .post(&self.emulator)
                .header("content-type", "application/x-amz-json-1.1")
                .header("x-amz-target", target)
                .header("authorization", &scope)
                .body(body.to_string());
            let answer = call.send().await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer.json().await?);
            }
            attempts -= 1;
            // The emulator's Cognito may trip over another test's user; an SDK would try again, too.
            if !status.is_server_error() || attempts == 0 {
                bail!("{target}: {status} {}", answer.text().await?);
            }
        }
    }

    /// Writes an item as an operator does, without version, by DynamoDB's own API.
    pub async fn put_item(&self, tenant: &str, name: &str, value: &str) -> anyhow::Result<()> {
        aws_sdk_dynamodb::Client::new(&self.sdk)
            .put_item()
            .table_name(&self.table)
            .item("PK", AttributeValue::S(format!("TENANT#{tenant}")))
            .item("SK", AttributeValue::S(format!("CONFIG#{name}")))
            .item("configValue", AttributeValue::S(value.to_owned()))
            .send()
            .await?;
        Ok(())
    }

    /// Deletes an item by DynamoDB's own API.
    pub async fn delete_item(&self, tenant: &str, name: &str) -> anyhow::Result<()> {
        aws_sdk_dynamodb::Client::new(&self.sdk)
            .delete_item()
            .table_name(&self.table)
            .key("PK", AttributeValue::S(format!("TENANT#{tenant}")))
            .key("SK", AttributeValue::S(format!("CONFIG#{name}")))
            .send()
            .await?;
        Ok(())
    }

    /// Writes a parameter below the root, by Parameter Store's own API.
    pub async fn put_parameter(
        &self,
        below_root: &str,
        value: &str,
        secret: bool,
    ) -> anyhow::Result<()> {
        use aws_sdk_ssm::types::ParameterType::{SecureString, String as Plain};
        aws_sdk_ssm::Client::new(&self.sdk)
            .put_parameter()
            .name(format!("{}/{below_root}", self.parameter_root))
            .value(value)
            .r#type(if secret { SecureString } else { Plain })
            .overwrite(true)
            .send()
            .await?;
        Ok(())
    }

    /// Writes an object of the blobs' bucket, as an operator does.
    pub async fn put_object(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.put_object_bytes(key, value.as_bytes().to_vec()).await
    }

    /// The same, with any bytes.
    pub async fn put_object_bytes(&self, key: &str, value: Vec<u8>) -> anyhow::Result<()> {
        aws_sdk_s3::Client::new(&self.sdk)
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .body(value.into())
            .send()
            .await?;
        Ok(())
    }

    /// Deletes an object of the blobs' bucket.
    pub async fn delete_object(&self, key: &str) -> anyhow::Result<()> {
        aws_sdk_s3::Client::new(&self.sdk)
            .delete_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await?;
        Ok(())
    }

    /// Gives a secret below the root a new current value, and makes it if there is none, as an operator does.
    pub async fn put_secret(&self, below_root: &str, value: &str) -> anyhow::Result<()> {
        let client = aws_sdk_secretsmanager::Client::new(&self.sdk);
        let name = format!("{}/{below_root}", self.secret_root);
        let put = client
            .put_secret_value()
            .secret_id(&name)
            .secret_string(value)
            .send();
        match put.await {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(PutSecretValueError::is_resource_not_found_exception) =>
            {
                client
                    .create_secret()
                    .name(name)
                    .secret_string(value)
                    .send()
                    .await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a secret below the root at once.
    pub async fn delete_secret(&self, below_root: &str) -> anyhow::Result<()> {
        aws_sdk_secretsmanager::Client::new(&self.sdk)
            .delete_secret()
            .secret_id(format!("{}/{below_root}", self.secret_root))
            .force_delete_without_recovery(true)
            .send()
            .await?;
        Ok(())
    }

    /// The parameters whose names begin so, below the root.
    pub async fn parameters_below(&self, beginning: &str) -> anyhow::Result<Vec<String>> {
        let filter = aws_sdk_ssm::types::ParameterStringFilter::builder()
            .key("Name")
            .option("BeginsWith")
            .values(format!("{}/{beginning}", self.parameter_root))
            .build()?;
        let answer = aws_sdk_ssm::Client::new(&self.sdk)
            .describe_parameters()
            .parameter_filters(filter)
            .send()
            .await?;
        let names = answer.parameters().iter().filter_map(|one| one.name());
        Ok(names.map(ToOwned::to_owned).collect())
    }

    /// Deletes a parameter below the root.
    pub async fn delete_parameter(&self, below_root: &str) -> anyhow::Result<()> {
        let name = format!("{}/{below_root}", self.parameter_root);
        aws_sdk_ssm::Client::new(&self.sdk)
            .delete_parameter()
            .name(name)
            .send()
            .await?;
        Ok(())
    }

    /// GET at any base URL; status and JSON body.
    pub async fn get(&self, user: &User, base: &str, path: &str) -> anyhow::Result<(u16, Value)> {
        let answer = self
            .web
            .get(format!("{base}{path}"))
            .bearer_auth(&user.token)
            .send()
            .await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        ))
    }

    /// The value of a key at one replica's REST facade, `None` if it is not there.
    pub async fn value_at(
        &self,
        user: &User,
        replica: &str,
        key: &str,
    ) -> anyhow::Result<Option<String>> {
        let (status, body) = self
            .get(
                user,
                &format!("http://{replica}"),
                &format!("/v1/config/{key}"),
            )
            .await?;
        match status {
            200 => Ok(body["value"].as_str().map(ToOwned::to_owned)),
            404 => Ok(None),
            _ => bail!("{replica}: {status} {body}"),
        }
    }

    /// Waits until every replica shows this value.
    pub async fn wait_for(
        &self,
        user: &User,
        key: &str,
        value: Option<&str>,
    ) -> anyhow::Result<()> {
        for replica in &self.http {
            poll_until(&format!("{key} on {replica}"), async || {
                Ok(self.value_at(user, replica, key).await?.as_deref() == value)
            })
            .await?;
        }
        Ok(())
    }
}

/// Polls until it is true, for 30 s at most: visibility, not speed, is what these tests assert.
pub async fn poll_until<F: Future<Output = anyhow::Result<bool>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let started = Instant::now();
    while !condition().await? {
        if started.elapsed() > Duration::from_secs(30) {
            bail!("not within 30 s: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Adds the token to each call.
#[derive(Clone)]
pub struct WithToken(tonic::metadata::MetadataValue<tonic::metadata::Ascii>);

impl Interceptor for WithToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A call of the REST facade, with a note for the history: the answer's status, and its body, as text if it is no JSON.
pub async fn call(
    stack: &Stack,
    user: &User,
    method: reqwest::Method,
    url: &str,
    note: &str,
    body: Option<&str>,
) -> anyhow::Result<(u16, Value)> {
    let mut request = stack
        .web
        .request(method, url)
        .bearer_auth(&user.token)
        .header("x-change-note", note);
    if let Some(body) = body {
        request = request.body(body.to_owned());
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(json!(text))))
}

/// A plain client of one replica.
pub async fn grpc_client(
    address: &str,
    token: &str,
) -> anyhow::Result<ConfigServiceClient<InterceptedService<Channel, WithToken>>> {
    let channel = Channel::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    let token = WithToken(format!("Bearer {token}").parse()?);
    Ok(ConfigServiceClient::with_interceptor(channel, token))
}

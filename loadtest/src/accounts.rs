//! The users of the load test's tenants, by Cognito's own API. Each run gives them a password of its own, which is kept
//! nowhere: whoever may run a load test may do that, and nobody else can sign in as them.

use anyhow::Context;
use aws_sdk_cognitoidentityprovider::{
    Client,
    operation::{admin_create_user::AdminCreateUserError, admin_delete_user::AdminDeleteUserError},
    types::{AttributeType, AuthFlowType, AuthenticationResultType, MessageActionType},
};
use tagged_config_runtime::telemetry;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::targets::{self, Targets, need};

/// Cognito's pool of this deployment.
pub(crate) struct Accounts {
    client: Client,
    pool: String,
    client_id: String,
    password: OnceCell<String>,
}

/// A user's role, as tokens name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Reader,
    Writer,
    Admin,
}

/// What a sign-in brings.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// The ID token.
    pub(crate) id_token: String,
    /// Brings the next ones; absent after a refresh.
    pub(crate) refresh_token: Option<String>,
}

impl Accounts {
    /// The pool of these targets.
    pub(crate) async fn of(targets: &Targets) -> anyhow::Result<Self> {
        Ok(Self {
            pool: need(&targets.user_pool_id, "user-pool-id")?.to_owned(),
            client_id: need(&targets.client_id, "client-id")?.to_owned(),
            client: Client::new(&targets::sdk_config().await),
            password: OnceCell::new(),
        })
    }

    /// The user of this tenant, made with this role if it is not there.
    pub(crate) async fn ensure(&self, tenant: &str, role: Role) -> anyhow::Result<()> {
        let role = match role {
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::Admin => "admin",
        };
        let attribute = |name: &str, value: &str| {
            AttributeType::builder()
                .name(name)
                .value(value)
                .build()
                .context("an attribute")
        };
        let made = self
            .client
            .admin_create_user()
            .user_pool_id(&self.pool)
            .username(user(tenant))
            .message_action(MessageActionType::Suppress)
            .user_attributes(attribute("email", &user(tenant))?)
            .user_attributes(attribute("custom:tenantId", tenant)?)
            .user_attributes(attribute("custom:userRole", role)?)
            .send()
            .await;
        match made {
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(AdminCreateUserError::is_username_exists_exception) =>
            {
                Ok(())
            }
            other => other
                .map(|_| ())
                .map_err(|error| failed("AdminCreateUser", &error)),
        }
    }

    /// Signs the tenant's user in.
    pub(crate) async fn sign_in(&self, tenant: &str) -> anyhow::Result<Session> {
        let password = self.password().await;
        self.client
            .admin_set_user_password()
            .user_pool_id(&self.pool)
            .username(user(tenant))
            .password(password)
            .permanent(true)
            .send()
            .await
            .map_err(|error| failed("AdminSetUserPassword", &error))?;
        self.initiate(
            AuthFlowType::AdminUserPasswordAuth,
            &[("USERNAME", &user(tenant)), ("PASSWORD", password)],
        )
        .await
        .with_context(|| {
            format!(
                "cannot sign in as the user of tenant {tenant} (the app client needs ALLOW_ADMIN_USER_PASSWORD_AUTH: \
                 admin_password_sign_in of terraform/aws)"
            )
        })
    }

    /// A new ID token for a refresh token.
    pub(crate) async fn refresh(&self, refresh_token: &str) -> anyhow::Result<Session> {
        self.initiate(
            AuthFlowType::RefreshTokenAuth,
            &[("REFRESH_TOKEN", refresh_token)],
        )
        .await
    }

    /// Removes the tenant's user.
    pub(crate) async fn remove(&self, tenant: &str) -> anyhow::Result<()> {
        let removed = self
            .client
            .admin_delete_user()
            .user_pool_id(&self.pool)
            .username(user(tenant))
            .send()
            .await;
        match removed {
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(AdminDeleteUserError::is_user_not_found_exception) =>
            {
                Ok(())
            }
            other => other
                .map(|_| ())
                .map_err(|error| failed("AdminDeleteUser", &error)),
        }
    }

    async fn initiate(
        &self,
        flow: AuthFlowType,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<Session> {
        let parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let answer = self
            .client
            .admin_initiate_auth()
            .user_pool_id(&self.pool)
            .client_id(&self.client_id)
            .auth_flow(flow)
            .set_auth_parameters(Some(parameters.collect()))
            .send()
            .await
            .map_err(|error| failed("AdminInitiateAuth", &error))?;
        let result = answer.authentication_result().context(
            "Cognito requires another step (multi-factor sign-in?) that a load test cannot perform",
        )?;
        Ok(Session {
            id_token: AuthenticationResultType::id_token(result)
                .context("no ID token")?
                .to_owned(),
            refresh_token: result.refresh_token().map(ToOwned::to_owned),
        })
    }

    async fn password(&self) -> &str {
        self.password
            .get_or_init(async || format!("Lt-{}-9z", Uuid::new_v4().simple()))
            .await
    }
}

fn user(tenant: &str) -> String {
    format!("{tenant}@example.com")
}

/// The SDK's error with all that it wraps; its own text says "service error" only.
pub(crate) fn failed<E: std::error::Error>(operation: &str, error: &E) -> anyhow::Error {
    anyhow::anyhow!("{operation} failed: {}", telemetry::chain(error))
}

//! The REST interface. The contract is `openapi.yaml` in this crate.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tagged_config_auth::{Authenticator, Jwks, JwksSource};
use tagged_config_client::{CallerToken, ConfigCache};
use tagged_config_runtime::{env::PathPrefix, shutdown::Readiness, telemetry};
use tagged_config_web::cors::{AllowedOrigins, cors};

use crate::{
    pricing::{Order, PricedOrder, price},
    problem::{ApiError, problem},
    settings::Settings,
};

/// The contract, as it is served.
const OPENAPI: &str = include_str!("../openapi.yaml");
/// Largest order, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// What the handlers share.
pub(crate) struct HttpState<S = Jwks> {
    pub(crate) authenticator: Arc<Authenticator<S>>,
    pub(crate) cache: ConfigCache,
    pub(crate) readiness: Readiness,
}

/// All routes, with and without what an edge puts before them.
pub(crate) fn router<S: JwksSource>(
    state: Arc<HttpState<S>>,
    prefix: Option<&PathPrefix>,
    origins: &AllowedOrigins,
) -> Router {
    let routes = routes(state);
    let routes = match prefix {
        Some(prefix) => routes.clone().nest(prefix.as_str(), routes),
        None => routes,
    };
    cors(routes, origins, [])
}

fn routes<S: JwksSource>(state: Arc<HttpState<S>>) -> Router {
    let no_method = async |method: Method| {
        problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The method is not offered here",
            Some(format!("{method} is not offered here")),
        )
    };
    Router::new()
        .route("/v1/orders", post(create_order::<S>))
        .route(
            "/openapi.yaml",
            get(async || ([(header::CONTENT_TYPE, "application/yaml")], OPENAPI)),
        )
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz::<S>))
        .fallback(async || problem(StatusCode::NOT_FOUND, "no-such-path", "No such path", None))
        .method_not_allowed_fallback(no_method)
        .with_state(state)
}

/// The token is verified here too: nothing behind the edge trusts the edge.
async fn create_order<S: JwksSource>(
    State(state): State<Arc<HttpState<S>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PricedOrder>, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = values.next().and_then(|value| value.to_str().ok());
    // Two tokens would leave open which of them counts.
    let authorization = authorization.filter(|_| values.next().is_none());
    let caller = state.authenticator.authenticate(authorization).await?;
    let token = authorization.and_then(|value| CallerToken::from_authorization(value).ok());
    let token = token.ok_or(ApiError::Unauthenticated)?;
    let body = to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|_| ApiError::BodyTooLarge {
            limit: MAX_BODY_BYTES,
        })?;
    let order: Order = serde_json::from_slice(&body)
        .map_err(|error| ApiError::Body(format!("the body is no order: {error}")))?;
    let settings = Settings::of(&state.cache, caller.tenant(), &token).await?;
    let priced = price(order, settings)?;
    tracing::debug!(
        { telemetry::TENANT_ID } = caller.tenant().as_str(),
        "order priced"
    );
    Ok(Json(priced))
}

async fn readyz<S: JwksSource>(State(state): State<Arc<HttpState<S>>>) -> Response {
    if state.readiness.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

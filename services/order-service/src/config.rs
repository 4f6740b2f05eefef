//! Settings of the service.

use std::{net::SocketAddr, time::Duration};

use tagged_config_client::{ClientConfig, Endpoints};
use tagged_config_runtime::{
    env::{BadEnv, Env, EnvReader, PathPrefix},
    shutdown::DEFAULT_DRAIN_DELAY,
};
use tagged_config_web::cors::AllowedOrigins;

const DEFAULT_DEADLINE: Duration = Duration::from_secs(2);

/// Everything that can be set.
#[derive(Debug)]
pub(crate) struct Config {
    /// `TAGGED_CONFIG_HTTP_ADDR`: ip:port.
    pub(crate) http: SocketAddr,
    /// `TAGGED_CONFIG_PATH_PREFIX` (none): an edge may put it before every path.
    pub(crate) path_prefix: Option<PathPrefix>,
    /// `TAGGED_CONFIG_ALLOWED_ORIGINS` (none): web pages of these origins may call the API, separated by commas.
    pub(crate) allowed_origins: AllowedOrigins,
    /// `TAGGED_CONFIG_DRAIN_DELAY` (500ms): from the stop signal until connections are refused.
    pub(crate) drain_delay: Duration,
    /// `TAGGED_CONFIG_JWKS_URL`
    pub(crate) jwks_url: String,
    /// `TAGGED_CONFIG_ISSUER`
    pub(crate) issuer: String,
    /// `TAGGED_CONFIG_AUDIENCE`
    pub(crate) audience: String,
    /// `TAGGED_CONFIG_ENDPOINTS`: config-service, `http://host:port`, several separated by commas; names are
    /// resolved anew every few seconds. `TAGGED_CONFIG_DEADLINE` (2s): for one call to it, with retries.
    pub(crate) client: ClientConfig,
}

impl Config {
    /// Reads every setting, and reports every bad one.
    pub(crate) fn from_env(env: &dyn Env) -> Result<Self, BadEnv> {
        let mut reader = EnvReader::new(env);
        let http = reader.required("TAGGED_CONFIG_HTTP_ADDR");
        let path_prefix = reader.optional("TAGGED_CONFIG_PATH_PREFIX");
        let allowed_origins = reader.or("TAGGED_CONFIG_ALLOWED_ORIGINS", AllowedOrigins::default());
        let drain_delay = reader.or("TAGGED_CONFIG_DRAIN_DELAY", DEFAULT_DRAIN_DELAY);
        let jwks_url = reader.required("TAGGED_CONFIG_JWKS_URL");
        let issuer = reader.required("TAGGED_CONFIG_ISSUER");
        let audience = reader.required("TAGGED_CONFIG_AUDIENCE");
        let endpoints: Option<String> = reader.required("TAGGED_CONFIG_ENDPOINTS");
        let deadline = reader.or("TAGGED_CONFIG_DEADLINE", DEFAULT_DEADLINE);
        let endpoints = endpoints.and_then(|text| match text.parse::<Endpoints>() {
            Ok(endpoints) => Some(endpoints),
            Err(error) => {
                reader.reject(format!("TAGGED_CONFIG_ENDPOINTS {error}"));
                None
            }
        });
        let config = (|| {
            let client = ClientConfig {
                endpoints: endpoints?,
                deadline,
            };
            Some(Self {
                http: http?,
                path_prefix,
                allowed_origins,
                drain_delay,
                jwks_url: jwks_url?,
                issuer: issuer?,
                audience: audience?,
                client,
            })
        })();
        reader.finish(config)
    }
}

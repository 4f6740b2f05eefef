//! Settings, a struct for each concern. `docs/settings.md` lists them all.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tagged_config_discovery::CloudMapConfig;
use tagged_config_runtime::{
    env::{BadEnv, Env, EnvReader, PathPrefix},
    shutdown::DEFAULT_DRAIN_DELAY,
};
use tagged_config_stores::{
    DynamoDbConfig, HistoryConfig, Kind, ParameterStoreConfig, S3Config, SecretsManagerConfig,
    StoreSpec,
    history::{DEFAULT_RETENTION_DAYS, days},
    parameter_store::DEFAULT_CALLS_PER_SECOND,
    s3::{DEFAULT_HELD_BYTES, DEFAULT_MAX_VALUE_BYTES as DEFAULT_MAX_BLOB_BYTES},
};
use tagged_config_web::cors::AllowedOrigins;

use crate::{
    cache::CacheConfig,
    transport::refresh::{GOOD_CREDENTIAL_BYTES, RefreshCredentials},
};

const DEFAULT_TTL: Duration = Duration::from_mins(1);
const DEFAULT_MAX_STALE: Duration = Duration::from_hours(1);
const DEFAULT_CACHE_BYTES: u64 = 256 * 1024 * 1024;
const MAX_RETENTION_DAYS: u64 = 3_650;
const MIN_CACHE_BYTES: u64 = 4 * 1024;
/// CloudWatch keeps no more than a point each second.
const MIN_EMF_INTERVAL: Duration = Duration::from_secs(1);
/// A value that is written is held in memory.
const MAX_BLOB_BYTES: u64 = 64 * 1024 * 1024;
/// The largest blob that is cached, as a part of the cache's bytes: one in so many.
const HELD_SHARE: u64 = 64;
const DEFAULT_SWEEP_INTERVAL: Duration = Duration::from_secs(2);
const MIN_SWEEP_INTERVAL: Duration = Duration::from_millis(250);
const MAX_SWEEP_INTERVAL: Duration = Duration::from_mins(1);
const DEFAULT_MAX_CONNECTION_AGE: Duration = Duration::from_mins(10);

/// Everything that can be set.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where to listen.
    pub listen: ListenConfig,
    /// Whose tokens to accept.
    pub auth: AuthConfig,
    /// The backends, one for each tag. `TAGGED_CONFIG_BLOB_BUCKET` (none): without it, there is no `blob_config_*`;
    /// `TAGGED_CONFIG_BLOB_MAX_BYTES` (8388608): the largest blob that is written. `TAGGED_CONFIG_SECRET_ROOT` (none):
    /// without it, there is no `secret_config_*`. `TAGGED_CONFIG_OPERATOR_TENANT` (none): the tenant whose schemas are those of
    /// all tenants.
    pub stores: Vec<StoreSpec>,
    /// `TAGGED_CONFIG_JOURNAL_TABLE` (none): the change journal; without one, the TTL alone finds lost events.
    pub journal: Option<String>,
    /// `TAGGED_CONFIG_HISTORY_TABLE` (none): who changed what; without one, nobody knows. `_HISTORY_RETENTION_DAYS` (90): how
    /// long an entry is kept. `_HISTORY_REQUIRED` (true): a write fails whose entry cannot be written.
    pub history: Option<HistoryConfig>,
    /// `TAGGED_CONFIG_SWEEP_INTERVAL` (2s): how often the journal is read.
    pub sweep_interval: Duration,
    /// `TAGGED_CONFIG_CACHE_TTL` (60s), `_CACHE_BYTES` (268435456), `_MAX_STALE` (1h).
    pub cache: CacheConfig,
    /// `TAGGED_CONFIG_REFRESH_CREDENTIAL`, `_REFRESH_CREDENTIAL_PREVIOUS` (none).
    pub refresh: RefreshCredentials,
    /// `TAGGED_CONFIG_CLOUD_MAP_NAMESPACE`, `_CLOUD_MAP_SERVICE` (none): the service's names in Cloud Map, for a write that waits
    /// until every task has it; both or none. `_REFRESH_PORT` (that of `_REFRESH_ADDR`): the port of every task's refresh listener.
    pub tasks: Option<CloudMapConfig>,
    /// `TAGGED_CONFIG_INSTANCE_ID`: this task's name in answers and logs (the gRPC address; the host's name where that
    /// is every address of the host).
    pub instance: Arc<str>,
    /// `TAGGED_CONFIG_EMF_INTERVAL` (none): how often metrics are written to standard output for CloudWatch.
    pub emf_interval: Option<Duration>,
}

/// Addresses, ip:port each.
#[derive(Debug)]
pub(crate) struct ListenConfig {
    /// `TAGGED_CONFIG_GRPC_ADDR`
    pub grpc: SocketAddr,
    /// `TAGGED_CONFIG_REFRESH_ADDR`
    pub refresh: SocketAddr,
    /// `TAGGED_CONFIG_HTTP_ADDR`
    pub http: SocketAddr,
    /// `TAGGED_CONFIG_MAX_CONNECTION_AGE` (10m): after this, less up to a fifth, a gRPC connection is closed
    /// gracefully, so that load spreads over new tasks.
    pub max_connection_age: Duration,
    /// `TAGGED_CONFIG_PATH_PREFIX` (none): an edge may put it before every path of the REST facade.
    pub path_prefix: Option<PathPrefix>,
    /// `TAGGED_CONFIG_ALLOWED_ORIGINS` (none): web pages of these origins may call the REST facade, separated by commas.
    pub allowed_origins: AllowedOrigins,
    /// `TAGGED_CONFIG_DRAIN_DELAY` (500ms): from the stop signal until connections are refused.
    pub drain_delay: Duration,
}

/// The issuer.
#[derive(Debug)]
pub(crate) struct AuthConfig {
    /// `TAGGED_CONFIG_JWKS_URL`: `https://...`, or `s3://bucket/key` for a mirror; it need not lie at the issuer's.
    pub jwks_url: String,
    /// `TAGGED_CONFIG_ISSUER`
    pub issuer: String,
    /// `TAGGED_CONFIG_AUDIENCE`: the app client's id.
    pub audience: String,
}

impl Config {
    /// Reads every setting, and reports every bad one.
    pub(crate) fn from_env(env: &dyn Env) -> Result<Self, BadEnv> {
        let mut reader = EnvReader::new(env);
        let grpc: Option<SocketAddr> = reader.required("TAGGED_CONFIG_GRPC_ADDR");
        let refresh_addr = reader.required("TAGGED_CONFIG_REFRESH_ADDR");
        let http = reader.required("TAGGED_CONFIG_HTTP_ADDR");
        let max_connection_age = reader.or(
            "TAGGED_CONFIG_MAX_CONNECTION_AGE",
            DEFAULT_MAX_CONNECTION_AGE,
        );
        let path_prefix = reader.optional("TAGGED_CONFIG_PATH_PREFIX");
        let allowed_origins = reader.or("TAGGED_CONFIG_ALLOWED_ORIGINS", AllowedOrigins::default());
        let drain_delay = reader.or("TAGGED_CONFIG_DRAIN_DELAY", DEFAULT_DRAIN_DELAY);
        let emf_interval = reader.optional("TAGGED_CONFIG_EMF_INTERVAL");
        let jwks_url = reader.required("TAGGED_CONFIG_JWKS_URL");
        let issuer = reader.required("TAGGED_CONFIG_ISSUER");
        let audience = reader.required("TAGGED_CONFIG_AUDIENCE");
        let table: Option<String> = reader.required("TAGGED_CONFIG_TABLE");
        let root: Option<String> = reader.required("TAGGED_CONFIG_PARAMETER_ROOT");
        let calls_per_second = reader.or(
            "TAGGED_CONFIG_PARAMETER_CALLS_PER_SECOND",
            DEFAULT_CALLS_PER_SECOND,
        );
        let bucket: Option<String> = reader.optional("TAGGED_CONFIG_BLOB_BUCKET");
        let max_blob_bytes = reader.or(
            "TAGGED_CONFIG_BLOB_MAX_BYTES",
            DEFAULT_MAX_BLOB_BYTES as u64,
        );
        let secret_root: Option<String> = reader.optional("TAGGED_CONFIG_SECRET_ROOT");
        let journal: Option<String> = reader.optional("TAGGED_CONFIG_JOURNAL_TABLE");
        let operator: Option<String> = reader.optional("TAGGED_CONFIG_OPERATOR_TENANT");
        let history = history(&mut reader);
        let sweep_interval = reader.or("TAGGED_CONFIG_SWEEP_INTERVAL", DEFAULT_SWEEP_INTERVAL);
        let cache = CacheConfig {
            ttl: reader.or("TAGGED_CONFIG_CACHE_TTL", DEFAULT_TTL),
            max_stale: reader.or("TAGGED_CONFIG_MAX_STALE", DEFAULT_MAX_STALE),
            bytes: reader.or("TAGGED_CONFIG_CACHE_BYTES", DEFAULT_CACHE_BYTES),
        };
        let current: Option<SecretString> = reader.required("TAGGED_CONFIG_REFRESH_CREDENTIAL");
        let previous: Option<SecretString> =
            reader.optional("TAGGED_CONFIG_REFRESH_CREDENTIAL_PREVIOUS");
        let tasks = cloud_map(&mut reader, refresh_addr);
        let instance: Option<String> = reader.optional("TAGGED_CONFIG_INSTANCE_ID");

        if cache.bytes < MIN_CACHE_BYTES {
            reader.reject(format!(
                "TAGGED_CONFIG_CACHE_BYTES must be at least {MIN_CACHE_BYTES}"
            ));
        }
        if !(1..=MAX_BLOB_BYTES).contains(&max_blob_bytes) {
            reader.reject(format!(
                "TAGGED_CONFIG_BLOB_MAX_BYTES must be 1 to {MAX_BLOB_BYTES}"
            ));
        }
        let dynamodb = |kind| {
            Some(StoreSpec::DynamoDb(DynamoDbConfig {
                table: table.clone()?,
                journal: journal.clone(),
                history: history.clone(),
                kind,
                operator: operator.clone(),
            }))
        };
        let (tenants, schemas) = (dynamodb(Kind::Tenant), dynamodb(Kind::Schema));
        let blobs = bucket.map(|bucket| S3Config {
            history: history.clone(),
            bucket,
            max_value_bytes: usize::try_from(max_blob_bytes).unwrap_or(usize::MAX),
            held_bytes: DEFAULT_HELD_BYTES
                .min(usize::try_from(cache.bytes / HELD_SHARE).unwrap_or(usize::MAX)),
        });
        let secrets = secret_root.as_deref().map(SecretsManagerConfig::at);
        if secrets
            .as_ref()
            .is_some_and(|secrets| !is_secret_root(secrets.root()))
        {
            reader.reject(
                "TAGGED_CONFIG_SECRET_ROOT must be like app/config, or \
                 arn:aws:secretsmanager:<region>:<account>:secret:app/config, without a slash at its ends",
            );
        }
        if !(MIN_SWEEP_INTERVAL..=MAX_SWEEP_INTERVAL).contains(&sweep_interval) {
            reader.reject(format!(
                "TAGGED_CONFIG_SWEEP_INTERVAL must be {MIN_SWEEP_INTERVAL:?} to {MAX_SWEEP_INTERVAL:?}"
            ));
        }
        if emf_interval.is_some_and(|interval| interval < MIN_EMF_INTERVAL) {
            reader.reject(format!(
                "TAGGED_CONFIG_EMF_INTERVAL must be at least {MIN_EMF_INTERVAL:?}"
            ));
        }
        if root.as_deref().is_some_and(|root| !is_parameter_root(root)) {
            reader
                .reject("TAGGED_CONFIG_PARAMETER_ROOT must be like /app/config: one to two levels, no trailing slash");
        }
        let is_short = |secret: &SecretString| secret.expose_secret().len() < GOOD_CREDENTIAL_BYTES;
        if current.iter().chain(&previous).any(is_short) {
            tracing::warn!(
                "TAGGED_CONFIG_REFRESH_CREDENTIAL is short: use {GOOD_CREDENTIAL_BYTES} random bytes or more"
            );
        }
        let config = (|| {
            let grpc = grpc?;
            Some(Self {
                listen: ListenConfig {
                    grpc,
                    refresh: refresh_addr?,
                    http: http?,
                    max_connection_age,
                    path_prefix,
                    allowed_origins,
                    drain_delay,
                },
                auth: AuthConfig {
                    jwks_url: jwks_url?,
                    issuer: issuer?,
                    audience: audience?,
                },
                stores: [
                    tenants?,
                    StoreSpec::ParameterStore(ParameterStoreConfig {
                        root: root?,
                        calls_per_second,
                    }),
                ]
                .into_iter()
                .chain(blobs.map(StoreSpec::S3))
                .chain(secrets.map(StoreSpec::SecretsManager))
                .chain(schemas)
                .collect(),
                journal,
                history,
                sweep_interval,
                cache,
                refresh: RefreshCredentials {
                    current: current?,
                    previous,
                },
                tasks,
                instance: instance.unwrap_or_else(|| own_name(grpc)).into(),
                emf_interval,
            })
        })();
        reader.finish(config)
    }
}

fn history(reader: &mut EnvReader<'_>) -> Option<HistoryConfig> {
    let table: Option<String> = reader.optional("TAGGED_CONFIG_HISTORY_TABLE");
    let retention_days = reader.or(
        "TAGGED_CONFIG_HISTORY_RETENTION_DAYS",
        DEFAULT_RETENTION_DAYS,
    );
    let required = reader.or("TAGGED_CONFIG_HISTORY_REQUIRED", true);
    if !(1..=MAX_RETENTION_DAYS).contains(&retention_days) {
        reader.reject(format!(
            "TAGGED_CONFIG_HISTORY_RETENTION_DAYS must be 1 to {MAX_RETENTION_DAYS}"
        ));
    }
    let retention = days(retention_days);
    table.map(|table| HistoryConfig {
        table,
        retention,
        required,
    })
}

/// Where the tasks are.
fn cloud_map(reader: &mut EnvReader<'_>, refresh: Option<SocketAddr>) -> Option<CloudMapConfig> {
    let namespace: Option<String> = reader.optional("TAGGED_CONFIG_CLOUD_MAP_NAMESPACE");
    let service: Option<String> = reader.optional("TAGGED_CONFIG_CLOUD_MAP_SERVICE");
    let port: Option<u16> = reader.optional("TAGGED_CONFIG_REFRESH_PORT");
    match (namespace, service, port) {
        (Some(namespace), Some(service), port) => Some(CloudMapConfig {
            namespace,
            service,
            refresh_port: port.or(refresh.map(|address| address.port()))?,
        }),
        (None, None, None) => None,
        _ => {
            reader.reject(
                "TAGGED_CONFIG_CLOUD_MAP_NAMESPACE and TAGGED_CONFIG_CLOUD_MAP_SERVICE must be set together, and \
                 TAGGED_CONFIG_REFRESH_PORT with them only",
            );
            None
        }
    }
}

/// A task of ECS listens on every address; its host's name distinguishes it.
fn own_name(grpc: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        name if grpc.ip().is_unspecified() && !name.is_empty() => format!("{name}:{}", grpc.port()),
        _ => grpc.to_string(),
    }
}

/// With `tenants`, the tenant and a name of 11 segments, two levels make Parameter Store's 15.
fn is_parameter_root(root: &str) -> bool {
    root.strip_prefix('/')
        .is_some_and(|levels| levels.split('/').count() <= 2 && are_levels(levels))
}

/// With tenant and name, at most the 512 characters of a secret's name.
fn is_secret_root(root: &str) -> bool {
    root.len() <= 200 && are_levels(root)
}

fn are_levels(text: &str) -> bool {
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    text.split('/')
        .all(|level| !level.is_empty() && level.bytes().all(in_alphabet))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn good() -> HashMap<String, String> {
        [
            ("GRPC_ADDR", "127.0.0.1:1"),
            ("REFRESH_ADDR", "127.0.0.1:2"),
            ("HTTP_ADDR", "127.0.0.1:3"),
            ("JWKS_URL", "https://issuer/jwks"),
            ("ISSUER", "https://issuer"),
            ("AUDIENCE", "client"),
            ("TABLE", "T"),
            ("PARAMETER_ROOT", "/app/config"),
            ("CACHE_TTL", "5m"),
            ("CACHE_BYTES", "1048576"),
            ("REFRESH_CREDENTIAL", "0123456789abcdef"),
        ]
        .map(|(name, value)| (format!("TAGGED_CONFIG_{name}"), value.to_owned()))
        .into()
    }

    #[test]
    fn starts_with_the_documented_variables_alone() {
        let config = Config::from_env(&good()).unwrap();
        assert_eq!(config.cache.ttl, Duration::from_mins(5));
        assert_eq!(&*config.instance, "127.0.0.1:1");
        assert!(
            !format!("{config:?}").contains("0123456789abcdef"),
            "secrets are not printed"
        );
    }

    #[test]
    fn the_names_in_cloud_map_are_set_together() {
        let tasks = |settings: &[(&str, &str)]| {
            let mut env = good();
            for (name, value) in settings {
                env.insert(format!("TAGGED_CONFIG_{name}"), (*value).to_owned());
            }
            Config::from_env(&env).map(|config| config.tasks)
        };
        assert_eq!(tasks(&[]).unwrap(), None);
        let names = [("CLOUD_MAP_NAMESPACE", "n"), ("CLOUD_MAP_SERVICE", "s")];
        let port = ("REFRESH_PORT", "7");
        let found = |port| CloudMapConfig {
            namespace: "n".to_owned(),
            service: "s".to_owned(),
            refresh_port: port,
        };
        assert_eq!(tasks(&names).unwrap(), Some(found(2)), "the own port");
        let all = [names[0], names[1], port];
        assert_eq!(tasks(&all).unwrap(), Some(found(7)));
        for part in [&names[..1], &names[1..], &[names[0], port], &[port]] {
            let message = tasks(part).unwrap_err().to_string();
            assert!(message.contains("must be set together"), "{message}");
        }
    }

    #[test]
    fn every_bad_variable_is_named() {
        let mut env = good();
        for (name, value) in [
            ("CACHE_TTL", "5"),
            ("CACHE_BYTES", "10"),
            ("SWEEP_INTERVAL", "0s"),
            ("HISTORY_RETENTION_DAYS", "0"),
            ("HISTORY_REQUIRED", "yes"),
            ("BLOB_MAX_BYTES", "0"),
            ("SECRET_ROOT", "/app/config"),
            ("PARAMETER_ROOT", "app/"),
            ("PARAMETER_CALLS_PER_SECOND", "0"),
            ("REFRESH_CREDENTIAL", ""),
        ] {
            env.insert(format!("TAGGED_CONFIG_{name}"), value.to_owned());
        }
        env.remove("TAGGED_CONFIG_TABLE");
        let message = Config::from_env(&env).unwrap_err().to_string();
        for name in [
            "CACHE_TTL",
            "CACHE_BYTES",
            "SWEEP_INTERVAL",
            "HISTORY_RETENTION_DAYS",
            "HISTORY_REQUIRED",
            "BLOB_MAX_BYTES",
            "SECRET_ROOT",
            "PARAMETER_ROOT",
            "PARAMETER_CALLS_PER_SECOND",
            "REFRESH_CREDENTIAL",
            "TABLE is not set",
        ] {
            assert!(message.contains(name), "{name}: {message}");
        }
        for root in ["/", "/a/", "/a//b", "/a/b/c", "/a b"] {
            assert!(!is_parameter_root(root), "{root}");
        }
    }
}

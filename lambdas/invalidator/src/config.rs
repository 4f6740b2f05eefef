//! Settings of the function.

use std::time::Duration;

use tagged_config_discovery::CloudMapConfig;
use tagged_config_runtime::env::{BadEnv, Env, EnvReader};
use tagged_config_stores::{
    ParameterStoreConfig, SecretsManagerConfig,
    history::{DEFAULT_RETENTION_DAYS, days},
};

/// Everything that can be set.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `TAGGED_CONFIG_CLOUD_MAP_NAMESPACE`, `_CLOUD_MAP_SERVICE`, `_REFRESH_PORT`: where the tasks are.
    pub tasks: CloudMapConfig,
    /// `TAGGED_CONFIG_PARAMETER_ROOT`: events of other parameters are ignored.
    pub parameters: ParameterStoreConfig,
    /// `TAGGED_CONFIG_BLOB_BUCKET` (none): events of other buckets are ignored.
    pub bucket: Option<String>,
    /// `TAGGED_CONFIG_SECRET_ROOT` (none): events of other secrets are ignored.
    pub secrets: Option<SecretsManagerConfig>,
    /// `TAGGED_CONFIG_JOURNAL_TABLE` (none): the journal's table.
    pub journal: Option<String>,
    /// `TAGGED_CONFIG_HISTORY_TABLE` (none): the history's table.
    pub history: Option<String>,
    /// `TAGGED_CONFIG_HISTORY_RETENTION_DAYS` (90): how long an entry is kept.
    pub history_retention: Duration,
    /// `TAGGED_CONFIG_REFRESH_CREDENTIAL_PARAMETER`: the SecureString that holds the credential.
    pub credential_parameter: String,
}

impl Config {
    /// Reads every setting, and reports every bad one.
    pub(crate) fn from_env(env: &dyn Env) -> Result<Self, BadEnv> {
        let mut reader = EnvReader::new(env);
        let namespace = reader.required("TAGGED_CONFIG_CLOUD_MAP_NAMESPACE");
        let service = reader.required("TAGGED_CONFIG_CLOUD_MAP_SERVICE");
        let refresh_port = reader.required("TAGGED_CONFIG_REFRESH_PORT");
        let root: Option<String> = reader.required("TAGGED_CONFIG_PARAMETER_ROOT");
        let credential_parameter = reader.required("TAGGED_CONFIG_REFRESH_CREDENTIAL_PARAMETER");
        let bucket = reader.optional("TAGGED_CONFIG_BLOB_BUCKET");
        let secret_root: Option<String> = reader.optional("TAGGED_CONFIG_SECRET_ROOT");
        let journal = reader.optional("TAGGED_CONFIG_JOURNAL_TABLE");
        let history = reader.optional("TAGGED_CONFIG_HISTORY_TABLE");
        let retention_days = reader.or(
            "TAGGED_CONFIG_HISTORY_RETENTION_DAYS",
            DEFAULT_RETENTION_DAYS,
        );
        let config = (|| {
            Some(Self {
                tasks: CloudMapConfig {
                    namespace: namespace?,
                    service: service?,
                    refresh_port: refresh_port?,
                },
                parameters: ParameterStoreConfig::at(root?),
                bucket,
                secrets: secret_root.as_deref().map(SecretsManagerConfig::at),
                journal,
                history,
                history_retention: days(retention_days),
                credential_parameter: credential_parameter?,
            })
        })();
        reader.finish(config)
    }
}

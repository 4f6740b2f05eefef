//! Settings of the function.

use tagged_config_runtime::env::{BadEnv, Env, EnvReader};
use tagged_config_stores::{ParameterStoreConfig, SecretsManagerConfig};

/// Everything that can be set.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `TAGGED_CONFIG_CLOUD_MAP_NAMESPACE`: the namespace's name.
    pub namespace: String,
    /// `TAGGED_CONFIG_CLOUD_MAP_SERVICE`: config-service's name in it.
    pub service: String,
    /// `TAGGED_CONFIG_REFRESH_PORT`: the tasks' internal port.
    pub refresh_port: u16,
    /// `TAGGED_CONFIG_PARAMETER_ROOT`: events of other parameters are ignored.
    pub parameters: ParameterStoreConfig,
    /// `TAGGED_CONFIG_BLOB_BUCKET` (none): events of other buckets are ignored.
    pub bucket: Option<String>,
    /// `TAGGED_CONFIG_SECRET_ROOT` (none): events of other secrets are ignored.
    pub secrets: Option<SecretsManagerConfig>,
    /// `TAGGED_CONFIG_JOURNAL_TABLE` (none): the journal's table.
    pub journal: Option<String>,
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
        let config = (|| {
            Some(Self {
                namespace: namespace?,
                service: service?,
                refresh_port: refresh_port?,
                parameters: ParameterStoreConfig::at(root?),
                bucket,
                secrets: secret_root.as_deref().map(SecretsManagerConfig::at),
                journal,
                credential_parameter: credential_parameter?,
            })
        })();
        reader.finish(config)
    }
}

//! Settings of the function.

use tagged_config_runtime::env::{BadEnv, Env, EnvReader};

/// Everything that can be set.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `TAGGED_CONFIG_ISSUER`: its keys lie at `/.well-known/jwks.json` below it.
    pub issuer: String,
    /// `TAGGED_CONFIG_JWKS_BUCKET`, `TAGGED_CONFIG_JWKS_KEY`: the object they are copied to.
    pub bucket: String,
    /// See `bucket`.
    pub key: String,
}

impl Config {
    /// Reads every setting, and reports every bad one.
    pub(crate) fn from_env(env: &dyn Env) -> Result<Self, BadEnv> {
        let mut reader = EnvReader::new(env);
        let issuer = reader.required("TAGGED_CONFIG_ISSUER");
        let bucket = reader.required("TAGGED_CONFIG_JWKS_BUCKET");
        let key = reader.required("TAGGED_CONFIG_JWKS_KEY");
        let config = (|| {
            Some(Self {
                issuer: issuer?,
                bucket: bucket?,
                key: key?,
            })
        })();
        reader.finish(config)
    }
}

//! The sources whose changes EventBridge announces. To add one: implement [`Source`] in a file of its own, and list it in
//! [`all`].

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_ssm::Client;
use serde_json::Value;

use tagged_config_stores::s3::{DEFAULT_HELD_BYTES, Objects};

use crate::{
    blob::BlobSource, change::Change, config::Config, parameter::ParameterSource,
    secret::SecretSource,
};

/// Decodes the events of one backend.
pub(crate) trait Source: Send + Sync {
    /// What an event announces; `None` if it is no event of this source, or changes no configuration.
    fn announced(&self, event: &Value) -> Option<Box<dyn Announcement + '_>>;
}

/// A change that was announced, and that may have to be read before it can be sent.
#[async_trait]
pub(crate) trait Announcement: Send {
    /// The next change to send, or `None` when there is no more to say.
    async fn next(&mut self) -> Option<Change>;
}

/// The sources of this deployment.
pub(crate) fn all(sdk: &SdkConfig, config: &Config) -> Vec<Box<dyn Source>> {
    let parameters = ParameterSource::new(Client::new(sdk), config.parameters.clone());
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(parameters)];
    if let Some(bucket) = &config.bucket {
        let objects = Objects::new(sdk, bucket, DEFAULT_HELD_BYTES);
        sources.push(Box::new(BlobSource::new(objects, bucket.clone())));
    }
    let secrets = config.secrets.clone().map(SecretSource);
    sources.extend(secrets.map(|source| Box::new(source) as Box<dyn Source>));
    sources
}

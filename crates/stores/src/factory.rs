//! From a key's tag to its store. The matches are exhaustive on purpose: a new spec does not compile until
//! it is wired here.

use std::{fmt::Write, sync::Arc};

use aws_config::SdkConfig;
use tagged_config_domain::{Backend, Store};
use thiserror::Error;

use crate::{
    dynamodb::{DynamoDbConfig, DynamoDbStore},
    parameter_store::{ParameterStore, ParameterStoreConfig},
    s3::{S3Config, S3Store},
    secrets_manager::{SecretsManagerConfig, SecretsManagerStore},
};

/// A backend with its settings.
#[derive(Clone, Debug)]
pub enum StoreSpec {
    /// `tenant_config_*`, `schema_config_*`
    DynamoDb(DynamoDbConfig),
    /// `param_config_*`
    ParameterStore(ParameterStoreConfig),
    /// `blob_config_*`
    S3(S3Config),
    /// `secret_config_*`
    SecretsManager(SecretsManagerConfig),
}

/// The stores by tag.
#[derive(Clone)]
pub struct Stores(Vec<(&'static str, Arc<dyn Store>)>);

/// No store has this tag; `Display` lists those there are.
#[derive(Debug, Error)]
#[error("unknown tag; known are {known}")]
pub struct UnknownTag {
    known: String,
}

// === impl StoreSpec ===

impl StoreSpec {
    /// The tag of the keys that go there.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::DynamoDb(config) => config.kind.tag(),
            Self::ParameterStore(_) => "param",
            Self::S3(_) => "blob",
            Self::SecretsManager(_) => "secret",
        }
    }

    fn build(self, sdk: &SdkConfig) -> Arc<dyn Store> {
        match self {
            Self::DynamoDb(config) => Arc::new(DynamoDbStore::new(sdk, config)),
            Self::ParameterStore(config) => Arc::new(ParameterStore::new(sdk, &config)),
            Self::S3(config) => Arc::new(S3Store::new(sdk, &config)),
            Self::SecretsManager(config) => Arc::new(SecretsManagerStore::new(sdk, config)),
        }
    }
}

// === impl UnknownTag ===

impl UnknownTag {
    /// The tags there are, with `_config_`, comma-separated.
    pub fn known(&self) -> &str {
        &self.known
    }
}

// === impl Stores ===

impl Stores {
    /// Builds every store.
    pub fn build(specs: impl IntoIterator<Item = StoreSpec>, sdk: &SdkConfig) -> Self {
        Self(
            specs
                .into_iter()
                .map(|spec| (spec.tag(), spec.build(sdk)))
                .collect(),
        )
    }

    /// These stores, for tests.
    pub fn from_parts(parts: Vec<(&'static str, Arc<dyn Store>)>) -> Self {
        Self(parts)
    }

    /// The store of a tag.
    pub fn route(&self, tag: &str) -> Result<&Arc<dyn Store>, UnknownTag> {
        self.0
            .iter()
            .find(|(known, _)| *known == tag)
            .map(|(_, store)| store)
            .ok_or_else(|| self.unknown_tag())
    }

    /// The store whose backend has this name, as change events give it.
    pub fn by_backend(&self, name: &str) -> Option<&Arc<dyn Store>> {
        self.all().find(|store| store.backend().0 == name)
    }

    /// All stores.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Store>> {
        self.0.iter().map(|(_, store)| store)
    }

    /// The names of all backends, each once.
    pub fn backends(&self) -> Vec<Backend> {
        let mut backends: Vec<Backend> = Vec::new();
        for store in self.all() {
            if !backends.contains(&store.backend()) {
                backends.push(store.backend());
            }
        }
        backends
    }

    /// The error that lists the known tags.
    pub fn unknown_tag(&self) -> UnknownTag {
        let known = self.0.iter().fold(String::new(), |mut list, (tag, _)| {
            let _ = write!(
                list,
                "{}{tag}_config_",
                if list.is_empty() { "" } else { ", " }
            );
            list
        });
        UnknownTag { known }
    }
}

//! The strategies: one file per backend, each a [`Store`](tagged_config_domain::Store), and the one factory
//! that knows them all. config-service calls its backends' SDKs from here only; `auth` reads signing keys from S3, and the
//! functions and the load test have clients of their own.
//!
//! To add a backend: implement `Store` in a file here, add its spec to [`StoreSpec`], wire it in
//! [`factory`]. Nothing else changes.

pub mod aws;
pub mod bulkhead;
pub mod dynamodb;
pub mod factory;
mod fair_queue;
pub mod history;
pub mod journal;
mod overlay;
pub mod parameter_store;
mod partiql;
pub mod s3;
pub mod secrets_manager;
mod versions;

pub use bulkhead::Bulkhead;
pub use dynamodb::{DynamoDbConfig, DynamoDbStore, Kind};
pub use factory::{StoreSpec, Stores, UnknownTag};
pub use history::{History, HistoryConfig, NewEntry};
pub use journal::{ChangeId, ChangeKind, Entry, Journal};
pub use overlay::owner_and_name;
pub use parameter_store::{ParameterStore, ParameterStoreConfig};
pub use s3::{S3Config, S3Store};
pub use secrets_manager::{SecretsManagerConfig, SecretsManagerStore};

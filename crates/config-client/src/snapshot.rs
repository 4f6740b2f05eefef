//! What is known of a tenant's keys at one moment.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use serde::de::DeserializeOwned;
use tagged_config_proto::v1::{BatchGetConfigResponse, GetConfigResponse, KeyError};
use thiserror::Error;
use tonic::Code;

/// Keys and what they hold. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    entries: HashMap<String, Arc<Entry>>,
    failed: HashMap<String, Code>,
}

/// One key's value.
#[derive(Debug)]
pub struct Entry {
    response: GetConfigResponse,
    /// The value as the first type that it was asked for as.
    parsed: OnceLock<(TypeId, Arc<dyn Any + Send + Sync>)>,
}

/// Why there is no value of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// config-service could not read the key.
    #[error("config-service could not read {key} ({code:?})")]
    Failed {
        /// Which.
        key: String,
        /// Why.
        code: Code,
    },
    /// The value is no JSON of that type. The message does not quote it.
    #[error("{key} is not as expected: {category} error in its JSON")]
    Malformed {
        /// Which.
        key: String,
        /// What kind of error: "syntax", "data" or "eof".
        category: &'static str,
    },
}

// === impl Entry ===

impl Entry {
    fn new(response: GetConfigResponse) -> Arc<Self> {
        Arc::new(Self {
            response,
            parsed: OnceLock::new(),
        })
    }

    /// As config-service gave it; `freshness` fields are of that moment.
    pub fn response(&self) -> &GetConfigResponse {
        &self.response
    }

    fn parse<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
    ) -> Result<Arc<T>, serde_json::Error> {
        let wanted = TypeId::of::<T>();
        if let Some((kept, value)) = self.parsed.get()
            && *kept == wanted
            && let Ok(value) = Arc::clone(value).downcast::<T>()
        {
            return Ok(value);
        }
        let value = Arc::new(serde_json::from_str::<T>(&self.response.value)?);
        // Another type came first: this one is parsed each time.
        let _ = self
            .parsed
            .set((wanted, Arc::clone(&value) as Arc<dyn Any + Send + Sync>));
        Ok(value)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// A key's value as it is, `None` if it has none (or could not be read: see [`Self::failures`]).
    pub fn entry(&self, key: &str) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// A key's JSON value as a type, `None` if it has none. Parsed once for each change.
    pub fn get<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> Result<Option<Arc<T>>, ReadError> {
        if let Some(code) = self.failed.get(key) {
            return Err(ReadError::Failed {
                key: key.to_owned(),
                code: *code,
            });
        }
        let Some(entry) = self.entries.get(key) else {
            return Ok(None);
        };
        entry.parse().map(Some).map_err(|error| {
            use serde_json::error::Category;
            ReadError::Malformed {
                key: key.to_owned(),
                category: match error.classify() {
                    Category::Syntax | Category::Io => "syntax",
                    Category::Data => "data",
                    Category::Eof => "eof",
                },
            }
        })
    }

    /// All values, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// Keys that config-service could not read.
    pub fn failures(&self) -> impl Iterator<Item = (&str, Code)> {
        self.failed.iter().map(|(key, code)| (key.as_str(), *code))
    }

    pub(crate) fn upsert(&mut self, response: GetConfigResponse) {
        self.failed.remove(&response.key);
        self.entries
            .insert(response.key.clone(), Entry::new(response));
    }

    pub(crate) fn delete(&mut self, key: &str) {
        self.failed.remove(key);
        self.entries.remove(key);
    }

    /// Where the source did not answer, a last known value stays, and says that it is stale; another failure is an answer.
    pub(crate) fn fail(&mut self, error: KeyError) {
        let code = Code::from_i32(error.code);
        let passes = matches!(
            code,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
        );
        if let Some(known) = self.entries.get(&error.key).filter(|_| passes) {
            let response = GetConfigResponse {
                stale: true,
                ..known.response.clone()
            };
            self.upsert(response);
        } else {
            self.entries.remove(&error.key);
            self.failed.insert(error.key, code);
        }
    }

    pub(crate) fn add(&mut self, batch: BatchGetConfigResponse) {
        for entry in batch.entries {
            self.upsert(entry);
        }
        for error in batch.errors {
            self.fail(error);
        }
    }
}

impl From<BatchGetConfigResponse> for Snapshot {
    fn from(batch: BatchGetConfigResponse) -> Self {
        let mut snapshot = Self::default();
        snapshot.add(batch);
        snapshot
    }
}

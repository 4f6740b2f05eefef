//! The vocabulary of Tagged Config: who calls ([`TenantId`], [`Principal`]), what they request
//! ([`ConfigKey`]), what comes back ([`Record`], [`Revision`]) and who answers ([`Store`]).
//!
//! Imports no AWS SDK and no transport. Nothing here is serialisable: the crates at the edge convert.
//! Used by every other crate of the workspace.

pub mod admission;
pub mod history;
pub mod identity;
pub mod json;
pub mod key;
pub mod location;
pub mod record;
pub mod store;

pub use admission::{Admitted, AnswerPermit, Gate, Quota, Refused, Resource};
pub use history::{Author, ChangeOperation, HistoryEntry, HistoryPage, HistoryRequest};
pub use identity::{
    Principal, Role, TenantId,
    token::{SigningKeys, TokenError, TokenRules},
};
pub use key::{ConfigKey, ConfigName, KeyError, KeyPrefix};
pub use location::{Backend, Layers, Location, LocationId, Origin};
pub use record::{Check, Content, Record, Remote, Revision, Value};
pub use store::{
    BulkChange, CountOfOthers, Current, DEFAULT_MAX_VALUE_BYTES, ListPage, ListRequest, NewValue,
    Operation, Order, Precondition, Store, StoreError, ValueStream, VersionClock, Written,
};

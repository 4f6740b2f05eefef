//! The trait that every backend implements, and its errors. To add a backend: implement [`Store`] in a
//! file of its own in the stores crate, add its spec, and wire it in the factory.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use thiserror::Error;

use crate::{
    Admitted, Author, Backend, ConfigKey, ConfigName, HistoryPage, HistoryRequest, Layers,
    Location, LocationId, Quota, Record, Role, TenantId,
    record::{Content, Remote, Value},
};

/// The bytes of a value, as they arrive.
pub type ValueStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// Whether a name is counted.
pub type IsCounted = Arc<dyn for<'n> Fn(&'n str) -> bool + Send + Sync>;
/// Whether a value matches.
pub type IsMatching = Arc<dyn for<'v> Fn(&'v Value) -> bool + Send + Sync>;

/// The largest value of a backend that says nothing else, in bytes.
pub const DEFAULT_MAX_VALUE_BYTES: usize = 256 * 1024;

/// Where configuration of one kind is kept. Implementations are shared between all requests.
///
/// `locate` is the only way from a caller to a place, and takes the verified tenant; what it returns is
/// what may be read.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The backend's name.
    fn backend(&self) -> Backend;

    /// What decides which of two values of one location is the newer.
    fn order(&self) -> Order;

    /// The reads of this backend that one tenant may cause in one process, in the units that [`Self::read_units`] counts.
    /// Chosen so that one tenant cannot use up what the backend gives all of them.
    fn read_quota(&self) -> Quota {
        // At once: a batch of 100 of the largest values.
        Quota {
            per_second: 1_000,
            burst: 8_000,
        }
    }

    /// What a read that returned so many bytes costs; at least 1.
    fn read_units(&self, bytes: u64) -> u32 {
        let _ = bytes;
        1
    }

    /// The largest value that [`Self::put`] takes, in bytes.
    fn max_value_bytes(&self) -> usize {
        DEFAULT_MAX_VALUE_BYTES
    }

    /// Who may write here.
    fn written_by(&self) -> Role {
        Role::Writer
    }

    /// Whether callers write here.
    fn is_writable(&self) -> bool {
        true
    }

    /// Whether [`Self::history`] has every change with who made it.
    fn keeps_history(&self) -> bool {
        true
    }

    /// Whether it keeps any bytes; otherwise values are text.
    fn keeps_bytes(&self) -> bool {
        false
    }

    /// The key of what lies there, and whose it is, as the history's partitions are called (`TENANT#<tenantId>`, or `GLOBAL`
    /// for what all share); `None` for what holds no configuration.
    fn key_at(&self, _id: &LocationId) -> Option<(String, ConfigKey)> {
        None
    }

    /// The places where this name of this tenant may lie.
    fn locate(&self, tenant: &TenantId, name: ConfigName<'_>) -> Layers;

    /// What lies at these places now, in their order, as consistently as the backend can read. One call to
    /// the backend where it can answer them together. Secrets come without their value.
    async fn read(
        &self,
        admitted: &Admitted,
        locations: &[Location],
    ) -> Result<Vec<Option<Record>>, StoreError>;

    /// One place with its value, also if it is a secret. Never cached.
    async fn reveal(
        &self,
        admitted: &Admitted,
        location: &Location,
    ) -> Result<Option<Record>, StoreError> {
        Ok(self
            .read(admitted, std::slice::from_ref(location))
            .await?
            .pop()
            .flatten())
    }

    /// The bytes of a value that [`Self::read`] left in the backend, in this range, which lies within it. Never cached, and
    /// in memory piece by piece.
    async fn open(
        &self,
        _admitted: &Admitted,
        _location: &Location,
        _remote: &Remote,
        _range: Range<u64>,
    ) -> Result<ValueStream, StoreError> {
        Err(StoreError::Malformed {
            reason: "a value of this backend is always read whole",
        })
    }

    /// A page of the tenant's own names, in byte order, read consistently. A backend whose listing has no values gives
    /// [`Value::Remote`].
    async fn list(
        &self,
        _admitted: &Admitted,
        _request: &ListRequest<'_>,
    ) -> Result<ListPage, StoreError> {
        Err(StoreError::Unsupported {
            backend: self.backend(),
            operation: Operation::List,
            instead: "",
        })
    }

    /// Counts the values of other tenants whose names begin so: those that `is_counted`, and among them those that
    /// `is_matching` says so of, which may take long. Nothing else of them leaves the store. For the operators' tenant alone.
    async fn count_others(
        &self,
        _admitted: &Admitted,
        _prefix: &str,
        _is_counted: IsCounted,
        _is_matching: IsMatching,
    ) -> Result<CountOfOthers, StoreError> {
        Err(StoreError::Unsupported {
            backend: self.backend(),
            operation: Operation::List,
            instead: "",
        })
    }

    /// Writes the tenant's own value and returns it as it now stands, and whether the key is new.
    async fn put(
        &self,
        _admitted: &Admitted,
        _name: ConfigName<'_>,
        _value: NewValue<'_>,
        _precondition: Precondition,
    ) -> Result<Written, StoreError> {
        Err(StoreError::Unsupported {
            backend: self.backend(),
            operation: Operation::Put,
            instead: "",
        })
    }

    /// Deletes the tenant's own value and returns the deletion's version. A key that does not exist is
    /// [`StoreError::NotFound`] whatever the precondition is (RFC 9110, section 13.2.1).
    async fn delete(
        &self,
        _admitted: &Admitted,
        _name: ConfigName<'_>,
        _precondition: Precondition,
        _author: Author<'_>,
    ) -> Result<i64, StoreError> {
        Err(StoreError::Unsupported {
            backend: self.backend(),
            operation: Operation::Delete,
            instead: "",
        })
    }

    /// Writes and deletes several of the tenant's own values, all or none, and returns their versions in the same order.
    /// At most [`MAX_BULK_CHANGES`].
    async fn change_all(
        &self,
        _admitted: &Admitted,
        _changes: &[BulkChange<'_>],
        _author: Author<'_>,
    ) -> Result<Vec<i64>, StoreError> {
        Err(StoreError::Unsupported {
            backend: self.backend(),
            operation: Operation::Put,
            instead: "",
        })
    }

    /// The changes of one place, newest first. A backend that keeps no author gives
    /// [`UNKNOWN`](crate::history::UNKNOWN).
    async fn history(
        &self,
        _admitted: &Admitted,
        _location: &Location,
        _request: &HistoryRequest<'_>,
    ) -> Result<HistoryPage, StoreError> {
        Err(StoreError::Unsupported {
            backend: self.backend(),
            operation: Operation::History,
            instead: "",
        })
    }

    /// A page of what the tenant's own names held at this time (unix milliseconds), in byte order.
    async fn list_as_of(
        &self,
        _admitted: &Admitted,
        _request: &ListRequest<'_>,
        _at_ms: i64,
    ) -> Result<ListPage, StoreError> {
        Err(StoreError::Unsupported {
            backend: self.backend(),
            operation: Operation::History,
            instead: "",
        })
    }
}

/// How many values of other tenants were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountOfOthers {
    /// Those that were looked at.
    pub checked: u64,
    /// Those of them that match.
    pub matching: u64,
    /// Whether all were looked at.
    pub is_complete: bool,
}

/// The most changes that a backend makes all or none. DynamoDB: 100 items in one transaction, up to five for each change.
pub const MAX_BULK_CHANGES: usize = 20;

/// How the values of one location are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Reads are consistent, revisions may go back (hand edits): in doubt, a read that begins now
    /// is right.
    ConsistentReads,
    /// Reads may see an old copy, revisions never go back: the higher revision is right.
    Revisions,
}

/// A value to be written; it was checked against its content type.
#[derive(Clone, Copy, Debug)]
pub struct NewValue<'a> {
    /// The value, in memory: text, unless the backend keeps bytes.
    pub value: &'a Value,
    /// Its media type.
    pub content_type: &'a str,
    /// Who writes it.
    pub author: Author<'a>,
    /// Whether it is the value of an earlier version, written again.
    pub is_rollback: bool,
}

/// One of several changes that are made all or none.
#[derive(Clone, Debug)]
pub struct BulkChange<'a> {
    /// Of this name.
    pub name: ConfigName<'a>,
    /// The value that comes back, and its media type; `None` to delete it.
    pub value: Option<(Value, String)>,
    /// What must hold of the name.
    pub precondition: Precondition,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What the key now holds.
    pub record: Record,
    /// Whether the key did not exist before.
    pub created: bool,
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    None,
    /// The key does not exist.
    Absent,
    /// The key exists.
    Exists,
    /// The key exists with this version.
    Version(i64),
    /// The key exists with one of these contents. Never holds if there are none.
    OneOf(Vec<Content>),
    /// The key does not exist, or with none of these contents.
    NoneOf(Vec<Content>),
    /// Both hold.
    Both(Box<Self>, Box<Self>),
}

/// What is known of an existing key when a precondition is checked.
#[derive(Clone, Copy, Debug)]
pub struct Current {
    /// The version, 0 if it has none.
    pub version: i64,
    /// The content; `None` if what is stored is malformed, so that it equals no content.
    pub content: Option<Content>,
}

/// Which names to list.
#[derive(Clone, Copy, Debug)]
pub struct ListRequest<'a> {
    /// What the names begin with; may be empty.
    pub prefix: &'a str,
    /// Names after this one.
    pub after: Option<&'a str>,
    /// At most this many, 1 or more.
    pub limit: usize,
}

/// Some of a tenant's names.
#[derive(Debug, Default)]
pub struct ListPage {
    /// Names and what lies there; a record that cannot be served is an error of its own.
    pub entries: Vec<(String, Result<Record, StoreError>)>,
    /// Where the next page begins, if there is one.
    pub next_after: Option<String>,
}

/// The operations that not every backend offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Store::list`]
    List,
    /// [`Store::put`]
    Put,
    /// [`Store::delete`]
    Delete,
    /// [`Store::history`]
    History,
}

/// A store's failure. `Display` names the object and never its source.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The backend did not answer, or with an error of its own.
    #[error("{backend} is unavailable")]
    Unavailable {
        /// Which backend.
        backend: Backend,
        /// What the SDK said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The backend did not answer in time.
    #[error("{backend} did not answer in time")]
    TimedOut {
        /// Which backend.
        backend: Backend,
    },
    /// The backend, or our own limit in front of it, refuses more calls for now.
    #[error("{backend} refuses more calls for now")]
    Throttled {
        /// Which backend.
        backend: Backend,
    },
    /// Our credentials are refused, or the table, key or path is not there: a fault of the deployment.
    #[error("{backend} refuses this service: {reason}")]
    Refused {
        /// Which backend.
        backend: Backend,
        /// The backend's own error code; of a denied call also its message, which names caller, action and resource.
        reason: String,
    },
    /// What lies there cannot be served.
    #[error("the stored value is malformed: {reason}")]
    Malformed {
        /// Why, without the value.
        reason: &'static str,
    },
    /// The precondition does not hold.
    #[error("the precondition does not hold")]
    Conflict {
        /// The version that is there, `None` if the key is absent.
        current: Option<i64>,
    },
    /// Other writers won every attempt.
    #[error("other writers were faster in every attempt")]
    Contended,
    /// There is nothing to delete.
    #[error("the key does not exist")]
    NotFound,
    /// The backend keeps text, and the value is none.
    #[error("the value is not UTF-8, and {backend} keeps text")]
    NotText {
        /// Which backend.
        backend: Backend,
    },
    /// The value is larger than the backend takes.
    #[error("the value has {actual} bytes, {backend} takes at most {limit}")]
    TooLarge {
        /// Which backend.
        backend: Backend,
        /// Its limit in bytes.
        limit: usize,
        /// The value's bytes.
        actual: usize,
    },
    /// The stored version is the largest there is.
    #[error("the stored version cannot be raised any more; delete the key first")]
    VersionExhausted,
    /// The backend does not offer this here.
    #[error("this service does not {operation} keys in {backend}{instead}")]
    Unsupported {
        /// Which backend.
        backend: Backend,
        /// Which operation.
        operation: Operation,
        /// What to do instead, as the sentence goes on; or empty.
        instead: &'static str,
    },
}

/// Gives versions from the clock, so that they survive delete and recreate without a tombstone.
#[derive(Debug)]
pub struct VersionClock {
    now_ms: fn() -> i64,
}

// === impl Precondition ===

impl Precondition {
    /// Both this and the other one. [`Precondition::None`] adds nothing.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, one) | (one, Self::None) => one,
            (one, other) => Self::Both(Box::new(one), Box::new(other)),
        }
    }

    /// [`StoreError::Conflict`] if it does not hold; `current` is `None` if the key does not exist.
    pub fn check(&self, current: Option<Current>) -> Result<(), StoreError> {
        if self.holds(current) {
            Ok(())
        } else {
            Err(StoreError::Conflict {
                current: current.map(|current| current.version),
            })
        }
    }

    fn holds(&self, current: Option<Current>) -> bool {
        let content = current.and_then(|current| current.content);
        let is_one_of = |these: &[Content]| content.is_some_and(|content| these.contains(&content));
        match self {
            Self::None => true,
            Self::Absent => current.is_none(),
            Self::Exists => current.is_some(),
            Self::Version(version) => current.is_some_and(|current| current.version == *version),
            Self::OneOf(contents) => is_one_of(contents),
            Self::NoneOf(contents) => !is_one_of(contents),
            Self::Both(one, other) => one.holds(current) && other.holds(current),
        }
    }
}

impl From<&Record> for Current {
    fn from(record: &Record) -> Self {
        Self {
            version: record.revision.version,
            content: Some(record.content()),
        }
    }
}

// === impl Operation ===

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Put => "write",
            Self::Delete => "delete",
            Self::History => "keep the history of",
        })
    }
}

// === impl StoreError ===

impl StoreError {
    /// Whether the backend did answer, with something that cannot be served: then the last known value is no
    /// substitute for it.
    pub fn is_an_answer(&self) -> bool {
        matches!(self, Self::Malformed { .. })
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::Throttled { .. }
            | Self::Contended => true,
            Self::Refused { .. }
            | Self::Malformed { .. }
            | Self::Conflict { .. }
            | Self::NotFound
            | Self::NotText { .. }
            | Self::TooLarge { .. }
            | Self::VersionExhausted
            | Self::Unsupported { .. } => false,
        }
    }
}

// === impl VersionClock ===

/// The largest version: what JSON numbers hold exactly. A stored one beyond it counts as none.
pub const MAX_VERSION: i64 = (1 << 53) - 1;

/// How far a version may be ahead of the clock for a write to wait until the clock has reached it.
const MAX_AHEAD_MS: i64 = 1_000;

impl VersionClock {
    /// On the system's clock.
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    /// On this clock (unix milliseconds).
    pub fn new(now_ms: fn() -> i64) -> Self {
        Self { now_ms }
    }

    /// Unix milliseconds now.
    pub fn now_ms(&self) -> i64 {
        (self.now_ms)()
    }

    /// `max(old + 1, unix milliseconds)`, or `None` if that is more than [`MAX_VERSION`].
    pub fn next(&self, old: i64) -> Option<i64> {
        Some(old.checked_add(1)?.max(self.now_ms())).filter(|version| *version <= MAX_VERSION)
    }

    /// How long until the clock reaches this version: a write is sent no earlier, so that whatever is given
    /// from the clock later is higher. `None` for one too far ahead to wait for (a hand edit's successor).
    pub fn until(&self, version: i64) -> Option<Duration> {
        let ahead = version.saturating_sub(self.now_ms()).max(0);
        (ahead <= MAX_AHEAD_MS).then(|| Duration::from_millis(ahead.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Revision;

    #[test]
    fn preconditions_hold_for_the_content_that_is_there() {
        let revision = |version| Revision {
            incarnation: 0,
            version,
        };
        let record =
            |value: &str, version| Record::new(value, "text/plain", revision(version), None);
        let (one, other) = (record("1", 7), record("2", 7));
        let there = Some(Current::from(&one));
        let malformed = Some(Current {
            version: 7,
            content: None,
        });
        let one_of = |records: &[&Record]| {
            Precondition::OneOf(records.iter().map(|record| record.content()).collect())
        };
        let none_of = |records: &[&Record]| {
            Precondition::NoneOf(records.iter().map(|record| record.content()).collect())
        };
        for (precondition, current, holds) in [
            (Precondition::Absent, there, false),
            (Precondition::Absent, None, true),
            (Precondition::Exists, malformed, true),
            (Precondition::Version(7), malformed, true),
            (Precondition::Version(0), None, false),
            (one_of(&[]), there, false),
            (one_of(&[&other, &one]), there, true),
            (one_of(&[&other]), there, false),
            (one_of(&[&one]), None, false),
            (one_of(&[&one]), malformed, false),
            (none_of(&[&one]), there, false),
            (none_of(&[&other]), there, true),
            (none_of(&[&one]), None, true),
            (none_of(&[&one]), malformed, true),
            (one_of(&[&one]).and(none_of(&[&one])), there, false),
            (one_of(&[&one]).and(none_of(&[&other])), there, true),
            (one_of(&[&other]).and(none_of(&[&other])), there, false),
            (Precondition::None.and(one_of(&[])), there, false),
        ] {
            assert_eq!(
                precondition.check(current).is_ok(),
                holds,
                "{precondition:?} {current:?}"
            );
        }
    }

    #[test]
    fn versions_follow_the_clock_and_what_is_there() {
        let clock = VersionClock::new(|| 1_000);
        assert_eq!(clock.next(0), Some(1_000));
        assert_eq!(clock.next(1_000), Some(1_001));
        assert_eq!(
            clock.next(9_000_000),
            Some(9_000_001),
            "a hand edit far ahead is followed"
        );
        assert_eq!(clock.next(MAX_VERSION), None);
        assert_eq!(clock.next(i64::MAX), None);
    }

    #[test]
    fn a_write_waits_until_the_clock_has_reached_its_version() {
        let clock = VersionClock::new(|| 1_000);
        assert_eq!(clock.until(900), Some(Duration::ZERO));
        assert_eq!(clock.until(1_011), Some(Duration::from_millis(11)));
        assert_eq!(clock.until(MAX_VERSION), None);
    }
}

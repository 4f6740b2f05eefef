//! The configuration of one tenant at one moment, and how a new answer follows the values known before it.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use tagged_config_proto::v1::{BatchGetConfigResponse, GetConfigResponse, KeyError};
use thiserror::Error;
use tokio::time::Instant;
use tonic::Code;

use crate::values::{self, Fault, Flag};

/// The state of each key. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) keys: HashMap<Arc<str>, Known>,
}

/// One key's value.
#[derive(Clone, Debug)]
pub struct Entry {
    response: GetConfigResponse,
    /// The value, as the first type that was read.
    parsed: Arc<OnceLock<(TypeId, Arc<dyn Any + Send + Sync>)>>,
    /// When this version was first received.
    received_at: Instant,
    /// The watch or call that gave it.
    source: u64,
    /// When the value was last known to be current, if it is stale.
    stale_since: Option<Instant>,
}

/// The state of one key.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// It has a value.
    Value(Arc<Entry>),
    /// It has none.
    Absent {
        /// When that was last known to be so, if it is stale.
        stale_since: Option<Instant>,
    },
    /// config-service could not read it.
    Failed(Failure),
}

/// Why config-service could not read a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// gRPC's code.
    pub code: Code,
    /// config-service's message. It never holds a value.
    pub message: String,
}

/// Why there is no value of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The key is not in the snapshot: it is not among [`CacheConfig::keys`](crate::CacheConfig::keys).
    #[error("{key} is not a key that the cache keeps")]
    NotKept {
        /// Which.
        key: String,
    },
    /// config-service could not read the key.
    #[error("config-service could not read {key} ({:?}: {})", failure.code, failure.message)]
    Failed {
        /// Which.
        key: String,
        /// Why.
        failure: Failure,
    },
    /// The value is no JSON of that type. The message does not quote it.
    #[error("{key} is not as expected: {category} error in its JSON at {at}")]
    Malformed {
        /// Which.
        key: String,
        /// The field, such as `discountPercent`; "." is the whole value.
        at: String,
        /// What kind of error: "syntax", "data" or "eof".
        category: &'static str,
    },
    /// The value is readable and has another shape than the wanted one.
    #[error("{key} is not as expected: {problem}")]
    Mismatch {
        /// Which.
        key: String,
        /// What is wrong; never the value.
        problem: &'static str,
    },
    /// The value is nested too deep to be parsed.
    #[error(
        "{key} is nested too deep: at most {} levels can be read",
        values::MAX_NESTING
    )]
    TooDeep {
        /// Which.
        key: String,
    },
}

/// What decides how a new state follows a previous one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Succession {
    /// Now.
    pub(crate) now: Instant,
    /// When the previous states were last known to be current.
    pub(crate) confirmed_at: Instant,
    /// How old a value may get that stands in for a failed read.
    pub(crate) max_stale: Duration,
    /// How long a change may stay unseen by a task of config-service.
    pub(crate) staleness_bound: Duration,
}

/// A state that follows a previous one.
pub(crate) struct Successor<T> {
    pub(crate) state: T,
    /// Whether the previous state was kept in place of the new one.
    pub(crate) is_kept: bool,
    /// When a kept state ends, if time alone can change the result.
    pub(crate) due: Option<Instant>,
}

// === impl Entry ===

impl Entry {
    pub(crate) fn new(response: GetConfigResponse, received_at: Instant, source: u64) -> Self {
        Self {
            stale_since: response.stale.then_some(received_at),
            response,
            parsed: Arc::default(),
            received_at,
            source,
        }
    }

    /// As config-service gave it; `freshness` fields are of that moment.
    pub fn response(&self) -> &GetConfigResponse {
        &self.response
    }

    /// Whether the content type says JSON. An absent one is JSON.
    pub fn is_json(&self) -> bool {
        values::is_json(&self.response.content_type)
    }

    fn stale_copy(&self, since: Instant) -> Self {
        let mut copy = self.clone();
        copy.response.stale = true;
        copy.stale_since = Some(since);
        copy
    }

    /// How long another task may not know this version.
    fn staleness_bound(&self, rules: &Succession) -> Duration {
        let own = u64::try_from(self.response.staleness_bound_ms).unwrap_or(0);
        if own == 0 {
            rules.staleness_bound
        } else {
            Duration::from_millis(own)
        }
    }

    fn has_origin_of(&self, other: &Self) -> bool {
        self.response.origin == other.response.origin
    }

    fn has_content_of(&self, other: &Self) -> bool {
        let (one, two) = (&self.response, &other.response);
        one.value == two.value
            && one.data == two.data
            && one.omitted_bytes == two.omitted_bytes
            // Of a value that was left out, only the tag shows a change.
            && (one.omitted_bytes == 0 || one.etag == two.etag)
            && one.content_type == two.content_type
    }

    fn text(&self) -> Result<&str, Fault> {
        let GetConfigResponse {
            value,
            data,
            omitted_bytes,
            ..
        } = &self.response;
        if *omitted_bytes > 0 {
            let large = "it is too large for an event; read it with GetConfig or over REST";
            Err(Fault::Mismatch(large))
        } else if data.is_empty() {
            Ok(value)
        } else {
            std::str::from_utf8(data).map_err(|_| Fault::Mismatch("it is not UTF-8"))
        }
    }

    /// The value as a type. The first type is kept; another one is made each time.
    fn parsed<T: Send + Sync + 'static>(
        &self,
        parse: impl FnOnce(&str, bool) -> Result<T, Fault>,
    ) -> Result<Arc<T>, Fault> {
        let wanted = TypeId::of::<T>();
        if let Some((kept, value)) = self.parsed.get()
            && *kept == wanted
            && let Ok(value) = Arc::clone(value).downcast::<T>()
        {
            return Ok(value);
        }
        let value = Arc::new(parse(self.text()?, self.is_json())?);
        let _ = self
            .parsed
            .set((wanted, Arc::clone(&value) as Arc<dyn Any + Send + Sync>));
        Ok(value)
    }
}

// === impl Failure ===

impl Failure {
    /// Of a secret: a watch announces its changes, and never its value.
    pub(crate) fn secret() -> Self {
        Self {
            code: Code::Unimplemented,
            message: "secrets are not kept; read them with GetConfig".to_owned(),
        }
    }

    /// Whether the source did not answer, so that the last known state stands in. Another failure is an answer.
    pub(crate) fn is_passing(&self) -> bool {
        is_passing(self.code)
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self {
            code: Code::from_i32(error.code),
            message: error.message,
        }
    }
}

/// Codes of a read that may succeed when it is repeated.
pub(crate) fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
    )
}

// === impl Known ===

impl Known {
    pub(crate) const ABSENT: Self = Self::Absent { stale_since: None };

    /// The state after config-service gave this one. A pure function; watches and calls share it.
    ///
    /// - stale-if-error: where the source did not answer, the previous state stands in up to its maximum age, marked stale.
    /// - Versions of one origin do not go back: another task may not have seen the last change yet. It has after the
    ///   staleness bound, so that a version that was lowered by hand gets through then. One watch or call may go back
    ///   at once: a task of config-service never replaces a newer value by an older one.
    fn succeeding(&self, previous: &Self, rules: &Succession) -> Successor<Self> {
        let taken = |state| Successor {
            state,
            is_kept: false,
            due: None,
        };
        let kept = |state, due| Successor {
            state,
            is_kept: true,
            due: Some(due),
        };
        match (self, previous) {
            (Self::Failed(failure), Self::Value(_) | Self::Absent { .. })
                if failure.is_passing() =>
            {
                let since = previous.stale_since().unwrap_or(rules.confirmed_at);
                let due = since + rules.max_stale;
                if rules.now >= due {
                    return taken(self.clone());
                }
                kept(previous.stale_copy(since), due)
            }
            (Self::Value(new), Self::Value(old)) if new.has_origin_of(old) => {
                let since = old.stale_since.unwrap_or(rules.confirmed_at);
                if new.response.version < old.response.version && new.source != old.source {
                    if new.response.stale {
                        let due = since + rules.max_stale;
                        if rules.now < due {
                            return kept(previous.stale_copy(since), due);
                        }
                    } else {
                        let due = old.received_at + old.staleness_bound(rules);
                        if rules.now < due {
                            return kept(previous.clone(), due);
                        }
                    }
                }
                if new.response.version != old.response.version || !new.has_content_of(old) {
                    return taken(self.clone());
                }
                if new.source == old.source && new.response.stale == old.response.stale {
                    return taken(previous.clone());
                }
                let mut same = Entry::clone(new);
                same.parsed = Arc::clone(&old.parsed);
                same.received_at = old.received_at;
                same.stale_since = same.response.stale.then_some(since);
                taken(Self::Value(Arc::new(same)))
            }
            _ => taken(self.clone()),
        }
    }

    fn stale_since(&self) -> Option<Instant> {
        match self {
            Self::Value(entry) => entry.stale_since,
            Self::Absent { stale_since } => *stale_since,
            Self::Failed(_) => None,
        }
    }

    fn stale_copy(&self, since: Instant) -> Self {
        match self {
            Self::Value(entry) if entry.stale_since == Some(since) => self.clone(),
            Self::Value(entry) => Self::Value(Arc::new(entry.stale_copy(since))),
            Self::Absent { .. } => Self::Absent {
                stale_since: Some(since),
            },
            Self::Failed(_) => self.clone(),
        }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// A key's value as it is, `None` if it has none (or could not be read: see [`Self::failures`]).
    pub fn entry(&self, key: &str) -> Option<&Arc<Entry>> {
        match self.keys.get(key) {
            Some(Known::Value(entry)) => Some(entry),
            _ => None,
        }
    }

    /// A key's JSON value as a type, `None` if it has none. Parsed once for each change.
    pub fn get<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        key: &str,
    ) -> Result<Option<Arc<T>>, ReadError> {
        self.read(key, |text, _| values::json(text))
    }

    /// A key's value as a flag, `None` if it has none. Parsed once for each change.
    pub fn flag(&self, key: &str) -> Result<Option<Arc<Flag>>, ReadError> {
        self.read(key, Flag::parse)
    }

    /// A key's value as a number, to the digit: a JSON number, or a string or text that holds one.
    pub fn decimal(&self, key: &str) -> Result<Option<Decimal>, ReadError> {
        Ok(self.read(key, values::decimal)?.as_deref().copied())
    }

    /// A key's value as a string: a JSON string's content, a JSON number as it is written, or a text of another content type.
    pub fn string(&self, key: &str) -> Result<Option<Arc<String>>, ReadError> {
        self.read(key, values::string)
    }

    /// All values, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.keys.values().filter_map(|known| match known {
            Known::Value(entry) => Some(entry),
            _ => None,
        })
    }

    /// Keys that config-service could not read.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        self.keys.iter().filter_map(|(key, known)| match known {
            Known::Failed(failure) => Some((&**key, failure)),
            _ => None,
        })
    }

    fn read<T: Send + Sync + 'static>(
        &self,
        key: &str,
        parse: impl FnOnce(&str, bool) -> Result<T, Fault>,
    ) -> Result<Option<Arc<T>>, ReadError> {
        let named = || key.to_owned();
        let entry = match self.keys.get(key) {
            Some(Known::Value(entry)) => entry,
            Some(Known::Absent { .. }) => return Ok(None),
            Some(Known::Failed(failure)) => {
                return Err(ReadError::Failed {
                    key: named(),
                    failure: failure.clone(),
                });
            }
            None => return Err(ReadError::NotKept { key: named() }),
        };
        entry.parsed(parse).map(Some).map_err(|fault| match fault {
            Fault::Malformed { at, category } => ReadError::Malformed {
                key: named(),
                at,
                category,
            },
            Fault::Mismatch(problem) => ReadError::Mismatch {
                key: named(),
                problem,
            },
            Fault::TooDeep => ReadError::TooDeep { key: named() },
        })
    }

    /// This snapshot, with those states of the previous one that stay: see [`Known::succeeding`].
    pub(crate) fn succeeding(&self, previous: &Self, rules: &Succession) -> Successor<Self> {
        let mut whole = Successor {
            state: Self::default(),
            is_kept: false,
            due: None,
        };
        for (key, said) in &self.keys {
            let known = match previous.keys.get(key) {
                Some(previous) => {
                    let next = said.succeeding(previous, rules);
                    whole.is_kept |= next.is_kept;
                    whole.due = earlier(whole.due, next.due);
                    next.state
                }
                None => said.clone(),
            };
            whole.state.keys.insert(Arc::clone(key), known);
        }
        whole
    }

    /// Takes one key of what was said. Returns when time alone changes it.
    pub(crate) fn succeed_key(
        &mut self,
        key: &Arc<str>,
        said: &Self,
        rules: &Succession,
    ) -> Option<Instant> {
        let said = said.keys.get(key)?;
        let Some(previous) = self.keys.get_mut(key) else {
            self.keys.insert(Arc::clone(key), said.clone());
            return None;
        };
        let next = said.succeeding(previous, rules);
        *previous = next.state;
        next.due
    }

    /// This snapshot while nothing new comes: what is stale for longer than its maximum age has failed.
    pub(crate) fn aged(&self, rules: &Succession) -> Successor<Self> {
        let no_answer = Known::Failed(Failure {
            code: Code::Unavailable,
            message: "the last known value is too old".to_owned(),
        });
        let said = self.keys.iter().map(|(key, known)| {
            let is_stale = known.stale_since().is_some();
            let said = if is_stale { &no_answer } else { known };
            (Arc::clone(key), said.clone())
        });
        Self {
            keys: said.collect(),
        }
        .succeeding(self, rules)
    }

    /// The states that a batch's answer gives.
    pub(crate) fn of_batch(batch: BatchGetConfigResponse, now: Instant, source: u64) -> Self {
        let values = batch.entries.into_iter().map(|response| {
            let key = Arc::from(response.key.as_str());
            let known = if response.secret {
                Known::Failed(Failure::secret())
            } else {
                Known::Value(Arc::new(Entry::new(response, now, source)))
            };
            (key, known)
        });
        let absent = batch
            .missing
            .into_iter()
            .map(|key| (key.into(), Known::ABSENT));
        let failed = batch.errors.into_iter().map(|mut error| {
            let key = std::mem::take(&mut error.key);
            (key.into(), Known::Failed(error.into()))
        });
        Self {
            keys: values.chain(absent).chain(failed).collect(),
        }
    }
}

impl From<BatchGetConfigResponse> for Snapshot {
    fn from(batch: BatchGetConfigResponse) -> Self {
        Self::of_batch(batch, Instant::now(), 0)
    }
}

/// The earlier of two moments that may not exist.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

//! `blob_config_*`: the objects `tenants/<tenantId>/<name>` over `global/<name>` of one versioned bucket. Any bytes, with
//! their content type.
//!
//! S3 orders the versions of an object by time alone: its version ids are opaque, and its times have whole seconds. So order
//! is claimed by consistent reads (S3 gives what was written last), and among the service's own writes by a number of our
//! own, in the object's metadata: each write replaces exactly what it read (`If-Match`, `If-None-Match`), and gives a higher
//! one. What somebody wrote past the service has version 0, or that of the object which it was copied from, and is noticed by
//! its content. What was replaced or deleted stays in the bucket as a noncurrent version, until the bucket's lifecycle removes it.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::{
    Client,
    config::{http::HttpResponse, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    operation::{get_object::GetObjectOutput, head_object::HeadObjectOutput},
    primitives::{ByteStream, DateTime},
    types::{ChecksumAlgorithm, ChecksumMode},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use percent_encoding::{CONTROLS, percent_decode_str, utf8_percent_encode};
use tagged_config_domain::{
    Admitted, Author, Backend, ChangeOperation, ConfigKey, ConfigName, Current, HistoryEntry,
    HistoryPage, HistoryRequest, Layers, ListPage, ListRequest, Location, LocationId, NewValue,
    Order, Precondition, Quota, Record, Remote, Revision, Store, StoreError, TenantId, Value,
    ValueStream, VersionClock, Written,
    history::{UNKNOWN, sha256_of},
    store::MAX_VERSION,
};
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    aws::{OPERATION_TIMEOUT, store_error},
    bulkhead::{Bulkhead, Permit},
    history::{self, History, HistoryConfig, NewEntry, partition_of},
    journal::Entry,
    overlay,
    versions::{back_off, deletion_above, reach_version_above},
};

/// The backend's name.
pub const BACKEND: Backend = Backend("s3");
/// The largest value where nobody says otherwise, in bytes: API Gateway passes 10 MB.
pub const DEFAULT_MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;
/// The largest value that a read holds in memory where nobody says otherwise, in bytes.
pub const DEFAULT_HELD_BYTES: usize = 1024 * 1024;

/// Reads in flight, and of these, those of one tenant.
const MAX_READS: usize = 64;
const MAX_READS_OF_A_TENANT: usize = 8;
/// Streams open, and of these, those of one tenant. A stream lives as long as its reader takes.
const MAX_STREAMS: usize = 256;
const MAX_STREAMS_OF_A_TENANT: usize = 64;
/// Pages in flight, and of these, those of one tenant. A page reads the metadata of each of its objects.
const MAX_PAGES: usize = 8;
const MAX_PAGES_OF_A_TENANT: usize = 1;
/// Objects of one page that are asked for at once.
const PAGE_CONCURRENCY: usize = 16;
/// Writes in flight, and of these, those of one tenant.
const MAX_WRITES: usize = 16;
const MAX_WRITES_OF_A_TENANT: usize = 2;
/// What counts as one read, in bytes.
const READ_UNIT_BYTES: u64 = 64 * 1024;
/// How often a write starts over because another one came first.
const MAX_ATTEMPTS: u32 = 12;
/// What a write of a large value may take, and the beginning of a stream, which waits among others.
const LARGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Metadata: the version that the service gave.
const VERSION: &str = "version";
/// Metadata: when the service wrote it, in unix milliseconds. S3's own time has whole seconds.
const MODIFIED_MS: &str = "modified-ms";
/// Metadata: who wrote it, percent-encoded.
const MODIFIED_BY: &str = "modified-by";
/// Metadata: the writer's role.
const ROLE: &str = "modified-by-role";
/// Metadata: the request, percent-encoded.
const REQUEST_ID: &str = "request-id";
/// Metadata: why, percent-encoded.
const NOTE: &str = "note";
/// Metadata: "put" or "rollback".
const OPERATION: &str = "operation";
/// Versions of one object that its history shows, deletions included.
const MAX_HISTORY: i32 = 1_000;
/// Metadata: names one write, so that its writer recognises it if the answer was lost.
const WRITE: &str = "write";
/// What S3, and what SDKs say of an object that was written without a content type.
const NO_CONTENT_TYPE: [&str; 3] = ["", "binary/octet-stream", "application/octet-stream"];
/// How far the service's clock and S3's may be apart.
const SKEW_MS: i64 = 5_000;

/// Settings of [`S3Store`].
#[derive(Clone, Debug)]
pub struct S3Config {
    /// Where writes are noted for the tenant's history; S3 keeps what each version held.
    pub history: Option<HistoryConfig>,
    /// The bucket's name. It must be versioned.
    pub bucket: String,
    /// The largest value that is written, in bytes.
    pub max_value_bytes: usize,
    /// The largest value that a read holds in memory, and a cache keeps, in bytes. Larger ones are streamed.
    pub held_bytes: usize,
}

/// Reads objects.
#[derive(Clone, Debug)]
pub struct Objects {
    client: Client,
    bucket: Arc<str>,
    held_bytes: usize,
}

/// An object as it was read.
struct Object {
    record: Record,
    /// S3's own tag of it, for conditional writes.
    etag: String,
    /// Which write of the service it is of.
    write: Option<String>,
    version_id: Arc<str>,
}

/// The objects of a bucket.
pub struct S3Store {
    objects: Objects,
    history: Option<History>,
    max_value_bytes: usize,
    reads: Bulkhead,
    streams: Bulkhead,
    pages: Bulkhead,
    writes: Bulkhead,
    versions: VersionClock,
}

// === impl S3Config ===

impl S3Config {
    /// The defaults, with this bucket.
    pub fn of(bucket: impl Into<String>) -> Self {
        Self {
            history: None,
            bucket: bucket.into(),
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            held_bytes: DEFAULT_HELD_BYTES,
        }
    }
}

/// The place of an object, or `None` for one that holds no configuration.
pub fn location_of(key: &str) -> Option<LocationId> {
    overlay::holds_configuration(key).then(|| LocationId::new(BACKEND, key, ""))
}

// === impl Objects ===

impl Objects {
    /// The objects of a bucket, those of at most so many bytes with their values.
    pub fn new(sdk: &SdkConfig, bucket: &str, held_bytes: usize) -> Self {
        Self {
            client: Client::new(sdk),
            bucket: bucket.into(),
            held_bytes,
        }
    }

    /// What lies there now.
    pub async fn get(&self, id: &LocationId) -> Result<Option<Record>, StoreError> {
        Ok(self.object(id).await?.map(|object| object.record))
    }

    async fn object(&self, id: &LocationId) -> Result<Option<Object>, StoreError> {
        let answer = self
            .client
            .get_object()
            .bucket(&*self.bucket)
            .key(id.partition())
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) if is_code(&error, "NoSuchKey") => return Ok(None),
            Err(error) => return Err(store_error(BACKEND, error)),
        };
        let about = About::of_get(&answer);
        let value = if about.bytes > self.held_bytes as u64 {
            about.remote()
        } else {
            let body = std::mem::take(&mut answer.body);
            let body = timeout(OPERATION_TIMEOUT, body.collect())
                .await
                .map_err(|_| StoreError::TimedOut { backend: BACKEND })?;
            let body = body.map_err(broken_off)?.into_bytes();
            // What arrived is a part of the connection's buffer, which it would keep from being freed.
            Bytes::copy_from_slice(&body).into()
        };
        Ok(Some(about.object(value)))
    }

    /// The same, without its value.
    async fn head(&self, id: &LocationId) -> Result<Option<Object>, StoreError> {
        let answer = self
            .client
            .head_object()
            .bucket(&*self.bucket)
            .key(id.partition())
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let about = About::of_head(&answer);
                let value = about.remote();
                Ok(Some(about.object(value)))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(store_error(BACKEND, error)),
        }
    }
}

/// What S3 says of an object beside its bytes.
struct About {
    bytes: u64,
    version_id: Arc<str>,
    etag: String,
    content_type: Option<String>,
    version: i64,
    modified_ms: Option<i64>,
    /// Whether this service wrote it here.
    is_written: bool,
    write: Option<String>,
}

macro_rules! about {
    ($answer:expr) => {{
        let answer = $answer;
        let number = |name: &str| -> Option<i64> { answer.metadata()?.get(name)?.parse().ok() };
        let version = number(VERSION).filter(|version| (1..=MAX_VERSION).contains(version));
        let modified = answer.last_modified();
        let modified_ms = modified.and_then(|at: &DateTime| at.to_millis().ok());
        // A copy of an object has its metadata, and a time of its own.
        let own_ms = version.and(number(MODIFIED_MS)).filter(|own_ms| {
            modified_ms.is_none_or(|at| at.abs_diff(*own_ms) <= SKEW_MS.unsigned_abs())
        });
        About {
            bytes: u64::try_from(answer.content_length().unwrap_or_default()).unwrap_or_default(),
            // What S3 calls an object that was written before its bucket was versioned.
            version_id: answer.version_id().unwrap_or("null").into(),
            etag: answer.e_tag().unwrap_or_default().to_owned(),
            content_type: answer.content_type().map(ToOwned::to_owned),
            version: version.unwrap_or_default(),
            modified_ms: own_ms.or(modified_ms),
            is_written: own_ms.is_some(),
            write: answer
                .metadata()
                .and_then(|metadata| metadata.get(WRITE))
                .cloned(),
        }
    }};
}

// === impl About ===

impl About {
    fn of_get(answer: &GetObjectOutput) -> Self {
        about!(answer)
    }

    fn of_head(answer: &HeadObjectOutput) -> Self {
        about!(answer)
    }

    fn remote(&self) -> Value {
        Value::Remote(Remote {
            bytes: self.bytes,
            name: Arc::clone(&self.version_id),
        })
    }

    fn object(self, value: Value) -> Object {
        // One that a caller gave stays as it is.
        let given = self
            .content_type
            .filter(|given| self.version > 0 || !NO_CONTENT_TYPE.contains(&given.as_str()));
        let content_type = given.unwrap_or_else(|| match value.as_text() {
            Some(text) => Record::guess_content_type(text).to_owned(),
            None => "application/octet-stream".to_owned(),
        });
        let revision = Revision {
            incarnation: 0,
            version: self.version,
        };
        let record = Record::new(value, content_type, revision, self.modified_ms);
        Object {
            record: if self.is_written {
                record.written()
            } else {
                record
            },
            etag: self.etag,
            write: self.write,
            version_id: self.version_id,
        }
    }
}

// === impl S3Store ===

impl S3Store {
    /// A store over this bucket.
    pub fn new(sdk: &SdkConfig, config: &S3Config) -> Self {
        Self {
            objects: Objects::new(sdk, &config.bucket, config.held_bytes),
            history: config
                .history
                .clone()
                .map(|config| History::new(sdk, config)),
            max_value_bytes: config.max_value_bytes,
            reads: Bulkhead::new(MAX_READS, MAX_READS_OF_A_TENANT),
            streams: Bulkhead::new(MAX_STREAMS, MAX_STREAMS_OF_A_TENANT),
            pages: Bulkhead::new(MAX_PAGES, MAX_PAGES_OF_A_TENANT),
            writes: Bulkhead::new(MAX_WRITES, MAX_WRITES_OF_A_TENANT),
            versions: VersionClock::system(),
        }
    }

    async fn permit(bulkhead: &Bulkhead, tenant: &TenantId) -> Result<Permit, StoreError> {
        bulkhead
            .acquire(Some(tenant), OPERATION_TIMEOUT)
            .await
            .ok_or(StoreError::Throttled { backend: BACKEND })
    }

    async fn head(&self, id: LocationId) -> Result<Option<Object>, StoreError> {
        self.objects.head(&id).await
    }

    fn own(&self, admitted: &Admitted, name: ConfigName<'_>) -> LocationId {
        let layers = self.locate(admitted.tenant(), name);
        layers.first().id().clone()
    }

    /// What a write replaces: with its content, if the precondition compares contents.
    async fn replaced(
        &self,
        id: &LocationId,
        precondition: &Precondition,
    ) -> Result<Option<Object>, StoreError> {
        match precondition {
            Precondition::OneOf(_) | Precondition::NoneOf(_) | Precondition::Both(..) => {
                self.objects.object(id).await
            }
            Precondition::None
            | Precondition::Absent
            | Precondition::Exists
            | Precondition::Version(_) => self.objects.head(id).await,
        }
    }

    /// Replaces what was read; the new object's version id, or `None` if somebody else was faster.
    async fn replace(
        &self,
        id: &LocationId,
        old: Option<&Object>,
        new: Put<'_>,
    ) -> Result<Option<Arc<str>>, StoreError> {
        let operation = new.operation();
        let put = self
            .objects
            .client
            .put_object()
            .bucket(&*self.objects.bucket)
            .key(id.partition())
            .set_if_match(old.map(|old| old.etag.clone()))
            .set_if_none_match(old.is_none().then(|| "*".to_owned()))
            .body(ByteStream::from(new.bytes))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .content_type(new.content_type)
            .metadata(VERSION, new.version.to_string())
            .metadata(MODIFIED_MS, new.modified_ms.to_string())
            .metadata(WRITE, new.write)
            .metadata(MODIFIED_BY, encoded(new.author.subject))
            .metadata(ROLE, new.author.role.as_str())
            .metadata(REQUEST_ID, encoded(new.author.request_id))
            .metadata(NOTE, encoded(new.author.note))
            .metadata(OPERATION, operation.as_str())
            .customize()
            .config_override(patient());
        match put.send().await {
            Ok(answer) => Ok(Some(answer.version_id().unwrap_or("null").into())),
            // By somebody else, or by an attempt of this write whose answer was lost.
            Err(error) if was_overtaken(&error) => {
                let found = self.objects.head(id).await?;
                let own = found.filter(|found| found.write.as_deref() == Some(new.write));
                Ok(own.map(|own| own.version_id))
            }
            Err(error) => Err(store_error(BACKEND, error)),
        }
    }
}

/// The client's settings for a call with a large value.
fn patient() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(LARGE_TIMEOUT)
        .operation_timeout(LARGE_TIMEOUT)
        .build();
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
}

/// What one write puts there.
struct Put<'a> {
    bytes: Bytes,
    content_type: &'a str,
    author: Author<'a>,
    is_rollback: bool,
    version: i64,
    modified_ms: i64,
    write: &'a str,
}

impl Put<'_> {
    fn operation(&self) -> ChangeOperation {
        if self.is_rollback {
            ChangeOperation::Rollback
        } else {
            ChangeOperation::Put
        }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, CONTROLS).to_string()
}

/// A version of an object, or a deletion, as the listing has it.
struct Listed {
    version_id: String,
    at_ms: i64,
    /// `None` for a deletion.
    bytes: Option<u64>,
    is_latest: bool,
}

impl S3Store {
    /// The versions of an object and its deletions, newest first.
    async fn versions(&self, key: &str) -> Result<Vec<Listed>, StoreError> {
        let answer = self
            .objects
            .client
            .list_object_versions()
            .bucket(&*self.objects.bucket)
            .prefix(key)
            .max_keys(MAX_HISTORY)
            .send()
            .await
            .map_err(|e| store_error(BACKEND, e))?;
        let at = |at: Option<&DateTime>| at.and_then(|at| at.to_millis().ok()).unwrap_or_default();
        let written = answer
            .versions()
            .iter()
            .filter(|version| version.key() == Some(key))
            .map(|version| Listed {
                version_id: version.version_id().unwrap_or("null").to_owned(),
                at_ms: at(version.last_modified()),
                bytes: Some(u64::try_from(version.size().unwrap_or_default()).unwrap_or_default()),
                is_latest: version.is_latest().unwrap_or_default(),
            });
        let deleted = answer
            .delete_markers()
            .iter()
            .filter(|marker| marker.key() == Some(key))
            .map(|marker| Listed {
                version_id: marker.version_id().unwrap_or("null").to_owned(),
                at_ms: at(marker.last_modified()),
                bytes: None,
                is_latest: marker.is_latest().unwrap_or_default(),
            });
        let mut all: Vec<_> = written.chain(deleted).collect();
        // Stable: S3 lists the newest first, and its times have whole seconds.
        all.sort_by_key(|listed| (!listed.is_latest, std::cmp::Reverse(listed.at_ms)));
        Ok(all)
    }

    /// Notes a change that was made. Its version in S3 says who wrote it; a deletion's says nothing. If this fails, so does the
    /// write, which then may have taken effect all the same, as after a time-out.
    async fn note(
        &self,
        admitted: &Admitted,
        name: ConfigName<'_>,
        version: i64,
        author: Author<'_>,
        new: Option<NewValue<'_>>,
    ) -> Result<(), StoreError> {
        let Some(history) = &self.history else {
            return Ok(());
        };
        let layers = self.locate(admitted.tenant(), name);
        let revision = Revision {
            incarnation: 0,
            version,
        };
        let id = layers.first().id();
        let change = match new {
            Some(_) => Entry::written(id, revision, version).id,
            None => Entry::removed(id, revision, version, "").id,
        };
        let entry = NewEntry {
            key: format!("blob_config_{}", name.as_str()),
            change,
            order: String::new(),
            at_ms: version,
            version,
            previous: None,
            operation: match new {
                None => ChangeOperation::Delete,
                Some(new) if new.is_rollback => ChangeOperation::Rollback,
                Some(_) => ChangeOperation::Put,
            },
            author: Some(author),
            kept_from_ms: None,
            by: None,
            sha256: new.map(|new| sha256_of(new.value)).unwrap_or_default(),
            bytes: new.map_or(0, |new| new.value.len()),
            content_type: new.map_or("", |new| new.content_type),
            value: None,
        };
        let partition = partition_of(layers.first());
        match history.append(&partition, &entry).await {
            Ok(_) => Ok(()),
            Err(error) if history.is_required() => Err(error),
            Err(error) => {
                history::count_failure(&error);
                Ok(())
            }
        }
    }

    async fn entry(
        &self,
        key: &str,
        listed: &Listed,
        values: bool,
    ) -> Result<HistoryEntry, StoreError> {
        let mut entry = HistoryEntry {
            key: String::new(),
            version: 0,
            at_ms: listed.at_ms,
            operation: ChangeOperation::Delete,
            by: UNKNOWN.to_owned(),
            role: String::new(),
            request_id: String::new(),
            note: String::new(),
            bytes: 0,
            sha256: String::new(),
            content_type: String::new(),
            previous: None,
            value: None,
        };
        let Some(bytes) = listed.bytes else {
            return Ok(entry);
        };
        let answer = self
            .objects
            .client
            .head_object()
            .bucket(&*self.objects.bucket)
            .key(key)
            .version_id(&listed.version_id)
            .send()
            .await
            .map_err(|e| store_error(BACKEND, e))?;
        let about = About::of_head(&answer);
        let noted = |name: &str| {
            let text = answer.metadata().and_then(|all| all.get(name));
            // A copy has the metadata of what was copied.
            let text = text.filter(|_| about.is_written);
            text.map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned())
        };
        entry.version = about.version;
        entry.at_ms = about.modified_ms.unwrap_or(listed.at_ms);
        entry.operation = noted(OPERATION)
            .and_then(|text| ChangeOperation::parse(&text))
            .unwrap_or(ChangeOperation::Put);
        entry.by = noted(MODIFIED_BY).unwrap_or_else(|| UNKNOWN.to_owned());
        entry.role = noted(ROLE).unwrap_or_default();
        entry.request_id = noted(REQUEST_ID).unwrap_or_default();
        entry.note = noted(NOTE).unwrap_or_default();
        entry.bytes = bytes;
        entry.content_type = about.content_type.clone().unwrap_or_default();
        if values {
            entry.value = Some(about.remote());
        }
        Ok(entry)
    }
}

#[async_trait]
impl Store for S3Store {
    fn backend(&self) -> Backend {
        BACKEND
    }

    fn order(&self) -> Order {
        Order::ConsistentReads
    }

    fn read_quota(&self) -> Quota {
        // 64 MiB a second; 64 values of 8 MiB at once.
        Quota {
            per_second: 1_000,
            burst: 8_192,
        }
    }

    fn read_units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(READ_UNIT_BYTES).max(1)).unwrap_or(u32::MAX)
    }

    fn max_value_bytes(&self) -> usize {
        self.max_value_bytes
    }

    fn keeps_bytes(&self) -> bool {
        true
    }

    fn keeps_history(&self) -> bool {
        false
    }

    fn key_at(&self, id: &LocationId) -> Option<(String, ConfigKey)> {
        overlay::key_at("blob", overlay::owner_and_name(id.partition()))
    }

    fn locate(&self, tenant: &TenantId, name: ConfigName<'_>) -> Layers {
        overlay::layers(tenant, BACKEND, "", name)
    }

    async fn read(
        &self,
        admitted: &Admitted,
        locations: &[Location],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let reads = locations.iter().map(|location| async {
            let _permit = Self::permit(&self.reads, admitted.tenant()).await?;
            self.objects.get(location.id()).await
        });
        try_join_all(reads).await
    }

    async fn open(
        &self,
        admitted: &Admitted,
        location: &Location,
        remote: &Remote,
        range: Range<u64>,
    ) -> Result<ValueStream, StoreError> {
        let permit = Self::permit(&self.streams, admitted.tenant()).await?;
        let is_whole = range == (0..remote.bytes);
        let part = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let answer = self
            .objects
            .client
            .get_object()
            .bucket(&*self.objects.bucket)
            .key(location.id().partition())
            .version_id(&*remote.name)
            .set_range((!is_whole).then_some(part))
            .set_checksum_mode(is_whole.then_some(ChecksumMode::Enabled))
            .customize()
            .config_override(patient())
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if is_code(&error, "NoSuchVersion") || is_code(&error, "NoSuchKey") => {
                return Err(StoreError::NotFound);
            }
            Err(error) => return Err(store_error(BACKEND, error)),
        };
        let sent = answer.content_length().map(u64::try_from);
        if sent.is_some_and(|sent| sent != Ok(range.end - range.start)) {
            return Err(StoreError::Malformed {
                reason: "S3 answered with another part of the object",
            });
        }
        let pieces = stream::unfold(Some((answer.body, permit)), async |state| {
            let (mut body, permit) = state?;
            match body.next().await? {
                Ok(piece) => Some((Ok(piece), Some((body, permit)))),
                Err(error) => Some((Err(broken_off(error)), None)),
            }
        });
        Ok(pieces.boxed())
    }

    async fn list(
        &self,
        admitted: &Admitted,
        request: &ListRequest<'_>,
    ) -> Result<ListPage, StoreError> {
        let _permit = Self::permit(&self.pages, admitted.tenant()).await?;
        let own = format!("tenants/{}/", admitted.tenant());
        let answer = self
            .objects
            .client
            .list_objects_v2()
            .bucket(&*self.objects.bucket)
            .prefix(format!("{own}{}", request.prefix))
            .set_start_after(request.after.map(|after| format!("{own}{after}")))
            .max_keys(i32::try_from(request.limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|e| store_error(BACKEND, e))?;
        let keys = answer.contents().iter().filter_map(|object| object.key());
        let keys: Vec<String> = keys.map(ToOwned::to_owned).collect();
        // The listing has neither content types nor versions.
        admitted.charge(u32::try_from(keys.len()).unwrap_or(u32::MAX));
        let heads: Vec<_> = keys
            .iter()
            .map(|key| self.head(LocationId::new(BACKEND, key.as_str(), "")))
            .collect();
        let objects: Vec<_> = stream::iter(heads)
            .buffered(PAGE_CONCURRENCY)
            .collect()
            .await;
        let name_of = |key: &str| key.strip_prefix(&own).map(ToOwned::to_owned);
        let next_after = (answer.is_truncated() == Some(true))
            .then(|| keys.last().and_then(|key| name_of(key)))
            .flatten();
        let entries = keys.iter().zip(objects).filter_map(|(key, object)| {
            // One that was deleted meanwhile is no entry.
            let object = object.transpose()?;
            Some((name_of(key)?, object.map(|object| object.record)))
        });
        Ok(ListPage {
            entries: entries.collect(),
            next_after,
        })
    }

    async fn put(
        &self,
        admitted: &Admitted,
        name: ConfigName<'_>,
        new: NewValue<'_>,
        precondition: Precondition,
    ) -> Result<Written, StoreError> {
        let bytes = new.value.to_bytes().unwrap_or_default();
        if bytes.len() > self.max_value_bytes {
            return Err(StoreError::TooLarge {
                backend: BACKEND,
                limit: self.max_value_bytes,
                actual: bytes.len(),
            });
        }
        let _permit = Self::permit(&self.writes, admitted.tenant()).await?;
        admitted.charge(self.read_units(bytes.len() as u64) - 1);
        let id = self.own(admitted, name);
        let write = Uuid::new_v4().simple().to_string();
        for attempt in 0..MAX_ATTEMPTS {
            let old = self.replaced(&id, &precondition).await?;
            precondition.check(old.as_ref().map(|old| Current::from(&old.record)))?;
            let old_version = old.as_ref().map_or(0, |old| old.record.revision.version);
            let version = reach_version_above(&self.versions, old_version).await?;
            let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
            let modified_ms = i64::try_from(now).unwrap_or_default();
            let put = Put {
                bytes: bytes.clone(),
                content_type: new.content_type,
                author: new.author,
                is_rollback: new.is_rollback,
                version,
                modified_ms,
                write: &write,
            };
            if let Some(version_id) = self.replace(&id, old.as_ref(), put).await? {
                let about = About {
                    bytes: bytes.len() as u64,
                    version_id,
                    etag: String::new(),
                    content_type: Some(new.content_type.to_owned()),
                    version,
                    modified_ms: Some(modified_ms),
                    is_written: true,
                    write: None,
                };
                let value = if bytes.len() > self.objects.held_bytes {
                    about.remote()
                } else {
                    bytes.into()
                };
                self.note(admitted, name, version, new.author, Some(new))
                    .await?;
                return Ok(Written {
                    record: about.object(value).record,
                    created: old.is_none(),
                });
            }
            back_off(attempt).await;
        }
        Err(StoreError::Contended)
    }

    async fn delete(
        &self,
        admitted: &Admitted,
        name: ConfigName<'_>,
        precondition: Precondition,
        author: Author<'_>,
    ) -> Result<i64, StoreError> {
        let _permit = Self::permit(&self.writes, admitted.tenant()).await?;
        let id = self.own(admitted, name);
        for attempt in 0..MAX_ATTEMPTS {
            let Some(old) = self.replaced(&id, &precondition).await? else {
                return Err(StoreError::NotFound);
            };
            precondition.check(Some(Current::from(&old.record)))?;
            let version = deletion_above(&self.versions, old.record.revision.version).await;
            let delete = self
                .objects
                .client
                .delete_object()
                .bucket(&*self.objects.bucket)
                .key(id.partition())
                .if_match(&old.etag)
                .customize()
                // Another attempt cannot know what the first one did: its caller gets UNAVAILABLE.
                .config_override(
                    aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled()),
                );
            match delete.send().await {
                Ok(_) => {
                    self.note(admitted, name, version, author, None).await?;
                    return Ok(version);
                }
                Err(error) if was_overtaken(&error) => back_off(attempt).await,
                Err(error) => return Err(store_error(BACKEND, error)),
            }
        }
        Err(StoreError::Contended)
    }

    async fn history(
        &self,
        admitted: &Admitted,
        location: &Location,
        request: &HistoryRequest<'_>,
    ) -> Result<HistoryPage, StoreError> {
        let _permit = Self::permit(&self.pages, admitted.tenant()).await?;
        let key = location.id().partition();
        let all = self.versions(key).await?;
        // S3's own times are near those that the service gives.
        let near =
            request.since_ms.saturating_sub(SKEW_MS)..request.until_ms.saturating_add(SKEW_MS);
        let mut within: Vec<_> = all
            .into_iter()
            .filter(|listed| near.contains(&listed.at_ms))
            .collect();
        if let Some(after) = request.after {
            let place = within.iter().position(|one| one.version_id == after);
            within = within.split_off(place.map_or(0, |place| place + 1));
        }
        admitted.charge(u32::try_from(within.len().min(request.limit)).unwrap_or(u32::MAX));
        let entries = within.iter().map(async |listed| {
            let entry = self.entry(key, listed, request.values).await?;
            Ok::<_, StoreError>((entry, listed))
        });
        let entries: Vec<_> = entries.collect();
        let mut read = stream::iter(entries).buffered(PAGE_CONCURRENCY);
        let mut page = HistoryPage::default();
        let mut last: Option<&Listed> = None;
        while let Some((entry, listed)) = read.try_next().await? {
            if !(request.since_ms..request.until_ms).contains(&entry.at_ms) {
                continue;
            }
            if page.entries.len() == request.limit {
                page.next_after = last.map(|last| last.version_id.clone());
                break;
            }
            page.entries.push(entry);
            last = Some(listed);
        }
        drop(read);
        Ok(page)
    }
}

/// What was to be replaced is not there any more, or another conditional write is under way.
fn was_overtaken<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    is_code(error, "PreconditionFailed")
        || is_code(error, "ConditionalRequestConflict")
        || is_code(error, "NoSuchKey")
}

fn is_code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, code: &str) -> bool {
    error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
        .is_some_and(|found| found == code)
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|raw| raw.status().as_u16())
}

fn broken_off(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable {
        backend: BACKEND,
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_hold_configuration() {
        for key in ["global/pricing/table.json", "tenants/A1/pricing/table.json"] {
            assert_eq!(location_of(key).unwrap().partition(), key);
        }
        for key in [
            "global/",
            "tenants/A1",
            "tenants/A1/",
            "other/x",
            "/global/x",
            "global/a//b",
            "global/a/",
            "x",
        ] {
            assert_eq!(location_of(key), None, "{key}");
        }
    }
}

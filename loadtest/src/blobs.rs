//! The blobs that a load test reads, and the bucket that holds them, by S3's own API.
//!
//! The bytes of a blob follow from its tenant and its size. So an answer is compared with what was seeded while it arrives, and
//! no blob is kept.

use aws_sdk_s3::{Client, primitives::ByteStream};
use bytes::Bytes;

use crate::{
    accounts::failed,
    targets::{self, Targets, need},
};

/// The sizes of a tenant's blobs.
pub(crate) const SIZES: [Size; 4] = [
    Size::of("64k", "blob-64k", 64),
    Size::of("256k", "blob-256k", 256),
    Size::of("1m", "blob-1m", 1_024),
    Size::of("8m", "blob-8m", 8_192),
];
/// The largest value that the service puts into a message, in bytes.
const MESSAGE_BYTES: usize = 3 * 1024 * 1024;

/// Bytes of a word of the pattern.
const WORD: usize = 8;
/// The difference between a word and the next. It is odd, so no two words of a blob are the same.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// One of the sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// The last segment of the key.
    name: &'static str,
    /// A read, as reports spell it.
    pub(crate) operation: &'static str,
    /// Bytes, a multiple of a word.
    pub(crate) bytes: usize,
}

/// A seeded blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    /// How large it is.
    pub(crate) size: Size,
    /// The first word of its pattern.
    first: u64,
}

/// The bucket of a deployment.
pub(crate) struct Bucket {
    client: Client,
    name: String,
}

// === impl Size ===

impl Size {
    const fn of(name: &'static str, operation: &'static str, kib: usize) -> Self {
        Self {
            name,
            operation,
            bytes: kib * 1_024,
        }
    }
}

// === impl Blob ===

impl Blob {
    /// The tenant's blob of this size.
    pub(crate) fn of(tenant: &str, size: Size) -> Self {
        // FNV-1a: <http://www.isthe.com/chongo/tech/comp/fnv/>
        let text = tenant.bytes().chain([b'/']).chain(size.name.bytes());
        let first = text.fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self { size, first }
    }

    /// The blob that this tenant has by this key.
    pub(crate) fn at(tenant: &str, key: &str) -> Option<Self> {
        let name = key.strip_prefix("blob_config_loadtest/")?;
        let size = SIZES.into_iter().find(|size| size.name == name)?;
        Some(Self::of(tenant, size))
    }

    /// Its key, with the tag.
    pub(crate) fn key(&self) -> String {
        format!("blob_config_{}", self.name())
    }

    fn name(&self) -> String {
        format!("loadtest/{}", self.size.name)
    }

    /// Whether gRPC answers with it.
    pub(crate) fn fits_a_message(&self) -> bool {
        self.size.bytes <= MESSAGE_BYTES
    }

    /// Its bytes.
    pub(crate) fn content(&self) -> Bytes {
        let mut content = Vec::with_capacity(self.size.bytes);
        for index in 0..(self.size.bytes / WORD) as u64 {
            content.extend_from_slice(&self.word(index));
        }
        content.into()
    }

    /// Whether these are its bytes, all of them.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.size.bytes && self.has(0, bytes)
    }

    /// Whether these are its bytes from an offset on.
    pub(crate) fn has(&self, offset: usize, piece: &[u8]) -> bool {
        if offset.saturating_add(piece.len()) > self.size.bytes {
            return false;
        }
        let aligned = offset.next_multiple_of(WORD);
        let (head, rest) = piece.split_at((aligned - offset).min(piece.len()));
        let (words, tail) = rest.as_chunks::<WORD>();
        let index = (aligned / WORD) as u64;
        self.word((offset / WORD) as u64)[offset % WORD..].starts_with(head)
            && words
                .iter()
                .zip(index..)
                .all(|(word, index)| *word == self.word(index))
            && self.word(index + words.len() as u64).starts_with(tail)
    }

    fn word(&self, index: u64) -> [u8; WORD] {
        let word = self.first.wrapping_add(index.wrapping_mul(STEP));
        word.to_le_bytes()
    }
}

// === impl Bucket ===

impl Bucket {
    /// The bucket of these targets.
    pub(crate) async fn of(targets: &Targets) -> anyhow::Result<Self> {
        let name = need(&targets.blob_bucket, "blob-bucket")?.to_owned();
        let sdk = targets::sdk_config().await;
        // An emulator has no host name for each bucket.
        let config =
            aws_sdk_s3::config::Builder::from(&sdk).force_path_style(sdk.endpoint_url().is_some());
        Ok(Self {
            client: Client::from_conf(config.build()),
            name,
        })
    }

    /// Puts the tenant's blobs.
    pub(crate) async fn seed(&self, tenant: &str) -> anyhow::Result<()> {
        for blob in SIZES.map(|size| Blob::of(tenant, size)) {
            let put = self.put(tenant, &blob.name(), blob.content());
            send(put.content_type("application/octet-stream")).await?;
        }
        Ok(())
    }

    /// Removes the tenant's blobs.
    pub(crate) async fn clear(&self, tenant: &str) -> anyhow::Result<()> {
        for size in SIZES {
            let name = Blob::of(tenant, size).name();
            self.remove(tenant, &name).await?;
        }
        Ok(())
    }

    /// Puts JSON as an operator's tool does that knows the service's metadata; the version, in unix milliseconds, is the caller's
    /// choice.
    pub(crate) async fn update(
        &self,
        tenant: &str,
        name: &str,
        json: String,
        version: i64,
    ) -> anyhow::Result<()> {
        let put = self
            .put(tenant, name, json.into())
            .content_type("application/json")
            .metadata("version", version.to_string())
            .metadata("modified-ms", version.to_string())
            .metadata("modified-by", "loadtest");
        send(put).await
    }

    /// Removes an object of a tenant, if it is there. Its versions stay, until the bucket's lifecycle removes them.
    pub(crate) async fn remove(&self, tenant: &str, name: &str) -> anyhow::Result<()> {
        let delete = self.client.delete_object().bucket(&self.name);
        let deleted = delete.key(key(tenant, name)).send().await;
        deleted
            .map(|_| ())
            .map_err(|error| failed("DeleteObject", &error))
    }

    fn put(&self, tenant: &str, name: &str, content: Bytes) -> Put {
        let put = self.client.put_object().bucket(&self.name);
        put.key(key(tenant, name)).body(ByteStream::from(content))
    }
}

type Put = aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;

async fn send(put: Put) -> anyhow::Result<()> {
    put.send()
        .await
        .map(|_| ())
        .map_err(|error| failed("PutObject", &error))
}

fn key(tenant: &str, name: &str) -> String {
    format!("tenants/{tenant}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob() -> Blob {
        Blob::of("lt-admin-1", SIZES[0])
    }

    #[test]
    fn a_blob_is_found_by_its_key_and_differs_by_tenant_and_size() {
        for size in SIZES {
            let mine = Blob::of("lt-admin-1", size);
            assert_eq!(Blob::at("lt-admin-1", &mine.key()), Some(mine));
            assert_eq!(mine.content().len(), size.bytes);
            assert!(!Blob::of("lt-admin-2", size).is(&mine.content()));
        }
        assert_eq!(Blob::at("lt-admin-1", "blob_config_loadtest/9m"), None);
        let [small, larger, ..] = SIZES.map(|size| Blob::of("lt-admin-1", size));
        assert!(!larger.has(0, &small.content()));
    }

    #[test]
    fn pieces_of_any_length_are_compared() {
        let (blob, content) = (blob(), blob().content());
        assert!(blob.is(&content));
        for length in [1, 3, 7, 8, 9, 16, 4_093, content.len()] {
            let mut offset = 0;
            for piece in content.chunks(length) {
                assert!(blob.has(offset, piece), "{length} at {offset}");
                offset += piece.len();
            }
        }
        assert!(blob.has(3, &[]));
    }

    #[test]
    fn a_byte_that_is_wrong_missing_or_elsewhere_is_noticed() {
        let (blob, content) = (blob(), blob().content());
        for at in [0, 1, 7, 8, 4_099, content.len() - 1] {
            let mut wrong = content.to_vec();
            wrong[at] ^= 1;
            assert!(!blob.is(&wrong), "{at}");
            assert!(!blob.has(1, &wrong[1..]) || at == 0, "{at}");
        }
        assert!(!blob.is(&content[1..]), "the first byte is missing");
        assert!(!blob.is(&content[..content.len() - 1]), "the last one");
        assert!(!blob.is(&[&content[..], &[0]].concat()), "one too many");
        assert!(!blob.has(content.len(), &[0]));
        assert!(!blob.has(8, &content[..16]), "elsewhere");
    }

    #[test]
    fn only_the_largest_exceeds_a_message() {
        let fit = SIZES.map(|size| Blob::of("t", size).fits_a_message());
        assert_eq!(fit, [true, true, true, false]);
    }
}

//! Reads a request's body: with a limit on its size and on the time that it takes.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use thiserror::Error;
use tokio::time::timeout;

/// Time within which a whole body must arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What is read beyond its limit of a body that is too large, so that its client can read the answer.
const DISCARDED_BYTES: usize = 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than allowed: 413.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It did not arrive in time: 408.
    #[error("the body did not arrive within {} s", BODY_TIMEOUT.as_secs())]
    TimedOut,
    /// The connection failed, or the framing is wrong: 400.
    #[error("the body could not be read")]
    Broken,
}

/// The whole body, if it has at most `limit` bytes and arrives within [`BODY_TIMEOUT`].
pub async fn read_body(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limit {
        discard(&mut body, limit.saturating_add(DISCARDED_BYTES)).await;
        return Err(BodyError::TooLarge { limit });
    }
    let collected = timeout(BODY_TIMEOUT, Limited::new(&mut body, limit).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(&mut body, DISCARDED_BYTES).await;
            Err(BodyError::TooLarge { limit })
        }
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TimedOut),
    }
}

/// Reads a body that is not wanted, so that its client can read why.
pub async fn discard_body(mut body: Body, limit: usize) {
    discard(&mut body, limit.saturating_add(DISCARDED_BYTES)).await;
}

/// Reads what is left, up to so many bytes within [`DISCARD_TIMEOUT`]: a client that still writes when the connection is
/// closed gets a broken pipe in place of the answer.
async fn discard(body: &mut Body, mut left: usize) {
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
                Some(fewer) => left = fewer,
                None => return,
            }
        }
    };
    let _ = timeout(DISCARD_TIMEOUT, read).await;
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::{StreamExt, stream};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn only_a_body_over_the_limit_is_too_large() {
        assert_eq!(read_body(Body::from("1234"), 4).await.unwrap(), "1234");
        let too_large = Err(BodyError::TooLarge { limit: 4 });
        assert_eq!(read_body(Body::from("12345"), 4).await, too_large);
        let unknown_length =
            |end: io::Result<&'static str>| Body::from_stream(stream::iter([Ok("123"), end]));
        assert_eq!(read_body(unknown_length(Ok("45")), 4).await, too_large);
        let broken = unknown_length(Err(io::ErrorKind::UnexpectedEof.into()));
        assert_eq!(read_body(broken, 4).await, Err(BodyError::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_body_that_is_too_large_is_read_within_a_bound() {
        let read = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&read);
        let chunks = stream::iter(0..4_000).map(move |_| {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            io::Result::Ok("x".repeat(1024))
        });
        let too_large = Err(BodyError::TooLarge { limit: 4 });
        assert_eq!(read_body(Body::from_stream(chunks), 4).await, too_large);
        let read = read.load(std::sync::atomic::Ordering::SeqCst);
        assert!((1_024..1_100).contains(&read), "{read} KiB");
        let started = Instant::now();
        let stalled = stream::iter([io::Result::Ok("12345")]).chain(stream::pending());
        assert_eq!(read_body(Body::from_stream(stalled), 4).await, too_large);
        assert_eq!(started.elapsed(), DISCARD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_times_out() {
        let started = Instant::now();
        let slow = stream::iter([io::Result::Ok("1")]).chain(stream::pending());
        let read = read_body(Body::from_stream(slow), 4).await;
        assert_eq!(read, Err(BodyError::TimedOut));
        assert_eq!(started.elapsed(), BODY_TIMEOUT);
    }
}

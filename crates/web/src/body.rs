//! Reads a request's body: with a limit on its size and on the time that it takes.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use thiserror::Error;
use tokio::time::timeout;

/// Time within which a whole body must arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

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
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limit {
        return Err(BodyError::TooLarge { limit });
    }
    let collected = timeout(BODY_TIMEOUT, Limited::new(body, limit).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit }),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TimedOut),
    }
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
    async fn a_body_that_does_not_end_times_out() {
        let started = Instant::now();
        let slow = stream::iter([io::Result::Ok("1")]).chain(stream::pending());
        let read = read_body(Body::from_stream(slow), 4).await;
        assert_eq!(read, Err(BodyError::TimedOut));
        assert_eq!(started.elapsed(), BODY_TIMEOUT);
    }
}

//! The memory of large answers: it is counted until the transport has sent them, so that callers that do not read cannot take
//! a task's memory.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::HttpBody;
use bytes::Bytes;
use http::Response;
use tagged_config_domain::AnswerPermit;
use tagged_config_web::Chunks;

/// The permit of an answer, as an extension of its response.
#[derive(Clone, Debug)]
pub(crate) struct HeldMemory {
    _permit: Arc<AnswerPermit>,
}

/// A body whose permit is returned when all of it was taken, or it is dropped. The transport takes it in pieces, as it
/// sends them.
pub(crate) struct HeldBody<B> {
    body: Chunks<B>,
    _memory: HeldMemory,
}

impl HeldMemory {
    /// The memory of an answer, if it is counted.
    pub(crate) fn of(permit: AnswerPermit) -> Option<Self> {
        permit.is_counted().then(|| Self {
            _permit: Arc::new(permit),
        })
    }
}

/// Holds the memory until the response's body has been sent.
pub(crate) fn hold<B>(
    response: Response<B>,
    memory: Option<HeldMemory>,
    body: impl FnOnce(HeldBody<B>) -> B,
) -> Response<B> {
    match memory {
        None => response,
        Some(memory) => response.map(|inner| {
            body(HeldBody {
                body: Chunks::of(inner),
                _memory: memory,
            })
        }),
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for HeldBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use tagged_config_domain::Gate;
    use tagged_config_testkit::Issuer;
    use tagged_config_web::CHUNK_BYTES;

    use super::*;

    #[tokio::test]
    async fn memory_is_held_until_the_last_piece_was_taken() {
        const BYTES: usize = 3 * CHUNK_BYTES;
        let (gate, tenant) = (Gate::new([], 1 << 30), Issuer::new().tenant("A"));
        let permit = gate.admit_answer(&tenant, BYTES as u64).unwrap();
        let memory = HeldMemory::of(permit);
        let response = Response::new(Full::new(Bytes::from(vec![0; BYTES])));
        let mut response = hold(
            response.map(axum::body::Body::new),
            memory,
            axum::body::Body::new,
        );
        for _ in 0..3 {
            assert_eq!(gate.answer_bytes(), BYTES as u64, "it is not sent yet");
            response.body_mut().frame().await.unwrap().unwrap();
        }
        drop(response);
        assert_eq!(gate.answer_bytes(), 0);
    }
}

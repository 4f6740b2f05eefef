//! The memory of large answers: it is counted until the transport has sent them, so that callers that do not read cannot take
//! a task's memory.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::HttpBody;
use http::Response;
use tagged_config_domain::AnswerPermit;

/// The permit of an answer, as an extension of its response.
#[derive(Clone, Debug)]
pub(crate) struct HeldMemory {
    _permit: Arc<AnswerPermit>,
}

/// A body whose permit is returned when it has been sent, or dropped.
pub(crate) struct HeldBody<B> {
    body: B,
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
                body: inner,
                _memory: memory,
            })
        }),
    }
}

impl<B: HttpBody + Unpin> HttpBody for HeldBody<B> {
    type Data = B::Data;
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

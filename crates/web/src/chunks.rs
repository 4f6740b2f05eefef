//! A body in pieces: the transport takes the next one when it has room, so that what is not sent yet is still ours.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Bytes of one frame at most. A transport that is handed a larger one keeps all of it, whatever its own limits are.
pub const CHUNK_BYTES: usize = 32 * 1024;

/// A body whose frames have at most [`CHUNK_BYTES`]. The body that it is made of lives until all of it was taken.
pub struct Chunks<B> {
    body: B,
    rest: Bytes,
}

// === impl Chunks ===

impl<B> Chunks<B> {
    /// The body in pieces.
    pub fn of(body: B) -> Self {
        Self {
            body,
            rest: Bytes::new(),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Chunks<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(CHUNK_BYTES);
        let chunk = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn a_large_body_comes_in_pieces_and_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(2 * CHUNK_BYTES + 7).collect();
        let mut body = Chunks::of(Full::new(Bytes::from(bytes.clone())));
        let mut received = Vec::new();
        let mut sizes = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            sizes.push(data.len());
            received.extend_from_slice(&data);
            let left = (bytes.len() - received.len()) as u64;
            assert_eq!(body.size_hint().exact(), Some(left));
            assert_eq!(body.is_end_stream(), left == 0);
        }
        assert_eq!(sizes, [CHUNK_BYTES, CHUNK_BYTES, 7]);
        assert_eq!(received, bytes);
    }
}

//! Write coalescing: answers that are ready together leave in one write (ADR 12).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_write_buf;
use tonic::transport::server::Connected;

/// Bytes that are held back at most.
const HELD_BYTES: usize = 64 * 1024;
/// What the buffer keeps when it is empty.
const KEPT_BYTES: usize = 16 * 1024;

/// The connection of an HTTP/2 server that sends in one write what is ready together.
///
/// h2 writes each larger answer by itself, and flushes after each: a call of the system for every answer, which was a
/// third of a cache hit's time. It flushes once more when it has nothing left to write, and what was held back goes out
/// then.
pub struct WriteCoalescer<S> {
    stream: S,
    held: BytesMut,
    /// Something was written since the last flush.
    is_new: bool,
}

// === impl WriteCoalescer ===

impl<S> WriteCoalescer<S> {
    /// Wraps `stream`.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            held: BytesMut::new(),
            is_new: false,
        }
    }
}

impl<S: AsyncWrite + Unpin> WriteCoalescer<S> {
    fn send_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.has_remaining() {
            let sent = ready!(poll_write_buf(
                Pin::new(&mut self.stream),
                context,
                &mut self.held
            ))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        if self.held.capacity() > KEPT_BYTES {
            self.held = BytesMut::new();
        } else {
            self.held.clear();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Connected> Connected for WriteCoalescer<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteCoalescer<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteCoalescer<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() >= HELD_BYTES {
            ready!(self.send_held(context))?;
        }
        self.is_new = true;
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_new) {
            // More may be about to come. If not, the next poll sends it.
            context.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(self.send_held(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send_held(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What reaches the socket, write by write. It takes `room` bytes at a time, and nothing without room.
    #[derive(Default)]
    struct Socket {
        writes: Vec<Vec<u8>>,
        room: usize,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Poll::Pending;
            }
            self.writes.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn connection(room: usize) -> WriteCoalescer<Socket> {
        WriteCoalescer::new(Socket {
            room,
            ..Socket::default()
        })
    }

    #[tokio::test]
    async fn what_is_ready_together_leaves_in_one_write() {
        let mut connection = connection(usize::MAX);
        for answer in [b"first", b"other", b"third"] {
            connection.write_all(answer).await.unwrap();
            connection.flush().await.unwrap();
        }
        assert!(connection.stream.writes.is_empty(), "more may come");
        connection.flush().await.unwrap();
        assert_eq!(connection.stream.writes, [b"firstotherthird".to_vec()]);
    }

    #[tokio::test]
    async fn who_flushes_once_is_woken_to_flush_again() {
        let mut connection = connection(usize::MAX);
        connection.write_all(b"answer").await.unwrap();
        let mut turns = 0;
        poll_fn(|context| {
            turns += 1;
            assert!(Pin::new(&mut connection).poll_flush(context).is_ready());
            if turns == 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        assert_eq!(connection.stream.writes, [b"answer".to_vec()]);
    }

    #[tokio::test]
    async fn a_slow_socket_holds_up_its_writer_and_loses_nothing() {
        let mut connection = connection(0);
        let chunk = vec![7; HELD_BYTES];
        connection.write_all(&chunk).await.unwrap();
        let more =
            poll_fn(|context| Poll::Ready(Pin::new(&mut connection).poll_write(context, b"x")));
        assert!(more.await.is_pending(), "so much is held at most");
        connection.stream.room = 1_000;
        connection.write_all(b"x").await.unwrap();
        connection.shutdown().await.unwrap();
        let sent = connection.stream.writes.concat();
        assert_eq!(sent.len(), HELD_BYTES + 1);
        assert_eq!(sent.last(), Some(&b'x'));
        assert!(connection.held.capacity() <= KEPT_BYTES);
    }

    /// What the connection leans on: h2 flushes again when it is woken, until nothing is held back.
    #[tokio::test]
    async fn all_bytes_reach_a_peer_over_real_h2() {
        const SIZES: [usize; 8] = [0, 1, 9, 100, 16_384, 16_385, 70_000, 300_000];
        let (ours, theirs) = tokio::io::duplex(1_000);
        let server = tokio::spawn(async move {
            let mut connection = h2::server::handshake(WriteCoalescer::new(ours))
                .await
                .unwrap();
            while let Some(call) = connection.accept().await {
                let (request, mut respond) = call.unwrap();
                tokio::spawn(async move {
                    let size = request.uri().path()[1..].parse().unwrap();
                    let response = http::Response::new(());
                    let mut answer = respond.send_response(response, false).unwrap();
                    answer.send_data(vec![7_u8; size].into(), true).unwrap();
                });
            }
        });
        let (client, connection) = h2::client::Builder::new()
            .handshake::<_, bytes::Bytes>(theirs)
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        // One after the other, and all at once.
        for together in [1, SIZES.len()] {
            for sizes in SIZES.chunks(together) {
                let calls: Vec<_> = sizes
                    .iter()
                    .map(|size| (*size, tokio::spawn(received(client.clone(), *size))))
                    .collect();
                for (size, call) in calls {
                    assert_eq!(call.await.unwrap(), size);
                }
            }
        }
        drop(client);
        connection.await.unwrap().unwrap();
        server.await.unwrap();
    }

    /// How many bytes the answer has of which so many were asked for.
    async fn received(client: h2::client::SendRequest<bytes::Bytes>, size: usize) -> usize {
        let request = http::Request::get(format!("http://x/{size}"))
            .body(())
            .unwrap();
        let mut client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        let mut received = 0;
        while let Some(chunk) = body.data().await {
            let chunk = chunk.unwrap();
            received += chunk.len();
            body.flow_control().release_capacity(chunk.len()).unwrap();
        }
        received
    }
}

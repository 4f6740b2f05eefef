//! Connections of the gRPC listeners: how old they get, and when each was accepted.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tokio_util::io::poll_write_buf;
use tonic::transport::server::Connected;

/// Time that calls have to end after a connection has reached its age.
pub(crate) const CONNECTION_GRACE: Duration = Duration::from_secs(30);

/// What a request's extensions say of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    /// When it was accepted.
    pub at: Instant,
}

/// Bytes that are held back at most.
const HELD_BYTES: usize = 64 * 1024;
/// What the buffer keeps when it is empty.
const KEPT_BYTES: usize = 16 * 1024;

/// A connection that knows when it was accepted, and sends in one write what is ready together.
///
/// h2 writes each larger answer by itself, and flushes after each: a call of the system for every answer, which was a
/// third of a cache hit's time. It flushes once more when it has nothing left to write, and what was held back goes out then.
pub(crate) struct Connection<S = TcpStream> {
    stream: S,
    accepted: Accepted,
    held: BytesMut,
    /// Something was written since the last flush.
    is_new: bool,
}

/// What a listener accepts, with TCP_NODELAY, which the builder sets only on sockets that it accepts itself.
pub(crate) fn incoming(
    listener: TcpListener,
) -> impl Stream<Item = io::Result<Connection>> + Send + 'static {
    TcpListenerStream::new(listener).map(|stream| {
        stream.map(|stream| {
            let _ = stream.set_nodelay(true);
            Connection::new(stream)
        })
    })
}

// === impl Connection ===

impl<S: AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            accepted: Accepted { at: Instant::now() },
            held: BytesMut::new(),
            is_new: false,
        }
    }

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

impl Connected for Connection {
    type ConnectInfo = Accepted;

    fn connect_info(&self) -> Accepted {
        self.accepted
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
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
            // More may be about to come. If not, the next turn sends it.
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

    fn connection(room: usize) -> Connection<Socket> {
        Connection::new(Socket {
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
}

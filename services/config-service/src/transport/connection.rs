//! Connections of the gRPC listeners: how many there are, how old they get, when each was accepted, and how it writes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use futures::{Stream, stream};
use tagged_config_runtime::shutdown::Shutdown;
use tagged_config_web::{Acceptor, Slot};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep},
};
use tokio_util::io::poll_write_buf;
use tonic::transport::{Server, server::Connected};

/// HTTP/2 pings that find dead peers.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls of one connection at once: one caller must not starve others.
const MAX_STREAMS: u32 = 1_024;
/// Bytes of one connection, and of one call, that wait to be read. A call is authenticated before its body is read, so
/// this bounds what an unauthenticated connection makes this process hold.
const CONNECTION_WINDOW: u32 = 128 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;
/// Headers of one call: a token of 8 KiB, with room.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Calls that the peer reset and that were not accepted yet, and malformed calls that this side reset: more of either
/// end the connection with GOAWAY (CVE-2023-44487, RUSTSEC-2024-0003). The second one is unlimited by tonic's default.
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 1_024;
/// Time for the client's connection preface.
pub(crate) const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the preface (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

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
    opening: Option<Opening>,
    /// When it is closed with whatever calls it still has; `None` never.
    end: Option<Pin<Box<Sleep>>>,
    _slot: Option<Slot>,
    held: BytesMut,
    /// Something was written since the last flush.
    is_new: bool,
}

/// A connection whose preface has not arrived: it is closed after [`PREFACE_TIMEOUT`], and when the task stops, since
/// HTTP/2's own shutdown begins after the preface.
struct Opening {
    received: usize,
    until: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A gRPC server with this process's limits for a connection.
pub(crate) fn server(connection_age: Duration) -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_LOCAL_RESETS))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        // Sends GOAWAY; what is left after the grace is closed by [`Connection`]. With a grace of its own, tonic would
        // close without a GOAWAY, under calls that begin meanwhile.
        .max_connection_age(connection_age)
}

/// What a listener accepts: at most so many connections at once, each closed [`CONNECTION_GRACE`] after its age. It never fails, so tonic's own accept loop, which
/// repeats a failed accept at once, has nothing to repeat.
pub(crate) fn incoming(
    listener: TcpListener,
    max_connections: usize,
    connection_age: Duration,
    stop: Shutdown,
) -> impl Stream<Item = io::Result<Connection>> + Send + 'static {
    let acceptor = Acceptor::new(listener, max_connections);
    let lifetime = connection_age + CONNECTION_GRACE;
    stream::unfold(
        (acceptor, stop, lifetime),
        async |(acceptor, stop, lifetime)| {
            let (stream, slot) = acceptor.accept().await;
            let stopped = stop.wait();
            let opening = Opening {
                received: 0,
                until: Box::pin(async move {
                    tokio::select! {
                        () = stopped => {}
                        () = sleep(PREFACE_TIMEOUT) => {}
                    }
                }),
            };
            let connection = Connection {
                opening: Some(opening),
                end: Some(Box::pin(sleep(lifetime))),
                _slot: Some(slot),
                ..Connection::new(stream)
            };
            Some((Ok(connection), (acceptor, stop, lifetime)))
        },
    )
}

/// Ready when the connection must end.
fn poll_end(end: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> Poll<io::Error> {
    match end {
        Some(end) => end
            .as_mut()
            .poll(context)
            .map(|()| io::ErrorKind::TimedOut.into()),
        None => Poll::Pending,
    }
}

// === impl Connection ===

impl<S: AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            accepted: Accepted { at: Instant::now() },
            opening: None,
            end: None,
            _slot: None,
            held: BytesMut::new(),
            is_new: false,
        }
    }

    fn send_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.has_remaining() {
            let written = poll_write_buf(Pin::new(&mut self.stream), context, &mut self.held);
            let sent = match written {
                Poll::Ready(sent) => sent?,
                Poll::Pending => return poll_end(&mut self.end, context).map(Err),
            };
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
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(opening) = &mut self.opening {
            opening.received += buffer.filled().len() - before;
            if opening.received >= PREFACE_BYTES {
                self.opening = None;
            } else if polled.is_pending() {
                ready!(opening.until.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        if polled.is_pending() {
            return poll_end(&mut self.end, context).map(Err);
        }
        polled
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

    /// What the connection leans on: h2 flushes again when it is woken, until nothing is held back.
    #[tokio::test]
    async fn all_bytes_reach_a_peer_over_real_h2() {
        const SIZES: [usize; 8] = [0, 1, 9, 100, 16_384, 16_385, 70_000, 300_000];
        let (ours, theirs) = tokio::io::duplex(1_000);
        let server = tokio::spawn(async move {
            let mut connection = h2::server::handshake(Connection::new(ours)).await.unwrap();
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

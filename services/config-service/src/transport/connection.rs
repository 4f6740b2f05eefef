//! Connections of the gRPC listeners: how many there are, how old they get, and when each was accepted.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, stream};
use tagged_config_runtime::shutdown::Shutdown;
use tagged_config_web::{Acceptor, Slot, WriteCoalescer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep},
};
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

/// A connection that knows when it was accepted, and ends in time.
pub(crate) struct Connection {
    stream: TcpStream,
    accepted: Accepted,
    opening: Option<Opening>,
    /// When it is closed with whatever calls it still has.
    end: Pin<Box<Sleep>>,
    _slot: Slot,
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

/// What a listener accepts: at most so many connections at once, each closed [`CONNECTION_GRACE`] after its age. Answers that
/// are ready together leave in one write. It never fails, so tonic's own accept loop, which repeats a failed accept at once, has
/// nothing to repeat.
pub(crate) fn incoming(
    listener: TcpListener,
    max_connections: usize,
    connection_age: Duration,
    stop: Shutdown,
) -> impl Stream<Item = io::Result<WriteCoalescer<Connection>>> + Send + 'static {
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
                stream,
                accepted: Accepted { at: Instant::now() },
                opening: Some(opening),
                end: Box::pin(sleep(lifetime)),
                _slot: slot,
            };
            Some((
                Ok(WriteCoalescer::new(connection)),
                (acceptor, stop, lifetime),
            ))
        },
    )
}

// === impl Connection ===

impl Connection {
    /// What a poll of the socket comes to: where it is pending, whether the connection must end.
    fn or_end<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            ready!(self.end.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl Connected for Connection {
    type ConnectInfo = Accepted;

    fn connect_info(&self) -> Accepted {
        self.accepted
    }
}

impl AsyncRead for Connection {
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
        self.or_end(polled, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.or_end(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! Connections of the gRPC listeners: how old they get, and when each was accepted.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::transport::server::Connected;

/// Time that calls have to end after a connection has reached its age.
pub(crate) const CONNECTION_GRACE: Duration = Duration::from_secs(30);

/// What a request's extensions say of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    /// When it was accepted.
    pub at: Instant,
}

/// A connection that knows when it was accepted.
pub(crate) struct Connection {
    stream: TcpStream,
    accepted: Accepted,
}

/// What a listener accepts, with TCP_NODELAY, which the builder sets only on sockets that it accepts itself.
pub(crate) fn incoming(
    listener: TcpListener,
) -> impl Stream<Item = io::Result<Connection>> + Send + 'static {
    TcpListenerStream::new(listener).map(|stream| {
        stream.map(|stream| {
            let _ = stream.set_nodelay(true);
            let accepted = Accepted { at: Instant::now() };
            Connection { stream, accepted }
        })
    })
}

// === impl Connection ===

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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

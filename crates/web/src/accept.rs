//! Accepts connections: no more at once than a limit, and with back-off when the process has no file descriptors left.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// Pause after a failed accept that says something about the process (EMFILE, ENFILE, ENOMEM), not about one connection.
const BACKOFF: Duration = Duration::from_secs(1);

/// A listener with a limit on open connections. Connections beyond the limit wait in the kernel's backlog.
pub struct Acceptor {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

/// The place of one connection among those allowed. Dropping it admits the next connection.
pub type Slot = OwnedSemaphorePermit;

// === impl Acceptor ===

impl Acceptor {
    /// Accepts from `listener`, at most `max_connections` at once.
    pub fn new(listener: TcpListener, max_connections: usize) -> Self {
        Self {
            listener,
            slots: Arc::new(Semaphore::new(max_connections)),
        }
    }

    /// The next connection, with TCP_NODELAY set, and its slot. Failures are logged and retried, so none is returned.
    pub async fn accept(&self) -> (TcpStream, Slot) {
        let slot = match Arc::clone(&self.slots).acquire_owned().await {
            Ok(slot) => slot,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        };
        let (stream, _) = retried(|| self.listener.accept()).await;
        let _ = stream.set_nodelay(true);
        (stream, slot)
    }
}

async fn retried<T, F: Future<Output = io::Result<T>>>(mut accept: impl FnMut() -> F) -> T {
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) if concerns_one_connection(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, backoff = ?BACKOFF, "connections cannot be accepted");
                sleep(BACKOFF).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    /// `EMFILE` of Linux.
    const EMFILE: i32 = 24;

    #[tokio::test(start_paused = true)]
    async fn without_file_descriptors_the_listener_does_not_spin() {
        let mut attempts = 0;
        let failing = retried(|| {
            attempts += 1;
            async { io::Result::<()>::Err(io::Error::from_raw_os_error(EMFILE)) }
        });
        let ended = timeout(Duration::from_secs(10), failing).await;
        assert!(ended.is_err());
        assert!(attempts <= 11, "{attempts} attempts in 10 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_reset_delays_no_other() {
        let mut answers = vec![Ok(7), Err(io::ErrorKind::ConnectionAborted.into())];
        let started = Instant::now();
        let accepted = retried(|| {
            let answer = answers.pop().unwrap_or(Ok(0));
            async { answer }
        });
        assert_eq!(accepted.await, 7);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}

//! The order in which a process ends: a signal arrives, readiness turns off, calls drain, the process exits.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Default of `TAGGED_CONFIG_DRAIN_DELAY`: how long a process serves on after the stop signal, not ready, so that load
/// balancers and name servers learn of it. On AWS several seconds.
pub const DEFAULT_DRAIN_DELAY: Duration = Duration::from_millis(500);
/// How long a drain may take: with the delay, shorter than the `stopTimeout` of the ECS task (60 s).
pub const DRAIN_LIMIT: Duration = Duration::from_secs(25);

/// Tells load balancers whether to send requests here. Follows the process's life, not its backends' health.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

/// Turns true once, when the process is to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Fires a [`Shutdown`].
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// A trigger and what it fires.
pub fn shutdown_pair() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

/// Waits for SIGTERM or SIGINT.
pub async fn stop_signal() -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM: draining"),
        _ = int.recv() => tracing::info!("SIGINT: draining"),
    }
    Ok(())
}

// === impl Readiness ===

impl Readiness {
    /// Whether requests are welcome.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Welcomes requests, or no longer.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }
}

// === impl Shutdown ===

impl Shutdown {
    /// Waits until the process is to stop (also if the trigger is dropped).
    pub fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut receiver = self.0.clone();
        async move {
            let _ = receiver.wait_for(|stop| *stop).await;
        }
    }
}

impl ShutdownTrigger {
    /// Fires.
    pub fn fire(self) {
        let _ = self.0.send(true);
    }
}

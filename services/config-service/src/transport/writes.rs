//! Writes run to their end, whatever becomes of the call that sent them.

use tokio_util::task::TaskTracker;

/// The writes under way.
///
/// A call is dropped when its deadline passes or its connection closes. A write that was dropped halfway would leave an
/// outcome that nobody knows, and a cache that does not follow it. So each write is a task of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes(TaskTracker);

// === impl Writes ===

impl Writes {
    /// Runs a write as a task and waits for its outcome. If the waiting ends early, the write goes on.
    pub(crate) async fn run_to_end<T: Send + 'static>(
        &self,
        write: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.0.spawn(write).await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                // As if it had run in place: the transport answers.
                Ok(panic) => std::panic::resume_unwind(panic),
                // Nobody cancels it, except the runtime when it ends.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Waits until no write is under way. Call it when no new ones can begin.
    pub(crate) async fn finished(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{sync::Notify, time::timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_whose_call_was_dropped_runs_to_its_end_and_the_drain_waits_for_it() {
        let writes = Writes::default();
        let (release, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let write = {
            let (release, done) = (Arc::clone(&release), Arc::clone(&done));
            writes.run_to_end(async move {
                release.notified().await;
                done.notify_one();
            })
        };
        let dropped = timeout(Duration::from_secs(1), write).await;
        assert!(dropped.is_err(), "the caller's deadline");
        let drained = timeout(Duration::from_secs(1), writes.finished()).await;
        assert!(drained.is_err(), "the write is under way");
        release.notify_one();
        done.notified().await;
        writes.finished().await;
    }
}

//! Ctrl-C and SIGTERM: the first ends the measurement, and the report of what was measured is written; the second ends
//! the process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

/// Whether a stop was requested. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(CancellationToken);

impl Stop {
    /// A stop that a signal sets. Must be called once, and before goose starts: goose then leaves the
    /// signals alone, and is stopped through its kill switch.
    pub(crate) fn on_signal() -> anyhow::Result<Self> {
        let stop = Self::default();
        let heard = stop.clone();
        let again = Arc::new(AtomicBool::new(false));
        ctrlc::set_handler(move || {
            if again.swap(true, Ordering::SeqCst) {
                eprintln!("\nstopped at once: nothing is written");
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the second Ctrl-C: nobody waits for main any more"
                )]
                std::process::exit(130);
            }
            eprintln!(
                "\nstopping: the report of what was measured will be written (Ctrl-C again to give up)"
            );
            heard.0.cancel();
            goose::trigger_killswitch("interrupted");
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(stop)
    }

    /// Whether to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Ends when it is time to stop.
    pub(crate) async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Stops.
    pub(crate) fn set(&self) {
        self.0.cancel();
    }
}

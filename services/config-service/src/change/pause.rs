//! Detects that the process was suspended (SIGSTOP, CPU starvation, a frozen VM). Entries cached before a pause are not
//! served as fresh until a journal sweep that started after it has succeeded.
//!
//! A task sends a [`PauseDetector::heartbeat`] regularly. A reader that finds it overdue was suspended together with all other
//! tasks of the process: it starts a new epoch, and entries of earlier epochs are not trusted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

/// Milliseconds on a clock that goes on while the process, or the machine, does not.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Detects pauses of the process, and says which entries are trusted after one.
pub(crate) struct PauseDetector {
    clock: Clock,
    interval_ms: u64,
    epoch: AtomicU64,
    /// Entries of earlier epochs are not trusted.
    trusted_from: AtomicU64,
    /// The next heartbeat is overdue after this.
    due_ms: AtomicU64,
    /// Entries of epochs before this one are never trusted again.
    invalid_before: Mutex<u64>,
}

/// A time between two pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(u64);

// === impl PauseDetector ===

impl PauseDetector {
    /// A detector that expects a heartbeat at least this often; before the first one everything is trusted.
    pub(crate) fn new(clock: Clock, interval: Duration) -> Self {
        Self {
            clock,
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            epoch: AtomicU64::new(0),
            trusted_from: AtomicU64::new(0),
            due_ms: AtomicU64::new(u64::MAX),
            invalid_before: Mutex::new(0),
        }
    }

    /// The epoch of reads that begin now.
    pub(crate) fn epoch(&self) -> Epoch {
        self.detect();
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Whether entries of this epoch may be served as fresh.
    pub(crate) fn is_trusted(&self, epoch: Epoch) -> bool {
        self.detect();
        epoch.0 >= self.trusted_from.load(Ordering::Acquire)
    }

    /// Says that the process runs. Returns the present epoch.
    pub(crate) fn heartbeat(&self) -> Epoch {
        let epoch = self.epoch();
        let due = (self.clock)().saturating_add(self.interval_ms);
        self.due_ms.store(due, Ordering::Release);
        epoch
    }

    /// Trusts all entries again: every change is known up to a moment in this epoch.
    pub(crate) fn caught_up(&self, epoch: Epoch) {
        self.detect();
        let invalid_before = self.invalid_before.lock();
        if self.epoch.load(Ordering::Acquire) == epoch.0 {
            self.trusted_from.store(*invalid_before, Ordering::Release);
        }
    }

    /// Never trusts the present entries again: changes before now cannot be caught up with.
    pub(crate) fn invalidate_all(&self) {
        let mut invalid_before = self.invalid_before.lock();
        *invalid_before = self.next_epoch();
    }

    fn detect(&self) {
        if (self.clock)() > self.due_ms.load(Ordering::Acquire) {
            let _one = self.invalid_before.lock();
            // Another reader may have been first.
            let now = (self.clock)();
            if now > self.due_ms.load(Ordering::Acquire) {
                tracing::warn!(
                    "the process was paused: cached entries are read again until a sweep succeeds"
                );
                self.next_epoch();
                let due = now.saturating_add(self.interval_ms);
                self.due_ms.store(due, Ordering::Release);
            }
        }
    }

    /// Call it with the lock.
    fn next_epoch(&self) -> u64 {
        let next = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        self.trusted_from.store(next, Ordering::Release);
        next
    }
}

/// The system's clock. On Linux it counts the time in which the machine was suspended.
pub(crate) fn system_clock() -> Clock {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic;
    Arc::new(|| {
        let now = clock_gettime(CLOCK);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
        seconds * 1_000 + nanoseconds / 1_000_000
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detector() -> (Arc<AtomicU64>, PauseDetector) {
        let now = Arc::new(AtomicU64::new(1_000));
        let clock = Arc::clone(&now);
        let clock = Arc::new(move || clock.load(Ordering::SeqCst));
        (now, PauseDetector::new(clock, Duration::from_secs(4)))
    }

    #[test]
    fn after_a_pause_nothing_earlier_is_trusted_until_a_sweep_succeeds() {
        let (now, pauses) = detector();
        let before = pauses.heartbeat();
        now.store(4_000, Ordering::SeqCst);
        assert!(pauses.is_trusted(before));
        now.store(60_000, Ordering::SeqCst);
        assert!(!pauses.is_trusted(before));
        let after = pauses.epoch();
        assert!(pauses.is_trusted(after), "what is asked for now is served");
        assert!(!pauses.is_trusted(before), "asking does not help the rest");
        let sweep = pauses.heartbeat();
        pauses.caught_up(sweep);
        assert!(pauses.is_trusted(before));
    }

    #[test]
    fn a_sweep_from_before_the_pause_proves_nothing() {
        let (now, pauses) = detector();
        let sweep = pauses.heartbeat();
        now.store(60_000, Ordering::SeqCst);
        pauses.caught_up(sweep);
        assert!(!pauses.is_trusted(sweep));
    }

    #[test]
    fn what_is_lost_stays_lost() {
        let (_, pauses) = detector();
        let before = pauses.heartbeat();
        pauses.invalidate_all();
        let sweep = pauses.heartbeat();
        pauses.caught_up(sweep);
        assert!(!pauses.is_trusted(before));
        assert!(pauses.is_trusted(sweep));
    }

    #[test]
    fn the_system_clock_goes_on() {
        let clock = system_clock();
        let first = clock();
        assert!(first > 0 && clock() >= first);
    }
}

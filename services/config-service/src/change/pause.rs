//! Whether what is cached may be served without asking: not after a pause of the whole process (SIGSTOP, a frozen
//! machine, no CPU), until a sweep has caught up with what happened meanwhile.
//!
//! Whoever works against staleness reports regularly with [`Trust::awake`]. A reader that finds the report overdue was
//! paused with everybody else: it starts a new epoch, and what was cached in an earlier one is asked for again.

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

/// Epochs of the process's attention.
pub(crate) struct Trust {
    clock: Clock,
    allowance_ms: u64,
    epoch: AtomicU64,
    /// Entries of earlier epochs are not trusted.
    trusted_from: AtomicU64,
    /// The next report is due.
    due_ms: AtomicU64,
    /// The changes of epochs before this one are beyond recall.
    lost: Mutex<u64>,
}

/// When something was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(u64);

// === impl Trust ===

impl Trust {
    /// With reports expected at least this often; before the first one everything is trusted.
    pub(crate) fn new(clock: Clock, allowance: Duration) -> Self {
        Self {
            clock,
            allowance_ms: u64::try_from(allowance.as_millis()).unwrap_or(u64::MAX),
            epoch: AtomicU64::new(0),
            trusted_from: AtomicU64::new(0),
            due_ms: AtomicU64::new(u64::MAX),
            lost: Mutex::new(0),
        }
    }

    /// What is learnt by asking from now on.
    pub(crate) fn epoch(&self) -> Epoch {
        self.look();
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Whether what was learnt then may be served.
    pub(crate) fn holds(&self, learnt: Epoch) -> bool {
        self.look();
        learnt.0 >= self.trusted_from.load(Ordering::Acquire)
    }

    /// A report: nothing was missed up to now that was not noticed. The present epoch.
    pub(crate) fn awake(&self) -> Epoch {
        let epoch = self.epoch();
        let due = (self.clock)().saturating_add(self.allowance_ms);
        self.due_ms.store(due, Ordering::Release);
        epoch
    }

    /// All changes are known up to a moment in this epoch.
    pub(crate) fn caught_up(&self, epoch: Epoch) {
        self.look();
        let lost = self.lost.lock();
        if self.epoch.load(Ordering::Acquire) == epoch.0 {
            self.trusted_from.store(*lost, Ordering::Release);
        }
    }

    /// Changes before now are beyond recall: all that was learnt has to be asked for again.
    pub(crate) fn lose(&self) {
        let mut lost = self.lost.lock();
        *lost = self.next_epoch();
    }

    fn look(&self) {
        if (self.clock)() > self.due_ms.load(Ordering::Acquire) {
            let _one = self.lost.lock();
            // Another reader may have been here first.
            let now = (self.clock)();
            if now > self.due_ms.load(Ordering::Acquire) {
                tracing::warn!(
                    "the process was paused: what is cached is asked for again until a sweep succeeds"
                );
                self.next_epoch();
                let due = now.saturating_add(self.allowance_ms);
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

    fn trust() -> (Arc<AtomicU64>, Trust) {
        let now = Arc::new(AtomicU64::new(1_000));
        let clock = Arc::clone(&now);
        let clock = Arc::new(move || clock.load(Ordering::SeqCst));
        (now, Trust::new(clock, Duration::from_secs(4)))
    }

    #[test]
    fn after_a_pause_nothing_earlier_is_trusted_until_a_sweep_succeeds() {
        let (now, trust) = trust();
        let before = trust.awake();
        now.store(4_000, Ordering::SeqCst);
        assert!(trust.holds(before));
        now.store(60_000, Ordering::SeqCst);
        assert!(!trust.holds(before));
        let after = trust.epoch();
        assert!(trust.holds(after), "what is asked for now is served");
        assert!(!trust.holds(before), "asking does not help the rest");
        let sweep = trust.awake();
        trust.caught_up(sweep);
        assert!(trust.holds(before));
    }

    #[test]
    fn a_sweep_from_before_the_pause_proves_nothing() {
        let (now, trust) = trust();
        let sweep = trust.awake();
        now.store(60_000, Ordering::SeqCst);
        trust.caught_up(sweep);
        assert!(!trust.holds(sweep));
    }

    #[test]
    fn what_is_lost_stays_lost() {
        let (_, trust) = trust();
        let before = trust.awake();
        trust.lose();
        let sweep = trust.awake();
        trust.caught_up(sweep);
        assert!(!trust.holds(before));
        assert!(trust.holds(sweep));
    }

    #[test]
    fn the_system_clock_goes_on() {
        let clock = system_clock();
        let first = clock();
        assert!(first > 0 && clock() >= first);
    }
}

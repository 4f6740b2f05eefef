//! The open loop of [`crate::latency::open`] on one busy-waiting thread: it sends what is due, and otherwise polls the
//! requests in flight. A timer is late by 50 µs and more, and each wake-up of a thread costs as much as a request.
//! This loop is late by as long as its own work takes. It takes a whole processor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::{
    latency::open::{Outcome, Plan, Tally},
    recorder::{histogram, micros},
    stop::Stop,
};

const GRACE: Duration = Duration::from_secs(1);
/// Requests that are sent before answers are taken when the loop is late.
const BURST: u32 = 8;
/// Loops between two checks for a stop.
const LOOPS: u32 = 1_024;

struct Counts {
    in_flight: AtomicU64,
    answered: AtomicU64,
    lag: Mutex<Histogram<u64>>,
}

/// Sends requests as planned, on the current thread's runtime. `send` gets the time at which its request was due.
pub(super) async fn run<F, A>(plan: Plan, stop: &Stop, send: F) -> Outcome
where
    F: Fn(Instant) -> A,
    A: Future<Output = ()> + Send + 'static,
{
    let counts = Arc::new(Counts {
        in_flight: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        lag: Mutex::new(histogram(3)),
    });
    let begun = Instant::now();
    let (mut due_count, mut skipped, mut in_a_row, mut loops) = (0_u64, 0_u64, 0, 0_u32);
    loop {
        let offset = Duration::from_secs_f64(due_count as f64 / plan.rate);
        loops = loops.wrapping_add(1);
        if offset >= plan.duration || (loops.is_multiple_of(LOOPS) && stop.is_set()) {
            break;
        }
        let due = begun + offset;
        if in_a_row == BURST || Instant::now() < due {
            in_a_row = 0;
            tokio::task::yield_now().await;
            continue;
        }
        in_a_row += 1;
        due_count += 1;
        if counts.in_flight.load(Ordering::Relaxed) >= u64::from(plan.max_in_flight) {
            skipped += 1;
            continue;
        }
        counts.in_flight.fetch_add(1, Ordering::Relaxed);
        let (counts, request) = (Arc::clone(&counts), send(due));
        tokio::spawn(async move {
            counts.lag.lock().saturating_record(micros(due.elapsed()));
            request.await;
            counts.answered.fetch_add(1, Ordering::Relaxed);
            counts.in_flight.fetch_sub(1, Ordering::Relaxed);
        });
    }
    let seconds = begun.elapsed().as_secs_f64();
    drain(&counts, Instant::now() + GRACE, stop).await;
    let answered = counts.answered.load(Ordering::Relaxed);
    drain(&counts, Instant::now() + plan.timeout + GRACE, stop).await;
    let in_flight = counts.in_flight.load(Ordering::Relaxed);
    let tally = Tally {
        due: due_count,
        sent: due_count - skipped,
        skipped,
        answered,
        lost: if stop.is_set() { 0 } else { in_flight },
        seconds,
    };
    let lag = counts.lag.lock().clone();
    Outcome {
        seconds,
        answered,
        not_sustained: tally.verdict(plan),
        lag,
    }
}

/// Lets what is in flight proceed until the deadline.
async fn drain(counts: &Counts, deadline: Instant, stop: &Stop) {
    while counts.in_flight.load(Ordering::Relaxed) > 0
        && Instant::now() < deadline
        && !stop.is_set()
    {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rate: f64, max_in_flight: u32) -> Plan {
        Plan {
            rate,
            duration: Duration::from_millis(300),
            max_in_flight,
            timeout: Duration::from_secs(3),
        }
    }

    #[tokio::test]
    async fn each_request_is_sent_when_it_is_due() {
        let took = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&took);
        let outcome = run(plan(1_000.0, 100), &Stop::default(), move |due| {
            let record = Arc::clone(&record);
            async move { record.lock().push(due.elapsed()) }
        })
        .await;
        assert_eq!((outcome.answered, outcome.not_sustained), (300, None));
        assert_eq!((took.lock().len(), outcome.lag.len()), (300, 300));
    }

    #[tokio::test]
    async fn a_stall_of_the_thread_is_charged_to_all_who_were_due_meanwhile() {
        let (slow, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&slow);
        let outcome = run(plan(1_000.0, 1_000), &Stop::default(), move |due| {
            let (slow, count) = (Arc::clone(&counted), Arc::clone(&count));
            async move {
                if count.fetch_add(1, Ordering::Relaxed) == 50 {
                    #[expect(clippy::disallowed_methods, reason = "the stall")]
                    std::thread::sleep(Duration::from_millis(100));
                }
                if due.elapsed() > Duration::from_millis(20) {
                    slow.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .await;
        assert_eq!(outcome.answered, 300);
        let slow = slow.load(Ordering::Relaxed);
        assert!(slow >= 75, "80 were due in the first 80 ms: {slow}");
        let lag = outcome.lag.value_at_quantile(0.9);
        assert!(lag >= 20_000, "{lag}");
    }

    #[tokio::test]
    async fn a_rate_that_was_not_sustained_is_refused() {
        let slow = |_| tokio::time::sleep(Duration::from_secs(2));
        for (max_in_flight, said) in [(1_000, "did not keep up"), (3, "could not be sent")] {
            let outcome = run(plan(200.0, max_in_flight), &Stop::default(), slow).await;
            assert!(outcome.not_sustained.unwrap().reason.contains(said));
        }
        let busy = |_| async {
            #[expect(clippy::disallowed_methods, reason = "the load generator is too slow")]
            std::thread::sleep(Duration::from_millis(2));
        };
        let outcome = run(plan(1_000.0, 1_000), &Stop::default(), busy).await;
        let why = outcome.not_sustained.unwrap();
        assert!(why.reason.contains("the harness sent"), "{why:?}");
    }

    #[tokio::test]
    async fn a_stop_ends_it() {
        let stop = Stop::default();
        stop.set();
        let outcome = run(plan(100.0, 1), &stop, async |_| {}).await;
        assert!(outcome.answered < 30);
    }
}

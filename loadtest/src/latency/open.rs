//! An open loop: requests are due at fixed times, independent of earlier answers. Each is timed from when it was due,
//! not from when it was sent. A target that stalls is therefore charged for every request that was due meanwhile
//! (coordinated omission: Gil Tene, "How NOT to Measure Latency").

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::{
    recorder::{histogram, micros, per_second},
    stop::Stop,
};

/// This part of the requests must have been sent, and answered by a second after the end.
const SUSTAINED: f64 = 0.99;
/// How long answers are awaited after the end.
const GRACE: Duration = Duration::from_secs(1);
/// The schedule checks for a stop at least this often.
const NAP: Duration = Duration::from_millis(100);

/// A rate and a duration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Requests a second.
    pub(crate) rate: f64,
    /// How long requests are sent.
    pub(crate) duration: Duration,
    /// Requests in flight, at most. One that is due beyond that is not sent, and counted.
    pub(crate) max_in_flight: u32,
    /// How long a request may take.
    pub(crate) timeout: Duration,
}

/// The outcome of an open loop.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Seconds in which requests were sent.
    pub(crate) seconds: f64,
    /// Requests that were answered by the end of the grace period.
    pub(crate) answered: u64,
    /// Why the rate was not sustained, if it was not.
    pub(crate) not_sustained: Option<NotSustained>,
    /// How long after it was due each request was sent, in microseconds.
    pub(crate) lag: Histogram<u64>,
}

/// Why a rate was not sustained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotSustained {
    /// In words.
    pub(crate) reason: String,
    /// Whether the harness could not send it, so that it says nothing about the target.
    pub(crate) by_harness: bool,
}

/// The requests of a plan, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Requests that were due.
    pub(crate) due: u64,
    /// Those that were sent.
    pub(crate) sent: u64,
    /// Those that were not sent, since too many were in flight.
    pub(crate) skipped: u64,
    /// Those that were answered by the end of the grace period.
    pub(crate) answered: u64,
    /// Those that had not even failed by the time-out: their task is gone.
    pub(crate) lost: u64,
    /// Seconds in which requests were sent.
    pub(crate) seconds: f64,
}

struct Counts {
    in_flight: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    skipped: AtomicU64,
    lag: Mutex<Histogram<u64>>,
}

/// Sends requests as planned. `send` gets the time at which its request is due, and is called by one thread only.
pub(crate) async fn run<F, A>(plan: Plan, stop: &Stop, send: F) -> Outcome
where
    F: FnMut(Instant) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let counts = Arc::new(Counts {
        in_flight: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        skipped: AtomicU64::new(0),
        lag: Mutex::new(histogram(3)),
    });
    let runtime = tokio::runtime::Handle::current();
    let (shared, stopped) = (Arc::clone(&counts), stop.clone());
    // A thread of its own: the runtime's timer knows whole milliseconds only.
    let schedule =
        tokio::task::spawn_blocking(move || keep_schedule(plan, &stopped, &shared, &runtime, send));
    let scheduled = schedule.await.ok();
    let (due, seconds) = scheduled.unwrap_or_default();
    let in_flight = || counts.in_flight.load(Ordering::Acquire);
    let deadline = Instant::now() + GRACE;
    while in_flight() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answered = counts.answered.load(Ordering::Acquire);
    // What is still in flight counts, too: as answered late or not at all.
    let last = Instant::now() + plan.timeout + GRACE;
    while in_flight() > 0 && Instant::now() < last && !stop.is_set() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let tally = Tally {
        due,
        sent: counts.sent.load(Ordering::Relaxed),
        skipped: counts.skipped.load(Ordering::Relaxed),
        answered,
        lost: if stop.is_set() { 0 } else { in_flight() },
        seconds,
    };
    let lag = counts.lag.lock().clone();
    Outcome {
        seconds,
        answered,
        not_sustained: if scheduled.is_some() {
            tally.verdict(plan)
        } else {
            Some(NotSustained {
                reason: "the thread that sends requests has panicked".to_owned(),
                by_harness: true,
            })
        },
        lag,
    }
}

// === impl Tally ===

impl Tally {
    /// Why the rate was not sustained, if it was not.
    pub(crate) fn verdict(&self, plan: Plan) -> Option<NotSustained> {
        let &Self {
            due,
            skipped,
            answered,
            lost,
            ..
        } = self;
        let sent_rate = per_second(self.sent + skipped, self.seconds);
        let (reason, by_harness) = if self.seconds > 0.0
            && sent_rate < SUSTAINED * plan.rate
            && due > 10
        {
            let rate = plan.rate;
            let reason =
                format!("the harness sent {sent_rate:.0} requests a second, not {rate:.0}");
            (reason, true)
        } else if skipped > 0 {
            let most = plan.max_in_flight;
            let reason = format!(
                "{skipped} of {due} requests could not be sent: {most} were in flight, the most allowed"
            );
            (reason, false)
        } else if lost > 0 {
            let reason = format!("{lost} of {due} requests were lost in the harness");
            (reason, true)
        } else if (answered as f64) < SUSTAINED * due as f64 {
            let reason = format!(
                "{answered} of {due} requests were answered a second after the end: the target did not keep up"
            );
            (reason, false)
        } else {
            return None;
        };
        Some(NotSustained { reason, by_harness })
    }
}

/// Sets the timer slack of this thread to a nanosecond: by default the kernel wakes a thread up to 50 microseconds late
/// (proc(5), `/proc/PID/timerslack_ns`). A spinning thread would be as punctual, and take a processor from the target.
fn be_punctual() {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    if let Some(id) = thread.as_deref().and_then(std::path::Path::file_name) {
        // Without it the lag is larger, and reported.
        let _ = std::fs::write(
            std::path::Path::new("/proc").join(id).join("timerslack_ns"),
            "1",
        );
    }
}

fn keep_schedule<F, A>(
    plan: Plan,
    stop: &Stop,
    counts: &Arc<Counts>,
    runtime: &tokio::runtime::Handle,
    mut send: F,
) -> (u64, f64)
where
    F: FnMut(Instant) -> A,
    A: Future<Output = ()> + Send + 'static,
{
    be_punctual();
    let begun = Instant::now();
    let mut due_count = 0_u64;
    loop {
        let offset = Duration::from_secs_f64(due_count as f64 / plan.rate);
        if offset >= plan.duration {
            break;
        }
        let due = begun + offset;
        while let Some(early) = due
            .checked_duration_since(Instant::now())
            .filter(|early| !early.is_zero())
        {
            if stop.is_set() {
                return (due_count, begun.elapsed().as_secs_f64());
            }
            #[expect(clippy::disallowed_methods, reason = "this thread is no worker")]
            std::thread::sleep(early.min(NAP));
        }
        if stop.is_set() {
            break;
        }
        due_count += 1;
        if counts.in_flight.load(Ordering::Acquire) >= u64::from(plan.max_in_flight) {
            counts.skipped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        counts.in_flight.fetch_add(1, Ordering::AcqRel);
        let (counts, request) = (Arc::clone(counts), send(due));
        runtime.spawn(async move {
            counts.sent.fetch_add(1, Ordering::Relaxed);
            counts.lag.lock().saturating_record(micros(due.elapsed()));
            request.await;
            counts.answered.fetch_add(1, Ordering::Relaxed);
            counts.in_flight.fetch_sub(1, Ordering::AcqRel);
        });
    }
    (due_count, begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// A server that does one thing at a time, and stalls once for 400 ms.
    async fn at_a_stalling_server(rate: f64) -> (Outcome, Vec<Duration>, Vec<Duration>) {
        let one_at_a_time = Arc::new(Semaphore::new(1));
        let count = Arc::new(AtomicU64::new(0));
        let corrected = Arc::new(Mutex::new(Vec::new()));
        let naive = Arc::new(Mutex::new(Vec::new()));
        let (from_due, from_start) = (Arc::clone(&corrected), Arc::clone(&naive));
        let plan = Plan {
            rate,
            duration: Duration::from_secs(1),
            max_in_flight: 1_000,
            timeout: Duration::from_secs(5),
        };
        let outcome = run(plan, &Stop::default(), move |due| {
            let (server, count) = (Arc::clone(&one_at_a_time), Arc::clone(&count));
            let (from_due, from_start) = (Arc::clone(&from_due), Arc::clone(&from_start));
            async move {
                let Ok(_permit) = server.acquire().await else {
                    return;
                };
                // What a loop measures that sends only when the answer before is there.
                let started = Instant::now();
                if count.fetch_add(1, Ordering::Relaxed) == 50 {
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
                from_start.lock().push(started.elapsed());
                from_due.lock().push(due.elapsed());
            }
        })
        .await;
        let (corrected, naive) = (corrected.lock().clone(), naive.lock().clone());
        (outcome, corrected, naive)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stall_is_charged_to_all_who_were_due_meanwhile() {
        let (outcome, corrected, naive) = at_a_stalling_server(200.0).await;
        let slow = |times: &[Duration]| {
            times
                .iter()
                .filter(|time| **time >= Duration::from_millis(100))
                .count()
        };
        assert_eq!(outcome.answered, 200);
        assert_eq!(corrected.len(), 200, "none is dropped");
        assert_eq!(
            slow(&naive),
            1,
            "without correction the stall is one sample"
        );
        assert!(
            slow(&corrected) >= 55,
            "60 were due in the 300 ms that made them wait 100 ms: {}",
            slow(&corrected)
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rate_that_was_not_sustained_is_refused() {
        let plan = |max_in_flight| Plan {
            rate: 200.0,
            duration: Duration::from_millis(500),
            max_in_flight,
            timeout: Duration::from_secs(3),
        };
        let slow = |_| tokio::time::sleep(Duration::from_secs(2));
        let outcome = run(plan(1_000), &Stop::default(), slow).await;
        assert!(
            outcome
                .not_sustained
                .is_some_and(|why| why.reason.contains("did not keep up") && !why.by_harness)
        );
        let outcome = run(plan(3), &Stop::default(), slow).await;
        assert!(
            outcome
                .not_sustained
                .is_some_and(|why| why.reason.contains("could not be sent") && !why.by_harness)
        );
        let outcome = run(plan(1_000), &Stop::default(), async |_| {}).await;
        assert_eq!(outcome.not_sustained, None);
        assert_eq!(outcome.answered, 100);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_harness_cannot_send_is_no_limit_of_the_target() {
        let plan = Plan {
            rate: 1_000.0,
            duration: Duration::from_millis(300),
            max_in_flight: 1_000,
            timeout: Duration::from_millis(100),
        };
        let busy = |_| {
            #[expect(clippy::disallowed_methods, reason = "the harness is too slow")]
            std::thread::sleep(Duration::from_millis(2));
            std::future::ready(())
        };
        let why = run(plan, &Stop::default(), busy).await.not_sustained;
        let why = why.unwrap();
        assert!(
            why.reason.contains("the harness sent") && why.by_harness,
            "{why:?}"
        );
        let plan = Plan { rate: 50.0, ..plan };
        let gone = |_| async { panic!("this request's task") };
        let why = run(plan, &Stop::default(), gone).await.not_sustained;
        assert!(why.is_some_and(|why| why.reason.contains("lost in the harness")));
        let never = |_| -> std::future::Ready<()> { panic!("the schedule's thread") };
        let why = run(plan, &Stop::default(), never).await.not_sustained;
        assert!(why.is_some_and(|why| why.reason.contains("panicked") && why.by_harness));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stop_ends_it() {
        let stop = Stop::default();
        stop.set();
        let plan = Plan {
            rate: 1.0,
            duration: Duration::from_hours(1),
            max_in_flight: 1,
            timeout: Duration::from_secs(1),
        };
        assert_eq!(run(plan, &stop, async |_| {}).await.answered, 0);
    }
}

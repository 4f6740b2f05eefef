//! Progress on standard error: bars and live figures on a terminal, a line at each beginning elsewhere.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::{
    recorder::{Observation, histogram, micros},
    report::table,
    stop::Stop,
};

/// The figures of the last second of a load, in the message of a bar. Without a terminal there are none.
#[derive(Clone, Default)]
pub(crate) struct Live(Option<Arc<Mutex<Second>>>);

struct Second {
    times: Histogram<u64>,
    errors: u64,
}

/// A bar over a number of things.
pub(crate) fn counting(title: &str, total: u64) -> ProgressBar {
    start(
        title,
        total,
        "{msg:<32} {wide_bar:.cyan/dim} {human_pos}/{human_len} {eta}",
    )
}

/// A bar over a time, which it fills by itself.
pub(crate) fn timing(title: &str, duration: Duration, stop: &Stop) -> ProgressBar {
    let tenths = u64::try_from(duration.as_millis() / 100)
        .unwrap_or(u64::MAX)
        .max(1);
    let bar = start(
        title,
        tenths,
        "{msg:<32} {wide_bar:.cyan/dim} {elapsed} of a planned run",
    );
    let (ticking, stop) = (bar.clone(), stop.clone());
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        while !ticking.is_finished() && ticking.position() < tenths && !stop.is_set() {
            interval.tick().await;
            ticking.inc(1);
        }
    });
    bar
}

fn start(title: &str, length: u64, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("{title}");
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length)
        .with_style(style)
        .with_message(title.to_owned())
}

// === impl Live ===

impl Live {
    /// Writes rate, 99th percentile and failures of each second after this bar's title, until the bar is finished.
    pub(crate) fn beside(bar: &ProgressBar) -> Self {
        if bar.is_hidden() {
            return Self::default();
        }
        let second = Arc::new(Mutex::new(Second::new()));
        let (kept, bar, title) = (Arc::clone(&second), bar.clone(), bar.message());
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(Duration::from_secs(1));
            interval.tick().await;
            while !bar.is_finished() {
                interval.tick().await;
                let last = std::mem::replace(&mut *kept.lock(), Second::new());
                bar.set_message(format!("{title}: {}", last.line()));
            }
        });
        Self(Some(second))
    }

    /// Records one request.
    pub(crate) fn record(&self, observation: &Observation) {
        if let Self(Some(second)) = self {
            let mut second = second.lock();
            second.times.saturating_record(micros(observation.took));
            second.errors += u64::from(observation.answer.error.is_some());
        }
    }
}

// === impl Second ===

impl Second {
    fn new() -> Self {
        Self {
            times: histogram(2),
            errors: 0,
        }
    }

    fn line(&self) -> String {
        let p99 = table::time(self.times.value_at_quantile(0.99) as f64);
        let (count, errors) = (self.times.len(), self.errors);
        format!("{count}/s, p99 {p99}, {errors} errors")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_rate_tail_and_errors() {
        let mut second = Second::new();
        (0..100).for_each(|_| second.times.saturating_record(1_200));
        second.errors = 3;
        assert_eq!(second.line(), "100/s, p99 1.21 ms, 3 errors");
    }
}

//! What is going on, on standard error: bars on a terminal, a line at each beginning elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::stop::Stop;

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

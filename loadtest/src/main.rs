//! loadtest: how fast the configuration service answers, and how long an update takes to be visible everywhere.
//!
//! Users and scenarios are goose's ([`latency::closed`]); goose keeps whole milliseconds in its summaries and has no open
//! loop, so the scheduler ([`latency::open`]) and the histograms ([`recorder`]) are our own. Both loops send the same
//! requests ([`scenarios`]) through the same client ([`client`]).

#![expect(
    clippy::cast_precision_loss,
    reason = "counts and microseconds are far below 2 to the 52nd"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool: results on standard output, progress on standard error"
)]
#![cfg_attr(
    test,
    allow(clippy::float_cmp, reason = "tests compare what was put in")
)]

mod accounts;
mod baseline_target;
mod blobs;
mod capacity;
mod chaos;
mod cli;
mod client;
mod compare;
mod dataset;
mod environment;
mod figures;
mod hits;
mod latency;
mod neighbours;
mod progress;
mod recorder;
mod repeat;
mod report;
mod scenarios;
mod secrets;
mod slo;
mod soak;
mod staleness;
mod stop;
mod targets;
mod tokens;
mod watchers;
mod world;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    stop::Stop,
};

/// Outcome of a command that did not fail, from best to worst; each has an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    /// 0.
    Well,
    /// 1: measured, but the figures are not trustworthy (a rate that was not sustained, wrong answers, a
    /// violated history); the reasons have been printed.
    Poorly,
    /// 2: an SLO was breached, or a comparison shows a regression.
    Breached,
    /// 130: Ctrl-C; the report of what was measured is written.
    Interrupted,
}

/// The command line, or what it names, cannot be used: exit code 64.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Ctrl-C came before there was anything to report: exit code 130 too.
#[derive(Debug, thiserror::Error)]
#[error("interrupted before anything was measured: no report is written")]
struct Interrupted;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(tagged_config_runtime::EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(cli) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Poorly) => ExitCode::FAILURE,
        Ok(Ended::Breached) => ExitCode::from(2),
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() {
                ExitCode::from(tagged_config_runtime::EXIT_USAGE)
            } else if error.is::<Interrupted>() {
                ExitCode::from(130)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// A command that measures, as often as `--repeat` says.
macro_rules! measured {
    ($command:ident, $options:ident, $runtime:ident) => {{
        let stop = Stop::on_signal()?;
        repeat::run(&$options.output, |output| {
            let mut options = $options.clone();
            options.output = output;
            $runtime.block_on($command::run(options, stop.clone()))
        })
    }};
}

fn run(cli: Cli) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match cli.command {
        Command::Latency(options) => measured!(latency, options, runtime),
        Command::Capacity(options) => measured!(capacity, options, runtime),
        Command::Soak(options) => measured!(soak, options, runtime),
        Command::Staleness(options) => measured!(staleness, options, runtime),
        Command::Chaos(options) => measured!(chaos, options, runtime),
        Command::Neighbours(options) => measured!(neighbours, options, runtime),
        Command::Watchers(options) => measured!(watchers, options, runtime),
        Command::Hits(options) => {
            let stop = Stop::on_signal()?;
            runtime.block_on(hits::run(options, stop))
        }
        Command::Seed(options) => {
            let stop = Stop::on_signal()?;
            runtime.block_on(dataset::seed_command(options, &stop))
        }
        Command::Unseed(options) => {
            let stop = Stop::on_signal()?;
            runtime.block_on(dataset::unseed_command(options, &stop))
        }
        Command::Report(options) => report::command(&options),
        Command::Compare(options) => compare::command(&options),
        Command::Schema => {
            println!("{}", report::schema_text()?);
            Ok(Ended::Well)
        }
        Command::BaselineTarget(options) => {
            let dataset = dataset::Dataset::of(&cli::Shape {
                tenants: 1,
                keys: 1,
                value_bytes: options.value_bytes,
            });
            runtime.block_on(baseline_target::serve(dataset))
        }
    }
}

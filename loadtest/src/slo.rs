//! Demands on a result: `grpc.hit.p99<2ms`, `open.edge.p50<=40ms`, `grpc.rate>1000`, `staleness.dynamodb.p99<1s`,
//! `staleness.parameter-store.edge.max<2s`, `staleness.lost<1`, `errors<0.1%`.
//!
//! A demand that cannot be judged, for want of samples or since the rate was not sustained, is not met.

use std::{fmt, str::FromStr, time::Duration};

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Usage, cli,
    cli::{LatencyOptions, Loop, StalenessOptions},
    recorder::{quantiles, restored},
    report::{Phase, Report},
};

#[cfg(test)]
mod tests;

/// A demand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slo {
    subject: Subject,
    statistic: Statistic,
    relation: Relation,
    bound: f64,
}

/// What it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    /// Everything that was asked.
    All,
    /// Questions at one path; in one loop, if it names one, else in each; those with this result, scenario or
    /// operation, if it names one.
    Path {
        loop_kind: Option<String>,
        path: String,
        part: Option<String>,
    },
    /// Updates: of all sources or one, until one stage.
    Staleness {
        source: Option<String>,
        stage: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statistic {
    P50,
    P90,
    P99,
    P999,
    Max,
    Mean,
    Rate,
    Errors,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// A demand and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Verdict {
    /// The demand.
    pub(crate) slo: String,
    /// Whether it was met.
    pub(crate) met: bool,
    /// What was measured, or why it cannot be judged.
    pub(crate) measured: String,
}

/// What a command will measure: names that a demand may have.
pub(crate) struct Measured {
    paths: Vec<&'static str>,
    loops: Vec<&'static str>,
    sources: Vec<&'static str>,
    /// Stages that nobody observes.
    unseen: Vec<&'static str>,
}

const PARTS: [&str; 18] = [
    "hit",
    "miss",
    "stale",
    "absent",
    "none",
    "failed",
    "hot",
    "mixed",
    "batch",
    "writers",
    "orders",
    "rest",
    "get",
    "get-absent",
    "get-if-changed",
    "put",
    "order",
    "background",
];
/// The stages that staleness is measured to.
pub(crate) const STAGES: [&str; 9] = [
    "acknowledge",
    "first_replica",
    "last_replica",
    "edge",
    "order",
    "write_to_start",
    "read",
    "discover",
    "fanout",
];
const PATHS: [&str; 3] = ["grpc", "alb", "edge"];
const SOURCES: [&str; 3] = ["dynamodb", "put-config", "parameter-store"];
const STATISTICS: [(&str, Statistic); 9] = [
    ("p50", Statistic::P50),
    ("p90", Statistic::P90),
    ("p99", Statistic::P99),
    ("p99.9", Statistic::P999),
    ("max", Statistic::Max),
    ("mean", Statistic::Mean),
    ("rate", Statistic::Rate),
    ("errors", Statistic::Errors),
    ("lost", Statistic::Lost),
];

impl Measured {
    /// By `loadtest latency`.
    pub(crate) fn latency(options: &LatencyOptions) -> Self {
        let loops = options.loops.iter().map(|one| match one {
            Loop::Closed => "closed",
            Loop::Open => "open",
        });
        Self {
            paths: options.targets.iter().map(|target| target.name()).collect(),
            loops: loops.collect(),
            sources: Vec::new(),
            unseen: Vec::new(),
        }
    }

    /// By `loadtest staleness`.
    pub(crate) fn staleness(options: &StalenessOptions) -> Self {
        let loaded = options.background.iter().any(|rate| *rate > 0.0);
        let unseen = [("edge", options.no_edge), ("order", options.no_orders)];
        Self {
            unseen: unseen
                .into_iter()
                .filter_map(|(stage, left_out)| left_out.then_some(stage))
                .collect(),
            paths: if loaded { vec!["grpc"] } else { Vec::new() },
            loops: vec!["open"],
            sources: options.sources.iter().map(|source| source.name()).collect(),
        }
    }
}

/// Refuses demands on what will not be measured, before anything is.
pub(crate) fn check(slos: &[Slo], measured: &Measured) -> Result<(), Usage> {
    for slo in slos {
        let refuse = |what: &str, name: &str, known: &[&str]| {
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            Usage(format!(
                "--slo '{slo}': this run measures no {what} {name:?} (it measures: {known})"
            ))
        };
        match &slo.subject {
            Subject::All => {}
            Subject::Path {
                loop_kind, path, ..
            } => {
                if !measured.paths.contains(&path.as_str()) {
                    return Err(refuse("path", path, &measured.paths));
                }
                if let Some(named) = loop_kind
                    && !measured.loops.contains(&named.as_str())
                {
                    return Err(refuse("loop", named, &measured.loops));
                }
            }
            Subject::Staleness { source, stage } => {
                if measured.unseen.contains(&stage.as_str()) {
                    return Err(refuse("stage", stage, &["others"]));
                }
                if measured.sources.is_empty() {
                    return Err(refuse("source", "staleness", &measured.paths));
                }
                if let Some(named) = source
                    && !measured.sources.contains(&named.as_str())
                {
                    return Err(refuse("source", named, &measured.sources));
                }
            }
        }
    }
    Ok(())
}

impl Slo {
    /// Judges a result.
    pub(crate) fn judge(&self, report: &Report) -> Verdict {
        let found = match &self.subject {
            Subject::All => {
                let (count, errors) = report.totals();
                share(errors, count).map(|share| vec![(String::new(), share)])
            }
            Subject::Path {
                loop_kind,
                path,
                part,
            } => self.of_path(report, loop_kind.as_deref(), path, part.as_deref()),
            Subject::Staleness { source, stage } => {
                self.of_staleness(report, source.as_deref(), stage)
            }
        };
        let (met, measured) = match found {
            Err(reason) => (false, format!("cannot be judged: {reason}")),
            Ok(values) => {
                // The worst: a demand that names no loop or load holds in each.
                let worst = values.iter().reduce(|a, b| {
                    let b_is_worse = match self.relation {
                        Relation::Less | Relation::AtMost => b.1 > a.1,
                        Relation::More | Relation::AtLeast => b.1 < a.1,
                    };
                    if b_is_worse { b } else { a }
                });
                match worst {
                    None => (false, "cannot be judged: nothing was measured".to_owned()),
                    Some((place, value)) => (
                        self.holds(*value),
                        format!("{}{place}", self.statistic.show(*value)),
                    ),
                }
            }
        };
        Verdict {
            slo: self.to_string(),
            met,
            measured,
        }
    }

    fn holds(&self, value: f64) -> bool {
        match self.relation {
            Relation::Less => value < self.bound,
            Relation::AtMost => value <= self.bound,
            Relation::More => value > self.bound,
            Relation::AtLeast => value >= self.bound,
        }
    }

    fn of_path(
        &self,
        report: &Report,
        loop_kind: Option<&str>,
        path: &str,
        part: Option<&str>,
    ) -> Result<Vec<(String, f64)>, String> {
        let backgrounds = report
            .staleness
            .iter()
            .filter_map(|part| part.background.as_ref());
        let phases = report.phases.iter().chain(backgrounds).filter(|phase| {
            phase.path == path && loop_kind.is_none_or(|named| phase.loop_kind == named)
        });
        phases
            .map(|phase| {
                let value = self.of_phase(phase, part)?;
                Ok((format!(" in the {} loop", phase.loop_kind), value))
            })
            .collect()
    }

    fn of_phase(&self, phase: &Phase, part: Option<&str>) -> Result<f64, String> {
        if !phase.sustained && !matches!(self.statistic, Statistic::Rate | Statistic::Errors) {
            return Err("the rate was not sustained".to_owned());
        }
        let selected: Vec<_> = phase
            .series
            .iter()
            .filter(|series| {
                part.is_none_or(|part| {
                    [&series.result, &series.scenario, &series.operation]
                        .iter()
                        .any(|name| *name == part)
                })
            })
            .collect();
        let count: u64 = selected.iter().map(|series| series.count).sum();
        match self.statistic {
            Statistic::Errors => {
                let errors = selected
                    .iter()
                    .flat_map(|series| series.errors.values())
                    .sum();
                share(errors, count)
            }
            Statistic::Rate => {
                let good = selected.iter().filter(|series| series.result != "failed");
                Ok(good.map(|series| series.per_second).sum())
            }
            statistic => statistic.of(&restored(
                selected.iter().flat_map(|series| &series.histogram),
            )),
        }
    }

    fn of_staleness(
        &self,
        report: &Report,
        source: Option<&str>,
        stage: &str,
    ) -> Result<Vec<(String, f64)>, String> {
        let mut values = Vec::new();
        for part in &report.staleness {
            let sources: Vec<_> = part
                .sources
                .iter()
                .filter(|one| source.is_none_or(|named| one.source == named))
                .collect();
            let lost = sources.iter().map(|one| one.lost).sum::<u64>();
            let value = if self.statistic == Statistic::Lost {
                #[expect(clippy::cast_precision_loss, reason = "a small count")]
                let lost = lost as f64;
                lost
            } else if lost > 0 {
                // The times of those that came say nothing of those that did not.
                return Err(format!("{lost} updates were lost"));
            } else {
                let histograms = sources.iter().filter_map(|one| one.histograms.get(stage));
                self.statistic.of(&restored(histograms.flatten()))?
            };
            let place = format!(" beside {} reads/s", part.background_per_second);
            values.push((place, value));
        }
        Ok(values)
    }
}

impl Statistic {
    fn of(self, times: &Histogram<u64>) -> Result<f64, String> {
        if times.is_empty() {
            return Err("there is no sample".to_owned());
        }
        let found = quantiles(times);
        #[expect(clippy::cast_precision_loss, reason = "microseconds of some minutes")]
        let percentile = |value: Option<u64>, least: u64| {
            value.map(|us| us as f64).ok_or_else(|| {
                format!(
                    "{} needs {least} samples, there are {}",
                    self.name(),
                    times.len()
                )
            })
        };
        match self {
            Self::P50 => percentile(found.p50_us, 1),
            Self::P90 => percentile(found.p90_us, 10),
            Self::P99 => percentile(found.p99_us, 100),
            Self::P999 => percentile(found.p999_us, 1_000),
            Self::Max => percentile(Some(found.max_us), 1),
            Self::Mean => Ok(found.mean_us),
            Self::Rate | Self::Errors | Self::Lost => Err("it is no time".to_owned()),
        }
    }

    fn name(self) -> &'static str {
        STATISTICS
            .iter()
            .find(|(_, statistic)| *statistic == self)
            .map_or("", |(name, _)| name)
    }

    /// What it is counted in: microseconds, a fraction, or a plain number.
    fn show(self, value: f64) -> String {
        match self {
            Self::Rate => format!("{value:.1}/s"),
            Self::Errors => format!("{:.4}%", value * 100.0),
            Self::Lost => format!("{value}"),
            _ => crate::report::table::time(value),
        }
    }
}

fn share(part: u64, of: u64) -> Result<f64, String> {
    if of == 0 {
        return Err("nothing was asked".to_owned());
    }
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    Ok(part as f64 / of as f64)
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text
            .find(['<', '>'])
            .ok_or("an SLO is a name, < or >, and a bound: 'grpc.hit.p99<2ms'")?;
        let (name, rest) = text.split_at(at);
        let (relation, bound) = match rest.as_bytes() {
            [b'<', b'=', ..] => (Relation::AtMost, &rest[2..]),
            [b'>', b'=', ..] => (Relation::AtLeast, &rest[2..]),
            [b'<', ..] => (Relation::Less, &rest[1..]),
            _ => (Relation::More, &rest[1..]),
        };
        let (subject, statistic) = parse_name(name.trim())?;
        let bound = bound.trim();
        let bound = match statistic {
            Statistic::Errors => cli::percent(bound)?,
            Statistic::Rate | Statistic::Lost => bound
                .trim_end_matches("/s")
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite() && *number >= 0.0)
                .ok_or_else(|| format!("{bound:?} must be a number"))?,
            _ => cli::duration(bound)
                .map(|duration: Duration| duration.as_secs_f64() * 1e6)
                .map_err(|error| format!("{bound:?} {error}"))?,
        };
        Ok(Self {
            subject,
            statistic,
            relation,
            bound,
        })
    }
}

fn parse_name(name: &str) -> Result<(Subject, Statistic), String> {
    let of = |text: &str| {
        STATISTICS
            .iter()
            .find(|(known, _)| *known == text)
            .map(|(_, statistic)| *statistic)
    };
    if name == "errors" {
        return Ok((Subject::All, Statistic::Errors));
    }
    let unknown = || {
        let names: Vec<_> = STATISTICS.iter().map(|(name, _)| *name).collect();
        format!(
            "{name:?} names nothing that is measured: it must be errors, [open.|closed.]PATH[.PART].STATISTIC or \
             staleness[.SOURCE][.STAGE].STATISTIC, with PATH one of {}; PART a cache result, scenario or operation; \
             SOURCE one of {}; STAGE one of {}; STATISTIC one of {}",
            PATHS.join(", "),
            SOURCES.join(", "),
            STAGES.join(", "),
            names.join(", ")
        )
    };
    // "p99.9" has a point of its own.
    let (rest, statistic) = if let Some(rest) = name.strip_suffix(".p99.9") {
        (rest, Statistic::P999)
    } else {
        let (rest, statistic) = name.rsplit_once('.').ok_or_else(unknown)?;
        (rest, of(statistic).ok_or_else(unknown)?)
    };
    let parts: Vec<&str> = rest.split('.').collect();
    if let ["staleness", rest @ ..] = parts.as_slice() {
        let (source, rest) = match rest {
            [source, rest @ ..] if SOURCES.contains(source) => (Some((*source).to_owned()), rest),
            _ => (None, rest),
        };
        let stage = match rest {
            [] => "last_replica",
            [stage] if STAGES.contains(stage) => stage,
            _ => return Err(unknown()),
        };
        if matches!(statistic, Statistic::Rate | Statistic::Errors) {
            return Err(unknown());
        }
        let stage = stage.to_owned();
        return Ok((Subject::Staleness { source, stage }, statistic));
    }
    let (loop_kind, parts) = match parts.as_slice() {
        [kind @ ("open" | "closed"), rest @ ..] => (Some((*kind).to_owned()), rest),
        all => (None, all),
    };
    let (path, part) = match parts {
        [path] => (path, None),
        [path, part] if PARTS.contains(part) => (path, Some((*part).to_owned())),
        _ => return Err(unknown()),
    };
    let of_good = part.as_ref().is_some_and(|part: &String| {
        ["hit", "miss", "stale", "absent", "none"].contains(&part.as_str())
    });
    // Only a failed answer has an error, and it has no cache result.
    if !PATHS.contains(path)
        || statistic == Statistic::Lost
        || statistic == Statistic::Errors && of_good
    {
        return Err(unknown());
    }
    let path = (*path).to_owned();
    Ok((
        Subject::Path {
            loop_kind,
            path,
            part,
        },
        statistic,
    ))
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::All => {}
            Subject::Path {
                loop_kind,
                path,
                part,
            } => {
                if let Some(kind) = loop_kind {
                    write!(f, "{kind}.")?;
                }
                write!(f, "{path}.")?;
                if let Some(part) = part {
                    write!(f, "{part}.")?;
                }
            }
            Subject::Staleness { source, stage } => {
                f.write_str("staleness.")?;
                if let Some(source) = source {
                    write!(f, "{source}.")?;
                }
                if stage != "last_replica" {
                    write!(f, "{stage}.")?;
                }
            }
        }
        let relation = match self.relation {
            Relation::Less => "<",
            Relation::AtMost => "<=",
            Relation::More => ">",
            Relation::AtLeast => ">=",
        };
        write!(f, "{}{relation}", self.statistic.name())?;
        match self.statistic {
            Statistic::Errors => write!(f, "{}%", self.bound * 100.0),
            Statistic::Rate | Statistic::Lost => write!(f, "{}", self.bound),
            _ => write!(f, "{}us", self.bound),
        }
    }
}

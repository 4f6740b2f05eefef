//! SLOs: a name, a relation and a bound, such as `grpc.hit.p99<2ms`, `grpc.hit.share>99%`, `closed.grpc.rate>1000`,
//! `staleness.dynamodb.edge_all.p99<1s`, `staleness.lost<1` or `errors<0.1%`. The name is that of a figure ([`figures`]); one
//! without a place must hold in each place. An SLO that cannot be evaluated (too few samples, or a rate that was not
//! sustained) is not met.

use std::{collections::BTreeSet, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Usage,
    figures::{Figure, Figures},
};

#[cfg(test)]
mod tests;

/// One SLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slo {
    name: String,
    relation: Relation,
    bound: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// An SLO and its verdict.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Verdict {
    /// The SLO.
    pub(crate) slo: String,
    /// Whether it was met.
    pub(crate) met: bool,
    /// What was measured, or why it cannot be evaluated.
    pub(crate) measured: String,
}

/// Names that a refusal lists, at most.
const LISTED: usize = 12;

/// Refuses SLOs on what will not be measured, before anything is. `expected` has the names that the run will yield.
pub(crate) fn check(slos: &[Slo], expected: &Figures) -> Result<(), Usage> {
    for slo in slos {
        let figures = slo.figures(expected);
        let Some((_, figure)) = figures.first() else {
            return Err(Usage(format!(
                "--slo '{slo}': {:?} names nothing that is measured by this run, which measures {}",
                slo.name,
                slo.similar(expected)
            )));
        };
        figure
            .kind
            .parse(&slo.bound)
            .map_err(|error| Usage(format!("--slo '{slo}': {:?} {error}", slo.bound)))?;
    }
    Ok(())
}

// === impl Slo ===

impl Slo {
    /// The figures that it is about, with their full names.
    fn figures<'f>(&self, figures: &'f Figures) -> Vec<(&'f String, &'f Figure)> {
        let is_meant = |(full, figure): &(&String, &Figure)| {
            let places = full.len().checked_sub(self.name.len());
            self.name.len() >= figure.name.len()
                && full.ends_with(&self.name)
                && places.is_some_and(|end| end == 0 || full[..end].ends_with('.'))
        };
        figures.iter().filter(is_meant).collect()
    }

    /// The full names of the times that it bounds, and the bound in microseconds.
    pub(crate) fn time_bounds(&self, figures: &Figures) -> Vec<(String, f64)> {
        let found = self.figures(figures).into_iter();
        let times = found.filter(|(_, figure)| figure.kind == crate::figures::Kind::Time);
        times
            .filter_map(|(full, figure)| Some((full.clone(), figure.kind.parse(&self.bound).ok()?)))
            .collect()
    }

    /// Evaluates a result by its figures, in the worst place.
    pub(crate) fn judge(&self, figures: &Figures) -> Verdict {
        let (met, measured) = match self.worst(figures) {
            Err(reason) => (false, format!("cannot be evaluated: {reason}")),
            Ok((full, figure, value, bound)) => {
                let met = match self.relation {
                    Relation::Less => value < bound,
                    Relation::AtMost => value <= bound,
                    Relation::More => value > bound,
                    Relation::AtLeast => value >= bound,
                };
                let place = full.strip_suffix(&self.name).unwrap_or_default();
                let place = place.trim_end_matches('.');
                let place = if place.is_empty() {
                    String::new()
                } else {
                    format!(" in {place}")
                };
                (met, format!("{}{place}", figure.show()))
            }
        };
        Verdict {
            slo: self.to_string(),
            met,
            measured,
        }
    }

    fn worst<'f>(&self, figures: &'f Figures) -> Result<(&'f str, &'f Figure, f64, f64), String> {
        let mut values = Vec::new();
        for (full, figure) in self.figures(figures) {
            let value = figure
                .value
                .clone()
                .map_err(|reason| format!("{full}: {reason}"))?;
            let bound = figure.kind.parse(&self.bound);
            values.push((
                full.as_str(),
                figure,
                value,
                bound.map_err(|error| format!("the bound {error}"))?,
            ));
        }
        let less_is_worse = matches!(self.relation, Relation::More | Relation::AtLeast);
        let by_value = |a: &(_, _, f64, _), b: &(_, _, f64, _)| {
            let order = a.2.total_cmp(&b.2);
            if less_is_worse {
                order.reverse()
            } else {
                order
            }
        };
        values
            .into_iter()
            .max_by(by_value)
            .ok_or_else(|| "nothing was measured".to_owned())
    }

    /// Names that the user may have meant, those with the longest common prefix first.
    fn similar(&self, expected: &Figures) -> String {
        let common = |name: &str| {
            let pairs = name.bytes().zip(self.name.bytes());
            pairs.take_while(|(a, b)| a == b).count()
        };
        let names: BTreeSet<&str> = expected
            .values()
            .map(|figure| figure.name.as_str())
            .collect();
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by_key(|name| std::cmp::Reverse(common(name)));
        let more = names.len().saturating_sub(LISTED);
        names.truncate(LISTED);
        format!("{} and {more} more", names.join(", "))
    }
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
        let (name, bound) = (name.trim(), bound.trim());
        if name.is_empty() || bound.is_empty() || bound.starts_with('=') {
            return Err(format!(
                "{text:?} lacks a name or a bound, as in 'grpc.hit.p99<2ms'"
            ));
        }
        Ok(Self {
            // The stage that is meant where none is named.
            name: name.replace(".last_replica.", "."),
            relation,
            bound: bound.to_owned(),
        })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = match self.relation {
            Relation::Less => "<",
            Relation::AtMost => "<=",
            Relation::More => ">",
            Relation::AtLeast => ">=",
        };
        write!(f, "{}{relation}{}", self.name, self.bound)
    }
}

//! What the replicas count themselves: their Prometheus metrics, before and after.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;

use crate::report::ServiceCounts;

/// Sums over all replicas, by metric and the label that matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counters(BTreeMap<(String, String), f64>);

const REPAIRS: &str = "config_repairs_total";
const APPLIED: &str = "config_propagation_seconds_count";
const SECONDS: &str = "config_propagation_seconds_sum";

/// Reads all replicas.
pub(crate) async fn read(http: &[String]) -> anyhow::Result<Counters> {
    // Addresses of the network that the harness is in.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(3))
        .build()?;
    let mut sum = Counters::default();
    for address in http {
        let answer = client
            .get(format!("http://{address}/metrics"))
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        let text = answer
            .with_context(|| format!("the metrics of {address} cannot be read"))?
            .text()
            .await?;
        sum.add(&text);
    }
    Ok(sum)
}

/// Changes that no push brought, over all replicas that answer.
pub(crate) async fn repairs(http: &[String]) -> u64 {
    let mut sum = 0;
    for address in http {
        if let Ok(counters) = read(std::slice::from_ref(address)).await {
            let counts = counters.since(&Counters::default(), 1);
            sum += counts.repaired.values().sum::<u64>();
        }
    }
    sum
}

impl Counters {
    fn add(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, rest)) = line.split_once('{') else {
                continue;
            };
            if ![REPAIRS, APPLIED, SECONDS].contains(&name) {
                continue;
            }
            let Some((labels, value)) = rest.rsplit_once("} ") else {
                continue;
            };
            let wanted = if name == REPAIRS {
                "by=\""
            } else {
                "source=\""
            };
            let label = labels
                .split(',')
                .find_map(|label| label.strip_prefix(wanted)?.strip_suffix('"'));
            if let (Some(label), Ok(value)) = (label, value.trim().parse::<f64>()) {
                *self
                    .0
                    .entry((name.to_owned(), label.to_owned()))
                    .or_default() += value;
            }
        }
    }

    /// What happened from `before` until these.
    pub(crate) fn since(&self, before: &Self, replicas: usize) -> ServiceCounts {
        let of = |metric: &str| {
            let mut found = BTreeMap::new();
            for ((name, label), value) in &self.0 {
                let difference =
                    value - before.0.get(&(name.clone(), label.clone())).unwrap_or(&0.0);
                if name == metric && difference > 0.0 {
                    found.insert(label.clone(), difference);
                }
            }
            found
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive counts"
        )]
        let counts = |metric: &str| -> BTreeMap<String, u64> {
            of(metric)
                .into_iter()
                .map(|(label, value)| (label, value as u64))
                .collect()
        };
        let (applied, seconds) = (of(APPLIED), of(SECONDS));
        ServiceCounts {
            replicas: u32::try_from(replicas).unwrap_or(u32::MAX),
            repaired: counts(REPAIRS),
            applied: counts(APPLIED),
            mean_propagation_us: seconds
                .iter()
                .filter_map(|(label, sum)| Some((label.clone(), sum / applied.get(label)? * 1e6)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_summed_over_replicas() {
        let text = "# TYPE config_repairs counter\nconfig_repairs_total{by=\"ttl\"} 2\nother_total{by=\"x\"} 9\n\
            config_propagation_seconds_sum{source=\"dynamodb\",precision=\"exact\"} 0.5\n\
            config_propagation_seconds_count{source=\"dynamodb\",precision=\"exact\"} 10\nhalf{";
        let (before, mut after) = (Counters::default(), Counters::default());
        after.add(text);
        after.add(text);
        let found = after.since(&before, 2);
        assert_eq!(found.repaired["ttl"], 4);
        assert_eq!(found.applied["dynamodb"], 20);
        assert!((found.mean_propagation_us["dynamodb"] - 50_000.0).abs() < 1.0);
        assert!(after.since(&after, 2).applied.is_empty());
    }
}

//! The page: one file with everything in it, no network.

use anyhow::Context;
use serde_json::{Value, json};

use super::Report;
use crate::{figures::figures, slo::Slo};

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page of a result.
pub(super) fn render(report: &Report) -> anyhow::Result<String> {
    page(&json!({ "results": [result(report)] }))
}

/// The page of a comparison: the first run of each side overlaid, the rows of the table, and what a reader must know.
pub(crate) fn compare(
    base: &[Report],
    new: &[Report],
    rows: &[[String; 5]],
    notes: &[String],
) -> anyhow::Result<String> {
    let results: Vec<_> = base
        .first()
        .into_iter()
        .chain(new.first())
        .map(result)
        .collect();
    page(
        &json!({ "results": results, "runs": [base.len(), new.len()], "rows": rows, "notes": notes }),
    )
}

/// A result with its figures, and with the times that its SLOs bound.
fn result(report: &Report) -> Value {
    let found = figures(report);
    let slos = report
        .slos
        .iter()
        .filter_map(|verdict| verdict.slo.parse::<Slo>().ok());
    let bounds: Vec<_> = slos
        .flat_map(|slo| {
            let times = slo.time_bounds(&found).into_iter();
            times.map(
                move |(figure, us)| json!({ "figure": figure, "us": us, "slo": slo.to_string() }),
            )
        })
        .collect();
    let figures = found.iter().map(|(name, figure)| {
        let text = json!({ "text": figure.show(), "n": figure.n, "compared": figure.compared, "value": figure.value.as_ref().ok() });
        (name.clone(), text)
    });
    json!({ "report": report, "figures": figures.collect::<serde_json::Map<_, _>>(), "bounds": bounds })
}

fn page(data: &Value) -> anyhow::Result<String> {
    // In a script element, nothing of the data may look like markup.
    let data = serde_json::to_string(data)
        .context("the result has no JSON")?
        .replace('<', "\\u003c");
    Ok(TEMPLATE
        .replacen("/*STYLE*/", STYLE, 1)
        .replacen("/*SCRIPT*/", SCRIPT, 1)
        .replacen("/*DATA*/", &data, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_leave_its_element() {
        let mut report = crate::report::tests::sample();
        report.warnings = vec!["</script><script>alert(1)</script>".to_owned()];
        let page = render(&report).unwrap();
        assert!(!page.contains("<script>alert"));
        assert!(!page.contains("/*DATA*/"));
    }
}

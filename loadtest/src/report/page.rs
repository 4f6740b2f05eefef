//! The page: one file with everything in it, no network.

use anyhow::Context;

use super::Report;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page of a result.
pub(super) fn render(report: &Report) -> anyhow::Result<String> {
    // In a script element, nothing of the data may look like markup.
    let data = serde_json::to_string(report)
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

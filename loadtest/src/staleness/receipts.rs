//! What the invalidator says of each change: its receipts, from its log group.

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use serde_json::Value;

use crate::{accounts::failed, targets};

/// The parts of an update's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// From the write to the function's start; absent where the write's time is known to the second only.
    pub(crate) write_to_start: Option<Duration>,
    /// Reading the source.
    pub(crate) read: Duration,
    /// Finding the tasks.
    pub(crate) discover: Duration,
    /// Telling them.
    pub(crate) fanout: Duration,
}

/// By location and version.
pub(crate) type Receipts = HashMap<(String, i64), Receipt>;

/// All receipts since a moment, in unix milliseconds.
pub(crate) async fn since(log_group: &str, start_ms: i64) -> anyhow::Result<Receipts> {
    let mut pages = aws_sdk_cloudwatchlogs::Client::new(&targets::sdk_config().await)
        .filter_log_events()
        .log_group_name(log_group)
        .start_time(start_ms)
        .filter_pattern("receipt")
        .into_paginator()
        .send();
    let mut receipts = Receipts::new();
    while let Some(page) = pages.next().await {
        for event in page
            .map_err(|error| failed("FilterLogEvents", &error))?
            .events()
        {
            if let Some((place, receipt)) = event.message().and_then(parse) {
                receipts.insert(place, receipt);
            }
        }
    }
    Ok(receipts)
}

fn parse(line: &str) -> Option<((String, i64), Receipt)> {
    // Lambda may put its own prefix before the JSON.
    let json = line.get(line.find('{')?..)?;
    let log: Value = serde_json::from_str(json.trim_end()).ok()?;
    let fields = log.get("fields").unwrap_or(&log);
    if fields["message"] != "receipt" {
        return None;
    }
    let millis = |name: &str| fields[name].as_u64().map(Duration::from_millis);
    let precise = fields["write_time_whole_seconds"] == false;
    let receipt = Receipt {
        write_to_start: millis("write_to_start_ms").filter(|_| precise),
        read: millis("read_ms")?,
        discover: millis("discover_ms")?,
        fanout: millis("fanout_ms")?,
    };
    Some((
        (
            fields["location"].as_str()?.to_owned(),
            fields["version"].as_i64()?,
        ),
        receipt,
    ))
}

/// Unix milliseconds now.
pub(crate) fn now_ms() -> anyhow::Result<i64> {
    let nanos = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
    i64::try_from(nanos / 1_000_000).context("the clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_read_and_other_lines_are_not() {
        let line = r#"{"timestamp":"t","level":"INFO","fields":{"message":"receipt","location":"dynamodb:TENANT#a/CONFIG#x",
            "version":7,"write_to_start_ms":31,"write_time_whole_seconds":false,"read_ms":0,"discover_ms":4,"fanout_ms":2}}"#;
        let ((location, version), receipt) = parse(line).unwrap();
        assert_eq!(
            (location.as_str(), version),
            ("dynamodb:TENANT#a/CONFIG#x", 7)
        );
        assert_eq!(receipt.write_to_start, Some(Duration::from_millis(31)));
        let to_the_second = line.replace(
            "\"write_time_whole_seconds\":false",
            "\"write_time_whole_seconds\":true",
        );
        assert_eq!(parse(&to_the_second).unwrap().1.write_to_start, None);
        for other in [
            "",
            "START RequestId: 1",
            "{half",
            "{\"fields\":{\"message\":\"started\"}}",
            "{\"fields\":{\"message\":\"receipt\"}}",
        ] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}

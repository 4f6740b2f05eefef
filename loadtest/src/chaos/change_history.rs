//! Reads the change history of what was updated, by ListHistory, and has it audited ([`audit`]).
//!
//! An entry of PutConfig is in the transaction of its write. That of a write past the service comes by the stream, so it
//! may need the retries of the invalidator: the history is read again until it is there, or [`STRAGGLERS`] are over.
//! Parameter Store and S3 have the entries themselves, as versions.
//!
//! What is not checked:
//! - who made a change: tests of the service do that;
//! - the overview of a tenant, whose index is eventually consistent;
//! - updates of a parameter before the last 100, and of an object before the last 1,000, in one run: Parameter Store keeps
//!   no more, and the service lists no more;
//! - what an object held: S3's entries have no value, and are found by their version;
//! - entries of writes past the service where the invalidator is cut off from its tables
//!   ([`Fault::leaves_dead_letters`](super::faults::Fault::leaves_dead_letters)): `make redrive` brings them;
//! - a repetition that comes later than the last read.
//!
//! Where an answer of Parameter Store or S3 is lost and the SDK sends a write again, the store has two versions, and the
//! audit reports them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use tagged_config_proto::v1::{
    HistoryEntry, ListHistoryRequest, config_service_client::ConfigServiceClient,
};
use tonic::{Code, transport::Channel};

use crate::{
    chaos::audit::{self, Entry, Held, Violation, Write},
    cli::Source,
    client::{code_name, signed},
    report::Audit,
    staleness::{
        cells::{Cell, Mark, Update},
        experiment::Experiment,
        history::Shown,
    },
    tokens::Caller,
};

/// How long entries may come late after the end of a fault: streams, retries and dead letters need time.
const STRAGGLERS: Duration = Duration::from_mins(1);
/// From the end of a fault to the first read. What comes twice comes by the stream, which the emulator reads again a second
/// after an error.
const DWELL: Duration = Duration::from_secs(2);
/// From one read to the next.
const EVERY: Duration = Duration::from_secs(1);
/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Entries of a page: the most that there are.
const PAGE: i32 = 100;
/// How far the clocks of the stores may be behind. The writes before the run ended [`DWELL`] earlier.
const SKEW: Duration = Duration::from_secs(1);
/// Versions of a parameter that Parameter Store keeps.
/// <https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html>
const KEPT_OF_A_PARAMETER: usize = 100;
/// Versions of an object that the service lists.
const KEPT_OF_AN_OBJECT: usize = 1_000;
/// Violations that are described one by one.
const DESCRIBED: usize = 100;

/// The change history of a deployment.
pub(super) struct ChangeHistory {
    channel: Channel,
}

/// Where all locations stood before a run.
pub(super) struct Before {
    since: SystemTime,
    marks: Vec<Mark>,
}

// === impl Before ===

impl Before {
    /// Now.
    pub(super) fn of(cells: &[Arc<Cell>]) -> Self {
        let since = SystemTime::now().checked_sub(SKEW);
        Self {
            since: since.unwrap_or(SystemTime::UNIX_EPOCH),
            marks: cells.iter().map(|cell| cell.mark()).collect(),
        }
    }
}

// === impl ChangeHistory ===

impl ChangeHistory {
    /// The history that this replica serves; `None` if the deployment keeps none. The caller must be a writer.
    pub(super) async fn find(channel: Channel, caller: &Caller) -> anyhow::Result<Option<Self>> {
        let request = ListHistoryRequest {
            page_size: 1,
            ..Default::default()
        };
        let mut client = ConfigServiceClient::new(channel.clone());
        let token = caller.token();
        let answer = client.list_history(signed(request, &token, TIMEOUT)).await;
        match answer {
            Ok(_) => Ok(Some(Self { channel })),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(status).context("ListHistory"),
        }
    }

    /// Audits the updates of a run whose fault is over. `None` if it is interrupted.
    pub(super) async fn audit(
        &self,
        experiment: &Experiment,
        before: &Before,
        updates: &[(Source, Update)],
        leaves_dead_letters: bool,
    ) -> Option<Audit> {
        let writes = by_cell(updates, leaves_dead_letters);
        let begun = Instant::now();
        let mut pause = DWELL;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = experiment.stop.wait() => return None,
            }
            let (mut audit, is_settled) = self.read_all(&experiment.cells, before, &writes).await;
            if is_settled || begun.elapsed() >= STRAGGLERS {
                audit.seconds = begun.elapsed().as_secs_f64();
                let more = audit.violations.len().saturating_sub(DESCRIBED);
                if more > 0 {
                    audit.violations.truncate(DESCRIBED);
                    audit
                        .violations
                        .push(format!("and {more} more in the history"));
                }
                return Some(audit);
            }
            pause = EVERY;
        }
    }

    /// Reads and audits every location that was updated. Returns whether a later read can find nothing better.
    async fn read_all(
        &self,
        cells: &[Arc<Cell>],
        before: &Before,
        writes: &BTreeMap<usize, Vec<Write>>,
    ) -> (Audit, bool) {
        let (mut all, mut is_settled) = (Audit::default(), true);
        for (index, writes) in writes {
            let cell = &cells[*index];
            let entries = match self.read(cell, before.since).await {
                Ok(entries) => entries,
                Err(reason) => {
                    is_settled = false;
                    let name = cell.name();
                    all.violations
                        .push(format!("the history cannot be read: {reason}: {name}"));
                    continue;
                }
            };
            let mark = before.marks[*index];
            let found = audit::check(mark, writes, kept(cell.source), &entries);
            let is_missing = |one: &Violation| matches!(one, Violation::Missing { .. });
            is_settled &= !found.violations.iter().any(is_missing);
            all.updates += found.required;
            all.recorded += found.recorded;
            all.entries += entries.len() as u64;
            let described = found.violations.iter();
            all.violations
                .extend(described.map(|one| one.describe(&cell.name())));
        }
        (all, is_settled)
    }

    /// The entries of the tenant's own location since then, oldest first; `Err` says why they could not be read.
    async fn read(&self, cell: &Cell, since: SystemTime) -> Result<Vec<Entry>, String> {
        let mut request = ListHistoryRequest {
            key: cell.key(),
            since: Some(since.into()),
            page_size: PAGE,
            values: true,
            ..Default::default()
        };
        let mut client = ConfigServiceClient::new(self.channel.clone());
        let mut entries = Vec::new();
        loop {
            let token = cell.caller.token();
            let listing = client.list_history(signed(request.clone(), &token, TIMEOUT));
            let page = match tokio::time::timeout(TIMEOUT, listing).await {
                Ok(Ok(page)) => page.into_inner(),
                Ok(Err(status)) => return Err(code_name(status.code())),
                Err(_) => return Err("no answer in time".to_owned()),
            };
            let own = page.entries.iter().filter(|entry| entry.origin == "tenant");
            entries.extend(own.map(|entry| entry_of(cell, entry)));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        entries.reverse();
        Ok(entries)
    }
}

/// The writes of each location, in the order in which they were issued.
/// Of a write past the service whose event may be a dead letter, the entry may come later, or be there.
fn by_cell(updates: &[(Source, Update)], leaves_dead_letters: bool) -> BTreeMap<usize, Vec<Write>> {
    let mut writes: BTreeMap<usize, Vec<Write>> = BTreeMap::new();
    for (source, update) in updates {
        let is_noted = *source != Source::Dynamodb || !leaves_dead_letters;
        writes.entry(update.write.cell).or_default().push(Write {
            version: update.write.version,
            store_version: update.store_version,
            acknowledged: is_noted && update.write.acked_us.is_some(),
        });
    }
    for of_cell in writes.values_mut() {
        of_cell.sort_unstable_by_key(|write| write.version);
    }
    writes
}

/// How many versions of one location its history has at least.
fn kept(source: Source) -> usize {
    match source {
        Source::Dynamodb | Source::PutConfig => usize::MAX,
        Source::ParameterStore => KEPT_OF_A_PARAMETER,
        Source::S3 => KEPT_OF_AN_OBJECT,
    }
}

fn entry_of(cell: &Cell, entry: &HistoryEntry) -> Entry {
    let value: &[u8] = if entry.data.is_empty() {
        entry.value.as_bytes()
    } else {
        &entry.data
    };
    let held = if entry.operation == "delete" {
        Held::Other("a deletion")
    } else if value.is_empty() {
        Held::Omitted
    } else {
        match std::str::from_utf8(value).map(|text| cell.shown(text)) {
            Ok(Shown::Version(version)) => Held::Value(version),
            Ok(Shown::Foreign) => Held::Other("another tenant's value"),
            Ok(Shown::Torn | Shown::Absent) | Err(_) => Held::Other("a value that no writer wrote"),
        }
    };
    Entry {
        held,
        store_version: entry.version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staleness::history;

    /// What the writer of this number writes in version 12.
    fn value(number: u32) -> String {
        format!("0.000012{number:03}")
    }

    #[test]
    fn an_entry_is_known_by_the_value_that_it_has() {
        let caller = crate::tokens::tests::callers(&["lt-s1"]).remove(0);
        let cell = Cell::new(Source::ParameterStore, caller, 7);
        let held = |entry: HistoryEntry| entry_of(&cell, &entry).held;
        let with = |value: &str| HistoryEntry {
            value: value.to_owned(),
            operation: "put".to_owned(),
            ..Default::default()
        };
        assert_eq!(held(with(&value(7))), Held::Value(12));
        let in_bytes = HistoryEntry {
            data: value(7).into(),
            ..with("")
        };
        assert_eq!(held(in_bytes), Held::Value(12));
        assert_eq!(held(with("")), Held::Omitted);
        let others = [held(with(&value(8))), held(with("0.19"))];
        assert_eq!(
            others,
            [
                Held::Other("another tenant's value"),
                Held::Other("a value that no writer wrote")
            ]
        );
        let deletion = HistoryEntry {
            operation: "delete".to_owned(),
            ..with("")
        };
        assert_eq!(held(deletion), Held::Other("a deletion"));
    }

    #[test]
    fn writes_are_sorted_by_location_and_version() {
        let update = |cell, version, acked_us| Update {
            write: history::Write {
                cell,
                version,
                issued_us: 0,
                acked_us,
            },
            store_version: 0,
            failure: None,
        };
        let updates = [(1, 5, Some(9)), (0, 2, Some(8)), (1, 4, None)]
            .map(|(cell, version, acked_us)| (Source::Dynamodb, update(cell, version, acked_us)));
        let writes = by_cell(&updates, false);
        let of = |cell: usize| writes[&cell].iter().map(|it| (it.version, it.acknowledged));
        assert_eq!(of(0).collect::<Vec<_>>(), [(2, true)]);
        assert_eq!(of(1).collect::<Vec<_>>(), [(4, false), (5, true)]);
    }
}

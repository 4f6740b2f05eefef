//! "Parameter Store Change" events, and "Parameter Store Policy Action" events of a parameter that has expired. They carry
//! no value and no version, and may come before the change can be read everywhere: so the parameter is read until it is
//! not older than its event, within bounds. An event's time has whole seconds: what was written in its second may be an
//! update before the announced one, so it is sent at once, and read again a second later.
//!
//! <https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-cwe.html>

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use aws_sdk_ssm::Client;
use serde_json::Value;
use tagged_config_domain::{LocationId, Record, Revision, StoreError};
use tagged_config_stores::{
    Entry, ParameterStoreConfig,
    aws::store_error,
    parameter_store::{BACKEND, Secrets, record},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    change::{Change, NewState},
    source::{Announcement, Source},
};

/// Waits before each read, in milliseconds.
const ROUNDS: [Round; 2] = [
    Round {
        waits_ms: &[0, 25, 50, 100],
        name: "",
    },
    Round {
        waits_ms: &[200, 400, 800],
        name: "-late",
    },
];

/// Wait before the read that confirms a value of the event's own second: copies lag by less.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);
const SECOND_MS: i64 = 1_000;

/// What an event announces.
#[derive(Clone, Debug, PartialEq)]
struct Announced {
    id: LocationId,
    deleted: bool,
    /// The event's time, which AWS gives in whole seconds.
    time_ms: i64,
    /// The event's own id.
    event: String,
}

/// Reads parameters.
pub(crate) trait Parameters {
    /// The parameter as it is now, without the value of a secret.
    fn get(&self, path: &str) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;
}

/// The parameters under a root.
pub(crate) struct ParameterSource<P = Client> {
    parameters: P,
    config: ParameterStoreConfig,
}

/// Reads an event; `None` for those that change no configuration, such as labels and notices of an expiry to come.
fn announced(event: &Value, config: &ParameterStoreConfig) -> Option<Announced> {
    if event.get("source").and_then(Value::as_str) != Some("aws.ssm") {
        return None;
    }
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let (name, deleted) = match text("/detail/operation") {
        Some("Create" | "Update") => (text("/detail/name")?, false),
        Some("Delete") => (text("/detail/name")?, true),
        None if text("/detail/policy-type") == Some("Expiration")
            && text("/detail/action-status") == Some("Success") =>
        {
            (text("/detail/parameter-name")?, true)
        }
        _ => return None,
    };
    let id = config.location_of(name)?;
    let time = OffsetDateTime::parse(text("/time")?, &Rfc3339).ok()?;
    Some(Announced {
        id,
        deleted,
        time_ms: time.unix_timestamp() * 1_000,
        event: text("/id").unwrap_or_default().to_owned(),
    })
}

/// Reads of an announced parameter, in rounds: see [`Reads::next`].
struct Reads<'a, P> {
    parameters: &'a P,
    announced: Announced,
    rounds: std::slice::Iter<'static, Round>,
    /// The revision that was sent, if the announced change may be a later one.
    to_confirm: Option<Revision>,
}

/// Some reads, and the name of what is announced if none of them shows the change.
struct Round {
    waits_ms: &'static [u64],
    name: &'static str,
}

// === impl ParameterSource ===

impl<P> ParameterSource<P> {
    /// The parameters under the root of this configuration.
    pub(crate) fn new(parameters: P, config: ParameterStoreConfig) -> Self {
        Self { parameters, config }
    }
}

impl<P: Parameters + Send + Sync> Source for ParameterSource<P> {
    fn announced(&self, event: &Value) -> Option<Box<dyn Announcement + '_>> {
        let announced = announced(event, &self.config)?;
        Some(Box::new(Reads::of(announced, &self.parameters)))
    }
}

// === impl Reads ===

impl<'a, P> Reads<'a, P> {
    /// No read yet.
    fn of(announced: Announced, parameters: &'a P) -> Self {
        Self {
            parameters,
            announced,
            rounds: ROUNDS.iter(),
            to_confirm: None,
        }
    }
}

#[async_trait]
impl<P: Parameters + Send + Sync> Announcement for Reads<'_, P> {
    /// If the first round does not show the change, it is sent without its value, so that tasks read by themselves: the
    /// event may be stamped later than the change, and then no read would ever be new enough. The second round sends
    /// what it finds, since a task may have read a copy that lags behind.
    ///
    /// A value of the event's own second may be an update before the announced one, from a copy that lags behind. It is
    /// sent, read again after a second, and sent again if there is a newer one by then.
    async fn next(&mut self) -> Option<Change> {
        if let Some(sent) = self.to_confirm.take() {
            return newer(&self.announced, sent, self.parameters).await;
        }
        let round = self.rounds.next()?;
        let change = resolve(&self.announced, round, self.parameters).await;
        if change.state != NewState::Unknown {
            self.rounds = [].iter();
        }
        if matches!(change.state, NewState::Value(_)) && self.announced.may_follow(change.revision)
        {
            self.to_confirm = Some(change.revision);
        }
        Some(change)
    }
}

// === impl Announced ===

impl Announced {
    /// Whether the announced change may be later than this revision.
    fn may_follow(&self, revision: Revision) -> bool {
        !self.deleted && revision.incarnation < self.time_ms + SECOND_MS
    }
}

/// What replaced the revision that was sent, if anything did.
async fn newer(
    announced: &Announced,
    sent: Revision,
    parameters: &impl Parameters,
) -> Option<Change> {
    const ROUND: Round = Round {
        waits_ms: &[],
        name: "-confirm",
    };
    tokio::time::sleep(CONFIRM_AFTER).await;
    // A deletion has an event of its own, and so has what cannot be read now.
    let record = parameters.get(announced.id.partition()).await.ok()??;
    (record.revision > sent)
        .then(|| change(announced, &ROUND, record.revision, NewState::Value(record)))
}

async fn resolve(announced: &Announced, round: &Round, parameters: &impl Parameters) -> Change {
    let mut last_error = None;
    let mut newest_ms = None;
    // What was written in the second of its deletion may be what was deleted: an old copy, or LocalStack, which announces first.
    let since_ms = announced.time_ms + if announced.deleted { SECOND_MS } else { 0 };
    for wait in round.waits_ms {
        tokio::time::sleep(Duration::from_millis(*wait)).await;
        match parameters.get(announced.id.partition()).await {
            Ok(Some(record)) if record.revision.incarnation >= since_ms => {
                return change(announced, round, record.revision, NewState::Value(record));
            }
            Ok(None) if announced.deleted => {
                let revision = Revision {
                    incarnation: announced.time_ms,
                    version: 0,
                };
                return change(announced, round, revision, NewState::Absent);
            }
            Ok(found) => newest_ms = found.map(|record| record.revision.incarnation),
            Err(error) => last_error = Some(error),
        }
    }
    let error = last_error.map(|error| tagged_config_runtime::telemetry::chain(&error));
    let event_after_modified_ms = newest_ms.map(|modified| announced.time_ms - modified);
    tracing::warn!(
        location = %announced.id,
        error,
        event_after_modified_ms,
        round = round.name,
        "the announced change cannot be read yet; sent without its value"
    );
    change(announced, round, Revision::default(), NewState::Unknown)
}

fn change(announced: &Announced, round: &Round, revision: Revision, state: NewState) -> Change {
    let modified = match &state {
        NewState::Value(record) => record.modified_ms,
        NewState::Absent | NewState::Unknown => None,
    };
    let written_at_ms = modified.unwrap_or(announced.time_ms);
    // An entry of its own for each round: tasks apply an id once.
    let (id, source_event_id) = (&announced.id, format!("{}{}", announced.event, round.name));
    let entry = match &state {
        NewState::Value(_) if !announced.may_follow(revision) => {
            Entry::written(id, revision, written_at_ms)
        }
        NewState::Absent => Entry::removed(id, revision, written_at_ms, &source_event_id),
        NewState::Value(_) | NewState::Unknown => {
            Entry::edited(id, revision, written_at_ms, &source_event_id)
        }
    };
    Change {
        entry,
        id: id.clone(),
        revision,
        state,
        written_at_ms,
        whole_seconds: modified.is_none(),
        noted: None,
    }
}

impl Parameters for Client {
    async fn get(&self, path: &str) -> Result<Option<Record>, StoreError> {
        let answer = self
            .get_parameters()
            .names(path)
            .send()
            .await
            .map_err(|e| store_error(BACKEND, e))?;
        Ok(answer
            .parameters()
            .first()
            .map(|parameter| record(parameter, Secrets::Hidden)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;

    /// Answers one after the other, the last one for ever.
    struct Scripted(Mutex<Vec<Result<Option<Record>, ()>>>);

    impl Parameters for Scripted {
        async fn get(&self, _: &str) -> Result<Option<Record>, StoreError> {
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0].clone()
            };
            answer.map_err(|()| StoreError::Throttled { backend: BACKEND })
        }
    }

    fn event(operation: &str, name: &str) -> Value {
        json!({
            "version": "0", "id": "6a7e4feb", "detail-type": "Parameter Store Change", "source": "aws.ssm",
            "account": "123456789012", "time": "2026-01-02T03:04:05Z", "region": "us-east-1",
            "resources": [format!("arn:aws:ssm:us-east-1:123456789012:parameter{name}")],
            "detail": {"operation": operation, "name": name, "type": "String"}
        })
    }

    fn parameter(modified_ms: i64, version: i64) -> Record {
        let revision = Revision {
            incarnation: modified_ms,
            version,
        };
        Record::new(
            version.to_string(),
            "application/json",
            revision,
            Some(modified_ms),
        )
    }

    async fn resolved(operation: &str, answers: Vec<Result<Option<Record>, ()>>) -> Change {
        sent(operation, answers).await.pop().unwrap()
    }

    /// All that is sent for one event.
    async fn sent(operation: &str, answers: Vec<Result<Option<Record>, ()>>) -> Vec<Change> {
        let config = ParameterStoreConfig::at("/app");
        let announced = announced(&event(operation, "/app/global/x"), &config).unwrap();
        let parameters = Scripted(Mutex::new(answers));
        let mut reads = Reads::of(announced, &parameters);
        let mut changes = Vec::new();
        while let Some(change) = reads.next().await {
            changes.push(change);
        }
        changes
    }

    const EVENT_MS: i64 = 1_767_323_045_000;

    /// The second event's first read is of a copy that shows the first update.
    #[tokio::test(start_paused = true)]
    async fn two_updates_in_one_second_end_at_the_second() {
        let (first, second) = (parameter(EVENT_MS + 100, 1), parameter(EVENT_MS + 300, 2));
        let changes = sent(
            "Update",
            vec![Ok(Some(first.clone())), Ok(Some(second.clone()))],
        )
        .await;
        let states: Vec<_> = changes.iter().map(|change| change.state.clone()).collect();
        assert_eq!(states, [NewState::Value(first), NewState::Value(second)]);
        assert_ne!(changes[0].entry.id, changes[1].entry.id);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_of_the_events_own_second_is_sent_once_if_nothing_followed() {
        let began = tokio::time::Instant::now();
        let changes = sent("Update", vec![Ok(Some(parameter(EVENT_MS + 100, 1)))]).await;
        assert_eq!((changes.len(), began.elapsed()), (1, CONFIRM_AFTER));
        let later = parameter(EVENT_MS + 1_000, 3);
        let changes = sent("Update", vec![Ok(Some(later))]).await;
        assert_eq!(
            (changes.len(), began.elapsed()),
            (1, CONFIRM_AFTER),
            "certain"
        );
    }

    /// A task that missed the second push finds the second event in the journal, also if both read the same value.
    #[tokio::test(start_paused = true)]
    async fn two_events_that_read_one_value_of_their_second_have_two_entries() {
        let config = ParameterStoreConfig::at("/app");
        let value = parameter(EVENT_MS + 100, 1);
        let mut entries = Vec::new();
        for event_id in ["one", "two", "two"] {
            let mut event = event("Update", "/app/global/x");
            event["id"] = event_id.into();
            let announced = announced(&event, &config).unwrap();
            let parameters = Scripted(Mutex::new(vec![Ok(Some(value.clone()))]));
            entries.push(
                Reads::of(announced, &parameters)
                    .next()
                    .await
                    .unwrap()
                    .entry,
            );
        }
        assert_ne!(entries[0].id, entries[1].id);
        assert_eq!(
            entries[1].id, entries[2].id,
            "the same event twice is one change"
        );
    }

    #[test]
    fn labels_and_other_parameters_are_ignored() {
        let config = ParameterStoreConfig::at("/app");
        assert!(announced(&event("Update", "/app/tenants/A1/x"), &config).is_some());
        assert_eq!(
            announced(&event("LabelParameterVersion", "/app/global/x"), &config),
            None
        );
        assert_eq!(
            announced(&event("Update", "/other/global/x"), &config),
            None
        );
        assert_eq!(
            announced(
                &json!({"source": "aws.ssm", "detail": {"operation": "Update"}}),
                &config
            ),
            None
        );
        let mut without_type = event("Create", "/app/global/x");
        without_type["detail"]
            .as_object_mut()
            .unwrap()
            .remove("type");
        assert!(
            announced(&without_type, &config).is_some(),
            "LocalStack gives no type"
        );
    }

    #[test]
    fn an_expiry_is_a_deletion_and_its_notices_are_ignored() {
        let config = ParameterStoreConfig::at("/app");
        let action = |policy: &str, status: &str| {
            let event = json!({
                "version": "0", "id": "6a7e4feb", "detail-type": "Parameter Store Policy Action", "source": "aws.ssm",
                "account": "123456789012", "time": "2026-01-02T03:04:05Z", "region": "us-east-1", "resources": [],
                "detail": {
                    "parameter-name": "/app/global/x", "parameter-type": "String", "policy-type": policy,
                    "policy-content": "{}", "action-status": status
                }
            });
            announced(&event, &config).map(|one| (one.id.partition().to_owned(), one.deleted))
        };
        assert_eq!(
            action("Expiration", "Success"),
            Some(("/app/global/x".to_owned(), true))
        );
        assert_eq!(action("Expiration", "Failed"), None);
        assert_eq!(action("ExpirationNotification", "Success"), None);
        assert_eq!(action("NoChangeNotification", "Success"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_stamped_after_its_change_has_tasks_read_at_once() {
        let began = tokio::time::Instant::now();
        let stamped_late = parameter(EVENT_MS - 100, 2);
        let changes = sent("Update", vec![Ok(Some(stamped_late))]).await;
        assert!(
            changes
                .iter()
                .all(|change| change.state == NewState::Unknown)
        );
        assert_eq!(
            changes.len(),
            2,
            "once early, and once more for lagging copies"
        );
        assert_ne!(
            changes[0].entry.id, changes[1].entry.id,
            "tasks apply an id once"
        );
        assert_eq!(began.elapsed(), Duration::from_millis(1_575));

        let old = Ok(Some(parameter(EVENT_MS - 60_000, 1)));
        let new = parameter(EVENT_MS + 120, 2);
        let late = vec![
            old.clone(),
            old.clone(),
            old.clone(),
            old,
            Ok(Some(new.clone())),
        ];
        let states: Vec<_> = sent("Update", late)
            .await
            .into_iter()
            .map(|c| c.state)
            .collect();
        assert_eq!(states, [NewState::Unknown, NewState::Value(new)]);
    }

    /// `make test-localstack` checks that these are what its code sends.
    #[test]
    fn localstacks_events_are_understood() {
        let config = ParameterStoreConfig::at("/app");
        let recorded: Value =
            serde_json::from_str(include_str!("../tests/fixtures/localstack_events.json")).unwrap();
        let deleted = recorded.as_array().unwrap().iter().map(|one| {
            let entry = &one["entry"];
            let event = json!({
                "version": "0", "id": "6a7e4feb", "detail-type": entry["DetailType"], "source": entry["Source"],
                "account": "000000000000", "time": "2026-01-02T03:04:05Z", "region": "us-east-1", "resources": [],
                "detail": entry["Detail"]
            });
            let announced = announced(&event, &config);
            (one["operation"].as_str().unwrap(), announced.map(|one| one.deleted))
        });
        assert_eq!(
            deleted.collect::<Vec<_>>(),
            [
                ("put", Some(false)),
                ("put again", Some(false)),
                ("put a secret", Some(false)),
                ("label", None),
                ("delete", Some(true)),
            ]
        );
    }

    /// Also of what was written in the same second, which an old copy may still show.
    #[tokio::test(start_paused = true)]
    async fn a_deletion_that_is_announced_before_it_is_done_is_a_deletion() {
        let written = parameter(EVENT_MS + 300, 1);
        let change = resolved("Delete", vec![Ok(Some(written.clone())), Ok(None)]).await;
        assert_eq!(change.state, NewState::Absent);
        let made_again = parameter(EVENT_MS + 1_200, 1);
        let change = resolved("Delete", vec![Ok(None), Ok(Some(made_again.clone()))]).await;
        assert_eq!(change.state, NewState::Absent, "as of the event");
        let change = resolved("Delete", vec![Ok(Some(made_again.clone()))]).await;
        assert_eq!(change.state, NewState::Value(made_again));
        let change = resolved("Delete", vec![Ok(Some(written))]).await;
        assert_eq!(change.state, NewState::Unknown, "the tasks ask the source");
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_copy_is_read_again() {
        let old = Ok(Some(parameter(EVENT_MS - 60_000, 1)));
        let change = resolved(
            "Update",
            vec![
                old.clone(),
                Err(()),
                old,
                Ok(Some(parameter(EVENT_MS + 120, 2))),
            ],
        )
        .await;
        assert_eq!(
            change.revision,
            Revision {
                incarnation: EVENT_MS + 120,
                version: 2
            }
        );
        assert_eq!(
            (change.written_at_ms, change.whole_seconds),
            (EVENT_MS + 120, false)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bounds_end_in_an_announcement_without_a_value() {
        let change = resolved("Update", vec![Ok(Some(parameter(EVENT_MS - 60_000, 1)))]).await;
        assert_eq!(
            (change.state, change.revision),
            (NewState::Unknown, Revision::default())
        );
        assert_eq!(
            resolved("Update", vec![Err(())]).await.state,
            NewState::Unknown
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_is_sent_once_it_can_be_read() {
        let change = resolved(
            "Delete",
            vec![Ok(Some(parameter(EVENT_MS - 1, 3))), Ok(None)],
        )
        .await;
        assert_eq!(
            (&change.state, change.revision.incarnation),
            (&NewState::Absent, EVENT_MS)
        );
        // Recreated meanwhile: version 1 again, and newer.
        let change = resolved("Delete", vec![Ok(Some(parameter(EVENT_MS + 1_010, 1)))]).await;
        assert!(matches!(change.state, NewState::Value(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_announced_without_its_value() {
        let change = resolved("Update", vec![Ok(Some(parameter(EVENT_MS, 2).secret()))]).await;
        let wire = change.to_wire();
        assert_eq!(wire.version, 2);
        assert_eq!(
            wire.state,
            Some(tagged_config_proto::v1::change::State::Unknown(true))
        );
    }
}

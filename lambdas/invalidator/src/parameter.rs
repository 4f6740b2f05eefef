//! "Parameter Store Change" events. They carry no value and no version, and may come before the change can
//! be read everywhere: so the parameter is read until it is not older than its event, within bounds.
//!
//! <https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-cwe.html>

use std::{future::Future, time::Duration};

use aws_sdk_ssm::Client;
use serde_json::Value;
use tagged_config_domain::{LocationId, Record, Revision, StoreError};
use tagged_config_stores::{
    Entry, ParameterStoreConfig,
    aws::store_error,
    parameter_store::{BACKEND, Secrets, record},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::change::{Change, NewState};

/// Waits before each read; after the last one the change is announced without its value.
const WAITS_MS: [u64; 7] = [0, 25, 50, 100, 200, 400, 800];

/// What an event announces.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Announced {
    id: LocationId,
    deleted: bool,
    /// The event's time, which AWS gives in whole seconds.
    time_ms: i64,
    /// The event's own id.
    event: String,
}

/// Somewhere to read a parameter from.
pub(crate) trait Parameters {
    /// The parameter as it is now, without the value of a secret.
    fn get(&self, path: &str) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;
}

/// Reads an event; `None` for those that change no configuration, such as labels.
pub(crate) fn announced(event: &Value, config: &ParameterStoreConfig) -> Option<Announced> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let deleted = match text("/detail/operation")? {
        "Create" | "Update" => false,
        "Delete" => true,
        _ => return None,
    };
    let id = config.location_of(text("/detail/name")?)?;
    let time = OffsetDateTime::parse(text("/time")?, &Rfc3339).ok()?;
    Some(Announced {
        id,
        deleted,
        time_ms: time.unix_timestamp() * 1_000,
        event: text("/id").unwrap_or_default().to_owned(),
    })
}

/// The change behind an announcement.
pub(crate) async fn resolve(announced: &Announced, parameters: &impl Parameters) -> Change {
    let mut last_error = None;
    // What was written in the second of its deletion may be what was deleted: an old copy, or LocalStack, which announces first.
    let since_ms = announced.time_ms + if announced.deleted { 1_000 } else { 0 };
    for wait in WAITS_MS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        match parameters.get(announced.id.partition()).await {
            Ok(Some(record)) if record.revision.incarnation >= since_ms => {
                return change(announced, record.revision, NewState::Value(record));
            }
            Ok(None) if announced.deleted => {
                let revision = Revision {
                    incarnation: announced.time_ms,
                    version: 0,
                };
                return change(announced, revision, NewState::Absent);
            }
            Ok(_) => {}
            Err(error) => last_error = Some(error),
        }
    }
    let error = last_error.map(|error| tagged_config_runtime::telemetry::chain(&error));
    tracing::warn!(location = %announced.id, error, "the announced change cannot be read yet; sent without its value");
    change(announced, Revision::default(), NewState::Unknown)
}

fn change(announced: &Announced, revision: Revision, state: NewState) -> Change {
    let modified = match &state {
        NewState::Value(record) => record.modified_ms,
        NewState::Absent | NewState::Unknown => None,
    };
    let written_at_ms = modified.unwrap_or(announced.time_ms);
    let (id, evidence) = (&announced.id, announced.event.as_str());
    let entry = match &state {
        NewState::Value(_) => Entry::written(id, revision, written_at_ms),
        NewState::Absent => Entry::removed(id, revision, written_at_ms, evidence),
        NewState::Unknown => Entry::edited(id, revision, written_at_ms, evidence),
    };
    Change {
        entry,
        id: id.clone(),
        revision,
        state,
        written_at_ms,
        whole_seconds: modified.is_none(),
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
        let config = ParameterStoreConfig {
            root: "/app".to_owned(),
        };
        let announced = announced(&event(operation, "/app/global/x"), &config).unwrap();
        resolve(&announced, &Scripted(Mutex::new(answers))).await
    }

    const EVENT_MS: i64 = 1_767_323_045_000;

    #[test]
    fn labels_and_other_parameters_are_ignored() {
        let config = ParameterStoreConfig {
            root: "/app".to_owned(),
        };
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
            announced(&json!({"detail": {"operation": "Update"}}), &config),
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

    /// `make test-localstack` checks that these are what its code sends.
    #[test]
    fn localstacks_events_are_understood() {
        let config = ParameterStoreConfig {
            root: "/app".to_owned(),
        };
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
    async fn a_deletion_is_told_once_it_can_be_seen() {
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

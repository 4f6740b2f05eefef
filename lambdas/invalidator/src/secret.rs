//! "Secret Label Updated" events, and, where the account has a trail, CloudTrail's of a deletion, its end, and a creation,
//! which have no event of their own. They carry no value, and none is read here: the tasks are told that a secret changed.
//! Without a trail, a deleted secret is still noticed by the next read of its value, and a new one when the TTL of its absence
//! ends.
//!
//! <https://docs.aws.amazon.com/secretsmanager/latest/userguide/monitoring-eventbridge.html>

use async_trait::async_trait;
use serde_json::Value;
use tagged_config_domain::{LocationId, Revision};
use tagged_config_stores::{
    Entry,
    secrets_manager::{CURRENT, SecretsManagerConfig},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    change::{Change, NewState},
    source::{Announcement, Source},
};

/// What Secrets Manager appends to a secret's name in its ARN: a hyphen and six characters.
const ARN_SUFFIX: usize = 7;

/// The secrets under a root.
pub(crate) struct SecretSource(pub(crate) SecretsManagerConfig);

struct Announced(Option<Change>);

impl Source for SecretSource {
    fn announced(&self, event: &Value) -> Option<Box<dyn Announcement + '_>> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        if text("/source") != Some("aws.secretsmanager") {
            return None;
        }
        let name = match text("/detail-type")? {
            "Secret Label Updated" if text("/detail/labelUpdated") == Some(CURRENT) => {
                text("/detail/name")?
            }
            "AWS API Call via CloudTrail" if event.pointer("/detail/errorCode").is_none() => {
                match text("/detail/eventName")? {
                    "CreateSecret" | "DeleteSecret" | "RestoreSecret" => secret_of(event)?,
                    _ => return None,
                }
            }
            _ => return None,
        };
        let id = self.0.location_of(name)?;
        let time = OffsetDateTime::parse(text("/time")?, &Rfc3339).ok()?;
        let change = changed(
            id,
            time.unix_timestamp() * 1_000,
            text("/id").unwrap_or_default(),
        );
        Some(Box::new(Announced(Some(change))))
    }
}

#[async_trait]
impl Announcement for Announced {
    async fn next(&mut self) -> Option<Change> {
        self.0.take()
    }
}

/// The name in CloudTrail's record of a call, which takes a name or an ARN, and answers with either.
fn secret_of(event: &Value) -> Option<&str> {
    let pointers = [
        "/detail/responseElements/name",
        "/detail/requestParameters/name",
        "/detail/responseElements/arn",
        "/detail/responseElements/aRN",
        "/detail/requestParameters/secretId",
    ];
    let named = pointers
        .iter()
        .find_map(|pointer| event.pointer(pointer).and_then(Value::as_str))?;
    match named.split_once(":secret:") {
        Some((_, name)) => name.get(..name.len().checked_sub(ARN_SUFFIX)?),
        None => Some(named),
    }
}

fn changed(id: LocationId, time_ms: i64, event_id: &str) -> Change {
    let revision = Revision::default();
    Change {
        entry: Entry::edited(&id, revision, time_ms, event_id),
        id,
        revision,
        state: NewState::Unknown,
        written_at_ms: time_ms,
        whole_seconds: true,
        noted: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str =
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/config/global/x-AbC123";

    fn source() -> SecretSource {
        SecretSource(SecretsManagerConfig::at("app/config"))
    }

    fn event(kind: &str, detail: &Value) -> Value {
        json!({
            "version": "0", "id": "17793124", "detail-type": kind, "source": "aws.secretsmanager",
            "account": "123456789012", "time": "2026-01-02T03:04:05Z", "region": "us-east-1", "resources": [ARN],
            "detail": detail
        })
    }

    fn label(name: &str, label: &str) -> Value {
        let detail = json!({"name": name, "labelUpdated": label, "versionId": "a1"});
        event("Secret Label Updated", &detail)
    }

    async fn location(event: &Value) -> Option<String> {
        let source = source();
        let mut announced = source.announced(event)?;
        let change = announced.next().await.unwrap();
        assert!(announced.next().await.is_none());
        assert_eq!(change.state, NewState::Unknown, "never a value");
        Some(change.id.partition().to_owned())
    }

    #[tokio::test]
    async fn a_new_current_value_is_announced_and_other_labels_are_not() {
        let updated = location(&label("app/config/tenants/A/pay/key", CURRENT)).await;
        assert_eq!(updated.as_deref(), Some("app/config/tenants/A/pay/key"));
        assert_eq!(location(&label("app/config/global/x", "BLUE")).await, None);
        assert_eq!(location(&label("app/other/global/x", CURRENT)).await, None);
    }

    #[tokio::test]
    async fn deletions_are_those_of_a_trail_by_name_or_arn() {
        let call = |name: &str, request: Value, response: Value| {
            let detail = json!({
                "eventSource": "secretsmanager.amazonaws.com", "eventName": name, "requestParameters": request,
                "responseElements": response
            });
            event("AWS API Call via CloudTrail", &detail)
        };
        for event in [
            call(
                "DeleteSecret",
                json!({"secretId": "app/config/global/x"}),
                json!({"arn": ARN}),
            ),
            call(
                "DeleteSecret",
                json!({"secretId": ARN}),
                json!({"aRN": ARN}),
            ),
            call("RestoreSecret", json!({"secretId": ARN}), Value::Null),
            call(
                "CreateSecret",
                json!({"name": "app/config/global/x"}),
                Value::Null,
            ),
        ] {
            assert_eq!(
                location(&event).await.as_deref(),
                Some("app/config/global/x"),
                "{event}"
            );
        }
        let mut failed = call("DeleteSecret", json!({"secretId": ARN}), Value::Null);
        failed["detail"]["errorCode"] = json!("AccessDenied");
        assert_eq!(location(&failed).await, None);
        assert_eq!(
            location(&call(
                "GetSecretValue",
                json!({"secretId": ARN}),
                Value::Null
            ))
            .await,
            None
        );
        assert_eq!(
            location(&call(
                "DeleteSecret",
                json!({"secretId": "arn:aws:secretsmanager:secret:x"}),
                Value::Null
            ))
            .await,
            None
        );
    }
}

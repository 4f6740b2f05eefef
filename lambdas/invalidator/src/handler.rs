//! From an event to a fan-out.

use std::time::{Duration, Instant};

use aws_sdk_ssm::Client;
use lambda_runtime::Error;
use serde_json::{Value, json};
use tagged_config_stores::{ParameterStoreConfig, aws};

use crate::{
    change::{Change, latest},
    config::Config,
    credential::Credential,
    discovery::{CloudMap, Discover},
    dynamodb,
    fanout::{self, GrpcRefresher, Refresher},
    parameter::{self, Parameters},
    receipt::{self, Stages},
};

/// Handles events of both kinds.
pub(crate) struct Handler<D = CloudMap, R = GrpcRefresher, P = Client> {
    discover: D,
    refresher: R,
    parameters: P,
    config: ParameterStoreConfig,
}

impl Handler {
    /// Connected to AWS.
    pub(crate) async fn connect(config: Config) -> Self {
        let sdk = aws::sdk_config().await;
        let ssm = Client::new(&sdk);
        let credential = Credential::new(ssm.clone(), config.credential_parameter.clone());
        // A failure shows at the first event, which is then tried again.
        if let Err(error) = credential.get().await {
            tracing::error!(
                error = format!("{error:#}"),
                "cold start without the refresh credential"
            );
        }
        Self {
            discover: CloudMap::new(&sdk, &config),
            refresher: GrpcRefresher::new(credential),
            parameters: ssm,
            config: config.parameters,
        }
    }
}

impl<D: Discover, R: Refresher, P: Parameters> Handler<D, R, P> {
    /// Handles one event. For a stream's batch, the answer names the records to be tried again.
    pub(crate) async fn handle(&self, event: &Value) -> Result<Value, Error> {
        let started_ms = receipt::now_ms();
        if let Some(records) = event.get("Records").and_then(Value::as_array) {
            return Ok(self.stream(records, started_ms).await);
        }
        if event.get("source").and_then(Value::as_str) == Some("aws.ssm") {
            self.parameter(event, started_ms).await?;
            return Ok(Value::Null);
        }
        tracing::warn!("an event of no known source was ignored");
        Ok(Value::Null)
    }

    async fn stream(&self, records: &[Value], started_ms: i64) -> Value {
        let batch = dynamodb::read(records);
        let mut failed = batch.failed;
        let stages = Stages {
            started_ms,
            reading: Duration::ZERO,
        };
        if let Err(error) = self.tell(&latest(batch.changes), stages).await {
            tracing::error!(
                error = format!("{error:#}"),
                "nobody could be told; the batch is to be tried again"
            );
            failed = batch.first.into_iter().collect();
        }
        let failures: Vec<Value> = failed
            .into_iter()
            .map(|id| json!({"itemIdentifier": id}))
            .collect();
        json!({"batchItemFailures": failures})
    }

    async fn parameter(&self, event: &Value, started_ms: i64) -> Result<(), Error> {
        let Some(announced) = parameter::announced(event, &self.config) else {
            return Ok(());
        };
        let reading = Instant::now();
        let change = parameter::resolve(&announced, &self.parameters).await;
        self.tell(
            &[change],
            Stages {
                started_ms,
                reading: reading.elapsed(),
            },
        )
        .await?;
        Ok(())
    }

    async fn tell(&self, changes: &[Change], stages: Stages) -> anyhow::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let fanout = fanout::run(changes, &self.discover, &self.refresher).await?;
        receipt::emit(changes, stages, &fanout);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tagged_config_domain::{Record, StoreError};
    use tagged_config_proto::v1 as pb;
    use tonic::Status;

    use super::*;

    struct Fake {
        discovery_works: bool,
    }

    impl Discover for Fake {
        async fn discover(&self) -> anyhow::Result<Vec<SocketAddr>> {
            if self.discovery_works {
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))])
            } else {
                anyhow::bail!("throttled")
            }
        }
    }

    impl Refresher for Fake {
        async fn refresh(
            &self,
            _: SocketAddr,
            _: pb::RefreshRequest,
        ) -> Result<pb::RefreshResponse, Status> {
            Err(Status::unavailable("dead"))
        }
    }

    impl Parameters for Fake {
        async fn get(&self, _: &str) -> Result<Option<Record>, StoreError> {
            Ok(None)
        }
    }

    fn handler(discovery_works: bool) -> Handler<Fake, Fake, Fake> {
        let fake = || Fake { discovery_works };
        let config = ParameterStoreConfig {
            root: "/app".to_owned(),
        };
        Handler {
            discover: fake(),
            refresher: fake(),
            parameters: fake(),
            config,
        }
    }

    fn stream_event() -> Value {
        let record = |sequence: &str| {
            json!({
                "eventName": "INSERT",
                "dynamodb": {
                    "SequenceNumber": sequence,
                    "Keys": {"PK": {"S": "TENANT#A"}, "SK": {"S": "CONFIG#x"}},
                    "NewImage": {"configValue": {"S": "1"}}
                }
            })
        };
        json!({"Records": [record("7"), {"dynamodb": {"SequenceNumber": "8"}}, record("9")]})
    }

    #[tokio::test(start_paused = true)]
    async fn dead_tasks_do_not_fail_a_batch() {
        let answer = handler(true).handle(&stream_event()).await.unwrap();
        assert_eq!(
            answer,
            json!({"batchItemFailures": [{"itemIdentifier": "8"}]}),
            "only the unreadable record"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_discovery_the_whole_batch_is_tried_again() {
        let answer = handler(false).handle(&stream_event()).await.unwrap();
        assert_eq!(
            answer,
            json!({"batchItemFailures": [{"itemIdentifier": "7"}]})
        );
        let event = json!({"source": "aws.ssm", "time": "2026-01-02T03:04:05Z",
            "detail": {"operation": "Delete", "name": "/app/global/x"}});
        assert!(
            handler(false).handle(&event).await.is_err(),
            "EventBridge's caller tries again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn other_events_are_ignored() {
        for event in [
            json!({}),
            json!(1),
            json!({"source": "aws.s3"}),
            json!({"Records": []}),
            json!({"source": "aws.ssm"}),
        ] {
            handler(false).handle(&event).await.unwrap();
        }
    }
}

//! What becomes of an event when something around the function fails; the emulator does not model these.

use std::{net::SocketAddr, sync::Mutex};

use tagged_config_discovery::DiscoveryError;
use tagged_config_domain::{Record, Revision, StoreError};
use tagged_config_stores::{ChangeKind, ParameterStoreConfig, dynamodb::BACKEND};
use tonic::Status;

use super::*;
use crate::parameter::{ParameterSource, Parameters};

/// The function's surroundings; what is switched on works.
#[expect(clippy::struct_excessive_bools, reason = "switches")]
struct Around {
    discovery: bool,
    tasks: bool,
    source: bool,
    journal: bool,
    history: bool,
}

struct Discovery(bool);
struct Tasks(bool, Mutex<Vec<Message>>);
struct Parameter(bool);
#[derive(Default)]
struct Entries(bool, Mutex<Vec<Entry>>);

struct Noted(bool, Mutex<Vec<Change>>);

type Handled = Handler<Discovery, Tasks, Entries, Noted>;

impl Discover for Discovery {
    async fn discover(&self) -> Result<Vec<SocketAddr>, DiscoveryError> {
        if !self.0 {
            return Err(DiscoveryError::new("throttled"));
        }
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))])
    }
}

impl Refresher for Tasks {
    async fn send(&self, _: SocketAddr, message: Message) -> Result<(), Status> {
        if !self.0 {
            return Err(Status::unavailable("dead"));
        }
        self.1.lock().unwrap().push(message);
        Ok(())
    }

    fn disconnect(&self, _: SocketAddr) -> bool {
        false
    }
}

impl Parameters for Parameter {
    async fn get(&self, _: &str) -> Result<Option<Record>, StoreError> {
        if !self.0 {
            return Err(StoreError::Throttled { backend: BACKEND });
        }
        let revision = Revision {
            incarnation: 1_767_323_045_500,
            version: 2,
        };
        Ok(Some(Record::new(
            "1",
            "text/plain",
            revision,
            Some(revision.incarnation),
        )))
    }
}

impl crate::history::Record for Noted {
    async fn record(&self, changes: &[Change]) -> Result<(), StoreError> {
        if !self.0 {
            return Err(StoreError::TimedOut { backend: BACKEND });
        }
        self.1.lock().unwrap().extend_from_slice(changes);
        Ok(())
    }
}

impl Append for Entries {
    async fn append(&self, entry: &Entry) -> Result<(), StoreError> {
        if !self.0 {
            return Err(StoreError::TimedOut { backend: BACKEND });
        }
        self.1.lock().unwrap().push(entry.clone());
        Ok(())
    }
}

impl Around {
    const WORKING: Self = Self {
        discovery: true,
        tasks: true,
        source: true,
        journal: true,
        history: true,
    };

    fn handler(self) -> Handled {
        Handler {
            discover: Discovery(self.discovery),
            refresher: Tasks(self.tasks, Mutex::default()),
            sources: vec![Box::new(ParameterSource::new(
                Parameter(self.source),
                ParameterStoreConfig::at("/app"),
            ))],
            journal: Some(Entries(self.journal, Mutex::default())),
            history: Some(Noted(self.history, Mutex::default())),
        }
    }

    fn without_a_journal(self) -> Handled {
        Handler {
            journal: None,
            ..self.handler()
        }
    }
}

impl Handled {
    /// The kinds of the entries, and how many changes were sent, in order.
    fn journalled_and_sent(&self) -> (Vec<ChangeKind>, usize) {
        let entries = self.journal.iter().flat_map(|journal| {
            let entries = journal.1.lock().unwrap();
            entries.iter().map(|entry| entry.kind).collect::<Vec<_>>()
        });
        let sent = self.refresher.1.lock().unwrap();
        let changes = sent.iter().map(|message| match message {
            Message::Refresh(request) => request.changes.len(),
            Message::Flush(_) => 0,
        });
        (entries.collect(), changes.sum())
    }
}

/// A batch as DynamoDB sends it, with a record in the middle that cannot be read.
fn batch() -> Value {
    let record = |sequence: &str, name: &str| {
        json!({
            "eventID": "c4ca4238a0b923820dcc509a6f75849b", "eventName": "INSERT", "eventVersion": "1.1",
            "eventSource": "aws:dynamodb", "awsRegion": "us-east-1",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_767_323_045.0, "SequenceNumber": sequence, "SizeBytes": 26,
                "Keys": {"PK": {"S": "TENANT#A"}, "SK": {"S": name}},
                "NewImage": {"PK": {"S": "TENANT#A"}, "SK": {"S": name}, "configValue": {"S": "1"}},
                "StreamViewType": "NEW_AND_OLD_IMAGES"
            },
            "eventSourceARN": "arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2026-01-02T00:00:00.000"
        })
    };
    let poison = json!({"eventName": "INSERT", "dynamodb": {"SequenceNumber": "8"}});
    json!({"Records": [record("7", "CONFIG#x"), poison, record("9", "CONFIG#y")]})
}

fn parameter_event() -> Value {
    json!({
        "version": "0", "id": "6a7e4feb", "detail-type": "Parameter Store Change", "source": "aws.ssm",
        "account": "123456789012", "time": "2026-01-02T03:04:05Z", "region": "us-east-1",
        "resources": ["arn:aws:ssm:us-east-1:123456789012:parameter/app/global/x"],
        "detail": {"operation": "Update", "name": "/app/global/x", "type": "String"}
    })
}

fn again(sequence: &str) -> Value {
    json!({"batchItemFailures": [{"itemIdentifier": sequence}]})
}

#[tokio::test(start_paused = true)]
async fn a_poison_record_is_named_and_holds_back_nobody() {
    let handler = Around::WORKING.handler();
    assert_eq!(handler.handle(&batch()).await.unwrap(), again("8"));
    assert_eq!(
        handler.journalled_and_sent(),
        (vec![ChangeKind::Edited; 2], 2)
    );
}

#[tokio::test(start_paused = true)]
async fn dead_tasks_find_the_changes_in_the_journal() {
    let around = Around {
        tasks: false,
        ..Around::WORKING
    };
    let handler = around.handler();
    assert_eq!(handler.handle(&batch()).await.unwrap(), again("8"));
    assert_eq!(handler.journalled_and_sent().0.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn dead_tasks_without_a_journal_stall_nobody() {
    let around = Around {
        tasks: false,
        ..Around::WORKING
    };
    let handler = around.without_a_journal();
    assert_eq!(handler.handle(&batch()).await.unwrap(), again("8"));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_reaches_neither_task_nor_journal_is_tried_again() {
    let around = || Around {
        tasks: false,
        journal: false,
        ..Around::WORKING
    };
    assert_eq!(
        around().handler().handle(&batch()).await.unwrap(),
        again("7"),
        "from the first record on"
    );
    assert!(
        around().handler().handle(&parameter_event()).await.is_err(),
        "EventBridge's caller tries again"
    );
}

/// Tasks that never answer.
struct Unresponsive;

impl Refresher for Unresponsive {
    async fn send(&self, _: SocketAddr, _: Message) -> Result<(), Status> {
        std::future::pending().await
    }

    fn disconnect(&self, _: SocketAddr) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_in_the_journal_does_not_wait_for_tasks_that_hang() {
    let Handler {
        discover,
        sources,
        journal,
        history,
        ..
    } = Around::WORKING.handler();
    let handler = Handler {
        discover,
        refresher: Unresponsive,
        sources,
        journal,
        history,
    };
    let began = tokio::time::Instant::now();
    assert_eq!(handler.handle(&batch()).await.unwrap(), again("8"));
    assert_eq!(
        began.elapsed(),
        fanout::DEADLINE,
        "the next batch is not held up"
    );
}

/// Nothing stays unaudited: what is not in the history is handled again, and dead-lettered in the end.
#[tokio::test(start_paused = true)]
async fn a_history_that_is_down_holds_back_no_push_and_is_tried_again() {
    let around = Around {
        history: false,
        ..Around::WORKING
    };
    let handler = around.handler();
    let failed = json!({"batchItemFailures": [{"itemIdentifier": "7"}]});
    assert_eq!(handler.handle(&batch()).await.unwrap(), failed);
    assert!(handler.journalled_and_sent().1 > 0, "tasks were told");
    assert!(handler.handle(&parameter_event()).await.is_err());
    let handler = Around::WORKING.handler();
    handler.handle(&batch()).await.unwrap();
    assert!(!handler.history.unwrap().1.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_down_holds_back_no_push() {
    let around = Around {
        journal: false,
        ..Around::WORKING
    };
    let handler = around.handler();
    assert_eq!(handler.handle(&batch()).await.unwrap(), again("8"));
    assert_eq!(handler.journalled_and_sent(), (vec![], 2));
}

#[tokio::test(start_paused = true)]
async fn without_discovery_the_journal_is_enough_and_without_both_it_is_tried_again() {
    let around = |journal| Around {
        discovery: false,
        journal,
        ..Around::WORKING
    };
    let handler = around(true).handler();
    assert_eq!(handler.handle(&batch()).await.unwrap(), again("8"));
    for handler in [around(false).handler(), around(true).without_a_journal()] {
        assert_eq!(handler.handle(&batch()).await.unwrap(), again("7"));
        assert!(handler.handle(&parameter_event()).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_source_is_announced_without_its_value() {
    // Without a readable source once early, and once more at the end.
    let edited = vec![ChangeKind::Edited, ChangeKind::Edited];
    for (source, kinds, sent) in [(false, edited, 2), (true, vec![ChangeKind::Edited], 1)] {
        let around = Around {
            source,
            ..Around::WORKING
        };
        let handler = around.handler();
        handler.handle(&parameter_event()).await.unwrap();
        assert_eq!(handler.journalled_and_sent(), (kinds, sent));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_reaches_tasks_by_a_call_and_by_the_journal() {
    let handler = Around::WORKING.handler();
    let answer = handler.handle(&json!({"flush": true})).await.unwrap();
    assert_eq!(
        answer,
        json!({"flushed": {"targets": 1, "acknowledged": 1}})
    );
    assert_eq!(handler.journalled_and_sent(), (vec![ChangeKind::Flush], 0));
    assert!(matches!(
        handler.refresher.1.lock().unwrap()[..],
        [Message::Flush(_)]
    ));
    let around = Around {
        journal: false,
        ..Around::WORKING
    };
    assert!(
        around
            .handler()
            .handle(&json!({"flush": true}))
            .await
            .is_err(),
        "a task that was not reached would never know"
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
        json!({"flush": false}),
    ] {
        let handler = Around::WORKING.handler();
        handler.handle(&event).await.unwrap();
        assert_eq!(handler.journalled_and_sent(), (vec![], 0));
    }
}

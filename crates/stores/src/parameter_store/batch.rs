//! Turns many waiting readers into few GetParameters calls: at most ten names each, some at a time, and
//! within a rate that leaves the account's other callers room.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    sync::Arc,
};

use aws_sdk_ssm::Client;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tagged_config_domain::{Record, StoreError};
use tagged_config_runtime::tasks::spawn_critical;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{BACKEND, Secrets, record};
use crate::aws::{OPERATION_TIMEOUT, store_error};

/// Names in one GetParameters call.
const MAX_NAMES: usize = 10;
/// Calls under way at once.
const MAX_CALLS: usize = 8;
/// Reads that may wait; one more is throttled at once.
const MAX_WAITING: usize = 1_024;

pub(super) struct Batcher {
    reads: mpsc::Sender<Read>,
    limit: Arc<DefaultDirectRateLimiter>,
}

/// The paths that one reader wants together, ten at most.
struct Read {
    paths: Vec<String>,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Vec<Option<Record>>, Arc<StoreError>>;

impl Batcher {
    /// Batches calls, at most this many a second.
    pub(super) fn spawn(client: Client, calls_per_second: NonZeroU32) -> Self {
        let (reads, queue) = mpsc::channel(MAX_WAITING);
        let limit = Arc::new(RateLimiter::direct(Quota::per_second(calls_per_second)));
        spawn_critical("batcher", run(client, queue, Arc::clone(&limit)));
        Self { reads, limit }
    }

    /// What lies at these paths, in their order.
    pub(super) async fn get(&self, paths: Vec<String>) -> Result<Vec<Option<Record>>, StoreError> {
        debug_assert!(paths.len() <= MAX_NAMES, "a key has two layers");
        let (answer, answered) = oneshot::channel();
        self.reads
            .try_send(Read { paths, answer })
            .map_err(|_| StoreError::Throttled { backend: BACKEND })?;
        match timeout(OPERATION_TIMEOUT, answered).await {
            Ok(Ok(Ok(records))) => Ok(records),
            Ok(Ok(Err(shared))) => Err(unshare(&shared)),
            Ok(Err(_)) | Err(_) => Err(StoreError::TimedOut { backend: BACKEND }),
        }
    }

    /// Waits until a call outside the batches is within the rate.
    pub(super) async fn take_turn(&self) -> Result<(), StoreError> {
        timeout(OPERATION_TIMEOUT, self.limit.until_ready())
            .await
            .map_err(|_| StoreError::Throttled { backend: BACKEND })
    }
}

/// Takes a turn first and readers then: whoever arrives while a turn is awaited rides along.
async fn run(
    client: Client,
    mut queue: mpsc::Receiver<Read>,
    limit: Arc<DefaultDirectRateLimiter>,
) {
    let calls = Arc::new(Semaphore::new(MAX_CALLS));
    let mut held: VecDeque<Read> = VecDeque::new();
    loop {
        if held.is_empty() {
            match queue.recv().await {
                Some(read) => held.push_back(read),
                None => return,
            }
        }
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else {
            return;
        };
        limit.until_ready().await;
        while let Ok(read) = queue.try_recv() {
            held.push_back(read);
        }
        let (batch, names) = next_batch(&mut held);
        if names.is_empty() {
            continue;
        }
        let client = client.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let result = call(&client, names).await.map_err(Arc::new);
            for read in batch {
                let answer = match &result {
                    Ok(found) => Ok(read
                        .paths
                        .iter()
                        .map(|path| found.get(path).cloned())
                        .collect()),
                    Err(error) => Err(Arc::clone(error)),
                };
                let _ = read.answer.send(answer);
            }
        });
    }
}

/// As many readers, in their order, as fit in ten distinct names. Those who no longer wait are left out.
fn next_batch(held: &mut VecDeque<Read>) -> (Vec<Read>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut batch = Vec::new();
    while let Some(read) = held.front() {
        if read.answer.is_closed() {
            held.pop_front();
            continue;
        }
        let new: Vec<_> = read
            .paths
            .iter()
            .filter(|path| !names.contains(path))
            .cloned()
            .collect();
        if names.len() + new.len() > MAX_NAMES {
            break;
        }
        names.extend(new);
        batch.extend(held.pop_front());
    }
    (batch, names)
}

async fn call(client: &Client, names: Vec<String>) -> Result<HashMap<String, Record>, StoreError> {
    let answer = client
        .get_parameters()
        .set_names(Some(names))
        .send()
        .await
        .map_err(|e| store_error(BACKEND, e))?;
    let found = answer.parameters().iter();
    Ok(found
        .filter_map(|p| Some((p.name()?.to_owned(), record(p, Secrets::Hidden))))
        .collect())
}

/// The same failure for each of those who shared the call.
fn unshare(error: &Arc<StoreError>) -> StoreError {
    match &**error {
        StoreError::TimedOut { .. } => StoreError::TimedOut { backend: BACKEND },
        StoreError::Throttled { .. } => StoreError::Throttled { backend: BACKEND },
        StoreError::Refused { reason, .. } => StoreError::Refused {
            backend: BACKEND,
            reason: reason.clone(),
        },
        _ => StoreError::Unavailable {
            backend: BACKEND,
            source: Box::new(Arc::clone(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(paths: &[&str]) -> (Read, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        (
            Read {
                paths: paths.iter().map(ToString::to_string).collect(),
                answer,
            },
            answered,
        )
    }

    #[test]
    fn a_batch_has_ten_distinct_names_and_only_readers_who_wait() {
        let mut held = VecDeque::new();
        let mut waiting = Vec::new();
        for tenant in 0..12 {
            let (read, answered) = read(&[&format!("/t/{tenant}"), "/global"]);
            held.push_back(read);
            waiting.push(answered);
        }
        drop(waiting.remove(0));
        let (batch, names) = next_batch(&mut held);
        assert_eq!(
            (batch.len(), names.len()),
            (9, 10),
            "nine tenants share the default's name"
        );
        assert_eq!(names[0], "/t/1");
        let (batch, names) = next_batch(&mut held);
        assert_eq!((batch.len(), names.len()), (2, 3));
        assert!(held.is_empty());
    }
}

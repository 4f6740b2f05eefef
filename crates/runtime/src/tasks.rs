//! Background tasks without which the process is of no use. If one panics, the process ends with an error, and what
//! supervises it (ECS, the launcher) starts another: a process that serves on without its sweeper or its keys would
//! break its promises silently.

use std::{future::Future, panic::AssertUnwindSafe, sync::LazyLock};

use futures::FutureExt;
use tokio::{sync::watch, task::JoinHandle};

/// The first critical task that panicked. A static, because what it reports ends the whole process.
static PANICKED: LazyLock<watch::Sender<Option<&'static str>>> =
    LazyLock::new(watch::Sender::default);

/// Spawns a task whose panic is to end the process: it is logged under `name`, and [`critical_task_panicked`] returns.
pub fn spawn_critical(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        // The process ends, so nobody goes on with what the task left half done.
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            tracing::error!(task = name, "a critical task panicked");
            PANICKED.send_if_modified(|first| first.replace(name).is_none());
        }
    })
}

/// Waits until a critical task panics, and returns its name.
pub async fn critical_task_panicked() -> &'static str {
    let mut panicked = PANICKED.subscribe();
    let name = panicked
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|name| *name);
    match name {
        Some(name) => name,
        // The sender is never dropped.
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_critical_task_is_reported() {
        let task = spawn_critical("one that panics", async { panic!("in a test") });
        assert_eq!(critical_task_panicked().await, "one that panics");
        task.await.expect("the panic was caught");
    }
}

//! Tasks that live as long as their owner wants; the end of any before that is a failure.

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// A set of named tasks and the token that ends them.
pub(crate) struct Tasks {
    stop: CancellationToken,
    running: JoinSet<(&'static str, Result<(), String>)>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { stop: CancellationToken::new(), running: JoinSet::new() }
    }

    /// Starts a task, which ends when its token says so.
    pub(crate) fn spawn<F>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let task = task(self.stop.clone());
        self.running.spawn(async move { (name, task.await) });
    }

    /// Waits until a task ends, and says which and why. Can be dropped without loss.
    pub(crate) async fn ended(&mut self) -> String {
        match self.running.join_next().await {
            Some(Ok((name, Ok(())))) => format!("{name}: ended by itself"),
            Some(Ok((name, Err(why)))) => format!("{name}: {why}"),
            Some(Err(why)) => propagate(why),
            None => std::future::pending().await,
        }
    }

    /// Ends the tasks and waits for them.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(why))) => tracing::error!("{name}: {why}"),
                Err(why) => propagate(why),
            }
        }
    }
}

/// A panic goes on in whoever waits for the task.
fn propagate(why: JoinError) -> ! {
    match why.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(why) => unreachable!("nobody aborts these tasks: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_or_ends_says_which_and_why() {
        let mut tasks = Tasks::new();
        tasks.spawn("first", |_| async { Err("no disk".to_owned()) });
        assert_eq!(tasks.ended().await, "first: no disk");
        tasks.spawn("second", |_| async { Ok(()) });
        assert_eq!(tasks.ended().await, "second: ended by itself");
    }

    #[tokio::test]
    async fn stopping_waits_for_every_task() {
        let mut tasks = Tasks::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.spawn("waits", |stop| async move {
            stop.cancelled().await;
            sender.send("stopped").map_err(str::to_owned)
        });
        tasks.stop().await;
        assert_eq!(receiver.await, Ok("stopped"));
    }
}

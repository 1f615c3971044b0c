//! Work that blocks, on threads that may.

/// Runs what may wait for the disk on a thread that may; a panic there is a panic here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    #[cfg(test)]
    if let Some(pause) = crate::sim::pause_before_blocking() {
        return joined(tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            work()
        }))
        .await;
    }
    joined(tokio::task::spawn_blocking(work)).await
}

async fn joined<T>(task: tokio::task::JoinHandle<T>) -> T {
    match task.await {
        Ok(done) => done,
        Err(why) => match why.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels work, and with it whoever waits for it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// How many threads work that waits for the disk is spread over, of `most`: none but this one in the simulation.
pub fn threads(most: usize) -> usize {
    #[cfg(test)]
    if crate::sim::is_running() {
        return 1;
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_done_is_returned() {
        assert_eq!(blocking(|| 7).await, 7);
    }

    #[tokio::test]
    #[should_panic(expected = "the disk is gone")]
    async fn a_panic_goes_on_in_whoever_waits() {
        blocking(|| panic!("the disk is gone")).await;
    }
}

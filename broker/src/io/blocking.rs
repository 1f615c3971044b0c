//! Work that blocks, on threads that may.

/// Runs what may wait for the disk on a thread that may; a panic there is a panic here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    #[cfg(test)]
    if let Some(pause) = simulated::pause() {
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
    if simulated::pause().is_some() {
        return 1;
    }
    most
}

/// In the simulation work that blocks is done in the ambient task, after a pause: no disk is waited for there.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::RefCell;
    use std::time::Duration;

    type Pauses = Box<dyn FnMut() -> Duration>;

    thread_local! {
        static PAUSES: RefCell<Option<Pauses>> = const { RefCell::new(None) };
    }

    /// From now on, on this thread, work that blocks takes so long each time; `None` ends that.
    pub(crate) fn set(pauses: Option<Pauses>) {
        PAUSES.set(pauses);
    }

    pub(super) fn pause() -> Option<Duration> {
        PAUSES.with_borrow_mut(|pauses| pauses.as_mut().map(|next| next()))
    }
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

//! Work that blocks on files, and the tasks that links run in.

use tokio::task::JoinError;

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    propagate_panic(tokio::task::spawn_blocking(work).await).expect("nobody aborts blocking work")
}

/// A panic goes on in whoever waits for the task.
pub(super) fn propagate_panic<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(done) => Some(done),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_cancelled)) => None,
    }
}

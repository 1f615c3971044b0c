//! The end of tasks that links run in.

use tokio::task::JoinError;

/// A panic goes on in whoever waits for the task.
pub(super) fn propagate_panic<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(done) => Some(done),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_cancelled)) => None,
    }
}

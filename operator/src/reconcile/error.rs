//! Why a reconciliation ended early. It is tried again.

use crate::certificates::CertificateError;

/// Why a reconciliation ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused, or can't be reached.
    #[error("{attempt}: {source}")]
    Kubernetes {
        /// What was attempted, and on what.
        attempt: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The connections to the brokers.
    #[error("connect to the brokers: {0}")]
    Links(Box<tonic::Status>),
    /// An object that can't be read as its kind.
    #[error("read {object}: {source}")]
    Unreadable {
        /// Which.
        object: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The watches have ended: the process is ending.
    #[error("the watches have ended")]
    Ended,
}

/// Says what was attempted.
pub(super) trait Attempt<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, ReconcileError>;
}

impl<T> Attempt<T> for Result<T, kube::Error> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, ReconcileError> {
        self.map_err(|source| ReconcileError::Kubernetes { attempt: what(), source: Box::new(source) })
    }
}

/// Whether the API server said that something has changed, or is gone, since it was looked at.
pub(super) fn has_changed(why: &kube::Error) -> bool {
    matches!(why, kube::Error::Api(status) if status.code == 409 || status.code == 404)
}

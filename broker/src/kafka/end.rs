//! Why connections end.

use std::io;

use super::api::Api;
use super::frames::FrameError;
use super::metrics::Reason;
use super::wire::DecodeError;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The client closed it.
    #[error("closed by the client")]
    Client,
    /// It failed.
    #[error("the connection failed: {0}")]
    Network(#[from] io::Error),
    /// `connections.max.idle.ms`.
    #[error("idle for too long")]
    Idle,
    /// A request that did not arrive in time.
    #[error("a request did not arrive in time")]
    SlowRequest,
    /// A request that waited for something to happen while others waited for its memory.
    #[error("a long wait with a large request, while others wait for memory")]
    Hoarding,
    /// Responses that were not taken in time.
    #[error("the responses were not taken in time")]
    SlowReader,
    /// Not a request's size.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not a request's header.
    #[error("a malformed request header: {0}")]
    Header(#[source] DecodeError),
    /// An API that this broker does not have.
    #[error("API key {0} is not served")]
    UnknownApi(i16),
    /// A version that this broker does not have.
    #[error("{api:?} version {version} is not served")]
    UnknownVersion {
        /// Which API.
        api: &'static Api,
        /// Which version.
        version: i16,
    },
    /// Not a request's body.
    #[error("a malformed {api:?} request, version {version}: {error}")]
    Malformed {
        /// Which API.
        api: &'static Api,
        /// Which version.
        version: i16,
        /// What is wrong.
        #[source]
        error: DecodeError,
    },
    /// The handler asked for it.
    #[error("closed by {0:?}")]
    Handler(&'static Api),
    /// The node stops.
    #[error("the node is stopping")]
    Shutdown,
}

impl End {
    /// For the metrics.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Client => Reason::Client,
            Self::Network(_) => Reason::Network,
            Self::Idle => Reason::Idle,
            Self::SlowRequest | Self::Hoarding | Self::SlowReader => Reason::Slow,
            Self::Frame(_)
            | Self::Header(_)
            | Self::UnknownApi(_)
            | Self::UnknownVersion { .. }
            | Self::Malformed { .. } => Reason::BadRequest,
            Self::Handler(_) => Reason::Handler,
            Self::Shutdown => Reason::Shutdown,
        }
    }
}

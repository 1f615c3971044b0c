//! The border between connections and the APIs: a connection knows frames and order, a service knows what to answer.

use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;

use super::api::Api;
use super::wire::{Body, DecodeError, StrBytes};

/// One request, its header read.
#[derive(Debug)]
pub struct Request {
    /// Which API.
    pub api: &'static Api,
    /// At which version: one that `api` has.
    pub version: i16,
    /// `client.id`, empty when absent. Shared by a connection's requests; does not pin its read buffer.
    pub client_id: StrBytes,
    /// Who asks.
    pub peer: SocketAddr,
    /// What follows the header: a slice of the connection's read buffer.
    pub body: Bytes,
}

/// How a request ends.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly every answer is a body: boxing it costs an allocation each")]
pub enum Answer {
    /// With a response.
    Body(Body),
    /// Without one: Produce with acks=0.
    Silence,
    /// With the connection's end, as Kafka does when acks=0 meets an error.
    Close,
}

/// A request under way.
pub enum Call<P> {
    /// Took effect already, in its order, and waits for its answer: the connection's next request may start. Produce.
    Pipelined(P),
    /// Takes effect when it can, and is `Pipelined` then: its connection starts nothing before. Whatever happens to the
    /// connection, it runs to its end. Produce that has to wait for room, or takes long.
    Deferred(Deferred<P>),
    /// Runs alone on its connection: it starts when every earlier request is answered, and the next one starts after
    /// its answer, as in Kafka. Whatever happens to the connection, it runs to its end.
    Serial(Answering),
    /// Like `Serial`, but without effects: dropped when the client is gone. Long polls.
    Cancellable(Answering),
}

/// An answer to come.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A request on its way to take effect.
pub type Deferred<P> = Pin<Box<dyn Future<Output = P> + Send>>;

/// What connections serve.
pub trait Service: Send + Sync + 'static {
    /// The answer of a pipelined request.
    type Pipelined: Future<Output = Answer> + Send + Unpin + 'static;

    /// The API of this key, if this service has it.
    fn api(&self, key: i16) -> Option<&'static Api>;

    /// Decodes and starts a request. Only a pipelined one has effects before it is polled.
    fn start(&self, request: Request) -> Result<Call<Self::Pipelined>, DecodeError>;
}

//! One connection to a broker: requests are pipelined, answers come back in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_wire::{
    ApiVersionsRequest, FindCoordinatorRequest, KafkaRequest, MetadataRequest, OutboundFrameLimits,
    RequestResponsePair, encode_request, response_header_version_for,
};
use kafka_wire_core::{ApiVersion, DecodeLimits, KafkaDecode, KafkaEncode, StrBytes};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::ClientError;
use super::trouble::OnTrouble;
use crate::message;

/// How long a TCP connection may take, and the answer to what a broker knows by itself: one that is stopped or hangs is
/// given up for the next.
const PROMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer that takes longer is told of.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// How long a request may take beyond what the request itself allows the broker to wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// Bytes of one frame at most, in either direction.
const MAX_FRAME_BYTES: usize = 128 << 20;
/// What the broker's logs call this client.
const CLIENT_ID: &str = "chronik-cli";
/// Requests that may wait to be written.
const WRITE_QUEUE: usize = 16;

type Waiters = Arc<Mutex<Pending>>;

/// Requests without an answer yet, oldest first.
#[derive(Default)]
struct Pending {
    waiting: VecDeque<(i32, oneshot::Sender<Bytes>)>,
    /// Why the connection ended; nothing waits after that.
    closed: Option<String>,
}

/// An open connection whose broker told which versions it speaks.
pub struct Connection {
    address: String,
    frames: mpsc::Sender<BytesMut>,
    pending: Waiters,
    next_correlation: AtomicI32,
    versions: HashMap<i16, (i16, i16)>,
    on_trouble: OnTrouble,
    /// Whether it was told that answers take long; until one comes it is not told again.
    told: AtomicBool,
    /// The reading and the writing task; they end with the connection.
    _tasks: JoinSet<()>,
}

impl Connection {
    /// Connects to `HOST:PORT` and asks for the versions; `on_trouble` is told when an answer takes long.
    pub async fn open(address: &str, on_trouble: OnTrouble) -> Result<Self, ClientError> {
        let connect_error =
            |why: std::io::Error| ClientError::Connect { address: address.to_owned(), why: why.to_string() };
        let stream = tokio::time::timeout(PROMPT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| connect_error(std::io::ErrorKind::TimedOut.into()))?
            .map_err(connect_error)?;
        stream.set_nodelay(true).map_err(connect_error)?;
        let (reader, writer) = stream.into_split();
        let (frames, queue) = mpsc::channel(WRITE_QUEUE);
        let pending = Waiters::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(read_answers(reader, pending.clone()));
        tasks.spawn(write_frames(writer, queue, pending.clone()));
        let mut connection = Self {
            address: address.to_owned(),
            frames,
            pending,
            next_correlation: AtomicI32::new(0),
            versions: HashMap::new(),
            on_trouble,
            told: AtomicBool::new(false),
            _tasks: tasks,
        };
        connection.versions = connection.ask_versions().await?;
        Ok(connection)
    }

    /// The address that it was opened to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends at the newest version both sides know, and waits for the answer.
    pub async fn send<R: RequestResponsePair + KafkaEncode>(&self, request: &R) -> Result<R::Response, ClientError> {
        self.send_at_most(request, i16::MAX).await
    }

    /// Like `send`, with a version of at most `newest`: for requests that are built for older versions' fields.
    pub async fn send_at_most<R: RequestResponsePair + KafkaEncode>(
        &self,
        request: &R,
        newest: i16,
    ) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>(newest)?;
        let answer = self.write(request, version).await?;
        self.wait_for::<R>(answer, version).await
    }

    /// Writes a request that has no answer: Produce with acks=0.
    pub async fn send_unanswered<R: KafkaRequest + KafkaEncode>(
        &self,
        request: &R,
        newest: i16,
    ) -> Result<(), ClientError> {
        let version = self.version_of::<R>(newest)?;
        let correlation = self.next_correlation.fetch_add(1, Ordering::Relaxed);
        let frame = self.frame(request, version, correlation)?;
        self.frames.send(frame).await.map_err(|_| self.ended())
    }

    async fn ask_versions(&self) -> Result<HashMap<i16, (i16, i16)>, ClientError> {
        let request = message!(ApiVersionsRequest {
            client_software_name: StrBytes::from("chronik"),
            client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
        });
        let version = ApiVersion::new(3);
        let answer = self.write(&request, version).await?;
        let response = self.wait_for::<ApiVersionsRequest>(answer, version).await?;
        Ok(response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect())
    }

    fn version_of<R: KafkaRequest>(&self, newest: i16) -> Result<ApiVersion, ClientError> {
        let ours = R::SUPPORTED_VERSIONS;
        let unsupported = || ClientError::Unsupported { api: R::NAME, address: self.address.clone() };
        let (oldest_there, newest_there) = self.versions.get(&R::API_KEY.value()).copied().ok_or_else(unsupported)?;
        let version = newest_there.min(ours.max().value()).min(newest);
        if version < oldest_there || version < ours.min().value() {
            return Err(unsupported());
        }
        Ok(ApiVersion::new(version))
    }

    fn frame<R: KafkaRequest + KafkaEncode>(
        &self,
        request: &R,
        version: ApiVersion,
        correlation: i32,
    ) -> Result<BytesMut, ClientError> {
        let mut frame = BytesMut::new();
        let limits = OutboundFrameLimits::new(MAX_FRAME_BYTES);
        encode_request(&mut frame, correlation, Some(StrBytes::from(CLIENT_ID)), request, version, limits)
            .map_err(|why| self.broken(&format!("{} can't be encoded: {why}", R::NAME)))?;
        Ok(frame)
    }

    async fn write<R: KafkaRequest + KafkaEncode>(
        &self,
        request: &R,
        version: ApiVersion,
    ) -> Result<oneshot::Receiver<Bytes>, ClientError> {
        let correlation = self.next_correlation.fetch_add(1, Ordering::Relaxed);
        let frame = self.frame(request, version, correlation)?;
        let (sender, receiver) = oneshot::channel();
        // Nothing is awaited between the waiter's place and the frame's: both queues have the same order, also when
        // this future is dropped.
        let place = self.frames.reserve().await.map_err(|_| self.ended())?;
        let mut pending = self.pending.lock();
        if let Some(why) = &pending.closed {
            return Err(self.broken(why));
        }
        pending.waiting.push_back((correlation, sender));
        place.send(frame);
        Ok(receiver)
    }

    async fn wait_for<R: RequestResponsePair>(
        &self,
        answer: oneshot::Receiver<Bytes>,
        version: ApiVersion,
    ) -> Result<R::Response, ClientError> {
        let mut frame = self.within::<R>(answer).await?.map_err(|_| self.ended())?;
        let header = response_header_version_for::<R>(version).map_err(|why| self.broken(&why.to_string()))?;
        if header >= 1 {
            skip_tagged_fields(&mut frame).ok_or_else(|| self.broken("a malformed response header"))?;
        }
        R::Response::decode_from_bytes(frame, version, DecodeLimits::default())
            .map_err(|why| self.broken(&format!("the answer to {} can't be read: {why}", R::NAME)))
    }

    /// The outcome of a wait that is not longer than a request of this kind may take. Who does not answer in time is not
    /// asked any more: the connection ends.
    async fn within<R: KafkaRequest>(
        &self,
        mut answer: oneshot::Receiver<Bytes>,
    ) -> Result<Result<Bytes, oneshot::error::RecvError>, ClientError> {
        let limit = if is_prompt::<R>() { PROMPT_TIMEOUT } else { REQUEST_TIMEOUT };
        if let Ok(answered) = tokio::time::timeout(TELL_AFTER, &mut answer).await {
            self.told.store(false, Ordering::Relaxed);
            return Ok(answered);
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            (self.on_trouble)(&ClientError::Unanswered { what: R::NAME, address: self.address.clone() });
        }
        tokio::time::timeout(limit.saturating_sub(TELL_AFTER), answer).await.map_err(|_| {
            let why = ClientError::TimedOut { what: R::NAME, address: self.address.clone() };
            close(&self.pending, &why.to_string());
            why
        })
    }

    fn ended(&self) -> ClientError {
        let why = self.pending.lock().closed.clone();
        self.broken(why.as_deref().unwrap_or("closed"))
    }

    fn broken(&self, why: &str) -> ClientError {
        ClientError::Connection { address: self.address.clone(), why: why.to_owned() }
    }

    /// Whether nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.pending.lock().closed.is_some()
    }
}

/// Whether a broker answers such a request out of what it has in memory.
fn is_prompt<R: KafkaRequest>() -> bool {
    [ApiVersionsRequest::API_KEY, MetadataRequest::API_KEY, FindCoordinatorRequest::API_KEY].contains(&R::API_KEY)
}

/// Ends all waits: their senders are dropped.
fn close(pending: &Waiters, why: &str) {
    let mut pending = pending.lock();
    pending.closed.get_or_insert_with(|| why.to_owned());
    pending.waiting.clear();
}

/// Writes requests one after the other: whoever asked may give up, a frame is never cut.
async fn write_frames(mut stream: OwnedWriteHalf, mut queue: mpsc::Receiver<BytesMut>, pending: Waiters) {
    while let Some(frame) = queue.recv().await {
        if let Err(why) = stream.write_all(&frame).await {
            close(&pending, &why.to_string());
            return;
        }
    }
}

/// Hands each answer to the oldest waiter, until the connection ends.
async fn read_answers(mut stream: OwnedReadHalf, pending: Waiters) {
    let why = loop {
        let mut frame = match read_frame(&mut stream).await {
            Ok(frame) => frame,
            Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => break "closed by the broker".to_owned(),
            Err(why) => break why.to_string(),
        };
        if frame.len() < 4 {
            break "a response without a header".to_owned();
        }
        let correlation = frame.get_i32();
        let oldest = pending.lock().waiting.pop_front();
        match oldest {
            // A waiter that gave up is no error: its answer is dropped.
            Some((expected, waiter)) if expected == correlation => drop(waiter.send(frame)),
            _ => break format!("an answer to a request that was not sent (correlation id {correlation})"),
        }
    };
    close(&pending, &why);
}

async fn read_frame(stream: &mut OwnedReadHalf) -> std::io::Result<Bytes> {
    let length = stream.read_i32().await?;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_FRAME_BYTES).ok_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("a frame of {length} bytes: is this Kafka?"))
    })?;
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame.into())
}

/// Skips a flexible header's tagged fields (KIP-482); `None` when they are malformed.
fn skip_tagged_fields(frame: &mut Bytes) -> Option<()> {
    for _ in 0..unsigned_varint(frame)? {
        unsigned_varint(frame)?;
        let length = unsigned_varint(frame)? as usize;
        if frame.len() < length {
            return None;
        }
        frame.advance(length);
    }
    Some(())
}

fn unsigned_varint(frame: &mut Bytes) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..32).step_by(7) {
        let byte = frame.try_get_u8().ok()?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tagged_fields_of_a_header_are_skipped_whatever_their_size() {
        let mut none = Bytes::from_static(&[0, 7]);
        assert_eq!(skip_tagged_fields(&mut none), Some(()));
        assert_eq!(&none[..], &[7]);
        let mut two = Bytes::from_static(&[2, 0, 1, 9, 5, 2, 9, 9, 7]);
        assert_eq!(skip_tagged_fields(&mut two), Some(()));
        assert_eq!(&two[..], &[7]);
    }

    #[test]
    fn malformed_tagged_fields_are_an_error_not_a_panic() {
        for bytes in [&[][..], &[1], &[1, 0], &[1, 0, 5, 1], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(skip_tagged_fields(&mut Bytes::from_static(bytes)), None, "{bytes:?}");
        }
    }
}

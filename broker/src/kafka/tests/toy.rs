//! A service whose answers the test holds back, a server for it, and a client that speaks frames.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kafka::api::Api;
use crate::kafka::limits::Limits;
use crate::kafka::listener::Listener;
use crate::kafka::metrics::Metrics;
use crate::kafka::response_memory::ResponseMemory;
use crate::kafka::service::{Answer, Answering, Call, Request, Service};
use crate::kafka::wire::{Body, DecodeError};

/// Pipelined: answers its body when the test settles it, in any order.
pub(super) const PRODUCE: i16 = 0;
/// Cancellable: as `PRODUCE`.
pub(super) const FETCH: i16 = 1;
/// Serial: as `PRODUCE`.
pub(super) const JOIN: i16 = 11;
/// A `PRODUCE` whose body begins so takes effect when the test settles it, and is settled then.
pub(super) const DEFERRED: &[u8] = b"deferred";
/// Serial: answers a body of `HELD_BYTES` that holds the toy's response memory.
pub(super) const HELD: i16 = 2;
/// Serial: answers its body at once; `SILENT`, `CLOSE` and `PANIC` do what they say, `MALFORMED` is not decoded.
pub(super) const ECHO: i16 = 3;

/// More than the sockets between a server and a client take.
pub(super) const HELD_BYTES: usize = 32 << 20;

pub(super) const SILENT: &[u8] = b"silent";
pub(super) const CLOSE: &[u8] = b"close";
pub(super) const PANIC: &[u8] = b"panic";
pub(super) const MALFORMED: &[u8] = b"malformed";

static APIS: [Api; 6] = [
    Api::toy(PRODUCE, "ProduceRequest"),
    Api::toy(FETCH, "FetchRequest"),
    Api::toy(HELD, "ListOffsetsRequest"),
    Api::toy(ECHO, "MetadataRequest"),
    Api::toy(JOIN, "JoinGroupRequest"),
    Api::toy(crate::kafka::api::api_versions::KEY, "ApiVersionsRequest"),
];

/// The toy, and what the test sees of it.
#[derive(Clone, Default)]
pub(super) struct Toy(Arc<State>);

#[derive(Default)]
struct State {
    held: Mutex<HashMap<Bytes, oneshot::Sender<Answer>>>,
    /// What happened, in order: `+body` a request started, `-body` one was dropped before its answer.
    events: Mutex<Vec<String>>,
    changed: Mutex<Option<watch::Sender<usize>>>,
    response_memory: OnceLock<ResponseMemory>,
}

impl Toy {
    fn note(&self, event: String) {
        self.0.events.lock().push(event);
        let mut changed = self.0.changed.lock();
        changed.get_or_insert_with(|| watch::channel(0).0).send_modify(|count| *count += 1);
    }

    /// Memory for one response.
    pub(super) fn response_memory(&self) -> &ResponseMemory {
        self.0.response_memory.get_or_init(|| ResponseMemory::new(1))
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.0.events.lock().clone()
    }

    /// Waits until `event` has happened.
    pub(super) async fn saw(&self, event: &str) {
        let mut changed = self.0.changed.lock().get_or_insert_with(|| watch::channel(0).0).subscribe();
        while !self.events().iter().any(|seen| seen == event) {
            soon(changed.changed()).await.unwrap();
        }
    }

    /// Lets the request with this body be answered with it.
    pub(super) fn settle(&self, body: &'static str) {
        let held = self.0.held.lock().remove(body.as_bytes()).expect("it is held");
        let _ = held.send(answer(Bytes::from_static(body.as_bytes())));
    }

    fn hold(&self, body: Bytes) -> Held {
        let (settle, settled) = oneshot::channel();
        self.0.held.lock().insert(body.clone(), settle);
        self.note(format!("+{}", String::from_utf8_lossy(&body)));
        Held { settled, toy: self.clone(), body: Some(body) }
    }
}

fn answer(data: Bytes) -> Answer {
    let mut body = Body::default();
    body.push(data);
    Answer::Body(body)
}

pub(super) struct Held {
    settled: oneshot::Receiver<Answer>,
    toy: Toy,
    body: Option<Bytes>,
}

impl Future for Held {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = std::task::ready!(Pin::new(&mut self.settled).poll(cx)).unwrap();
        self.body = None;
        Poll::Ready(answer)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(body) = &self.body {
            self.toy.note(format!("-{}", String::from_utf8_lossy(body)));
        }
    }
}

impl Service for Toy {
    type Pipelined = Held;

    fn api(&self, key: i16) -> Option<&'static Api> {
        APIS.iter().find(|api| api.key == key)
    }

    fn start(&self, request: Request) -> Result<Call<Held>, DecodeError> {
        let Request { api, body, .. } = request;
        if body == MALFORMED {
            return Err(DecodeError::InvalidBoolean { offset: 0, value: 2 });
        }
        let toy = self.clone();
        let deferring = toy.clone();
        let held = |body: Bytes| -> Answering { Box::pin(async move { toy.hold(body).await }) };
        Ok(match api.key {
            PRODUCE if body == SILENT => {
                let silent = self.hold(body.clone());
                let settle = self.0.held.lock().remove(&body).unwrap();
                let _ = settle.send(Answer::Silence);
                Call::Pipelined(silent)
            }
            #[expect(clippy::async_yields_async, reason = "a deferred call ends in one that goes on")]
            PRODUCE if body.starts_with(DEFERRED) => Call::Deferred(Box::pin(async move {
                deferring.hold(body.clone()).await;
                deferring.hold(body.slice(DEFERRED.len()..))
            })),
            PRODUCE => Call::Pipelined(self.hold(body)),
            FETCH => Call::Cancellable(held(body)),
            JOIN => Call::Serial(held(body)),
            HELD => {
                let mut held = self.response_memory().response();
                Call::Serial(Box::pin(async move {
                    held.wait(1).await;
                    let mut body = Body::default();
                    body.push(Bytes::from(vec![7; HELD_BYTES]));
                    body.hold(Some(held));
                    Answer::Body(body)
                }))
            }
            _ => Call::Serial(Box::pin(async move {
                assert!(body != PANIC, "the toy panics as it was asked to");
                if body == CLOSE { Answer::Close } else { answer(body) }
            })),
        })
    }
}

/// A served toy.
pub(super) struct Server {
    pub(super) toy: Toy,
    pub(super) addr: SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) metrics: Arc<Metrics>,
    pub(super) task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(super) async fn start(limits: Limits) -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (addr, toy, stop) = (listener.local_addr(), Toy::default(), CancellationToken::new());
        let metrics = Arc::new(Metrics::default());
        let task = tokio::spawn(listener.serve(toy.clone(), limits, Arc::clone(&metrics), stop.clone()));
        Self { toy, addr, stop, metrics, task }
    }

    pub(super) async fn client(&self) -> Client {
        Client { stream: TcpStream::connect(self.addr).await.unwrap() }
    }

    /// Waits until so many connections are open.
    pub(super) async fn open(&self, connections: i64) {
        soon(async {
            while self.metrics.connections.get() != connections {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// One end of a connection.
pub(super) struct Client {
    pub(super) stream: TcpStream,
}

impl Client {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// A response: its correlation id and body.
    pub(super) async fn response(&mut self) -> (i32, Vec<u8>) {
        soon(async {
            let size = self.stream.read_i32().await.unwrap();
            let id = self.stream.read_i32().await.unwrap();
            let mut body = vec![0; size as usize - 4];
            self.stream.read_exact(&mut body).await.unwrap();
            (id, body)
        })
        .await
    }

    /// Waits for the end, which must come without another byte.
    pub(super) async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too: the server may have closed with something unread.
        let _ = soon(self.stream.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"", "the end comes without another byte");
    }

    /// Asks and awaits an echo: that this connection works.
    pub(super) async fn works(&mut self) {
        self.send(&frame(ECHO, 0, 77, b"still here")).await;
        assert_eq!(self.response().await, (77, b"still here".to_vec()));
    }
}

/// A request frame with a header of version 1.
pub(super) fn frame(api: i16, version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&(8 + 6 + body.len() as i32).to_be_bytes());
    frame.extend_from_slice(&api.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&[0, 4]);
    frame.extend_from_slice(b"test");
    frame.extend_from_slice(body);
    frame
}

/// Fails instead of hanging. The bound is far beyond what any wait here takes.
pub(super) async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("what the test waits for did not happen")
}

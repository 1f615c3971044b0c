//! One client connection: one task that reads requests, starts them, and sends the answers in their order.
//!
//! Kafka handles one request of a connection at a time, and clients rely on that order. Here only Produce overlaps: the
//! next request starts while earlier Produce requests wait for their flush. All that a wake-up finds ready leaves in
//! one write, so that a commit round of the WAL costs a connection one wake-up and one system call.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep};

use super::api::{Api, api_versions};
use super::deadlines::{Receiving, Unsent, Waiting, Waits};
use super::end::End;
use super::frames::{Announced, FrameError, Frames};
use super::limits::Reservation;
use super::output::Output;
use super::service::{Answer, Answering, Call, Deferred, Request, Service};
use super::shared::Shared;
use super::wire::{Body, RequestHeader, StrBytes};

/// Requests of one connection that wait for their answers.
const MAX_PIPELINED: usize = 256;
/// Their bytes: past this no further one is started.
const MAX_PIPELINED_BYTES: usize = 8 << 20;
/// While more than this is unsent, nothing new is started.
const MAX_UNSENT: usize = 64 << 10;
/// While nothing can be started, no more than this is read ahead: enough to see that the client has gone.
const READ_AHEAD: usize = 4 << 10;
/// A connection that was quiet for so long gives its buffers back.
const QUIET: Duration = Duration::from_secs(2);
/// Only Produce carries data. Other requests are lists, whose elements take many times the memory of their bytes.
const MAX_LIST_REQUEST: usize = 16 << 20;
/// Such requests above this size count for what they may become (see `LIST_WEIGHT`).
const LARGE_LIST_REQUEST: usize = 64 << 10;
/// Bytes of memory for a byte of a list on the wire.
const LIST_WEIGHT: usize = 16;
/// A larger request that waits long loses its connection when others need its memory. What consumers send is shorter.
const MAY_WAIT: usize = 4 << 10;
/// Whose decoders are written by hand and make nothing much larger than the bytes.
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;

/// What an answer needs of its request.
#[derive(Debug)]
struct Asked {
    api: &'static Api,
    version: i16,
    correlation_id: i32,
    at: Instant,
    bytes: usize,
    /// What it counts for in the memory of requests.
    weight: usize,
    _memory: Reservation,
}

struct Pipelined<P> {
    answer: P,
    asked: Asked,
}

/// A request that becomes the last of the pipelined when it has taken effect.
struct Entering<P> {
    effect: Deferred<P>,
    asked: Asked,
}

struct Serial {
    answer: Answering,
    cancellable: bool,
    asked: Asked,
}

/// Memory for the next frame.
enum Admission {
    /// None asked for.
    None,
    /// Asked for: other requests hold it.
    Waiting(Pin<Box<dyn Future<Output = Reservation> + Send>>),
    /// Granted.
    Granted(Reservation),
}

/// A connection. `T` is a TCP stream, or what encrypts one.
pub(super) struct Connection<S: Service, T> {
    shared: Arc<Shared<S>>,
    stream: T,
    peer: SocketAddr,
    /// The last request's `client.id`, in memory of its own.
    client_id: StrBytes,
    frames: Frames,
    admission: Admission,
    /// Answered in this order, before `serial`.
    pipelined: VecDeque<Pipelined<S::Pipelined>>,
    /// Bytes of the requests in `pipelined`.
    pipelined_bytes: usize,
    entering: Option<Entering<S::Pipelined>>,
    serial: Option<Serial>,
    output: Output,
    /// The client sends no more.
    eof: bool,
    /// Nothing is started any more; ends with this when all is answered and sent.
    ending: Option<End>,
    stop: Pin<Box<OwnedNotified>>,
    timer: Pin<Box<Sleep>>,
    /// Who is woken by `stop` and `timer`: they are only asked again when that changes.
    waker: Option<Waker>,
    /// When the client last sent or took something, or was answered.
    active: Instant,
    /// Since when a request has been arriving.
    receiving: Option<Instant>,
    unsent: Option<Unsent>,
}

/// The memory that a request counts for, in bytes.
fn weight(api_key: Option<i16>, len: usize) -> usize {
    let list = !matches!(api_key, Some(PRODUCE | FETCH)) && len > LARGE_LIST_REQUEST;
    if list { len * LIST_WEIGHT } else { len }
}

impl<S: Service, T: AsyncRead + AsyncWrite + Unpin> Connection<S, T> {
    /// A new connection.
    pub(super) fn new(shared: Arc<Shared<S>>, stream: T, peer: SocketAddr) -> Self {
        let now = Instant::now();
        Self {
            stop: Box::pin(shared.stop.told()),
            timer: Box::pin(tokio::time::sleep_until(now + QUIET)),
            waker: None,
            shared,
            stream,
            peer,
            client_id: StrBytes::default(),
            frames: Frames::new(),
            admission: Admission::None,
            pipelined: VecDeque::new(),
            pipelined_bytes: 0,
            entering: None,
            serial: None,
            output: Output::default(),
            eof: false,
            ending: None,
            active: now,
            receiving: None,
            unsent: None,
        }
    }

    /// Serves until its end. What it returns besides is a request that is still under way and must run to its end,
    /// though nobody waits for the answer.
    pub(super) async fn serve(mut self) -> (End, Option<Answering>) {
        let end = std::future::poll_fn(|cx| self.poll(cx)).await;
        let serial = self.serial.take().filter(|serial| !serial.cancellable).map(|serial| serial.answer);
        let entering = self.entering.take().map(|entering| -> Answering { Box::pin(entering.effect.flatten()) });
        (end, serial.or(entering))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known {
            let told = self.stop.as_mut().poll(cx);
            let rang = self.timer.as_mut().poll(cx);
            // Either may be ready: both are looked at below.
            let _: (Poll<()>, Poll<()>) = (told, rang);
            self.waker = Some(cx.waker().clone());
        }
        if self.ending.is_none() && self.shared.stop.is_given() {
            self.ending = Some(End::Shutdown);
        }
        loop {
            if self.poll_effect(cx) | self.poll_answers(cx) | self.start_requests(cx) {
                continue;
            }
            if let Err(error) = self.poll_send(cx) {
                return Poll::Ready(End::Network(error));
            }
            match self.poll_receive(cx) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Poll::Ready(End::Network(error)),
            }
        }
        match self.ended() {
            Some(end) => Poll::Ready(end),
            None => self.poll_deadline(cx),
        }
    }

    /// Whether the request that was to take effect has.
    fn poll_effect(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(entering) = &mut self.entering else { return false };
        let Poll::Ready(answer) = entering.effect.as_mut().poll(cx) else { return false };
        let Entering { asked, .. } = self.entering.take().expect("it is there because it was polled");
        self.pipelined_bytes += asked.bytes;
        self.pipelined.push_back(Pipelined { answer, asked });
        true
    }

    /// Collects the answers that are ready, in order. Whether there were any.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while let Some(first) = self.pipelined.front_mut() {
            let Poll::Ready(answer) = Pin::new(&mut first.answer).poll(cx) else { return progress };
            let Pipelined { asked, .. } = self.pipelined.pop_front().expect("there is a front because it was polled");
            self.pipelined_bytes -= asked.bytes;
            self.answered(asked, answer);
            progress = true;
        }
        let Some(serial) = &mut self.serial else { return progress };
        if serial.cancellable && (self.eof || self.ending.is_some()) {
            self.serial = None;
            return true;
        }
        if let Poll::Ready(answer) = serial.answer.as_mut().poll(cx) {
            let Serial { asked, .. } = self.serial.take().expect("it is there because it was polled");
            self.answered(asked, answer);
            progress = true;
        }
        progress
    }

    fn answered(&mut self, asked: Asked, answer: Answer) {
        self.active = Instant::now();
        self.shared.metrics.answered(asked.api, self.active - asked.at);
        match answer {
            Answer::Body(body) => {
                let header_version = asked.api.response_header_version(asked.version);
                self.output.push(asked.correlation_id, header_version, body);
            }
            Answer::Silence => {}
            Answer::Close => {
                // What was answered before still leaves; what came after has no answer.
                self.pipelined.clear();
                self.pipelined_bytes = 0;
                self.entering = None;
                self.serial = None;
                self.ending = Some(End::Handler(asked.api));
            }
        }
    }

    /// Whether another request may start.
    fn may_start(&self) -> bool {
        self.ending.is_none()
            && self.serial.is_none()
            && self.entering.is_none()
            && self.pipelined.len() < MAX_PIPELINED
            && self.pipelined_bytes < MAX_PIPELINED_BYTES
            && self.output.len() < MAX_UNSENT
    }

    /// Starts the requests that have arrived, as far as bounds and order allow. Whether there were any.
    fn start_requests(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while self.may_start() {
            let frame = match self.announced() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    self.ending = Some(error.into());
                    return true;
                }
            };
            self.poll_admission(frame, cx);
            if !frame.whole {
                break;
            }
            match std::mem::replace(&mut self.admission, Admission::None) {
                Admission::Granted(memory) => {
                    self.receiving = None;
                    let bytes = self.frames.take(frame);
                    if let Err(end) = self.start(bytes, memory) {
                        self.ending = Some(end);
                    }
                }
                waiting => {
                    self.admission = waiting;
                    break;
                }
            }
            progress = true;
        }
        progress
    }

    fn announced(&self) -> Result<Option<Announced>, FrameError> {
        let max = self.shared.limits.max_request_bytes;
        self.frames.announced(|api| if matches!(api, None | Some(PRODUCE)) { max } else { max.min(MAX_LIST_REQUEST) })
    }

    /// Asks for this frame's memory, once.
    fn poll_admission(&mut self, frame: Announced, cx: &mut Context<'_>) {
        if let Admission::None = self.admission {
            let bytes = weight(frame.api_key, frame.len);
            self.admission = match self.shared.memory.try_reserve(bytes) {
                Some(memory) => Admission::Granted(memory),
                None => Admission::Waiting(Box::pin(self.shared.memory.reserve(bytes))),
            };
        }
        if let Admission::Waiting(memory) = &mut self.admission
            && let Poll::Ready(memory) = memory.as_mut().poll(cx)
        {
            self.admission = Admission::Granted(memory);
        }
    }

    fn start(&mut self, frame: Bytes, memory: Reservation) -> Result<(), End> {
        let mut header = RequestHeader::peek(&frame).map_err(End::Header)?;
        let RequestHeader { api_key, version, correlation_id, .. } = header;
        let api = self.shared.service.api(api_key).ok_or(End::UnknownApi(api_key))?;
        let (at, bytes, weight) = (Instant::now(), frame.len(), weight(Some(api_key), frame.len()));
        let asked = Asked { api, version, correlation_id, at, bytes, weight, _memory: memory };
        if !api.has(version) {
            return self.refuse_version(asked);
        }
        let body = header.finish(frame, api.is_flexible(version)).map_err(End::Header)?;
        let client_id = header.client_id.unwrap_or_default();
        if client_id != self.client_id.as_bytes() {
            self.client_id = StrBytes::try_from(Bytes::copy_from_slice(&client_id))
                .expect("it is UTF-8 because the header was decoded");
        }
        let request = Request { api, version, client_id: self.client_id.clone(), peer: self.peer, body };
        let call = self.shared.service.start(request).map_err(|error| End::Malformed { api, version, error })?;
        match call {
            Call::Pipelined(answer) => {
                self.pipelined_bytes += asked.bytes;
                self.pipelined.push_back(Pipelined { answer, asked });
            }
            Call::Deferred(effect) => self.entering = Some(Entering { effect, asked }),
            Call::Serial(answer) => self.serial = Some(Serial { answer, cancellable: false, asked }),
            Call::Cancellable(answer) => self.serial = Some(Serial { answer, cancellable: true, asked }),
        }
        Ok(())
    }

    /// Clients find a version that both sides have by asking `ApiVersions` at their newest; anything else is a mistake.
    fn refuse_version(&mut self, asked: Asked) -> Result<(), End> {
        let Asked { api, version, .. } = asked;
        if api.key != api_versions::KEY {
            return Err(End::UnknownVersion { api, version });
        }
        let body = Body::encode(&api_versions::unsupported_version(), 0)
            .expect("the answer has no fields beyond version 0 because it is built so");
        let answer: Answering = Box::pin(std::future::ready(Answer::Body(body)));
        self.serial = Some(Serial { answer, cancellable: false, asked });
        Ok(())
    }

    /// Sends what is ready. Returns though the client takes no more for now.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let mut sent = 0;
        let outcome = self.output.poll_send(Pin::new(&mut self.stream), cx, &mut sent);
        self.shared.metrics.sent_bytes.inc_by(sent as u64);
        match outcome {
            Poll::Ready(Ok(())) => self.unsent = None,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => match &mut self.unsent {
                Some(unsent) if sent < unsent.left => unsent.left -= sent,
                _ => {
                    let bytes = self.output.len();
                    self.unsent = Some(Unsent { since: Instant::now(), bytes, left: bytes });
                }
            },
        }
        Ok(())
    }

    /// Reads what has arrived, as far as there is use for it. Whether there was anything, the end included.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.eof || self.ending.is_some() {
            return Ok(false);
        }
        let frame = match self.admission {
            Admission::Granted(_) => self.announced().ok().flatten(),
            Admission::None | Admission::Waiting(_) => None,
        };
        let waits_for_client = self.may_start() && !matches!(self.admission, Admission::Waiting(_));
        if !waits_for_client {
            self.receiving = None;
            if self.frames.buffered() >= READ_AHEAD {
                return Ok(false);
            }
        }
        let room = self.frames.room(frame);
        match tokio_util::io::poll_read_buf(Pin::new(&mut self.stream), cx, room) {
            Poll::Ready(Ok(0)) => self.eof = true,
            Poll::Ready(Ok(read)) => {
                self.frames.read(read);
                self.shared.metrics.received_bytes.inc_by(read as u64);
                self.active = Instant::now();
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => {
                if waits_for_client && self.frames.buffered() > 0 {
                    self.receiving.get_or_insert(self.active);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it is over, now that nothing moves.
    fn ended(&mut self) -> Option<End> {
        if !self.pipelined.is_empty() || self.entering.is_some() {
            return None;
        }
        let sent = self.output.is_empty();
        if self.ending.is_some() {
            return self.ending.take_if(|_| sent && self.serial.is_none());
        }
        let waiting = self.announced().is_ok_and(|frame| frame.is_some_and(|frame| frame.whole));
        // A request that is still under way is finished without its client.
        let over = self.serial.is_some() || (sent && !waiting);
        (self.eof && over).then_some(End::Client)
    }

    /// What time can end.
    fn waits(&self) -> Waits {
        let memory = &self.shared.memory;
        let frame = self.announced().ok().flatten();
        let promised = frame.filter(|_| matches!(self.admission, Admission::Granted(_)));
        let serial = self.serial.as_ref().map(|serial| (&serial.asked, serial.cancellable));
        let entering = self.entering.as_ref().map(|entering| (&entering.asked, false));
        let large = serial.or(entering).filter(|(asked, _)| asked.bytes > MAY_WAIT);
        let answering = !self.pipelined.is_empty() || self.entering.is_some() || self.serial.is_some();
        Waits {
            receiving: self.receiving.map(|since| Receiving {
                since,
                len: frame.map_or(0, |frame| frame.len),
                arrived: self.frames.buffered(),
                contended: promised.map(|frame| memory.is_contended(weight(frame.api_key, frame.len))),
            }),
            waiting: large.map(|(asked, cancellable)| Waiting {
                since: asked.at,
                cancellable,
                contended: memory.is_contended(asked.weight),
            }),
            unsent: self.unsent,
            unsent_contended: self.output.holds_memory().then(|| self.output.is_contended()),
            idle_since: (!answering && self.unsent.is_none()).then_some(self.active),
        }
    }

    /// Ends a connection that is too slow or idle, and gives a quiet one's buffers back. The timer is only moved when it
    /// would ring too late: on a busy connection it rings every two seconds and finds nothing to do.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let now = Instant::now();
            let deadline = match self.waits().judge(&self.shared.limits, now) {
                Ok(deadline) => deadline,
                Err(end) => return Poll::Ready(end),
            };
            let quiet = self.active + QUIET;
            if quiet <= now {
                self.frames.release();
                self.output.release();
                if self.pipelined.is_empty() {
                    self.pipelined = VecDeque::new();
                }
            }
            let next = [deadline, Some(quiet).filter(|quiet| *quiet > now)];
            let Some(next) = next.into_iter().flatten().min() else {
                // The next event starts a deadline.
                return Poll::Pending;
            };
            if self.timer.deadline() > now && self.timer.deadline() <= next {
                return Poll::Pending;
            }
            self.timer.as_mut().reset(next);
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

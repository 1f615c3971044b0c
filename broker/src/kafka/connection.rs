//! One client connection: one task that reads requests, starts them, and sends the answers in their order.
//!
//! Kafka handles one request of a connection at a time, and clients rely on that order. Here only Produce overlaps: the
//! next request starts while earlier Produce requests wait for their flush. All that a wake-up finds ready leaves in
//! one write, so that a commit round of the WAL costs a connection one wake-up and one system call.

mod requests;
mod waiting;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep};

use self::requests::Admission;
use super::api::Api;
use super::deadlines::Unsent;
use super::end::End;
use super::frames::Frames;
use super::limits::Reservation;
use super::output::Output;
use super::service::{Answer, Answering, Deferred, Service};
use super::shared::Shared;
use super::wire::StrBytes;

/// While nothing can be started, no more than this is read ahead: enough to see that the client has gone.
const READ_AHEAD: usize = 4 << 10;
/// A connection that was quiet for so long gives its buffers back.
const QUIET: Duration = Duration::from_secs(2);

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
}

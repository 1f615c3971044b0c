//! Which requests of a connection start, and when: as far as order, bounds and memory allow.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::{Asked, Connection, Entering, Pipelined, Serial};
use crate::kafka::api::api_versions;
use crate::kafka::end::End;
use crate::kafka::frames::{Announced, FrameError};
use crate::kafka::limits::Reservation;
use crate::kafka::service::{Answer, Answering, Call, Request, Service};
use crate::kafka::wire::{Body, RequestHeader, StrBytes};

/// Requests of one connection that wait for their answers.
const MAX_PIPELINED: usize = 256;
/// Their bytes: past this no further one is started.
const MAX_PIPELINED_BYTES: usize = 8 << 20;
/// While more than this is unsent, nothing new is started.
const MAX_UNSENT: usize = 64 << 10;
/// Only Produce carries data. Other requests are lists, whose elements take many times the memory of their bytes.
const MAX_LIST_REQUEST: usize = 16 << 20;
/// Such requests above this size count for what they may become (see `LIST_WEIGHT`).
const LARGE_LIST_REQUEST: usize = 64 << 10;
/// Bytes of memory for a byte of a list on the wire.
const LIST_WEIGHT: usize = 16;
/// Whose decoders are written by hand and make nothing much larger than the bytes.
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;

/// Memory for the next frame.
pub(super) enum Admission {
    /// None asked for.
    None,
    /// Asked for: other requests hold it.
    Waiting(Pin<Box<dyn Future<Output = Reservation> + Send>>),
    /// Granted.
    Granted(Reservation),
}

/// The memory that a request counts for, in bytes.
pub(super) fn weight(api_key: Option<i16>, len: usize) -> usize {
    let list = !matches!(api_key, Some(PRODUCE | FETCH)) && len > LARGE_LIST_REQUEST;
    if list { len * LIST_WEIGHT } else { len }
}

impl<S: Service, T: AsyncRead + AsyncWrite + Unpin> Connection<S, T> {
    /// Whether another request may start.
    pub(super) fn may_start(&self) -> bool {
        self.ending.is_none()
            && self.serial.is_none()
            && self.entering.is_none()
            && self.pipelined.len() < MAX_PIPELINED
            && self.pipelined_bytes < MAX_PIPELINED_BYTES
            && self.output.len() < MAX_UNSENT
    }

    /// Starts the requests that have arrived, as far as bounds and order allow. Whether there were any.
    pub(super) fn start_requests(&mut self, cx: &mut Context<'_>) -> bool {
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

    pub(super) fn announced(&self) -> Result<Option<Announced>, FrameError> {
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
}

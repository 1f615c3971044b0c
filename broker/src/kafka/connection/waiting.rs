//! What time ends a connection for, and what a quiet one gives back.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::requests::{Admission, weight};
use super::{Connection, QUIET};
use crate::kafka::deadlines::{Receiving, Waiting, Waits};
use crate::kafka::end::End;
use crate::kafka::service::Service;

/// A larger request that waits long loses its connection when others need its memory. What consumers send is shorter.
const MAY_WAIT: usize = 4 << 10;

impl<S: Service, T: AsyncRead + AsyncWrite + Unpin> Connection<S, T> {
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
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<End> {
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

//! Frames over a byte stream. Both ends can be dropped at any await without losing or doubling a byte, so that one task
//! drives a link in both directions.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout_at};

use super::codec::{self, FrameError};
use super::frame::Frame;
use crate::io::net::Stream;

/// Room made for one read: a frame that is announced takes memory only as its bytes arrive.
const READ_BYTES: usize = 256 << 10;
/// With less room than this, more is made.
const LEAST_ROOM: usize = 16 << 10;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    /// The other end closed it.
    #[error("the other end closed it")]
    Closed,
    /// Nothing was heard for too long.
    #[error("nothing was heard for {} ms", .0.as_millis())]
    Silent(Duration),
    /// Bytes that are no frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A frame that has no place here.
    #[error("{0} was not expected")]
    Unexpected(&'static str),
    /// An acknowledgement of what was never sent.
    #[error("an acknowledgement beyond what was sent")]
    AckBeyondSent,
    /// The other end does not want this link, and says why.
    #[error("refused by the other end: {0}")]
    Refused(String),
    /// The other end is not who it must be.
    #[error("{0}")]
    Identity(#[from] super::handshake::IdentityError),
    /// A newer connection of the same peer took its place.
    #[error("a newer connection took its place")]
    Superseded,
}

/// The two directions of a connection.
pub(super) fn pipe(stream: Box<dyn Stream>) -> (FrameReader, FrameWriter) {
    let (read, write) = tokio::io::split(stream);
    let reader = FrameReader { stream: read, buffer: BytesMut::new(), limit: codec::HANDSHAKE_BYTES, received: 0 };
    (reader, FrameWriter { stream: write, chunks: Chunks::default(), unflushed: false, sent: 0 })
}

/// Frames as they arrive.
pub(super) struct FrameReader {
    stream: ReadHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    limit: usize,
    received: u64,
}

impl FrameReader {
    /// From now on frames may be large: the peer is known.
    pub(super) fn trust(&mut self) {
        self.limit = codec::MAX_BYTES;
    }

    /// A frame that has arrived already.
    pub(super) fn arrived(&mut self) -> Result<Option<Frame>, LinkError> {
        Ok(codec::decode(&mut self.buffer, self.limit)?)
    }

    /// Waits for bytes, maybe not enough for a frame.
    pub(super) async fn more(&mut self) -> Result<(), LinkError> {
        if self.buffer.capacity() - self.buffer.len() < LEAST_ROOM {
            self.buffer.reserve(READ_BYTES);
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(LinkError::Closed),
            bytes => {
                self.received += bytes as u64;
                Ok(())
            }
        }
    }

    /// The next frame, by `deadline`: for the handshake.
    pub(super) async fn frame_by(&mut self, deadline: Instant, patience: Duration) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.arrived()? {
                return Ok(frame);
            }
            timeout_at(deadline, self.more()).await.map_err(|_| LinkError::Silent(patience))??;
        }
    }

    /// Bytes received since last asked.
    pub(super) fn take_received(&mut self) -> u64 {
        std::mem::take(&mut self.received)
    }
}

/// Frames on their way out.
pub(super) struct FrameWriter {
    stream: WriteHalf<Box<dyn Stream>>,
    chunks: Chunks,
    /// Bytes may wait in the layers below (TLS) to be pushed.
    unflushed: bool,
    sent: u64,
}

impl FrameWriter {
    /// Queues a frame.
    pub(super) fn push(&mut self, frame: &Frame) {
        codec::encode(frame, &mut self.chunks);
    }

    /// Bytes queued.
    pub(super) fn queued(&self) -> usize {
        self.chunks.remaining
    }

    /// Whether `write` has something to do.
    pub(super) fn is_idle(&self) -> bool {
        !self.unflushed && self.chunks.remaining == 0
    }

    /// Writes some of what is queued, with as few calls as the kernel allows.
    pub(super) async fn write(&mut self) -> Result<(), LinkError> {
        if self.chunks.remaining > 0 {
            self.unflushed = true;
            let bytes = self.stream.write_buf(&mut self.chunks).await?;
            if bytes == 0 {
                return Err(LinkError::Closed);
            }
            self.sent += bytes as u64;
        }
        if self.chunks.remaining == 0 {
            self.stream.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Writes all, by `deadline`: for the handshake, and for last words.
    pub(super) async fn write_by(&mut self, deadline: Instant, patience: Duration) -> Result<(), LinkError> {
        while !self.is_idle() {
            timeout_at(deadline, self.write()).await.map_err(|_| LinkError::Silent(patience))??;
        }
        Ok(())
    }

    /// Bytes sent since last asked.
    pub(super) fn take_sent(&mut self) -> u64 {
        std::mem::take(&mut self.sent)
    }
}

/// Pieces of frames in order, none of them copied.
#[derive(Debug, Default)]
struct Chunks {
    chunks: VecDeque<Bytes>,
    remaining: usize,
}

impl Extend<Bytes> for Chunks {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, chunks: I) {
        for chunk in chunks {
            self.remaining += chunk.len();
            self.chunks.push_back(chunk);
        }
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.chunks);
        filled.map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.remaining, "no more is written than there is");
        self.remaining -= bytes;
        while bytes > 0 {
            let front = self.chunks.front_mut().expect("bytes remain because they were counted");
            if bytes < front.len() {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::links::testing::{about, record};

    #[tokio::test]
    async fn frames_arrive_whole_through_a_narrow_pipe() {
        let (near, far) = tokio::io::duplex(7);
        let (_, mut writer) = pipe(Box::new(near));
        let (mut reader, _) = pipe(Box::new(far));
        reader.trust();
        let frames: Vec<_> = (0..20).map(|n| Frame::Append(about(0, 1), record(n, n + 1))).collect();
        for frame in &frames {
            writer.push(frame);
        }
        let writing = async {
            while !writer.is_idle() {
                writer.write().await.unwrap();
            }
        };
        let reading = async {
            let mut arrived = Vec::new();
            while arrived.len() < frames.len() {
                match reader.arrived().unwrap() {
                    Some(frame) => arrived.push(frame),
                    None => reader.more().await.unwrap(),
                }
            }
            arrived
        };
        let ((), arrived) = tokio::join!(writing, reading);
        assert_eq!(arrived, frames);
        assert_eq!(writer.take_sent(), reader.take_received());
    }

    #[tokio::test]
    async fn a_closed_end_is_told() {
        let (near, far) = tokio::io::duplex(7);
        drop(far);
        let (mut reader, _) = pipe(Box::new(near));
        assert!(matches!(reader.more().await, Err(LinkError::Closed)));
    }
}

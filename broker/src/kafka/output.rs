//! A connection's responses on their way out: those that are ready together leave in one write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::response_memory::Held;
use super::wire::Body;

/// Slices of one vectored write.
const MAX_SLICES: usize = 64;
/// Room kept for the next responses.
const KEPT_ROOM: usize = 4 << 10;

/// Encoded responses that are not sent yet.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Record data and what precedes it.
    chunks: VecDeque<Bytes>,
    chunk_bytes: usize,
    /// What follows `chunks`. Small responses are gathered here.
    tail: BytesMut,
    /// What responses have reserved, and how many bytes are to be sent until the response before it and it are sent.
    held: VecDeque<(usize, Held)>,
    /// Bytes behind the last in `held`.
    unheld: usize,
}

impl Output {
    /// Appends a response: size, correlation id, no tagged fields (only a header of version 1 has room for them), body.
    pub(super) fn push(&mut self, correlation_id: i32, header_version: i16, body: Body) {
        let header = if header_version == 0 { 4 } else { 5 };
        let size = header + body.len();
        self.tail.reserve(4 + header);
        self.tail.put_i32(i32::try_from(size).expect("a response is below 2 GiB because longer ones are not sent"));
        self.tail.put_i32(correlation_id);
        if header_version > 0 {
            self.tail.put_u8(0);
        }
        self.unheld += 4 + size;
        let (chunks, tail, held) = body.into_parts();
        for chunk in chunks {
            self.close_tail();
            self.push_chunk(chunk);
        }
        self.tail.extend_from_slice(&tail);
        if let Some(held) = held {
            self.held.push_back((std::mem::take(&mut self.unheld), held));
        }
    }

    /// Whether others wait for what the responses have reserved.
    pub(super) fn is_contended(&self) -> bool {
        self.held.front().is_some_and(|(_, held)| held.is_contended())
    }

    /// Whether they have reserved any.
    pub(super) fn holds_memory(&self) -> bool {
        !self.held.is_empty()
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let fields = self.tail.split().freeze();
            self.push_chunk(fields);
        }
    }

    fn push_chunk(&mut self, chunk: Bytes) {
        self.chunk_bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Bytes to send.
    pub(super) fn len(&self) -> usize {
        self.chunk_bytes + self.tail.len()
    }

    /// Whether all is sent.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes until all is sent or the peer takes no more. `sent` counts the bytes that left, in either case.
    pub(super) fn poll_send<W: AsyncWrite>(
        &mut self,
        mut stream: Pin<&mut W>,
        cx: &mut Context<'_>,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = if self.chunks.is_empty() {
                stream.as_mut().poll_write(cx, &self.tail)
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let mut count = 0;
                for (slice, chunk) in
                    slices.iter_mut().zip(self.chunks.iter().map(Bytes::as_ref).chain([&self.tail[..]]))
                {
                    *slice = IoSlice::new(chunk);
                    count += 1;
                }
                stream.as_mut().poll_write_vectored(cx, &slices[..count])
            };
            match std::task::ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => {
                    *sent += n;
                    self.advance(n);
                }
            }
        }
        stream.poll_flush(cx)
    }

    fn advance(&mut self, written: usize) {
        self.give_back(written);
        self.drop_sent(written);
    }

    fn give_back(&mut self, mut written: usize) {
        while let Some((left, _)) = self.held.front_mut() {
            if written < *left {
                *left -= written;
                return;
            }
            written -= *left;
            self.held.pop_front();
        }
        self.unheld -= written;
    }

    fn drop_sent(&mut self, mut written: usize) {
        while let Some(first) = self.chunks.front_mut() {
            if written < first.len() {
                first.advance(written);
                self.chunk_bytes -= written;
                return;
            }
            written -= first.len();
            self.chunk_bytes -= first.len();
            self.chunks.pop_front();
        }
        if written < self.tail.len() {
            self.tail.advance(written);
        } else {
            self.tail.clear();
            if self.tail.capacity() > KEPT_ROOM {
                self.tail = BytesMut::new();
            }
        }
    }

    /// Gives memory back when nothing is in it: for a connection that has gone quiet.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn partial_writes_resume_where_they_stopped() {
        let mut output = Output::default();
        let mut expected = Vec::new();
        for id in 0..50_i32 {
            let mut body = Body::default();
            body.fields().extend_from_slice(&id.to_be_bytes());
            if id % 3 == 0 {
                body.push(Bytes::from(vec![id as u8; 600]));
                body.fields().extend_from_slice(b"after");
            }
            let header = i16::from(id % 2 == 0);
            expected.extend_from_slice(&(4 + i32::from(header) + body.len() as i32).to_be_bytes());
            expected.extend_from_slice(&id.to_be_bytes());
            expected.extend(std::iter::repeat_n(0, header as usize));
            expected.extend_from_slice(&body.to_bytes());
            output.push(id, header, body);
        }
        assert_eq!(output.len(), expected.len());

        let (near, mut far) = tokio::io::duplex(97);
        let sender = async move {
            tokio::pin!(near);
            let mut sent = 0;
            poll_fn(|cx| output.poll_send(near.as_mut(), cx, &mut sent)).await.unwrap();
            assert!(output.is_empty());
            sent
        };
        let mut received = vec![0; expected.len()];
        let (sent, read) = tokio::join!(sender, far.read_exact(&mut received));
        read.unwrap();
        assert_eq!(sent, expected.len());
        assert_eq!(received, expected);
    }
}

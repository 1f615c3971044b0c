//! Cuts a connection's bytes into frames (an `i32` size and that many bytes) without copying them.
//!
//! Bytes are read into blocks; a frame is a slice of its block, and the block lives as long as any slice of it. Blocks
//! grow with what arrives at once, so that a connection that sends little at a time pins little, however long it lives,
//! and an idle one holds none.

use bytes::{Buf, Bytes, BytesMut};

/// The length prefix of a frame.
const PREFIX: usize = 4;
/// What must be there before a frame is judged: its size and its API key.
const JUDGED: usize = PREFIX + 2;
/// The smallest block.
const MIN_BLOCK: usize = 4 << 10;
/// The largest block, frames that are longer apart.
const MAX_BLOCK: usize = 128 << 10;
/// A block with less room than this is left for a new one.
const MIN_ROOM: usize = 512;

/// A frame whose size can't be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request of {size} bytes (at most {max} are accepted)")]
pub struct FrameError {
    size: i32,
    max: usize,
}

/// The next frame as far as it has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Its length without the prefix, in bytes.
    pub len: usize,
    /// The key of the API that it asks for; `None` when the frame is too short for one.
    pub api_key: Option<i16>,
    /// Whether all of it has arrived.
    pub whole: bool,
}

/// The bytes of a connection that no request has taken yet.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    /// How large the next block will be.
    block: usize,
    /// Whether one read filled half of the current block, or more: then larger ones save reads.
    crowded: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    /// Nothing read, no memory held.
    pub fn new() -> Self {
        Self { buffer: BytesMut::new(), block: MIN_BLOCK, crowded: false }
    }

    /// Bytes that have arrived and are not taken.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// What comes next: `None` until its size and API key are known.
    ///
    /// # Errors
    /// A negative size, or one above `max_len(api_key)`.
    pub fn announced(&self, max_len: impl Fn(Option<i16>) -> usize) -> Result<Option<Announced>, FrameError> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let size = i32::from_be_bytes(*prefix);
        let refuse = |max| Err(FrameError { size, max });
        let Ok(len) = usize::try_from(size) else { return refuse(max_len(None)) };
        let api_key = match rest.first_chunk::<2>() {
            _ if len < JUDGED - PREFIX => None,
            Some(key) => Some(i16::from_be_bytes(*key)),
            None if len > max_len(None) => return refuse(max_len(None)),
            None => return Ok(None),
        };
        if len > max_len(api_key) {
            return refuse(max_len(api_key));
        }
        Ok(Some(Announced { len, api_key, whole: rest.len() >= len }))
    }

    /// Takes the announced frame, without its prefix.
    pub fn take(&mut self, announced: Announced) -> Bytes {
        assert!(announced.whole, "only a whole frame is taken");
        self.buffer.advance(PREFIX);
        self.buffer.split_to(announced.len).freeze()
    }

    /// The buffer to read into, with room: for the rest of `frame` if one is admitted, else for some bytes.
    pub fn room(&mut self, frame: Option<Announced>) -> &mut BytesMut {
        let room = self.buffer.capacity() - self.buffer.len();
        let missing = frame.map_or(0, |frame| (PREFIX + frame.len).saturating_sub(self.buffer.len()));
        if room < missing.max(MIN_ROOM) {
            if self.crowded && room < MIN_ROOM {
                self.block = (self.block * 2).min(MAX_BLOCK);
            }
            let mut block = BytesMut::with_capacity(self.block.max(self.buffer.len() + missing));
            block.extend_from_slice(&self.buffer);
            self.buffer = block;
            self.crowded = false;
        }
        &mut self.buffer
    }

    /// Counts what was read into `room`.
    pub fn read(&mut self, bytes: usize) {
        self.crowded |= bytes >= self.block / 2;
    }

    /// Gives the block back when nothing is in it: for a connection that has gone quiet.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1000;

    fn feed(frames: &mut Frames, mut bytes: &[u8], out: &mut Vec<Bytes>) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let admitted = frames.announced(|_| MAX)?;
            let room = frames.room(admitted);
            let n = bytes.len().min(room.capacity() - room.len());
            room.extend_from_slice(&bytes[..n]);
            frames.read(n);
            bytes = &bytes[n..];
            while let Some(frame) = frames.announced(|_| MAX)?.filter(|frame| frame.whole) {
                out.push(frames.take(frame));
            }
        }
        Ok(())
    }

    proptest! {
        /// Any byte stream split at any points gives the same frames, and the same error at the same place.
        #[test]
        fn splitting_the_stream_anywhere_changes_nothing(
            lens in prop::collection::vec(0_usize..600, 0..20),
            junk in prop::collection::vec(any::<u8>(), 0..20),
            cuts in prop::collection::vec(1_usize..300, 1..100),
        ) {
            let mut stream = Vec::new();
            for (seed, len) in lens.iter().enumerate() {
                stream.extend_from_slice(&(*len as i32).to_be_bytes());
                stream.extend((0..*len).map(|at| (at + seed) as u8));
            }
            stream.extend_from_slice(&junk);

            let mut whole = Vec::new();
            let whole_outcome = feed(&mut Frames::new(), &stream, &mut whole);

            let (mut pieces, mut frames, mut rest) = (Vec::new(), Frames::new(), &stream[..]);
            let mut outcome = Ok(());
            for cut in cuts.iter().cycle() {
                let (piece, later) = rest.split_at((*cut).min(rest.len()));
                outcome = feed(&mut frames, piece, &mut pieces);
                rest = later;
                if outcome.is_err() || rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(outcome.is_err(), whole_outcome.is_err());
            prop_assert_eq!(pieces, whole);
        }
    }

    #[test]
    fn impossible_sizes_are_refused_before_their_bytes_arrive() {
        for size in [-1, i32::MIN, MAX as i32 + 1, i32::MAX] {
            let mut frames = Frames::new();
            let outcome = feed(&mut frames, &size.to_be_bytes(), &mut Vec::new());
            assert_eq!(outcome, frames.announced(|_| MAX).map(|_| ()));
            assert_eq!(frames.announced(|_| MAX), Err(FrameError { size, max: MAX }));
            assert!(frames.buffer.capacity() <= MIN_BLOCK);
        }
    }

    #[test]
    fn the_limit_may_depend_on_the_api() {
        let mut frames = Frames::new();
        frames.room(None).extend_from_slice(&[0, 0, 0, 200, 0, 3]);
        assert!(frames.announced(|key| if key == Some(3) { 100 } else { 1000 }).is_err());
        assert!(frames.announced(|_| 1000).unwrap().is_some());
    }

    #[test]
    fn small_frames_share_a_block_and_a_long_one_gets_its_own() {
        let mut frames = Frames::new();
        let mut out = Vec::new();
        let small = [&4_i32.to_be_bytes()[..], b"abcd"].concat();
        feed(&mut frames, &small, &mut out).unwrap();
        feed(&mut frames, &small, &mut out).unwrap();
        assert_eq!(out[1].as_ptr() as usize - out[0].as_ptr() as usize, 8, "neighbours in one block");

        let long = [&(1_i32 << 20).to_be_bytes()[..], &[0, 0]].concat();
        frames.room(None).extend_from_slice(&long);
        let announced = frames.announced(|_| 2 << 20).unwrap();
        let room = frames.room(announced);
        assert!(room.capacity() - room.len() >= (1 << 20) - 2, "one read may fill it");
    }

    #[test]
    fn blocks_grow_with_what_arrives_at_once_and_are_released_when_quiet() {
        let mut frames = Frames::new();
        let frame = [&996_i32.to_be_bytes()[..], &[7; 996]].concat();
        feed(&mut frames, &frame.repeat(1000), &mut Vec::new()).unwrap();
        assert_eq!(frames.block, MAX_BLOCK);
        frames.release();
        assert_eq!(frames.buffer.capacity(), 0);
    }

    #[test]
    fn blocks_stay_small_where_little_arrives_at_a_time_however_much_in_all() {
        let mut frames = Frames::new();
        let frame = [&996_i32.to_be_bytes()[..], &[7; 996]].concat();
        for _ in 0..1000 {
            feed(&mut frames, &frame, &mut Vec::new()).unwrap();
        }
        assert_eq!(frames.block, MIN_BLOCK);
    }
}

//! The codecs of record batches. Decompression is bounded: a bomb is refused, not unpacked.

use std::io::{self, Read, Write};
use std::ops::RangeInclusive;

use super::config::{Compression, CompressionLevels};

/// A batch may unpack to this many bytes at least, whatever `max.message.bytes` is.
const UNPACKED_BYTES: usize = 64 << 20;
/// Snappy packs at most 64 bytes into a 3-byte copy: a larger promise is a lie and is not allocated for.
const MOST_SNAPPY_PER_BYTE: usize = 64;
/// What unpacks to more is counted before memory is taken for it.
const LARGE_BYTES: usize = 1 << 20;
/// Largest zstd window that is accepted, as a power of two: what zstd's own command takes.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Levels of lz4's thorough compressor; below are those of the fast one.
const THOROUGH_LZ4: RangeInclusive<u32> = 3..=12;

/// Java's snappy framing (xerial): magic, version, lowest compatible version.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_MAGIC_BYTES: usize = 8;
/// Bytes that one block of Java's framing unpacks to; 32 KiB is what Java writes.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// Why a payload could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// It unpacks to more than the bound.
    #[error("the records unpack to more than the size limit of {0} bytes")]
    TooLarge(usize),
    /// The codec refused it.
    #[error("{codec:?}: {source}")]
    Codec {
        /// Which codec.
        codec: Compression,
        /// Why.
        source: io::Error,
    },
}

/// How many bytes a batch may unpack to in a topic with this `max.message.bytes`.
pub fn unpacked_limit(max_message_bytes: u32) -> usize {
    UNPACKED_BYTES.max(max_message_bytes as usize * 8)
}

/// How many bytes a stored batch may unpack to. It was checked when it was appended, under the `max.message.bytes` of
/// that time, which may have been any.
pub fn stored_limit() -> usize {
    unpacked_limit(i32::MAX as u32)
}

/// Decompresses `payload` into `into` (cleared first), at most `limit` bytes.
///
/// What is large is unpacked twice: first only counted. So a bomb takes no memory, and anything else what it needs.
pub fn decompress(codec: Compression, payload: &[u8], limit: usize, into: &mut Vec<u8>) -> Result<(), DecompressError> {
    into.clear();
    let outcome = match codec {
        Compression::None => read_bounded(|| Ok(payload), limit, into),
        Compression::Gzip => read_bounded(|| Ok(flate2::bufread::MultiGzDecoder::new(payload)), limit, into),
        Compression::Lz4 => read_bounded(|| Ok(lz4_flex::frame::FrameDecoder::new(payload)), limit, into),
        Compression::Zstd => {
            let decoder = || {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(decoder)
            };
            read_bounded(decoder, limit, into)
        }
        Compression::Snappy => unpack_snappy(payload, limit, into),
    };
    match outcome {
        Ok(true) => Ok(()),
        Ok(false) => Err(DecompressError::TooLarge(limit)),
        Err(source) => Err(DecompressError::Codec { codec, source }),
    }
}

/// Reads to the end; false when that is beyond `limit`.
fn read_bounded<R: Read>(open: impl Fn() -> io::Result<R>, limit: usize, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut reader = open()?;
    let usual = limit.min(LARGE_BYTES);
    (&mut reader).take(usual as u64 + 1).read_to_end(into)?;
    if into.len() <= usual {
        return Ok(true);
    }
    let left = limit - usual;
    let more = io::copy(&mut reader.take(left as u64), &mut io::sink())?;
    if more >= left as u64 {
        return Ok(false);
    }
    let size = into.len() + more as usize;
    into.clear();
    into.reserve_exact(size);
    // One byte more would make the buffer grow: the end was seen before.
    open()?.take(size as u64).read_to_end(into)?;
    Ok(true)
}

/// Java's framing, or one raw block as other clients send it.
fn unpack_snappy(payload: &[u8], limit: usize, into: &mut Vec<u8>) -> io::Result<bool> {
    if !payload.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_BYTES]) {
        return unpack_snappy_block(payload, limit, into);
    }
    let mut left = payload.get(XERIAL_HEADER.len()..).ok_or(io::ErrorKind::UnexpectedEof)?;
    let size = xerial_size(left)?;
    if size > limit {
        return Ok(false);
    }
    // A promise of more than what all can hold is found to be a lie below.
    into.reserve_exact(size.min(left.len().saturating_mul(MOST_SNAPPY_PER_BYTE)));
    while let Some((length, rest)) = left.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        if !unpack_snappy_block(block, limit, into)? {
            return Ok(false);
        }
        left = rest;
    }
    if left.is_empty() { Ok(true) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// What all blocks say that they unpack to.
fn xerial_size(mut left: &[u8]) -> io::Result<usize> {
    let mut size = 0_usize;
    while let Some((length, rest)) = left.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        size = size.saturating_add(snap::raw::decompress_len(block).map_err(io::Error::other)?);
        left = rest;
    }
    Ok(size)
}

fn unpack_snappy_block(block: &[u8], limit: usize, into: &mut Vec<u8>) -> io::Result<bool> {
    let length = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if length > limit.saturating_sub(into.len()) {
        return Ok(false);
    }
    if length > block.len().saturating_mul(MOST_SNAPPY_PER_BYTE) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a snappy length that its block cannot hold"));
    }
    let start = into.len();
    into.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(block, &mut into[start..]).map_err(io::Error::other)?;
    Ok(true)
}

/// The frames that Java's clients read: of independent blocks. Kafka takes its thorough compressor at every level but the
/// default (KIP-390), at the levels that the library tells apart.
fn thorough_lz4(level: i32) -> lz4::EncoderBuilder {
    let level = u32::try_from(level).unwrap_or(0).clamp(*THOROUGH_LZ4.start(), *THOROUGH_LZ4.end());
    let mut builder = lz4::EncoderBuilder::new();
    builder
        .level(level)
        .block_size(lz4::BlockSize::Max64KB)
        .block_mode(lz4::BlockMode::Independent)
        .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
        .checksum(lz4::ContentChecksum::NoChecksum);
    builder
}

/// Compresses `payload`, appending to `into`.
pub fn compress(codec: Compression, levels: CompressionLevels, payload: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
    match codec {
        Compression::None => into.extend_from_slice(payload),
        Compression::Gzip => {
            let level = u32::try_from(levels.gzip).map_or(flate2::Compression::default(), flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(into, level);
            encoder.write_all(payload)?;
            encoder.finish()?;
        }
        Compression::Lz4 => {
            if levels.lz4 == CompressionLevels::FAST_LZ4 {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(into);
                encoder.write_all(payload)?;
                encoder.finish().map_err(io::Error::other)?;
            } else {
                let mut encoder = thorough_lz4(levels.lz4).build(into)?;
                encoder.write_all(payload)?;
                encoder.finish().1?;
            }
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(into, levels.zstd)?;
            encoder.write_all(payload)?;
            encoder.finish()?;
        }
        Compression::Snappy => {
            into.extend_from_slice(&XERIAL_HEADER);
            let mut encoder = snap::raw::Encoder::new();
            for block in payload.chunks(XERIAL_BLOCK_BYTES) {
                let packed = encoder.compress_vec(block).map_err(io::Error::other)?;
                into.extend_from_slice(&(packed.len() as u32).to_be_bytes());
                into.extend_from_slice(&packed);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn packed(codec: Compression, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        compress(codec, CompressionLevels::default(), payload, &mut bytes).expect("compresses");
        bytes
    }

    proptest! {
        #[test]
        fn every_codec_gives_back_what_it_got(payload in prop::collection::vec(any::<u8>(), 0..70_000)) {
            for codec in CODECS {
                let mut unpacked = Vec::new();
                decompress(codec, &packed(codec, &payload), 1 << 20, &mut unpacked).expect("unpacks");
                prop_assert_eq!(&unpacked, &payload);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_unpacked_within_the_bound(payload in prop::collection::vec(any::<u8>(), 0..400)) {
            for codec in CODECS {
                let mut unpacked = Vec::new();
                if decompress(codec, &payload, 1000, &mut unpacked).is_ok() {
                    prop_assert!(unpacked.len() <= 1000);
                }
            }
        }
    }

    #[test]
    fn a_level_has_its_effect_where_the_codec_has_levels() {
        // Words in an order without a pattern: how hard one looks for repetitions shows.
        let words = ["log", "segment", "offset", "leader", "epoch", "batch", "record", "flush"];
        let text: String =
            (0..20_000_u64).map(|i| words[(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61) as usize]).collect();
        let size = |codec, gzip, lz4, zstd| {
            let (mut bytes, mut unpacked) = (Vec::new(), Vec::new());
            compress(codec, CompressionLevels { gzip, lz4, zstd }, text.as_bytes(), &mut bytes).expect("compresses");
            decompress(codec, &bytes, text.len(), &mut unpacked).expect("unpacks");
            assert_eq!(unpacked, text.as_bytes());
            bytes.len()
        };
        let default = CompressionLevels::default();
        let gzip = |level| size(Compression::Gzip, level, default.lz4, default.zstd);
        let lz4 = |level| size(Compression::Lz4, default.gzip, level, default.zstd);
        let zstd = |level| size(Compression::Zstd, default.gzip, default.lz4, level);
        assert!(gzip(9) < gzip(1));
        assert_eq!(gzip(-1), gzip(6));
        let (fast, least, most) = (lz4(CompressionLevels::FAST_LZ4), lz4(1), lz4(17));
        assert!(most < least && least < fast, "{most} < {least} < {fast}");
        assert!(zstd(19) < zstd(-50));
    }

    /// Java refuses frames whose blocks depend on each other, and other versions (`Lz4BlockInputStream`).
    #[test]
    fn lz4_frames_of_every_level_are_such_as_java_reads() {
        for lz4 in 1..=17 {
            let (mut bytes, mut unpacked) = (Vec::new(), Vec::new());
            let payload = b"leader epoch, ".repeat(20_000);
            let levels = CompressionLevels { lz4, ..CompressionLevels::default() };
            compress(Compression::Lz4, levels, &payload, &mut bytes).expect("compresses");
            assert_eq!(bytes[..4], 0x184D_2204_u32.to_le_bytes());
            let (flags, sizes) = (bytes[4], bytes[5]);
            assert_eq!(
                (flags >> 6, flags >> 5 & 1, flags & 3),
                (1, 1, 0),
                "level {lz4}: version, independence, reserved"
            );
            assert!((4..=7).contains(&(sizes >> 4)) && sizes & 0x8f == 0, "level {lz4}: block size");
            decompress(Compression::Lz4, &bytes, payload.len(), &mut unpacked).expect("unpacks");
            assert_eq!(unpacked, payload);
        }
    }

    #[test]
    fn a_bomb_is_refused_and_not_unpacked() {
        let zeros = vec![0; 8 << 20];
        for codec in &CODECS[1..] {
            let mut unpacked = Vec::new();
            let outcome = decompress(*codec, &packed(*codec, &zeros), 100_000, &mut unpacked);
            assert!(matches!(outcome, Err(DecompressError::TooLarge(100_000))), "{codec:?}: {outcome:?}");
            assert!(unpacked.capacity() < 1 << 20, "{codec:?} took {} bytes", unpacked.capacity());
        }
    }

    #[test]
    fn what_is_large_takes_what_it_needs_and_a_large_bomb_takes_little() {
        let bytes = vec![7; LARGE_BYTES + 100_000];
        for codec in &CODECS[1..] {
            let packed = packed(*codec, &bytes);
            let mut unpacked = Vec::new();
            decompress(*codec, &packed, bytes.len(), &mut unpacked).expect("unpacks");
            assert_eq!(unpacked, bytes);
            assert!(unpacked.capacity() <= 2 * LARGE_BYTES, "{codec:?} took {} bytes", unpacked.capacity());
            for limit in [bytes.len() - 1, LARGE_BYTES, LARGE_BYTES + 1] {
                let mut unpacked = Vec::new();
                let outcome = decompress(*codec, &packed, limit, &mut unpacked);
                assert!(matches!(outcome, Err(DecompressError::TooLarge(_))), "{codec:?}: {outcome:?}");
                assert!(unpacked.capacity() <= 2 * LARGE_BYTES, "{codec:?} took {} bytes", unpacked.capacity());
            }
        }
    }

    #[test]
    fn raw_snappy_of_other_clients_is_read() {
        let raw = snap::raw::Encoder::new().compress_vec(b"hello hello hello").expect("compresses");
        let mut unpacked = Vec::new();
        decompress(Compression::Snappy, &raw, 100, &mut unpacked).expect("unpacks");
        assert_eq!(unpacked, b"hello hello hello");
    }

    #[test]
    fn a_snappy_length_beyond_its_block_allocates_nothing() {
        let lie = [0xff, 0xff, 0xff, 0x0f, 0, 0];
        let mut unpacked = Vec::new();
        assert!(decompress(Compression::Snappy, &lie, usize::MAX, &mut unpacked).is_err());
        assert_eq!(unpacked.capacity(), 0);
    }
}

//! Frames as bytes: the one place that knows bincode.
//!
//! ```text
//! 0   4  bytes of header and payload together
//! 4   4  bytes of the header
//! 8   4  CRC-32C of the eight bytes before, the header and the payload
//! 12     header: bincode, fixed-width integers, little endian
//!        payload: a record batch as Kafka stores it (Append), otherwise nothing
//! ```
//!
//! Before a peer is known, frames are small (`HANDSHAKE_BYTES`). A `Hello` of another version is told apart by its
//! first two fields, which stay in every version; so does `Refused`.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use uuid::Uuid;

use super::frame::{Conversation, Flushed, Frame, Hello, Identity, Lane, Moved, VERSION};
use crate::ids::{BrokerEpoch, InvalidId, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use crate::log::EpochStart;
use crate::stream::replication::{CanonicalRecord, Elected, Extent, FollowerState, Marks, Reject, Session};

/// Bytes before the header.
const PREFIX: usize = 12;
/// The largest header.
const MAX_HEADER: usize = 1 << 20;
/// The largest frame: a batch as large as Kafka's largest request, and its header.
pub const MAX_BYTES: usize = (100 << 20) + MAX_HEADER;
/// The largest frame from a peer that is not known yet.
pub const HANDSHAKE_BYTES: usize = 4 << 10;
/// Entries of an `Ack` or `Progress`: more of them are told in another frame.
pub const MAX_ENTRIES: usize = 16_384;
/// Epochs of a history that are told: the newest ones. More than a log has ever seen; with fewer, a follower would only
/// truncate more than it must.
const MAX_EPOCHS: usize = 50_000;
/// Bytes of a reason that are told.
const MAX_REASON: usize = 1_024;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_HEADER>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX_HEADER>();

/// Why bytes are no frame. The link is closed: nothing behind them can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than allowed.
    #[error("a frame of {bytes} bytes, more than the {limit} allowed here")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Damaged on the way.
    #[error("a frame whose checksum is wrong")]
    Checksum,
    /// The peer speaks another version.
    #[error("version {0} of the replication protocol; this node speaks {VERSION}")]
    Version(u16),
    /// No header that this version knows.
    #[error("a frame whose header can't be read: {0}")]
    Header(String),
    /// A number that no such identity has.
    #[error("a frame with {0}")]
    Id(#[from] InvalidId),
    /// Fields that contradict each other.
    #[error("a frame with {0}")]
    Contradiction(&'static str),
}

#[derive(Encode, Decode)]
enum WireFrame {
    Hello { version: u16, cluster: String, from: WireIdentity, to: i32, lane: WireLane },
    HelloAck(WireIdentity),
    Refused(String),
    Greet(WireConversation),
    State { about: WireConversation, epochs: Vec<(i32, i64)>, log_start: i64, flushed_end: i64 },
    Elected { about: WireConversation, epochs: Vec<(i32, i64)>, truncate_to: i64, start_at: i64 },
    Ready(WireConversation),
    Append { about: WireConversation, previous: i64, base: i64, end: i64 },
    Ack(Vec<(WireConversation, i64, i64)>),
    Progress(Vec<(WireConversation, i64, i64)>),
    Heartbeat,
    Reject { about: WireConversation, why: WireReject },
}

#[derive(Encode, Decode)]
enum WireLane {
    Live,
    CatchUp,
}

#[derive(Encode, Decode)]
struct WireIdentity {
    node: i32,
    directory: [u8; 16],
    epoch: i64,
}

#[derive(Encode, Decode)]
struct WireConversation {
    topic: [u8; 16],
    partition: i32,
    leader_epoch: i32,
    session: u64,
}

#[derive(Encode, Decode)]
enum WireReject {
    UnknownPartition,
    Stale,
    NotYetKnown,
    NotTheLeader,
    NotContiguous { at: i64, got: i64 },
    Corrupt(String),
    DiskFull,
    Storage(String),
}

/// Appends a frame to `out`: prefix and header as one piece, the payload, uncopied, as another.
pub fn encode(frame: &Frame, out: &mut impl Extend<Bytes>) {
    let payload = if let Frame::Append(_, record) = frame { record.batch.clone() } else { Bytes::new() };
    let mut head = BytesMut::with_capacity(PREFIX + 128).writer();
    head.get_mut().put_bytes(0, PREFIX);
    bincode::encode_into_std_write(wire(frame), &mut head, CONFIG)
        .expect("a header fits because its lists are bounded");
    let mut head = head.into_inner();
    let header = head.len() - PREFIX;
    assert!(header <= MAX_HEADER && header + payload.len() <= MAX_BYTES, "what is sent is bounded");
    head[..4].copy_from_slice(&((header + payload.len()) as u32).to_le_bytes());
    head[4..8].copy_from_slice(&(header as u32).to_le_bytes());
    let crc = checksum(&head[..8], &head[PREFIX..], &payload);
    head[8..PREFIX].copy_from_slice(&crc.to_le_bytes());
    out.extend([head.freeze()].into_iter().chain((!payload.is_empty()).then_some(payload)));
}

fn checksum(lengths: &[u8], header: &[u8], payload: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(lengths);
    digest.update(header);
    digest.update(payload);
    digest.finalize() as u32
}

/// Takes the next frame off the front of `buffer`; `None` when it is not all there. An Append's batch is a part of the
/// buffer, uncopied.
///
/// # Errors
/// What is there is no frame of at most `limit` bytes. The buffer is in no defined state then.
pub fn decode(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(lengths) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    let field = |at: usize| u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]);
    let (body, header, crc) = (field(0) as usize, field(4) as usize, field(8));
    if body > limit {
        return Err(FrameError::TooLarge { bytes: body, limit });
    }
    if header > body.min(MAX_HEADER) {
        return Err(FrameError::TooLarge { bytes: header, limit: body.min(MAX_HEADER) });
    }
    if buffer.len() < PREFIX + body {
        return Ok(None);
    }
    let mut frame = buffer.split_to(PREFIX + body).freeze();
    if checksum(&frame[..8], &frame[PREFIX..PREFIX + header], &frame[PREFIX + header..]) != crc {
        return Err(FrameError::Checksum);
    }
    frame.advance(PREFIX);
    let payload = frame.split_off(header);
    read(&frame, payload).map(Some)
}

fn read(header: &[u8], payload: Bytes) -> Result<Frame, FrameError> {
    let unreadable = |error: bincode::error::DecodeError| FrameError::Header(error.to_string());
    if let Ok(((0_u32, version), _)) = bincode::decode_from_slice::<(u32, u16), _>(header, CONFIG)
        && version != VERSION
    {
        return Err(FrameError::Version(version));
    }
    let (wire, used) = bincode::decode_from_slice::<WireFrame, _>(header, CONFIG).map_err(unreadable)?;
    if used != header.len() {
        return Err(FrameError::Contradiction("bytes behind its header"));
    }
    let is_append = matches!(wire, WireFrame::Append { .. });
    if is_append == payload.is_empty() {
        return Err(FrameError::Contradiction(if is_append { "no batch" } else { "a payload that it can't have" }));
    }
    unwire(wire, payload)
}

fn wire(frame: &Frame) -> WireFrame {
    match frame {
        Frame::Hello(hello) => WireFrame::Hello {
            version: VERSION,
            cluster: hello.cluster.clone(),
            from: wire_identity(hello.from),
            to: hello.to.get(),
            lane: match hello.lane {
                Lane::Live => WireLane::Live,
                Lane::CatchUp => WireLane::CatchUp,
            },
        },
        Frame::HelloAck(identity) => WireFrame::HelloAck(wire_identity(*identity)),
        Frame::Refused(reason) => WireFrame::Refused(bounded(reason)),
        Frame::Greet(about) => WireFrame::Greet(wire_conversation(*about)),
        Frame::State(about, state) => WireFrame::State {
            about: wire_conversation(*about),
            epochs: wire_epochs(&state.epochs),
            log_start: state.log_start.get(),
            flushed_end: state.flushed_end.get(),
        },
        Frame::Elected(about, elected) => WireFrame::Elected {
            about: wire_conversation(*about),
            epochs: wire_epochs(&elected.epochs),
            truncate_to: elected.truncate_to.get(),
            start_at: elected.start_at.get(),
        },
        Frame::Ready(about) => WireFrame::Ready(wire_conversation(*about)),
        Frame::Append(about, record) => WireFrame::Append {
            about: wire_conversation(*about),
            previous: record.previous.get(),
            base: record.base.get(),
            end: record.end.get(),
        },
        Frame::Ack(acks) => WireFrame::Ack(acks.iter().map(wire_flushed).collect()),
        Frame::Progress(moved) => WireFrame::Progress(moved.iter().map(wire_moved).collect()),
        Frame::Heartbeat => WireFrame::Heartbeat,
        Frame::Reject(about, why) => WireFrame::Reject { about: wire_conversation(*about), why: wire_reject(why) },
    }
}

fn unwire(wire: WireFrame, payload: Bytes) -> Result<Frame, FrameError> {
    Ok(match wire {
        WireFrame::Hello { version: _, cluster, from, to, lane } => {
            let lane = match lane {
                WireLane::Live => Lane::Live,
                WireLane::CatchUp => Lane::CatchUp,
            };
            Frame::Hello(Hello { cluster, from: identity(from)?, to: NodeId::try_from(to)?, lane })
        }
        WireFrame::HelloAck(from) => Frame::HelloAck(identity(from)?),
        WireFrame::Refused(reason) => Frame::Refused(bounded(&reason)),
        WireFrame::Greet(about) => Frame::Greet(conversation(about)?),
        WireFrame::State { about, epochs: history, log_start, flushed_end } => {
            let state = FollowerState {
                epochs: epochs(history)?,
                log_start: Offset::try_from(log_start)?,
                flushed_end: Offset::try_from(flushed_end)?,
            };
            Frame::State(conversation(about)?, state)
        }
        WireFrame::Elected { about, epochs: history, truncate_to, start_at } => {
            let elected = Elected {
                epochs: epochs(history)?,
                truncate_to: Offset::try_from(truncate_to)?,
                start_at: Offset::try_from(start_at)?,
            };
            Frame::Elected(conversation(about)?, elected)
        }
        WireFrame::Ready(about) => Frame::Ready(conversation(about)?),
        WireFrame::Append { about, previous, base, end } => {
            let record = CanonicalRecord {
                previous: Offset::try_from(previous)?,
                base: Offset::try_from(base)?,
                end: Offset::try_from(end)?,
                batch: payload,
            };
            if record.previous > record.base || record.base >= record.end {
                return Err(FrameError::Contradiction("offsets out of order"));
            }
            Frame::Append(conversation(about)?, record)
        }
        WireFrame::Ack(acks) => Frame::Ack(acks.into_iter().map(flushed).collect::<Result<_, FrameError>>()?),
        WireFrame::Progress(all) => Frame::Progress(all.into_iter().map(moved).collect::<Result<_, FrameError>>()?),
        WireFrame::Heartbeat => Frame::Heartbeat,
        WireFrame::Reject { about, why } => Frame::Reject(conversation(about)?, reject(why)?),
    })
}

/// As much of a reason as is told.
fn bounded(reason: &str) -> String {
    let end = (0..=reason.len().min(MAX_REASON)).rev().find(|at| reason.is_char_boundary(*at));
    reason[..end.unwrap_or(0)].to_owned()
}

fn wire_identity(identity: Identity) -> WireIdentity {
    WireIdentity { node: identity.node.get(), directory: identity.directory.into_bytes(), epoch: identity.epoch.get() }
}

fn identity(wire: WireIdentity) -> Result<Identity, FrameError> {
    Ok(Identity {
        node: NodeId::try_from(wire.node)?,
        directory: Uuid::from_bytes(wire.directory),
        epoch: BrokerEpoch::try_from(wire.epoch)?,
    })
}

fn wire_conversation(about: Conversation) -> WireConversation {
    WireConversation {
        topic: about.partition.topic.to_bytes(),
        partition: about.partition.partition.get(),
        leader_epoch: about.session.epoch.get(),
        session: about.session.number,
    }
}

fn conversation(wire: WireConversation) -> Result<Conversation, FrameError> {
    let topic = TopicId::from_bytes(wire.topic).ok_or(FrameError::Contradiction("the reserved topic id"))?;
    Ok(Conversation {
        partition: TopicPartition { topic, partition: PartitionIndex::try_from(wire.partition)? },
        session: Session { epoch: LeaderEpoch::try_from(wire.leader_epoch)?, number: wire.session },
    })
}

fn wire_epochs(epochs: &[EpochStart]) -> Vec<(i32, i64)> {
    let newest = &epochs[epochs.len().saturating_sub(MAX_EPOCHS)..];
    newest.iter().map(|entry| (entry.epoch.get(), entry.start.get())).collect()
}

fn epochs(wire: Vec<(i32, i64)>) -> Result<Vec<EpochStart>, FrameError> {
    if wire.len() > MAX_EPOCHS {
        return Err(FrameError::Contradiction("too many epochs"));
    }
    let entry = |(epoch, start)| -> Result<EpochStart, InvalidId> {
        Ok(EpochStart { epoch: LeaderEpoch::try_from(epoch)?, start: Offset::try_from(start)? })
    };
    let entries = wire.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    if !entries.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start <= pair[1].start) {
        return Err(FrameError::Contradiction("epochs out of order"));
    }
    Ok(entries)
}

fn wire_flushed(flushed: &Flushed) -> (WireConversation, i64, i64) {
    (wire_conversation(flushed.about), flushed.extent.log_start.get(), flushed.extent.flushed_end.get())
}

fn flushed((about, log_start, flushed_end): (WireConversation, i64, i64)) -> Result<Flushed, FrameError> {
    let extent = Extent { log_start: Offset::try_from(log_start)?, flushed_end: Offset::try_from(flushed_end)? };
    Ok(Flushed { about: conversation(about)?, extent })
}

fn wire_moved(moved: &Moved) -> (WireConversation, i64, i64) {
    (wire_conversation(moved.about), moved.marks.high_watermark.get(), moved.marks.log_start.get())
}

fn moved((about, high_watermark, log_start): (WireConversation, i64, i64)) -> Result<Moved, FrameError> {
    let marks = Marks { high_watermark: Offset::try_from(high_watermark)?, log_start: Offset::try_from(log_start)? };
    Ok(Moved { about: conversation(about)?, marks })
}

fn wire_reject(why: &Reject) -> WireReject {
    match why {
        Reject::UnknownPartition => WireReject::UnknownPartition,
        Reject::Stale => WireReject::Stale,
        Reject::NotYetKnown => WireReject::NotYetKnown,
        Reject::NotTheLeader => WireReject::NotTheLeader,
        Reject::NotContiguous { at, got } => WireReject::NotContiguous { at: at.get(), got: got.get() },
        Reject::Corrupt(how) => WireReject::Corrupt(bounded(how)),
        Reject::DiskFull => WireReject::DiskFull,
        Reject::Storage(how) => WireReject::Storage(bounded(how)),
    }
}

fn reject(wire: WireReject) -> Result<Reject, FrameError> {
    Ok(match wire {
        WireReject::UnknownPartition => Reject::UnknownPartition,
        WireReject::Stale => Reject::Stale,
        WireReject::NotYetKnown => Reject::NotYetKnown,
        WireReject::NotTheLeader => Reject::NotTheLeader,
        WireReject::NotContiguous { at, got } => {
            Reject::NotContiguous { at: Offset::try_from(at)?, got: Offset::try_from(got)? }
        }
        WireReject::Corrupt(how) => Reject::Corrupt(bounded(&how)),
        WireReject::DiskFull => Reject::DiskFull,
        WireReject::Storage(how) => Reject::Storage(bounded(&how)),
    })
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;

//! Golden bytes of each frame, and what the decoder makes of anything else.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::stream::links::testing::{about, identity as node};

fn epoch_at(epoch: i32, start: i64) -> EpochStart {
    EpochStart { epoch: LeaderEpoch::new(epoch), start: Offset::new(start) }
}

/// One of every kind.
fn frames() -> Vec<Frame> {
    let record = CanonicalRecord {
        previous: Offset::new(5),
        base: Offset::new(6),
        end: Offset::new(9),
        batch: Bytes::from_static(b"batch"),
    };
    let state = FollowerState {
        epochs: vec![epoch_at(1, 0), epoch_at(3, 7)],
        log_start: Offset::new(2),
        flushed_end: Offset::new(10),
    };
    let elected = Elected { epochs: vec![epoch_at(4, 9)], truncate_to: Offset::new(8), start_at: Offset::new(9) };
    let marks = Marks { high_watermark: Offset::new(12), log_start: Offset::new(3) };
    let extent = Extent { log_start: Offset::new(4), flushed_end: Offset::new(11) };
    vec![
        Frame::Hello(Hello { cluster: "c1".to_owned(), from: node(3, 7), to: NodeId::new(4), lane: Lane::CatchUp }),
        Frame::HelloAck(node(4, 8)),
        Frame::Refused("no".to_owned()),
        Frame::Greet(about(2, 5)),
        Frame::State(about(2, 5), state),
        Frame::Elected(about(2, 5), elected),
        Frame::Ready(about(2, 5)),
        Frame::Append(about(2, 5), record),
        Frame::Ack(vec![Flushed { about: about(2, 5), extent }]),
        Frame::Progress(vec![Moved { about: about(2, 5), marks }]),
        Frame::Heartbeat,
        Frame::Reject(about(2, 5), Reject::NotContiguous { at: Offset::new(1), got: Offset::new(2) }),
    ]
}

fn bytes(frame: &Frame) -> BytesMut {
    let mut pieces = Vec::new();
    encode(frame, &mut pieces);
    pieces.concat().as_slice().into()
}

#[test]
fn each_frame_has_its_golden_bytes() {
    let mut shown = String::new();
    for frame in frames() {
        shown += frame.name();
        for (at, byte) in bytes(&frame).iter().enumerate() {
            let separator = if at == 0 {
                "\n  "
            } else if at % 4 == 0 {
                " "
            } else {
                ""
            };
            write!(shown, "{separator}{byte:02x}").expect("a string takes it");
        }
        shown.push('\n');
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn each_frame_is_read_as_it_was_written_wherever_the_bytes_are_cut() {
    for frame in frames() {
        let whole = bytes(&frame);
        for cut in 0..whole.len() {
            assert_eq!(decode(&mut whole[..cut].into(), MAX_BYTES), Ok(None), "{} cut at {cut}", frame.name());
        }
        let mut two: BytesMut = [&whole[..], &whole[..]].concat().as_slice().into();
        assert_eq!(decode(&mut two, MAX_BYTES), Ok(Some(frame.clone())));
        assert_eq!(decode(&mut two, MAX_BYTES), Ok(Some(frame)));
        assert!(two.is_empty());
    }
}

#[test]
fn the_batch_is_not_copied_on_the_leader() {
    let frame = frames().swap_remove(7);
    let Frame::Append(_, record) = &frame else { panic!("the eighth is an Append") };
    let mut pieces: Vec<Bytes> = Vec::new();
    encode(&frame, &mut pieces);
    assert_eq!(pieces[1].as_ptr(), record.batch.as_ptr());
}

#[test]
fn each_changed_byte_is_noticed() {
    for frame in frames() {
        let whole = bytes(&frame);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            // A longer length only makes it wait for more.
            assert!(!matches!(decode(&mut changed, MAX_BYTES), Ok(Some(_))), "{} changed at {at}", frame.name());
        }
    }
}

#[test]
fn a_stranger_can_send_no_large_frame() {
    let mut large = bytes(&Frame::Refused("x".to_owned()));
    large[..4].copy_from_slice(&(HANDSHAKE_BYTES as u32 + 1).to_le_bytes());
    let refused = FrameError::TooLarge { bytes: HANDSHAKE_BYTES + 1, limit: HANDSHAKE_BYTES };
    assert_eq!(decode(&mut large, HANDSHAKE_BYTES), Err(refused));
}

/// A frame around any header and payload.
fn sealed(header: &[u8], payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_u32_le((header.len() + payload.len()) as u32);
    frame.put_u32_le(header.len() as u32);
    let crc = checksum(&frame, header, payload);
    frame.put_u32_le(crc);
    frame.extend_from_slice(header);
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn another_version_is_told_apart_whatever_follows_it() {
    let hello = [&[0, 0, 0, 0, 2, 0][..], b"what version 2 says"].concat();
    assert_eq!(decode(&mut sealed(&hello, b""), MAX_BYTES), Err(FrameError::Version(2)));
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    let frames = frames();
    let header = |frame: &Frame| {
        let bytes = bytes(frame);
        let header = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        bytes[PREFIX..PREFIX + header].to_vec()
    };
    let refused = |mut frame: BytesMut| decode(&mut frame, MAX_BYTES).unwrap_err().to_string();
    assert_eq!(refused(sealed(&header(&frames[7]), b"")), "a frame with no batch");
    assert_eq!(refused(sealed(&header(&frames[10]), b"x")), "a frame with a payload that it can't have");
    assert_eq!(
        refused(sealed(&[&header(&frames[10])[..], b"x"].concat(), b"")),
        "a frame with bytes behind its header"
    );
    let mut nil = header(&frames[3]);
    nil[4..20].fill(0);
    assert_eq!(refused(sealed(&nil, b"")), "a frame with the reserved topic id");
    let mut negative = header(&frames[3]);
    negative[20..24].fill(0xff);
    assert_eq!(refused(sealed(&negative, b"")), "a frame with -1 is not a valid partition index");
    let mut backwards = header(&frames[7]);
    backwards[36..44].copy_from_slice(&7_i64.to_le_bytes());
    assert_eq!(refused(sealed(&backwards, b"x")), "a frame with offsets out of order");
}

#[test]
fn long_reasons_and_histories_are_shortened() {
    let long = Frame::Refused("ä".repeat(MAX_REASON));
    let Ok(Some(Frame::Refused(told))) = decode(&mut bytes(&long), HANDSHAKE_BYTES) else { panic!("it is a Refused") };
    assert_eq!(told, "ä".repeat(MAX_REASON / 2));
    let epochs: Vec<_> = (0..=MAX_EPOCHS as i32).map(|epoch| epoch_at(epoch, i64::from(epoch))).collect();
    let state = FollowerState { epochs, log_start: Offset::FIRST, flushed_end: Offset::new(1 << 20) };
    let Ok(Some(Frame::State(_, told))) = decode(&mut bytes(&Frame::State(about(0, 1), state)), MAX_BYTES) else {
        panic!("it is a State")
    };
    assert_eq!((told.epochs.len(), told.epochs[0]), (MAX_EPOCHS, epoch_at(1, 1)));
}

#[test]
fn the_longest_lists_fit() {
    let ack = Flushed { about: about(0, 1), extent: Extent::upto(Offset::FIRST) };
    let marks = Marks { high_watermark: Offset::FIRST, log_start: Offset::FIRST };
    for frame in
        [Frame::Ack(vec![ack; MAX_ENTRIES]), Frame::Progress(vec![Moved { about: about(0, 1), marks }; MAX_ENTRIES])]
    {
        assert_eq!(decode(&mut bytes(&frame), MAX_BYTES), Ok(Some(frame)));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_a_panic(header in prop::collection::vec(any::<u8>(), 0..100), kind in 0..14_u8) {
        let _ = decode(&mut header.as_slice().into(), MAX_BYTES);
        let header = [&[kind, 0, 0, 0][..], &header].concat();
        let _ = decode(&mut sealed(&header, b""), MAX_BYTES);
        let _ = decode(&mut sealed(&header, b"batch"), MAX_BYTES);
    }
}

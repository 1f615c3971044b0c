//! Heartbeats, as they travel between a node and the controller.

use bytes::Bytes;
use prost::Message as _;

use super::{DecodeError, directory_from, directory_to};
use crate::ids::NodeId;
use crate::metadata::heartbeat::{Heartbeat, HeartbeatReply};
use crate::metadata::proto;

/// A heartbeat as bytes.
pub fn encode_heartbeat(heartbeat: &Heartbeat) -> Vec<u8> {
    let Heartbeat { node, directory, epoch, applied } = heartbeat;
    let directory = directory_to(*directory);
    proto::Heartbeat { node: node.get(), directory, epoch: epoch.get(), applied: *applied }.encode_to_vec()
}

/// The heartbeat that the bytes hold.
pub fn decode_heartbeat(bytes: Bytes) -> Result<Heartbeat, DecodeError> {
    let message = proto::Heartbeat::decode(bytes)?;
    Ok(Heartbeat {
        node: message.node.try_into()?,
        directory: directory_from(&message.directory)?,
        epoch: message.epoch.try_into()?,
        applied: message.applied,
    })
}

/// A reply as bytes.
pub fn encode_reply(reply: &HeartbeatReply) -> Vec<u8> {
    use proto::heartbeat_reply::Kind;
    let kind = match reply {
        HeartbeatReply::Alive { fenced } => Kind::Alive(proto::Alive { fenced: *fenced }),
        HeartbeatReply::NotLeader { leader } => Kind::NotLeader(proto::NotLeader { leader: leader.map(NodeId::get) }),
        HeartbeatReply::Superseded => Kind::Superseded(proto::Superseded {}),
    };
    proto::HeartbeatReply { kind: Some(kind) }.encode_to_vec()
}

/// The reply that the bytes hold.
pub fn decode_reply(bytes: Bytes) -> Result<HeartbeatReply, DecodeError> {
    use proto::heartbeat_reply::Kind;
    Ok(match proto::HeartbeatReply::decode(bytes)?.kind.ok_or(DecodeError::UnknownKind)? {
        Kind::Alive(proto::Alive { fenced }) => HeartbeatReply::Alive { fenced },
        Kind::NotLeader(proto::NotLeader { leader }) => {
            HeartbeatReply::NotLeader { leader: leader.map(TryInto::try_into).transpose()? }
        }
        Kind::Superseded(proto::Superseded {}) => HeartbeatReply::Superseded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BrokerEpoch;

    #[test]
    fn heartbeats_and_replies_survive_their_bytes() {
        let directory = uuid::Uuid::from_u128(5);
        let heartbeat = Heartbeat { node: NodeId::new(3), directory, epoch: BrokerEpoch::new(8), applied: 99 };
        assert_eq!(decode_heartbeat(encode_heartbeat(&heartbeat).into()).expect("what was encoded"), heartbeat);
        let replies = [
            HeartbeatReply::Alive { fenced: true },
            HeartbeatReply::NotLeader { leader: None },
            HeartbeatReply::NotLeader { leader: Some(NodeId::new(2)) },
            HeartbeatReply::Superseded,
        ];
        for reply in replies {
            assert_eq!(decode_reply(encode_reply(&reply).into()).expect("what was encoded"), reply);
        }
    }
}

//! What a peer's Raft message must be before raft-rs sees it: raft-rs panics on some that no honest peer sends.

use raft::eraftpb::{Message, MessageType};

/// Why a message is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is for another node.
    #[error("it is for another node")]
    NotForThisNode,
    /// Of a kind that never comes from a peer.
    #[error("a message of its kind never comes from a peer")]
    Kind,
    /// Without a term, as only reads are.
    #[error("it has no term")]
    Term,
    /// A read without its context, or with more than one.
    #[error("a read has one context")]
    Read,
    /// Entries that do not follow each other.
    #[error("its entries do not follow each other")]
    Entries,
    /// The leader believes that this node has entries that it does not have: it was wiped, or restored from a copy.
    #[error("it commits entries that this node does not have: has its data folder been replaced?")]
    Commit,
}

/// Checks a message for the node with Raft's `id`, whose log ends at `last_index`.
pub fn check(message: &Message, id: u64, last_index: u64) -> Result<(), Unfit> {
    if message.to != id || message.from == id || message.from == 0 {
        return Err(Unfit::NotForThisNode);
    }
    if message.term == 0 && message.get_msg_type() != MessageType::MsgReadIndex {
        return Err(Unfit::Term);
    }
    match message.get_msg_type() {
        MessageType::MsgAppend => {
            let follow = |(index, entry): (u64, &raft::eraftpb::Entry)| entry.index == index;
            if !(message.index..u64::MAX).skip(1).zip(message.entries.iter()).all(follow) {
                return Err(Unfit::Entries);
            }
        }
        MessageType::MsgHeartbeat if message.commit > last_index => return Err(Unfit::Commit),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp if message.entries.len() != 1 => {
            return Err(Unfit::Read);
        }
        MessageType::MsgHeartbeat
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp
        | MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgSnapshot
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTimeoutNow
        | MessageType::MsgTransferLeader => {}
        // Proposals come by `Propose`; the rest is what a node tells itself.
        MessageType::MsgPropose
        | MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum => return Err(Unfit::Kind),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn message(kind: MessageType) -> Message {
        Message { msg_type: kind, from: 2, to: 1, term: 1, ..Message::default() }
    }

    #[test]
    fn what_would_make_raft_panic_is_refused() {
        let cases = [
            (Message { to: 3, ..message(MessageType::MsgHeartbeat) }, Unfit::NotForThisNode),
            (Message { from: 1, ..message(MessageType::MsgHeartbeat) }, Unfit::NotForThisNode),
            (Message { term: 0, ..message(MessageType::MsgRequestVote) }, Unfit::Term),
            (message(MessageType::MsgHup), Unfit::Kind),
            (message(MessageType::MsgPropose), Unfit::Kind),
            (message(MessageType::MsgReadIndex), Unfit::Read),
            (Message { commit: 11, ..message(MessageType::MsgHeartbeat) }, Unfit::Commit),
            (append(&[6, 7, 9]), Unfit::Entries),
            (append(&[5]), Unfit::Entries),
        ];
        for (message, unfit) in cases {
            assert_eq!(check(&message, 1, 10), Err(unfit), "{message:?}");
        }
    }

    #[test]
    fn what_peers_send_passes() {
        let heartbeat = Message { commit: 10, ..message(MessageType::MsgHeartbeat) };
        for message in [heartbeat, append(&[]), append(&[6, 7]), message(MessageType::MsgSnapshot)] {
            assert_eq!(check(&message, 1, 10), Ok(()), "{message:?}");
        }
    }

    fn append(entries: &[u64]) -> Message {
        let entries: Vec<Entry> = entries.iter().map(|&index| Entry { index, ..Entry::default() }).collect();
        Message { index: 5, entries: entries.into(), ..message(MessageType::MsgAppend) }
    }
}

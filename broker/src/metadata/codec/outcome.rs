//! Outcomes, as the metadata leader answers a node that forwarded a command.

use bytes::Bytes;
use prost::Message as _;

use super::DecodeError;
use crate::metadata::outcome::{Outcome, Refused};
use crate::metadata::proto;

/// An outcome as bytes.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    use proto::outcome::Kind;
    let number = |result: &Result<(), Refused>| result.err().map_or(0, Refused::number);
    let kind = match outcome {
        Outcome::Done => Kind::Done(proto::Done {}),
        Outcome::Registered(epoch) => Kind::Registered(epoch.get()),
        Outcome::ProducerIds { first, count } => {
            Kind::ProducerIds(proto::ProducerIds { first: first.get(), count: *count })
        }
        Outcome::Partitions(results) => {
            Kind::Partitions(proto::Partitions { refused: results.iter().map(number).collect() })
        }
        Outcome::Leased(epoch) => Kind::Leased(*epoch),
        Outcome::Refused { why, index } => Kind::Refused(proto::Refusal { why: why.number(), index: *index }),
    };
    proto::Outcome { kind: Some(kind) }.encode_to_vec()
}

/// The outcome that the bytes hold.
pub fn decode_outcome(bytes: Bytes) -> Result<Outcome, DecodeError> {
    use proto::outcome::Kind;
    let refused = |number| Refused::from_number(number).ok_or(DecodeError::UnknownKind);
    let result = |number| if number == 0 { Ok(Ok(())) } else { refused(number).map(Err) };
    Ok(match proto::Outcome::decode(bytes)?.kind.ok_or(DecodeError::UnknownKind)? {
        Kind::Done(proto::Done {}) => Outcome::Done,
        Kind::Registered(epoch) => Outcome::Registered(epoch.try_into()?),
        Kind::ProducerIds(ids) => Outcome::ProducerIds { first: ids.first.try_into()?, count: ids.count },
        Kind::Partitions(results) => {
            Outcome::Partitions(results.refused.into_iter().map(result).collect::<Result<_, DecodeError>>()?)
        }
        Kind::Leased(epoch) => Outcome::Leased(epoch),
        Kind::Refused(refusal) => Outcome::Refused { why: refused(refusal.why)?, index: refusal.index },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BrokerEpoch, ProducerId};

    #[test]
    fn an_outcome_survives_its_bytes() {
        let mut outcomes = vec![
            Outcome::Done,
            Outcome::Registered(BrokerEpoch::new(7)),
            Outcome::ProducerIds { first: ProducerId::new(1000), count: 1000 },
            Outcome::Leased(9),
            Outcome::Partitions(Refused::ALL.into_iter().map(Err).chain([Ok(())]).collect()),
        ];
        outcomes.extend(Refused::ALL.map(|why| Outcome::Refused { why, index: 12 }));
        for outcome in outcomes {
            assert_eq!(decode_outcome(encode_outcome(&outcome).into()).expect("what was encoded"), outcome);
        }
    }

    #[test]
    fn a_reason_of_a_newer_version_is_an_error_that_says_so() {
        let refusal = proto::Refusal { why: 9999, index: 1 };
        let bytes = proto::Outcome { kind: Some(proto::outcome::Kind::Refused(refusal)) }.encode_to_vec();
        assert!(matches!(decode_outcome(bytes.into()), Err(DecodeError::UnknownKind)));
    }
}

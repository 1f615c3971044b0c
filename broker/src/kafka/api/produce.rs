//! Produce: appends at once, answers when every partition is acknowledged.
//!
//! A request is appended before the next one of its connection starts, so that an idempotent producer's batches reach
//! the log in their order; the wait for the disk overlaps with the requests behind it.

mod batch;
mod pending;
mod respond;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use smallvec::SmallVec;

pub use self::pending::Pending;
use self::pending::{Appended, Countdown};
use self::respond::{Outcome, refused};
use super::replica;
use crate::kafka::RequestContext;
use crate::kafka::service::Call;
use crate::kafka::wire::fields::TopicRef;
use crate::kafka::wire::produce::{PartitionRecords, PartitionResponse, ProduceRequest};
use crate::kafka::wire::{DecodeError, ErrorCode};
use crate::log::{Brief, Origin};
use crate::stream::{Accepted, Acks, Partition, PartitionError};
use crate::wal::Admission;

/// No acknowledgement is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Appends the records of a request. As long as the WAL has room, and no batch takes long to unpack, this happens before
/// it returns; otherwise the rest of the request, and with it its connection, waits.
pub fn begin(context: RequestContext, body: Bytes) -> Result<Call<Pending>, DecodeError> {
    let request = ProduceRequest::decode(body, context.version)?;
    let mut appending = Appending::new(context, request);
    while let Some(next) = appending.next() {
        let put_off = match appending.context.broker.wal.admit(next.records.len()).now_or_never() {
            Some(admission) => appending.append_briefly(next, admission),
            None => Some(next),
        };
        if let Some(next) = put_off {
            return Ok(Call::Deferred(Box::pin(appending.append_rest(next).map(Appending::settle))));
        }
    }
    Ok(Call::Pipelined(appending.settle()))
}

/// A request whose partitions are being appended, one after the other.
struct Appending {
    context: RequestContext,
    acks: Option<Acks>,
    patience: Option<Duration>,
    /// Whether a batch needs other replicas within the time that the client gives.
    waits_for_others: bool,
    transactional_id: bool,
    /// Why nothing of the request is stored, whatever its partitions.
    refusal: Option<ErrorCode>,
    topics: SmallVec<[(TopicRef, usize); 1]>,
    partitions: smallvec::IntoIter<[PartitionRecords; 1]>,
    /// The topic of the next partition, and how many partitions it still has.
    topic: (usize, usize),
    outcomes: SmallVec<[Outcome; 1]>,
    countdown: Arc<Countdown>,
}

/// One batch that is ready to be appended.
struct Next {
    index: i32,
    partition: Arc<Partition>,
    records: Bytes,
    acks: Acks,
    /// Whether it is known to take long.
    long: bool,
}

impl Appending {
    fn new(context: RequestContext, request: ProduceRequest) -> Self {
        let acks = match request.acks {
            0 => Some(Acks::None),
            1 => Some(Acks::Leader),
            -1 => Some(Acks::All),
            _ => None,
        };
        let patience = match acks {
            Some(Acks::None) => None,
            // The time-out is for the other replicas (see `append`).
            Some(Acks::Leader) | None => Some(PATIENCE),
            Some(Acks::All) => Some(Duration::from_millis(request.timeout_ms.max(0) as u64).min(PATIENCE)),
        };
        let version = context.version;
        let transactional = |records: &PartitionRecords| {
            batch::take(version, records.records.as_ref()).is_ok_and(|batch| batch.transactional)
        };
        let unauthorized = request.transactional_id.is_none() && request.partitions.iter().any(transactional);
        let first_topic = request.topics.first().map_or(0, |(_, count)| *count);
        Self {
            context,
            acks,
            patience,
            waits_for_others: false,
            transactional_id: request.transactional_id.is_some(),
            refusal: unauthorized.then_some(ErrorCode::TransactionalIdAuthorizationFailed),
            topics: request.topics,
            partitions: request.partitions.into_iter(),
            topic: (0, first_topic),
            outcomes: SmallVec::new(),
            countdown: Countdown::new(),
        }
    }

    /// The next batch to append; those that are refused before get their outcome on the way.
    fn next(&mut self) -> Option<Next> {
        loop {
            let records = self.partitions.next()?;
            let topic = self.next_topic();
            match self.check(&self.topics[topic].0, &records) {
                Ok(next) => return Some(next),
                Err(error) => {
                    self.outcomes.push(Outcome::Refused(PartitionResponse::refused(records.index, error)));
                }
            }
        }
    }

    /// The topic of the partition that was just taken.
    fn next_topic(&mut self) -> usize {
        while self.topic.1 == 0 {
            self.topic.0 += 1;
            self.topic.1 = self.topics[self.topic.0].1;
        }
        self.topic.1 -= 1;
        self.topic.0
    }

    /// Everything that Kafka checks before the log does, in its order.
    fn check(&self, topic: &TopicRef, records: &PartitionRecords) -> Result<Next, ErrorCode> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let partition = replica::find(&self.context.broker, topic, records.index)?;
        let batch = batch::take(self.context.version, records.records.as_ref())?;
        let acks = self.acks.ok_or(ErrorCode::InvalidRequiredAcks)?;
        if batch.transactional && self.transactional_id {
            // No transaction has been begun under any transactional id: there is none that this one could belong to.
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if replica::is_internal(partition.topic()) {
            return Err(ErrorCode::InvalidTopicException);
        }
        Ok(Next { index: records.index, partition, records: batch.bytes, acks, long: false })
    }

    /// Appends a batch, or gives it back when that takes long.
    fn append_briefly(&mut self, next: Next, admission: Admission) -> Option<Next> {
        let Next { index, partition, records, acks, .. } = next;
        let accepted = match partition.append_briefly(records, acks, admission) {
            Ok(Brief::Long(records)) => return Some(Next { index, partition, records, acks, long: true }),
            Ok(Brief::Done(accepted)) => Ok(accepted),
            Err(error) => Err(error),
        };
        self.appended(index, partition, acks, accepted);
        None
    }

    fn append(&mut self, next: Next, admission: Admission) {
        let Next { index, partition, records, acks, .. } = next;
        let accepted = partition.append(records, acks, Origin::Client, admission);
        self.appended(index, partition, acks, accepted);
    }

    fn appended(
        &mut self,
        index: i32,
        partition: Arc<Partition>,
        acks: Acks,
        accepted: Result<Accepted, PartitionError>,
    ) {
        let outcome = match accepted {
            Err(error) => Outcome::Refused(refused(index, &error, partition.offsets().log_start.get())),
            Ok(accepted) if acks == Acks::None => Outcome::Accepted { index, partition, accepted },
            Ok(accepted) => {
                // Kafka's leader takes the time it needs to append, and is done with that when nobody else is in sync: it
                // never times out, even when told not to wait. So does this one to flush.
                self.waits_for_others |= self.is_impatient() && !partition.is_alone_in_sync();
                let slot = self.countdown.add();
                partition.when_acked(&accepted, acks, Arc::clone(&self.countdown) as _, slot);
                Outcome::Accepted { index, partition, accepted }
            }
        };
        self.outcomes.push(outcome);
    }

    /// Whether the client asks to wait for less time than there is.
    fn is_impatient(&self) -> bool {
        self.acks == Some(Acks::All) && self.patience.is_some_and(|patience| patience < PATIENCE)
    }

    /// Appends the rest as the WAL gets room, and beside the reactor what takes long. Each batch is appended before room
    /// for the next is asked for: nobody waits for room while holding some.
    async fn append_rest(mut self, next: Next) -> Self {
        let broker = Arc::clone(&self.context.broker);
        let mut next = Some(next);
        while let Some(batch) = next {
            let admission = broker.wal.admit(batch.records.len()).await;
            next = if batch.long {
                let append = move || {
                    self.append(batch, admission);
                    self
                };
                self = broker.offload.cores.run(append).await;
                self.next()
            } else {
                self.append_briefly(batch, admission).or_else(|| self.next())
            };
        }
        self
    }

    fn settle(self) -> Pending {
        let patience = if self.waits_for_others { self.patience } else { self.patience.map(|_| PATIENCE) };
        Pending::new(Appended {
            context: self.context,
            topics: self.topics,
            outcomes: self.outcomes,
            countdown: self.countdown,
            patience,
        })
    }
}

#[cfg(test)]
mod tests;

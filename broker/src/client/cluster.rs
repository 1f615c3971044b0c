//! A client of a whole cluster: finds its brokers, keeps one connection to each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use kafka_wire_core::{StrBytes, Uuid};
use parking_lot::Mutex;

use super::trouble::{OnTrouble, Trouble};
use super::{ClientError, Connection, check, check_topic};
use crate::kafka::wire::ErrorCode;
use crate::message;

/// A pause before an attempt is repeated.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long a retriable error is retried.
pub(super) const RETRY_FOR: Duration = Duration::from_secs(30);

/// One partition as Metadata tells it.
#[derive(Debug, Clone)]
pub struct PartitionMetadata {
    /// Its index.
    pub index: i32,
    /// Who leads it.
    pub leader: Option<i32>,
    /// The leadership's epoch.
    pub leader_epoch: i32,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The in-sync ones.
    pub isr: Vec<i32>,
}

/// One topic as Metadata tells it.
#[derive(Debug, Clone)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: Uuid,
    /// Whether the broker made it for itself.
    pub internal: bool,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionMetadata>,
}

/// How long a topic that is being made may take.
const CREATE_FOR: Duration = Duration::from_secs(3);

/// A cluster, by one of its brokers.
pub struct Client {
    bootstrap: String,
    brokers: Mutex<HashMap<i32, String>>,
    connections: Mutex<HashMap<String, Arc<Connection>>>,
    trouble: Mutex<Trouble>,
    on_trouble: OnTrouble,
}

impl Client {
    /// Connects to the first address of a comma-separated list that answers.
    pub async fn connect(bootstrap: &str) -> Result<Arc<Self>, ClientError> {
        Self::connect_telling(bootstrap, Arc::new(|_| ())).await
    }

    /// Like `connect`, for somebody who waits: `on_trouble` is told when trying again takes long.
    pub async fn connect_telling(bootstrap: &str, on_trouble: OnTrouble) -> Result<Arc<Self>, ClientError> {
        let client = Arc::new(Self::new(bootstrap, on_trouble));
        client.any().await?;
        Ok(client)
    }

    fn new(bootstrap: &str, on_trouble: OnTrouble) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            brokers: Mutex::default(),
            connections: Mutex::default(),
            trouble: Mutex::default(),
            on_trouble,
        }
    }

    /// What failed with this error is tried again.
    pub(super) fn tries_again(&self, why: &ClientError) {
        if self.trouble.lock().is_to_be_told(tokio::time::Instant::now()) {
            (self.on_trouble)(why);
        }
    }

    /// A client of a cluster that does not exist.
    #[cfg(test)]
    pub(super) fn of_nobody() -> Arc<Self> {
        Arc::new(Self::new("", Arc::new(|_| ())))
    }

    /// A connection to whichever bootstrap address answers: one that is open is not left for one that may hang.
    pub async fn any(&self) -> Result<Arc<Connection>, ClientError> {
        let addresses = || self.bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty());
        if let Some(open) = addresses().find_map(|address| self.open_connection(address)) {
            return Ok(open);
        }
        let mut last = None;
        for address in addresses() {
            match self.connection(address).await {
                Ok(connection) => return Ok(connection),
                Err(why) => last = Some(why),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Connect {
            address: self.bootstrap.clone(),
            why: "not HOST:PORT[,HOST:PORT…]".to_owned(),
        }))
    }

    fn open_connection(&self, address: &str) -> Option<Arc<Connection>> {
        self.connections.lock().get(address).filter(|connection| !connection.is_closed()).cloned()
    }

    /// The connection to an address, opened when there is none.
    async fn connection(&self, address: &str) -> Result<Arc<Connection>, ClientError> {
        if let Some(connection) = self.open_connection(address) {
            return Ok(connection);
        }
        let connection = Arc::new(Connection::open(address, self.on_trouble.clone()).await?);
        self.connections.lock().insert(address.to_owned(), connection.clone());
        Ok(connection)
    }

    /// The connection to a broker by its id.
    pub async fn broker(&self, id: i32) -> Result<Arc<Connection>, ClientError> {
        let known = self.brokers.lock().get(&id).cloned();
        let address = if let Some(address) = known {
            address
        } else {
            self.metadata(Some(&[])).await?;
            self.brokers.lock().get(&id).cloned().ok_or_else(|| ClientError::Connect {
                address: format!("node {id}"),
                why: "no such node in the cluster".to_owned(),
            })?
        };
        self.connection(&address).await.map_err(|why| why.of_node(id))
    }

    /// Metadata of the named topics, or of all. Learns the brokers' addresses on the way.
    pub async fn metadata(&self, topics: Option<&[&str]>) -> Result<MetadataResponse, ClientError> {
        self.ask_metadata(topics, false).await
    }

    async fn ask_metadata(&self, topics: Option<&[&str]>, create: bool) -> Result<MetadataResponse, ClientError> {
        let topics = topics.map(|names| {
            let topic = |name: &&str| message!(MetadataRequestTopic { name: Some(StrBytes::from(*name)) });
            names.iter().map(topic).collect()
        });
        let request = message!(MetadataRequest { topics, allow_auto_topic_creation: create });
        let response = self.any().await?.send(&request).await?;
        let addresses =
            response.brokers.iter().map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port)));
        *self.brokers.lock() = addresses.collect();
        Ok(response)
    }

    /// One topic's metadata.
    pub async fn topic(&self, name: &str) -> Result<TopicMetadata, ClientError> {
        self.ask_topic(name, false).await
    }

    /// One topic's metadata; where there is none, the broker makes one if `auto.create.topics.enable` says so.
    pub async fn topic_or_create(&self, name: &str) -> Result<TopicMetadata, ClientError> {
        let until = tokio::time::Instant::now() + CREATE_FOR;
        loop {
            match self.ask_topic(name, true).await {
                Err(why) if why.is_retriable() && tokio::time::Instant::now() < until => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                settled => return settled,
            }
        }
    }

    async fn ask_topic(&self, name: &str, create: bool) -> Result<TopicMetadata, ClientError> {
        let response = self.ask_metadata(Some(&[name]), create).await?;
        let topic = response.topics.into_iter().next().ok_or_else(|| ClientError::no_topic(name))?;
        check_topic(name, || format!("topic {name}"), topic.error_code, None)?;
        Ok(topic_metadata(topic))
    }

    /// All topics' metadata, by name.
    pub async fn topics(&self) -> Result<Vec<TopicMetadata>, ClientError> {
        let response = self.metadata(None).await?;
        let mut topics: Vec<_> = response.topics.into_iter().map(topic_metadata).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The connection to a group's coordinator; waits while it is being made.
    pub async fn coordinator(&self, group: &str) -> Result<Arc<Connection>, ClientError> {
        let request =
            message!(FindCoordinatorRequest { coordinator_keys: vec![StrBytes::from(group)], key_type: 0_i8 });
        retry(self, || async {
            let response = self.any().await?.send(&request).await?;
            let found = response.coordinators.into_iter().next().ok_or_else(|| {
                ClientError::refused(format!("group {group}"), ErrorCode::CoordinatorNotAvailable.code(), None)
            })?;
            check(|| format!("group {group}"), found.error_code, found.error_message.as_deref())?;
            let address = format!("{}:{}", found.host, found.port);
            self.connection(&address).await.map_err(|why| why.of_node(found.node_id))
        })
        .await
    }

    /// The node that takes topic and config changes.
    pub async fn controller(&self) -> Result<Arc<Connection>, ClientError> {
        let id = self.metadata(Some(&[])).await?.controller_id;
        self.broker(id).await
    }
}

/// Repeats what failed with a retriable error, for a while; the client tells of it.
pub(super) async fn retry<T, F, A>(client: &Client, attempt: A) -> Result<T, ClientError>
where
    A: Fn() -> F,
    F: Future<Output = Result<T, ClientError>>,
{
    let passes = |why: &ClientError| {
        let retriable = why.is_retriable();
        if retriable {
            client.tries_again(why);
        }
        retriable
    };
    retry_while(passes, attempt).await
}

/// Repeats, for a while, what a group's coordinator did not do because it loads the group, or has moved.
pub(super) async fn retry_coordinator<T, F, A>(attempt: A) -> Result<T, ClientError>
where
    A: Fn() -> F,
    F: Future<Output = Result<T, ClientError>>,
{
    retry_while(ClientError::is_of_no_coordinator, attempt).await
}

async fn retry_while<T, F, A>(passes: impl Fn(&ClientError) -> bool, attempt: A) -> Result<T, ClientError>
where
    A: Fn() -> F,
    F: Future<Output = Result<T, ClientError>>,
{
    let until = tokio::time::Instant::now() + RETRY_FOR;
    loop {
        match attempt().await {
            Err(why) if passes(&why) && tokio::time::Instant::now() < until => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            settled => return settled,
        }
    }
}

fn topic_metadata(topic: kafka_wire::metadata_response::MetadataResponseTopic) -> TopicMetadata {
    let mut partitions: Vec<_> = topic
        .partitions
        .into_iter()
        .map(|partition| PartitionMetadata {
            index: partition.partition_index,
            leader: (partition.leader_id >= 0).then_some(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes,
            isr: partition.isr_nodes,
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    TopicMetadata {
        name: topic.name.map(StrBytes::into_string).unwrap_or_default(),
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// What comes of an attempt that fails with this code so many times.
    async fn fails(code: ErrorCode, times: u32) -> (Result<(), ClientError>, u32) {
        let attempts = AtomicU32::new(0);
        let outcome = retry_coordinator(|| async {
            let failed = attempts.fetch_add(1, Ordering::Relaxed) < times;
            if failed { Err(ClientError::refused("try", code.code(), None)) } else { Ok(()) }
        });
        let outcome = outcome.await;
        (outcome, attempts.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_loads_or_moves_is_asked_again_for_a_while() {
        for code in
            [ErrorCode::CoordinatorLoadInProgress, ErrorCode::NotCoordinator, ErrorCode::CoordinatorNotAvailable]
        {
            assert!(matches!(fails(code, 3).await, (Ok(()), 4)), "{code:?}");
            let begun = tokio::time::Instant::now();
            let (outcome, _) = fails(code, u32::MAX).await;
            assert!(outcome.expect_err("it never does").is(code) && begun.elapsed() >= RETRY_FOR);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_done_is_not_done_again() {
        assert!(matches!(fails(ErrorCode::RequestTimedOut, 1).await, (Err(_), 1)));
        assert!(matches!(fails(ErrorCode::NonEmptyGroup, 1).await, (Err(_), 1)));
    }
}

//! The topic of the load.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use super::{LoadArgs, client};

/// A cluster that has just been formed may not have all its nodes yet.
const CREATE_WITHIN: Duration = Duration::from_mins(1);

pub(super) async fn create(args: &LoadArgs) -> Result<(), String> {
    let admin: AdminClient<DefaultClientContext> = client(args).create().map_err(|why| why.to_string())?;
    let deadline = Instant::now() + CREATE_WITHIN;
    let minimum = if args.replicas > 2 { "2" } else { "1" };
    loop {
        let topic = NewTopic::new(&args.topic, args.partitions, TopicReplication::Fixed(args.replicas))
            .set("min.insync.replicas", minimum);
        let why = match admin.create_topics([&topic], &AdminOptions::new()).await {
            Ok(results) => match results.into_iter().next() {
                Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => return Ok(()),
                Some(Err((_, why))) => why.to_string(),
                None => "no answer for it".to_owned(),
            },
            Err(why) => why.to_string(),
        };
        if Instant::now() > deadline {
            return Err(format!("topic {} can't be created: {why}", args.topic));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

//! The settings in force: what was given at start under the dynamic settings of the metadata image.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{BrokerSettings, Config, Layers, TopicConfig};
use crate::ids::NodeId;
use crate::log::LogConfig;
use crate::metadata::{ConfigResource, Image};
use crate::stream::TopicSettings;

/// The node's settings: the static ones, and Kafka's broker and topic settings as an image has them.
pub struct Settings {
    config: Config,
    start: Layers,
    cache: Mutex<Option<Cached>>,
}

/// What was computed from one image.
struct Cached {
    index: u64,
    layers: Arc<Layers>,
    broker: Arc<BrokerSettings>,
    topics: HashMap<Arc<str>, (Arc<LogConfig>, usize)>,
}

impl Settings {
    /// Those of a node.
    pub fn new(config: Config) -> Self {
        Self { start: Layers::of_start(&config), config, cache: Mutex::new(None) }
    }

    /// What the node was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.config.node_id
    }

    /// The broker settings before any image is known.
    pub fn at_start(&self) -> BrokerSettings {
        self.start.broker_settings()
    }

    /// The broker settings in force. Cheap: computed once an image.
    pub fn broker(&self, image: &Image) -> Arc<BrokerSettings> {
        self.cached(image, |cached| Arc::clone(&cached.broker))
    }

    /// The layers of the broker's settings.
    pub fn layers(&self, image: &Image) -> Arc<Layers> {
        self.cached(image, |cached| Arc::clone(&cached.layers))
    }

    /// All effective settings of a topic.
    pub fn topic(&self, image: &Image, topic: &str) -> TopicConfig {
        topic_config(&self.layers(image), image, topic)
    }

    fn cached<T>(&self, image: &Image, read: impl FnOnce(&mut Cached) -> T) -> T {
        let mut cache = self.cache.lock();
        if let Some(cached) = cache.as_mut().filter(|cached| cached.index == image.index()) {
            return read(cached);
        }
        let layers = Arc::new(self.start.with_dynamic(image, self.config.node_id));
        let broker = Arc::new(layers.broker_settings());
        read(cache.insert(Cached { index: image.index(), layers, broker, topics: HashMap::new() }))
    }

    fn cached_topic<T>(&self, image: &Image, topic: &str, read: impl FnOnce(&(Arc<LogConfig>, usize)) -> T) -> T {
        self.cached(image, |cached| {
            if let Some(found) = cached.topics.get(topic) {
                return read(found);
            }
            let config = topic_config(&cached.layers, image, topic);
            let value = (Arc::new(config.log_config()), config.min_insync_replicas.max(1) as usize);
            let result = read(&value);
            if image.topic(topic).is_some() {
                cached.topics.insert(topic.into(), value);
            }
            result
        })
    }
}

fn topic_config(layers: &Layers, image: &Image, topic: &str) -> TopicConfig {
    let own: HashMap<&str, &str> = image.configs(&ConfigResource::Topic(topic.into())).collect();
    layers.topic_config(|name| own.get(name).copied())
}

impl TopicSettings for Settings {
    fn log_config(&self, image: &Image, topic: &str) -> Arc<LogConfig> {
        self.cached_topic(image, topic, |(config, _)| Arc::clone(config))
    }

    fn min_insync_replicas(&self, image: &Image, topic: &str) -> usize {
        self.cached_topic(image, topic, |(_, minimum)| *minimum)
    }
}

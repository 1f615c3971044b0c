//! A metadata plane in memory and settings, for the tests of the admin APIs.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Settings, load};
use crate::kafka::admin::{Admin, Deadline};
use crate::kafka::topics::Wanted;
use crate::metadata::testing::InstantPlane;
use crate::metadata::{Command, Image, MetadataPlane};

/// A cluster of one node, number 0.
pub(in crate::kafka) struct Plane {
    pub metadata: Arc<InstantPlane>,
    pub settings: Settings,
}

impl Plane {
    /// Started with these settings.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::new(load(None, [], given).expect("the test's settings are valid"));
        Self { metadata: InstantPlane::new(), settings }
    }

    pub(crate) fn admin(&self) -> Admin<'_> {
        Admin { metadata: &*self.metadata, settings: &self.settings }
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        self.metadata.image()
    }

    /// Makes a topic with so many partitions.
    pub(crate) async fn create(&self, name: &str, partitions: i32) {
        let wanted = Wanted { name: name.to_owned(), partitions, replication_factor: 1, ..Wanted::default() };
        let topic = wanted.plan(self.admin(), &self.image()).expect("the test's topic is valid");
        let deadline = Deadline::after(Duration::from_secs(5));
        self.admin().propose(Command::CreateTopic(topic), deadline).await.expect("created");
    }
}

//! Topics, their partitions and dynamic settings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::State;
use crate::ids::{NodeId, PartitionIndex, TopicId};
use crate::metadata::command::{ConfigChange, NewTopic};
use crate::metadata::election;
use crate::metadata::image::{DELETED_TOPICS, MIN_INSYNC_REPLICAS};
use crate::metadata::outcome::{Outcome, Refused};
use crate::metadata::topology::{ConfigResource, PartitionRegistration, Topic};

impl State {
    pub(super) fn create_topic(&mut self, new: NewTopic) -> Result<Outcome, Refused> {
        if self.image.topics_by_name.contains_key(new.name.as_str()) || self.image.topics_by_id.contains_key(&new.id) {
            return Err(Refused::TopicExists);
        }
        let partitions = self.first_registrations(&new.assignment)?;
        let name: Arc<str> = new.name.into();
        self.put_topic(Topic { id: new.id, name: Arc::clone(&name), partitions });
        if !new.configs.is_empty() {
            let settings: BTreeMap<String, String> = new.configs.into_iter().collect();
            self.image.configs.insert(ConfigResource::Topic(name), Arc::new(settings));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn delete_topic(&mut self, id: TopicId) -> Result<Outcome, Refused> {
        let topic = self.image.topics_by_id.remove(&id).ok_or(Refused::UnknownTopic)?;
        self.image.topics_by_name.remove(&topic.name);
        self.image.configs.remove(&ConfigResource::Topic(Arc::clone(&topic.name)));
        self.image.deleted_topics.push_back(id);
        if self.image.deleted_topics.len() > DELETED_TOPICS {
            self.image.deleted_topics.pop_front();
        }
        Ok(Outcome::Done)
    }

    pub(super) fn create_partitions(
        &mut self,
        id: TopicId,
        existing: PartitionIndex,
        assignment: &[Vec<NodeId>],
    ) -> Result<Outcome, Refused> {
        let topic = self.image.topics_by_id.get(&id).ok_or(Refused::UnknownTopic)?;
        if topic.partitions.len() != existing.get() as usize {
            return Err(Refused::PartitionCountChanged);
        }
        let new = self.first_registrations(assignment)?;
        let partitions = topic.partitions.iter().cloned().chain(new).collect();
        self.put_topic(Topic { id, name: Arc::clone(&topic.name), partitions });
        Ok(Outcome::Done)
    }

    fn first_registrations(&self, assignment: &[Vec<NodeId>]) -> Result<Vec<Arc<PartitionRegistration>>, Refused> {
        if assignment.is_empty() {
            return Err(Refused::InvalidAssignment);
        }
        let registration = |replicas: &Vec<NodeId>| {
            let distinct: BTreeSet<NodeId> = replicas.iter().copied().collect();
            if distinct.len() != replicas.len() || replicas.iter().any(|&node| self.image.node(node).is_none()) {
                return Err(Refused::InvalidAssignment);
            }
            election::first_registration(replicas, |node| self.image.candidate(node))
                .map(Arc::new)
                .ok_or(Refused::InvalidAssignment)
        };
        assignment.iter().map(registration).collect()
    }

    pub(super) fn set_configs(
        &mut self,
        resource: ConfigResource,
        changes: Vec<ConfigChange>,
    ) -> Result<Outcome, Refused> {
        if let ConfigResource::Topic(name) = &resource
            && !self.image.topics_by_name.contains_key(name)
        {
            return Err(Refused::UnknownTopic);
        }
        let mut settings = self.image.configs.get(&resource).map(|before| BTreeMap::clone(before)).unwrap_or_default();
        let minimum_changes = changes.iter().any(|(name, _)| name == MIN_INSYNC_REPLICAS);
        for (name, value) in changes {
            match value {
                Some(value) => settings.insert(name, value),
                None => settings.remove(&name),
            };
        }
        if settings.is_empty() {
            self.image.configs.remove(&resource);
        } else {
            self.image.configs.insert(resource, Arc::new(settings));
        }
        if minimum_changes {
            // Rule 10: lowering the minimum empties the ELR in the same command.
            self.update_partitions(
                |partition| !partition.elr.is_empty(),
                |_, minimum, partition| election::settle_eligible(partition, minimum),
            );
        }
        Ok(Outcome::Done)
    }
}

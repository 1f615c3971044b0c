//! One lane to one follower: keeps its connection standing as long as it is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::conversations::SessionNumbers;
use super::frame::{Frame, Hello, Lane};
use super::handshake::{Roster, check_answer};
use super::liveness::{Backoff, HANDSHAKE_WITHIN};
use super::metrics::LinkMetrics;
use super::outbound::{Command, Link, Outbound};
use super::pipe::{LinkError, pipe};
use super::throttle::Throttle;
use super::{Myself, PeerLost};
use crate::ids::{NodeId, TopicPartition};
use crate::io::net::Network;
use crate::metadata::Image;
use crate::stream::replication::{Leaders, Led};

/// What every lane needs.
pub(super) struct Context {
    pub(super) myself: Myself,
    pub(super) network: Arc<dyn Network>,
    pub(super) leaders: Arc<dyn Leaders>,
    pub(super) images: watch::Receiver<Arc<Image>>,
    pub(super) metrics: LinkMetrics,
    pub(super) throttle: Throttle,
    pub(super) numbers: Arc<SessionNumbers>,
    pub(super) lost: broadcast::Sender<PeerLost>,
}

impl Context {
    /// Connects to the first address at which the follower answers.
    async fn dial(&self, follower: NodeId, addresses: &[String], lane: Lane) -> Result<Link, LinkError> {
        let mut failed = None;
        for address in addresses {
            match self.dial_at(address, follower, lane).await {
                Ok(link) => return Ok(link),
                Err(why) => failed = Some(why),
            }
        }
        Err(failed.expect("there is an address because that was asserted"))
    }

    async fn dial_at(&self, address: &str, follower: NodeId, lane: Lane) -> Result<Link, LinkError> {
        let Self { myself, network, images, .. } = self;
        let deadline = Instant::now() + HANDSHAKE_WITHIN;
        let silent = |_| LinkError::Silent(HANDSHAKE_WITHIN);
        let connection = timeout_at(deadline, network.dial(address)).await.map_err(silent)??;
        let (mut reader, mut writer) = pipe(connection.stream);
        let cluster = myself.cluster.clone();
        writer.push(&Frame::Hello(Hello { cluster, from: myself.identity(), to: follower, lane }));
        writer.write_by(deadline, HANDSHAKE_WITHIN).await?;
        let answer = match reader.frame_by(deadline, HANDSHAKE_WITHIN).await? {
            Frame::HelloAck(answer) => answer,
            Frame::Refused(reason) => return Err(LinkError::Refused(reason)),
            other => return Err(LinkError::Unexpected(other.name())),
        };
        let roster = Roster::of(&images.borrow());
        let proven = connection.identity.as_ref();
        check_answer(&answer, proven, &myself.cluster, myself.node, follower, &roster)?;
        reader.trust();
        Ok(Link { follower: answer, reader, writer })
    }
}

/// A lane, with or without a connection.
pub(super) struct LaneTask {
    context: Arc<Context>,
    lane: Lane,
    follower: NodeId,
    /// Where the follower may be: all are tried, and the handshake tells who answers.
    addresses: Arc<[String]>,
    commands: mpsc::UnboundedReceiver<Command>,
    other: mpsc::UnboundedSender<Command>,
    /// What this node leads for the follower, on either lane.
    led: Arc<BTreeMap<TopicPartition, Led>>,
    /// What is on this lane.
    assigned: BTreeMap<TopicPartition, Led>,
    outbound: Option<Outbound>,
}

impl LaneTask {
    pub(super) fn new(
        context: Arc<Context>,
        lane: Lane,
        follower: NodeId,
        addresses: Arc<[String]>,
        commands: mpsc::UnboundedReceiver<Command>,
        other: mpsc::UnboundedSender<Command>,
    ) -> Self {
        assert!(!addresses.is_empty(), "a follower without an address has no lanes");
        let (led, assigned) = (Arc::default(), BTreeMap::new());
        Self { context, lane, follower, addresses, commands, other, led, assigned, outbound: None }
    }

    /// Runs until the sender of commands is gone, or it is dropped.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut stood = false;
        loop {
            if !self.until_wanted().await {
                return;
            }
            match self.context.dial(self.follower, &self.addresses, self.lane).await {
                Ok(link) => {
                    backoff = Backoff::default();
                    stood = true;
                    let (follower, lane) = (self.follower, self.lane);
                    tracing::info!(%follower, %lane, "linked to a follower");
                    let Err(why) = self.serve(link).await else { return };
                    tracing::info!(%follower, %lane, "link to a follower ended: {why}");
                    self.outbound = None;
                }
                Err(why) => {
                    self.report(&why, backoff, stood);
                    stood = false;
                    if !self.pause(backoff.next()).await {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until this lane has something to carry. The live lane always has: what is appended next.
    async fn until_wanted(&mut self) -> bool {
        while self.lane == Lane::CatchUp && self.assigned.is_empty() {
            let Some(command) = self.commands.recv().await else { return false };
            self.obey(command);
        }
        true
    }

    async fn pause(&mut self, pause: Duration) -> bool {
        let paused = sleep(pause);
        tokio::pin!(paused);
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return false,
                },
                () = &mut paused => return true,
            }
        }
    }

    /// A failure to connect. The first one after a connection stood means that the peer is probably gone.
    fn report(&self, why: &LinkError, backoff: Backoff, stood: bool) {
        let (follower, lane) = (self.follower, self.lane);
        if backoff.is_fresh() {
            tracing::warn!(%follower, %lane, "no link to a follower: {why}");
        } else {
            tracing::debug!(%follower, %lane, "still no link to a follower: {why}");
        }
        if stood && lane == Lane::Live {
            // Nobody listens while the node is starting or stopping.
            let _ = self.context.lost.send(PeerLost { node: follower });
        }
    }

    /// Talks until the connection ends (an error), or there are no more commands.
    async fn serve(&mut self, link: Link) -> Result<(), LinkError> {
        let mut outbound = Outbound::new(Arc::clone(&self.context), self.lane, link);
        self.assigned.values().for_each(|led| outbound.begin(*led));
        self.outbound = Some(outbound);
        loop {
            let outbound = self.outbound.as_mut().expect("it was just set, and only `run` takes it");
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return Ok(()),
                },
                switch = outbound.turn() => self.switch(switch?),
            }
        }
    }

    /// Hands partitions over to the other lane.
    fn switch(&mut self, partitions: Vec<Led>) {
        for led in partitions {
            self.assigned.remove(&led.partition);
            // The other lane is gone only while both are being stopped.
            let _ = self.other.send(Command::Begin(led));
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Begin(led) => {
                // Meanwhile it may have been taken from this node, or led anew.
                if self.led.get(&led.partition) == Some(&led) {
                    self.begin(led);
                }
            }
            Command::Lead(led) => self.lead(led),
        }
    }

    /// What is led no more leaves; what is new begins on the live lane.
    fn lead(&mut self, led: Arc<BTreeMap<TopicPartition, Led>>) {
        let before = std::mem::replace(&mut self.led, led);
        let led = Arc::clone(&self.led);
        let gone = |assigned: &Led| led.get(&assigned.partition) != Some(assigned);
        for (partition, _) in self.assigned.extract_if(.., |_, assigned| gone(assigned)) {
            if let Some(outbound) = &mut self.outbound {
                outbound.end(partition);
            }
        }
        if self.lane == Lane::Live {
            for new in led.values().filter(|new| before.get(&new.partition) != Some(new)) {
                self.begin(*new);
            }
        }
    }

    fn begin(&mut self, led: Led) {
        self.assigned.insert(led.partition, led);
        if let Some(outbound) = &mut self.outbound {
            outbound.begin(led);
        }
    }
}

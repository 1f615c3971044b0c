//! `chronik cluster voters`: the Raft group of the metadata.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::connect::{Connected, ordered};
use crate::admin::proto::{
    DemoteVoterRequest, DescribeClusterRequest, DescribeClusterResponse, PromoteVoterRequest, RaftGroup, RaftMember,
    RaftRole, TransferRaftLeadershipRequest,
};
use crate::cli::Failure;
use crate::cli::output::{Done, Output, counted, table};

#[derive(Debug, Args)]
pub(super) struct VotersArgs {
    #[command(subcommand)]
    command: Option<VotersCommand>,
}

#[derive(Debug, Subcommand)]
enum VotersCommand {
    /// Show the members and how far each is
    List,
    /// Make a learner a voter
    Promote(VoterArgs),
    /// Make a voter a learner
    Demote(DemoteArgs),
    /// Have another voter lead
    Transfer(TransferArgs),
}

#[derive(Debug, Args)]
struct VoterArgs {
    /// The node's id
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(i32).range(0..))]
    node: i32,
}

#[derive(Debug, Args)]
struct DemoteArgs {
    #[command(flatten)]
    voter: VoterArgs,
    /// Also where fewer than three voters are left: then the metadata survives the loss of none
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct TransferArgs {
    /// The voter that is to lead; the one that is furthest when not given
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(i32).range(0..))]
    to: Option<i32>,
}

pub(super) async fn run(args: VotersArgs, connected: &Connected, out: Output) -> Result<(), Failure> {
    let mut client = connected.client.clone();
    match args.command.unwrap_or(VotersCommand::List) {
        VotersCommand::List => {
            let group = Group::from(described(connected, false).await?.raft.unwrap_or_default());
            out.document(&group, people)?;
            group.led(connected).await
        }
        VotersCommand::Promote(VoterArgs { node }) => {
            may_be_promoted(&described(connected, true).await?, node)?;
            ordered(client.promote_voter(PromoteVoterRequest { node, ..Default::default() })).await?;
            out.done(&[Done::new("promoted", "node", node.to_string())])
        }
        VotersCommand::Demote(DemoteArgs { voter: VoterArgs { node }, force }) => {
            if !force {
                may_be_demoted(&described(connected, true).await?, node)?;
            }
            ordered(client.demote_voter(DemoteVoterRequest { node, ..Default::default() })).await?;
            out.done(&[Done::new("demoted", "node", node.to_string())])
        }
        VotersCommand::Transfer(args) => {
            let request = TransferRaftLeadershipRequest { to: args.to, ..Default::default() };
            let leader = ordered(client.transfer_raft_leadership(request)).await?.leader;
            out.done(&[Done::new("changed", "leader", leader.to_string())])
        }
    }
}

/// The cluster; `latest`: as its leader knows it.
async fn described(connected: &Connected, latest: bool) -> Result<DescribeClusterResponse, Failure> {
    ordered(connected.client.clone().describe_cluster(DescribeClusterRequest { latest })).await
}

/// A node that is not up can't catch up: its promotion would be waited for in vain.
fn may_be_promoted(cluster: &DescribeClusterResponse, node: i32) -> Result<(), Failure> {
    match cluster.nodes.iter().find(|it| it.id == node) {
        Some(it) if it.fenced => Err(Failure::Failed(format!("node {node} is fenced: start it first"))),
        _ => Ok(()),
    }
}

/// Three voters survive the loss of one, two of none.
fn may_be_demoted(cluster: &DescribeClusterResponse, node: i32) -> Result<(), Failure> {
    let votes = |member: &&RaftMember| matches!(member.role(), RaftRole::Leader | RaftRole::Voter);
    let members = cluster.raft.iter().flat_map(|group| &group.members);
    let left = members.filter(votes).filter(|voter| voter.node != node).count();
    if left >= 3 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} would be left, and the metadata would not survive the loss of one: promote another node first (chronik cluster voters promote), or say --force",
        counted(left as u64, "voter")
    )))
}

/// The Raft group as it is shown.
#[derive(Serialize)]
pub(super) struct Group {
    pub(super) leader: Option<i32>,
    term: u64,
    committed: u64,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    node: i32,
    role: &'static str,
    address: String,
    directory: String,
    matched: Option<u64>,
    last_contact_ms: Option<u64>,
    receives_snapshot: bool,
}

impl From<RaftGroup> for Group {
    fn from(group: RaftGroup) -> Self {
        let member = |member: RaftMember| Member {
            node: member.node,
            role: role_name(member.role()),
            matched: member.progress.map(|progress| progress.matched_index),
            last_contact_ms: member.progress.and_then(|progress| progress.last_contact_ms),
            receives_snapshot: member.progress.is_some_and(|progress| progress.receives_snapshot),
            address: member.grpc_address,
            directory: member.directory,
        };
        let members = group.members.into_iter().map(member).collect();
        Self { leader: group.leader, term: group.term, committed: group.committed, members }
    }
}

impl Group {
    /// A failure where nobody leads, with the voters that can't be reached: what was shown is what one node knew last.
    pub(super) async fn led(&self, connected: &Connected) -> Result<(), Failure> {
        if self.leader.is_some() {
            return Ok(());
        }
        let voters = self.members.iter().filter(|member| member.role == role_name(RaftRole::Voter));
        let unreachable = connected.unreachable(voters.map(|voter| voter.address.as_str())).await?;
        let unreachable = if unreachable.is_empty() {
            String::new()
        } else {
            format!(" (not reached from here: {})", unreachable.join("; "))
        };
        Err(Failure::Failed(format!(
            "the metadata has no leader: a majority of the voters must be up; what is shown is what the node that was asked knew last{unreachable}"
        )))
    }
}

/// The group as a line and a table.
pub(super) fn people(group: &Group) -> String {
    let unknown = || "-".to_owned();
    let rows = group.members.iter().map(|member| {
        let behind = member.matched.map(|matched| group.committed.saturating_sub(matched).to_string());
        vec![
            member.node.to_string(),
            member.role.to_owned(),
            member.address.clone(),
            if member.receives_snapshot { "snapshot".to_owned() } else { behind.unwrap_or_else(unknown) },
            member.last_contact_ms.map_or_else(unknown, |ms| format!("{ms} ms ago")),
            member.directory.clone(),
        ]
    });
    let leader = group.leader.map_or_else(|| "no leader".to_owned(), |leader| format!("leader {leader}"));
    format!(
        "{leader}, term {}, committed {}\n\n{}",
        group.term,
        group.committed,
        table(&["NODE", "ROLE", "ADDRESS", "BEHIND", "HEARD", "DIRECTORY"], rows)
    )
}

/// A role in a word.
pub(super) fn role_name(role: RaftRole) -> &'static str {
    match role {
        RaftRole::Leader => "leader",
        RaftRole::Voter => "voter",
        RaftRole::Learner => "learner",
        RaftRole::Joining => "joining",
        RaftRole::Unspecified => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::proto::{Node, RaftProgress};

    fn voters(count: i32) -> DescribeClusterResponse {
        let role = |node| if node == 0 { RaftRole::Leader } else { RaftRole::Voter };
        let member = |node| RaftMember { node, role: role(node).into(), ..Default::default() };
        DescribeClusterResponse {
            raft: Some(RaftGroup { members: (0..count).map(member).collect(), ..Default::default() }),
            nodes: vec![Node { id: 7, fenced: true, ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn three_voters_stay_unless_it_is_forced() {
        assert!(may_be_demoted(&voters(4), 1).is_ok());
        let why = may_be_demoted(&voters(3), 1).expect_err("two are left").to_string();
        assert!(why.starts_with("2 voters would be left") && why.contains("--force"), "{why}");
        assert!(may_be_demoted(&voters(3), 9).is_ok(), "it is no voter: the service tells");
    }

    #[test]
    fn a_node_that_is_down_is_not_waited_for() {
        assert!(may_be_promoted(&voters(3), 7).is_err());
        assert!(may_be_promoted(&voters(3), 1).is_ok());
    }

    #[test]
    fn members_tell_how_far_they_are_behind() {
        let member = |node, role: RaftRole, progress| RaftMember {
            node,
            role: role.into(),
            grpc_address: format!("n{node}:9391"),
            progress,
            ..Default::default()
        };
        let progress = RaftProgress { matched_index: 90, last_contact_ms: Some(12), ..Default::default() };
        let members = vec![member(0, RaftRole::Leader, None), member(1, RaftRole::Learner, Some(progress))];
        let group = RaftGroup { leader: Some(0), term: 2, committed: 100, members };
        assert_eq!(
            people(&Group::from(group)),
            "leader 0, term 2, committed 100\n\n\
             NODE  ROLE     ADDRESS  BEHIND  HEARD      DIRECTORY\n\
             0     leader   n0:9391  -       -\n\
             1     learner  n1:9391  10      12 ms ago\n"
        );
    }
}

//! `chronik cluster voters`: the Raft group of the metadata.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::connect::Connected;
use crate::admin::proto::{
    DemoteVoterRequest, DescribeClusterRequest, PromoteVoterRequest, RaftGroup, RaftMember, RaftRole,
    TransferRaftLeadershipRequest,
};
use crate::cli::Failure;
use crate::cli::output::{Done, Output, table};

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
    Demote(VoterArgs),
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
struct TransferArgs {
    /// The voter that is to lead; the one that is furthest when not given
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(i32).range(0..))]
    to: Option<i32>,
}

pub(super) async fn run(args: VotersArgs, connected: &Connected, out: Output) -> Result<(), Failure> {
    let mut client = connected.client.clone();
    match args.command.unwrap_or(VotersCommand::List) {
        VotersCommand::List => {
            let answer = client.describe_cluster(DescribeClusterRequest { latest: false }).await?.into_inner();
            let group = Group::from(answer.raft.unwrap_or_default());
            out.document(&group, people)
        }
        VotersCommand::Promote(args) => {
            client.promote_voter(PromoteVoterRequest { node: args.node, ..Default::default() }).await?;
            out.done(&[Done::new("promoted", "node", args.node.to_string())])
        }
        VotersCommand::Demote(args) => {
            client.demote_voter(DemoteVoterRequest { node: args.node, ..Default::default() }).await?;
            out.done(&[Done::new("demoted", "node", args.node.to_string())])
        }
        VotersCommand::Transfer(args) => {
            let request = TransferRaftLeadershipRequest { to: args.to, ..Default::default() };
            let leader = client.transfer_raft_leadership(request).await?.into_inner().leader;
            out.done(&[Done::new("changed", "leader", leader.to_string())])
        }
    }
}

/// The Raft group as it is shown.
#[derive(Serialize)]
pub(super) struct Group {
    leader: Option<i32>,
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
    use crate::admin::proto::RaftProgress;

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

//! `chronik dev`: a cluster on this machine, to try things and to break things. Each node is a process of its own: one that
//! is killed comes back.

mod layout;
mod member;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures::future::{join_all, select_all};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::topic::parse_pair;
use crate::config;
use layout::Layout;
use member::Member;

/// How long the nodes may take until they all serve.
const SERVE_WITHIN: Duration = Duration::from_mins(1);

/// Nodes have the ids 0, 1, … and the ports P, P+1, … for clients, with those of the links 199 and 299 higher, and HTTP's 399.
#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: u16,
    /// The folder with a folder for each node: its data, and its log
    #[arg(long, value_name = "DIR", default_value = "./dev-data")]
    data_dir: PathBuf,
    /// The port of the first node
    #[arg(long, value_name = "P", default_value_t = 9092, value_parser = clap::value_parser!(u16).range(1..=60000))]
    base_port: u16,
    /// Any setting, for all nodes; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
}

/// Runs the cluster until it is told to stop, or a node can't go on.
pub(super) async fn run(args: DevArgs) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let layout = Layout::new(args.nodes, args.base_port, args.data_dir, args.set);
    check(&layout)?;
    let mut members = Vec::new();
    for node in layout.nodes() {
        members.push(Member::start(&layout, node)?);
    }
    let running = async {
        serve(&layout, &mut members).await?;
        tell(&layout, &members)?;
        keep(&mut members).await
    };
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = running => ended,
    };
    let stopped = join_all(members.iter_mut().map(Member::stop)).await;
    outcome.and(stopped.into_iter().collect())
}

/// Whether the nodes may be started so. Another cluster that is served at these addresses would be taken for this one.
fn check(layout: &Layout) -> Result<(), Failure> {
    for node in layout.nodes() {
        let config = config::load(None, [], layout.settings(node)).map_err(|why| Failure::Usage(why.to_string()))?;
        let links = &config.cluster;
        for address in [&config.kafka_addr, &links.wal_receiver_addr, &links.grpc_addr, &config.http_addr] {
            let bound = TcpListener::bind((address.host.as_str(), address.port));
            let cannot =
                |why| Failure::Usage(format!("node {node} can't listen on {address} (see --base-port): {why}"));
            bound.map_err(cannot)?;
        }
    }
    Ok(())
}

fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::Failed(why.to_string())
}

/// Waits until all nodes serve.
async fn serve(layout: &Layout, members: &mut [Member]) -> Result<(), Failure> {
    let all = join_all(members.iter_mut().map(Member::until_it_serves));
    let served = tokio::time::timeout(SERVE_WITHIN, all).await;
    let late = |_| failed(format!("the nodes do not serve yet; see the logs in {}", layout.data_dir().display()));
    served.map_err(late)?.into_iter().collect()
}

/// Starts nodes again that end by themselves, or are killed.
async fn keep(members: &mut [Member]) -> Result<(), Failure> {
    loop {
        let (status, at, others) = select_all(members.iter_mut().map(|member| Box::pin(member.ended()))).await;
        drop(others);
        members[at].start_again(status?)?;
    }
}

/// What there is now, and what may be tried.
fn tell(layout: &Layout, members: &[Member]) -> Result<(), Failure> {
    use std::io::Write as _;
    let bootstrap = layout.bootstrap();
    let program = std::env::args().next().unwrap_or_else(|| "chronik".to_owned());
    let first = members.first().expect("there is a node because the arguments say so").pid();
    let (replicas, admin) = (layout.replicas(), layout.admin());
    let text = format!(
        "\n{} serve{} {bootstrap}; data and logs are in {}. Ctrl-C stops them.\n\nTo try it, in another terminal:\n\
         \x20 export CHRONIK_BOOTSTRAP={bootstrap} CHRONIK_ADMIN={admin}\n\
         \x20 {program} topic create greetings --partitions 3 --replication-factor {replicas}\n\
         \x20 echo 'hello, log' | {program} produce greetings\n\
         \x20 {program} consume greetings --from-beginning --exit-at-end\n\
         \x20 {program} cluster status\n\
         \x20 kill -9 {first}    # node 0: it comes back by itself\n\n",
        if members.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", members.len()) },
        if members.len() == 1 { "s" } else { "" },
        layout.data_dir().display(),
    );
    std::io::stdout().write_all(text.as_bytes()).map_err(failed)
}

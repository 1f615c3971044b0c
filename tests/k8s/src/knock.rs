//! Knocking: what each port between nodes (WAL, Raft, admin) says to a caller with these credentials, or with none. Each
//! protocol is spoken as far as its check of the caller, and nothing is changed.

mod link;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chronik_broker::admin::Claim;
use chronik_broker::admin::proto::DescribeClusterRequest;
use chronik_broker::admin::proto::admin_client::AdminClient;
use chronik_broker::ids::{BrokerEpoch, NodeId};
use chronik_broker::io::grpc;
use chronik_broker::io::net::{Expected, Network as _};
use chronik_broker::raft::peers::proto;
use chronik_broker::raft::peers::proto::peers_client::PeersClient;
use chronik_broker::stream::links::codec::{self, HANDSHAKE_BYTES};
use chronik_broker::stream::links::frame::{Frame, Hello, Identity, Lane};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use uuid::Uuid;

use link::Link;

/// How long a port may take to say something.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Who knocks, and where.
#[derive(Debug, Clone, Args)]
pub struct KnockArgs {
    /// The node's WAL port
    #[arg(long, value_name = "HOST:PORT")]
    pub wal: String,
    /// Its gRPC port, of Raft and of the admin service
    #[arg(long, value_name = "HOST:PORT")]
    pub grpc: String,
    /// The node that is meant
    #[arg(long, value_name = "NODE")]
    pub to: i32,
    /// The cluster that the caller says it is of
    #[arg(long, value_name = "ID")]
    pub cluster: String,
    /// The node that the caller says it is
    #[arg(long, value_name = "NODE")]
    pub node: i32,
    /// The data folder that it says it has
    #[arg(long, value_name = "UUID", default_value_t = Uuid::nil())]
    pub directory: Uuid,
    /// The registration that it says it has
    #[arg(long, default_value_t = 0)]
    pub epoch: i64,
    /// Say nothing on the admin port, as operators do
    #[arg(long)]
    pub operator: bool,
    /// The folder with the caller's tls.crt and tls.key; without it there is no certificate
    #[arg(long, value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// No TLS at all
    #[arg(long, conflicts_with = "tls_dir")]
    pub plaintext: bool,
}

/// What a port said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the caller was let in.
    pub let_in: bool,
    /// Why not.
    pub why: String,
}

/// What the three ports said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The WAL port.
    pub wal: Answer,
    /// The Raft peers' service.
    pub raft: Answer,
    /// The admin service.
    pub admin: Answer,
    /// The nodes, where the admin service told them.
    pub nodes: Vec<Registered>,
}

/// A node, as the admin service told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Its id.
    pub node: i32,
    /// The identity of its data folder.
    pub directory: String,
    /// Its registration.
    pub epoch: i64,
}

impl Answer {
    fn refused(why: impl ToString) -> Self {
        Self { let_in: false, why: why.to_string() }
    }

    const LET_IN: Self = Self { let_in: true, why: String::new() };
}

/// Knocks at each port, and prints what they said.
///
/// # Errors
/// A port can't be reached, or says nothing that means yes or no.
pub async fn knock(args: KnockArgs) -> Result<(), String> {
    let answers = answers(&args).await?;
    println!("{}", serde_json::to_string(&answers).map_err(|why| why.to_string())?);
    Ok(())
}

async fn answers(args: &KnockArgs) -> Result<Answers, String> {
    let link = Link::open(args.tls_dir.as_deref(), args.plaintext)?;
    // Who is not there refuses nobody.
    for address in [&args.wal, &args.grpc] {
        TcpStream::connect(address).await.map_err(|why| format!("{address}: {why}"))?;
    }
    let wal = in_time("the WAL port", wal(args, &link)).await?;
    let raft = in_time("Raft", raft(args, &link)).await?;
    let (admin, nodes) = in_time("the admin service", admin(args, &link)).await?;
    Ok(Answers { wal, raft, admin, nodes })
}

async fn in_time<T>(what: &str, asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, asked).await;
    answered.unwrap_or_else(|_| Err("no answer".to_owned())).map_err(|why| format!("{what}: {why}"))
}

fn node(id: i32) -> Result<NodeId, String> {
    NodeId::try_from(id).map_err(|why| why.to_string())
}

async fn wal(args: &KnockArgs, link: &Link) -> Result<Answer, String> {
    let epoch = BrokerEpoch::try_from(args.epoch).map_err(|why| why.to_string())?;
    let from = Identity { node: node(args.node)?, directory: args.directory, epoch };
    // The lane on which nothing waits: one that stands is dialled again when it is needed.
    let hello = Hello { cluster: args.cluster.clone(), from, to: node(args.to)?, lane: Lane::CatchUp };
    match greet(args, link, &Frame::Hello(hello)).await {
        Ok(Some(Frame::HelloAck(answering))) if answering.node.get() == args.to => Ok(Answer::LET_IN),
        Ok(Some(Frame::Refused(why))) => Ok(Answer::refused(why)),
        Ok(Some(other)) => Err(format!("{other:?} answers a Hello")),
        Ok(None) => Ok(Answer::refused("closed")),
        Err(why) => Ok(Answer::refused(why)),
    }
}

/// The first frame that answers this one; `None` where the connection is closed.
async fn greet(args: &KnockArgs, link: &Link, hello: &Frame) -> io::Result<Option<Frame>> {
    let mut stream = link.dial(&args.wal).await?.stream;
    let mut pieces: Vec<Bytes> = Vec::new();
    codec::encode(hello, &mut pieces);
    for piece in pieces {
        stream.write_all(&piece).await?;
    }
    stream.flush().await?;
    let mut received = BytesMut::new();
    loop {
        if let Some(frame) = codec::decode(&mut received, HANDSHAKE_BYTES).map_err(io::Error::other)? {
            return Ok(Some(frame));
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(None);
        }
    }
}

/// Where the link proves nobody, whoever answers is as good as expected.
async fn dial(args: &KnockArgs, link: &Link) -> io::Result<grpc::Dialled> {
    let expected = Expected { cluster: args.cluster.clone(), node: Some(args.to) };
    grpc::dial(link, &args.grpc, &expected).await
}

async fn raft(args: &KnockArgs, link: &Link) -> Result<Answer, String> {
    let directory = Bytes::copy_from_slice(args.directory.as_bytes());
    let from = proto::Identity { node: args.node, directory };
    let envelope = proto::Envelope { cluster_id: args.cluster.clone(), from: Some(from), to: None };
    let dialled = match dial(args, link).await {
        Ok(dialled) => dialled,
        Err(why) => return Ok(Answer::refused(why)),
    };
    let request = proto::ProbeRequest { envelope: Some(envelope) };
    match PeersClient::new(dialled.channel).probe(request).await {
        Ok(answer) if answer.get_ref().node.as_ref().is_some_and(|node| node.node == args.to) => Ok(Answer::LET_IN),
        Ok(answer) => Err(format!("{:?} answers", answer.into_inner().node)),
        Err(status) => refusal(&status),
    }
}

async fn admin(args: &KnockArgs, link: &Link) -> Result<(Answer, Vec<Registered>), String> {
    let claim = if args.operator { Claim::OPERATOR } else { Claim::node(node(args.node)?, Some(args.directory)) };
    let dialled = match dial(args, link).await {
        Ok(dialled) => dialled,
        Err(why) => return Ok((Answer::refused(why), Vec::new())),
    };
    let mut client = AdminClient::with_interceptor(dialled.channel, claim);
    match client.describe_cluster(DescribeClusterRequest { latest: true }).await {
        Ok(answer) => {
            let nodes = answer.into_inner().nodes.into_iter();
            let nodes = nodes.map(|it| Registered { node: it.id, directory: it.directory, epoch: it.epoch });
            Ok((Answer::LET_IN, nodes.collect()))
        }
        Err(status) => Ok((refusal(&status)?, Vec::new())),
    }
}

/// A refusal by the service, or by what closed the connection; an error where it is neither.
fn refusal(status: &Status) -> Result<Answer, String> {
    match (status.code(), grpc::innermost(status)) {
        (Code::Unauthenticated | Code::PermissionDenied, _) => Ok(Answer::refused(status.message())),
        (_, Some(why)) => Ok(Answer::refused(why)),
        (code, None) => Err(format!("{code}: {}", status.message())),
    }
}

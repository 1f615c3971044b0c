//! Over mutual TLS: each end is the node that the other takes it for, or nothing is said.

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::*;
use crate::admin::Callers;
use crate::io::grpc;
use crate::io::net::Network as _;
use crate::io::net::tls::TlsNetwork;
use crate::io::net::tls::testing::Authority;

/// The links of the process with this node's certificate.
async fn links(authority: &Authority, node: i32) -> (Arc<TlsNetwork>, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    authority.issue(dir.path(), &[&format!("chronik://c/node/{node}")]);
    let network = TlsNetwork::open(Arc::new(RealNetwork), dir.path()).await.expect("they are good");
    (Arc::new(network), dir)
}

/// What went wrong, and its causes.
fn causes(status: &Status) -> String {
    let first: &dyn std::error::Error = status;
    let each: Vec<String> =
        std::iter::successors(Some(first), |cause| cause.source()).map(ToString::to_string).collect();
    each.join("; ")
}

#[tokio::test]
async fn a_node_is_asked_by_the_node_that_it_knows_and_asks_no_other() {
    let (authority, cluster, stop) = (Authority::new(), Cluster::of(2).await, CancellationToken::new());
    let ((zero, _zero), (one, _one)) = (links(&authority, 0).await, links(&authority, 1).await);
    let listener = zero.listen("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().to_string();
    let callers = Callers::new("c", cluster.plane.clone());
    let service = admin_server::AdminServer::with_interceptor(cluster.services[0].clone(), callers);
    let server = tokio::spawn(grpc::serve(listener, Routes::new(service), stop.clone()));

    let says = |cluster: &str, node, directory| GrpcNodes::new(one.clone(), cluster, Claim::node(id(node), directory));
    let own = says("c", 1, Some(node(1).directory));
    assert_eq!(own.raft(id(0), &address).await.expect("both are who they say").leader, Some(0));
    let mistaken = own.raft(id(2), &address).await.expect_err("node 2 is not at this address");
    let why = "answers with the certificate of node 0 of c, not of node 2 of c";
    assert!(causes(&mistaken).contains(why), "{}", causes(&mistaken));
    assert_eq!(mistaken.code(), Code::Unavailable);
    let elsewhere = says("d", 1, None).raft(id(0), &address).await.expect_err("another cluster's node 0");
    assert!(causes(&elsewhere).contains("not of node 0 of d"), "{}", causes(&elsewhere));
    let other = says("c", 0, None).raft(id(0), &address).await.expect_err("the certificate is node 1's");
    assert_eq!(other.code(), Code::Unauthenticated, "{other}");
    let wiped = says("c", 1, Some(Uuid::from_u128(1))).raft(id(0), &address).await.expect_err("another folder");
    assert_eq!(wiped.code(), Code::PermissionDenied, "{wiped}");
    stop.cancel();
    server.await.expect("it does not panic").expect("it ends in order");
}

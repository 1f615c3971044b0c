//! Who gets through, who does not, and what a reload changes.

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::testing::{Authority, write};
use super::*;
use crate::io::net::real::RealNetwork;

async fn network(dir: &TempDir) -> TlsNetwork {
    TlsNetwork::open(Arc::new(RealNetwork), dir.path()).await.unwrap()
}

/// Credentials with these names.
fn credentials(authority: &Authority, uris: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    authority.issue(dir.path(), uris);
    dir
}

fn node(id: i32) -> PeerIdentity {
    PeerIdentity { cluster: "c1".to_owned(), node: Some(id) }
}

/// What both ends see of each other when `from` dials `to`. In TLS 1.3 the client learns that it was refused by its
/// first read.
async fn meet(from: &TlsNetwork, to: &TlsNetwork) -> (io::Result<Connection>, Option<Connection>) {
    let mut listener = to.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().to_string();
    let dialling = async {
        let mut connection = from.dial(&address).await?;
        connection.stream.write_all(b"ping").await?;
        connection.stream.flush().await?;
        connection.stream.read_exact(&mut [0; 4]).await?;
        Ok(connection)
    };
    let accepting = async {
        let mut connection = listener.accept().await.unwrap();
        let mut ping = [0; 4];
        connection.stream.read_exact(&mut ping).await.unwrap();
        connection.stream.write_all(&ping).await.unwrap();
        connection.stream.flush().await.unwrap();
        connection
    };
    tokio::pin!(dialling, accepting);
    tokio::select! {
        dialled = &mut dialling => match dialled {
            Ok(dialled) => (Ok(dialled), Some(accepting.await)),
            Err(refused) => (Err(refused), None),
        },
        accepted = &mut accepting => (dialling.await, Some(accepted)),
    }
}

#[tokio::test]
async fn both_ends_prove_who_they_are() {
    let authority = Authority::new();
    let one = credentials(&authority, &["chronik://c1/node/1"]);
    let two = credentials(&authority, &["https://elsewhere", "chronik://c1/node/2"]);
    let (one, two) = (network(&one).await, network(&two).await);
    assert_eq!(one.identity(), node(1));
    let (dialled, accepted) = meet(&one, &two).await;
    assert_eq!((dialled.unwrap().identity, accepted.unwrap().identity), (Some(node(2)), Some(node(1))));
}

#[tokio::test]
async fn an_operator_is_no_node() {
    let authority = Authority::new();
    let operator = credentials(&authority, &["chronik://c1/operator"]);
    let two = credentials(&authority, &["chronik://c1/node/2"]);
    let (dialled, accepted) = meet(&network(&operator).await, &network(&two).await).await;
    let nobody = PeerIdentity { cluster: "c1".to_owned(), node: None };
    assert_eq!((dialled.unwrap().identity, accepted.unwrap().identity), (Some(node(2)), Some(nobody)));
}

#[tokio::test]
async fn another_authority_is_not_trusted_on_either_end() {
    let one = credentials(&Authority::new(), &["chronik://c1/node/1"]);
    let two = credentials(&Authority::new(), &["chronik://c1/node/2"]);
    let (one, two) = (network(&one).await, network(&two).await);
    let (dialled, accepted) = meet(&one, &two).await;
    assert!(dialled.is_err() && accepted.is_none());
    // Who trusts both, but is trusted by the other only.
    let trusting = tempfile::tempdir().unwrap();
    Authority::new().issue(trusting.path(), &["chronik://c1/node/1"]);
    std::fs::copy(two.dir.join("ca.crt"), trusting.path().join("ca.crt")).unwrap();
    let (dialled, accepted) = meet(&network(&trusting).await, &two).await;
    assert!(dialled.is_err() && accepted.is_none());
}

#[tokio::test]
async fn plain_connections_and_slow_ones_are_in_nobodys_way() {
    let authority = Authority::new();
    let one = credentials(&authority, &["chronik://c1/node/1"]);
    let one = network(&one).await;
    let mut listener = one.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().to_string();
    let _slow = RealNetwork.dial(&address).await.unwrap();
    let mut plain = RealNetwork.dial(&address).await.unwrap();
    plain.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (dialled, accepted) = tokio::join!(one.dial(&address), listener.accept());
    assert_eq!((dialled.unwrap().identity, accepted.unwrap().identity), (Some(node(1)), Some(node(1))));
}

#[tokio::test]
async fn new_files_are_taken_without_touching_connections_that_stand() {
    let (old, new) = (Authority::new(), Authority::new());
    let one = credentials(&old, &["chronik://c1/node/1"]);
    let two = credentials(&old, &["chronik://c1/node/2"]);
    let (network_one, network_two) = (network(&one).await, network(&two).await);
    let (standing, accepted) = meet(&network_one, &network_two).await;
    let (mut standing, mut accepted) = (standing.unwrap(), accepted.unwrap());
    assert!(!network_one.reload().await.unwrap(), "nothing has changed");

    // Both authorities are trusted while the certificates change, one node after the other.
    let both = old.pem() + &new.pem();
    new.issue(one.path(), &["chronik://c1/node/1"]);
    write(one.path(), "ca.crt", &both);
    write(two.path(), "ca.crt", &both);
    assert!(network_one.reload().await.unwrap() && network_two.reload().await.unwrap());
    let (dialled, again) = meet(&network_one, &network_two).await;
    assert_eq!((dialled.unwrap().identity, again.unwrap().identity), (Some(node(2)), Some(node(1))));

    standing.stream.write_all(b"still").await.unwrap();
    standing.stream.flush().await.unwrap();
    let mut still = [0; 5];
    accepted.stream.read_exact(&mut still).await.unwrap();
    assert_eq!(&still, b"still");
}

#[tokio::test]
async fn bad_files_are_refused_by_name_and_the_good_ones_stay() {
    let authority = Authority::new();
    let dir = credentials(&authority, &["chronik://c1/node/1"]);
    let network = network(&dir).await;
    let refused = async || network.reload().await.unwrap_err().to_string();
    write(dir.path(), "tls.key", "half a k");
    assert!(refused().await.contains("tls.key"));
    authority.issue(dir.path(), &["https://elsewhere"]);
    assert!(refused().await.contains("tls.crt: the certificate has no name of the form chronik://"));
    authority.issue(dir.path(), &["chronik://c1/node/1", "chronik://c1/node/2"]);
    assert!(refused().await.contains("more than one"));
    authority.issue(dir.path(), &["chronik://c1/node/one"]);
    assert!(refused().await.contains("chronik://c1/node/one is not of the form"));
    write(dir.path(), "ca.crt", "");
    assert!(refused().await.contains("ca.crt: no certificate in it") || refused().await.contains("tls.crt"));
    std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
    assert!(refused().await.contains("read") && refused().await.contains("ca.crt"));
    assert_eq!(network.identity(), node(1));
}

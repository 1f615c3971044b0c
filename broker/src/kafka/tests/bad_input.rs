//! A client can send anything: it loses its connection, and nobody else notices.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::toy::{ECHO, PANIC, Server, frame};
use crate::kafka::limits::Limits;

const API_VERSIONS: i16 = 18;

/// Sends `bytes` on a connection of its own and expects its end, while another connection works before and after.
async fn ends(server: &Server, bytes: &[u8]) {
    let (mut client, mut other) = (server.client().await, server.client().await);
    other.works().await;
    client.send(bytes).await;
    client.closed().await;
    other.works().await;
}

#[tokio::test]
async fn impossible_sizes_end_the_connection() {
    let server = Server::start(Limits::default()).await;
    for size in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
        ends(&server, &size.to_be_bytes()).await;
    }
    // Too short for a header.
    for size in 0..8_i32 {
        ends(&server, &[&size.to_be_bytes()[..], &vec![0; size as usize]].concat()).await;
    }
    // Only Produce may be as long as `socket.request.max.bytes`.
    ends(&server, &[&(17_i32 << 20).to_be_bytes()[..], &ECHO.to_be_bytes()].concat()).await;
}

#[tokio::test]
async fn unknown_apis_and_versions_end_the_connection() {
    let server = Server::start(Limits::default()).await;
    for (api, version) in [(999, 0), (-1, 0), (4, 0), (ECHO, 4), (ECHO, -1), (ECHO, i16::MAX)] {
        ends(&server, &frame(api, version, 1, b"")).await;
    }
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_told_the_known_ones() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    for version in [4, 99, -1] {
        client.send(&frame(API_VERSIONS, version, 9, b"")).await;
        assert_eq!(client.response().await, (9, vec![0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5]));
    }
    client.works().await;
}

#[tokio::test]
async fn malformed_headers_end_the_connection() {
    let server = Server::start(Limits::default()).await;
    for client_id in [&[0, 9, b'x'][..], &[0xff, 0xfe], &[0, 1, 0xff], &[0]] {
        let fixed = [0, 3, 0, 0, 0, 0, 0, 1];
        let size = (fixed.len() + client_id.len()) as i32;
        ends(&server, &[&size.to_be_bytes()[..], &fixed, client_id].concat()).await;
    }
}

#[tokio::test]
async fn other_protocols_end_the_connection() {
    let server = Server::start(Limits::default()).await;
    ends(&server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    ends(&server, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;
    ends(&server, b"SSH-2.0-OpenSSH_9.2\r\n").await;
}

#[test]
fn random_bytes_never_disturb_other_connections() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start(Limits::default()));
    // A frame of random content, or random bytes outright.
    let framed = prop::collection::vec(any::<u8>(), 0..200)
        .prop_map(|body| [&(body.len() as i32).to_be_bytes()[..], &body].concat());
    let any_bytes = prop::collection::vec(any::<u8>(), 0..200);
    TestRunner::default()
        .run(&prop_oneof![framed, any_bytes], |bytes| {
            runtime.block_on(async {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let (mut client, mut other) = (server.client().await, server.client().await);
                client.send(&bytes).await;
                let _ = client.stream.shutdown().await;
                let _ = super::toy::soon(client.stream.read_to_end(&mut Vec::new())).await;
                other.works().await;
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_panic_in_a_handler_is_not_swallowed() {
    let server = Server::start(Limits::default()).await;
    server.client().await.send(&frame(ECHO, 0, 1, PANIC)).await;
    let error = server.task.await.expect_err("the listener's task ends with the panic");
    assert!(error.is_panic());
}

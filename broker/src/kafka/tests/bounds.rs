//! What one client can take from the others: connections, memory and time are bounded.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::toy::{ECHO, FETCH, HELD, HELD_BYTES, JOIN, PRODUCE, Server, Toy, frame, soon};
use crate::kafka::connection::Connection;
use crate::kafka::limits::Limits;

/// Bounds of time that a test can wait for.
fn hasty() -> Limits {
    Limits { transfer_grace: Duration::from_millis(50), min_bytes_per_second: 1 << 30, ..Limits::default() }
}

#[tokio::test]
async fn a_request_that_does_not_arrive_in_time_ends_the_connection() {
    let server = Server::start(hasty()).await;
    let whole = frame(ECHO, 0, 1, b"half");
    for part in [1, 4, 6, 20] {
        let mut client = server.client().await;
        client.works().await;
        client.send(&whole[..part]).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn a_trickle_of_bytes_does_not_extend_the_time() {
    let server = Server::start(hasty()).await;
    let client = server.client().await;
    let (mut receive, mut send) = client.stream.into_split();
    let trickle = tokio::spawn(async move {
        let mut bytes = [&(1_i32 << 20).to_be_bytes()[..], &vec![0; 1 << 20]].concat().into_iter();
        while let Some(byte) = bytes.next()
            && send.write_all(&[byte]).await.is_ok()
        {
            tokio::task::yield_now().await;
        }
        bytes.len()
    });
    let _ = soon(receive.read_to_end(&mut Vec::new())).await;
    assert!(trickle.await.unwrap() > 0, "it ended before the request was whole");
}

#[tokio::test]
async fn responses_that_are_not_taken_end_the_connection() {
    let server = Server::start(hasty()).await;
    let mut client = server.client().await;
    server.open(1).await;
    // Asks for far more than the socket's buffers hold, and reads nothing.
    let request = frame(ECHO, 0, 1, &vec![7; 1 << 20]);
    while client.stream.write_all(&request).await.is_ok() {}
    server.open(0).await;
}

/// A consumer that stops reading holds its records' memory only as long as nobody else needs it.
#[tokio::test]
async fn a_reader_that_does_not_take_its_responses_loses_their_memory_to_those_who_wait_for_it() {
    let contended_reader_grace = Duration::from_millis(50);
    let server =
        Server::start(Limits { contended_reader_grace, contended_grace: contended_reader_grace, ..Limits::default() })
            .await;
    let (mut stuck, mut other) = (server.client().await, server.client().await);
    stuck.send(&frame(HELD, 0, 1, b"")).await;
    // Its response has begun to arrive: the memory is held, and stays so.
    soon(stuck.stream.readable()).await.unwrap();
    other.send(&frame(HELD, 0, 2, b"")).await;
    assert_eq!(other.response().await.1.len(), HELD_BYTES);
    server.open(1).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(Limits { max_idle: Some(Duration::from_millis(50)), ..Limits::default() }).await;
    let (mut idle, mut waiting) = (server.client().await, server.client().await);
    waiting.send(&frame(JOIN, 0, 1, b"join")).await;
    server.toy.saw("+join").await;
    idle.closed().await;
    server.toy.settle("join");
    assert_eq!(waiting.response().await.0, 1, "waiting for an answer is not idling");
    waiting.closed().await;
}

#[tokio::test]
async fn connections_beyond_the_limits_are_turned_away() {
    let server = Server::start(Limits { max_connections_per_ip: 2, ..Limits::default() }).await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.works().await;
    second.works().await;
    server.client().await.closed().await;
    drop(first);
    server.open(1).await;
    server.client().await.works().await;
    second.works().await;
}

#[tokio::test]
async fn requests_wait_for_memory_and_all_are_answered() {
    let server = Server::start(Limits { max_queued_bytes: 10_000, ..Limits::default() }).await;
    let (mut holder, mut large) = (server.client().await, server.client().await);
    holder.send(&frame(PRODUCE, 0, 1, b"held")).await;
    server.toy.saw("+held").await;
    // More than there is: it has memory of its own.
    large.send(&frame(ECHO, 0, 2, &vec![7; 20_000])).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        let mut other = server.client().await;
        other.send(&frame(ECHO, 0, 3, &[7; 4_000])).await;
        others.push(other);
    }
    server.toy.settle("held");
    assert_eq!(holder.response().await.0, 1);
    assert_eq!(large.response().await.1.len(), 20_000);
    for other in &mut others {
        assert_eq!(other.response().await.1.len(), 4_000);
    }
}

#[tokio::test]
async fn half_requests_that_stall_lose_their_memory_to_those_who_wait_for_it() {
    let grace = Duration::from_millis(50);
    let server = Server::start(Limits { max_queued_bytes: 10_000, contended_grace: grace, ..Limits::default() }).await;
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let mut client = server.client().await;
        client.send(&frame(ECHO, 0, 1, &[7; 6_000])[..100]).await;
        stalled.push(client);
    }
    let mut other = server.client().await;
    other.send(&frame(ECHO, 0, 2, &[7; 6_000])).await;
    assert_eq!(other.response().await.1.len(), 6_000);
    // Nobody waits any more: whoever has not been closed may take its time.
    server.client().await.works().await;
}

/// A Fetch may ask to wait for weeks, a JoinGroup for members that never come.
#[tokio::test]
async fn large_requests_that_wait_long_lose_their_memory_to_those_who_wait_for_it() {
    for api in [FETCH, JOIN] {
        let grace = Duration::from_millis(50);
        let limits =
            Limits { max_queued_bytes: 10_000, contended_grace: grace, transfer_grace: grace, ..Limits::default() };
        let server = Server::start(limits).await;
        let mut waiting = server.client().await;
        let body = "w".repeat(6_000);
        waiting.send(&frame(api, 0, 1, body.as_bytes())).await;
        server.toy.saw(&format!("+{body}")).await;
        let mut other = server.client().await;
        other.send(&frame(ECHO, 0, 2, &[7; 6_000])).await;
        assert_eq!(other.response().await.1.len(), 6_000);
        waiting.closed().await;
    }
}

#[tokio::test]
async fn a_client_may_leave_while_it_waits_for_memory() {
    let server = Server::start(Limits { max_queued_bytes: 1_000, ..Limits::default() }).await;
    let (mut holder, mut leaving) = (server.client().await, server.client().await);
    holder.send(&frame(PRODUCE, 0, 1, &[b'h'; 900])).await;
    server.toy.saw(&format!("+{}", "h".repeat(900))).await;
    leaving.send(&frame(ECHO, 0, 2, &[7; 500])[..200]).await;
    server.open(2).await;
    drop(leaving);
    server.open(1).await;
    drop(holder);
    let body: &'static str = Box::leak("h".repeat(900).into_boxed_str());
    server.toy.settle(body);
    server.open(0).await;
    server.client().await.works().await;
}

#[tokio::test]
async fn pipelining_is_bounded_and_goes_on_when_answers_leave() {
    const BODIES: [&str; 4] = ["0", "1", "2", "3"];
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    // Far more than a connection may have under way: the rest waits in the socket.
    let silent = frame(PRODUCE, 0, 1, super::toy::SILENT);
    for body in BODIES {
        client.send(&frame(PRODUCE, 0, 2, body.as_bytes())).await;
        client.send(&silent.repeat(500)).await;
    }
    for body in BODIES {
        server.toy.saw(&format!("+{body}")).await;
        server.toy.settle(body);
        assert_eq!(client.response().await, (2, body.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn a_thousand_idle_connections_cost_little_and_all_work() {
    const CONNECTIONS: usize = 1_000;
    // Its buffers are allocated when data arrives, and given back when it goes quiet.
    assert!(size_of::<Connection<Toy, tokio::net::TcpStream>>() <= 1 << 10);
    let server = Server::start(Limits::default()).await;
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        clients.push(server.client().await);
    }
    server.open(CONNECTIONS as i64).await;
    for client in &mut clients {
        client.works().await;
    }
    drop(clients);
    server.open(0).await;
}

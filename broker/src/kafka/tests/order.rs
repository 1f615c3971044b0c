//! Which requests overlap, and that answers keep their order.

use tokio::io::AsyncWriteExt;

use super::toy::{CLOSE, ECHO, FETCH, JOIN, MALFORMED, PRODUCE, SILENT, Server, frame};
use crate::kafka::limits::Limits;

#[tokio::test]
async fn produce_requests_overlap_and_are_answered_in_order() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    let requests = [frame(PRODUCE, 0, 1, b"a"), frame(PRODUCE, 0, 2, b"b"), frame(PRODUCE, 0, 3, b"c")];
    client.send(&requests.concat()).await;
    server.toy.saw("+c").await;
    for settled in ["c", "b", "a"] {
        server.toy.settle(settled);
    }
    for (id, body) in [(1, b"a"), (2, b"b"), (3, b"c")] {
        assert_eq!(client.response().await, (id, body.to_vec()));
    }
}

#[tokio::test]
async fn what_takes_effect_later_keeps_its_order_and_overlaps_only_with_what_came_before() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    let requests = [frame(PRODUCE, 0, 1, b"a"), frame(PRODUCE, 0, 2, b"deferred b"), frame(PRODUCE, 0, 3, b"c")];
    client.send(&requests.concat()).await;
    server.toy.saw("+deferred b").await;
    assert_eq!(server.toy.events(), ["+a", "+deferred b"], "the next one waits for the effect");
    server.toy.settle("deferred b");
    server.toy.saw("+c").await;
    for settled in ["c", " b", "a"] {
        server.toy.settle(settled);
    }
    for (id, body) in [(1, "a"), (2, " b"), (3, "c")] {
        assert_eq!(client.response().await, (id, body.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn what_takes_effect_later_does_so_without_its_client() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    client.send(&frame(PRODUCE, 0, 1, b"deferred b")).await;
    server.toy.saw("+deferred b").await;
    server.stop.cancel();
    drop(client);
    server.toy.settle("deferred b");
    server.toy.saw("+ b").await;
    server.toy.settle(" b");
    server.task.await.unwrap().unwrap();
    assert_eq!(server.toy.events(), ["+deferred b", "+ b"], "never dropped");
}

#[tokio::test]
async fn other_requests_run_alone_as_in_kafka() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    let requests = [frame(PRODUCE, 0, 1, b"before"), frame(JOIN, 0, 2, b"join"), frame(PRODUCE, 0, 3, b"after")];
    client.send(&requests.concat()).await;
    server.toy.saw("+before").await;
    server.toy.settle("before");
    assert_eq!(client.response().await.0, 1);
    server.toy.saw("+join").await;
    assert_eq!(server.toy.events(), ["+before", "+join"]);
    server.toy.settle("join");
    assert_eq!(client.response().await.0, 2);
    server.toy.saw("+after").await;
    server.toy.settle("after");
    assert_eq!(client.response().await.0, 3);
}

#[tokio::test]
async fn acks_0_gets_no_response_at_all() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    client.send(&[frame(PRODUCE, 0, 1, SILENT), frame(ECHO, 0, 2, b"next")].concat()).await;
    assert_eq!(client.response().await, (2, b"next".to_vec()));
}

#[tokio::test]
async fn what_was_asked_before_a_malformed_request_is_answered() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    let requests = [frame(PRODUCE, 0, 1, b"good"), frame(ECHO, 0, 2, MALFORMED), frame(ECHO, 0, 3, b"never")];
    client.send(&requests.concat()).await;
    server.toy.saw("+good").await;
    server.toy.settle("good");
    assert_eq!(client.response().await.0, 1);
    client.closed().await;
}

#[tokio::test]
async fn a_handler_may_close_the_connection() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    client.send(&[frame(ECHO, 0, 1, b"first"), frame(ECHO, 0, 2, CLOSE), frame(ECHO, 0, 3, b"never")].concat()).await;
    assert_eq!(client.response().await.0, 1);
    client.closed().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_long_poll() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    client.send(&frame(FETCH, 0, 1, b"poll")).await;
    server.toy.saw("+poll").await;
    drop(client);
    server.toy.saw("-poll").await;
    server.open(0).await;
}

#[tokio::test]
async fn a_request_with_effects_runs_to_its_end_without_its_client() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    client.send(&frame(JOIN, 0, 1, b"join")).await;
    server.toy.saw("+join").await;
    drop(client);
    server.open(0).await;
    server.toy.settle("join");
    server.stop.cancel();
    server.task.await.unwrap().unwrap();
    assert_eq!(server.toy.events(), ["+join"], "never dropped");
}

#[tokio::test]
async fn what_a_client_sent_before_it_closed_takes_effect() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    client.send(&[frame(PRODUCE, 0, 1, SILENT), frame(PRODUCE, 0, 2, b"last")].concat()).await;
    client.stream.shutdown().await.unwrap();
    server.toy.saw("+last").await;
    server.toy.settle("last");
    assert_eq!(client.response().await.0, 2, "a client that only sends no more still gets its answers");
    client.closed().await;
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way_and_starts_nothing() {
    let server = Server::start(Limits::default()).await;
    let (mut client, mut idle, mut polling) = (server.client().await, server.client().await, server.client().await);
    client.send(&frame(PRODUCE, 0, 1, b"a")).await;
    polling.send(&frame(FETCH, 0, 1, b"poll")).await;
    server.toy.saw("+a").await;
    server.toy.saw("+poll").await;
    server.open(3).await;
    server.stop.cancel();
    idle.closed().await;
    polling.closed().await;
    client.send(&frame(PRODUCE, 0, 2, b"late")).await;
    server.toy.settle("a");
    assert_eq!(client.response().await, (1, b"a".to_vec()));
    client.closed().await;
    server.task.await.unwrap().unwrap();
    assert!(!server.toy.events().contains(&"+late".to_owned()));
}

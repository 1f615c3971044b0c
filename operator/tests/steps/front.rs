//! What stands between the operator and those whom it asks: it passes everything on, and every write through the gate.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use kube::Client;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::client::GrpcService;
use tonic::service::Routes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use super::gate::Write;
use super::operator::Writes;
use crate::fixture::brokers::Proof;

/// The largest request, bytes.
const LARGEST: usize = 16 << 20;

/// Serves the API server's own API without a proof, on loopback, to the end of the test.
pub(super) async fn api(client: Client, writes: Writes) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().fallback(to_api_server).with_state((client, writes));
    tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    address
}

async fn to_api_server(State((client, writes)): State<(Client, Writes)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // A request that ends early is of one that was killed.
    let Ok(body) = to_bytes(body, LARGEST).await else { return StatusCode::BAD_REQUEST.into_response() };
    match api_write(&parts) {
        Some(write) => writes.through(write, ask_api_server(&client, parts, body)).await,
        None => ask_api_server(&client, parts, body).await,
    }
}

/// `PATCH statefulsets/events-main`: the verb, and what comes after the namespace.
fn api_write(parts: &Parts) -> Option<Write> {
    if parts.method == Method::GET {
        return None;
    }
    let path = parts.uri.path();
    let object = path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/')).map_or(path, |it| it.1);
    // An event has a name of its own each time.
    let object = if object.starts_with("events") { "events" } else { object };
    Some(Write { name: format!("{} {object}", parts.method), presents: object.starts_with("leases") })
}

async fn ask_api_server(client: &Client, mut parts: Parts, body: Bytes) -> Response {
    for name in [header::HOST, header::CONTENT_LENGTH, header::CONNECTION] {
        parts.headers.remove(name);
    }
    match client.send(Request::from_parts(parts, kube::client::Body::from(body))).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            parts.headers.remove(header::TRANSFER_ENCODING);
            Response::from_parts(parts, Body::new(body))
        }
        Err(why) => (StatusCode::BAD_GATEWAY, why.to_string()).into_response(),
    }
}

/// Where a broker's admin service is, and how it is asked.
pub(super) struct Broker {
    pub(super) node: i32,
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    /// By which it is known.
    pub(super) host_name: String,
    /// Its own, by which the operator knows it.
    pub(super) proof: Proof,
    /// The operator's.
    pub(super) operator: Proof,
}

/// Serves a broker's admin service in its place, at another port of its address.
pub(super) fn admin(broker: &Broker, port: u16, writes: Writes) -> JoinHandle<()> {
    let (proof, operator) = (&broker.proof, &broker.operator);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&proof.certificate, &proof.key))
        .client_ca_root(Certificate::from_pem(&proof.authorities));
    let upstream = ClientTlsConfig::new()
        .domain_name(&broker.host_name)
        .ca_certificate(Certificate::from_pem(&operator.authorities))
        .identity(Identity::from_pem(&operator.certificate, &operator.key));
    let at = SocketAddr::new(broker.ip, broker.port);
    let endpoint = Endpoint::from_shared(format!("https://{at}")).expect("an address").tls_config(upstream);
    let channel = endpoint.expect("the operator's certificates are good").connect_lazy();
    let routes = Routes::from(Router::new().fallback(to_broker).with_state((channel, writes)));
    let serving = Server::builder().tls_config(tls).expect("the node's certificates are good").add_routes(routes);
    let (node, front) = (broker.node, SocketAddr::new(broker.ip, port));
    tokio::spawn(async move {
        if let Err(why) = serving.serve(front).await {
            panic!("in the place of node {node}, at {front}: {why:?}");
        }
    })
}

async fn to_broker(State((channel, writes)): State<(Channel, Writes)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else { return StatusCode::BAD_REQUEST.into_response() };
    match admin_write(&parts, &body) {
        Some(write) => writes.through(write, ask_broker(channel, parts, body)).await,
        None => ask_broker(channel, parts, body).await,
    }
}

/// What requests for a change of one node have in common.
#[derive(Message)]
struct OfNode {
    #[prost(int32, optional, tag = "2")]
    node: Option<i32>,
}

/// The length of what stands before a message: whether it is compressed, and how long it is.
const FRAME: usize = 5;

/// `PrepareStop 2`: the call, and which node it is about.
fn admin_write(parts: &Parts, body: &Bytes) -> Option<Write> {
    let call = parts.uri.path().rsplit('/').next().unwrap_or_default();
    if ["Describe", "List", "Watch", "IsSafe"].iter().any(|reads| call.starts_with(reads)) {
        return None;
    }
    let node = body.get(FRAME..).and_then(|message| OfNode::decode(message).ok()?.node);
    let name = match call {
        // A message does not say that it is about node 0.
        "PrepareStop" | "DrainNode" | "CancelDrain" | "RemoveNode" | "PromoteVoter" | "DemoteVoter" => {
            format!("{call} {}", node.unwrap_or(0))
        }
        _ => call.to_owned(),
    };
    Some(Write { name, presents: call == "AcquireOperatorLease" })
}

async fn ask_broker(mut channel: Channel, parts: Parts, body: Bytes) -> Response {
    let request = Request::from_parts(parts, tonic::body::Body::new(Body::from(body)));
    let ready = std::future::poll_fn(|context| GrpcService::poll_ready(&mut channel, context)).await;
    let answered = match ready {
        Ok(()) => GrpcService::call(&mut channel, request).await,
        Err(why) => Err(why),
    };
    match answered {
        Ok(answer) => answer.map(Body::new),
        Err(why) => tonic::Status::unavailable(format!("the broker is not reached: {why:?}")).into_http(),
    }
}

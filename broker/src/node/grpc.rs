//! What the gRPC port serves: the peers of the metadata plane from the start on, administrators once the node is up.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tower::Service;

use super::Io;
use super::tasks::Tasks;
use crate::admin::proto::admin_server::AdminServer;
use crate::admin::{AdminOptions, AdminService, Callers, Claim, GrpcNodes, LeaderView};
use crate::config::Settings;
use crate::io::grpc;
use crate::io::net::Listener;
use crate::metadata::quorum::QuorumView;
use crate::raft::{Me, PeersService, RaftNode, Serving};
use crate::stream::Partitions;
use tokio_util::sync::CancellationToken;

/// The admin service, which asks who asks.
type Admin = InterceptedService<AdminServer<AdminService>, Callers>;

/// The port, which serves.
pub(super) struct GrpcPort {
    peers: Arc<Serving>,
    admin: Late<Admin>,
}

impl GrpcPort {
    /// Begins to serve peers. `empty`: whether this node holds no metadata yet.
    pub(super) fn serve(listener: Box<dyn Listener>, me: Me, empty: bool, tasks: &mut Tasks) -> Self {
        let streams = CancellationToken::new();
        let peers = Serving::new(me, empty, streams.clone());
        let admin = Late::default();
        let routes = Routes::new(PeersService::server(peers.clone())).add_service(admin.clone());
        tasks.spawn("serve peers and administrators", |stop| async move {
            let served = grpc::serve(listener, routes, stop.clone());
            let ends_streams = async {
                stop.cancelled().await;
                streams.cancel();
            };
            let (served, ()) = tokio::join!(served, ends_streams);
            served.map_err(|why| why.to_string())
        });
        Self { peers, admin }
    }

    /// What peers are answered with.
    pub(super) fn peers(&self) -> Arc<Serving> {
        self.peers.clone()
    }

    /// From now on administrators are served. The Raft group as they are told of it.
    pub(super) fn serve_admin(
        &self,
        me: &Me,
        io: &Io,
        raft: &Arc<RaftNode>,
        partitions: &Arc<Partitions>,
        settings: &Arc<Settings>,
    ) -> Arc<dyn QuorumView> {
        let nodes =
            Arc::new(GrpcNodes::new(io.network.clone(), &me.cluster_id, Claim::node(me.node, Some(me.directory))));
        let quorum = Arc::new(LeaderView::new(raft.clone(), nodes.clone()));
        let service = AdminService::new(AdminOptions {
            node: me.node,
            directory: me.directory,
            clock: io.clock.clone(),
            metadata: raft.clone(),
            quorum: quorum.clone(),
            replicas: partitions.clone(),
            nodes,
            settings: settings.clone(),
        });
        self.admin.set(AdminServer::with_interceptor(service, Callers::new(&me.cluster_id, raft.clone())));
        quorum
    }
}

/// A service that is there later than its port: until then it is unavailable, which clients try again.
struct Late<S>(Arc<OnceLock<S>>);

impl<S> Late<S> {
    fn set(&self, service: S) {
        assert!(self.0.set(service).is_ok(), "a service comes once");
    }
}

impl<S> Default for Late<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S> Clone for Late<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: NamedService> NamedService for Late<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<Body>> for Late<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // tonic's services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.0.get().cloned() {
            Some(mut service) => {
                let answered = service.call(request);
                Box::pin(async move { Ok(answered.await?.map(Body::new)) })
            }
            None => Box::pin(std::future::ready(Ok(tonic::Status::unavailable("this node is starting").into_http()))),
        }
    }
}

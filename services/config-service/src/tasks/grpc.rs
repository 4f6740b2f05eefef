//! Tasks that are asked over gRPC, on connections that are kept.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use parking_lot::Mutex;
use tagged_config_discovery::{Discover, DiscoveryError};
use tagged_config_proto::{
    REFRESH_CREDENTIAL_HEADER,
    v1::{self as pb, refresh_service_client::RefreshServiceClient},
};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::Peers;
use crate::transport::refresh::RefreshCredentials;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// HTTP/2 pings on an idle connection, and the time in which each must be acknowledged.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Connections that are kept.
const MAX_CHANNELS: usize = 256;

/// The tasks that `discover` finds.
pub(super) struct GrpcPeers<D> {
    discover: D,
    /// The current one first.
    credentials: Vec<MetadataValue<Ascii>>,
    channels: Mutex<HashMap<SocketAddr, Channel>>,
}

// === impl GrpcPeers ===

impl<D> GrpcPeers<D> {
    /// No connection yet.
    pub(super) fn new(discover: D, credentials: &RefreshCredentials) -> Self {
        let credentials = credentials.exposed().filter_map(|text| {
            let mut value: MetadataValue<Ascii> = text.parse().ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self {
            discover,
            credentials: credentials.collect(),
            channels: Mutex::default(),
        }
    }

    fn channel(&self, task: SocketAddr) -> Result<Channel, Status> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(&task) {
            return Ok(channel.clone());
        }
        if channels.len() >= MAX_CHANNELS {
            channels.clear();
        }
        let endpoint = Endpoint::from_shared(format!("http://{task}"))
            .map_err(|error| Status::internal(error.to_string()))?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_lazy();
        channels.insert(task, channel.clone());
        Ok(channel)
    }
}

#[tonic::async_trait]
impl<D: Discover + 'static> Peers for GrpcPeers<D> {
    async fn find(&self) -> Result<Vec<SocketAddr>, DiscoveryError> {
        self.discover.discover().await
    }

    async fn ask(
        &self,
        task: SocketAddr,
        change: pb::AwaitChangeRequest,
    ) -> Result<pb::AwaitChangeResponse, Status> {
        let mut client = RefreshServiceClient::new(self.channel(task)?);
        let mut answer: Result<Response<pb::AwaitChangeResponse>, Status> =
            Err(Status::unauthenticated("no credential can be sent"));
        for credential in &self.credentials {
            let mut request = Request::new(change.clone());
            request
                .metadata_mut()
                .insert(REFRESH_CREDENTIAL_HEADER, credential.clone());
            answer = client.await_change(request).await;
            let is_refused = answer
                .as_ref()
                .is_err_and(|status| status.code() == Code::Unauthenticated);
            // During a rotation, a task that was not replaced yet knows the previous one only.
            if !is_refused {
                break;
            }
        }
        answer.map(Response::into_inner)
    }

    fn disconnect(&self, task: SocketAddr) {
        self.channels.lock().remove(&task);
    }
}

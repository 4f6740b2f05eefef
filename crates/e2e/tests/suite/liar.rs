//! A replica that lies, and a promise that cannot be kept: the harness must find both, by name, or it judges nothing.

use std::{collections::HashMap, net::SocketAddr, sync::Mutex};

use anyhow::Context;
use e2e::Stack;
use futures::{future::try_join_all, stream};
use tagged_config_proto::v1::{
    self as pb, BatchGetConfigRequest, BatchGetConfigResponse, DeleteConfigRequest,
    DeleteConfigResponse, ExplainConfigRequest, ExplainConfigResponse, GetConfigRequest,
    GetConfigResponse, ListConfigRequest, ListConfigResponse, PutConfigRequest, PutConfigResponse,
    WatchConfigRequest, WatchConfigResponse,
    config_service_client::ConfigServiceClient,
    config_service_server::{ConfigService, ConfigServiceServer},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server, server::TcpIncoming},
};

use crate::loadtest::{folder, run, text};

/// What a lying replica answers now and then, once a value has changed.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// The value that it showed first.
    Older,
    /// The same, always: it never shows a change.
    Frozen,
    /// NOT_FOUND.
    Gone,
    /// The value of another tenant.
    AnotherTenants,
    /// A mix of two versions.
    Torn,
}

/// Forwards reads to a replica, and lies.
struct Liar {
    lie: Lie,
    replica: ConfigServiceClient<Channel>,
    /// By caller: the first answer, and reads since the value changed.
    seen: Mutex<HashMap<String, (GetConfigResponse, u64)>>,
}

impl Liar {
    /// Serves in front of this replica. Returns its address.
    async fn start(lie: Lie, replica: &str) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let liar = Self {
            lie,
            replica: ConfigServiceClient::connect(format!("http://{replica}")).await?,
            seen: Mutex::default(),
        };
        let server = Server::builder().add_service(ConfigServiceServer::new(liar));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Ok(address)
    }

    fn answer(&self, caller: &str, truth: GetConfigResponse) -> Result<GetConfigResponse, Status> {
        let mut seen = self.seen.lock().unwrap();
        let (first, reads) = seen
            .entry(caller.to_owned())
            .or_insert_with(|| (truth.clone(), 0));
        if first.value == truth.value {
            return Ok(truth);
        }
        *reads += 1;
        // Every other read is answered truly, so that there is something to go back from.
        let lies = reads.is_multiple_of(2);
        let with = |value: String| GetConfigResponse {
            value,
            ..truth.clone()
        };
        match self.lie {
            Lie::Frozen => Ok(first.clone()),
            Lie::Older if lies => Ok(first.clone()),
            Lie::Gone if lies => Err(Status::not_found("no such key")),
            Lie::AnotherTenants if lies => Ok(with(truth.value.replace("\"lt-s", "\"lt-x"))),
            Lie::Torn if lies => {
                let version = |value: &str| value.rsplit_once("\"v\":").map(|(_, v)| v.to_owned());
                let (old, new) = (version(&first.value), version(&truth.value));
                let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
                Ok(with(
                    truth
                        .value
                        .replace(&format!("\"v\":{new}"), &format!("\"v\":{old}")),
                ))
            }
            _ => Ok(truth),
        }
    }
}

#[tonic::async_trait]
impl ConfigService for Liar {
    async fn get_config(
        &self,
        request: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let token = request.metadata().get("authorization").cloned();
        let token = token.ok_or_else(|| Status::unauthenticated("no token"))?;
        let caller = String::from_utf8_lossy(token.as_bytes()).into_owned();
        let mut forwarded = Request::new(request.into_inner());
        forwarded.metadata_mut().insert("authorization", token);
        let truth = self.replica.clone().get_config(forwarded).await?;
        self.answer(&caller, truth.into_inner()).map(Response::new)
    }

    async fn batch_get_config(
        &self,
        _: Request<BatchGetConfigRequest>,
    ) -> Result<Response<BatchGetConfigResponse>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }

    async fn list_config(
        &self,
        _: Request<ListConfigRequest>,
    ) -> Result<Response<ListConfigResponse>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }

    async fn put_config(
        &self,
        _: Request<PutConfigRequest>,
    ) -> Result<Response<PutConfigResponse>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }

    async fn delete_config(
        &self,
        _: Request<DeleteConfigRequest>,
    ) -> Result<Response<DeleteConfigResponse>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }

    type WatchConfigStream = stream::Empty<Result<WatchConfigResponse, Status>>;

    async fn watch_config(
        &self,
        _: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }

    async fn list_history(
        &self,
        _: Request<pb::ListHistoryRequest>,
    ) -> Result<Response<pb::ListHistoryResponse>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }

    async fn diff_config(
        &self,
        _: Request<pb::DiffConfigRequest>,
    ) -> Result<Response<pb::DiffConfigResponse>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }

    async fn rollback_config(
        &self,
        _: Request<pb::RollbackConfigRequest>,
    ) -> Result<Response<pb::RollbackConfigResponse>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }

    async fn undo_changes(
        &self,
        _: Request<pb::UndoChangesRequest>,
    ) -> Result<Response<pb::UndoChangesResponse>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }

    async fn explain_config(
        &self,
        _: Request<ExplainConfigRequest>,
    ) -> Result<Response<ExplainConfigResponse>, Status> {
        Err(Status::unimplemented("reads of one key only"))
    }
}

async fn staleness(grpc: &str, finds: &str) -> anyhow::Result<()> {
    let out = folder()?;
    let arguments = [
        "staleness",
        "--source",
        "dynamodb",
        "--cells",
        "1",
        "--rate",
        "4",
        "--duration",
        "3s",
        "--background",
        "0",
        "--lost-after",
        "2s",
        "--no-edge",
        "--no-orders",
        "--grpc",
        grpc,
        "--out",
        text(&out)?,
    ];
    run(&arguments)
        .await?
        .exits(1)?
        .says(&format!("VIOLATION {finds}"))?;
    std::fs::remove_dir_all(out)?;
    Ok(())
}

#[tokio::test]
async fn a_replica_that_lies_is_found_out() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let replica = stack.grpc.first().context("there is a replica")?;
    let lies = [
        (Lie::Older, "went back from version"),
        (Lie::Frozen, "lost: update"),
        (Lie::Gone, "vanished after it had been shown"),
        (Lie::AnotherTenants, "another tenant's value"),
        (Lie::Torn, "torn: a value was shown that no writer wrote"),
    ];
    try_join_all(lies.map(|(lie, finds)| async move {
        let liar = Liar::start(lie, replica).await?;
        staleness(&liar.to_string(), finds)
            .await
            .with_context(|| format!("{lie:?}"))
    }))
    .await?;
    Ok(())
}

/// It drops events, so it runs alone (`.config/nextest.toml`).
#[tokio::test]
async fn a_promise_that_is_broken_is_called_broken() -> anyhow::Result<()> {
    let out = folder()?;
    let arguments = [
        "chaos",
        "--fault",
        "dropped",
        "--promise",
        "0ms",
        "--duration",
        "1s",
        "--quiet-rate",
        "10",
        "--out",
        text(&out)?,
    ];
    let ran = run(&arguments).await?;
    ran.exits(1)?.says(" BROKEN\n")?;
    ran.says("BROKEN  dropped (seed 1): lost: update")?;
    std::fs::remove_dir_all(out)?;
    Ok(())
}

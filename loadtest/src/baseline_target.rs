//! A target that does nothing: it answers every call with a constant. What the harness measures of it is the harness,
//! and the least that a network call costs here. A process of its own, as a real target is.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};

use anyhow::{Context, bail};
use axum::{Json, Router, routing::any};
use serde_json::json;
use tagged_config_proto::v1::{
    BatchGetConfigRequest, BatchGetConfigResponse, DeleteConfigRequest, DeleteConfigResponse,
    ExplainConfigRequest, ExplainConfigResponse, GetConfigRequest, GetConfigResponse,
    ListConfigRequest, ListConfigResponse, PutConfigRequest, PutConfigResponse, WatchConfigRequest,
    WatchConfigResponse,
    config_service_server::{ConfigService, ConfigServiceServer},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use tonic::{Request, Response, Status};

use crate::Ended;

/// Bytes of the constant value.
const VALUE_BYTES: usize = 200;
const KEY: &str = "tenant_config_loadtest/k0001";

/// The target's process. Ends with this value.
pub(crate) struct BaselineTarget {
    /// Its gRPC address.
    pub(crate) grpc: String,
    /// Its base URL.
    pub(crate) url: String,
    _process: Child,
}

impl BaselineTarget {
    /// Starts one.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut process = Command::new(program)
            .arg("baseline-target")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the baseline target")?;
        let output = process.stdout.take().context("it has an output")?;
        let line = BufReader::new(output)
            .lines()
            .next_line()
            .await?
            .unwrap_or_default();
        let Some((grpc, http)) = line.split_once(' ') else {
            bail!("the baseline target did not start");
        };
        Ok(Self {
            grpc: grpc.to_owned(),
            url: format!("http://{http}"),
            _process: process,
        })
    }
}

/// `loadtest baseline-target`: serves until standard input ends, which it does with whoever started this.
pub(crate) async fn serve() -> anyhow::Result<Ended> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let grpc = TcpListener::bind(any_port).await?;
    let http = TcpListener::bind(any_port).await?;
    println!("{} {}", grpc.local_addr()?, http.local_addr()?);
    let mut rest = Vec::new();
    let mut input = tokio::io::stdin();
    tokio::select! {
        ended = answer(grpc, http) => ended?,
        _ = input.read_to_end(&mut rest) => {}
    }
    Ok(Ended::Well)
}

/// Answers on both; ends with an error only.
pub(crate) async fn answer(grpc: TcpListener, http: TcpListener) -> anyhow::Result<()> {
    let incoming =
        tokio_stream::StreamExt::map(tokio_stream::wrappers::TcpListenerStream::new(grpc), |s| {
            s.inspect(|s| {
                let _ = s.set_nodelay(true);
            })
        });
    let grpc = tonic::transport::Server::builder()
        .add_service(ConfigServiceServer::new(Constant))
        .serve_with_incoming(incoming);
    let entry = json!({"key": KEY, "value": value(), "origin": "tenant"});
    let answer = Router::new().fallback(any(async || ([("x-config-cache", "hit")], Json(entry))));
    let http = axum::serve(http, answer);
    tokio::select! {
        ended = grpc => ended?,
        ended = http => ended?,
    }
    Ok(())
}

struct Constant;

fn value() -> String {
    "x".repeat(VALUE_BYTES)
}

#[tonic::async_trait]
impl ConfigService for Constant {
    type WatchConfigStream = tokio_stream::Empty<Result<WatchConfigResponse, Status>>;

    async fn get_config(
        &self,
        _: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        Ok(Response::new(GetConfigResponse {
            key: KEY.to_owned(),
            value: value(),
            version: 1,
            source: "dynamodb".to_owned(),
            cached: true,
            origin: "tenant".to_owned(),
            content_type: "application/json".to_owned(),
            ..Default::default()
        }))
    }

    async fn batch_get_config(
        &self,
        _: Request<BatchGetConfigRequest>,
    ) -> Result<Response<BatchGetConfigResponse>, Status> {
        Err(Status::unimplemented(
            "the baseline target answers GetConfig",
        ))
    }

    async fn list_config(
        &self,
        _: Request<ListConfigRequest>,
    ) -> Result<Response<ListConfigResponse>, Status> {
        Err(Status::unimplemented(
            "the baseline target answers GetConfig",
        ))
    }

    async fn put_config(
        &self,
        _: Request<PutConfigRequest>,
    ) -> Result<Response<PutConfigResponse>, Status> {
        Err(Status::unimplemented(
            "the baseline target answers GetConfig",
        ))
    }

    async fn delete_config(
        &self,
        _: Request<DeleteConfigRequest>,
    ) -> Result<Response<DeleteConfigResponse>, Status> {
        Err(Status::unimplemented(
            "the baseline target answers GetConfig",
        ))
    }

    async fn explain_config(
        &self,
        _: Request<ExplainConfigRequest>,
    ) -> Result<Response<ExplainConfigResponse>, Status> {
        Err(Status::unimplemented(
            "the baseline target answers GetConfig",
        ))
    }

    async fn watch_config(
        &self,
        _: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        Err(Status::unimplemented(
            "the baseline target answers GetConfig",
        ))
    }
}

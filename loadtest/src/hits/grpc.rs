//! gRPC for one unary call that is repeated: h2 without the layers of a client library, so that one processor can send tens
//! of thousands of requests a second.

use anyhow::Context;
use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use prost::Message;
use tagged_config_proto::v1::{GetConfigRequest, GetConfigResponse};
use tokio::net::TcpStream;
use tonic::Code;

use super::{HALF_AN_ANSWER, NO_ANSWER};
use crate::client::code_name;

/// Bytes of answers that may be in flight: enough that no answer waits for the client.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// A flag for compression and the length.
const PREFIX_BYTES: usize = 5;
const STATUS: &str = "grpc-status";

/// Some connections to one server, and the call that is made on them.
pub(super) struct Grpc {
    connections: Vec<SendRequest<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

// === impl Grpc ===

impl Grpc {
    /// Connects. The tasks of the connections run on the current runtime.
    pub(super) async fn connect(
        address: &str,
        connections: u32,
        key: &str,
    ) -> anyhow::Result<Self> {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(connection(address).await?);
        }
        let message = GetConfigRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        let headers = [
            (header::CONTENT_TYPE, "application/grpc"),
            (header::TE, "trailers"),
        ];
        Ok(Self {
            connections: open,
            uri: format!("http://{address}/tagged.config.v1.ConfigService/GetConfig").parse()?,
            headers: headers
                .map(|(name, value)| (name, HeaderValue::from_static(value)))
                .into_iter()
                .collect(),
            body: framed(&message)?,
        })
    }

    /// Makes the call on one of the connections. The bytes of the value, or why there is none.
    pub(super) async fn send(
        &self,
        turn: usize,
        authorization: &HeaderValue,
    ) -> Result<usize, String> {
        let answer = self.answer(turn, authorization).await;
        let answer = answer.map_err(|_| NO_ANSWER.to_owned())?;
        match answer.status {
            Some(Code::Ok) if answer.body.len() >= PREFIX_BYTES => {
                let message = GetConfigResponse::decode(answer.body.slice(PREFIX_BYTES..));
                let message = message.map_err(|_| HALF_AN_ANSWER.to_owned())?;
                Ok(message.value.len())
            }
            Some(Code::Ok) | None => Err(HALF_AN_ANSWER.to_owned()),
            Some(code) => Err(code_name(code)),
        }
    }

    /// The same connections with another path.
    #[cfg(test)]
    pub(super) fn at(&self, path: &str) -> Self {
        let host = self.uri.authority().unwrap();
        Self {
            connections: self.connections.clone(),
            uri: format!("http://{host}{path}").parse().unwrap(),
            headers: self.headers.clone(),
            body: self.body.clone(),
        }
    }

    async fn answer(&self, turn: usize, authorization: &HeaderValue) -> Result<Answer, h2::Error> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, authorization.clone());
        let connection = self.connections[turn % self.connections.len()].clone();
        let mut connection = connection.ready().await?;
        let (answer, mut sent) = connection.send_request(request, false)?;
        // A server may answer, and reset the stream, before it has read the body: then the answer counts.
        let _ = sent.send_data(self.body.clone(), true);
        let (head, mut stream) = answer.await?.into_parts();
        let mut body = Bytes::new();
        while let Some(part) = stream.data().await {
            let part = part?;
            stream.flow_control().release_capacity(part.len())?;
            body = joined(&body, part);
        }
        // An answer without a body has its status in the head.
        let trailers = stream.trailers().await?;
        let status = trailers.as_ref().unwrap_or(&head.headers).get(STATUS);
        Ok(Answer {
            body,
            status: status.map(|value| Code::from_bytes(value.as_bytes())),
        })
    }
}

struct Answer {
    body: Bytes,
    status: Option<Code>,
}

async fn connection(address: &str) -> anyhow::Result<SendRequest<Bytes>> {
    let connected = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        anyhow::Ok(builder.handshake(stream).await?)
    };
    let (send, connection) = connected
        .await
        .with_context(|| format!("cannot reach {address} (gRPC): does it run?"))?;
    // Its end shows in the calls.
    tokio::spawn(connection);
    Ok(send)
}

fn framed(message: &impl Message) -> anyhow::Result<Bytes> {
    let mut body = vec![0];
    body.extend(u32::try_from(message.encoded_len())?.to_be_bytes());
    message.encode(&mut body)?;
    Ok(body.into())
}

fn joined(begin: &Bytes, part: Bytes) -> Bytes {
    if begin.is_empty() {
        return part;
    }
    let mut whole = BytesMut::with_capacity(begin.len() + part.len());
    whole.extend_from_slice(begin.chunk());
    whole.extend_from_slice(part.chunk());
    whole.freeze()
}

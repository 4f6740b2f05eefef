//! The web edge that both services share: accepting connections within limits, serving HTTP/1 and draining it, the layers
//! around every handler, problem documents, bodies with a limit and a time-out, and the health endpoints.
//!
//! It knows nothing of configuration keys, tokens' contents or stores. config-service's gRPC listeners use [`Acceptor`] and
//! [`WriteCoalescer`] too.

mod accept;
mod authorization;
mod body;
mod chunks;
mod coalesce;
pub mod cors;
pub mod health;
mod layers;
mod problem;
mod serve;

pub use accept::{Acceptor, Slot};
pub use authorization::authorization;
pub use body::{BODY_TIMEOUT, BodyError, discard_body, read_body};
pub use chunks::{CHUNK_BYTES, Chunks};
pub use coalesce::WriteCoalescer;
pub use layers::{HANDLER_TIMEOUT, layered};
pub use problem::{Problem, Violation};
pub use serve::{HEAD_TIMEOUT, MAX_CONNECTIONS, serve};

//! The edges: each authenticates the caller, converts the request, calls [`ConfigApi`](crate::api::ConfigApi), and
//! converts the answer. Nothing here decides what a tenant may see.

mod answer;
pub(crate) mod connection;
pub(crate) mod etag;
pub(crate) mod grpc;
pub(crate) mod healthcheck;
pub(crate) mod http;
pub(crate) mod refresh;
pub(crate) mod writes;

#[cfg(test)]
mod tests;

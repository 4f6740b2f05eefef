//! In front of the public service: authenticates each call from its headers, before its body is read, and bounds its time.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use tagged_config_auth::JwksSource;
use tagged_config_domain::Principal;
use tagged_config_proto::v1::config_service_server::ConfigServiceServer;
use tagged_config_runtime::telemetry;
use tagged_config_web::authorization;
use tokio::time::{Sleep, sleep};
use tonic::{body::Body, codec::CompressionEncoding, codegen::Service, server::NamedService};

use crate::{
    errors::ApiError,
    transport::answer::{HeldMemory, hold},
    transport::grpc::{GrpcService, Shared, status},
};

/// Room before the caller's deadline in which our own answer still reaches it.
const DEADLINE_MARGIN: Duration = Duration::from_millis(20);
/// Time for a call, its body's arrival included, whatever deadline it has. A watch is answered at once; its stream has other limits.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request: a value, with room for the key and the framing. It holds after decompression, too.
const MAX_REQUEST_BYTES: usize = 512 * 1024;

/// The public service: makes a [`GrpcService`] for each call whose caller is known, and refuses the others.
pub(crate) struct GrpcCalls<S>(Arc<Shared<S>>);

/// A call's answer.
pub(crate) struct Call {
    answer: Answer,
    limit: Duration,
    /// Set when the answer is not ready at once, which a hit's is.
    deadline: Option<Pin<Box<Sleep>>>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

// === impl GrpcCalls ===

impl<S> Clone for GrpcCalls<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: JwksSource> GrpcCalls<S> {
    /// The service over these.
    pub(crate) fn new(shared: Shared<S>) -> Self {
        Self(Arc::new(shared))
    }

    /// Requests may be compressed. Answers are not: clients of some languages offer gzip with each request, and a hit would
    /// cost several times its instructions for bytes that stay within a VPC.
    fn serve(
        shared: Arc<Shared<S>>,
        caller: Arc<Principal>,
        limit: Duration,
        request: Request<Body>,
    ) -> Answer {
        let service = GrpcService {
            shared,
            caller,
            limit,
        };
        ConfigServiceServer::new(service)
            .max_decoding_message_size(MAX_REQUEST_BYTES)
            .accept_compressed(CompressionEncoding::Gzip)
            .call(request)
    }
}

impl<S: JwksSource> Service<Request<Body>> for GrpcCalls<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Call;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Call {
        let shared = Arc::clone(&self.0);
        let limit = deadline(request.headers())
            .unwrap_or(CALL_TIMEOUT)
            .min(CALL_TIMEOUT);
        let known = shared
            .authenticator
            .verified(authorization(request.headers()));
        let answer = match known {
            Some(caller) => Self::serve(shared, caller, limit, request),
            None => Box::pin(async move {
                let authorization = authorization(request.headers());
                match shared.authenticator.authenticate(authorization).await {
                    Ok(caller) => Self::serve(shared, caller, limit, request).await,
                    Err(error) => {
                        tracing::debug!(reason = telemetry::chain(&error), "unauthenticated");
                        Ok(status(error.into()).into_http())
                    }
                }
            }),
        };
        Call {
            answer,
            limit,
            deadline: None,
        }
    }
}

impl<S: JwksSource> NamedService for GrpcCalls<S> {
    const NAME: &'static str = <ConfigServiceServer<GrpcService<S>> as NamedService>::NAME;
}

// === impl Call ===

impl Future for Call {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(Ok(mut response)) = self.answer.as_mut().poll(context) {
            let memory = response.extensions_mut().remove::<HeldMemory>();
            return Poll::Ready(Ok(hold(response, memory, Body::new)));
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Ok(status(ApiError::DeadlineExceeded).into_http()))
    }
}

/// What the caller's `grpc-timeout` leaves for the call. tonic reads it too, in its outermost layer, which cannot be left
/// out, and answers with CANCELLED: so the answer here comes a little earlier. A write that was sent runs to its end.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u32 = digits.parse().ok()?;
    let unit = match unit {
        "H" => Duration::from_hours(1),
        "M" => Duration::from_mins(1),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    let given = unit.checked_mul(count)?;
    Some(given.saturating_sub(DEADLINE_MARGIN.min(given / 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            deadline(&headers)
        };
        assert_eq!(read("100m"), Some(Duration::from_millis(90)));
        assert_eq!(read("1S"), Some(Duration::from_millis(980)));
        assert_eq!(read("10u"), Some(Duration::from_micros(9)));
        for bad in ["", "m", "1x", "-1S", "99999999999S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

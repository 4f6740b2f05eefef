//! Where config-service is: host names, resolved anew every few seconds, so that tasks come and go.

use std::{collections::HashSet, net::SocketAddr, str::FromStr, time::Duration};

use thiserror::Error;
use tokio::{net::lookup_host, sync::mpsc, task::AbortHandle, time::sleep};
use tonic::transport::{Channel, Endpoint, channel::Change};

/// How often names are resolved anew.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// HTTP/2 pings that find a dead task.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// One or more `http://host:port`, comma-separated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

/// Not an endpoint.
#[derive(Debug, Error)]
#[error("must be http://host:port, several separated by commas, not {0:?}")]
pub struct BadEndpoint(String);

/// Ends the resolution when the last client is dropped.
#[derive(Debug)]
pub(crate) struct Resolving(AbortHandle);

impl FromStr for Endpoints {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let parse = |one: &str| {
            let authority = one.trim().strip_prefix("http://")?.trim_end_matches('/');
            let (host, port) = authority.rsplit_once(':')?;
            let well_formed =
                !host.is_empty() && !authority.contains('/') && port.parse::<u16>().is_ok();
            well_formed.then(|| authority.to_owned())
        };
        let hosts: Option<Vec<_>> = text.split(',').map(parse).collect();
        hosts.map(Self).ok_or_else(|| BadEndpoint(text.to_owned()))
    }
}

impl Endpoints {
    /// A channel that spreads calls over all addresses of all names, the less busy of two at random.
    pub(crate) fn balance(&self) -> (Channel, Resolving) {
        let (channel, changes) = Channel::balance_channel(64);
        let task = tokio::spawn(resolve(self.0.clone(), changes));
        (channel, Resolving(task.abort_handle()))
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn resolve(hosts: Vec<String>, changes: mpsc::Sender<Change<SocketAddr, Endpoint>>) {
    let mut known: HashSet<SocketAddr> = HashSet::new();
    loop {
        if let Some(found) = look_up(&hosts).await {
            for address in found.difference(&known) {
                let Ok(endpoint) = Endpoint::from_shared(format!("http://{address}")) else {
                    continue;
                };
                let endpoint = endpoint
                    .connect_timeout(CONNECT_TIMEOUT)
                    .tcp_nodelay(true)
                    .http2_keep_alive_interval(KEEPALIVE)
                    .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                    .keep_alive_while_idle(true);
                if changes
                    .send(Change::Insert(*address, endpoint))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            for address in known.difference(&found) {
                if changes.send(Change::Remove(*address)).await.is_err() {
                    return;
                }
            }
            known = found;
        }
        sleep(RESOLVE_INTERVAL).await;
    }
}

/// All addresses, or `None` if no name could be resolved: then the known ones stay.
async fn look_up(hosts: &[String]) -> Option<HashSet<SocketAddr>> {
    let mut found = HashSet::new();
    for host in hosts {
        match lookup_host(host).await {
            Ok(addresses) => found.extend(addresses),
            Err(error) => tracing::warn!(host, %error, "config-service's name cannot be resolved"),
        }
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked() {
        assert_eq!(
            "http://a:1, http://127.0.0.1:2/"
                .parse::<Endpoints>()
                .unwrap(),
            Endpoints(vec!["a:1".to_owned(), "127.0.0.1:2".to_owned()])
        );
        for bad in [
            "",
            "a:1",
            "http://a",
            "https://a:1",
            "http://:1",
            "http://a:x",
            "http://a:1/x",
            "http://a:1,",
        ] {
            assert!(bad.parse::<Endpoints>().is_err(), "{bad}");
        }
    }
}

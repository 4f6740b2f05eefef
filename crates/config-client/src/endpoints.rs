//! Where config-service is: host names, resolved anew every few seconds, so that tasks come and go.

use std::{
    collections::HashSet,
    net::SocketAddr,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::{
    net::lookup_host,
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep},
};
use tonic::transport::{Channel, Endpoint};

/// How often names are resolved anew.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// HTTP/2 pings that find a dead task.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an address that could not be reached is left out.
const COOL_DOWN: Duration = Duration::from_millis(500);

/// One or more `http://host:port`, comma-separated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

/// Not an endpoint.
#[derive(Debug, Error)]
#[error("must be http://host:port, several separated by commas, not {0:?}")]
pub struct BadEndpoint(String);

/// The addresses that there are now, one connection each. A new address is taken up, and one that is gone is
/// dropped, as names are resolved anew.
#[derive(Debug)]
pub(crate) struct Pool {
    members: watch::Receiver<Vec<Arc<Member>>>,
    resolving: AbortHandle,
}

/// One address.
#[derive(Debug)]
pub(crate) struct Member {
    address: SocketAddr,
    channel: Channel,
    /// A connection of their own: config-service bounds the calls on one, and watches are long.
    watching: Channel,
    calls: AtomicUsize,
    down_until: Mutex<Option<Instant>>,
}

/// A call under way at a member.
#[derive(Debug)]
pub(crate) struct Call(Arc<Member>);

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
    /// Connects to all addresses of all names, for as long as the pool lives.
    pub(crate) fn connect(&self) -> Pool {
        let (sender, members) = watch::channel(Vec::new());
        let resolving = tokio::spawn(resolve(self.0.clone(), sender)).abort_handle();
        Pool { members, resolving }
    }
}

impl Pool {
    /// The less busy of two at random, leaving out those that this question was put to already, and those
    /// that could not be reached a moment ago, as long as there are others. Waits for the first resolution.
    pub(crate) async fn pick(&self, asked: &[SocketAddr]) -> Option<Call> {
        let mut members = self.members.clone();
        let members = members
            .wait_for(|members| !members.is_empty())
            .await
            .ok()?
            .clone();
        let now = Instant::now();
        let all = || members.iter();
        let mut candidates: Vec<_> = all()
            .filter(|m| !m.is_down(now) && !asked.contains(&m.address))
            .collect();
        if candidates.is_empty() {
            candidates = all().filter(|m| !asked.contains(&m.address)).collect();
        }
        if candidates.is_empty() {
            candidates = all().collect();
        }
        let one = candidates[fastrand::usize(..candidates.len())];
        let other = candidates[fastrand::usize(..candidates.len())];
        let busy = |member: &Member| member.calls.load(Ordering::Relaxed);
        let member = if busy(other) < busy(one) { other } else { one };
        member.calls.fetch_add(1, Ordering::Relaxed);
        Some(Call(Arc::clone(member)))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.resolving.abort();
    }
}

impl Member {
    fn new(address: SocketAddr) -> Option<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Some(Self {
            address,
            channel: endpoint.connect_lazy(),
            watching: endpoint.connect_lazy(),
            calls: AtomicUsize::new(0),
            down_until: Mutex::new(None),
        })
    }

    fn is_down(&self, now: Instant) -> bool {
        self.down_until.lock().is_some_and(|until| now < until)
    }
}

impl Call {
    /// Where the call goes.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// What it goes over.
    pub(crate) fn channel(&self) -> Channel {
        self.0.channel.clone()
    }

    /// What a watch goes over.
    pub(crate) fn watching(&self) -> Channel {
        self.0.watching.clone()
    }

    /// Notes that the address could not be reached: a refused connection fails faster than a good one
    /// answers, and would otherwise draw every call.
    pub(crate) fn failed(&self) {
        *self.0.down_until.lock() = Some(Instant::now() + COOL_DOWN);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn resolve(hosts: Vec<String>, members: watch::Sender<Vec<Arc<Member>>>) {
    loop {
        if let Some(found) = look_up(&hosts).await {
            let known = members.borrow().clone();
            let kept = |address: &SocketAddr| {
                known
                    .iter()
                    .find(|member| member.address == *address)
                    .cloned()
            };
            let member = |address| kept(address).or_else(|| Member::new(*address).map(Arc::new));
            let now: Vec<_> = found.iter().filter_map(member).collect();
            members.send_replace(now);
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

    #[tokio::test]
    async fn what_failed_is_left_out_while_there_is_another() {
        let pool = "http://127.0.0.1:1,http://127.0.0.1:2"
            .parse::<Endpoints>()
            .unwrap()
            .connect();
        let dead = pool.pick(&[]).await.unwrap();
        dead.failed();
        for _ in 0..50 {
            assert_ne!(pool.pick(&[]).await.unwrap().address(), dead.address());
        }
        let other = pool.pick(&[]).await.unwrap().address();
        assert_eq!(
            pool.pick(&[other]).await.unwrap().address(),
            dead.address(),
            "nothing else is left"
        );
        assert!(pool.pick(&[other, dead.address()]).await.is_some());
    }
}

//! Where config-service is: host names, resolved again every few seconds, so that tasks come and go.
//!
//! Not tower's `balance::p2c`: it picks inside its service, so that a retry cannot leave out the address that failed, and a
//! watch cannot have a load of its own. The choice here is the same, the less loaded of two.

use std::{
    collections::{HashMap, HashSet},
    io,
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

/// How often names are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// HTTP/2 pings that find a dead task.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an address is left out after its connection failed or its task stopped.
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
    /// By [`Load`]. Watches have a connection of their own: config-service bounds the calls on one, and watches are long.
    channels: [Channel; 2],
    /// Under way, by [`Load`].
    calls: [AtomicUsize; 2],
    down_until: Mutex<Option<Instant>>,
}

/// What a member is picked for. Each kind is balanced for itself: a new task gets its share of watches, and a task with many
/// watches gets its share of calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    Call,
    Watch,
}

/// A call or watch under way at a member.
#[derive(Debug)]
pub(crate) struct Call(Arc<Member>, Load);

/// The addresses of each name, as they were when it could be resolved last.
#[derive(Debug, Default)]
struct Resolved(HashMap<String, Vec<SocketAddr>>);

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
    /// The less loaded of two at random. Leaves out the addresses that this request was sent to before, and those that are in
    /// their cool-down, as long as there are others. Waits for the first resolution.
    pub(crate) async fn pick(&self, load: Load, tried: &[SocketAddr]) -> Option<Call> {
        let mut members = self.members.clone();
        let members = members
            .wait_for(|members| !members.is_empty())
            .await
            .ok()?
            .clone();
        let now = Instant::now();
        let all = || members.iter();
        let mut candidates: Vec<_> = all()
            .filter(|m| !m.is_down(now) && !tried.contains(&m.address))
            .collect();
        if candidates.is_empty() {
            candidates = all().filter(|m| !tried.contains(&m.address)).collect();
        }
        if candidates.is_empty() {
            candidates = all().collect();
        }
        let one = candidates[fastrand::usize(..candidates.len())];
        let other = candidates[fastrand::usize(..candidates.len())];
        let calls = |member: &Member| member.calls[load as usize].load(Ordering::Relaxed);
        let member = if calls(other) < calls(one) {
            other
        } else {
            one
        };
        member.calls[load as usize].fetch_add(1, Ordering::Relaxed);
        Some(Call(Arc::clone(member), load))
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
            channels: [endpoint.connect_lazy(), endpoint.connect_lazy()],
            calls: Default::default(),
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
        self.0.channels[self.1 as usize].clone()
    }

    /// Starts the cool-down of the address: its connection failed, or its task stops. A refused connection fails faster than
    /// a good one answers, and would otherwise draw every call. A store that failed is no reason.
    pub(crate) fn failed(&self) {
        *self.0.down_until.lock() = Some(Instant::now() + COOL_DOWN);
    }
}

#[cfg(test)]
impl Call {
    pub(crate) fn is_down(&self) -> bool {
        self.0.is_down(Instant::now())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls[self.1 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

async fn resolve(hosts: Vec<String>, members: watch::Sender<Vec<Arc<Member>>>) {
    let mut resolved = Resolved::default();
    loop {
        for host in &hosts {
            let answer = lookup_host(host).await;
            resolved.take(host, answer.map(Iterator::collect));
        }
        let known = members.borrow().clone();
        let kept = |address: &SocketAddr| {
            known
                .iter()
                .find(|member| member.address == *address)
                .cloned()
        };
        let member = |address| kept(&address).or_else(|| Member::new(address).map(Arc::new));
        members.send_replace(
            resolved
                .addresses()
                .into_iter()
                .filter_map(member)
                .collect(),
        );
        sleep(RESOLVE_INTERVAL).await;
    }
}

// === impl Resolved ===

impl Resolved {
    /// Takes what a name resolved to. One that cannot be resolved keeps its known addresses.
    fn take(&mut self, host: &str, answer: io::Result<Vec<SocketAddr>>) {
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                self.0.insert(host.to_owned(), addresses);
            }
            Ok(_) => tracing::warn!(host, "config-service's name has no address"),
            Err(error) => tracing::warn!(host, %error, "config-service's name cannot be resolved"),
        }
    }

    /// All addresses, each once.
    fn addresses(&self) -> HashSet<SocketAddr> {
        self.0.values().flatten().copied().collect()
    }
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

    fn pool() -> Pool {
        "http://127.0.0.1:1,http://127.0.0.1:2"
            .parse::<Endpoints>()
            .unwrap()
            .connect()
    }

    #[tokio::test]
    async fn what_failed_is_left_out_while_there_is_another() {
        let pool = pool();
        let dead = pool.pick(Load::Call, &[]).await.unwrap();
        dead.failed();
        for _ in 0..50 {
            let picked = pool.pick(Load::Call, &[]).await.unwrap();
            assert_ne!(picked.address(), dead.address());
        }
        let other = pool.pick(Load::Call, &[]).await.unwrap().address();
        assert_eq!(
            pool.pick(Load::Call, &[other]).await.unwrap().address(),
            dead.address(),
            "nothing else is left"
        );
        let both = [other, dead.address()];
        assert!(pool.pick(Load::Call, &both).await.is_some());
    }

    /// L23: after a rolling restart the first task had all watches, and got no calls.
    #[tokio::test]
    async fn watches_are_not_counted_as_calls() {
        let pool = pool();
        let first = pool.pick(Load::Watch, &[]).await.unwrap();
        let elsewhere = pool.pick(Load::Watch, &[first.address()]).await.unwrap();
        let other = elsewhere.address();
        let mut watches = vec![first];
        for _ in 0..20 {
            watches.push(pool.pick(Load::Watch, &[other]).await.unwrap());
        }
        let address = watches[0].address();
        let mut calls = Vec::new();
        for _ in 0..100 {
            let picked = pool.pick(Load::Call, &[]).await.unwrap();
            calls.push(picked.address());
        }
        assert!(calls.contains(&address) && calls.contains(&other));
        // The next watches mostly go where there are few: only two equal draws of three in four do not.
        let mut few = 0;
        for _ in 0..200 {
            let picked = pool.pick(Load::Watch, &[]).await.unwrap();
            few += usize::from(picked.address() == other);
        }
        assert!(few > 100, "{few} of 200");
    }

    /// L23: a name that fails to resolve lost its members while another one resolved.
    #[test]
    fn a_name_that_cannot_be_resolved_keeps_its_addresses() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (a, b, c) = (
            address("10.0.0.1:1"),
            address("10.0.0.2:1"),
            address("10.0.0.3:1"),
        );
        let failed = || io::Error::other("no answer");
        let mut resolved = Resolved::default();
        resolved.take("one:1", Ok(vec![a]));
        resolved.take("two:1", Err(failed()));
        assert_eq!(resolved.addresses(), HashSet::from([a]));
        resolved.take("two:1", Ok(vec![b]));
        resolved.take("one:1", Err(failed()));
        assert_eq!(resolved.addresses(), HashSet::from([a, b]));
        resolved.take("two:1", Ok(vec![]));
        resolved.take("one:1", Ok(vec![c]));
        assert_eq!(resolved.addresses(), HashSet::from([b, c]));
    }
}

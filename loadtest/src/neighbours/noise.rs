//! The noisy neighbour: a tenant that sends expensive requests at a fixed rate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_ssm::{operation::delete_parameter::DeleteParameterError, types::ParameterType};
use clap::ValueEnum;
use parking_lot::Mutex;
use tagged_config_proto::v1::{
    BatchGetConfigRequest, GetConfigRequest, ListConfigRequest, PutConfigRequest,
    WatchConfigRequest, config_service_client::ConfigServiceClient, watch_config_response::Event,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    accounts::{Accounts, Role, failed},
    client::signed,
    dataset::Table,
    latency::open,
    stop::Stop,
    targets::{self, Targets, need},
    tokens::Caller,
};

/// The neighbour waits for no answer longer than this, but for the snapshot of a watch.
const TIMEOUT: Duration = Duration::from_secs(3);
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(15);
/// Calls of one kind in flight; one that is due beyond that is not made.
const MAX_IN_FLIGHT: u32 = 300;
/// Longer than any run; the noise is stopped.
const FOR_EVER: Duration = Duration::from_hours(1);
/// A batch's answer may be large: 100 keys of 64 KiB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

const LISTED: usize = 100;
const LISTED_BYTES: usize = 10 * 1024;
const BIG: usize = 100;
const BIG_BYTES: usize = 64 * 1024;
const WATCHED: u64 = 500;
const WRITTEN: u64 = 200;
const SECRET: &str = "lt-secret";

/// What the neighbour does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Noise {
    /// An admin reads a SecureString, 100 times a second at each replica
    Secrets,
    /// Pages of 100 items of 10 KB, 25 a second at each replica
    Lists,
    /// Batches of 100 keys of 64 KiB, 10 a second at each replica
    Batches,
    /// Watches of 500 absent keys, opened and closed, 5 a second at each replica
    Watches,
    /// Writes of small values, 100 a second at each replica
    Writes,
    /// All of these at once
    All,
}

/// Outcomes of the neighbour's calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    /// With RESOURCE_EXHAUSTED, for all of the call or a part of it.
    pub(super) refused: u64,
    /// With another code, or without an answer in time.
    pub(super) failed: u64,
}

/// The neighbour's data.
pub(super) struct Place {
    pub(super) tenant: String,
    ssm: aws_sdk_ssm::Client,
    secret: String,
}

/// The neighbour, signed in.
pub(super) struct NoisyNeighbour(Arc<Calls>);

struct Calls {
    caller: Caller,
    channels: Vec<Channel>,
    next: AtomicU64,
}

// === impl Noise ===

impl Noise {
    const KINDS: [Self; 5] = [
        Self::Secrets,
        Self::Lists,
        Self::Batches,
        Self::Watches,
        Self::Writes,
    ];

    /// As reports spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Lists => "lists",
            Self::Batches => "batches",
            Self::Watches => "watches",
            Self::Writes => "writes",
            Self::All => "all",
        }
    }

    fn kinds(self) -> Vec<Self> {
        match self {
            Self::All => Self::KINDS.into(),
            kind => vec![kind],
        }
    }

    fn timeout(self) -> Duration {
        if self == Self::Watches {
            SNAPSHOT_TIMEOUT
        } else {
            TIMEOUT
        }
    }

    /// Calls a second at each replica.
    fn rate(self) -> f64 {
        match self {
            Self::Secrets | Self::Writes => 100.0,
            Self::Lists => 25.0,
            Self::Batches => 10.0,
            Self::Watches => 5.0,
            Self::All => 0.0,
        }
    }
}

// === impl Counts ===

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.failed += other.failed;
    }

    fn count(&mut self, result: Option<Result<(), Code>>) {
        match result {
            Some(Ok(())) => self.accepted += 1,
            Some(Err(Code::ResourceExhausted)) => self.refused += 1,
            Some(Err(_)) | None => self.failed += 1,
        }
    }
}

// === impl Place ===

impl Place {
    pub(super) async fn of(targets: &Targets, tenant: String) -> anyhow::Result<Self> {
        let root = need(&targets.parameter_root, "parameter-root")?;
        Ok(Self {
            secret: format!("{root}/tenants/{tenant}/{SECRET}"),
            ssm: aws_sdk_ssm::Client::new(&targets::sdk_config().await),
            tenant,
        })
    }

    /// Makes the tenant's user, and what the noise of these kinds reads.
    pub(super) async fn make(
        &self,
        accounts: &Accounts,
        table: &Table,
        wanted: &[Noise],
    ) -> anyhow::Result<()> {
        accounts.ensure(&self.tenant, Role::Admin).await?;
        let kinds: Vec<_> = wanted.iter().flat_map(|noise| noise.kinds()).collect();
        let items = |count, name: &str, bytes| -> Vec<_> {
            (0..count)
                .map(|number| {
                    (
                        format!("{name}/{number:03}"),
                        format!("\"{}\"", "x".repeat(bytes)),
                    )
                })
                .collect()
        };
        if kinds.contains(&Noise::Lists) {
            table
                .write(&self.tenant, items(LISTED, "listed", LISTED_BYTES))
                .await?;
        }
        if kinds.contains(&Noise::Batches) {
            table
                .write(&self.tenant, items(BIG, "big", BIG_BYTES))
                .await?;
        }
        if kinds.contains(&Noise::Secrets) {
            let put = self.ssm.put_parameter().name(&self.secret).value("secret");
            put.r#type(ParameterType::SecureString)
                .overwrite(true)
                .send()
                .await
                .map_err(|error| failed("PutParameter", &error))?;
        }
        Ok(())
    }

    /// Removes all of it, also what a run left that ended early.
    pub(super) async fn remove(&self, accounts: &Accounts, table: &Table) -> anyhow::Result<()> {
        let items = table.clear(&self.tenant).await;
        let deleted = self.ssm.delete_parameter().name(&self.secret).send().await;
        let secret = match deleted {
            Err(error)
                if !error
                    .as_service_error()
                    .is_some_and(DeleteParameterError::is_parameter_not_found) =>
            {
                Err(failed("DeleteParameter", &error))
            }
            _ => Ok(()),
        };
        items.and(secret).and(accounts.remove(&self.tenant).await)
    }
}

// === impl NoisyNeighbour ===

impl NoisyNeighbour {
    pub(super) fn new(caller: Caller, channels: Vec<Channel>) -> Self {
        Self(Arc::new(Calls {
            caller,
            channels,
            next: AtomicU64::new(0),
        }))
    }

    /// Makes this noise until it is stopped.
    pub(super) async fn be_noisy(&self, noise: Noise, stop: &Stop) -> Counts {
        let loops = noise
            .kinds()
            .into_iter()
            .map(|kind| self.repeat(kind, stop));
        let mut all = Counts::default();
        for counts in futures::future::join_all(loops).await {
            all.add(counts);
        }
        all
    }

    async fn repeat(&self, kind: Noise, stop: &Stop) -> Counts {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let replicas = self.0.channels.len() as f64;
        let plan = open::Plan {
            rate: kind.rate() * replicas,
            duration: FOR_EVER,
            max_in_flight: MAX_IN_FLIGHT,
            timeout: kind.timeout(),
        };
        let (calls, count) = (Arc::clone(&self.0), Arc::clone(&counts));
        open::run(plan, stop, move |_| {
            let (calls, count) = (Arc::clone(&calls), Arc::clone(&count));
            async move {
                let result = tokio::time::timeout(kind.timeout(), calls.call(kind)).await;
                let result = result
                    .ok()
                    .map(|result| result.map_err(|status| status.code()));
                count.lock().count(result);
            }
        })
        .await;
        *counts.lock()
    }
}

// === impl Calls ===

impl Calls {
    async fn call(&self, kind: Noise) -> Result<(), Status> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let index = usize::try_from(number).unwrap_or_default() % self.channels.len();
        let mut client = ConfigServiceClient::new(self.channels[index].clone())
            .max_decoding_message_size(MAX_ANSWER);
        let token = self.caller.token();
        match kind {
            Noise::Secrets | Noise::All => {
                let request = GetConfigRequest {
                    key: format!("param_config_{SECRET}"),
                    ..Default::default()
                };
                client.get_config(signed(request, &token, TIMEOUT)).await?;
            }
            Noise::Lists => {
                let request = ListConfigRequest {
                    prefix: "tenant_config_listed/".to_owned(),
                    page_size: 100,
                    ..Default::default()
                };
                client.list_config(signed(request, &token, TIMEOUT)).await?;
            }
            Noise::Batches => {
                let keys = (0..BIG).map(|number| format!("tenant_config_big/{number:03}"));
                let request = BatchGetConfigRequest {
                    keys: keys.collect(),
                    ..Default::default()
                };
                let request = signed(request, &token, TIMEOUT);
                let answer = client.batch_get_config(request).await?.into_inner();
                refused(answer.errors.iter().map(|error| error.code))?;
            }
            Noise::Watches => {
                let keys = (0..WATCHED).map(|key| format!("tenant_config_absent/{number}/{key}"));
                let request = WatchConfigRequest {
                    keys: keys.collect(),
                };
                let request = signed(request, &token, SNAPSHOT_TIMEOUT);
                let mut events = client.watch_config(request).await?.into_inner();
                while let Some(event) = events.message().await? {
                    match event.event {
                        Some(Event::InSync(true)) => break,
                        Some(Event::Failed(error)) => refused([error.code])?,
                        _ => {}
                    }
                }
            }
            Noise::Writes => {
                let request = PutConfigRequest {
                    key: format!("tenant_config_written/{}", number % WRITTEN),
                    value: number.to_string(),
                    ..Default::default()
                };
                client.put_config(signed(request, &token, TIMEOUT)).await?;
            }
        }
        Ok(())
    }
}

/// Fails if a part of the answer was refused.
fn refused(codes: impl IntoIterator<Item = i32>) -> Result<(), Status> {
    let is_refusal = |code: i32| Code::from(code) == Code::ResourceExhausted;
    if codes.into_iter().any(is_refusal) {
        return Err(Status::resource_exhausted("a part was refused"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_refused_makes_the_call_refused() {
        assert!(refused([i32::from(Code::Unavailable)]).is_ok());
        let codes = [Code::Unavailable, Code::ResourceExhausted].map(i32::from);
        let status = refused(codes).unwrap_err();
        let mut counts = Counts::default();
        counts.count(Some(Err(status.code())));
        counts.count(Some(Ok(())));
        counts.count(Some(Err(Code::Unavailable)));
        counts.count(None);
        assert_eq!((counts.accepted, counts.refused, counts.failed), (1, 1, 2));
    }

    #[test]
    fn all_is_every_kind() {
        assert_eq!(Noise::All.kinds(), Noise::KINDS);
        assert_eq!(Noise::value_variants().len(), Noise::KINDS.len() + 1);
    }
}

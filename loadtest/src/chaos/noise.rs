//! A noisy neighbour: a tenant that reads ten thousand keys of one tag over and over, and changes some, at every replica and
//! whatever it is answered.

use std::time::Duration;

use tagged_config_proto::v1::{
    BatchGetConfigRequest, PutConfigRequest, config_service_client::ConfigServiceClient,
};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tonic::{Code, transport::Channel};

use crate::{
    accounts::{Accounts, Role},
    client::signed,
    dataset::{Dataset, Table},
    tokens::{Caller, Token},
};

/// Keys that it goes through.
const KEYS: u32 = 10_000;
/// Keys of one call.
const BATCH: u32 = 100;
/// A call at each replica this often: 5,000 keys a second, where a tenant may have 1,000 that are not cached.
const EVERY: Duration = Duration::from_millis(20);
/// It waits for no answer longer than this.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What came of its calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Churn {
    /// Keys that were requested, or changed.
    pub(super) requested: u64,
    /// Of these, those that the service refused with RESOURCE_EXHAUSTED.
    pub(super) refused: u64,
}

/// The neighbour, signed in.
pub(super) struct NoisyNeighbour<'a> {
    accounts: &'a Accounts,
    table: &'a Table,
    caller: Caller,
    /// The tag of its keys, without `_config_`.
    tag: &'static str,
}

// === impl NoisyNeighbour ===

impl<'a> NoisyNeighbour<'a> {
    /// A new tenant.
    pub(super) async fn make(
        accounts: &'a Accounts,
        table: &'a Table,
        tag: &'static str,
    ) -> anyhow::Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let tenant = format!("lt-n{}", &id[..6]);
        accounts.ensure(&tenant, Role::Writer).await?;
        match Caller::sign_in(accounts, &tenant).await {
            Ok(caller) => Ok(Self {
                accounts,
                table,
                caller,
                tag,
            }),
            Err(error) => {
                accounts.remove(&tenant).await?;
                Err(error)
            }
        }
    }

    /// Removes the tenant and its data.
    pub(super) async fn remove(self) -> anyhow::Result<()> {
        self.table.clear(&self.caller.tenant).await?;
        self.accounts.remove(&self.caller.tenant).await
    }

    /// Reads and updates keys for this time.
    pub(super) async fn churn(&self, channels: &[Channel], time: Duration) -> Churn {
        request_all(&self.caller, self.tag, channels, time).await
    }
}

async fn request_all(
    caller: &Caller,
    tag: &'static str,
    channels: &[Channel],
    time: Duration,
) -> Churn {
    let token = caller.token();
    let mut calls = JoinSet::new();
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = tokio::time::Instant::now() + time;
    for round in 0_u32.. {
        if interval.tick().await >= end {
            break;
        }
        let first = round.wrapping_mul(BATCH) % KEYS;
        for channel in channels {
            let (client, token) = (ConfigServiceClient::new(channel.clone()), token.clone());
            calls.spawn(async move { read(client, &token, tag, first).await });
        }
        if let Some(channel) = channels.get(round as usize % channels.len().max(1)) {
            let (client, token) = (ConfigServiceClient::new(channel.clone()), token.clone());
            calls.spawn(async move { change(client, &token, tag, first).await });
        }
    }
    let mut whole = Churn::default();
    for one in calls.join_all().await {
        whole.requested += one.requested;
        whole.refused += one.refused;
    }
    whole
}

async fn read(
    mut client: ConfigServiceClient<Channel>,
    token: &Token,
    tag: &str,
    first: u32,
) -> Churn {
    let request = BatchGetConfigRequest {
        keys: (first..first + BATCH)
            .map(|number| key(tag, number))
            .collect(),
        ..Default::default()
    };
    let answer = client
        .batch_get_config(signed(request, token, TIMEOUT))
        .await;
    let refused = match answer {
        Ok(answer) => {
            let errors = answer.into_inner().errors;
            let refused = errors.iter().filter(|error| is_refusal(error.code.into()));
            refused.count() as u64
        }
        Err(status) if is_refusal(status.code()) => u64::from(BATCH),
        Err(_) => 0,
    };
    Churn {
        requested: u64::from(BATCH),
        refused,
    }
}

async fn change(
    mut client: ConfigServiceClient<Channel>,
    token: &Token,
    tag: &str,
    number: u32,
) -> Churn {
    let request = PutConfigRequest {
        key: key(tag, number),
        value: number.to_string(),
        ..Default::default()
    };
    let answer = client.put_config(signed(request, token, TIMEOUT)).await;
    let refused = answer.is_err_and(|status| is_refusal(status.code()));
    Churn {
        requested: 1,
        refused: refused.into(),
    }
}

fn is_refusal(code: Code) -> bool {
    code == Code::ResourceExhausted
}

fn key(tag: &str, number: u32) -> String {
    format!("{tag}_config_{}", Dataset::name(number))
}

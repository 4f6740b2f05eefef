//! What scenarios choose from: the signed-in callers and their keys.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};

use crate::{accounts::Accounts, dataset::Dataset, progress, stop::Stop, tokens::Caller};

/// Concurrent sign-ins.
const AT_ONCE: usize = 8;

/// The callers and the dataset.
pub(crate) struct World {
    callers: Vec<Arc<Caller>>,
    admins: Vec<Arc<Caller>>,
    dataset: Dataset,
    by_tenant: Zipf<f64>,
    by_key: Zipf<f64>,
    written: AtomicU64,
    /// Part of the keys that no run may share with another.
    run: String,
}

impl World {
    /// Everything that was seeded, each tenant chosen as often as Zipf's law says, each key too.
    pub(crate) fn new(
        callers: Vec<Arc<Caller>>,
        dataset: Dataset,
        skew: f64,
    ) -> anyhow::Result<Self> {
        let tenants = callers.len() as f64;
        Ok(Self {
            by_tenant: Zipf::new(tenants, skew).context("no tenant")?,
            by_key: Zipf::new(f64::from(dataset.keys), skew).context("no key")?,
            callers,
            admins: Vec::new(),
            dataset,
            written: AtomicU64::new(1),
            run: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
        })
    }

    /// The same with these admins, whose tenants have blobs and secrets.
    pub(crate) fn with_admins(self, admins: Vec<Arc<Caller>>) -> Self {
        Self { admins, ..self }
    }

    /// The data.
    pub(crate) fn dataset(&self) -> Dataset {
        self.dataset
    }

    /// A caller, the popular ones often.
    pub(crate) fn caller(&self, rng: &mut impl Rng) -> &Arc<Caller> {
        &self.callers[index(&self.by_tenant, rng, self.callers.len())]
    }

    /// An admin, all as likely; any caller where there is none.
    pub(crate) fn admin(&self, rng: &mut impl Rng) -> &Arc<Caller> {
        if self.admins.is_empty() {
            return self.caller(rng);
        }
        &self.admins[rng.random_range(0..self.admins.len())]
    }

    /// The number of a key, the popular ones often.
    pub(crate) fn key(&self, rng: &mut impl Rng) -> u32 {
        let index = index(&self.by_key, rng, self.dataset.keys as usize);
        u32::try_from(index).unwrap_or(0) + 1
    }

    /// A number that was not given before in this run.
    pub(crate) fn next_write(&self) -> u64 {
        self.written.fetch_add(1, Ordering::Relaxed)
    }

    /// The id of this run.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// A number below `limit`, all as likely.
    pub(crate) fn any(rng: &mut impl Rng, limit: u32) -> u32 {
        rng.random_range(0..limit)
    }
}

fn index(law: &Zipf<f64>, rng: &mut impl Rng, count: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 1 to the count"
    )]
    let rank = law.sample(rng) as usize;
    rank.clamp(1, count) - 1
}

/// Signs these tenants' users in.
pub(crate) async fn sign_in(
    accounts: &Arc<Accounts>,
    tenants: Vec<String>,
    stop: &Stop,
) -> anyhow::Result<Vec<Arc<Caller>>> {
    let bar = progress::counting("signing in", tenants.len() as u64);
    let callers = stream::iter(tenants)
        .take_until(stop.wait())
        .map(|tenant| {
            let (accounts, bar) = (Arc::clone(accounts), bar.clone());
            async move {
                let caller = Caller::sign_in(&accounts, &tenant).await?;
                bar.inc(1);
                anyhow::Ok(Arc::new(caller))
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    bar.finish_and_clear();
    Ok(callers)
}

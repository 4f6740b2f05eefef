//! Ten keys in one call, as a service reads its settings at a request's begin.

use rand::rngs::SmallRng;

use super::{Call, Scenario, hot};
use crate::{client::Operation, world::World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "batch",
    operations: &["batch"],
    next,
};

/// Keys in one call, fewer where fewer were drawn apart.
const KEYS: usize = 10;

fn next(world: &World, rng: &mut SmallRng) -> Call {
    let caller = world.caller(rng).clone();
    let mut keys: Vec<_> = (0..KEYS)
        .map(|_| hot::wanted(world, &caller.tenant, rng))
        .collect();
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    keys.dedup();
    Call {
        caller,
        operation: Operation::Batch(keys),
    }
}

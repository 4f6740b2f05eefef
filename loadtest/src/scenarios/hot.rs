//! Reads of single keys, popular tenants and keys often (Zipf): what a cache is there for.

use rand::rngs::SmallRng;

use super::{Call, Scenario};
use crate::{
    client::{Expect, Operation, Wanted},
    dataset::Dataset,
    world::World,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hot",
    operations: &["get"],
    next,
};

fn next(world: &World, rng: &mut SmallRng) -> Call {
    let caller = world.caller(rng).clone();
    let operation = Operation::Get(wanted(world, &caller.tenant, rng));
    Call { caller, operation }
}

/// One of the tenant's keys, with its value.
pub(super) fn wanted(world: &World, tenant: &str, rng: &mut SmallRng) -> Wanted {
    let key = world.key(rng);
    Wanted {
        key: format!("tenant_config_{}", Dataset::name(key)),
        expect: Expect::Value(world.dataset().value(tenant, key)),
    }
}

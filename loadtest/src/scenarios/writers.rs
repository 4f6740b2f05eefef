//! Writes through the API, to keys of their own: the hot keys keep the values that readers know.

use rand::rngs::SmallRng;

use super::{Call, Scenario};
use crate::{
    client::{Expect, Operation, Wanted},
    world::World,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "writers",
    operations: &["put"],
    next,
};

/// Keys of each tenant that are written.
const KEYS: u32 = 4;

fn next(world: &World, rng: &mut SmallRng) -> Call {
    let caller = world.caller(rng).clone();
    let key = key(World::any(rng, KEYS));
    let value = value(&caller.tenant, world.next_write());
    Call {
        caller,
        operation: Operation::Put { key, value },
    }
}

/// One of the written keys, once each has been written.
pub(super) fn wanted(tenant: &std::sync::Arc<str>, rng: &mut SmallRng) -> Wanted {
    Wanted {
        key: key(World::any(rng, KEYS)),
        expect: Expect::Of(tenant.clone()),
    }
}

/// The names and first values of a tenant's written keys, for the seed.
pub(crate) fn seeds(tenant: &str) -> impl Iterator<Item = (String, String)> {
    (0..KEYS).map(move |number| (format!("loadtest/w{number}"), value(tenant, 0)))
}

fn key(number: u32) -> String {
    format!("tenant_config_loadtest/w{number}")
}

/// The value of a write.
pub(crate) fn value(tenant: &str, number: u64) -> String {
    format!(r#"{{"tenant":"{tenant}","write":{number}}}"#)
}

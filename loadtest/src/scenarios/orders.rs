//! Orders to be priced: each price depends on five configurations of the caller's tenant.

use rand::rngs::SmallRng;

use super::{Call, Scenario};
use crate::{client::Operation, world::World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "orders",
    operations: &["order"],
    next,
};

fn next(world: &World, rng: &mut SmallRng) -> Call {
    let caller = world.caller(rng).clone();
    let cents = u64::from(World::any(rng, 100_000)) + 1;
    Call {
        caller,
        operation: Operation::Order { cents },
    }
}

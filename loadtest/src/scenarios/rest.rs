//! REST clients that keep answers and send their ETags (If-None-Match), and some batches.

use rand::rngs::SmallRng;

use super::{Call, Scenario, batch, hot};
use crate::{client::Operation, world::World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rest",
    operations: &["get-if-changed", "batch"],
    next,
};

fn next(world: &World, rng: &mut SmallRng) -> Call {
    if World::any(rng, 10) == 0 {
        return (batch::SCENARIO.next)(world, rng);
    }
    let caller = world.caller(rng).clone();
    let operation = Operation::GetIfChanged(hot::wanted(world, &caller.tenant, rng));
    Call { caller, operation }
}

//! Reads as an application makes them: mostly hits; shared parameters; keys that writers change, of which each change is
//! a miss somewhere; keys that are not there; now and then one that was never read before.

use rand::rngs::SmallRng;

use super::{Call, Scenario, hot, writers};
use crate::{
    client::{Expect, Operation, Wanted},
    world::World,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "mixed",
    operations: &["get", "get-absent"],
    next,
};

/// The shared parameter that every deployment seeds.
pub(crate) const PARAMETER: &str = "param_config_tax/rate";

fn next(world: &World, rng: &mut SmallRng) -> Call {
    let caller = world.caller(rng).clone();
    let absent = |key: String| Wanted {
        key,
        expect: Expect::Absent,
    };
    let wanted = match World::any(rng, 100) {
        0..55 => hot::wanted(world, &caller.tenant, rng),
        55..75 => Wanted {
            key: PARAMETER.to_owned(),
            expect: Expect::Number,
        },
        75..80 => writers::wanted(&caller.tenant, rng),
        80..97 => absent(format!(
            "tenant_config_loadtest/absent{}",
            World::any(rng, 10)
        )),
        // Never read before, by no other run either: a miss.
        _ => absent(format!(
            "tenant_config_loadtest/never-{}-{}",
            world.run(),
            world.next_write()
        )),
    };
    Call {
        caller,
        operation: Operation::Get(wanted),
    }
}

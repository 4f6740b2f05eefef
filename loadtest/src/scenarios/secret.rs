//! Reads of a secret by an admin of its tenant. No cache holds a secret: each read is a call of Secrets Manager.

use rand::rngs::SmallRng;

use super::{Call, Scenario};
use crate::{
    client::{Expect, Operation, Wanted},
    secrets,
    world::World,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "secret",
    operations: &["get"],
    next,
};

fn next(world: &World, rng: &mut SmallRng) -> Call {
    let caller = world.admin(rng).clone();
    let operation = Operation::Get(Wanted {
        key: secrets::KEY.to_owned(),
        expect: Expect::Value(secrets::value(&caller.tenant)),
    });
    Call { caller, operation }
}

//! Reads of blobs, of small ones often: over gRPC those that a message holds, the others at the replicas over REST; through
//! load balancer and edge all of them, as bytes alone (`:raw`).

use rand::rngs::SmallRng;

use super::{Call, Scenario};
use crate::{
    blobs::{Blob, SIZES},
    client::Operation,
    world::World,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "blob",
    operations: &[
        SIZES[0].operation,
        SIZES[1].operation,
        SIZES[2].operation,
        SIZES[3].operation,
    ],
    next,
};

fn next(world: &World, rng: &mut SmallRng) -> Call {
    let caller = world.admin(rng).clone();
    // On average 342 KiB.
    let size = match World::any(rng, 100) {
        0..70 => SIZES[0],
        70..90 => SIZES[1],
        90..98 => SIZES[2],
        _ => SIZES[3],
    };
    let operation = Operation::Blob(Blob::of(&caller.tenant, size));
    Call { caller, operation }
}

//! What a cache hit allocates: few things, and the same number each time. One test, since the count is the process's.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::hit::Hit;

mod hit;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const HITS: usize = 100;
/// Of a hit inside the service: the key, checked and answered, and the two parts of its place.
const MOST_INSIDE: usize = 4;
/// From the request's headers to the answer's bytes; the request that the test makes is among them.
const MOST_OVER_GRPC: usize = 44;

#[test]
fn a_hit_allocates_little() {
    let hit = Hit::new();
    for (what, answer, most) in [
        ("inside", Hit::inside as fn(&Hit), MOST_INSIDE),
        ("over gRPC", Hit::over_grpc, MOST_OVER_GRPC),
    ] {
        answer(&hit);
        let region = Region::new(COUNTED);
        for _ in 0..HITS {
            answer(&hit);
        }
        let change = region.change();
        let each = (change.allocations + change.reallocations) / HITS;
        println!("{what}: {each} allocations a hit");
        assert!(
            each <= most,
            "{what}: {each} allocations a hit, at most {most} were"
        );
        assert_eq!(
            change.allocations, change.deallocations,
            "{what}: a hit leaves nothing behind"
        );
    }
}

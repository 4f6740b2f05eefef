//! Answers a given number of hits, for callgrind to count their instructions (`scripts/instructions`, which `make bench`
//! runs): `get N` inside the service, `grpc N` from a decoded HTTP/2 request to the encoded answer. One thread.

use std::hint::black_box;

use crate::hit::Hit;

#[path = "../tests/hit/mod.rs"]
mod hit;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    // `cargo bench` passes options of its own.
    let (Some(what), Some(Ok(calls))) = (
        arguments.next(),
        arguments.next().map(|calls| calls.parse::<usize>()),
    ) else {
        return;
    };
    let hit = Hit::new();
    answer_hits(|| {
        for _ in 0..calls {
            if what == "get" {
                hit.inside();
            } else {
                hit.over_grpc();
            }
        }
    });
}

/// What is counted: callgrind knows it by its name.
#[inline(never)]
fn answer_hits(hits: impl FnOnce()) {
    hits();
    black_box(());
}

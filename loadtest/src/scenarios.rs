//! Kinds of users, a file each. A scenario chooses a user's next request; the loops decide when it is sent, the client how.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use rand::rngs::SmallRng;

use crate::{cli::Target, client::Operation, tokens::Caller, world::World};

mod batch;
mod blob;
mod hot;
pub(crate) mod mixed;
mod orders;
mod rest;
mod secret;
pub(crate) mod writers;

/// A request and its caller.
pub(crate) struct Call {
    /// The caller.
    pub(crate) caller: Arc<Caller>,
    /// What it is for.
    pub(crate) operation: Operation,
}

/// A kind of user.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name, in reports and options.
    pub(crate) name: &'static str,
    /// What such users request, as [`Operation::name`] says it.
    pub(crate) operations: &'static [&'static str],
    /// Chooses the next request.
    pub(crate) next: fn(&World, &mut SmallRng) -> Call,
}

/// Scenarios by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mix(BTreeMap<&'static str, usize>);

const ALL: [Scenario; 8] = [
    hot::SCENARIO,
    mixed::SCENARIO,
    batch::SCENARIO,
    writers::SCENARIO,
    orders::SCENARIO,
    rest::SCENARIO,
    blob::SCENARIO,
    secret::SCENARIO,
];

/// Reads of the popular keys.
pub(crate) const HOT: Scenario = hot::SCENARIO;
/// The scenarios of the optional tags, which are in no default mix.
pub(crate) const BLOB: &str = blob::SCENARIO.name;
pub(crate) const SECRET: &str = secret::SCENARIO.name;

impl Mix {
    /// The default of a target.
    pub(crate) fn default_of(target: Target) -> Self {
        let weights: &[_] = match target {
            Target::Grpc => &[
                (hot::SCENARIO.name, 20),
                (mixed::SCENARIO.name, 6),
                (batch::SCENARIO.name, 2),
                (writers::SCENARIO.name, 1),
                (orders::SCENARIO.name, 3),
            ],
            Target::Alb | Target::Edge => &[
                (rest::SCENARIO.name, 4),
                (mixed::SCENARIO.name, 2),
                (orders::SCENARIO.name, 3),
                (writers::SCENARIO.name, 1),
            ],
        };
        Self(weights.iter().copied().collect())
    }

    /// The scenarios with their weights.
    pub(crate) fn weighted(&self) -> impl Iterator<Item = (Scenario, usize)> {
        let scenarios = ALL.into_iter();
        scenarios.filter_map(|scenario| Some((scenario, *self.0.get(scenario.name)?)))
    }

    /// Whether it has this scenario.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The rest of it without this scenario; `None` if there is none.
    pub(crate) fn without(mut self, name: &str) -> Option<Self> {
        self.0.remove(name);
        (!self.0.is_empty()).then_some(self)
    }

    /// Whether gRPC has all of its operations.
    pub(crate) fn fits_grpc(&self) -> bool {
        !self.has(rest::SCENARIO.name)
    }

    /// One of them, as often as its weight says.
    pub(crate) fn pick(&self, rng: &mut SmallRng) -> Scenario {
        use rand::RngExt;
        let total: usize = self.0.values().sum();
        let mut at = rng.random_range(0..total.max(1));
        for (scenario, weight) in self.weighted() {
            if at < weight {
                return scenario;
            }
            at -= weight;
        }
        HOT
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights = BTreeMap::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let Some(scenario) = ALL.iter().find(|scenario| scenario.name == name.trim()) else {
                let known: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
                return Err(format!(
                    "there is no scenario {name:?}: there are {}",
                    known.join(", ")
                ));
            };
            match weight.trim().parse() {
                Ok(weight @ 1..=1_000) => weights.insert(scenario.name, weight),
                _ => return Err(format!("the weight of {name} must be 1 to 1000")),
            };
        }
        Ok(Self(weights))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn mixes_are_checked() {
        let mix: Mix = "hot=3, writers".parse().unwrap();
        assert_eq!(
            mix.weighted()
                .map(|(scenario, weight)| (scenario.name, weight))
                .collect::<Vec<_>>(),
            [("hot", 3), ("writers", 1)]
        );
        assert!(mix.fits_grpc() && !"rest".parse::<Mix>().unwrap().fits_grpc());
        for bad in ["", "cold", "hot=0", "hot=x", "hot=1001", "hot,,"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
        assert!(
            "cold"
                .parse::<Mix>()
                .unwrap_err()
                .contains("there are hot, mixed")
        );
    }

    #[test]
    fn optional_tags_are_in_no_default_mix_and_can_be_left_out() {
        for target in [Target::Grpc, Target::Alb, Target::Edge] {
            let mix = Mix::default_of(target);
            assert!(!mix.has(BLOB) && !mix.has(SECRET));
        }
        let mix: Mix = "blob=2,secret".parse().unwrap();
        assert!(mix.fits_grpc());
        let rest = mix.without(BLOB).unwrap();
        assert_eq!(rest, "secret".parse().unwrap());
        assert_eq!(rest.without(SECRET), None);
    }

    #[test]
    fn weights_are_kept() {
        let mix: Mix = "hot=3,writers=1".parse().unwrap();
        let mut rng = SmallRng::seed_from_u64(7);
        let hot = (0..10_000)
            .filter(|_| mix.pick(&mut rng).name == "hot")
            .count();
        assert!((7_200..7_800).contains(&hot), "{hot}");
    }
}

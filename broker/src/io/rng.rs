//! Chance and fresh ids. All of a node's come from one seeded generator, so that the simulation repeats a run.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

/// A handle to a generator; clones draw from the same sequence.
#[derive(Debug, Clone)]
pub struct Rng(Arc<Mutex<StdRng>>);

impl Rng {
    /// The machine's randomness: another sequence each time.
    pub fn from_os() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// The sequence of this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A number, each with the same chance.
    pub fn u64(&self) -> u64 {
        self.0.lock().random()
    }

    /// A number below `bound`, each with the same chance; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.lock().random_range(0..bound) }
    }

    /// A random UUID (version 4, RFC 9562).
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.0.lock().random()).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence_and_clones_share_it() {
        let draw = |rng: &Rng| (rng.u64(), rng.below(7), rng.uuid());
        let (one, other) = (Rng::seeded(1), Rng::seeded(1));
        assert_eq!(draw(&one), draw(&other));
        assert_eq!(draw(&one.clone()), draw(&other), "a clone goes on in the sequence");
        assert_ne!(draw(&one), draw(&Rng::seeded(2)));
    }

    #[test]
    fn ids_are_random_uuids() {
        let id = Rng::from_os().uuid();
        assert_eq!(id.get_version_num(), 4);
        assert_eq!(Rng::seeded(1).below(0), 0);
    }
}

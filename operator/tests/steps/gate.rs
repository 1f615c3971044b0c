//! At which of its writes the operator dies: pure.
//!
//! A step of the operator is a write that it asks of the API server or of a broker. It can die before the write is made,
//! or after it was made and before it learns of that.

use std::collections::BTreeSet;

/// On which side of a write the operator dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// The write is not made.
    Before,
    /// It is made, and its answer is not read.
    After,
}

/// When the operator dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Never.
    Never,
    /// At every write, both ways: once each time that it follows another one than before, then it is let through. So an
    /// operation comes to its end.
    Every,
    /// Once: at the write of this number, from 0 on.
    One(usize, Way),
}

/// A write, as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// What is asked for, of what.
    pub(crate) name: String,
    /// Whether an operator only says that it is there: each one does that first.
    pub(crate) presents: bool,
}

/// What has arrived, and when the operator dies.
#[derive(Debug)]
pub(crate) struct Gate {
    plan: Plan,
    /// The write that was made last.
    last: String,
    /// Where it has died: the write made before, the write, the way.
    died: BTreeSet<(String, String, Way)>,
    /// Writes that were made under this plan, but for those that only present.
    made: usize,
    deaths: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self { plan: Plan::Never, last: String::new(), died: BTreeSet::new(), made: 0, deaths: 0 }
    }
}

impl Gate {
    /// Begins anew.
    pub(crate) fn follow(&mut self, plan: Plan) {
        *self = Self { plan, ..Self::default() };
    }

    /// Writes that were made, but for those that only present.
    pub(crate) fn made(&self) -> usize {
        self.made
    }

    /// How often the operator has died.
    pub(crate) fn deaths(&self) -> usize {
        self.deaths
    }

    /// A write arrives: whether the operator dies at it. It is made, unless that is before it.
    pub(crate) fn arrives(&mut self, write: &Write) -> Option<Way> {
        let way = self.way(write);
        self.deaths += usize::from(way.is_some());
        if way != Some(Way::Before) && !write.presents {
            self.last.clone_from(&write.name);
            self.made += 1;
        }
        way
    }

    fn way(&mut self, write: &Write) -> Option<Way> {
        match self.plan {
            Plan::Never => None,
            Plan::One(number, way) => (!write.presents && self.made == number && self.deaths == 0).then_some(way),
            Plan::Every => {
                let after = if write.presents { String::new() } else { self.last.clone() };
                let mut is_new = |way| self.died.insert((after.clone(), write.name.clone(), way));
                [Way::Before, Way::After].into_iter().find(|way| is_new(*way))
            }
        }
    }
}

/// Draws for each operation at which write the operator dies, of the first `of`, and how. The same for the same seed.
pub(crate) fn draw(seed: u64, operation: &str, of: usize) -> Plan {
    let salt = operation.bytes().fold(0_u64, |salt, byte| salt.wrapping_mul(31).wrapping_add(byte.into()));
    // splitmix64
    let mut mixed = seed.wrapping_add(salt).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let way = if mixed & 1 == 0 { Way::Before } else { Way::After };
    Plan::One(usize::try_from((mixed >> 1) % of as u64).expect("it is below a usize"), way)
}

#[test]
fn an_operator_dies_on_both_sides_of_every_write_and_the_operation_goes_on() {
    let write = |name: &str, presents| Write { name: name.to_owned(), presents };
    let mut gate = Gate::default();
    gate.follow(Plan::Every);
    let (lease, status, stop) = (write("lease", true), write("status", false), write("stop", false));
    assert_eq!(gate.arrives(&lease), Some(Way::Before));
    assert_eq!(gate.arrives(&lease), Some(Way::After));
    assert_eq!(gate.arrives(&lease), None);
    // Each way once, then the next write is come to.
    for next in [&status, &stop, &status] {
        assert_eq!(gate.arrives(next), Some(Way::Before));
        assert_eq!(gate.arrives(next), Some(Way::After));
        assert_eq!(gate.arrives(&lease), None);
    }
    // What is made again and again, say while it is waited, kills twice more.
    assert_eq!(gate.arrives(&status), Some(Way::Before));
    assert_eq!([(); 3].map(|()| gate.arrives(&status)), [Some(Way::After), None, None]);
    // The same after the same.
    assert_eq!(gate.arrives(&stop), None);
    assert_eq!((gate.made(), gate.deaths()), (7, 10));
}

#[test]
fn a_drawn_step_is_hit_once() {
    let Plan::One(number, way) = draw(7, "roll", 3) else { panic!("one is drawn") };
    assert!(number < 3);
    assert_eq!(draw(7, "roll", 3), Plan::One(number, way));
    let mut gate = Gate::default();
    gate.follow(Plan::One(1, Way::Before));
    let write = Write { name: "a".to_owned(), presents: false };
    assert_eq!([(); 4].map(|()| gate.arrives(&write)), [None, Some(Way::Before), None, None]);
    assert_eq!((gate.made(), gate.deaths()), (3, 1));
}

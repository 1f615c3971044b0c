//! What the administrators of a run know of who votes, from their own orders: three vote at least, whatever becomes of
//! those that are under way. An image may be old, and an order without an answer may be obeyed at any time.

use std::collections::BTreeMap;

use crate::ids::NodeId;

/// So many vote at least: one that loses its disk leaves a majority.
const LEAST: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vote {
    Casts,
    Learns,
    /// An order is under way, or got no answer.
    Open,
}

/// Who votes.
pub(super) struct Voters(BTreeMap<NodeId, Vote>);

/// An order that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) node: NodeId,
    pub(super) vote: bool,
}

impl Voters {
    /// Of so many nodes the first ones vote.
    pub(super) fn new(nodes: i32, voters: i32) -> Self {
        let vote = |id| if id < voters { Vote::Casts } else { Vote::Learns };
        Self((0..nodes).map(|id| (NodeId::new(id), vote(id))).collect())
    }

    /// Has a voter learn, or the other way round: the order, unless there is one or too few would vote.
    pub(super) fn order(&mut self, node: NodeId) -> Option<Order> {
        let voting = self.0.values().filter(|vote| **vote == Vote::Casts).count();
        let vote = self.0.get_mut(&node)?;
        let order = match *vote {
            Vote::Casts if voting > LEAST => Order { node, vote: false },
            Vote::Learns => Order { node, vote: true },
            Vote::Casts | Vote::Open => return None,
        };
        *vote = Vote::Open;
        Some(order)
    }

    /// An order was answered: obeyed, or refused.
    pub(super) fn answered(&mut self, order: Order, obeyed: bool) {
        self.0.insert(order.node, if order.vote == obeyed { Vote::Casts } else { Vote::Learns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: i32) -> NodeId {
        NodeId::new(id)
    }

    #[test]
    fn orders_under_way_never_leave_fewer_than_three() {
        let mut voters = Voters::new(5, 5);
        let first = voters.order(node(3)).expect("five vote");
        assert_eq!(first, Order { node: node(3), vote: false });
        assert_eq!(voters.order(node(3)), None, "one order at a time");
        let second = voters.order(node(1)).expect("four vote, maybe");
        assert_eq!(voters.order(node(2)), None, "three vote, maybe");
        voters.answered(first, true);
        assert_eq!(voters.order(node(2)), None, "three vote, maybe");
        voters.answered(second, false);
        assert!(voters.order(node(2)).is_some(), "four vote");
        assert_eq!(voters.order(node(3)), Some(Order { node: node(3), vote: true }));
    }

    #[test]
    fn three_voters_stay() {
        let mut voters = Voters::new(4, 3);
        assert_eq!(voters.order(node(0)), None);
        let order = voters.order(node(3)).expect("it learns");
        assert_eq!(voters.order(node(0)), None, "nobody knows whether it votes");
        voters.answered(order, true);
        assert_eq!(voters.order(node(0)), Some(Order { node: node(0), vote: false }));
    }
}

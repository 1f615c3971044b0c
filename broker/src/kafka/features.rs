//! The features that clients see (KIP-584): at which level this broker behaves, and which levels it could.

/// One feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Feature {
    /// Kafka's name of it.
    pub name: &'static str,
    /// The lowest level that this broker could behave at.
    pub min: i16,
    /// The highest.
    pub max: i16,
    /// The level that it behaves at.
    pub level: i16,
}

/// All that this broker has: it behaves as Kafka 4.4 does at its newest `metadata.version` (4.4-IV0 there), and there is
/// no other level to choose. Features that aren't listed (`group.version`, `transaction.version`, …) are at level 0,
/// which is what Kafka says by not listing them.
pub(super) const FEATURES: &[Feature] = &[Feature { name: "metadata.version", min: 33, max: 33, level: 33 }];

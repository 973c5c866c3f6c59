//! Serde over values that know where they were set.

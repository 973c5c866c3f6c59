//! Values that know where they were set.

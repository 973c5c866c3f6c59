//! Checks and generators of this workspace

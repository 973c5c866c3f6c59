//! The controller's memory: an append-only journal as truth and a sled projection

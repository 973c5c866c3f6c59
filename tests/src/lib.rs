//! Drives the lab and the three roles as real processes.

//! The controller role: orchestrates vSphere, runs, nodes and identity

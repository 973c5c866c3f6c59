//! The data plane of vSphere: reading and writing virtual disks over open transports

//! The control plane of vCenter and ESXi: sessions, inventory, snapshots, changed areas

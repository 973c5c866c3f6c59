//! Bytes at rest: packs, nodes, manifests, commit log, journal; pure encode and decode

//! TLS 1.3 between roles: who is believed to be whom.

//! The repository's protocol: domain types, client and server adaptor

//! The proxy's protocol: domain types, client and server adaptor

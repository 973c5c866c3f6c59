//! The controller's protocol: domain types, client and server adaptor

//! How roles speak: mutual TLS identity, roles, grants, retry, faults as statuses

//! What the end-to-end tests share: servers, clients, network namespaces.
//!
//! Uses the daemon only through its binary.

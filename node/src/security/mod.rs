//! The cluster's own certificate authority, identities, join tokens and TLS.

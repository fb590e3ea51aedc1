//! The gate between viewers and object storage.

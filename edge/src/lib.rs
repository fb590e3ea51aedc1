//! The gate between viewers and object storage.
//!
//! A viewer asks for `/assets/42/index.m3u8` with a CloudFront-style signature in the query. The edge checks
//! the signature, fetches the object and streams it back. A playlist gets one change on the way: every URI in
//! it that leads back to the edge is given the same authority, so that a player, which only follows links,
//! stays signed from the first manifest to the last segment.
//!
//! ```text
//!            ┌ ObjectKey::parse ─ the object that the path names, or nothing
//!            │ SignedUrl::parse ─ who says so                 (nothing trusted yet)
//! request ─▶ │ KeyGroup::verify ─ Grant, or Denied             (Crypto does the arithmetic, once)
//!            │ Tickets::open    ─ the same, of what a signature opened before
//!            │ Cached, Origin   ─ Object                      (they take the Grant)
//!            │ Document         ─ its links carry the viewer's authority on
//!            └ delivery         ─ ranges, conditions, headers ─▶ response, and a line in the journal
//! ```
//!
//! How a document is rewritten is a crate of its own, [`rewrite`], which is compiled for speed.
//!
//! Everything but the `worker` module is plain Rust, knows neither clock nor network, and runs under
//! `cargo test`. Nothing in it can panic on what a request or a bucket holds: under WebAssembly a panic ends
//! every request in flight. The lints below see to the usual suspects.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod cached;
pub mod caching;
pub mod conditional;
pub mod config;
pub mod cors;
pub mod crypto;
pub mod delivery;
pub mod document;
pub mod journal;
mod json;
pub mod key_group;
pub mod media;
pub mod object_key;
pub mod origin;
pub mod policy;
pub mod refusal;
pub mod s3;
pub mod serve;
pub mod signed_url;
mod sigv4;
pub mod ticket;
mod verified;

#[cfg(feature = "worker")]
mod worker;

pub use config::Config;
pub use delivery::Content;
pub use key_group::{Denied, Grant, KeyGroup, Visitor};
pub use object_key::ObjectKey;
pub use rewrite::{self, gzip, link};
pub use serve::serve;

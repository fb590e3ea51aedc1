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
//!            │ Origin::get      ─ Object                      (takes the Grant)
//!            └ Document         ─ its links carry the viewer's authority on ─▶ response
//!
//! chunks ─▶ Rewriter ─▶ text, authority, text … ─▶ as it is, or Gzip ─▶ parts
//!              └ Playlist, Cues or json say where a link is, Place whose it is
//! ```
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

pub mod caching;
pub mod config;
pub mod cors;
pub mod crypto;
pub mod document;
pub mod gzip;
mod json;
pub mod key_group;
pub mod link;
pub mod object_key;
pub mod origin;
mod playlist;
pub mod policy;
pub mod rewrite;
pub mod serve;
pub mod signed_url;
pub mod ticket;
mod verified;
mod webvtt;

#[cfg(feature = "worker")]
mod worker;

pub use config::Config;
pub use key_group::{Denied, Grant, KeyGroup, Visitor};
pub use object_key::ObjectKey;
pub use serve::{Content, Remark, serve};

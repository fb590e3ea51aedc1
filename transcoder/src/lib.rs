//! From an uploaded video to signed HLS.

pub mod keygen;
pub mod sign;

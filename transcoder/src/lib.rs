//! From an uploaded video to signed HLS.

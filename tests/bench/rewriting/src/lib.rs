//! What rewriting a playlist takes by itself, beside a copy of what comes out of it and beside a parser.
//!
//! The same functions as WebAssembly, which `rewriting.mjs` calls in V8, and natively (`main.rs`). Each does its work
//! some times over, so that the call is not what is measured.

use std::hint::black_box;

use edge::link::Place;
use edge::rewrite::{Encoding, Kind, Rewriter};
use m3u8_rs::{MediaPlaylist, Playlist};
use wasm_bindgen::prelude::wasm_bindgen;

/// How the gate takes what is ready: as one piece up to the first of these, in bytes, then in pieces of the second.
const WHOLE: usize = 1024 * 1024;
const PIECE: usize = 256 * 1024;

/// A media playlist that is to be signed, by one way or another.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Contest {
    playlist: Vec<u8>,
    authority: String,
    place: Place,
    signed: Vec<u8>,
}

#[expect(clippy::missing_panics_doc, reason = "what is given is the bench's own")]
#[wasm_bindgen]
impl Contest {
    /// Takes a playlist and what goes into each of its links.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(playlist: &[u8], authority: &str) -> Self {
        let uri = "https://video.example/assets/lesson/1/720p/index.m3u8".parse().expect("a URI");
        let place = Place::at(&uri, &[].into(), authority);
        let mut contest =
            Self { playlist: playlist.to_vec(), authority: authority.to_owned(), place, signed: Vec::new() };
        let mut signed = Vec::new();
        contest.rewritten(Encoding::Identity, |piece| signed.extend(piece));
        contest.signed = signed;
        contest
    }

    /// What the gate makes of it.
    #[must_use]
    pub fn signed(&self) -> Vec<u8> {
        self.signed.clone()
    }

    /// What `m3u8-rs` makes of it.
    #[must_use]
    pub fn printed(&self) -> Vec<u8> {
        let mut playlist = parsed(&self.playlist);
        sign(&mut playlist, &self.authority);
        let mut out = Vec::new();
        playlist.write_to(&mut out).expect("memory takes it");
        out
    }

    /// Rewrites it as the gate does.
    pub fn rewrite(&self, times: u32) {
        for _ in 0..times {
            self.rewritten(Encoding::Identity, |piece| drop(black_box(piece)));
        }
    }

    /// Rewrites it as the gate does, for who accepts gzip.
    pub fn compose(&self, times: u32) {
        for _ in 0..times {
            self.rewritten(Encoding::Gzip, |piece| drop(black_box(piece)));
        }
    }

    /// Copies what would come out, from memory to memory, in the same pieces.
    pub fn copy(&self, times: u32) {
        for _ in 0..times {
            let (whole, rest) = black_box(&self.signed).split_at(self.signed.len().min(WHOLE));
            for piece in [whole].into_iter().chain(rest.chunks(PIECE)) {
                drop(black_box(piece.to_vec()));
            }
        }
    }

    /// Parses it, changes it and writes it, by `m3u8-rs`.
    pub fn print(&self, times: u32) {
        for _ in 0..times {
            drop(black_box(self.printed()));
        }
    }
}

impl Contest {
    fn rewritten(&self, encoding: Encoding, mut taken: impl FnMut(Vec<u8>)) {
        let mut rewriter = Rewriter::new(Kind::Playlist, self.place.clone(), encoding);
        let (mut rest, mut enough) = (black_box(&*self.playlist), WHOLE);
        while !rest.is_empty() {
            let read = rewriter.push(rest, enough).expect("no line is too long");
            rest = &rest[read..];
            if rewriter.ready() >= enough {
                taken(rewriter.take());
                enough = PIECE;
            }
        }
        rewriter.finish().expect("no line is too long");
        taken(rewriter.take());
    }
}

fn parsed(playlist: &[u8]) -> MediaPlaylist {
    match m3u8_rs::parse_playlist_res(playlist) {
        Ok(Playlist::MediaPlaylist(playlist)) => playlist,
        _ => panic!("the bench's own playlist is none"),
    }
}

fn sign(playlist: &mut MediaPlaylist, authority: &str) {
    let joined = |uri: &mut String| {
        uri.push(if uri.contains('?') { '&' } else { '?' });
        uri.push_str(authority);
    };
    for segment in &mut playlist.segments {
        joined(&mut segment.uri);
        segment.map.iter_mut().for_each(|map| joined(&mut map.uri));
        segment.key.iter_mut().filter_map(|key| key.uri.as_mut()).for_each(joined);
    }
}

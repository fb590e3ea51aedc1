//! Measures natively: `rewriting <seconds> <authority> <playlist>…` prints, as JSON, the nanoseconds of each way for each
//! of the playlists at each round. They take turns, so that what differs between neighbours is theirs.

use std::env::args;
use std::fs;
use std::time::{Duration, Instant};

use rewriting::Contest;

/// How much of its own output each way makes at a time, in bytes, for a turn of some milliseconds.
const TURN: usize = 16 * 1024 * 1024;
const FEWEST_ROUNDS: usize = 5;

type Way = (&'static str, fn(&Contest, u32));
const WAYS: [Way; 4] = [
    ("rewrite", Contest::rewrite),
    ("copy", Contest::copy),
    ("compose", Contest::compose),
    ("print", Contest::print),
];

fn main() {
    let mut arguments = args().skip(1);
    let (Some(seconds), Some(authority)) = (arguments.next(), arguments.next()) else {
        panic!("rewriting <seconds> <authority> <playlist>…");
    };
    let contests: Vec<_> =
        arguments.map(|file| Contest::new(&fs::read(&file).expect("a playlist"), &authority)).collect();
    let mut times = vec![WAYS.map(|_| Vec::new()); contests.len()];
    let end = Instant::now() + Duration::from_secs(seconds.parse().expect("seconds"));
    while times[0][0].len() < FEWEST_ROUNDS || Instant::now() < end {
        for (contest, times) in contests.iter().zip(&mut times) {
            let turns = u32::try_from(TURN / contest.signed().len()).expect("few").max(1);
            for ((name, way), times) in WAYS.iter().zip(times) {
                // The parser is so much slower.
                let turns = if *name == "print" { turns.div_ceil(8) } else { turns };
                let begun = Instant::now();
                way(contest, turns);
                times.push(begun.elapsed().as_nanos() / u128::from(turns));
            }
        }
    }
    let of_one = |times: &[Vec<u128>; WAYS.len()]| {
        let ways = WAYS.iter().zip(times).map(|((name, _), times)| format!("\"{name}\":{times:?}"));
        format!("{{{}}}", ways.collect::<Vec<_>>().join(","))
    };
    println!("[{}]", times.iter().map(of_one).collect::<Vec<_>>().join(","));
}

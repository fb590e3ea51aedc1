//! What was found to be signed, remembered so that it need not be found again.
//!
//! One viewer's player asks hundreds of times with the same signature. Only the arithmetic is remembered: that this
//! key signed these bytes. What the bytes allow is weighed at every request.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::{hash, mem};

use crate::signed_url::Hash;

/// How many are remembered at least, and half of at most: some 2 MB with policies of common length.
const GENERATION: usize = 1_024;

/// A bounded memory of good signatures, of which the least recently used half is forgotten when it is full.
///
/// The bytes themselves are kept, no digest of them: nothing can be mistaken for something else.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<Claim>,
    old: HashSet<Claim>,
}

impl Verified {
    /// Whether this was found to be signed lately.
    pub(crate) fn knows(&self, claim: &Claim) -> bool {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.young.contains(claim) {
            return true;
        }
        let Some(claim) = memory.old.take(claim) else { return false };
        memory.remember(claim);
        true
    }

    /// Remembers that this is signed.
    pub(crate) fn remember(&self, claim: Claim) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remember(claim);
    }
}

impl Generations {
    fn remember(&mut self, claim: Claim) {
        if self.young.len() >= GENERATION {
            self.old = mem::replace(&mut self.young, HashSet::with_capacity(GENERATION));
        }
        self.young.insert(claim);
    }
}

/// That a key signed something, as bytes that no other claim has.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Claim(Vec<u8>);

impl Claim {
    /// The parts of unknown length are preceded by it.
    pub(crate) fn new(key_pair_id: &str, hash: Hash, message: &[u8], signature: &[u8]) -> Self {
        let parts = [key_pair_id.as_bytes(), message, signature];
        let length = parts.iter().map(|part| part.len() + size_of::<u64>()).sum::<usize>() + 1;
        let mut bytes = Vec::with_capacity(length);
        bytes.push(match hash {
            Hash::Sha1 => 1,
            Hash::Sha256 => 2,
        });
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        Self(bytes)
    }
}

/// By the end of the signature alone. Only what is signed is remembered, so nobody but a signer whom we trust could
/// make many that end the same; to hash all of a claim takes as long as to read its policy.
impl hash::Hash for Claim {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.last_chunk::<8>().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn claim(message: &[u8]) -> Claim {
        Claim::new("K1", Hash::Sha1, message, b"s")
    }

    #[test]
    fn only_the_very_same_is_remembered() {
        let verified = Verified::default();
        verified.remember(claim(b"one"));
        assert!(verified.knows(&claim(b"one")));
        assert!(!verified.knows(&claim(b"on")));
        assert!(!verified.knows(&Claim::new("K1", Hash::Sha256, b"one", b"s")));
        assert!(!verified.knows(&Claim::new("K", Hash::Sha1, b"1one", b"s")));
        assert!(!verified.knows(&Claim::new("K1", Hash::Sha1, b"ones", b"")));
    }

    proptest! {
        /// As long as there is room, it is a set.
        #[test]
        fn nothing_is_known_that_was_not_remembered(
            events in vec((any::<bool>(), prop_oneof![Just("K1"), Just("K")], vec(0..3_u8, 0..3), vec(0..3_u8, 0..3), any::<bool>()), 0..200)
        ) {
            let (verified, mut model) = (Verified::default(), HashSet::new());
            for (remembers, key_pair_id, message, signature, other_hash) in &events {
                let hash = if *other_hash { Hash::Sha256 } else { Hash::Sha1 };
                let claim = || Claim::new(key_pair_id, hash, message, signature);
                if *remembers {
                    verified.remember(claim());
                    model.insert((key_pair_id, message, signature, other_hash));
                }
                prop_assert_eq!(verified.knows(&claim()), model.contains(&(key_pair_id, message, signature, other_hash)));
            }
        }

        /// Whatever is remembered and asked for, there is an end to it, and the latest are there.
        #[test]
        fn the_latest_are_known_and_there_is_an_end(numbers in vec(0..5_000_u16, GENERATION..4 * GENERATION)) {
            let verified = Verified::default();
            for number in &numbers {
                verified.remember(claim(&number.to_le_bytes()));
                verified.knows(&claim(&number.wrapping_add(7).to_le_bytes()));
                let memory = verified.0.lock().unwrap();
                prop_assert!(memory.young.len() <= GENERATION && memory.old.len() <= GENERATION);
            }
            for number in numbers.iter().rev().take(GENERATION / 2) {
                prop_assert!(verified.knows(&claim(&number.to_le_bytes())));
            }
        }
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let verified = Verified::default();
        verified.remember(claim(b"used"));
        for i in 0..10 * GENERATION {
            verified.remember(claim(&i.to_le_bytes()));
            assert!(verified.knows(&claim(b"used")));
        }
        let memory = verified.0.lock().unwrap();
        assert!(memory.young.len() + memory.old.len() <= 2 * GENERATION);
    }
}

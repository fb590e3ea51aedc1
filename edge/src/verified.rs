//! What was found to be signed, remembered so that it need not be found again.
//!
//! One viewer's player asks hundreds of times with the same signature. Only the arithmetic is remembered: that this
//! key signed these bytes. What the bytes allow is weighed at every request.

use std::collections::HashSet;
use std::mem;
use std::sync::{Mutex, PoisonError};

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
    young: HashSet<Vec<u8>>,
    old: HashSet<Vec<u8>>,
}

impl Verified {
    /// Whether this was found to be signed lately.
    pub(crate) fn knows(&self, claim: &Claim<'_>) -> bool {
        let bytes = claim.to_bytes();
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.young.contains(&bytes) {
            return true;
        }
        let Some(bytes) = memory.old.take(&bytes) else { return false };
        memory.remember(bytes);
        true
    }

    /// Remembers that this is signed.
    pub(crate) fn remember(&self, claim: &Claim<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remember(claim.to_bytes());
    }
}

impl Generations {
    fn remember(&mut self, bytes: Vec<u8>) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(bytes);
    }
}

/// That a key signed something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) key_pair_id: &'a str,
    pub(crate) hash: Hash,
    pub(crate) message: &'a [u8],
    pub(crate) signature: &'a [u8],
}

impl Claim<'_> {
    /// No two claims have the same bytes: the parts of unknown length are preceded by it.
    fn to_bytes(self) -> Vec<u8> {
        let parts = [self.key_pair_id.as_bytes(), self.message, self.signature];
        let length = parts.iter().map(|part| part.len() + size_of::<u64>()).sum::<usize>() + 1;
        let mut bytes = Vec::with_capacity(length);
        bytes.push(match self.hash {
            Hash::Sha1 => 1,
            Hash::Sha256 => 2,
        });
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn claim(message: &[u8]) -> Claim<'_> {
        Claim { key_pair_id: "K1", hash: Hash::Sha1, message, signature: b"s" }
    }

    #[test]
    fn only_the_very_same_is_remembered() {
        let verified = Verified::default();
        verified.remember(&claim(b"one"));
        assert!(verified.knows(&claim(b"one")));
        assert!(!verified.knows(&claim(b"on")));
        assert!(!verified.knows(&Claim { hash: Hash::Sha256, ..claim(b"one") }));
        assert!(!verified.knows(&Claim { key_pair_id: "K", ..claim(b"1one") }));
        assert!(!verified.knows(&Claim { message: b"ones", signature: b"", ..claim(b"") }));
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
                let claim = Claim { key_pair_id, hash, message, signature };
                if *remembers {
                    verified.remember(&claim);
                    model.insert((key_pair_id, message, signature, other_hash));
                }
                prop_assert_eq!(verified.knows(&claim), model.contains(&(key_pair_id, message, signature, other_hash)));
            }
        }

        /// Whatever is remembered and asked for, there is an end to it, and the latest are there.
        #[test]
        fn the_latest_are_known_and_there_is_an_end(numbers in vec(0..5_000_u16, GENERATION..4 * GENERATION)) {
            let verified = Verified::default();
            for number in &numbers {
                verified.remember(&claim(&number.to_le_bytes()));
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
        verified.remember(&claim(b"used"));
        for i in 0..10 * GENERATION {
            verified.remember(&claim(&i.to_le_bytes()));
            assert!(verified.knows(&claim(b"used")));
        }
        let memory = verified.0.lock().unwrap();
        assert!(memory.young.len() + memory.old.len() <= 2 * GENERATION);
    }
}

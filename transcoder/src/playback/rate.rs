//! How often somebody may do something.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many are remembered before it is looked whose time is over.
const ROOM: usize = 1_024;

/// So many times in so long, each by itself, all of them at once if need be: the virtual scheduling of the
/// [generic cell rate algorithm](https://www.itu.int/rec/T-REC-I.371).
#[derive(Debug)]
pub(super) struct Rate<K> {
    every: Duration,
    most: Duration,
    due: Mutex<Due<K>>,
}

/// When each would be done with what they have had, were it spread evenly.
#[derive(Debug)]
struct Due<K> {
    times: HashMap<K, Instant>,
    room: usize,
}

impl<K: Eq + Hash> Rate<K> {
    pub(super) fn new(times: NonZeroU32, most: Duration) -> Self {
        let due = Due { times: HashMap::new(), room: ROOM };
        Self { every: most / times.get(), most, due: Mutex::new(due) }
    }

    /// Takes note that somebody does it now; or says how long they have to wait.
    pub(super) fn admit(&self, who: K, now: Instant) -> Result<(), Duration> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.times.len() >= due.room {
            due.times.retain(|_, time| *time > now);
            due.room = ROOM.max(due.times.len() * 2);
        }
        let begins = due.times.get(&who).map_or(now, |time| (*time).max(now));
        let ends = begins + self.every;
        let wait = ends.duration_since(now).saturating_sub(self.most);
        if wait.is_zero() {
            due.times.insert(who, ends);
            Ok(())
        } else {
            Err(wait)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_one_at_a_time() {
        let rate = Rate::new(NonZeroU32::new(3).unwrap(), Duration::from_mins(1));
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(rate.admit("a", now), Ok(()));
        }
        assert_eq!(rate.admit("a", now), Err(Duration::from_secs(20)));
        assert_eq!(rate.admit("b", now), Ok(()));
        assert_eq!(rate.admit("a", now + Duration::from_secs(19)), Err(Duration::from_secs(1)));
        assert_eq!(rate.admit("a", now + Duration::from_secs(20)), Ok(()));
        assert_eq!(rate.admit("a", now + Duration::from_secs(20)), Err(Duration::from_secs(20)));
        let later = now + Duration::from_hours(1);
        assert!((0..3).all(|_| rate.admit("a", later).is_ok()));
        assert!(rate.admit("a", later).is_err());
    }

    #[test]
    fn whose_time_is_over_is_forgotten() {
        let rate = Rate::new(NonZeroU32::MIN, Duration::from_secs(1));
        let now = Instant::now();
        for who in 0..5 * ROOM {
            let now = now + Duration::from_millis(who as u64);
            assert_eq!(rate.admit(who, now), Ok(()));
        }
        assert!(rate.due.lock().unwrap().times.len() <= 2 * ROOM);
    }
}

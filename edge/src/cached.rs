//! An origin with a cache before it.
//!
//! A cache is asked with a [`Grant`] in hand only, and knows nothing of whose it is: what one viewer had it fetched for,
//! another who may see it gets as well.

use std::cell::Cell;

use crate::caching::Lifetimes;
use crate::key_group::Grant;
use crate::media::Class;
use crate::origin::{ByteRange, Metadata, Miss, Object, Origin, Wanted};

/// Keeps objects for a while, whole, each under its key.
#[expect(async_fn_in_trait, reason = "as Origin's")]
pub trait Cache {
    /// The bytes of an object, as the origin has them.
    type Body;

    /// What is kept of what was granted, or a range of it, and for which time; nothing where that cannot be had.
    async fn get(&self, grant: &Grant, range: Option<ByteRange>) -> Option<(Object<Self::Body>, Term)>;

    /// Keeps a whole object for that time, if it can, while its body goes to the viewer. Neither holds the other up.
    fn keep(&self, grant: &Grant, object: &mut Object<Self::Body>, term: Term);
}

/// For which time something is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Term {
    /// When its store handed it out, in Unix seconds.
    pub since: u64,
    /// From when on it is over, in Unix seconds.
    pub until: u64,
}

/// What the cache had to do with an answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Found {
    /// Nothing: such objects are not kept.
    #[default]
    Bypass,
    /// It was in there.
    Hit,
    /// It was not.
    Miss,
}

impl Found {
    /// In one word, for logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }
}

/// An origin with a cache before it, for one request.
#[derive(Debug)]
pub struct Cached<O, C> {
    origin: O,
    cache: C,
    lifetimes: Lifetimes,
    now: u64,
    found: Cell<Found>,
}

impl<O: Origin, C: Cache<Body = O::Body>> Cached<O, C> {
    /// For a request at `now`, in Unix seconds.
    pub fn new(origin: O, cache: C, lifetimes: Lifetimes, now: u64) -> Self {
        Self { origin, cache, lifetimes, now, found: Cell::default() }
    }

    /// What the cache had to do with the answer.
    pub fn found(&self) -> Found {
        self.found.get()
    }

    /// The origin behind the cache.
    pub fn origin(&self) -> &O {
        &self.origin
    }

    /// What is kept and good. The cache may go by another clock than ours, or by none.
    async fn kept(&self, class: Class, grant: &Grant, range: Option<ByteRange>) -> Option<Object<O::Body>> {
        if !self.lifetimes.keeps(class) {
            return None;
        }
        let kept = self.cache.get(grant, range).await;
        let good = kept.filter(|(_, term)| self.now < term.until);
        self.found.set(if good.is_some() { Found::Hit } else { Found::Miss });
        good.map(|(mut object, term)| {
            object.metadata.age = Some(self.now.saturating_sub(term.since));
            object
        })
    }
}

impl<O: Origin, C: Cache<Body = O::Body>> Origin for Cached<O, C> {
    type Body = O::Body;

    async fn get(&self, grant: &Grant, wanted: &Wanted<'_>) -> Result<Object<O::Body>, Miss> {
        let class = Class::of(grant.key());
        if let Some(object) = self.kept(class, grant, wanted.range).await {
            return Ok(object);
        }
        let mut object = self.origin.get(grant, wanted).await?;
        let seconds = self.lifetimes.seconds(class, &object.metadata);
        if object.part.is_none() && seconds > 0 {
            let term = Term { since: self.now, until: self.now.saturating_add(seconds) };
            self.cache.keep(grant, &mut object, term);
        }
        Ok(object)
    }

    async fn head(&self, grant: &Grant) -> Result<Metadata, Miss> {
        match self.kept(Class::of(grant.key()), grant, None).await {
            Some(object) => Ok(object.metadata),
            None => self.origin.head(grant).await,
        }
    }

    async fn chunk(&self, body: &mut O::Body) -> Result<Option<Vec<u8>>, Miss> {
        self.origin.chunk(body).await
    }
}

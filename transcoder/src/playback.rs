//! The box office: who may watch, and the URL that lets them.
//!
//! ```text
//! the platform, by the API's token ──────────┐
//! a viewer's token ─▶ Viewers ─▶ Viewer ─────┴─▶ may they? ─▶ one signature ─▶ Ticket
//! ```
//!
//! A ticket is one policy for the asset's folder, so the playlist, all that it links to, the poster and the storyboard
//! are opened by one signature, and nothing beside the asset is. How often the private key is used is what is bounded
//! here: so many times a second for the platform, as many for all viewers, and each of them so many times a minute.

mod jwks;
mod rate;
mod settings;
mod viewer;

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use edge::policy::Cidr;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use url::Url;

use self::rate::Rate;
use crate::asset::{Asset, AssetId};
use crate::sign::{Cookies, KeyPair, Order, SignError};
use crate::storage::{self, Store};

pub use self::jwks::Unreachable;
pub use self::settings::{Origins, PrivateKey, Settings};
pub use self::viewer::{Refused, Viewer, Viewers};

/// Signs for those who may watch.
#[derive(Debug)]
pub struct BoxOffice {
    /// Where viewers reach the edge.
    pub edge: Url,
    /// How much longer than an asset plays it can be watched, where nobody says for how long.
    pub margin: Duration,
    /// The longest that anything is signed for.
    pub longest: Duration,
    /// Pages that may ask for their viewers.
    pub origins: Origins,
    /// Whose tokens are taken, if viewers may ask themselves.
    pub viewers: Option<Viewers>,
    key: Arc<KeyPair>,
    cookies: Cookies,
    rate: Rate<Discriminant<Caller>>,
    signing: Semaphore,
}

/// What is to be watched, from when on, for how long, and from where.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which asset.
    pub asset: AssetId,
    /// For how many seconds, where that is not for the box office to say.
    pub lifetime: Option<u64>,
    /// From when on, if not at once.
    pub starts: Option<Timestamp>,
    /// The only addresses that may watch.
    pub address: Option<Cidr>,
    /// Whether cookies shall open it instead of the URL.
    pub cookies: bool,
}

/// On whose behalf something is to be watched.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Who knows the API's token, and has seen to it that they may.
    Platform,
    /// Who wants to watch.
    Viewer(Viewer),
}

/// What lets them watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// The multivariant playlist's URL, signed unless cookies open it.
    pub url: String,
    /// The poster's, in the same way.
    pub poster: Option<String>,
    /// The storyboard's, in the same way.
    pub storyboard: Option<String>,
    /// When it stops to work.
    pub expires: Timestamp,
    /// Playing time in seconds.
    pub duration: f64,
    /// The values of `Set-Cookie` headers, where cookies open it.
    pub cookies: Vec<String>,
}

/// Why somebody may not watch.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The viewer's token does not say so.
    #[error("the token does not list this asset")]
    Closed,
    /// Viewers may not choose that.
    #[error("only the platform chooses `starts`: leave it out")]
    Starts,
    /// There is no such asset.
    #[error("there is no such asset")]
    NoAsset,
    /// Nothing is signed for no time.
    #[error("`lifetime` is in seconds, at least 1")]
    NoTime,
    /// Nor for so long.
    #[error("`lifetime` {wished} is more than {longest}, which is the most {by}")]
    TooLong {
        /// What was asked for, in seconds.
        wished: u64,
        /// What could be.
        longest: u64,
        /// Who says so.
        by: &'static str,
    },
    /// There is no such time in a signature.
    #[error(
        "it would end after 2038-01-19T03:14:07Z, and no signature can: let it start earlier, or for a shorter `lifetime`"
    )]
    TooFar,
    /// Nobody means these addresses.
    #[error("`ip` {0} {1}")]
    Range(String, &'static str),
    /// Too much is signed.
    #[error("too much is asked for at once: wait {} s", .0.as_secs().max(1))]
    Busy(Duration),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// It cannot be signed, which no wish should lead to.
    #[error("it cannot be signed: {0}")]
    Sign(SignError),
}

impl BoxOffice {
    /// Lets somebody watch, if they may.
    pub async fn sell(
        &self,
        store: &Store,
        wish: &Wish,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Ticket, Refusal> {
        let cap = permitted(wish, caller)?;
        let asset = store.asset(&wish.asset).await?.ok_or(Refusal::NoAsset)?;
        let lifetime = self.lifetime(wish.lifetime, cap, asset.duration)?;
        let place = self.place(&store.key(&wish.asset.folder()));
        let order = order(wish, &place, lifetime, now)?;
        let expires = order.expires;
        self.rate.admit(discriminant(caller), Instant::now()).map_err(Refusal::Busy)?;
        let signed = self.sign(order, wish.cookies, now).await?;
        Ok(ticket(&asset, &place, signed, expires))
    }

    /// Where something lies at the edge.
    fn place(&self, key: &str) -> String {
        format!("{}/{key}", self.edge.origin().ascii_serialization())
    }

    /// For how many seconds something is signed. What was asked for is kept to or refused; what nobody asked for is as
    /// long as it may be.
    fn lifetime(&self, wished: Option<u64>, cap: Option<u64>, duration: f64) -> Result<u64, Refusal> {
        let longest = self.longest.as_secs();
        let (longest, by) = match cap {
            Some(cap) if cap < longest => (cap, "that the token allows"),
            _ => (longest, "that is signed for here"),
        };
        match wished {
            Some(0) => Err(Refusal::NoTime),
            Some(wished) if wished > longest => Err(Refusal::TooLong { wished, longest, by }),
            Some(wished) => Ok(wished),
            None => {
                let plays = Duration::try_from_secs_f64(duration.ceil()).unwrap_or(Duration::MAX);
                Ok(plays.saturating_add(self.margin).as_secs().max(1).min(longest))
            }
        }
    }

    /// Where nobody else waits for it: it takes a millisecond or some of a core.
    async fn sign(&self, order: Order, by_cookies: bool, now: Timestamp) -> Result<Signature, Refusal> {
        let _turn = self.signing.acquire().await.expect("it is never closed");
        let (key, cookies) = (Arc::clone(&self.key), self.cookies.clone());
        let signed = tokio::task::spawn_blocking(move || {
            if by_cookies {
                let signed = key.sign_cookies_for(&order, &cookies, now)?;
                Ok(Signature { query: String::new(), cookies: signed.cookies })
            } else {
                let signed = key.sign(&order, now)?;
                Ok(Signature { query: format!("?{}", signed.url), cookies: Vec::new() })
            }
        });
        signed.await.expect("signing does not panic").map_err(|error| match error {
            SignError::Range(range, what) => Refusal::Range(range, what),
            SignError::TooFar | SignError::Milliseconds(..) => Refusal::TooFar,
            error => Refusal::Sign(error),
        })
    }
}

/// As many signatures are made at once as there are cores.
fn turns() -> Semaphore {
    Semaphore::new(available_parallelism().map_or(1, usize::from))
}

/// Whether the caller may have this at all, and for how many seconds.
fn permitted(wish: &Wish, caller: &Caller) -> Result<Option<u64>, Refusal> {
    match caller {
        Caller::Platform => Ok(None),
        Caller::Viewer(viewer) if !viewer.may_watch(&wish.asset) => Err(Refusal::Closed),
        Caller::Viewer(_) if wish.starts.is_some() => Err(Refusal::Starts),
        Caller::Viewer(viewer) => Ok(viewer.cap()),
    }
}

/// Everything below a place.
fn order(wish: &Wish, place: &str, lifetime: u64, now: Timestamp) -> Result<Order, Refusal> {
    // A start that is over is as good as none; nobody's lifetime runs before it can be used.
    let starts = wish.starts.filter(|starts| *starts > now);
    let seconds = |time: Timestamp| u64::try_from(time.as_second()).unwrap_or_default();
    let expires = seconds(starts.unwrap_or(now)).checked_add(lifetime).ok_or(Refusal::TooFar)?;
    Ok(Order {
        url: format!("{place}/*"),
        expires,
        starts: starts.map(seconds),
        address: wish.address,
        resource: None,
    })
}

/// What opens an order: one of them is empty.
struct Signature {
    query: String,
    cookies: Vec<String>,
}

fn ticket(asset: &Asset, place: &str, signature: Signature, expires: u64) -> Ticket {
    let Signature { query, cookies } = signature;
    let at = |name: &str| format!("{place}/{name}{query}");
    let expires = i64::try_from(expires).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    Ticket {
        url: at("index.m3u8"),
        poster: asset.poster.as_deref().map(at),
        storyboard: asset.storyboard.as_deref().map(at),
        expires: expires.expect("nothing is signed for after 2038"),
        duration: asset.duration,
        cookies,
    }
}

//! Whether a store can do all that is asked of it: found out by doing it.

use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutMode};
use tokio::time::timeout;

use super::{CHECK_TIME, Error, MUTABLE, Place, Store, is_not_implemented};
use crate::asset;

/// What a store that can be written to, read and cleaned up does with conditions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Conditions {
    /// It keeps to them.
    Kept,
    /// It is a folder: one machine has a lock of its own.
    Locked,
    /// It says that it does not know any.
    Unknown,
    /// It takes a second write that it should refuse, and says nothing.
    Ignored,
}

impl Store {
    /// Writes, reads, writes under a condition that does not hold, and removes what it wrote.
    pub async fn examine(&self) -> Result<Conditions, Error> {
        let name = format!("assets/.check-{:08x}", asset::nonce());
        let outcome = timeout(CHECK_TIME, self.examine_at(&name)).await;
        let Ok(outcome) = outcome else {
            return Err(Error::Silent { place: self.place.to_string(), seconds: CHECK_TIME.as_secs() });
        };
        // Of what failed, something may be there all the same.
        let removed = self.delete(&name).await;
        let conditions = outcome?;
        removed.map(|()| conditions)
    }

    async fn examine_at(&self, name: &str) -> Result<Conditions, Error> {
        self.put(name, b"written".to_vec(), MUTABLE).await?;
        let found =
            self.objects.get(&Key::from(self.key(name))).await.map_err(|error| self.refusal(&error))?;
        let found = found.bytes().await.map_err(|error| self.refusal(&error))?;
        if *found != *b"written" {
            let reason = "what was written is not what is read".to_owned();
            return Err(Error::Access { place: self.place.to_string(), reason });
        }
        if let Place::Folder(_) = self.place {
            return Ok(Conditions::Locked);
        }
        match self.put_opts(name, b"once more".to_vec(), MUTABLE, PutMode::Create).await {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Conditions::Kept)
            }
            Err(error) if is_not_implemented(&error) => Ok(Conditions::Unknown),
            Err(error) => Err(self.refusal(&error)),
            Ok(()) => Ok(Conditions::Ignored),
        }
    }
}

//! A document that links to others, read from its origin and rewritten as it is asked for.

use crate::origin::{Miss, Origin};
use crate::rewrite::{Rewriter, TooLong};

/// How much of what goes out waits at a time, in bytes.
pub(crate) const READY: usize = 128 * 1024;

/// A document on its way from its origin to a viewer.
#[derive(Debug)]
pub struct Document<B> {
    body: B,
    /// What has come last from the origin, and how much of it has been read.
    chunk: Vec<u8>,
    read: usize,
    rewriter: Rewriter,
    over: bool,
}

/// Why a document does not go on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Broken {
    /// Its store does not.
    #[error(transparent)]
    Origin(#[from] Miss),
    /// Authority cannot be handed on by it.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl<B> Document<B> {
    pub(crate) fn new(body: B, rewriter: Rewriter) -> Self {
        Self { body, chunk: Vec::new(), read: 0, rewriter, over: false }
    }

    /// Reads on until `enough` bytes wait to be taken, or the document is over.
    pub(crate) async fn fill(&mut self, origin: &impl Origin<Body = B>, enough: usize) -> Result<(), Broken> {
        while !self.over && self.rewriter.ready() < enough {
            if let Some(rest) = self.chunk.get(self.read..).filter(|rest| !rest.is_empty()) {
                self.read += self.rewriter.push(rest, enough)?;
            } else if let Some(chunk) = origin.chunk(&mut self.body).await? {
                (self.chunk, self.read) = (chunk, 0);
            } else {
                self.rewriter.finish()?;
                self.over = true;
            }
        }
        Ok(())
    }

    /// Takes what waits.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.rewriter.take()
    }

    /// How many bytes wait.
    pub(crate) fn ready(&self) -> usize {
        self.rewriter.ready()
    }

    /// Whether all of it has been read.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether it is something else than its name says, as far as it has been read.
    pub(crate) fn is_other(&self) -> bool {
        self.rewriter.is_other()
    }

    /// The next part of what goes out, of some hundred kilobytes; nothing at the end. It is asked for of the origin that
    /// the document came from.
    pub async fn next(&mut self, origin: &impl Origin<Body = B>) -> Result<Option<Vec<u8>>, Broken> {
        if self.rewriter.ready() == 0 {
            self.fill(origin, READY).await?;
        }
        Ok(Some(self.take()).filter(|part| !part.is_empty()))
    }
}

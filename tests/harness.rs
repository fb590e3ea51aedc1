//! What the stories beside this file share.

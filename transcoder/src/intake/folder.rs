//! Watches a folder and what is below it.
//!
//! Nobody says when a file is whole, so one counts when it did not change for a while, or was renamed into its place,
//! which is how it is done by whoever thought of this. The file system's word is only a hint here as well: everything
//! is looked through at first, now and then, and whenever events were lost.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notify::event::{CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::MissedTickBehavior;

use super::{Desk, Door, about, is_settled};
use crate::service;
use crate::upload::Upload;

/// A file that did not change for so long is whole. Copying programs do not pause for longer.
const QUIET: Duration = Duration::from_secs(2);

/// How often those that are not are looked at.
const TICK: Duration = Duration::from_millis(500);

/// How often everything is looked through where the system does not tell of changes.
const POLL: Duration = Duration::from_secs(5);

/// Hints that wait to be read. Above that, everything is looked through instead.
const HINTS: usize = 10_000;

/// Watches until the service stops; looks through everything this often.
pub async fn run(desk: &impl Desk, root: &Path, every: Duration) {
    let (send, mut hints) = channel(HINTS);
    let mut watch = Watch::new(root, send);
    let mut surveys = Door::new("folder");
    let mut looks = Door::new("folder, jobs");
    let mut settling = Settling::default();
    let mut refused = HashSet::new();
    let mut next_survey = Instant::now();
    // A folder that was just made is watched a moment after we are told of it.
    let mut once_more = false;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let hint = tokio::select! {
            () = desk.stop().cancelled() => return,
            _ = ticks.tick() => None,
            hint = hints.recv() => hint,
        };
        match hint {
            Some(Hint::Changed(name)) => settling.changed(name, Instant::now()),
            Some(Hint::MovedIn(name)) => {
                if tokio::fs::metadata(root.join(&name)).await.is_ok_and(|found| found.is_dir()) {
                    (next_survey, once_more) = (Instant::now(), true);
                } else {
                    settling.moved_in(name, Instant::now());
                }
            }
            Some(Hint::Folder) => (next_survey, once_more) = (Instant::now(), true),
            Some(Hint::Away) => watch.end(),
            None => {
                if next_survey <= Instant::now() || watch.has_lost() {
                    let is_watched = watch.begin(every);
                    let pause = match desk.uploads().survey().await {
                        Ok(survey) => {
                            surveys.works();
                            for error in &survey.refused {
                                if refused.insert(error.to_string()) {
                                    tracing::warn!(door = "folder", "{error}");
                                    if let Err(failure) = desk.refuse(error).await {
                                        refused.remove(&error.to_string());
                                        surveys.failed(&failure.to_string());
                                    }
                                }
                            }
                            settling.surveyed(&survey.uploads, Instant::now());
                            about(if is_watched { every } else { every.min(POLL) })
                        }
                        Err(error) => {
                            // It may be another folder when it comes back.
                            watch.end();
                            surveys.failed(&error.to_string())
                        }
                    };
                    let pause = if std::mem::take(&mut once_more) { pause.min(QUIET) } else { pause };
                    next_survey = Instant::now() + pause;
                }
                look(desk, &mut settling, &mut looks).await;
            }
        }
    }
}

/// Has the desk look at what is whole.
async fn look(desk: &impl Desk, settling: &mut Settling, door: &mut Door) {
    for name in settling.due(Instant::now()) {
        if desk.stop().is_cancelled() {
            return;
        }
        let found = match desk.uploads().find(&name).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(door = door.name, "{error}");
                None
            }
        };
        let Some(upload) = settling.observed(&name, found, Instant::now()) else { continue };
        match desk.look_at(&name).await {
            Ok(()) => {
                door.works();
                settling.reported(upload);
            }
            Err(service::Error::Upload(error)) if is_settled(&error) => {
                tracing::warn!(door = door.name, "{error}");
                settling.reported(upload);
            }
            Err(error) => {
                let pause = door.failed(&error.to_string());
                settling.put_off(&name, Instant::now() + pause);
            }
        }
    }
}

/// What the file system says.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Hint {
    /// A file was made or written to.
    Changed(String),
    /// Something was renamed into its place.
    MovedIn(String),
    /// There may be a new folder.
    Folder,
    /// The folder itself is gone.
    Away,
}

/// The system's own watch over the folder, if it can be had.
struct Watch {
    root: PathBuf,
    send: Sender<Hint>,
    lost: Arc<AtomicBool>,
    watcher: Option<RecommendedWatcher>,
    not_before: Instant,
    door: Door,
}

impl Watch {
    fn new(root: &Path, send: Sender<Hint>) -> Self {
        let (root, lost, door) = (root.to_owned(), Arc::default(), Door::new("folder, watch"));
        Self { root, send, lost, watcher: None, not_before: Instant::now(), door }
    }

    /// Whether changes are told, from now on at the latest. What could not be watched is tried again this much later.
    fn begin(&mut self, again: Duration) -> bool {
        if self.watcher.is_none() && self.not_before <= Instant::now() {
            self.not_before = Instant::now() + again;
            match self.watcher() {
                Ok(watcher) => {
                    self.watcher = Some(watcher);
                    self.door.works();
                }
                Err(error) => {
                    let advice = match error.kind {
                        ErrorKind::MaxFilesWatch => " (raise fs.inotify.max_user_watches)",
                        _ => "",
                    };
                    let poll = POLL.as_secs();
                    self.door
                        .failed(&format!("{error}{advice}: changes are looked for every {poll} s instead"));
                }
            }
        }
        self.watcher.is_some()
    }

    fn watcher(&self) -> notify::Result<RecommendedWatcher> {
        let (root, send, lost) = (self.root.clone(), self.send.clone(), Arc::clone(&self.lost));
        let tell = move |event: notify::Result<notify::Event>| {
            let is_told = event.is_ok_and(|event| {
                !event.need_rescan() && hints(&root, &event).all(|hint| send.try_send(hint).is_ok())
            });
            if !is_told {
                lost.store(true, Ordering::Relaxed);
            }
        };
        let mut watcher = notify::recommended_watcher(tell)?;
        watcher.watch(&self.root, RecursiveMode::Recursive)?;
        Ok(watcher)
    }

    fn end(&mut self) {
        self.watcher = None;
        self.not_before = Instant::now();
    }

    /// Whether something happened since this was last asked that nobody was told of.
    fn has_lost(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }
}

fn hints(root: &Path, event: &notify::Event) -> impl Iterator<Item = Hint> {
    let kind = event.kind;
    // Of a renaming within the folder the new name is the last.
    let paths = event.paths.iter().rev().take(if kind == BOTH { 1 } else { usize::MAX });
    paths.filter_map(move |path| {
        let below = path.strip_prefix(root).ok()?;
        if below.as_os_str().is_empty() {
            let is_away = matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
            return is_away.then_some(Hint::Away);
        }
        let name = below.to_str()?.to_owned();
        match kind {
            EventKind::Create(CreateKind::Folder) => Some(Hint::Folder),
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
                Some(Hint::MovedIn(name))
            }
            EventKind::Access(_)
            | EventKind::Remove(RemoveKind::Folder)
            | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => None,
            _ => Some(Hint::Changed(name)),
        }
    })
}

const BOTH: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::Both));

/// Which files are whole, by what was seen of them so far.
#[derive(Debug, Default)]
struct Settling {
    pending: HashMap<String, Pending>,
    /// By name, in which version the desk looked at it.
    reported: HashMap<String, String>,
}

#[derive(Debug)]
struct Pending {
    /// As it was when it was last looked at.
    version: Option<String>,
    /// Since when it is like that.
    since: Instant,
    is_whole: bool,
    not_before: Instant,
}

impl Settling {
    fn pending(&mut self, name: String, now: Instant) -> &mut Pending {
        let new = Pending { version: None, since: now, is_whole: false, not_before: now };
        self.pending.entry(name).or_insert(new)
    }

    fn changed(&mut self, name: String, now: Instant) {
        self.pending(name, now);
    }

    fn moved_in(&mut self, name: String, now: Instant) {
        self.pending(name, now).is_whole = true;
    }

    fn surveyed(&mut self, uploads: &[Upload], now: Instant) {
        let names: HashSet<&str> = uploads.iter().map(|upload| upload.name.as_str()).collect();
        self.reported.retain(|name, _| names.contains(name.as_str()));
        for upload in uploads {
            if self.reported.get(&upload.name) != Some(&upload.version) {
                self.changed(upload.name.clone(), now);
            }
        }
    }

    /// What is to be looked at now.
    fn due(&self, now: Instant) -> Vec<String> {
        let due = self.pending.iter().filter(|(_, pending)| pending.not_before <= now);
        due.map(|(name, _)| name.clone()).collect()
    }

    /// How a file was found just now. It, if it is whole and the desk has not looked at it yet.
    fn observed(&mut self, name: &str, found: Option<Upload>, now: Instant) -> Option<Upload> {
        let Some(upload) = found else {
            self.pending.remove(name);
            return None;
        };
        let pending = self.pending.get_mut(name)?;
        if self.reported.get(name) == Some(&upload.version) {
            self.pending.remove(name);
            return None;
        }
        if pending.is_whole {
            return Some(upload);
        }
        if pending.version.as_ref() != Some(&upload.version) {
            pending.version = Some(upload.version);
            pending.since = now;
            return None;
        }
        (now.duration_since(pending.since) >= QUIET).then_some(upload)
    }

    fn reported(&mut self, upload: Upload) {
        self.pending.remove(&upload.name);
        self.reported.insert(upload.name, upload.version);
    }

    fn put_off(&mut self, name: &str, until: Instant) {
        if let Some(pending) = self.pending.get_mut(name) {
            pending.not_before = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(version: &str) -> Upload {
        let modified = "2026-11-22T10:00:00Z".parse().unwrap();
        Upload { name: "a.mp4".into(), version: version.into(), bytes: 1, modified }
    }

    #[test]
    fn a_file_is_whole_once_it_did_not_change_for_two_seconds() {
        let mut settling = Settling::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        settling.changed("a.mp4".into(), at(0));
        for (time, version, is_whole) in [
            (0, "1", false),
            (1_900, "1", false),
            (2_000, "2", false),
            (3_999, "2", false),
            (4_000, "2", true),
            // Until the desk has looked at it.
            (4_500, "2", true),
        ] {
            assert_eq!(
                settling.observed("a.mp4", Some(upload(version)), at(time)).is_some(),
                is_whole,
                "{time}"
            );
        }
        settling.reported(upload("2"));
        assert!(settling.due(at(5_000)).is_empty());
        settling.surveyed(&[upload("2")], at(5_000));
        assert!(settling.due(at(5_000)).is_empty());
        settling.surveyed(&[upload("3")], at(5_000));
        assert_eq!(settling.due(at(5_000)), ["a.mp4"]);
        settling.put_off("a.mp4", at(9_000));
        assert!(settling.due(at(8_000)).is_empty());
        assert!(settling.observed("a.mp4", None, at(9_000)).is_none());
        assert!(settling.due(at(9_000)).is_empty());
    }

    #[test]
    fn a_file_that_is_renamed_into_its_place_is_whole() {
        let mut settling = Settling::default();
        let now = Instant::now();
        settling.changed("a.mp4".into(), now);
        settling.moved_in("a.mp4".into(), now);
        assert!(settling.observed("a.mp4", Some(upload("1")), now).is_some());
    }

    #[test]
    fn what_the_file_system_says_is_told_by_the_name_below_the_folder() {
        let said = |kind, paths: &[&str]| {
            let event =
                paths.iter().fold(notify::Event::new(kind), |event, path| event.add_path(path.into()));
            hints(Path::new("/in"), &event).collect::<Vec<_>>()
        };
        let renamed = |mode| EventKind::Modify(ModifyKind::Name(mode));
        assert_eq!(
            said(EventKind::Create(CreateKind::File), &["/in/a/b.mp4"]),
            [Hint::Changed("a/b.mp4".into())]
        );
        assert_eq!(said(EventKind::Any, &["/in/a.mp4"]), [Hint::Changed("a.mp4".into())]);
        assert_eq!(said(EventKind::Create(CreateKind::Folder), &["/in/a"]), [Hint::Folder]);
        assert_eq!(said(renamed(RenameMode::To), &["/in/b.mp4"]), [Hint::MovedIn("b.mp4".into())]);
        let both = said(renamed(RenameMode::Both), &["/in/a.part", "/in/a.mp4"]);
        assert_eq!(both, [Hint::MovedIn("a.mp4".into())]);
        assert_eq!(said(renamed(RenameMode::From), &["/in/a.mp4"]), []);
        assert_eq!(said(EventKind::Remove(RemoveKind::Folder), &["/in"]), [Hint::Away]);
        assert_eq!(said(EventKind::Any, &["/elsewhere/a.mp4"]), []);
    }
}

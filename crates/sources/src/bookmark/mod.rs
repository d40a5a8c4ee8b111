//! Bookmarks of file sources: which files a run reads, and which it has read.

mod digests;
mod position;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use hardtack_core::bookmarks::{Advance, Advanced, End};
use hardtack_core::progress::{Part, Progress};
use hardtack_core::{Error, LoadContext, Location, Result};
use object_store::ObjectMeta;
use object_store::path::Path;
use url::Url;

use self::position::{Mark, Position};

/// How a source that grows is read: each run reads the files that the runs before it have not read. See
/// [`Files::bookmarked`](crate::Files::bookmarked).
///
/// | | [`by_modification_time`](Bookmark::by_modification_time) | [`by_path`](Bookmark::by_path) |
/// | --- | --- | --- |
/// | reads | files that were written since, wherever they are | files whose paths come after those that were read |
/// | lists | all files, in every run | the last folders only |
/// | finds late files | written up to an hour before the newest; more with [`look_back`](ByModificationTime::look_back) | in the last two folders; more with [`open_folders`](ByPath::open_folders) |
/// | is for | any layout | landing zones with folders that sort by time, such as `2026/11/28/17/` |
///
/// Both read a file again if it was rewritten within that range, and no file twice otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bookmark(Strategy);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    ModificationTime(ByModificationTime),
    Path(ByPath),
}

impl Bookmark {
    /// Reads the files that were written since the last run.
    ///
    /// A store's times are not a sequence: objects become visible after their time (that of an upload in parts is when
    /// it began), several have the same time, and the clocks of writers differ. So the files within the last hour before
    /// the newest one are remembered one by one, and found if they appear there late.
    pub fn by_modification_time() -> ByModificationTime {
        ByModificationTime { look_back: TimeDelta::hours(1) }
    }

    /// Reads the files whose paths come after those of the last run, in the order of their bytes. Only the folders from
    /// the last ones on are listed, so a run with nothing new takes a request, however many files there are.
    ///
    /// The files in the last two folders are remembered one by one, so those that arrive late there are found. With
    /// files in the location itself there is a single folder, which is remembered and listed as a whole.
    pub fn by_path() -> ByPath {
        ByPath { open_folders: 2 }
    }
}

/// See [`Bookmark::by_modification_time`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByModificationTime {
    look_back: TimeDelta,
}

impl ByModificationTime {
    /// How far before the newest file another one may still appear (an hour by default). The state grows with the number
    /// of files within that time, by 16 bytes each.
    #[must_use]
    pub fn look_back(self, time: TimeDelta) -> Self {
        Self { look_back: time.max(TimeDelta::zero()) }
    }
}

/// As `Debug` shows it in a source.
impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Strategy::ModificationTime(by) if by == Self::by_modification_time() => f.write_str("by modification time"),
            Strategy::ModificationTime(by) => {
                write!(f, "by modification time, looking back {} s", by.look_back.num_seconds())
            }
            Strategy::Path(by) if by == Self::by_path() => f.write_str("by path"),
            Strategy::Path(by) => write!(f, "by path, {} open folders", by.open_folders),
        }
    }
}

impl From<ByModificationTime> for Bookmark {
    fn from(by: ByModificationTime) -> Self {
        Self(Strategy::ModificationTime(by))
    }
}

/// See [`Bookmark::by_path`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByPath {
    open_folders: usize,
}

impl ByPath {
    /// In how many of the last folders files may still appear (two by default, at least one). The state grows with the
    /// number of files in them, by 16 bytes each.
    #[must_use]
    pub fn open_folders(self, folders: usize) -> Self {
        Self { open_folders: folders.max(1) }
    }
}

impl From<ByPath> for Bookmark {
    fn from(by: ByPath) -> Self {
        Self(Strategy::Path(by))
    }
}

impl Bookmark {
    /// The name of the strategy, as it is in positions.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Strategy::ModificationTime(_) => position::BY_MODIFICATION_TIME,
            Strategy::Path(_) => position::BY_PATH,
        }
    }

    /// The range of files that this run reads of a source.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the position is of another location or strategy;
    /// [`Refused`](hardtack_core::ErrorKind::Refused) if it is not one.
    pub(crate) fn window(self, location: &Location, ctx: &LoadContext) -> Result<Window> {
        let absolute = location.absolute()?;
        let place = absolute.as_str().trim_end_matches('/').to_owned();
        let after = match ctx.bookmark().map(Position::read).transpose()? {
            Some(found) if !found.fits(&place, self) => match ctx.resets_moved_bookmark() {
                true => None,
                false => return Err(found.moved(&place, self)),
            },
            found => found,
        };
        let until = match ctx.bookmark_end() {
            End::Open => Until::Open,
            End::Nothing => Until::Nothing,
            End::At(position) => match Position::read(position)? {
                found if found.fits(&place, self) => Until::At(found),
                found => return Err(found.moved(&place, self)),
            },
        };
        Ok(Window { bookmark: self, place, after, until, now: ctx.now() })
    }
}

/// The files of a source that a run reads.
#[derive(Debug)]
pub(crate) struct Window {
    bookmark: Bookmark,
    /// The absolute location of the source, without a slash at its end.
    place: String,
    after: Option<Position>,
    until: Until,
    now: DateTime<Utc>,
}

#[derive(Debug)]
enum Until {
    Open,
    At(Position),
    Nothing,
}

impl Window {
    /// Whether runs before this one have read something.
    pub(crate) fn has_begun(&self) -> bool {
        self.after.is_some()
    }

    /// Whether files are in the order of their paths.
    pub(crate) fn is_by_path(&self) -> bool {
        matches!(self.bookmark.0, Strategy::Path(_))
    }

    /// The path of a file below the location, or its whole location if it is elsewhere.
    pub(crate) fn key(&self, file: &Location) -> String {
        let below = file.as_str().strip_prefix(&self.place).and_then(|rest| rest.strip_prefix('/'));
        below.unwrap_or(file.as_str()).to_owned()
    }

    /// The path below the location after which all files are that may be in the window; empty for all.
    pub(crate) fn offset(&self) -> &str {
        match self.after.as_ref().map(|position| &position.mark) {
            Some(Mark::Path { through, .. }) => through,
            _ => "",
        }
    }

    /// Whether this run reads a file with this path below the location.
    pub(crate) fn takes(&self, key: &str, meta: &ObjectMeta) -> bool {
        let has = |position: &Position| position.mark.has(key, meta);
        let before_its_end = match &self.until {
            Until::Open => true,
            Until::At(position) => has(position),
            Until::Nothing => false,
        };
        before_its_end && !self.after.as_ref().is_some_and(has)
    }

    /// The position once all of these files are read: those in the window, and those before it that were listed.
    fn position(&self, listed: &[(String, ObjectMeta)]) -> Position {
        let before = self.after.as_ref().map(|position| &position.mark);
        let mark = match self.bookmark.0 {
            Strategy::ModificationTime(by) => Mark::by_modification_time(before, listed, by.look_back, self.now),
            Strategy::Path(by) => Mark::by_path(before, listed, by.open_folders),
        };
        Position { location: self.place.clone(), mark }
    }

    /// Moves the bookmark to the end of the files if the run reads those in the window: each is a part of a progress.
    pub(crate) fn follow(
        &self,
        ctx: &LoadContext,
        listed: &[(String, ObjectMeta)],
        sizes: impl IntoIterator<Item = u64>,
    ) -> Result<Vec<Part>> {
        let progress = Progress::new(sizes);
        let advance = Reading { position: self.position(listed).write()?, progress: Arc::clone(&progress) };
        ctx.advance_bookmark_when_read(Arc::new(advance))?;
        Ok(progress.parts())
    }
}

/// Makes what is known of a file the same in each run. The ETags of local files are made of their inodes, and only some
/// listings have them; the size and time remain.
pub(crate) fn without_local_e_tag(store: &Url, meta: &mut ObjectMeta) {
    if store.scheme() == "file" {
        meta.e_tag = None;
    }
}

/// The path of a file below a location.
pub(crate) fn key_below(location: &Path, file: &Path) -> String {
    let below = file.as_ref().strip_prefix(location.as_ref()).unwrap_or(file.as_ref());
    let below = below.trim_start_matches('/');
    // The location is the file itself.
    if below.is_empty() { file.filename().unwrap_or_default().to_owned() } else { below.to_owned() }
}

/// A source that is being read.
#[derive(Debug)]
struct Reading {
    position: serde_json::Value,
    progress: Arc<Progress>,
}

impl Advance for Reading {
    fn advance(&self) -> Advanced {
        match self.progress.done() {
            (done, all) if done == all => Advanced::To(self.position.clone()),
            (0, all) => Advanced::Held(format!("none of {} was read to its end", files(all))),
            (done, all) => Advanced::Held(format!("only {done} of {} were read to their ends", files(all))),
        }
    }
}

fn files(n: usize) -> String {
    if n == 1 { "1 file".to_owned() } else { format!("{n} files") }
}

/// The error for a source whose files' columns are unknown.
pub(crate) fn without_schema() -> Error {
    Error::usage(
        "a source with a bookmark needs the columns of a run without new files; declare them with `with_schema`",
    )
}

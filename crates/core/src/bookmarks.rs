//! Bookmarks: how far each source of a job had been read, and how a run uses and moves that.
//!
//! A position is a JSON value that only its source understands. It is part of the commit record, so it moves with the rows
//! of a run or not at all. It moves only if the run has read what the position covers to the end: see
//! [`Progress`](crate::progress::Progress).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// The positions of a job's sources, by the source's name.
pub type Positions = BTreeMap<String, Value>;

/// What a run does with bookmarks. The names are those of AWS Glue's
/// [`--job-bookmark-option`](https://docs.aws.amazon.com/glue/latest/dg/monitor-continuations.html).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BookmarkOption {
    /// Reads what came after the bookmark, and moves it.
    #[default]
    Enable,
    /// Reads everything, and leaves the bookmark where it is.
    Disable,
    /// Reads what came after the bookmark, and leaves it where it is.
    Pause,
}

/// The bookmarks with which a run begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bookmarks {
    /// What the run does with them.
    pub option: BookmarkOption,
    /// The positions of the last published run of this job and scope.
    pub last: Positions,
    /// The range to read again instead of what came after `last`. The positions then stay where they are.
    pub again: Option<Reprocess>,
    /// Whether a source that was pointed elsewhere starts there from the beginning. Otherwise it is refused.
    pub reset_moved: bool,
}

/// What a run reads again: everything between two positions of each source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reprocess {
    /// The positions after which to read; a source without one is read from its beginning.
    pub after: Positions,
    /// The positions up to which to read; a source without one had read nothing by then. `None`: to the end.
    pub until: Option<Positions>,
}

impl From<Positions> for Bookmarks {
    /// Bookmarks that are used and moved.
    fn from(last: Positions) -> Self {
        Self { last, ..Self::default() }
    }
}

impl Bookmarks {
    /// Where the source of this name starts; none for its beginning.
    pub fn start(&self, source: &str) -> Option<&Value> {
        match (&self.again, self.option) {
            (Some(again), _) => again.after.get(source),
            (None, BookmarkOption::Disable) => None,
            (None, BookmarkOption::Enable | BookmarkOption::Pause) => self.last.get(source),
        }
    }

    /// Where the source of this name ends.
    pub fn end(&self, source: &str) -> End<'_> {
        match self.again.as_ref().and_then(|again| again.until.as_ref()) {
            None => End::Open,
            Some(until) => until.get(source).map_or(End::Nothing, End::At),
        }
    }

    /// Whether positions move with this run.
    pub fn moves(&self) -> bool {
        self.option == BookmarkOption::Enable && self.again.is_none()
    }

    /// Whether a run reads only a part of its bookmarked sources.
    pub fn limits(&self) -> bool {
        self.option != BookmarkOption::Disable || self.again.is_some()
    }
}

/// Where a bookmarked source ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End<'a> {
    /// With whatever is there.
    Open,
    /// At the position that an earlier run has left.
    At(&'a Value),
    /// Where it starts: the earlier run had read nothing of it.
    Nothing,
}

/// A position that a source takes if the run reads it to the end.
pub trait Advance: fmt::Debug + Send + Sync {
    /// The position as of now.
    fn advance(&self) -> Advanced;
}

/// Where a source has come in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Advanced {
    /// To this position.
    To(Value),
    /// Nowhere: it was read to its end, and nothing was new.
    Same,
    /// Not far enough: the position stays, for this reason.
    Held(String),
}

/// The positions as they will be after a run, and why some stay.
#[derive(Debug, Default)]
pub(crate) struct Moves(BTreeMap<String, Arc<dyn Advance>>);

impl Moves {
    /// Adds a source. Returns false if it is there already.
    pub(crate) fn add(&mut self, source: &str, advance: Arc<dyn Advance>) -> bool {
        self.0.insert(source.to_owned(), advance).is_none()
    }

    /// What has become of each source.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Advanced)> {
        self.0.iter().map(|(source, advance)| (source.as_str(), advance.advance()))
    }
}

/// A position that is known when the source is loaded.
#[derive(Debug)]
pub(crate) struct Known(pub(crate) Value);

impl Advance for Known {
    fn advance(&self) -> Advanced {
        Advanced::To(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn at(position: u32) -> Positions {
        Positions::from([("a".to_owned(), json!(position))])
    }

    /// What is read, and whether the bookmark moves.
    #[rstest]
    #[case::enabled(BookmarkOption::Enable, None, Some(9), End::Open, true)]
    #[case::disabled(BookmarkOption::Disable, None, None, End::Open, false)]
    #[case::paused(BookmarkOption::Pause, None, Some(9), End::Open, false)]
    #[case::again(BookmarkOption::Enable, Some((2, Some(at(4)))), Some(2), End::At(&json!(4)), false)]
    #[case::again_paused(BookmarkOption::Pause, Some((2, Some(at(4)))), Some(2), End::At(&json!(4)), false)]
    #[case::again_to_the_end(BookmarkOption::Enable, Some((2, None)), Some(2), End::Open, false)]
    #[case::again_before_it_existed(BookmarkOption::Enable, Some((2, Some(Positions::new()))), Some(2), End::Nothing, false)]
    fn options(
        #[case] option: BookmarkOption,
        #[case] again: Option<(u32, Option<Positions>)>,
        #[case] start: Option<u32>,
        #[case] end: End<'_>,
        #[case] moves: bool,
    ) {
        let again = again.map(|(after, until)| Reprocess { after: at(after), until });
        let bookmarks = Bookmarks { option, again, ..at(9).into() };
        assert_eq!(bookmarks.start("a"), start.map(|at| json!(at)).as_ref());
        assert_eq!((bookmarks.end("a"), bookmarks.moves()), (end, moves));
        assert_eq!(bookmarks.start("b"), None);
    }
}

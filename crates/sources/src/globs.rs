//! Patterns of paths, as in Glue's crawlers.

use glob::{MatchOptions, Pattern};
use hardtack_core::{Error, Result};

/// Patterns of paths below a folder. `*` and `?` stay within a folder, `**` crosses folders, `[a-z]` is one of these
/// characters, `{a,b}` is either. A pattern that matches a folder matches everything in it.
///
/// ```
/// use hardtack_sources::Globs;
///
/// let globs = Globs::parse(["**/*.{txt,md}", "archive"])?;
/// assert!(globs.matches("a/notes.txt") && globs.matches("README.md") && globs.matches("archive/2023/a.csv"));
/// assert!(!globs.matches("a/b.csv"));
/// # Ok::<_, hardtack_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Globs(Vec<Pattern>);

/// `*` stays within a folder.
const WITHIN: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// The maximum number of alternatives; more are probably a mistake.
const MAX_ALTERNATIVES: usize = 1000;

impl Globs {
    /// Parses patterns.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for an invalid pattern. The error names it.
    pub fn parse<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut parsed = Vec::new();
        for pattern in patterns {
            let text = pattern.as_ref();
            let wrong = |why: &str| Error::usage(format!("`{text}` is not a pattern such as `**/*.tmp`: {why}"));
            let text = text.trim_matches('/');
            if text.is_empty() {
                return Err(wrong("it is empty"));
            }
            for one in alternatives(text).ok_or_else(|| wrong("a `{` is not closed, or there are too many"))? {
                parsed.push(Pattern::new(&across(&one)).map_err(|e| wrong(e.msg))?);
            }
        }
        Ok(Self(parsed))
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a pattern matches this path, or a folder that it is in.
    pub fn matches(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.0.iter().any(|pattern| pattern.matches_with(&path[..end], WITHIN)))
    }

    /// The patterns that match this path, relative to the folder `depth` levels down. One that matches a folder on the
    /// path is left out, since nothing further down needs it.
    ///
    /// ```
    /// use hardtack_sources::Globs;
    ///
    /// let globs = Globs::parse(["sales/*/notes.txt", "**/*.txt", "*.txt"])?;
    /// assert_eq!(globs.below("sales/2023/notes.txt", 2), ["notes.txt", "**/*.txt"]);
    /// # Ok::<_, hardtack_core::Error>(())
    /// ```
    pub fn below(&self, path: &str, depth: usize) -> Vec<String> {
        let below = |pattern: &Pattern| {
            let own = Self(vec![pattern.clone()]);
            let parts: Vec<&str> = pattern.as_str().split('/').collect();
            let from = parts.iter().take(depth).position(|part| *part == "**").unwrap_or(depth);
            (own.matches(path) && from < parts.len()).then(|| parts[from..].join("/"))
        };
        self.0.iter().filter_map(below).collect()
    }

    /// The pattern that matches this name and no other.
    pub fn exactly(name: &str) -> String {
        // Braces would be taken for alternatives.
        Pattern::escape(name).replace('{', "[{]").replace('}', "[}]")
    }
}

/// Expands `a{b,c}` to `ab` and `ac`. None if braces do not match.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let (mut depth, mut open, mut cuts, mut class) = (0_usize, 0, Vec::new(), false);
    for (at, c) in pattern.char_indices() {
        match c {
            '[' => class = true,
            ']' => class = false,
            _ if class => {}
            '{' => {
                depth += 1;
                if depth == 1 {
                    (open, cuts) = (at, vec![at]);
                }
            }
            ',' if depth == 1 => cuts.push(at),
            '}' if depth == 1 => {
                cuts.push(at);
                let (before, after) = (&pattern[..open], &pattern[at + 1..]);
                let mut all = Vec::new();
                for cut in cuts.windows(2) {
                    all.extend(alternatives(&format!("{before}{}{after}", &pattern[cut[0] + 1..cut[1]]))?);
                    if all.len() > MAX_ALTERNATIVES {
                        return None;
                    }
                }
                return Some(all);
            }
            '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    (depth == 0).then(|| vec![pattern.to_owned()])
}

/// Turns `**.csv` into `**/*.csv`: in the library, `**` must be a whole path segment.
fn across(pattern: &str) -> String {
    let part = |part: &str| match part {
        "**" => part.to_owned(),
        part => match part.find("**") {
            None => part.to_owned(),
            Some(0) => format!("**/*{}", part.trim_start_matches('*')),
            Some(at) => {
                let (before, after) = (&part[..at], part[at..].trim_start_matches('*'));
                if after.is_empty() { format!("{before}*") } else { format!("{before}*/**/*{after}") }
            }
        },
    };
    pattern.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Which files of a folder to read, by their paths below it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileFilter {
    /// Only these; all if there is no pattern.
    pub only: Globs,
    /// But not these.
    pub except: Globs,
}

impl FileFilter {
    /// Whether a file is selected, by its path below the folder.
    pub fn takes(&self, path: &str) -> bool {
        (self.only.is_empty() || self.only.matches(path)) && !self.except.matches(path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("*.csv", &["a.csv"], &["b/a.csv", "a.json"])]
    #[case("**.csv", &["a.csv", "b/a.csv"], &["a.json"])]
    #[case("**/*.csv", &["a.csv", "b/c/a.csv"], &["a.json"])]
    #[case("a/**", &["a/b", "a/b/c"], &["b", "ab/c"])]
    #[case("a**", &["ab/c", "a/b/c", "axx"], &["b/a"])]
    #[case("a", &["a", "a/b", "a/b/c"], &["ab", "b/a"])]
    #[case("/a/", &["a/b"], &["b"])]
    #[case("a/?.csv", &["a/x.csv"], &["a/xy.csv", "a/b/x.csv"])]
    #[case("[a-c][!x].csv", &["ab.csv"], &["ax.csv", "db.csv"])]
    #[case("{a,b/{c,d}}.csv", &["a.csv", "b/c.csv", "b/d.csv"], &["b.csv", "{a,b/c.csv"])]
    #[case("[{]a[}]", &["{a}"], &["a"])]
    #[case("[ab]{c,d}", &["ac", "bd"], &["ab", "[ab]c"])]
    #[case("[[]{c,d}", &["[c", "[d"], &["c"])]
    #[case("a]{c,d}", &["a]c", "a]d"], &["ac"])]
    #[case("**", &["a", "a/b"], &[])]
    fn patterns_take_paths(#[case] pattern: &str, #[case] taken: &[&str], #[case] not: &[&str]) {
        let globs = Globs::parse([pattern]).unwrap();
        assert_eq!(taken.iter().filter(|path| !globs.matches(path)).collect::<Vec<_>>(), Vec::<&&str>::new());
        assert_eq!(not.iter().filter(|path| globs.matches(path)).collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    #[rstest]
    #[case("", "`` is not a pattern such as `**/*.tmp`: it is empty")]
    #[case("a{b", "`a{b` is not a pattern such as `**/*.tmp`: a `{` is not closed, or there are too many")]
    #[case("a[b", "`a[b` is not a pattern such as `**/*.tmp`: invalid range pattern")]
    fn what_is_no_pattern_is_refused(#[case] pattern: &str, #[case] why: &str) {
        assert_eq!(Globs::parse([pattern]).unwrap_err().to_string(), why);
    }

    #[rstest]
    #[case(1000, true)]
    #[case(1001, false)]
    fn there_are_not_too_many_alternatives(#[case] count: usize, #[case] fine: bool) {
        let pattern = format!("{{{}}}.csv", vec!["a"; count].join(","));
        assert_eq!(Globs::parse([pattern]).is_ok(), fine);
    }

    #[test]
    fn there_may_be_no_pattern() {
        assert!(Globs::default().is_empty() && Globs::parse([""; 0]).unwrap().is_empty());
        assert!(!Globs::parse(["a"]).unwrap().is_empty());
    }

    #[rstest]
    #[case::below(&["sales/*/notes.txt"], "sales/2023/notes.txt", 2, &["notes.txt"])]
    #[case::less_deep(&["sales/*/notes.txt"], "sales/2023/notes.txt", 1, &["*/notes.txt"])]
    #[case::not_deep(&["sales/*/notes.txt"], "sales/2023/notes.txt", 0, &["sales/*/notes.txt"])]
    #[case::everywhere(&["**/*.txt"], "sales/2023/notes.txt", 2, &["**/*.txt"])]
    #[case::everywhere_in_a_folder(&["sales/**/*.txt"], "sales/2023/notes.txt", 2, &["**/*.txt"])]
    #[case::further_down(&["a/b/**/*.txt"], "a/b/c/notes.txt", 1, &["b/**/*.txt"])]
    #[case::the_folder_itself(&["sales/*"], "sales/2023/notes.txt", 2, &[])]
    #[case::a_folder_above(&["sales"], "sales/2023/notes.txt", 2, &[])]
    #[case::another_file(&["sales/*/notes.md", "*.txt"], "sales/2023/notes.txt", 2, &[])]
    #[case::several(&["*/*/*.txt", "x/*/*", "sales/**"], "sales/2023/notes.txt", 2, &["*.txt", "**"])]
    fn patterns_that_take_a_path_are_known_further_down(
        #[case] patterns: &[&str],
        #[case] path: &str,
        #[case] depth: usize,
        #[case] expected: &[&str],
    ) {
        assert_eq!(Globs::parse(patterns).unwrap().below(path, depth), expected);
    }

    proptest! {
        #[test]
        fn an_exact_pattern_takes_its_name_only(name in "[^/\\x00-\\x1f]{1,12}", other in "[^/\\x00-\\x1f]{1,12}") {
            let globs = Globs::parse([Globs::exactly(&name)]).unwrap();
            prop_assert!(globs.matches(&name));
            prop_assert_eq!(globs.matches(&other), name == other);
        }
    }
}

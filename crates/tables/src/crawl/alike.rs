//! Decides whether files and folders belong together, by their columns and by their names.

use std::collections::{BTreeMap, BTreeSet};

use hardtack_sources::{FileKind, Globs};

/// The names of the columns of files, from a sample. Empty if none could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signature {
    columns: BTreeSet<String>,
    /// Whether columns are named by their positions only.
    nameless: bool,
}

impl Signature {
    pub(super) fn of(columns: impl IntoIterator<Item = String>) -> Self {
        Self { columns: columns.into_iter().collect(), nameless: false }
    }

    /// Columns without names, by their positions and types.
    pub(super) fn nameless(columns: impl IntoIterator<Item = String>) -> Self {
        Self { nameless: true, ..Self::of(columns) }
    }

    pub(super) fn add(&mut self, other: &Self) {
        if self.is_unknown() || (self.nameless && !other.nameless && !other.is_unknown()) {
            self.clone_from(other);
        } else if self.nameless == other.nameless {
            self.columns.extend(other.columns.iter().cloned());
        }
    }

    fn is_unknown(&self) -> bool {
        self.columns.is_empty()
    }

    fn shared(&self, other: &Self) -> usize {
        if self.nameless == other.nameless {
            return self.columns.intersection(&other.columns).count();
        }
        // One of the files may lack its header.
        if self.columns.len() == other.columns.len() { self.columns.len() } else { 0 }
    }

    /// Whether they may be one data set whose columns have changed over time: they share half of the columns of the
    /// smaller one. Used where names already indicate that files belong together.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let smaller = self.columns.len().min(other.columns.len());
        self.is_unknown() || other.is_unknown() || (self.shared(other) * 2 >= smaller)
    }

    /// Whether they are one data set whatever their names: seven in ten of all columns are the same, or one has all
    /// columns of the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let shared = self.shared(other);
        let is_part = shared > 0 && shared == self.columns.len().min(other.columns.len());
        self.is_unknown() || other.is_unknown() || is_part || self.is_similar(other)
    }

    /// Whether seven in ten of all columns are the same.
    fn is_similar(&self, other: &Self) -> bool {
        let shared = self.shared(other);
        shared * 10 >= (self.columns.len() + other.columns.len() - shared) * 7
    }

    /// Whether folders with these columns are one table although their names are words. Only the columns decide, so
    /// there must be some.
    pub(super) fn is_evidently(&self, other: &Self) -> bool {
        self.shared(other) >= 2 && self.is_similar(other)
    }
}

/// Whether a folder's name is a value rather than a word: a number, a date, a time.
pub(super) fn is_value(name: &str) -> bool {
    let plain =
        |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b':' | b'T' | b'Z' | b't' | b'z' | b'+' | b' ');
    name.as_bytes().first().is_some_and(u8::is_ascii_digit) && name.bytes().all(plain)
}

/// A file's name without the suffixes of its format and compression.
pub(super) fn stem(name: &str) -> &str {
    if FileKind::of(name).is_none() {
        return name;
    }
    let cut = |name: &'_ str| name.rsplit_once('.').map_or(name.len(), |(stem, _)| stem.len());
    let compressed = [".gz", ".zst", ".bz2", ".xz"].iter().any(|suffix| name.to_ascii_lowercase().ends_with(suffix));
    let name = if compressed { &name[..cut(name)] } else { name };
    &name[..cut(name)]
}

/// A part of a file's name.
enum Piece<'a> {
    Word(&'a str),
    /// A number, a part of an identifier, a single letter.
    Number,
    /// The text between two of those.
    Between(&'a str),
}

fn pieces(stem: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for token in runs(stem, char::is_alphanumeric) {
        let has_digit = token.bytes().any(|b| b.is_ascii_digit());
        if !token.starts_with(char::is_alphanumeric) {
            pieces.push(Piece::Between(token));
        } else if token.chars().count() == 1 || (has_digit && token.bytes().all(|b| b.is_ascii_hexdigit())) {
            pieces.push(Piece::Number);
        } else if has_digit {
            let is_word = |run: &str| !run.starts_with(|c: char| c.is_ascii_digit()) && run.chars().count() > 2;
            let of = |run| if is_word(run) { Piece::Word(run) } else { Piece::Number };
            pieces.extend(runs(token, |c| c.is_ascii_digit()).into_iter().map(of));
        } else {
            pieces.push(Piece::Word(token));
        }
    }
    pieces
}

/// Splits a text where the kind of its characters changes.
fn runs(text: &str, kind: impl Fn(char) -> bool) -> Vec<&str> {
    let (mut runs, mut start, mut before) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        if before.is_some_and(|before| before != kind(c)) {
            runs.push(&text[start..at]);
            start = at;
        }
        before = Some(kind(c));
    }
    runs.push(&text[start..]);
    runs.retain(|run| !run.is_empty());
    runs
}

/// The common form of names that differ only in numbers, dates and identifiers: the words of the name, with `#` for the
/// rest.
pub(super) fn family(name: &str) -> String {
    let mut family = String::new();
    for piece in pieces(stem(name)) {
        match piece {
            Piece::Word(word) => family.push_str(&word.to_lowercase()),
            _ if family.ends_with('#') => {}
            Piece::Number => family.push('#'),
            Piece::Between(_) => family.push('-'),
        }
    }
    family
}

/// The words that a family begins with.
fn words(family: &str) -> Vec<&str> {
    family.split(['-', '#']).filter(|word| !word.is_empty()).collect()
}

/// Families of files, with their columns as far as known.
pub(super) type Families = BTreeMap<String, Signature>;

/// All columns of all families.
pub(super) fn together(families: &Families) -> Signature {
    families.values().fold(Signature::default(), |mut all, signature| {
        all.add(signature);
        all
    })
}

/// Splits the files of one folder into data sets: a single one if any two families share most columns. Otherwise each
/// family is one, except that families with the same first word that share most columns are merged.
pub(super) fn strands(families: &Families) -> Vec<Vec<String>> {
    let distinct: BTreeSet<&Signature> = families.values().collect();
    let distinct: Vec<&Signature> = distinct.into_iter().collect();
    let one = distinct.iter().enumerate().all(|(i, a)| distinct[i + 1..].iter().all(|b| a.is_same(b)));
    if one {
        return vec![families.keys().cloned().collect()];
    }
    let mut strands: Vec<(Vec<String>, &Signature)> = Vec::new();
    for (family, signature) in families {
        let first = words(family).first().copied();
        let joins = |(others, theirs): &&mut (Vec<String>, &Signature)| {
            first.is_some() && words(&others[0]).first().copied() == first && theirs.is_same(signature)
        };
        match strands.iter_mut().find(joins) {
            Some((families, _)) => families.push(family.clone()),
            None => strands.push((vec![family.clone()], signature)),
        }
    }
    strands.into_iter().map(|(families, _)| families).collect()
}

/// The name of a table of some files of a folder: the words that their names begin with.
pub(super) fn name_of(names: &[&str]) -> String {
    let Some((first, rest)) = names.split_first() else { return String::new() };
    let first = stem(first);
    if rest.iter().all(|name| stem(name) == first) {
        return first.to_owned();
    }
    let same = |name: &&str| stem(name).bytes().zip(first.bytes()).take_while(|(a, b)| a == b).count();
    let mut common = rest.iter().map(same).min().unwrap_or(first.len());
    while !first.is_char_boundary(common) {
        common -= 1;
    }
    // Not in the middle of a word.
    let whole = names.iter().all(|name| !stem(name)[common..].starts_with(char::is_alphabetic));
    let common = if whole { &first[..common] } else { first[..common].trim_end_matches(char::is_alphabetic) };
    let common = common.trim_end_matches(|c: char| !c.is_alphabetic());
    if common.is_empty() { first.to_owned() } else { common.to_owned() }
}

/// Patterns that match these files of a folder and none of the others, and, where possible, future files whose names
/// differ only in numbers.
pub(super) fn patterns(names: &BTreeSet<&str>, others: &BTreeSet<&str>) -> Vec<String> {
    let mut patterns = BTreeSet::new();
    for name in names {
        let stem = stem(name);
        let (family, suffix) = (family(name), &name[stem.len()..]);
        let loose =
            loosely(stem).filter(|_| family.contains('#')).map(|loose| format!("{loose}{}", Globs::exactly(suffix)));
        let fits = |pattern: &String| {
            Globs::parse([pattern]).is_ok_and(|globs| !others.iter().any(|other| globs.matches(other)))
        };
        patterns.insert(loose.filter(fits).unwrap_or_else(|| Globs::exactly(name)));
    }
    patterns.into_iter().collect()
}

/// The stem with `*` in place of everything that is not a word; none if no word is left.
fn loosely(stem: &str) -> Option<String> {
    let (mut pattern, mut has_word) = (String::new(), false);
    for piece in pieces(stem) {
        match piece {
            Piece::Word(word) => {
                has_word = true;
                pattern.push_str(&Globs::exactly(word));
            }
            _ if pattern.ends_with('*') => {}
            Piece::Number => pattern.push('*'),
            Piece::Between(text) => pattern.push_str(&Globs::exactly(text)),
        }
    }
    has_word.then_some(pattern)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn signature(columns: &str) -> Signature {
        Signature::of(columns.split_whitespace().map(str::to_owned))
    }

    #[rstest]
    #[case("patients.csv", "patients")]
    #[case("Patients_2024.csv.gz", "patients-#")]
    #[case("patients2024.csv", "patients#")]
    #[case("2024.csv.bz2", "#")]
    #[case("a.jsonl", "#")]
    #[case("s-1-2023-11-14-00.json", "#")]
    #[case("part-00001-3f2a9c1e-77ab-4c11-9d3e-0123456789ab-c000.snappy.parquet", "part-#snappy")]
    #[case("orders_eu.csv", "orders-eu")]
    #[case("part-00000", "part-#")]
    fn names_have_a_family(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(family(name), expected);
    }

    #[rstest]
    #[case("2023", true)]
    #[case("00", true)]
    #[case("2023-11-14", true)]
    #[case("2023-11-14T10:00:00Z", true)]
    #[case("20231114_10", true)]
    #[case("eu", false)]
    #[case("v1", false)]
    #[case("3d", false)]
    #[case("-1", false)]
    fn values_are_told_from_words(#[case] name: &str, #[case] value: bool) {
        assert_eq!(is_value(name), value);
    }

    #[rstest]
    #[case::one(&[("patients", "id name"), ("encounters", "id start stop patient")], "encounters | patients")]
    #[case::same(&[("eu", "id price"), ("us", "id price")], "eu us")]
    #[case::grown(&[("new", "id price note"), ("old", "id price")], "new old")]
    #[case::bridge(&[("customers", "id name city"), ("names", "id name"), ("products", "id name price")], "customers | names | products")]
    #[case::same_columns_other_words(&[("allergies", "start stop code"), ("conditions", "start stop code"), ("patients", "id name")], "allergies | conditions | patients")]
    #[case::same_word(&[("items-eu", "order pieces"), ("items-us", "order pieces"), ("orders-eu", "id price"), ("orders-us", "id price")], "items-eu items-us | orders-eu orders-us")]
    #[case::unknown(&[("a", ""), ("b", "x")], "a b")]
    fn families_are_data_sets(#[case] families: &[(&str, &str)], #[case] expected: &str) {
        let families: Families = families.iter().map(|(f, columns)| ((*f).to_owned(), signature(columns))).collect();
        let found: Vec<String> = strands(&families).iter().map(|strand| strand.join(" ")).collect();
        assert_eq!(found.join(" | "), expected);
    }

    #[rstest]
    #[case("a b c d e f g", "a b c d e f g h i j", true, true, true)]
    #[case("a b c d", "c d x y", true, false, false)]
    #[case("a b", "a b c", true, true, false)]
    #[case("a", "a", true, true, false)]
    #[case("a b", "x y", false, false, false)]
    fn columns_tell(#[case] a: &str, #[case] b: &str, #[case] like: bool, #[case] same: bool, #[case] evident: bool) {
        for (a, b) in [(signature(a), signature(b)), (signature(b), signature(a))] {
            assert_eq!((a.is_like(&b), a.is_same(&b), a.is_evidently(&b)), (like, same, evident));
        }
    }

    #[rstest]
    #[case(&["patients.csv"], &["encounters.csv"], "patients", "patients.csv")]
    #[case(&["orders-1.csv", "orders-2.csv"], &["items-1.csv"], "orders", "orders-*.csv")]
    #[case(&["orders_eu.csv", "orders_us.csv"], &["items_eu.csv"], "orders", "orders_eu.csv|orders_us.csv")]
    #[case(&["orders-1.csv"], &["orders-1-old.csv", "orders-x-1.csv"], "orders-1", "orders-1.csv")]
    #[case(&["1.csv"], &["2.csv"], "1", "1.csv")]
    #[case(&["a[1].csv", "{b}.csv"], &["c.csv"], "a[1]", "[{]b[}].csv|a[[]1[]].csv")]
    #[case(&["übersicht-1.csv", "über-1.csv"], &[], "übersicht-1", "über-*.csv|übersicht-*.csv")]
    #[case(&["sales 2023.csv", "sales 2024.csv.gz"], &[], "sales", "sales *.csv|sales *.csv.gz")]
    fn files_have_a_name_and_patterns(
        #[case] names: &[&str],
        #[case] others: &[&str],
        #[case] name: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(name_of(names), name);
        let (names, others): (BTreeSet<&str>, BTreeSet<&str>) =
            (names.iter().copied().collect(), others.iter().copied().collect());
        let patterns = patterns(&names, &others);
        assert_eq!(patterns.join("|"), expected);
        let globs = Globs::parse(&patterns).unwrap();
        assert!(names.iter().all(|name| globs.matches(name)) && !others.iter().any(|name| globs.matches(name)));
    }
}

//! Finds the columns of keys, and duplicate keys in objects.
//!
//! An object with two values of one name is ambiguous: some readers take the first, some the last, some refuse it. All
//! objects are checked, even those that nobody reads, so that it does not depend on a query whether a file is refused.
//!
//! Objects of a column mostly have the same keys in the same order. So each column remembers the keys that it has seen,
//! with those that followed each, and tries these first.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use arrow::datatypes::{DataType, Fields};

use super::read::{Bad, unescaped};
use crate::fault::Fault;

/// A key of an object.
#[derive(Debug)]
pub(super) struct Key<'a> {
    /// Where its text begins.
    pub(super) start: usize,
    /// As it is written.
    pub(super) text: &'a str,
    pub(super) escaped: bool,
}

impl<'a> Key<'a> {
    /// The name, in lower case if case does not count.
    fn name(&self, caseless: bool) -> Cow<'a, str> {
        let name = match self.escaped {
            // The reader has checked the escapes.
            true => unescaped(self.text).unwrap_or(Cow::Borrowed(self.text)),
            false => Cow::Borrowed(self.text),
        };
        if caseless { Cow::Owned(name.to_lowercase()) } else { name }
    }
}

/// What is wrong with an object that has a key twice.
const TWICE: &str = "an object has a key twice";

/// A column remembers this many keys.
const MAX_REMEMBERED: usize = 1024;

/// The keys of the objects of one column.
#[derive(Debug)]
pub(super) struct Keys {
    caseless: bool,
    /// The keys, in the order in which they were seen.
    seen: Vec<Seen>,
    /// Their positions, by how they are written.
    found: HashMap<Box<str>, usize>,
    /// The keys that began an object.
    first: Followers,
    /// The key of the open object that was looked up last.
    previous: Option<usize>,
    /// The numbers of names: those of the fields, in their order, then others.
    names: HashMap<String, usize>,
    /// The number of fields.
    fields: usize,
    /// For each name, the last object that had it.
    last: Vec<u64>,
    /// The number of objects.
    objects: u64,
}

/// A key that was seen.
#[derive(Debug)]
struct Seen {
    text: Box<str>,
    written: Written,
    /// The number of its name.
    name: usize,
    then: Followers,
}

/// The positions of the two keys that most recently came next. Two, because a key may be optional.
type Followers = [Option<usize>; 2];

/// A key as it is written before its value, `"id":`. Most are this short, so one comparison does.
#[derive(Debug)]
struct Written {
    start: u128,
    mask: u128,
    rest: Box<[u8]>,
    len: usize,
}

impl Written {
    fn new(key: &str) -> Self {
        let written = format!("\"{key}\":").into_bytes();
        let (bytes, rest) = written.split_at(written.len().min(16));
        let (mut start, mut mask) = ([0; 16], [0; 16]);
        start[..bytes.len()].copy_from_slice(bytes);
        mask[..bytes.len()].fill(0xFF);
        let (start, mask) = (u128::from_le_bytes(start), u128::from_le_bytes(mask));
        Self { start, mask, rest: rest.into(), len: written.len() }
    }

    /// Whether the text begins with this key. The last bytes of a text are not compared.
    #[inline]
    fn begins(&self, text: &[u8]) -> bool {
        text.split_first_chunk().is_some_and(|(start, rest)| {
            u128::from_le_bytes(*start) & self.mask == self.start
                && (self.rest.is_empty() || rest.starts_with(&self.rest))
        })
    }
}

impl Keys {
    pub(super) fn new(fields: &Fields, caseless: bool) -> Self {
        let mut names = HashMap::new();
        for (at, field) in fields.iter().enumerate() {
            let name = if caseless { field.name().to_lowercase() } else { field.name().clone() };
            // Of two fields with one name the first has the values.
            names.entry(name).or_insert(at);
        }
        Self {
            caseless,
            seen: Vec::new(),
            found: HashMap::new(),
            first: Followers::default(),
            previous: None,
            names,
            fields: fields.len(),
            last: vec![0; fields.len()],
            objects: 0,
        }
    }

    /// An object begins.
    pub(super) fn begin(&mut self) {
        self.objects += 1;
        self.previous = None;
    }

    /// Forgets the keys if no more can be remembered: those to come may be others.
    pub(super) fn forget_if_full(&mut self) {
        if self.seen.len() >= MAX_REMEMBERED {
            self.seen.clear();
            self.found.clear();
            (self.first, self.previous) = (Followers::default(), None);
            self.names.retain(|_, number| *number < self.fields);
            self.last.truncate(self.fields);
        }
    }

    /// Whether the open object has a value for this field.
    pub(super) fn has(&self, field: usize) -> bool {
        self.last[field] == self.objects
    }

    /// The key with which the text begins, without a blank, if it was expected: the number of its name and its bytes, the
    /// colon included.
    #[inline]
    pub(super) fn expected(&mut self, text: &[u8]) -> Option<(usize, usize)> {
        let at = self.follower(|seen| seen.written.begins(text))?;
        self.previous = Some(at);
        let Seen { name, written, .. } = &self.seen[at];
        Some((*name, written.len))
    }

    /// The one of the two keys that are expected next for which this is true.
    #[inline]
    fn follower(&self, is_it: impl Fn(&Seen) -> bool) -> Option<usize> {
        let followers = self.previous.map_or(self.first, |previous| self.seen[previous].then);
        let is_next = |at: &usize| is_it(&self.seen[*at]);
        followers[0].filter(is_next).or_else(|| followers[1].filter(is_next))
    }

    /// The number of the name of a key, less than the number of fields if it is a field. `None` for a name that is not
    /// remembered.
    pub(super) fn name<'a>(&mut self, key: &Key<'a>, others: &mut OpenKeys<'a>) -> Result<Option<usize>, Bad> {
        let Some(name) = self.look_up(key) else {
            others.add(key, self.caseless)?;
            return Ok(None);
        };
        self.note(name, key.start).map(|()| Some(name))
    }

    /// Notes that the open object has this name, by a key at this place.
    #[inline]
    pub(super) fn note(&mut self, name: usize, at: usize) -> Result<(), Bad> {
        if std::mem::replace(&mut self.last[name], self.objects) == self.objects {
            return Err(Bad { at, why: TWICE });
        }
        Ok(())
    }

    /// The number of the name of a key that was not expected as it is written.
    fn look_up(&mut self, key: &Key<'_>) -> Option<usize> {
        // With a blank before the colon, for example.
        let expected = self.follower(|seen| *seen.text == *key.text);
        let at = match expected.or_else(|| self.found.get(key.text).copied()) {
            Some(at) => at,
            None => {
                let name = key.name(self.caseless);
                let known = self.names.get(&*name).copied();
                if self.seen.len() >= MAX_REMEMBERED {
                    return known;
                }
                let number = known.unwrap_or_else(|| {
                    let number = self.last.len();
                    self.names.insert(name.into_owned(), number);
                    self.last.push(0);
                    number
                });
                let at = self.seen.len();
                self.found.insert(key.text.into(), at);
                let (text, written) = (key.text.into(), Written::new(key.text));
                self.seen.push(Seen { text, written, name: number, then: Followers::default() });
                at
            }
        };
        let followers = match self.previous {
            Some(previous) => &mut self.seen[previous].then,
            None => &mut self.first,
        };
        if !followers.contains(&Some(at)) {
            *followers = [Some(at), followers[0]];
        }
        self.previous = Some(at);
        Some(self.seen[at].name)
    }
}

/// In objects with more keys, hashes are sorted before they are compared.
const MAX_UNSORTED: usize = 32;

/// The keys of the open objects that no column remembers.
#[derive(Debug, Default)]
pub(super) struct OpenKeys<'a> {
    /// With their hashes, for each object behind those of the objects around it.
    keys: Vec<(u64, Cow<'a, str>)>,
    /// Where those of the innermost object begin.
    start: usize,
}

impl<'a> OpenKeys<'a> {
    /// An object begins. Returns where the keys of the object around it begin.
    pub(super) fn open(&mut self) -> usize {
        std::mem::replace(&mut self.start, self.keys.len())
    }

    /// Adds a key of the innermost object.
    pub(super) fn add(&mut self, key: &Key<'a>, caseless: bool) -> Result<(), Bad> {
        let name = key.name(caseless);
        let hash = hash(name.as_bytes());
        let object = &self.keys[self.start..];
        if object.len() < MAX_UNSORTED && object.iter().any(|(other, n)| *other == hash && *n == name) {
            return Err(Bad { at: key.start, why: TWICE });
        }
        self.keys.push((hash, name));
        Ok(())
    }

    /// The innermost object ends; the keys of the one around it begin at `outer`.
    pub(super) fn close(&mut self, outer: usize) -> Result<(), Bad> {
        let object = &mut self.keys[self.start..];
        if object.len() > MAX_UNSORTED {
            object.sort_unstable();
            if object.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(Bad { at: 0, why: TWICE });
            }
        }
        self.keys.truncate(self.start);
        self.start = outer;
        Ok(())
    }
}

#[inline]
fn hash(key: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let (words, rest) = key.as_chunks::<8>();
    let hash = words.iter().fold(key.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let rest = match (key.last_chunk::<8>(), rest) {
        (_, []) => return mix(hash, 0),
        (Some(word), _) => u64::from_le_bytes(*word),
        (None, rest) => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    mix(mix(hash, rest), 0)
}

/// An open object or list of a row that is scanned slowly.
struct Level<'a> {
    /// Its type, if it has one and case does not count in the names of its fields.
    of: Option<&'a DataType>,
    is_object: bool,
    /// The keys before this one, and in lower case.
    keys: HashSet<String>,
    folded: HashSet<String>,
    /// The key whose value is next.
    last: String,
}

impl<'a> Level<'a> {
    fn new(of: Option<&'a DataType>, is_object: bool) -> Self {
        Self { of, is_object, keys: HashSet::new(), folded: HashSet::new(), last: String::new() }
    }

    /// The type of the next value.
    fn inner(&self) -> Option<&'a DataType> {
        match (self.of?, self.is_object) {
            (DataType::Struct(fields), true) => {
                let name = self.last.to_lowercase();
                fields.iter().find(|field| field.name().to_lowercase() == name).map(|field| field.data_type())
            }
            (DataType::Map(entries, _), true) => match entries.data_type() {
                DataType::Struct(pair) => pair.get(1).map(|value| value.data_type()),
                _ => None,
            },
            (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _), false) => {
                Some(item.data_type())
            }
            _ => None,
        }
    }
}

/// The duplicate key of an object in the row that starts at `offset`, by a slow scan. Case does not count in the names
/// of these fields. Malformed rows are reported elsewhere.
pub(super) fn fault(row: &[u8], offset: usize, caseless: Option<&Fields>) -> Option<Fault> {
    let root = caseless.map(|fields| DataType::Struct(fields.clone()));
    let mut open: Vec<Level> = Vec::new();
    let mut at = 0;
    while let Some(byte) = row.get(at) {
        match byte {
            b'{' | b'[' => {
                let of = open.last().map_or(root.as_ref(), Level::inner);
                open.push(Level::new(of, *byte == b'{'));
            }
            b'}' | b']' => _ = open.pop(),
            b'"' => {
                let start = at;
                at += 1;
                while row.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if row[at] == b'\\' { 2 } else { 1 };
                }
                let after = row.get(at + 1..).unwrap_or_default().trim_ascii_start();
                let Some(level) = open.last_mut().filter(|_| after.first() == Some(&b':')) else {
                    at += 1;
                    continue;
                };
                let key = String::from_utf8_lossy(&row[start + 1..at.min(row.len())]).into_owned();
                level.last = unescaped(&key).map_or_else(|| key.clone(), Cow::into_owned);
                let folded = level.last.to_lowercase();
                if !level.keys.insert(level.last.clone()) {
                    let message = format!("an object has `{}` twice", level.last);
                    let objects = open.iter().filter(|level| level.is_object);
                    let path: Vec<&str> = objects.map(|level| level.last.as_str()).collect();
                    let hint = "repair the file; `jq -c .` keeps the last of the two values";
                    return Some(Fault::new(offset + start, message).column(path.join(".")).hint(hint));
                }
                if matches!(level.of, Some(DataType::Struct(_))) && !level.folded.insert(folded.clone()) {
                    let message = format!("an object has `{folded}` twice, where case does not count");
                    return Some(Fault::new(offset + start + 1, message).column(folded));
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::decode::JsonCutter;
    use super::*;
    use crate::blocks::{Cut, Decode};
    use crate::input::Step;

    /// Reads rows of no columns.
    fn read(text: &[u8]) -> Result<(), Fault> {
        let (mut cutter, mut from) = (JsonCutter::new(Arc::new(Schema::empty()), 8192), 0);
        loop {
            let Step { used, made } = cutter.cut(&text[from..], true)?;
            let Some(made) = made else { return Ok(()) };
            made.decode(&text[from..from + used]).map_err(|fault| Fault { offset: fault.offset + from, ..fault })?;
            from += used;
        }
    }

    fn told(rows: &[&str]) -> Option<String> {
        let (mut text, mut at) = (String::new(), Vec::new());
        for row in rows {
            at.push(text.len()..text.len() + row.len());
            text += row;
            text += "\n";
        }
        let fault = read(text.as_bytes()).err()?;
        let row = at.partition_point(|row| row.end <= fault.offset);
        Some(format!("{row} {} {}", fault.column.unwrap_or_default(), fault.offset - at[row].start))
    }

    #[rstest]
    #[case(&[r#"{"a":100,"a":200}"#], Some("0 a 9"))]
    #[case(&[r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}"#, r#"{"a":1}"#], None)]
    #[case(&[r#"{"a":1}"#, r#"{"b":{"c":[{"d":1 , "d" : 2}]}}"#], Some("1 b.c.d 20"))]
    #[case(&[r#"{"a":"a","b":"a","c":"\"a\":","d":"{","e":"}","f":{}}"#], None)]
    #[case(&[r#"{"a":1,"A":2,"\u0061\u0062":3,"ab":4}"#], Some("0 ab 30"))]
    #[case(&[r#"{"\\":1,"\"":2,"\\\"":3,"\\\\":4,"\"":5}"#], Some("0 \" 33"))]
    #[case(&[r#"{"":1,"":2}"#], Some("0  6"))]
    #[case(&[r#"{"größe":1,"größe":2}"#], Some("0 größe 13"))]
    #[case(&[r#"{"abcdefgh":1,"abcdefg":2,"abcdefghi":3,"abcdefgh":4}"#], Some("0 abcdefgh 40"))]
    fn keys_that_are_there_twice_are_found(#[case] rows: &[&str], #[case] wanted: Option<&str>) {
        assert_eq!(told(rows).as_deref(), wanted);
    }

    #[test]
    fn objects_with_many_keys_are_looked_at_too() {
        let row = |keys: &[usize]| {
            let fields: Vec<String> =
                keys.iter().map(|key| format!(r#""key {key}":{{"key {key}":"{key}"}}"#)).collect();
            format!("{{{}}}", fields.join(","))
        };
        let mut keys: Vec<usize> = (0..5000).collect();
        assert_eq!(told(&[&row(&keys), &row(&keys)]), None);
        keys[4711] = 3;
        assert_eq!(told(&[&row(&[1, 2]), &row(&keys)]).unwrap().split(' ').next(), Some("1"));
    }

    #[test]
    fn where_no_key_is_there_twice_there_is_no_false_alarm() {
        let alarm = |text: &str| read(text.as_bytes()).is_err();
        let flat = |keys: Vec<String>| {
            let fields: Vec<String> =
                keys.iter().map(|key| format!(r#""{key}":{{"a":1,"b":[{{"a":1}},{{"a":2}}]}}"#)).collect();
            format!("{{{}}}", fields.join(","))
        };
        for many in [1, 2, MAX_UNSORTED - 1, MAX_UNSORTED, MAX_UNSORTED + 1, 100] {
            // Short keys, long ones with equal beginnings or ends, and some with escapes.
            for key in [
                |i: usize| format!("{i}"),
                |i| format!("key {i}"),
                |i| format!("{i} is a key that is long"),
                |i| format!("a key that is long, number {i}"),
                |i| "x".repeat(i + 1),
                |i| format!("\\u00e4 {i}"),
            ] {
                let row = flat((0..many).map(key).collect());
                assert!(!alarm(&format!("{row}\n{row}\n")), "{row}");
            }
        }
        // Each byte of a key counts.
        for long in 1..30 {
            let key = |at: usize| (0..long).map(|i| if i == at { 'b' } else { 'a' }).collect::<String>();
            let row = flat((0..=long).map(key).collect());
            assert!(!alarm(&row), "{row}");
        }
    }

    /// Beyond the keys that a column remembers, too.
    #[test]
    fn keys_that_are_not_remembered_are_looked_at() {
        let row = |from: usize, to: usize| {
            let fields: Vec<String> = (from..to).map(|key| format!("\"{key}\":0")).collect();
            format!("{{{}}}", fields.join(","))
        };
        let many = row(0, MAX_REMEMBERED);
        let others = [row(2000, 2010), row(2000, 2100), row(1000, 1100)];
        for other in &others {
            assert_eq!(told(&[&many, other, other]), None);
            let twice = format!("{},{}", other.trim_end_matches('}'), &other[1..]);
            assert_eq!(told(&[&many, other, &twice]).unwrap().split(' ').next(), Some("2"));
        }
    }

    #[test]
    fn a_key_that_is_there_twice_among_many_is_found() {
        for many in [MAX_UNSORTED - 1, MAX_UNSORTED, MAX_UNSORTED + 1, 100] {
            let mut keys: Vec<String> = (0..many).map(|key| format!(r#""{key}":1"#)).collect();
            let row = |keys: &[String]| format!("{{{}}}", keys.join(","));
            assert_eq!(told(&[&row(&keys)]), None);
            keys.push(r#""7":2"#.to_owned());
            assert_eq!(told(&[&row(&keys)]).unwrap().split(' ').nth(1), Some("7"), "{many}");
        }
    }

    /// The text of a value whose objects may have duplicate keys, and whether one has.
    fn value() -> impl Strategy<Value = (String, bool)> {
        let text = prop::sample::select(vec![
            "1",
            "\"a\"",
            "\"\\\\\"",
            "\"}{\\\":\"",
            "null",
            "\"long long long long\"",
            "[]",
        ]);
        let leaf = text.prop_map(|text| (text.to_owned(), false));
        leaf.prop_recursive(4, 60, 6, |inner| {
            let key = prop::sample::select(vec!["a", "b", "\\\"", "\\\\", "ab\\u0062", "abb", "a key that is long"]);
            let object = prop::collection::vec((key, inner.clone(), " {0,3}"), 0..5).prop_map(|fields| {
                let keys: HashSet<String> =
                    fields.iter().map(|(key, ..)| unescaped(key).unwrap().into_owned()).collect();
                let twice = keys.len() < fields.len() || fields.iter().any(|(_, (_, twice), _)| *twice);
                let fields: Vec<String> =
                    fields.into_iter().map(|(k, (v, _), b)| format!("\"{k}\"{b}:{b}{v}")).collect();
                (format!("{{{}}}", fields.join(",")), twice)
            });
            let list = prop::collection::vec(inner, 0..4).prop_map(|items| {
                let twice = items.iter().any(|(_, twice)| *twice);
                (format!("[{}]", items.into_iter().map(|(item, _)| item).collect::<Vec<_>>().join(",")), twice)
            });
            prop_oneof![3 => object, 1 => list]
        })
    }

    proptest! {
        #[test]
        fn no_key_that_is_there_twice_is_missed(values in prop::collection::vec(value(), 1..8)) {
            let rows: Vec<String> = values.iter().map(|(value, _)| format!("{{\"row\":{value}}}")).collect();
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            let found = told(&rows).map(|told| told.split(' ').next().unwrap().parse::<usize>().unwrap());
            prop_assert_eq!(found, values.iter().position(|(_, twice)| *twice));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[{}\\[\\],:\"\\\\ ab]{0,200}", cut in 0_usize..200) {
            let cut = cut.min(text.len());
            let _ = read(format!("{}\n{}", &text[..cut], &text[cut..]).as_bytes());
        }
    }
}

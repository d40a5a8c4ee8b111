//! Finds duplicate keys in objects.
//!
//! An object with two values of one name is ambiguous: some readers take the first, some the last, some refuse it. All
//! objects are checked, even those that nobody reads, so that it does not depend on a query whether a file is refused.
//! To make this cheap, 64 bytes at a time are searched for quotes and brackets, and keys are compared by their hashes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use wide::u8x16;

use crate::fault::Fault;

const STRETCH: usize = 64;

/// The first row with a duplicate key in an object, and the fault.
pub(super) fn twice(text: &[u8], rows: &[Range<usize>]) -> Option<(usize, Fault)> {
    let (first, last) = (rows.first()?, rows.last()?);
    let mut keys = Keys { text: &text[..last.end], open: Vec::new(), starts: Vec::new(), escapes_until: 0 };
    let mut at = first.start;
    while let Some(found) = keys.twice(at) {
        // Two hashes are equal; whether the keys are, is checked on the row by itself.
        let row = rows.partition_point(|row| row.end <= found);
        match rows.get(row).and_then(|row| fault(&text[row.clone()], row.start)) {
            Some(fault) => return Some((row, fault)),
            None => at = rows.get(row + 1)?.start,
        }
    }
    None
}

struct Keys<'a> {
    text: &'a [u8],
    /// The hashes of the keys of all open objects, and where those of each begin.
    open: Vec<u64>,
    starts: Vec<usize>,
    /// There is no backslash in the stretches after this.
    escapes_until: usize,
}

/// In objects with more keys, hashes are sorted before they are compared.
const MAX_UNSORTED: usize = 32;

impl Keys<'_> {
    /// The position where two keys of an object have the same hash, in the rows from `at` on. Malformed rows are
    /// reported elsewhere.
    fn twice(&mut self, at: usize) -> Option<usize> {
        self.open.clear();
        self.starts.clear();
        let (mut base, mut in_string, mut escaped) = (at, 0, false);
        // The last two quotes.
        let (mut before, mut last) = (0, 0);
        while base < self.text.len() {
            let stretch = self.stretch(base);
            let of = |byte| matches(&stretch, byte);
            let mut quotes = of(b'"');
            let backslashes = of(b'\\');
            if backslashes != 0 || escaped {
                quotes &= !escapes(backslashes, &mut escaped);
                self.escapes_until = base + STRETCH;
            }
            let inside = fill(quotes) ^ in_string;
            in_string = if inside >> 63 == 1 { u64::MAX } else { 0 };
            let mut marks = (of(b'{') | of(b'}') | of(b':')) & !inside;
            while marks != 0 {
                let bit = marks.trailing_zeros();
                marks &= marks - 1;
                let at = base + bit as usize;
                match self.text.get(at) {
                    Some(b'{') => self.starts.push(self.open.len()),
                    Some(b':') => {
                        let (mut from, mut to) = (before, last);
                        let ahead = quotes & !(u64::MAX << bit);
                        if ahead != 0 {
                            let close = 63 - ahead.leading_zeros();
                            let others = ahead & !(1 << close);
                            from = if others == 0 { last } else { base + 63 - others.leading_zeros() as usize };
                            to = base + close as usize;
                        }
                        let key = self.hash(from + 1, to);
                        let object = &self.open[self.starts.last().copied().unwrap_or_default()..];
                        if object.len() < MAX_UNSORTED && object.contains(&key) {
                            return Some(at);
                        }
                        self.open.push(key);
                    }
                    _ => {
                        let keys = &mut self.open[self.starts.pop().unwrap_or_default()..];
                        let (start, many) = (keys.len(), keys.len() > MAX_UNSORTED);
                        if many {
                            keys.sort_unstable();
                        }
                        if many && keys.windows(2).any(|pair| pair[0] == pair[1]) {
                            return Some(at);
                        }
                        self.open.truncate(self.open.len() - start);
                    }
                }
            }
            if quotes != 0 {
                let close = 63 - quotes.leading_zeros();
                let others = quotes & !(1 << close);
                before = if others == 0 { last } else { base + 63 - others.leading_zeros() as usize };
                last = base + close as usize;
            }
            base += STRETCH;
        }
        None
    }

    fn stretch(&self, base: usize) -> [u8; STRETCH] {
        let rest = &self.text[base..];
        rest.first_chunk().copied().unwrap_or_else(|| {
            let mut stretch = [b' '; STRETCH];
            stretch[..rest.len()].copy_from_slice(rest);
            stretch
        })
    }

    fn hash(&self, from: usize, to: usize) -> u64 {
        let key = self.text.get(from..to).unwrap_or_default();
        if from < self.escapes_until && key.contains(&b'\\') {
            return hash(unescaped(key).as_bytes());
        }
        hash(key)
    }
}

#[inline]
fn matches(stretch: &[u8; STRETCH], byte: u8) -> u64 {
    let (parts, _) = stretch.as_chunks::<16>();
    let byte = u8x16::splat(byte);
    parts.iter().rev().fold(0, |bits, part| bits << 16 | u64::from(u8x16::new(*part).simd_eq(byte).to_bitmask()))
}

/// The bits after backslashes that are not escaped themselves. `escaped` says whether the bit before the first one is
/// such a backslash; it is updated for the last one.
fn escapes(backslashes: u64, escaped: &mut bool) -> u64 {
    let mut found = u64::from(*escaped);
    let mut rest = backslashes & !found;
    *escaped = false;
    while rest != 0 {
        let bit = rest.trailing_zeros();
        rest &= rest - 1;
        match bit {
            63 => *escaped = true,
            _ => {
                found |= 1 << (bit + 1);
                rest &= !found;
            }
        }
    }
    found
}

/// Fills the bits from each odd set bit up to the next.
#[inline]
fn fill(mut bits: u64) -> u64 {
    for by in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << by;
    }
    bits
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

fn unescaped(key: &[u8]) -> Cow<'_, str> {
    let quoted = [b"\"", key, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or_else(|_| String::from_utf8_lossy(key), Cow::Owned)
}

/// The duplicate key of an object in the row that starts at `offset`, by a slow scan.
pub(super) fn fault(row: &[u8], offset: usize) -> Option<Fault> {
    // The keys of each open object, and the one whose value is next.
    let mut open: Vec<(HashSet<String>, String)> = Vec::new();
    let mut at = 0;
    while let Some(byte) = row.get(at) {
        match byte {
            b'{' => open.push(Default::default()),
            b'}' => _ = open.pop(),
            b'"' => {
                let start = at;
                at += 1;
                while row.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if row[at] == b'\\' { 2 } else { 1 };
                }
                let after = row.get(at + 1..).unwrap_or_default().trim_ascii_start();
                if let (b':', Some((keys, last))) = (after.first().unwrap_or(&0), open.last_mut()) {
                    *last = unescaped(&row[start + 1..at.min(row.len())]).into_owned();
                    if !keys.insert(last.clone()) {
                        let message = format!("an object has `{last}` twice");
                        let path: Vec<&str> = open.iter().map(|(_, key)| key.as_str()).collect();
                        let hint = "repair the file; `jq -c .` keeps the last of the two values";
                        return Some(Fault::new(offset + start, message).column(path.join(".")).hint(hint));
                    }
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
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn told(rows: &[&str]) -> Option<String> {
        let (mut text, mut at) = (String::new(), Vec::new());
        for row in rows {
            at.push(text.len()..text.len() + row.len());
            text += row;
            text += "\n";
        }
        twice(text.as_bytes(), &at)
            .map(|(row, fault)| format!("{row} {} {}", fault.column.unwrap_or_default(), fault.offset - at[row].start))
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

    /// The slow scan of the row would make up for a false alarm.
    #[test]
    fn where_no_key_is_there_twice_there_is_no_false_alarm() {
        let first = |text: &str| {
            let mut keys = Keys { text: text.as_bytes(), open: Vec::new(), starts: Vec::new(), escapes_until: 0 };
            keys.twice(0)
        };
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
                assert_eq!(first(&format!("{row}\n{row}\n")), None, "{row}");
            }
        }
        // Each byte of a key counts.
        for long in 1..30 {
            let key = |at: usize| (0..long).map(|i| if i == at { 'b' } else { 'a' }).collect::<String>();
            let row = flat((0..=long).map(key).collect());
            assert_eq!(first(&row), None, "{row}");
        }
        for (row, alarm) in [(r#"{"a":1,"a":2}"#, Some(10)), (r#"{"a":{"b":1},"b":{"a":2}}"#, None)] {
            assert_eq!(first(row), alarm);
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
                    fields.iter().map(|(key, ..)| unescaped(key.as_bytes()).into_owned()).collect();
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
            twice(text.as_bytes(), &[0..cut, cut..text.len()]);
        }
    }
}

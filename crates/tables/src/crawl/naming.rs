//! Names for new tables.

use std::collections::BTreeSet;

/// The maximum length of a name.
const MAX_NAME_LENGTH: usize = 255;

/// A name that Hive and Athena accept without quotes: lower-case letters, digits and `_`.
pub(super) fn legal(text: &str) -> String {
    let fold = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '_',
    };
    let mut name: String = text.chars().map(fold).collect();
    name.truncate(MAX_NAME_LENGTH);
    if name.bytes().all(|b| b == b'_') { "table".to_owned() } else { name }
}

/// The name of the table in a folder: that of the folder. If another folder of the same name has taken it, the parent
/// folders are prepended one by one, and then a number is appended. `folders` is the path, innermost first.
pub(super) fn free(prefix: &str, folders: &[&str], taken: &BTreeSet<String>) -> String {
    let longer = (2..=folders.len()).map(|n| {
        let parts: Vec<&str> = folders[..n].iter().rev().copied().collect();
        legal(&format!("{prefix}{}", parts.join("_")))
    });
    let own = legal(&format!("{prefix}{}", folders.first().copied().unwrap_or_default()));
    let mut names = std::iter::once(own.clone()).chain(longer);
    names.find(|name| !taken.contains(name)).unwrap_or_else(|| {
        let mut numbers = (2_u32..).map(|n| format!("{}_{n}", &own[..own.len().min(MAX_NAME_LENGTH - 11)]));
        numbers.find(|name| !taken.contains(name)).unwrap_or(own.clone())
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Books", "books")]
    #[case("raw-books.v2", "raw_books_v2")]
    #[case("100% {x}", "100___x_")]
    #[case("Bücher", "b_cher")]
    #[case("東京", "table")]
    #[case("year=2026", "year_2026")]
    #[case("", "table")]
    fn names_are_made_legal(#[case] folder: &str, #[case] name: &str) {
        assert_eq!(legal(folder), name);
    }

    #[rstest]
    #[case("", &["books", "a", "lake"], &[], "books")]
    #[case("raw_", &["Books", "a"], &["books"], "raw_books")]
    #[case("", &["books", "b", "lake"], &["books"], "b_books")]
    #[case("", &["books", "b", "lake"], &["books", "b_books"], "lake_b_books")]
    #[case("", &["books"], &["books"], "books_2")]
    #[case("", &["books"], &["books", "books_2"], "books_3")]
    #[case("", &[], &[], "table")]
    fn folders_of_one_name_get_longer_names(
        #[case] prefix: &str,
        #[case] folders: &[&str],
        #[case] taken: &[&str],
        #[case] name: &str,
    ) {
        assert_eq!(free(prefix, folders, &taken.iter().map(|n| (*n).to_owned()).collect()), name);
    }

    #[test]
    fn no_name_is_too_long() {
        let long = "x".repeat(300);
        let taken: BTreeSet<String> = [legal(&long)].into();
        assert_eq!(legal(&long).len(), 255);
        assert!(free("", &[&long], &taken).len() <= 255);
    }
}

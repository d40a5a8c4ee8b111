//! The real binary with many files, killed or stopped in the middle of them, or without space for them.

use std::fmt::Write;

use hardtack_test_support::{Frame, JobContract};

use crate::{HEADER, contract, line};

/// One or two observations on each of this many days, as a delivery.
fn observations(days: usize) -> String {
    let mut text = HEADER.to_owned();
    for (patient, [year, month, day], hour) in observed(days) {
        write!(text, "{}", line(&patient, &format!("{year}-{month:02}-{day:02}T0{hour}:00:00Z"))).unwrap();
    }
    text
}

/// The patient, the date (all months have 28 days) and the hour of each.
fn observed(days: usize) -> impl Iterator<Item = (String, [usize; 3], usize)> {
    let date = |n| [1900 + n / 336, n / 28 % 12 + 1, n % 28 + 1];
    (0..days).flat_map(move |n| (0..=n % 2).map(move |hour| (format!("p{n}"), date(n), hour)))
}

fn delivering(observations: impl AsRef<[u8]>) -> JobContract {
    contract().delivered("observations.csv", observations)
}

#[test]
fn killed_amid_ten_thousand_files_nothing_is_half_visible_and_the_next_run_heals() {
    let json = |(patient, [year, month, day], _): (String, [usize; 3], _)| {
        format!(r#"{{"patient": "{patient}", "year": "{year}", "month": "{month}", "day": "{day}"}}"#)
    };
    let wanted = observed(10_000).map(json).collect::<Vec<_>>().join("\n");
    delivering(observations(10_000)).killed_amid_many_files_nothing_is_half_visible_and_the_next_run_heals(
        10_000,
        Frame::from_json_lines(&wanted).ignoring_other_columns(),
    );
}

#[test]
fn stopped_amid_many_files_nothing_is_left() {
    delivering(observations(500)).stopped_amid_many_files_nothing_is_left(500);
}

/// One day has more observations than there is room for.
#[test]
fn without_room_nothing_is_published_and_the_error_says_what_to_do() {
    let many: String = (0..20_000).map(|n| line(&format!("patient {n}"), "2024-02-29T12:00:00Z")).collect();
    delivering(observations(200) + &many).without_room_nothing_is_published_and_the_error_says_what_to_do(201, 20_300);
}

#[test]
#[ignore = "mounts a file system (root, or a user namespace): cargo test --workspace --tests -- --ignored"]
fn on_a_full_disk_nothing_is_half_visible_and_with_room_the_next_run_heals() {
    delivering(observations(200)).on_a_full_disk_nothing_is_half_visible_and_with_room_the_next_run_heals(200, 300);
}

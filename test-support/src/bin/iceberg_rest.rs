//! The double of an Iceberg REST catalog as a process, for readers in other languages:
//!
//!     iceberg_rest WAREHOUSE
//!
//! It prints its address, and serves until its standard input ends.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "a tool of tests, started by scripts"
)]

use std::io::Read;

use hardtack_test_support::iceberg_rest::IcebergRest;

fn main() {
    let warehouse = std::env::args().nth(1).expect("the folder of the warehouse");
    let server = IcebergRest::start(warehouse.as_ref());
    println!("{}", server.url());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

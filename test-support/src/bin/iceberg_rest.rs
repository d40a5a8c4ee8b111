//! The double of an Iceberg REST catalog as a process, for readers in other languages:
//!
//!     iceberg_rest WAREHOUSE [KEY_ID SECRET REGION SERVICE]
//!
//! With keys, it demands signatures as AWS does. It prints its address, and serves until its standard input ends.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "a tool of tests, started by scripts"
)]

use std::io::Read;

use hardtack_test_support::iceberg_rest::IcebergRest;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (warehouse, keys) = args.split_first().expect("the folder of the warehouse");
    let server = IcebergRest::start(warehouse.as_ref());
    if let [id, secret, region, service] = keys {
        server.demand_signature((id, secret, ""), (region, service));
    }
    println!("{}", server.url());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

//! The guide (`docs/guide`) and the README as documentation of modules, so that `cargo test` compiles and runs every
//! Rust code block in them. The tests of this crate check the rest: links, excerpts of the jobs, the table of jobs.

#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags, reason = "links of the book, not of rustdoc")]

macro_rules! chapters {
    ($($chapter:ident = $file:literal),+ $(,)?) => {
        /// The files whose Rust code blocks are tested, relative to the root of the repository.
        pub const TESTED: &[&str] = &[$($file),+];
        $(#[doc = include_str!(concat!("../../../", $file))] mod $chapter {})+
    };
}

chapters! {
    readme = "README.md",
    introduction = "docs/guide/src/introduction.md",
    first_job = "docs/guide/src/first-job.md",
    anatomy = "docs/guide/src/anatomy.md",
    testing = "docs/guide/src/testing.md",
    contracts = "docs/guide/src/contracts.md",
    types = "docs/guide/src/types.md",
    tables = "docs/guide/src/tables.md",
    tables_writing = "docs/guide/src/tables-writing.md",
    iceberg = "docs/guide/src/iceberg.md",
    sql = "docs/guide/src/sql.md",
    crawling = "docs/guide/src/crawling.md",
    serving = "docs/guide/src/serving.md",
    quality = "docs/guide/src/quality.md",
    dqdl = "docs/guide/src/dqdl.md",
    transforms = "docs/guide/src/transforms.md",
    bookmarks = "docs/guide/src/bookmarks.md",
    change_events = "docs/guide/src/change-events.md",
    reprocessing = "docs/guide/src/reprocessing.md",
    snapshots = "docs/guide/src/snapshots.md",
    landing_zones = "docs/guide/src/landing-zones.md",
    elt = "docs/guide/src/elt.md",
    performance = "docs/guide/src/performance.md",
    runs = "docs/guide/src/runs.md",
    modelling = "docs/guide/src/modelling.md",
    layers = "docs/guide/src/layers.md",
    production = "docs/guide/src/production.md",
    packaging = "docs/guide/src/packaging.md",
    deploying = "docs/guide/src/deploying.md",
    operating_bookmarks = "docs/guide/src/operating-bookmarks.md",
    backfill = "docs/guide/src/backfill.md",
    extending = "docs/guide/src/extending.md",
}

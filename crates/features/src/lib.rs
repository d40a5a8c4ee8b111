//! No code: only a manifest.
//!
//! Cargo builds a dependency anew for each set of features that packages ask for, and with it all that depends on it. A
//! small crate like `smallvec`, asked for one more feature by one of two jobs, means that DataFusion is built for each of
//! them, which takes minutes. This package asks for all those features, once. All crates of hardtack depend on it, so
//! there are two builds of DataFusion, with the client of S3 (the feature `aws`) and without, whatever is built together:
//! one job, another one, or everything.
//!
//! Of what these features add, a binary has only what it calls. That can be a little more in code that it calls anyway: the
//! decoder of zstd, for example, then reads older formats, too. `.ci/features` fails if a dependency of any package asks for
//! more, and prints what is missing in the manifest.

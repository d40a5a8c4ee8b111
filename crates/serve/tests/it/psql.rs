//! The real `psql`, where it is installed. `.ci/run` installs it.

use std::process::Stdio;

use insta::assert_snapshot;
use tokio::process::Command;

use crate::served::Served;

/// What psql prints, or nothing where there is none.
async fn psql(served: &Served, commands: &[&str]) -> Option<String> {
    let url = format!("postgresql://hardtack@{}/lake?sslmode=prefer", served.address);
    let mut command = Command::new("psql");
    command.env("PGCONNECT_TIMEOUT", "10").env("PSQL_PAGER", "").args(["-X", "-v", "ON_ERROR_STOP=0", &url]);
    commands.iter().for_each(|text| _ = command.args(["-c", text]));
    match command.stdin(Stdio::null()).kill_on_drop(true).output().await {
        Ok(done) => Some(String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap()),
        Err(_) if std::env::var_os("HARDTACK_TEST_PSQL").is_none() => {
            eprintln!("left out: psql is not installed (Debian: postgresql-client)");
            None
        }
        Err(error) => panic!("psql: {error}"),
    }
}

#[tokio::test]
async fn psql_queries() {
    let served = Served::new().await;
    let Some(out) =
        psql(&served, &["select * from books order by title", "delete from books", "select 1 as one"]).await
    else {
        return;
    };
    assert_snapshot!(out, @"");
}

#[tokio::test]
async fn psql_looks_around() {
    let served = Served::new().await;
    let Some(databases) = psql(&served, &["\\l"]).await else { return };
    assert!(databases.contains("hardtack"), "{databases}");
    assert_snapshot!(psql(&served, &["\\dt lake.*"]).await.unwrap(), @"");
    assert_snapshot!(psql(&served, &["\\d lake.books"]).await.unwrap(), @"");
    let tables = psql(&served, &["\\dt"]).await.unwrap();
    assert!(tables.contains("books"), "{tables}");
    let schemas = psql(&served, &["\\dn"]).await.unwrap();
    assert!(schemas.contains("lake"), "{schemas}");
}

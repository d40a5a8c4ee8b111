//! The real `psql`, where it is installed. `.ci/run` installs it.

use std::process::Stdio;

use insta::assert_snapshot;
use tokio::process::Command;

use crate::served::Served;

/// The output of psql, or none if it is not installed.
async fn psql(served: &Served, commands: &[&str]) -> Option<String> {
    let url = format!("postgresql://hardtack@{}/lake?sslmode=prefer", served.address);
    let mut command = Command::new("psql");
    command.env("PGCONNECT_TIMEOUT", "10").env("PSQL_PAGER", "").args(["-X", "-v", "ON_ERROR_STOP=0", &url]);
    commands.iter().for_each(|text| _ = command.args(["-c", text]));
    match command.stdin(Stdio::null()).kill_on_drop(true).output().await {
        Ok(done) => {
            let text = String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
            Some(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
        }
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
    assert_snapshot!(out, @"
        title     | pages | year
    --------------+-------+------
     Emma         |   474 | 1815
     Jacob's Room |       | 1922
     Ulysses      |   730 | 1922
    (3 rows)

     one
    -----
       1
    (1 row)

    ERROR:  cannot execute DELETE in a read-only transaction: tables are read-only here
    ");
}

#[tokio::test]
async fn psql_looks_around() {
    let served = Served::new().await;
    let Some(databases) = psql(&served, &["\\l"]).await else { return };
    assert!(databases.contains("hardtack"), "{databases}");
    assert_snapshot!(psql(&served, &["\\dt lake.*"]).await.unwrap(), @"
             List of relations
     Schema | Name  | Type  |  Owner
    --------+-------+-------+----------
     lake   | all   | table | postgres
     lake   | books | table | postgres
    (2 rows)
    ");
    assert_snapshot!(psql(&served, &["\\d lake.books"]).await.unwrap(), @r#"
                    Table "lake.books"
     Column |  Type   | Collation | Nullable | Default
    --------+---------+-----------+----------+---------
     title  | text    |           |          |
     pages  | integer |           |          |
     year   | integer |           |          |
    "#);
    let tables = psql(&served, &["\\dt"]).await.unwrap();
    assert!(tables.contains("books"), "{tables}");
    let schemas = psql(&served, &["\\dn"]).await.unwrap();
    assert!(schemas.contains("lake"), "{schemas}");
}

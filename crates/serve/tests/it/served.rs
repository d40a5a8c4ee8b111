//! A server over a lake in a temporary folder.

use std::net::SocketAddr;
use std::sync::Arc;

use hardtack_catalog::{
    Catalog, CatalogExt, CatalogHandle, Column, Database, EmbeddedCatalog, TableDescription, TableFormat,
};
use hardtack_core::{JobContext, Result};
use hardtack_serve::{ServeOptions, Server};
use hardtack_test_support::TempLake;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

pub struct Served {
    pub lake: TempLake,
    pub catalog: Arc<EmbeddedCatalog>,
    pub ctx: JobContext,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub running: JoinHandle<Result<()>>,
}

/// Options to listen on a free local port.
pub fn options() -> ServeOptions {
    ServeOptions { address: "127.0.0.1:0".to_owned(), ..ServeOptions::default() }
}

const TYPES: [(&str, &str); 11] = [
    ("i", "int"),
    ("l", "bigint"),
    ("d", "double"),
    ("dec", "decimal(10,2)"),
    ("t", "string"),
    ("day", "date"),
    ("ts", "timestamp"),
    ("tz", "timestamp with local time zone"),
    ("b", "boolean"),
    ("none", "string"),
    ("list", "array<bigint>"),
];

const ROW: &str = r#"{"i": 7, "l": 9000000000, "d": 0.5, "dec": "12.30", "t": "Müller 'x'", "day": "2024-02-29",
    "ts": "2024-02-29T10:30:00.123456", "tz": "2024-02-29T10:30:00+02:00", "b": true, "list": [1, null, 3]}"#;

impl Served {
    pub async fn new() -> Self {
        Self::with(options()).await
    }

    pub async fn with(options: ServeOptions) -> Self {
        let lake = TempLake::new();
        let catalog = Arc::new(EmbeddedCatalog::new(lake.path().join("catalog.db")));
        catalog.ensure_database(&Database::new("lake")).await.unwrap();
        lake.write("books/year=1815/a.jsonl", r#"{"title": "Emma", "pages": 474}"#);
        lake.write("books/year=1922/a.jsonl", r#"{"title": "Ulysses", "pages": 730} {"title": "Jacob's Room"}"#);
        lake.write("all/a.jsonl", ROW);
        let books = TableDescription::new("lake", "books", &TableFormat::Json, lake.at("books"))
            .with_columns([Column::foreign("title", "string"), Column::foreign("pages", "int")])
            .with_partition_keys([Column::foreign("year", "int")]);
        catalog.create_table(&books).await.unwrap();
        let partition = |year: &str| books.partition([year], lake.at(&format!("books/year={year}")));
        catalog.add_partitions(&books, &[partition("1815"), partition("1922")]).await.unwrap();
        let all = TableDescription::new("lake", "all", &TableFormat::Json, lake.at("all"))
            .with_columns(TYPES.map(|(name, of)| Column::foreign(name, of)));
        catalog.create_table(&all).await.unwrap();
        let handle = CatalogHandle::new(catalog.clone());
        let ctx = JobContext::builder("serve").threads(2).extension(Arc::new(handle)).build().unwrap();
        let server = Server::bind(&ctx, options).await.unwrap();
        let address = server.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
        Self { lake, catalog, ctx, address, stop: Some(stop), running }
    }

    pub fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host(self.address.ip().to_string()).port(self.address.port()).user("hardtack").dbname("lake");
        config
    }

    pub async fn client(&self) -> Client {
        let (client, connection) = self.config().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// The SQLSTATE and the message.
pub fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} {}", error.code().code(), error.message()),
        None => format!("? {error}"),
    }
}

/// The rows of a query as texts, or the error.
pub async fn texts(client: &Client, query: &str) -> String {
    use tokio_postgres::SimpleQueryMessage::Row;
    let messages = match client.simple_query(query).await {
        Ok(messages) => messages,
        Err(error) => return said(&error),
    };
    let row = |row: &tokio_postgres::SimpleQueryRow| {
        (0..row.len()).map(|i| row.get(i).unwrap_or("null").to_owned()).collect::<Vec<_>>().join(" | ")
    };
    let rows = messages.iter().filter_map(|message| if let Row(r) = message { Some(row(r)) } else { None });
    rows.collect::<Vec<_>>().join("\n")
}

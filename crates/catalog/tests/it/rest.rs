//! The client of an Iceberg REST catalog, with a server in memory.

use hardtack_catalog::conformance::Check;
use hardtack_catalog::{
    Catalog, CatalogExt, CatalogOf, Column, CountingCatalog, Database, RestCatalog, RestCredentials, TableDescription,
    TableFormat, iceberg_conformance_tests,
};
use hardtack_core::ErrorKind;
use hardtack_test_support::iceberg_rest::{Fault, IcebergRest};
use rstest::rstest;

struct World {
    folder: tempfile::TempDir,
    server: IcebergRest,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = IcebergRest::start(folder.path());
        Self { folder, server }
    }

    fn open(&self, credentials: RestCredentials) -> RestCatalog {
        RestCatalog::new(self.server.url().parse().unwrap(), credentials).unwrap()
    }

    fn catalog(&self) -> RestCatalog {
        self.open(RestCredentials::None)
    }
}

fn client(secret: &str) -> RestCredentials {
    RestCredentials::Client {
        id: Some("jobs".to_owned()),
        secret: secret.to_owned(),
        scope: "catalog".to_owned(),
        server: None,
    }
}

async fn on_rest(check: Check) {
    let world = World::new();
    check.run(&world.catalog(), "suite").await;
}

iceberg_conformance_tests!(on_rest);

#[tokio::test]
async fn tables_of_files_are_refused() {
    let world = World::new();
    let catalog = world.catalog();
    catalog.create_database(&Database::new("lake")).await.unwrap();
    let sales = TableDescription::new("lake", "sales", &TableFormat::Parquet, "s3://lake/sales")
        .with_columns([Column::foreign("id", "bigint")]);
    let error = catalog.create_table(&sales).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    insta::assert_snapshot!(error, @"this catalog has Iceberg tables only (table: lake.sales, hint: save to an Iceberg table, or name another catalog with `--catalog`)");
    world.server.add("other", &["t"]);
    let read = catalog.get_table("other", "t").await.unwrap();
    let error = catalog.update_table(&read.with_metadata_location("s3://lake/other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    insta::assert_snapshot!(error, @"the server of this catalog changes the metadata of Iceberg tables itself (table: other.t, hint: write to the table with a library for Iceberg)");
}

#[tokio::test]
async fn tables_are_not_swapped() {
    let world = World::new();
    world.server.add("lake", &["people", "new"]);
    let catalog = CountingCatalog::new(std::sync::Arc::new(world.catalog()));
    let (a, b) = (catalog.get_table("lake", "people").await.unwrap(), catalog.get_table("lake", "new").await.unwrap());
    let error = catalog.swap_tables(&a, &b).await.unwrap_err();
    assert_eq!((error.kind(), catalog.check_swap(&a, &b).is_err()), (ErrorKind::Usage, true));
    insta::assert_snapshot!(error, @"an Iceberg REST catalog cannot swap two tables in one step (table: lake.people, with: lake.new, hint: let readers use a view that you change, or overwrite the one table with the rows of the other, which is one commit)");
}

#[tokio::test]
async fn a_catalog_that_counts_has_the_same_server() {
    let world = World::new();
    let counting = CountingCatalog::new(std::sync::Arc::new(world.catalog()));
    assert!(counting.iceberg_server().is_some());
    let embedded = hardtack_catalog::EmbeddedCatalog::in_memory();
    assert!(CountingCatalog::new(std::sync::Arc::new(embedded)).iceberg_server().is_none());
}

#[tokio::test]
async fn names_of_other_clients_are_found_whatever_their_case() {
    let world = World::new();
    world.server.add("SALES", &["Orders", "a b/c?d#ü%2F"]);
    let catalog = world.catalog();
    for name in ["orders", "ORDERS", "Orders"] {
        let found = catalog.get_table("Sales", name).await.unwrap();
        assert_eq!(found.qualified_name(), "sales.orders");
    }
    assert!(catalog.get_table("sales", "a b/c?d#Ü%2F").await.is_ok());
    let listed: Vec<String> = catalog.list_tables("sales").await.unwrap().into_iter().map(|t| t.name).collect();
    assert_eq!(listed, ["a b/c?d#ü%2f", "orders"]);
    assert_eq!(catalog.list_databases().await.unwrap().iter().map(|d| &*d.name).collect::<Vec<_>>(), ["sales"]);
    // The name is remembered.
    world.server.take_requests();
    catalog.get_table("sales", "orders").await.unwrap();
    assert_eq!(world.server.take_requests(), ["GET /v1/main/namespaces/SALES/tables/Orders?snapshots=refs"]);

    // The name in lower case comes first; without one, two are not told apart.
    world.server.add("b", &["T", "t"]);
    assert!(catalog.get_table("b", "T").await.is_ok());
    world.server.add("c", &["TT", "Tt"]);
    let error = catalog.get_table("c", "tt").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    insta::assert_snapshot!(error, @"the catalog has several names that differ by case alone (names: TT, Tt, table: c.tt, hint: rename all but one of them)");
    // A list of the database has what can be addressed.
    assert_eq!(catalog.list_tables("c").await.unwrap(), []);
}

#[tokio::test]
async fn a_warehouse_is_named() {
    let world = World::new();
    let open = |warehouse: &str| {
        let address = format!("{}/?warehouse={warehouse}", world.server.url());
        RestCatalog::new(address.parse().unwrap(), RestCredentials::None).unwrap()
    };
    assert_eq!(open("lake").list_databases().await.unwrap(), []);
    let requests = world.server.take_requests();
    assert_eq!(requests, ["GET /v1/config?warehouse=lake", "GET /v1/main/namespaces?pageToken="]);
    let error = open("sea").list_databases().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.message().contains("no such warehouse"), "{error}");
    assert!(error.chain().contains("does not exist: sea"), "{}", error.chain());
}

#[rstest]
#[case::throttled("GET /v1/main", Fault::Refuse(429))]
#[case::down("GET /v1/main", Fault::Refuse(503))]
#[case::configuration("GET /v1/config", Fault::Refuse(502))]
#[case::lost("GET /v1/main", Fault::LoseAnswer)]
#[case::throttled_creation("POST /v1/main", Fault::Refuse(429))]
#[tokio::test]
async fn what_passes_is_tried_again(#[case] request: &str, #[case] fault: Fault) {
    let world = World::new();
    for _ in 0..2 {
        world.server.fail(request, fault);
    }
    let catalog = world.catalog();
    catalog.create_database(&Database::new("lake")).await.unwrap();
    assert_eq!(catalog.get_database("lake").await.unwrap().name, "lake");
    assert_eq!(world.server.faults_left(), 0);
}

/// It may have been executed.
#[rstest]
#[case(Fault::FailAfter(503))]
#[case(Fault::FailAfter(500))]
#[case(Fault::LoseAnswer)]
#[tokio::test]
async fn a_creation_is_not_tried_again_behind_the_callers_back(#[case] fault: Fault) {
    let world = World::new();
    world.server.fail("POST /v1/main", fault);
    let catalog = world.catalog();
    let error = catalog.create_database(&Database::new("lake")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(!catalog.ensure_database(&Database::new("lake")).await.unwrap(), "it has happened");
}

#[rstest]
#[case(Fault::FailAfter(504))]
#[case(Fault::LoseAnswer)]
#[tokio::test]
async fn what_is_dropped_twice_is_gone(#[case] fault: Fault) {
    let world = World::new();
    world.server.add("lake", &["t"]);
    let catalog = world.catalog();
    world.server.fail("DELETE /v1/main/namespaces/lake/tables/t?purgeRequested=false", fault);
    catalog.drop_table("lake", "t").await.unwrap();
    assert_eq!(catalog.drop_table("lake", "t").await.unwrap_err().kind(), ErrorKind::NotFound);
    world.server.fail("DELETE", fault);
    catalog.drop_database("lake").await.unwrap();
    assert_eq!(catalog.drop_database("lake").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.server.faults_left(), 0);
}

#[tokio::test]
async fn tokens_are_fetched_and_renewed_once() {
    let world = World::new();
    world.server.demand_token("jobs", "hunter2");
    let catalog = world.open(client("hunter2"));
    catalog.create_database(&Database::new("lake")).await.unwrap();
    catalog.get_database("lake").await.unwrap();
    let tokens = |world: &World| world.server.take_requests().iter().filter(|r| r.contains("/oauth/tokens")).count();
    assert_eq!(tokens(&world), 1);
    world.server.expire_tokens();
    // A creation, too: what is not authorised is not executed.
    catalog.create_database(&Database::new("other")).await.unwrap();
    assert_eq!(tokens(&world), 1);
    // Once per request: credentials that do not help are not tried for ever.
    for _ in 0..2 {
        world.server.fail("GET /v1/main", Fault::Refuse(401));
    }
    let error = catalog.get_database("lake").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(tokens(&world), 1);
}

#[tokio::test]
async fn a_token_is_given() {
    let world = World::new();
    world.server.demand_token("jobs", "hunter2");
    world.server.accept_token("t0ken");
    let given = |token: &str| world.open(RestCredentials::Token(token.to_owned()));
    assert_eq!(given("t0ken").list_databases().await.unwrap(), []);
    for wrong in [given("other"), world.catalog()] {
        let error = wrong.list_databases().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.get_hint().unwrap().contains("HARDTACK_CATALOG_TOKEN"), "{error}");
    }
    let error = given("two\nlines").list_databases().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(!format!("{error:?}").contains("lines"), "{error:?}");
}

/// Not even if the server repeats it.
#[tokio::test]
async fn secrets_are_not_shown() {
    let world = World::new();
    world.server.demand_token("jobs", "hunter2");
    let catalog = world.open(client("hunter3"));
    let error = catalog.list_databases().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("unknown client jobs (redacted)"), "{error}");
    let shown = format!("{catalog:?} {error:?} {} {:?}", error.chain(), client("hunter3"));
    assert!(!shown.contains("hunter3"), "{shown}");
    assert_eq!(format!("{catalog:?}"), format!("RestCatalog({})", world.server.url()));
}

#[test]
fn credentials_come_from_variables() {
    let of = |set: &[(&str, &str)]| {
        let set: Vec<(String, String)> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        RestCredentials::from_variables(move |name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    };
    let (token, credential) = (("HARDTACK_CATALOG_TOKEN", "t"), ("HARDTACK_CATALOG_CREDENTIAL", "id:se:cret"));
    assert!(matches!(of(&[]), Ok(RestCredentials::None)));
    assert!(matches!(of(&[("HARDTACK_CATALOG_TOKEN", "")]), Ok(RestCredentials::None)));
    assert!(matches!(of(&[token]), Ok(RestCredentials::Token(token)) if token == "t"));
    assert!(matches!(of(&[credential]), Ok(RestCredentials::Client { id: Some(id), secret, scope, server: None })
        if id == "id" && secret == "se:cret" && scope == "catalog"));
    let all = [
        ("HARDTACK_CATALOG_CREDENTIAL", "secret"),
        ("HARDTACK_CATALOG_SCOPE", "PRINCIPAL_ROLE:ALL"),
        ("HARDTACK_CATALOG_OAUTH2_SERVER_URI", "https://login/token"),
    ];
    assert!(matches!(of(&all), Ok(RestCredentials::Client { id: None, secret, scope, server: Some(server) })
        if secret == "secret" && scope == "PRINCIPAL_ROLE:ALL" && server == "https://login/token"));
    let signed = ("HARDTACK_CATALOG_SIGV4", "s3tables");
    assert!(matches!(of(&[signed]), Ok(RestCredentials::SigV4 { service, region: None }) if service == "s3tables"));
    for both in [[token, credential], [token, signed], [credential, signed]] {
        let error = of(&both).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.message(), format!("`{}` and `{}` are both set", both[0].0, both[1].0));
    }
}

#[tokio::test]
async fn tokens_come_from_another_server() {
    let world = World::new();
    let other = World::new();
    other.server.demand_token("jobs", "hunter2");
    world.server.demand_token("jobs", "of the catalog");
    world.server.accept_token("token-1-catalog");
    let RestCredentials::Client { id, secret, scope, .. } = client("hunter2") else { unreachable!() };
    let server = Some(format!("{}/v1/oauth/tokens", other.server.url()));
    let catalog = world.open(RestCredentials::Client { id, secret, scope, server });
    assert_eq!(catalog.list_databases().await.unwrap(), []);
    assert!(!world.server.take_requests().iter().any(|request| request.contains("oauth")));
}

#[tokio::test]
async fn no_server_is_unavailable() {
    let world = World::new();
    let catalog = world.catalog();
    let World { folder, server } = world;
    drop(server);
    let error = catalog.list_databases().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.message(), "the catalog's server cannot be reached");
    drop(folder);
}

#[tokio::test]
async fn a_run_is_bound_to_the_address() {
    let choice = "rest:http://localhost:1/?warehouse=a".parse().unwrap();
    let handle = hardtack_catalog::CatalogHandle::chosen(choice, "/state".into());
    assert_eq!(handle.identity(), "rest:http://localhost:1?warehouse=a");
    let ctx = hardtack_core::JobContext::builder("job").extension(std::sync::Arc::new(handle)).build().unwrap();
    // No request is sent.
    assert!(ctx.catalog().await.unwrap().iceberg_server().is_some());
}

// --- signatures ----------------------------------------------------------------------------------------------------

#[cfg(feature = "aws")]
mod signed {
    use std::process::Command;

    use super::*;
    use crate::server::Server;

    const CHILD: &str = "HARDTACK_TEST_REST_CHILD";

    /// The names of a table and of its database by another client.
    const ODD: (&str, &str) = ("SALES", "a b+c/d:e%2F=ü");

    /// Not a test: creates, lists, reads and drops with the configuration of its environment.
    #[tokio::test]
    #[ignore = "started by a test that sets its environment"]
    async fn child_that_creates() {
        let Ok(address) = std::env::var(CHILD) else { return };
        let create = async || {
            let catalog = RestCatalog::open(address.parse()?)?;
            catalog.create_database(&Database::new("lake")).await?;
            let listed: Vec<String> = catalog.list_databases().await?.into_iter().map(|d| d.name).collect();
            catalog.drop_database("lake").await?;
            Ok(format!("{}, {}", listed.join(", "), catalog.get_table(ODD.0, ODD.1).await?.name))
        };
        match create().await {
            Ok(listed) => println!("\nfound {listed}"),
            Err(error) => {
                let error: hardtack_core::Error = error;
                println!("\nerror {}: {}", error.kind().name(), error.chain());
            }
        }
    }

    fn created_with(address: &str, environment: &[(&str, &str)]) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "rest::signed::child_that_creates", "--ignored", "--nocapture"])
            .env_clear()
            .envs([(CHILD, address), ("HOME", "/nonexistent"), ("AWS_EC2_METADATA_DISABLED", "true")])
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let is_result = |line: &&str| line.starts_with("found ") || line.starts_with("error ");
        text.lines().find(is_result).unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    const FOUND: &str = "found lake, sales, a b+c/d:e%2f=ü";
    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    const SERVICE: (&str, &str) = ("HARDTACK_CATALOG_SIGV4", "s3tables");
    const REGION: (&str, &str) = ("AWS_REGION", "eu-central-1");

    /// The server checks the signature of each.
    #[test]
    fn requests_are_signed() {
        let world = World::new();
        world.server.add(ODD.0, &[ODD.1]);
        world.server.demand_signature(("AKID", "hunter2", ""), ("eu-central-1", "s3tables"));
        let environment = [KEYS[0], KEYS[1], SERVICE, REGION];
        assert_eq!(created_with(&world.server.url(), &environment), FOUND);
        let requests = world.server.take_requests();
        assert!(requests.iter().any(|r| r.contains("SALES/tables/a%20b%2Bc%2Fd%3Ae%252F%3D%C3%BC")), "{requests:#?}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let world = World::new();
        world.server.demand_signature(("AKID", "hunter2", ""), ("eu-central-1", "s3tables"));
        let with = |environment: &[(&str, &str)]| {
            created_with(&world.server.url(), environment).replace(&world.server.url(), "URL")
        };
        insta::assert_snapshot!(with(&[KEYS[0], KEYS[1], SERVICE]), @"error usage: AWS is not configured; set AWS_REGION and credentials as for the AWS CLI (catalog: URL, database: lake)");
        insta::assert_snapshot!(with(&[KEYS[0], ("AWS_SECRET_ACCESS_KEY", "hunter3"), SERVICE, REGION]), @"error usage: the catalog's server does not permit this (status: 403, answer: The request signature we calculated does not match the signature you provided, catalog: URL, database: lake)");
        insta::assert_snapshot!(with(&[KEYS[0], KEYS[1], REGION]), @"error usage: the catalog's server wants signed requests (status: 403, answer: Missing Authentication Token, catalog: URL, database: lake, hint: set `HARDTACK_CATALOG_SIGV4` to the service that they are for, such as `execute-api`)");
    }

    #[test]
    fn expired_credentials_are_fetched_anew_once() {
        let world = World::new();
        world.server.add(ODD.0, &[ODD.1]);
        world.server.demand_signature(("AKID", "hunter2", "token-1"), ("eu-central-1", "s3tables"));
        let issuer = Server::of_credentials();
        let environment = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", issuer.endpoint()), SERVICE, REGION];
        assert_eq!(created_with(&world.server.url(), &environment), FOUND);
        assert_eq!(issuer.take().len(), 2);

        // New credentials that have expired, too, are not the server's fault.
        world.server.demand_signature(("AKID", "hunter2", "never"), ("eu-central-1", "s3tables"));
        let issuer = Server::of_credentials();
        let environment = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", issuer.endpoint()), SERVICE, REGION];
        let shown = created_with(&world.server.url(), &environment).replace(&world.server.url(), "URL");
        insta::assert_snapshot!(shown, @"error usage: the catalog's server does not permit this (status: 403, answer: The security token included in the request is expired, catalog: URL, database: lake)");
        assert_eq!(issuer.take().len(), 2);
    }
}

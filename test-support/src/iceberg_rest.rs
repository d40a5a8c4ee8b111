//! An Iceberg REST catalog in memory, on a free port, with faults.
//!
//! Commits are checked and applied by the crate `iceberg`, under one lock, as a server does it in a transaction: of two
//! that contradict each other one is refused. Metadata is written to the table's folder. Lists come in pages, and names
//! are case-sensitive.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use iceberg::spec::{FormatVersion, Schema, SortOrder, TableMetadata, TableMetadataBuilder, UnboundPartitionSpec};
use iceberg::{TableCreation, TableRequirement, TableUpdate};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;

use signature::Signatory;

mod signature;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: a later request is meant.
    Pass,
    /// It is executed, and the connection breaks amid the answer.
    LoseAnswer,
    /// It is executed, and answered with this status.
    FailAfter(u16),
    /// It is answered with this status and not executed.
    Refuse(u16),
}

/// The number of items on a page.
const PAGE: usize = 7;

/// What precedes `/namespaces` in a path, after `/v1/`.
const PREFIX: &str = "main";

/// A running server. It ends when this value is dropped.
pub struct IcebergRest {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for IcebergRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IcebergRest({})", self.url())
    }
}

#[derive(Debug, Default)]
struct State {
    warehouse: PathBuf,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    tables: BTreeMap<(String, String), Table>,
    faults: Vec<(String, Fault)>,
    requests: Vec<String>,
    /// The id and the secret of the client that gets tokens; none if the server asks for no token.
    client: Option<(String, String)>,
    tokens: HashSet<String>,
    issued: usize,
    /// Who has to sign requests; nobody if the server asks for no signature.
    signatory: Option<Signatory>,
    refuses_staging: bool,
    moves_tables: bool,
}

#[derive(Debug)]
struct Table {
    metadata: TableMetadata,
    location: String,
}

type Answer = Result<Value, (u16, &'static str, String)>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Create {
    name: String,
    location: Option<String>,
    schema: Schema,
    partition_spec: Option<UnboundPartitionSpec>,
    write_order: Option<SortOrder>,
    #[serde(default)]
    stage_create: bool,
    #[serde(default)]
    properties: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Commit {
    #[serde(default)]
    requirements: Vec<TableRequirement>,
    updates: Vec<TableUpdate>,
}

impl IcebergRest {
    /// Starts a server on a free port of this machine, in a thread of its own. Tables for which no location is named
    /// are created in the folder.
    pub fn start(warehouse: &Path) -> Self {
        let state = Arc::new(Mutex::new(State { warehouse: warehouse.to_owned(), ..State::default() }));
        let (told, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
                told.send(listener.local_addr().expect("an address")).expect("the starter waits");
                tokio::select! { () = accept(listener, served) => {}, _ = stopped => {} }
            });
        });
        let address = address.recv().expect("the server starts");
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// The address, for `--catalog rest:` or another client.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next request whose `METHOD /path` contains this go wrong. Faults for the same request follow one
    /// another.
    pub fn fail(&self, request: &str, fault: Fault) {
        self.state().faults.push((request.to_owned(), fault));
    }

    /// The number of faults that have not happened yet.
    pub fn faults_left(&self) -> usize {
        self.state().faults.len()
    }

    /// Returns the requests since the last call, as `METHOD /path?query`.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// Demands a token that it issues to this client.
    pub fn demand_token(&self, id: &str, secret: &str) {
        self.state().client = Some((id.to_owned(), secret.to_owned()));
    }

    /// Accepts this token, too.
    pub fn accept_token(&self, token: &str) {
        self.state().tokens.insert(token.to_owned());
    }

    /// Demands AWS's Signature Version 4, with these keys and in this region, and with a session token unless it is empty.
    pub fn demand_signature(&self, (id, secret, session_token): (&str, &str, &str), (region, service): (&str, &str)) {
        let [id, secret, session_token] = [id, secret, session_token].map(str::to_owned);
        let (region, service) = (region.to_owned(), service.to_owned());
        self.state().signatory = Some(Signatory { id, secret, session_token, region, service });
    }

    /// Accepts none of the tokens any more that it has issued.
    pub fn expire_tokens(&self) {
        self.state().tokens.clear();
    }

    /// Does not stage the creation of tables, as some servers do not.
    pub fn refuse_staging(&self) {
        self.state().refuses_staging = true;
    }

    /// Creates tables where it likes, as some servers do.
    pub fn move_tables(&self) {
        self.state().moves_tables = true;
    }

    /// Creates a namespace and tables with these names as they are, as another client does.
    pub fn add(&self, namespace: &str, tables: &[&str]) {
        let mut state = self.state();
        state.namespaces.insert(namespace.to_owned(), BTreeMap::new());
        for name in tables {
            let location = format!("{}/{namespace}/{name}", state.warehouse.display());
            let table = Table { metadata: empty(&location), location: format!("{location}/metadata/none.json") };
            state.tables.insert((namespace.to_owned(), (*name).to_owned()), table);
        }
    }
}

impl Drop for IcebergRest {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((socket, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, Arc::clone(&state)));
            // An error is a client that has gone, or a fault.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

async fn respond(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let line = format!("{} {}", head.method, head.uri);
    let token = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let (fault, answer) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push(line.clone());
        let fault = state.faults.iter().position(|(part, _)| line.contains(part.as_str()));
        let fault = fault.map(|index| state.faults.remove(index).1);
        let answer = match fault {
            Some(Fault::Refuse(status)) => Err((status, "Fault", "as the test wants it".to_owned())),
            _ => match state.signatory.as_ref().and_then(|signatory| signatory.refuses(&head, &body)) {
                Some(refused) => Err((403, "AccessDeniedException", refused)),
                None => state.answer(head.method.as_str(), head.uri.path(), head.uri.query(), token.as_deref(), &body),
            },
        };
        (fault, answer)
    };
    let answer = match fault {
        Some(Fault::FailAfter(status)) => Err((status, "Fault", "as the test wants it".to_owned())),
        _ => answer,
    };
    let (status, text) = match answer {
        Ok(Value::Null) => (204, String::new()),
        Ok(value) => (200, value.to_string()),
        Err((code, kind, message)) => {
            (code, json!({ "error": { "message": message, "type": kind, "code": code } }).to_string())
        }
    };
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    let body: Body = match fault {
        Some(Fault::LoseAnswer) => {
            response = response.header(CONTENT_LENGTH, HeaderValue::from(text.len().max(2)));
            let piece = Bytes::from_static(b"{");
            let broken = std::io::Error::other("as the test wants it");
            StreamBody::new(stream::iter([Ok(Frame::data(piece)), Err(broken)])).boxed()
        }
        _ => Full::from(text).map_err(|never| match never {}).boxed(),
    };
    Ok(response.body(body).expect("a valid response"))
}

fn missing(kind: &'static str, name: &str) -> (u16, &'static str, String) {
    (404, kind, format!("does not exist: {name}"))
}

fn bad(error: impl fmt::Display) -> (u16, &'static str, String) {
    (400, "BadRequestException", error.to_string())
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, (u16, &'static str, String)> {
    serde_json::from_slice(body).map_err(bad)
}

/// A form or a query.
fn pairs(text: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

/// One page of a list, under this key.
fn page(key: &str, items: Vec<Value>, query: &HashMap<String, String>) -> Value {
    // Without a token the client has not asked for pages.
    let Some(token) = query.get("pageToken") else { return json!({ key: items }) };
    let start: usize = token.parse().unwrap_or_default();
    let end = items.len().min(start + PAGE);
    let next = (end < items.len()).then(|| end.to_string());
    json!({ key: items[start.min(end)..end], "next-page-token": next })
}

/// The metadata of a table without columns or snapshots.
fn empty(location: &str) -> TableMetadata {
    let schema = Schema::builder().build().expect("a schema without fields");
    let creation = TableCreation::builder().name("t".to_owned()).location(location.to_owned()).schema(schema).build();
    let builder = TableMetadataBuilder::from_table_creation(creation).expect("a valid table");
    builder.build().expect("valid metadata").metadata
}

fn loaded(metadata: &TableMetadata, location: Option<&str>, query: &HashMap<String, String>) -> Answer {
    let mut metadata = serde_json::to_value(metadata).map_err(bad)?;
    if query.get("snapshots").is_some_and(|wanted| wanted == "refs") {
        let heads: HashSet<i64> = metadata["refs"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, reference)| reference["snapshot-id"].as_i64())
            .collect();
        if let Some(snapshots) = metadata["snapshots"].as_array_mut() {
            snapshots.retain(|snapshot| snapshot["snapshot-id"].as_i64().is_some_and(|id| heads.contains(&id)));
        }
    }
    Ok(json!({ "metadata-location": location, "metadata": metadata, "config": {} }))
}

/// The metadata of a table that begins with these updates, with the ids that they have.
fn begun(updates: Vec<TableUpdate>) -> Result<TableMetadata, (u16, &'static str, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    let mut metadata = json!({
        "last-sequence-number": 0, "last-updated-ms": now, "current-schema-id": 0, "default-spec-id": 0,
        "partition-specs": [{ "spec-id": 0, "fields": [] }], "last-partition-id": 999,
        "sort-orders": [{ "order-id": 0, "fields": [] }], "default-sort-order-id": 0, "properties": {},
    });
    for update in updates {
        match update {
            TableUpdate::AssignUuid { uuid } => metadata["table-uuid"] = json!(uuid),
            TableUpdate::UpgradeFormatVersion { format_version } => {
                metadata["format-version"] = json!(format_version as u8);
                if format_version == FormatVersion::V3 {
                    metadata["next-row-id"] = json!(0);
                }
            }
            TableUpdate::AddSchema { schema } => {
                metadata["last-column-id"] = json!(schema.highest_field_id());
                metadata["current-schema-id"] = json!(schema.schema_id());
                metadata["schemas"] = json!([schema]);
            }
            TableUpdate::AddSpec { spec } => {
                let last = spec.fields().iter().filter_map(|field| field.field_id).max().unwrap_or(999);
                let mut spec = serde_json::to_value(spec).map_err(bad)?;
                spec["spec-id"] = json!(0);
                metadata["last-partition-id"] = json!(last);
                metadata["partition-specs"] = json!([spec]);
            }
            TableUpdate::AddSortOrder { sort_order } => {
                metadata["default-sort-order-id"] = json!(sort_order.order_id);
                metadata["sort-orders"] = json!([sort_order]);
            }
            TableUpdate::SetLocation { location } => metadata["location"] = json!(location),
            TableUpdate::SetProperties { updates } => metadata["properties"] = json!(updates),
            TableUpdate::SetCurrentSchema { schema_id: -1 }
            | TableUpdate::SetDefaultSpec { spec_id: -1 }
            | TableUpdate::SetDefaultSortOrder { sort_order_id: -1 } => {}
            other => return Err(bad(format!("a table does not begin with {other:?}"))),
        }
    }
    serde_json::from_value(metadata).map_err(bad)
}

impl State {
    fn answer(&mut self, method: &str, path: &str, query: Option<&str>, token: Option<&str>, body: &[u8]) -> Answer {
        let query = pairs(query.unwrap_or_default().as_bytes());
        let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let parts: Vec<String> = path.split('/').skip(1).map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if (method, parts.as_slice()) == ("POST", ["v1", "oauth", "tokens"].as_slice()) {
            return self.token(&pairs(body));
        }
        if self.client.is_some() && !token.is_some_and(|token| self.tokens.contains(token)) {
            return Err((401, "NotAuthorizedException", "the token is missing or has expired".to_owned()));
        }
        match (method, parts.as_slice()) {
            ("GET", ["v1", "config"]) => match query.get("warehouse").map(String::as_str) {
                None | Some("lake") => Ok(json!({ "defaults": {}, "overrides": { "prefix": PREFIX } })),
                Some(other) => Err(missing("NotFoundException", other)),
            },
            (_, ["v1", PREFIX, "namespaces", rest @ ..]) => self.namespaces(method, rest, &query, body),
            _ => Err(missing("NotFoundException", path)),
        }
    }

    fn token(&mut self, form: &HashMap<String, String>) -> Answer {
        let of = |key: &str| form.get(key).cloned().unwrap_or_default();
        if of("grant_type") != "client_credentials" || self.client != Some((of("client_id"), of("client_secret"))) {
            // As a server that is not careful does it.
            return Err((401, "invalid_client", format!("unknown client {} {}", of("client_id"), of("client_secret"))));
        }
        self.issued += 1;
        let token = format!("token-{}-{}", self.issued, of("scope"));
        self.tokens.insert(token.clone());
        Ok(json!({ "access_token": token, "token_type": "bearer", "expires_in": 3600 }))
    }

    fn namespaces(&mut self, method: &str, path: &[&str], query: &HashMap<String, String>, body: &[u8]) -> Answer {
        if let [namespace, ..] = path
            && !self.namespaces.contains_key(*namespace)
        {
            return Err(missing("NoSuchNamespaceException", namespace));
        }
        match (method, path) {
            ("GET", []) => {
                // One of two levels is there in any case.
                let names = self.namespaces.keys().map(|name| json!([name])).chain([json!(["above", "below"])]);
                Ok(page("namespaces", names.collect(), query))
            }
            ("POST", []) => {
                let request: Value = parse(body)?;
                let name = request["namespace"][0].as_str().unwrap_or_default().to_owned();
                if self.namespaces.contains_key(&name) {
                    return Err((409, "AlreadyExistsException", format!("exists: {name}")));
                }
                let properties = BTreeMap::deserialize(&request["properties"]).unwrap_or_default();
                self.namespaces.insert(name, properties);
                Ok(request)
            }
            ("GET", [namespace]) => Ok(json!({ "namespace": [namespace], "properties": self.namespaces[*namespace] })),
            ("DELETE", [namespace]) => {
                if self.tables.keys().any(|(of, _)| of == namespace) {
                    return Err((409, "NamespaceNotEmptyException", format!("not empty: {namespace}")));
                }
                self.namespaces.remove(*namespace);
                Ok(Value::Null)
            }
            ("GET", [namespace, "tables"]) => {
                let names = self.tables.keys().filter(|(of, _)| of == namespace);
                let names = names.map(|(of, name)| json!({ "namespace": [of], "name": name }));
                Ok(page("identifiers", names.collect(), query))
            }
            ("POST", [namespace, "tables"]) => self.create(namespace, parse(body)?),
            ("POST", [namespace, "register"]) => {
                let request: Value = parse(body)?;
                let of = |key: &str| request[key].as_str().unwrap_or_default();
                let (name, location) = (of("name").to_owned(), of("metadata-location").to_owned());
                // What is not there describes a table all the same: catalogs are tested with locations of no store.
                let there = fs::read(location.trim_start_matches("file://")).ok();
                let metadata = there.and_then(|text| serde_json::from_slice(&text).ok());
                self.insert(namespace, &name, metadata.unwrap_or_else(|| empty("s3://lake/none")), location)
            }
            ("GET", [namespace, "tables", name]) => {
                let table =
                    self.tables.get(&key(namespace, name)).ok_or_else(|| missing("NoSuchTableException", name))?;
                loaded(&table.metadata, Some(&table.location), query)
            }
            ("POST", [namespace, "tables", name]) => self.commit(namespace, name, parse(body)?),
            ("DELETE", [namespace, "tables", name]) => {
                let dropped = self.tables.remove(&key(namespace, name));
                dropped.map(|_| Value::Null).ok_or_else(|| missing("NoSuchTableException", name))
            }
            _ => Err((405, "MethodNotAllowed", path.join("/"))),
        }
    }

    fn create(&mut self, namespace: &str, request: Create) -> Answer {
        if self.tables.contains_key(&key(namespace, &request.name)) {
            return Err((409, "AlreadyExistsException", format!("exists: {}", request.name)));
        }
        if request.stage_create && self.refuses_staging {
            return Err((406, "UnsupportedOperationException", "creation cannot be staged".to_owned()));
        }
        let own = format!("{}/{namespace}/{}", self.warehouse.display(), request.name);
        let location = request.location.filter(|_| !self.moves_tables).unwrap_or(own);
        let mut properties = request.properties;
        let version = match properties.remove("format-version").as_deref() {
            Some("1") => FormatVersion::V1,
            Some("3") => FormatVersion::V3,
            _ => FormatVersion::V2,
        };
        // As Java's server has it.
        properties.entry("write.parquet.compression-codec".to_owned()).or_insert_with(|| "zstd".to_owned());
        let creation = TableCreation::builder()
            .name(request.name.clone())
            .location(location.clone())
            .schema(request.schema)
            .partition_spec_opt(request.partition_spec)
            .sort_order_opt(request.write_order)
            .properties(properties)
            .format_version(version)
            .build();
        let builder = TableMetadataBuilder::from_table_creation(creation).map_err(bad)?;
        let metadata = builder.build().map_err(bad)?.metadata;
        if request.stage_create {
            return loaded(&metadata, None, &HashMap::new());
        }
        let file = written(&metadata, 0)?;
        self.insert(namespace, &request.name, metadata, file)
    }

    fn insert(&mut self, namespace: &str, name: &str, metadata: TableMetadata, location: String) -> Answer {
        if self.tables.contains_key(&key(namespace, name)) {
            return Err((409, "AlreadyExistsException", format!("exists: {name}")));
        }
        let answer = loaded(&metadata, Some(&location), &HashMap::new());
        self.tables.insert(key(namespace, name), Table { metadata, location });
        answer
    }

    fn commit(&mut self, namespace: &str, name: &str, commit: Commit) -> Answer {
        let there = self.tables.get(&key(namespace, name));
        if there.is_none() && !commit.requirements.contains(&TableRequirement::NotExist) {
            return Err(missing("NoSuchTableException", name));
        }
        for requirement in commit.requirements {
            let held = requirement.check(there.map(|table| &table.metadata));
            held.map_err(|e| (409, "CommitFailedException", e.to_string()))?;
        }
        let (metadata, version) = match there {
            None => (begun(commit.updates)?, 0),
            Some(table) => {
                let mut builder = table.metadata.clone().into_builder(Some(table.location.clone()));
                for update in commit.updates {
                    builder = update.apply(builder).map_err(bad)?;
                }
                let file = table.location.rsplit('/').next().unwrap_or_default();
                let version: u32 = file.split('-').next().and_then(|digits| digits.parse().ok()).unwrap_or_default();
                (builder.build().map_err(bad)?.metadata, version + 1)
            }
        };
        let location = written(&metadata, version)?;
        let answer = loaded(&metadata, Some(&location), &HashMap::new());
        self.tables.insert(key(namespace, name), Table { metadata, location });
        answer
    }
}

fn key(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

/// Writes metadata to a new file.
fn written(metadata: &TableMetadata, version: u32) -> Result<String, (u16, &'static str, String)> {
    let folder = format!("{}/metadata", metadata.location().trim_end_matches('/'));
    let location = format!("{folder}/{version:05}-{}.metadata.json", Uuid::new_v4());
    let text = serde_json::to_vec(metadata).map_err(bad)?;
    fs::create_dir_all(folder.trim_start_matches("file://")).map_err(bad)?;
    fs::write(location.trim_start_matches("file://"), text).map_err(bad)?;
    Ok(location)
}

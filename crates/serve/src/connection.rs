//! One client: its session, its limits, and how its statements are stopped.

use std::any::Any;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::prelude::SessionContext;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::pgwire::api::auth::sasl::SASLAuthStartupHandler;
use datafusion_postgres::pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::api::portal::Portal;
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::Response;
use datafusion_postgres::pgwire::api::stmt::{QueryParser, StoredStatement};
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, DEFAULT_NAME, ErrorHandler, PgWireConnectionState, PgWireServerHandlers, Type,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::extendedquery::{Bind, Execute, Parse, ParseComplete, Sync as PgSync};
use datafusion_postgres::pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use datafusion_postgres::pgwire::messages::simplequery::Query;
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::{DfSessionService, QueryHook};
use futures::{FutureExt, Sink, SinkExt, StreamExt, stream};
use hardtack_core::guard::panic_text;
use hardtack_tables::with_versions_as_names;
use tokio::sync::{Notify, mpsc, watch};

use crate::access::{Credentials, parameters};
use crate::complexity;
use crate::compute::{Threads, computed_on, spawning_on};
use crate::control::{Key, Note, Terms};
use crate::failure::{error, fatal, translated};
use crate::fields::Fields;
use crate::names;
use crate::parameters::OrderedParser;
use crate::read_only::ReadOnly;
use crate::settings::Settings;

pub(crate) struct Connection {
    key: Key,
    /// Sends notes to the server.
    notes: mpsc::UnboundedSender<Note>,
    terms: Terms,
    handshake: Option<SASLAuthStartupHandler<DefaultServerParameterProvider>>,
    session: Arc<SessionContext>,
    service: DfSessionService,
    admitted: AtomicBool,
    cancel: Arc<Notify>,
    /// The threads of queries.
    threads: Threads,
    /// Whether the transaction of all existing cursors has ended.
    cursors_ended: AtomicBool,
    /// Whether a statement is being executed.
    busy: watch::Sender<bool>,
}

impl Connection {
    pub(crate) fn new(
        key: Key,
        cancel: Arc<Notify>,
        session: SessionContext,
        terms: Terms,
        threads: Threads,
        notes: mpsc::UnboundedSender<Note>,
    ) -> Arc<Self> {
        let session = Arc::new(session);
        let time_zone = session.state().config_options().execution.time_zone.clone();
        let hooks: Vec<Arc<dyn QueryHook>> = vec![
            Arc::new(ReadOnly),
            Arc::new(Settings { time_zone }),
            Arc::new(TransactionStatementHook),
            Arc::new(Fields),
        ];
        Arc::new(Self {
            key,
            notes,
            handshake: terms.credentials.as_ref().map(Credentials::handshake),
            terms,
            service: DfSessionService::new_with_hooks(Arc::clone(&session), hooks),
            session,
            admitted: AtomicBool::new(false),
            cancel,
            threads,
            cursors_ended: AtomicBool::new(false),
            busy: watch::Sender::new(false),
        })
    }

    /// Waits until no statement is being executed.
    pub(crate) async fn idle(&self) {
        let mut busy = self.busy.subscribe();
        let _ = busy.wait_for(|busy| !busy).await;
    }

    /// Waits until a statement is being executed.
    pub(crate) async fn busy(&self) {
        let mut busy = self.busy.subscribe();
        let _ = busy.wait_for(|busy| *busy).await;
    }

    /// Closes cursors with their transaction, and not earlier.
    fn end_cursors<C>(&self, client: &C)
    where
        C: ClientPortalStore,
        C::PortalStore: PortalStore,
    {
        if self.cursors_ended.swap(false, Ordering::AcqRel) {
            client.portal_store().clear_portals();
        }
    }

    /// Executes a client's statement, unless it is not permitted, takes too long, or is cancelled. Dropping the work
    /// stops it.
    async fn statement<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = PgWireResult<T>> + Send,
    ) -> PgWireResult<T> {
        // The library does not record that a client was refused.
        if !self.admitted.load(Ordering::Acquire) {
            return Err(fatal("28000", "this connection was refused"));
        }
        let limit = [limit, self.terms.statement_timeout].into_iter().flatten().min();
        let expired = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        // A cancellation that came too late for the previous statement is not meant for this one.
        let _ = self.cancel.notified().now_or_never();
        self.note(Note::Busy { limit });
        self.busy.send_replace(true);
        let done = tokio::select! {
            biased;
            () = self.cancel.notified() => Err("canceling statement due to user request"),
            () = expired => Err("canceling statement due to statement timeout"),
            // A panic ends its statement and nothing else.
            done = AssertUnwindSafe(work).catch_unwind() => Ok(done.unwrap_or_else(|why| Err(panicked(&*why)))),
        };
        let done = match done {
            Ok(done) => done,
            Err(why) => {
                // Until then the server may have to end this process.
                self.threads.settled().await;
                Err(error("57014", why))
            }
        };
        self.busy.send_replace(false);
        self.note(Note::Idle);
        done
    }

    fn note(&self, note: Note) {
        // A server that no longer listens ends all connections.
        let _ = self.notes.send(note);
    }

    /// The same response, computed on the threads of queries. Notifies the server when its rows are being sent.
    fn answered(&self, answer: Response) -> Response {
        let mut answer = computed_on(&self.threads.handle, answer);
        if let Response::Query(query) = &mut answer {
            let rows = std::mem::replace(query.data_rows(), Box::pin(stream::empty()));
            let (notes, mut is_first) = (self.notes.clone(), true);
            *query.data_rows() = Box::pin(rows.inspect(move |_| {
                if std::mem::take(&mut is_first) {
                    let _ = notes.send(Note::Answering);
                }
            }));
        }
        answer
    }
}

/// The error that a client receives for a panic.
fn panicked(why: &(dyn Any + Send)) -> PgWireError {
    match panic_text(why) {
        // Arrow's message for texts of more than two gigabytes in total.
        Some(text) if text.contains("offset overflow") || text.contains("OffsetOverflow") => {
            error("53200", "the query needs more memory than a batch of rows may have; ask for less at once")
        }
        _ => error("XX000", "this statement has triggered a bug; the server's log has the details"),
    }
}

/// The client's own limit from `set statement_timeout`.
fn own_limit(client: &impl ClientInfo) -> Option<Duration> {
    client.metadata().get("statement_timeout_ms")?.parse().ok().map(Duration::from_millis)
}

#[async_trait]
impl StartupHandler for Connection {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let PgWireFrontendMessage::Startup(_) = &message {
            if self.terms.full {
                return Err(fatal("53300", "sorry, too many clients already"));
            }
            if self.terms.needs_tls && !client.is_secure() {
                return Err(fatal("28000", "TLS is required here: connect with sslmode=require"));
            }
            client.set_pid_and_secret_key(self.key.id, SecretKey::I32(self.key.secret));
        }
        match (&self.handshake, message) {
            (Some(handshake), message) => handshake.on_startup(client, message).await?,
            (None, PgWireFrontendMessage::Startup(startup)) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                finish_authentication(client, &parameters()).await?;
            }
            (None, _) => return Err(fatal("08P01", "no password was asked for")),
        }
        if matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            // Tables of the database that the client named can be used unqualified.
            let named = client.metadata().get("database").map(|name| name.to_lowercase());
            names::enter(&self.session, named.as_deref().filter(|name| *name != names::DATABASE).unwrap_or("public"));
            self.admitted.store(true, Ordering::Release);
        }
        Ok(())
    }
}

#[async_trait]
impl SimpleQueryHandler for Connection {
    async fn on_query<C>(&self, client: &mut C, mut query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let limit = own_limit(client);
        let work = async {
            query.query = with_versions_as_names(&query.query).into_owned();
            complexity::check(&query.query)?;
            self._on_query(client, query).await?;
            if client.transaction_status() != TransactionStatus::Transaction {
                // They cannot be reached from here.
                self.cursors_ended.store(true, Ordering::Release);
            }
            Ok(())
        };
        self.statement(limit, work).await
    }

    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        tracing::debug!(connection = self.key.id, query, "query");
        let answers = SimpleQueryHandler::do_query(&self.service, client, query);
        let answers = spawning_on(&self.threads.handle, answers).await?;
        Ok(answers.into_iter().map(|answer| self.answered(answer)).collect())
    }
}

#[async_trait]
impl ExtendedQueryHandler for Connection {
    type Statement = <DfSessionService as ExtendedQueryHandler>::Statement;
    type QueryParser = OrderedParser;

    fn query_parser(&self) -> Arc<OrderedParser> {
        Arc::new(OrderedParser(self.service.query_parser()))
    }

    async fn on_parse<C>(&self, client: &mut C, mut message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let limit = own_limit(client);
        let work = async {
            message.query = with_versions_as_names(&message.query).into_owned();
            complexity::check(&message.query)?;
            // Like the service, except for the parser.
            let types: Vec<_> = message.type_oids.iter().map(|oid| Type::from_oid(*oid)).collect();
            let statement = self.query_parser().parse_sql(client, &message.query, &types).await?;
            let name = message.name.unwrap_or_else(|| DEFAULT_NAME.to_owned());
            let statement = StoredStatement::new(name, statement, types);
            client.portal_store().put_statement(Arc::new(statement));
            client.send(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
            Ok(())
        };
        self.statement(limit, work).await
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.end_cursors(client);
        self.statement(own_limit(client), self.service.on_bind(client, message)).await
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.end_cursors(client);
        self.statement(own_limit(client), self._on_execute(client, message)).await
    }

    async fn on_sync<C>(&self, client: &mut C, _: PgSync) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let status = client.transaction_status();
        if status != TransactionStatus::Transaction {
            self.cursors_ended.store(true, Ordering::Release);
        }
        self.end_cursors(client);
        client.send(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(status))).await?;
        Ok(())
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Self::Statement>,
        max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let portal = self.query_parser().bind(portal)?;
        let answer = ExtendedQueryHandler::do_query(&self.service, client, &portal, max_rows);
        Ok(self.answered(spawning_on(&self.threads.handle, answer).await?))
    }
}

#[async_trait]
impl CancelHandler for Connection {
    async fn on_cancel_request(&self, request: CancelRequest) {
        if let Some(secret) = request.secret_key.as_i32() {
            self.note(Note::Cancel(Key { id: request.pid, secret }));
        }
    }
}

impl ErrorHandler for Connection {
    fn on_error<C: ClientInfo>(&self, _: &C, failed: &mut PgWireError) {
        let taken = std::mem::replace(failed, PgWireError::NotReadyForQuery);
        *failed = translated(taken);
        tracing::debug!(connection = self.key.id, error = %failed, "refused");
    }
}

/// A connection as `pgwire` expects it.
pub(crate) struct Handlers(pub(crate) Arc<Connection>);

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.0)
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::clone(&self.0)
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::clone(&self.0)
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::clone(&self.0)
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::clone(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::buffer::OffsetBuffer;

    use super::*;

    /// Arrow has no error for this, only a panic.
    #[test]
    fn arrow_panics_with_this_text_where_a_batch_is_too_large() {
        let panic = std::panic::catch_unwind(|| OffsetBuffer::<i32>::from_lengths([1 << 31])).unwrap_err();
        let PgWireError::UserError(error) = panicked(&*panic) else { panic!() };
        assert_eq!(error.code, "53200");
        let PgWireError::UserError(error) = panicked(&"oh no") else { panic!() };
        assert_eq!(error.code, "XX000");
    }
}

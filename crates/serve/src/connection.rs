//! One client: its session, what it may do, and how that is stopped.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::prelude::SessionContext;
use datafusion_postgres::hooks::set_show::SetShowHook;
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
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, ErrorHandler, PgWireConnectionState, PgWireServerHandlers,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::extendedquery::{Bind, Execute, Parse, Sync as PgSync};
use datafusion_postgres::pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use datafusion_postgres::pgwire::messages::simplequery::Query;
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::{DfSessionService, QueryHook};
use futures::{Sink, SinkExt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::access::{Credentials, parameters};
use crate::complexity;
use crate::compute::{computed_on, spawning_on};
use crate::failure::{error, fatal, translated};
use crate::fields::Fields;
use crate::names;
use crate::parameters::OrderedParser;
use crate::read_only::ReadOnly;

/// Who is connected, so that a query can be cancelled from another connection.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    next: AtomicI32,
    open: Mutex<HashMap<i32, (i32, Arc<Notify>)>>,
}

impl Connections {
    fn cancel(&self, id: i32, secret: i32) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cancel)) = open.get(&id).filter(|(own, _)| *own == secret) {
            cancel.notify_waiters();
        }
    }
}

/// What a client is held to.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) needs_tls: bool,
    pub(crate) statement_timeout: Option<Duration>,
    /// Whether there are too many clients already, so that this one is only told.
    pub(crate) full: bool,
}

pub(crate) struct Connection {
    connections: Arc<Connections>,
    id: i32,
    secret: i32,
    terms: Terms,
    handshake: Option<SASLAuthStartupHandler<DefaultServerParameterProvider>>,
    session: Arc<SessionContext>,
    service: DfSessionService,
    admitted: AtomicBool,
    cancel: Arc<Notify>,
    /// Where queries run.
    compute: Handle,
    /// Whether the transaction of all cursors that there are has ended.
    cursors_ended: AtomicBool,
    /// Whether a statement is being executed.
    busy: watch::Sender<bool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Connection {
    pub(crate) fn new(
        connections: Arc<Connections>,
        session: SessionContext,
        terms: Terms,
        compute: Handle,
    ) -> Arc<Self> {
        let session = Arc::new(session);
        let hooks: Vec<Arc<dyn QueryHook>> =
            vec![Arc::new(ReadOnly), Arc::new(SetShowHook), Arc::new(TransactionStatementHook), Arc::new(Fields)];
        let id = connections.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let secret = Uuid::new_v4().as_u64_pair().1 as i32;
        let cancel = Arc::new(Notify::new());
        let entry = (secret, Arc::clone(&cancel));
        connections.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, entry);
        Arc::new(Self {
            connections,
            id,
            secret,
            handshake: terms.credentials.as_ref().map(Credentials::handshake),
            terms,
            service: DfSessionService::new_with_hooks(Arc::clone(&session), hooks),
            session,
            admitted: AtomicBool::new(false),
            cancel,
            compute,
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

    /// What is left of a cursor goes with its transaction, and no earlier.
    fn end_cursors<C>(&self, client: &C)
    where
        C: ClientPortalStore,
        C::PortalStore: PortalStore,
    {
        if self.cursors_ended.swap(false, Ordering::AcqRel) {
            client.portal_store().clear_portals();
        }
    }

    /// Does what a client asks for, unless it may not, takes too long, or is cancelled. What is dropped stops.
    async fn statement<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = PgWireResult<T>> + Send,
    ) -> PgWireResult<T> {
        // A client that was refused has no state that says so.
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
        self.busy.send_replace(true);
        let done = tokio::select! {
            biased;
            () = self.cancel.notified() => Err(error("57014", "canceling statement due to user request")),
            () = expired => Err(error("57014", "canceling statement due to statement timeout")),
            done = work => done,
        };
        self.busy.send_replace(false);
        done
    }
}

/// What `set statement_timeout` has noted of a client.
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
            client.set_pid_and_secret_key(self.id, SecretKey::I32(self.secret));
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
            // Tables of the database that was named need no more than their own name.
            let named = client.metadata().get("database").map(|name| name.to_lowercase());
            names::enter(&self.session, named.as_deref().filter(|name| *name != names::DATABASE).unwrap_or("public"));
            self.admitted.store(true, Ordering::Release);
        }
        Ok(())
    }
}

#[async_trait]
impl SimpleQueryHandler for Connection {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let limit = own_limit(client);
        let work = async {
            complexity::check(&query.query)?;
            self._on_query(client, query).await?;
            if client.transaction_status() != TransactionStatus::Transaction {
                // Which cannot be reached from here.
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
        tracing::debug!(connection = self.id, query, "query");
        let answers = SimpleQueryHandler::do_query(&self.service, client, query);
        let answers = spawning_on(&self.compute, answers).await?;
        Ok(answers.into_iter().map(|answer| computed_on(&self.compute, answer)).collect())
    }
}

#[async_trait]
impl ExtendedQueryHandler for Connection {
    type Statement = <DfSessionService as ExtendedQueryHandler>::Statement;
    type QueryParser = OrderedParser;

    fn query_parser(&self) -> Arc<OrderedParser> {
        Arc::new(OrderedParser(self.service.query_parser()))
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let limit = own_limit(client);
        let work = async {
            complexity::check(&message.query)?;
            self.service.on_parse(client, message).await
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
        Ok(computed_on(&self.compute, spawning_on(&self.compute, answer).await?))
    }
}

#[async_trait]
impl CancelHandler for Connection {
    async fn on_cancel_request(&self, request: CancelRequest) {
        if let Some(secret) = request.secret_key.as_i32() {
            self.connections.cancel(request.pid, secret);
        }
    }
}

impl ErrorHandler for Connection {
    fn on_error<C: ClientInfo>(&self, _: &C, failed: &mut PgWireError) {
        let taken = std::mem::replace(failed, PgWireError::NotReadyForQuery);
        *failed = translated(taken);
        tracing::debug!(connection = self.id, error = %failed, "refused");
    }
}

/// A connection as `pgwire` wants it.
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

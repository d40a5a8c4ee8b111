//! The environment of reading and writing.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::Error;
use crate::meter::Meters;
use crate::query_error::SpillFull;
use crate::store::Stores;

const SPILL_FOLDER: &str = "folder";

pub(super) type Extensions = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// The session in which queries run, the object stores, extensions (for example a catalog), and counters. The contexts
/// of jobs, sources and sinks dereference to it. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    session: SessionContext,
    stores: Arc<Stores>,
    extensions: Arc<Extensions>,
    meters: Meters,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("stores", &self.stores).finish_non_exhaustive()
    }
}

impl Environment {
    pub(super) fn new(session: SessionContext, stores: Arc<Stores>, extensions: Extensions) -> Self {
        Self { session, stores, extensions: Arc::new(extensions), meters: Meters::default() }
    }

    /// The same session and stores, with more extensions and counters of its own. An extension replaces another of its type.
    pub(super) fn extended(&self, extensions: Extensions) -> Self {
        let mut all = self.extensions.as_ref().clone();
        all.extend(extensions);
        Self::new(self.session.clone(), Arc::clone(&self.stores), all)
    }

    /// The DataFusion session.
    pub fn session(&self) -> &SessionContext {
        &self.session
    }

    /// The object stores.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The object stores, for values that outlive the context.
    pub fn shared_stores(&self) -> Arc<Stores> {
        Arc::clone(&self.stores)
    }

    /// The counters of all sources and sinks.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// The value of this type that was given to [`JobContextBuilder::extension`](crate::JobContextBuilder::extension): how
    /// sources and sinks find what they need beyond stores, a catalog or a client for example.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let found = self.extensions.get(&TypeId::of::<T>())?;
        Arc::downcast(Arc::clone(found)).ok()
    }

    /// Adds to a query's error what only the environment knows: the spill folder whose disk is full.
    pub fn explain(&self, error: Error) -> Error {
        if error.detail::<SpillFull>().is_none() || error.get(SPILL_FOLDER).is_some() {
            return error;
        }
        let folders = self.session.runtime_env().disk_manager.temp_dir_paths();
        let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        if folders.is_empty() { error } else { error.with(SPILL_FOLDER, folders.join(", ")) }
    }
}

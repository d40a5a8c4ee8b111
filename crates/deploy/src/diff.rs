//! What a template would change.

use std::fmt;

use hardtack_core::Result;
use serde_json::{Map, Value};

use crate::template::Template;
use crate::yaml;

/// What changes between two templates, a line for each value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes(Vec<Change>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    /// Where: `CustomerEventsDefinition.RetryStrategy.Attempts`.
    path: String,
    before: Option<String>,
    after: Option<String>,
}

impl Changes {
    /// What changes if a template replaces an earlier one, in YAML or JSON, such as the one that is deployed
    /// (`aws cloudformation get-template`).
    ///
    /// # Errors
    /// Usage if the earlier one does not parse.
    pub fn between(before: &str, after: &Template) -> Result<Self> {
        let mut before = yaml::read(before)?;
        // As the AWS CLI prints it.
        if let Some(body) = before.get("TemplateBody").cloned() {
            before = match body {
                Value::String(text) => yaml::read(&text)?,
                body => body,
            };
        }
        let empty = Value::Object(Map::new());
        let after = after.to_json();
        let resources = |template: &Value| template.get("Resources").cloned().unwrap_or_else(|| empty.clone());
        let mut changes = Vec::new();
        compare("", Some(&resources(&before)), Some(&resources(&after)), &mut changes);
        Ok(Self(changes))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let gone = before.keys().filter(|key| !after.contains_key(*key));
            for key in after.keys().chain(gone) {
                // What every resource has is no part of a path.
                let path = if key == "Properties" { path.to_owned() } else { below(key) };
                compare(&path, before.get(key), after.get(key), changes);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            let different = before.iter().zip(after).filter(|(before, after)| before != after).count();
            // Few values of a list that has as many as before: what differs in them. Otherwise which came and went.
            if before.len() == after.len() && different <= 2 {
                for (at, (before, after)) in before.iter().zip(after).enumerate() {
                    compare(&below(&at.to_string()), Some(before), Some(after), changes);
                }
                return;
            }
            let path = || path.to_owned();
            let gone = before.iter().filter(|value| !after.contains(value));
            changes.extend(gone.map(|value| Change { path: path(), before: Some(value.to_string()), after: None }));
            let new = after.iter().filter(|value| !before.contains(value));
            changes.extend(new.map(|value| Change { path: path(), before: None, after: Some(value.to_string()) }));
        }
        (before, after) => {
            // Of a resource that comes or goes its type says enough.
            let is_resource = !path.contains('.');
            let text = |value: &Value| match value.get("Type") {
                Some(Value::String(kind)) if is_resource => kind.clone(),
                _ => value.to_string(),
            };
            changes.push(Change { path: path.to_owned(), before: before.map(text), after: after.map(text) });
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Change { path, before, after } in &self.0 {
            match (before, after) {
                (None, Some(after)) => writeln!(f, "+ {path}: {after}")?,
                (Some(before), None) => writeln!(f, "- {path}: {before}")?,
                (Some(before), Some(after)) => writeln!(f, "~ {path}: {before} -> {after}")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

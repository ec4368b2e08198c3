//! Names, whatever case they are written in.
//!
//! The engine reads names without quotes in lower case and compares them exactly. Where it finds no such column it says which there are; if one
//! of them differs in case only, that one is meant, and is put in the name's place, with quotes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::{Column, Diagnostic, SchemaError, Span, TableReference};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, visit_expressions_mut};

use crate::SqlError;
use crate::catalog::{CATALOG, EVENTS, Tables};
use crate::error::Place;

/// How many names of a statement may be put right.
const MOST: usize = 1_000;

/// The name as it is written in a statement.
pub(crate) fn quoted(name: &str) -> String {
    let mut characters = name.chars();
    let begins_plain = characters.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_');
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match begins_plain && characters.all(is_plain) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// The name that is most like this one.
pub(crate) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_lowercase();
    names.into_iter().min_by_key(|known| strsim::damerau_levenshtein(&known.to_lowercase(), &name))
}

/// The plan of a statement.
pub(crate) async fn plan(
    state: &SessionState,
    tables: &Tables,
    mut statement: Statement,
) -> Result<LogicalPlan, SqlError> {
    let references = state.resolve_table_references(&statement)?;
    let is_function = |table: &TableReference| state.table_functions().contains_key(table.table());
    for table in references.into_iter().filter(|table| !is_function(table)) {
        check_table(state, tables, table).await?;
    }
    for _ in 0..MOST {
        let error = match Box::pin(state.statement_to_plan(statement.clone())).await {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        let Some(missing) = Missing::of(&error, None) else { return Err(error.into()) };
        let is_right_now = match missing.meant() {
            Some(meant) => put_right(&mut statement, &missing, &meant),
            None => false,
        };
        if !is_right_now {
            return Err(missing.error());
        }
    }
    Err(SqlError::statement("too many names are not written as they are defined; use double quotes"))
}

/// Says which table is meant if there is none of this name.
async fn check_table(state: &SessionState, tables: &Tables, table: TableReference) -> Result<(), SqlError> {
    let resolved = table.resolve(CATALOG, EVENTS);
    let is_there =
        match state.catalog_list().catalog(&resolved.catalog).and_then(|it| it.schema(&resolved.schema)) {
            Some(schema) => schema.table(&resolved.table).await?.is_some(),
            // What the engine has itself, such as information_schema.
            None => &*resolved.schema == "information_schema",
        };
    if is_there { Ok(()) } else { Err(tables.unknown(&resolved.table)) }
}

/// A column that a statement names and there is not.
#[derive(Debug)]
struct Missing<'e> {
    column: &'e Column,
    /// Those that there are at that place.
    known: &'e [Column],
    span: Option<Span>,
}

impl<'e> Missing<'e> {
    fn of(error: &'e DataFusionError, told: Option<&'e Diagnostic>) -> Option<Self> {
        match error {
            DataFusionError::Diagnostic(told, error) => Self::of(error, Some(told)),
            DataFusionError::Context(_, error) => Self::of(error, told),
            DataFusionError::Collection(errors) => errors.iter().find_map(|error| Self::of(error, told)),
            DataFusionError::SchemaError(error, _) => match &**error {
                SchemaError::FieldNotFound { field, valid_fields } => {
                    let span = told.and_then(|told| told.span).or_else(|| field.spans().first());
                    Some(Self { column: field, known: valid_fields, span })
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Those that differ in case only.
    fn alike(&self) -> BTreeSet<(Option<&str>, &str)> {
        let table = |column: &'e Column| column.relation.as_ref().map(TableReference::table);
        let wanted_table = table(self.column);
        let is_same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
        let alike = self.known.iter().filter(|known| {
            let of_table =
                wanted_table.is_none_or(|wanted| table(known).is_some_and(|known| is_same(known, wanted)));
            of_table && is_same(&known.name, &self.column.name)
        });
        alike.map(|known| (wanted_table.and_then(|_| table(known)), known.name.as_str())).collect()
    }

    /// The one that is meant, if that is certain: its table, if the statement names it, and its name.
    fn meant(&self) -> Option<(Option<String>, String)> {
        let alike = self.alike();
        match alike.len() {
            1 => alike.first().map(|(table, name)| (table.map(str::to_owned), (*name).to_owned())),
            _ => None,
        }
    }

    fn error(&self) -> SqlError {
        let name = self.column.flat_name();
        let alike: Vec<String> = self.alike().into_iter().map(|(_, name)| quoted(name)).collect();
        let names: BTreeSet<&str> = self.known.iter().map(Column::name).collect();
        let near = match &alike[..] {
            [] => nearest(&self.column.name, names).map(|near| format!("did you mean {}?", quoted(near))),
            alike => Some(format!("it is written {}", alike.join(" or "))),
        };
        let near = near.map_or_else(String::new, |near| format!("; {near}"));
        let place = self.span.map(|span| Place { line: span.start.line, column: span.start.column });
        SqlError::Statement { message: format!("there is no column {name} here{near}"), place }
    }
}

/// Writes a column as it is meant, wherever it is missing; false if it is not found.
fn put_right(statement: &mut Statement, missing: &Missing<'_>, meant: &(Option<String>, String)) -> bool {
    let statement = match statement {
        Statement::Statement(statement) => &mut **statement,
        Statement::Explain(explain) => return put_right(&mut explain.statement, missing, meant),
        _ => return false,
    };
    let (table, name) = meant;
    let is_here = |ident: &Ident| {
        let start = ident.span.start;
        missing.span.is_none_or(|span| (span.start.line, span.start.column) == (start.line, start.column))
    };
    let mut found = false;
    let _ = visit_expressions_mut(statement, |expr| {
        match expr {
            Expr::Identifier(ident) if is_here(ident) => {
                found |= write(ident, &missing.column.name, name);
            }
            Expr::CompoundIdentifier(parts) if parts.first().is_some_and(is_here) => {
                if let [.., of, ident] = &mut parts[..] {
                    let is_right = ident.value.to_lowercase() == missing.column.name.to_lowercase();
                    if let (true, Some(table)) = (is_right, table) {
                        let wanted = missing.column.relation.as_ref().map_or("", TableReference::table);
                        found |= write(of, wanted, table);
                    }
                    found |= write(ident, &missing.column.name, name);
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// Writes `right` where `wrong` was written without quotes; false if there is something else.
fn write(ident: &mut Ident, wrong: &str, right: &str) -> bool {
    let is_wrong = ident.quote_style.is_none() && ident.value.to_lowercase() == wrong.to_lowercase();
    if is_wrong {
        *ident = Ident::with_quote_and_span('"', ident.span, right);
    }
    is_wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_have_to_be() {
        assert_eq!(["weather", "wind_2"].map(quoted), ["weather", "wind_2"]);
        assert_eq!(
            ["Weather", "weather@1m", "2x", "a\"b", ""].map(quoted),
            ["\"Weather\"", "\"weather@1m\"", "\"2x\"", "\"a\"\"b\"", "\"\""]
        );
    }

    #[test]
    fn the_nearest_name_is_found() {
        assert_eq!(nearest("Temprature", ["pressure", "temperature"]), Some("temperature"));
        assert_eq!(nearest("x", []), None);
    }
}

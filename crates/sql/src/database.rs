//! From a statement to its answer.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use arrow_schema::{DataType, SchemaRef};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProviderList};
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{LogicalPlan, ScalarUDF, TableType};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use icecore_log::OnDamage;

use crate::SqlError;
use crate::catalog::{CATALOG, Catalog, EVENTS, SYSTEM, Tables};
use crate::codes::GroupByCodes;
use crate::covered::Covered;
use crate::functions;
use crate::known::KnownAt;
use crate::names;
use crate::reading::Reading;
use crate::statement;
use crate::states::StateAt;
use crate::system::Computed;
use crate::view::{Opened, View};

/// Bytes on disk for each byte of memory: what does not fit into memory may take that much, and no more of the disk that the log is on.
const SPILLED: u64 = 8;
/// Tables that a statement reads at once, one that is named twice counted twice: each read takes threads and memory of its own.
pub(crate) const TABLES: usize = 32;

/// Opens a log as it is now.
type Open = dyn Fn() -> Result<Opened, Box<dyn Error + Send + Sync>> + Send + Sync;

/// What statements may take, and how they read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes of memory that all statements together may take for sorting, grouping and joining; beyond them, what can be put on disk is, up to eight times as much.
    /// What is read ahead is not in it: some tens of MiB for each scan.
    pub memory: usize,
    /// Where that is put; `None`: the system's directory for temporary files.
    pub spill_directory: Option<PathBuf>,
    /// Threads that a statement is worked on by.
    pub threads: usize,
    /// Whether damage, and segments that are missing or cannot be reached, end a statement or are passed over.
    pub on_damage: OnDamage,
}

impl Default for Settings {
    /// 1 GiB, as many threads as there are processors, and damage is an error.
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self { memory: 1 << 30, spill_directory: None, threads, on_damage: OnDamage::Fail }
    }
}

/// A log that can be asked in SQL.
pub struct Database {
    open: Arc<Open>,
    context: SessionContext,
    settings: Settings,
}

/// A statement that is understood, over the log as it was then.
pub struct Prepared {
    state: SessionState,
    plan: LogicalPlan,
    covered: Covered,
}

/// The answer to a statement.
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows, read while they are taken; dropped, the reading ends. Errors become those of this crate by [`SqlError::from`].
    pub rows: SendableRecordBatchStream,
    /// What it covers of what it asks for, once all rows were taken.
    pub covered: Covered,
}

/// A table that statements find.
#[derive(Debug, Clone)]
pub struct Table {
    /// The schema of SQL that it is in.
    pub schema_name: String,
    /// Its name.
    pub name: String,
    /// What kind of table it is.
    pub kind: TableKind,
    /// Its columns.
    pub schema: SchemaRef,
}

/// What kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// Events as they came.
    Events,
    /// What is made of others: windows, as they are known now.
    View,
    /// It is about the log.
    System,
}

impl Database {
    /// Statements over the log that `open` opens, once for each of them; it may block.
    ///
    /// # Errors
    /// When the engine cannot be set up.
    pub fn new(
        open: impl Fn() -> Result<Opened, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
        settings: Settings,
    ) -> Result<Self, SqlError> {
        let mut runtime = RuntimeEnvBuilder::new()
            .with_memory_limit(settings.memory, 1.0)
            .with_max_temp_directory_size(SPILLED * settings.memory as u64);
        if let Some(directory) = &settings.spill_directory {
            runtime = runtime.with_temp_file_path(directory);
        }
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, EVENTS)
            .with_information_schema(true)
            .with_target_partitions(settings.threads);
        // With it, an error tells where the name is that it is about.
        config.options_mut().sql_parser.collect_spans = true;
        let context = SessionContext::new_with_config_rt(config, runtime.build_arc()?);
        functions::register(&context)?;
        context.add_optimizer_rule(Arc::new(GroupByCodes));
        Ok(Self { open: Arc::new(open), context, settings })
    }

    /// The same log, read otherwise where it is damaged. Memory is shared with this one.
    #[must_use]
    pub fn reading(&self, on_damage: OnDamage) -> Self {
        let settings = Settings { on_damage, ..self.settings.clone() };
        Self { open: Arc::clone(&self.open), context: self.context.clone(), settings }
    }

    /// The functions of values, sorted, each with the section of the engine's manual that it is in.
    pub(crate) fn functions(&self) -> Vec<(String, &'static str)> {
        let state = self.context.state();
        let section = |function: &ScalarUDF| {
            function.documentation().map_or("Other Functions", |manual| manual.doc_section.label)
        };
        let functions = state.scalar_functions().iter();
        let mut functions: Vec<_> =
            functions.map(|(name, function)| (name.clone(), section(function))).collect();
        functions.sort_unstable();
        functions
    }

    /// Understands a statement, without reading events. Parameters are written `$1` or `$name`, or `?`.
    ///
    /// # Errors
    /// When it is no SQL, asks for what there is not, or would change something; or when the log cannot be opened.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared, SqlError> {
        let mut statement = statement::parse(sql)?;
        functions::nest(&mut statement);
        let (state, tables, covered) = self.session().await?;
        let plan = names::plan(&state, &tables, statement).await?;
        // Whatever hides in a statement that only seems to read.
        let reading =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reading.verify_plan(&plan).map_err(|_| SqlError::Writes("a statement that writes".to_owned()))?;
        Ok(Prepared { state, plan, covered })
    }

    /// Answers a statement without parameters.
    ///
    /// # Errors
    /// As [`Database::prepare`]; what goes wrong later is an error of the answer's rows.
    pub async fn query(&self, sql: &str) -> Result<Answer, SqlError> {
        self.prepare(sql).await?.answer().await
    }

    /// The tables that there are now.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub async fn tables(&self) -> Result<Vec<Table>, SqlError> {
        let (_, tables, _) = self.session().await?;
        let catalog = Catalog(tables);
        let mut all = Vec::new();
        for schema_name in [EVENTS, SYSTEM] {
            let Some(schema) = catalog.schema(schema_name) else { continue };
            for name in schema.table_names() {
                // One whose versions do not fit together is none.
                let Ok(Some(table)) = schema.table(&name).await else { continue };
                let kind = match table.table_type() {
                    TableType::Base => TableKind::Events,
                    _ if table.is::<Computed>() => TableKind::System,
                    _ => TableKind::View,
                };
                all.push(Table { schema_name: schema_name.to_owned(), name, kind, schema: table.schema() });
            }
        }
        Ok(all)
    }

    /// The log as it is now, for one statement.
    async fn session(&self) -> Result<(SessionState, Arc<Tables>, Covered), SqlError> {
        let (open, on_damage) = (Arc::clone(&self.open), self.settings.on_damage);
        let opening = move || Ok(View::new(open().map_err(SqlError::Open)?, on_damage)?);
        let view: Result<View, SqlError> = match tokio::task::spawn_blocking(opening).await {
            Ok(view) => view,
            Err(error) => Err(SqlError::Execution(format!("opening the log: {error}"))),
        };
        let view = Arc::new(view?);
        let covered = Covered::new(Arc::clone(&view.tally));
        let tables = Arc::new(Tables::new(Arc::clone(&view)));
        let mut state = self.context.state();
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(Catalog(Arc::clone(&tables))));
        state.register_catalog_list(Arc::new(catalogs));
        state.register_udtf("known_at", Arc::new(KnownAt(Arc::clone(&tables))));
        state.register_udtf("state_at", Arc::new(StateAt(view)));
        Ok((state, tables, covered))
    }
}

impl Prepared {
    /// The columns of the answer.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.schema().inner())
    }

    /// The columns as they are answered: what the engine makes of a statement can have nulls where the statement has none. All parameters
    /// need their values.
    ///
    /// # Errors
    /// When nothing that can be carried out is made of it.
    pub fn answered_schema(&self) -> Result<SchemaRef, SqlError> {
        Ok(Arc::clone(self.state.optimize(&self.plan)?.schema().inner()))
    }

    /// The parameters by name, `$1` and so on, and their types, as far as these follow from the statement.
    ///
    /// # Errors
    /// When one of them would have to be of several types.
    pub fn parameters(&self) -> Result<Vec<(String, Option<DataType>)>, SqlError> {
        let mut parameters: Vec<_> = self.plan.get_parameter_types()?.into_iter().collect();
        let number = |name: &str| name.trim_start_matches('$').parse::<u32>().unwrap_or(u32::MAX);
        parameters.sort_by(|(a, _), (b, _)| (number(a), a).cmp(&(number(b), b)));
        Ok(parameters)
    }

    /// The same statement with these for its parameters.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn with_parameters(self, values: impl Into<ParamValues>) -> Result<Self, SqlError> {
        let plan = self.plan.with_param_values(values)?;
        Ok(Self { plan, ..self })
    }

    /// Begins to answer.
    ///
    /// # Errors
    /// When it cannot be carried out.
    pub async fn answer(self) -> Result<Answer, SqlError> {
        let physical = self.state.create_physical_plan(&self.plan).await?;
        let tables = count_tables(&physical)?;
        if tables > TABLES {
            let message =
                format!("the statement reads {tables} tables at once, and {TABLES} may be: ask in several");
            return Err(SqlError::statement(message));
        }
        let rows = execute_stream(physical, self.state.task_ctx())?;
        Ok(Answer { schema: rows.schema(), rows, covered: self.covered })
    }
}

fn count_tables(plan: &Arc<dyn ExecutionPlan>) -> Result<usize, SqlError> {
    let mut tables = 0;
    plan.apply(|node| {
        tables += usize::from(node.is::<Reading>());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

//! What clients ask about the server itself, and the types of its columns.

use std::collections::BTreeMap;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries,
    SqlSupportedTransaction, SqlSupportedUnions, SqlTransactionIsolationLevel, SupportedSqlGrammar,
    XdbcDataType, XdbcDatetimeSubcode,
};
use arrow_schema::DataType;
use datafusion::sql::sqlparser::keywords::{RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_TABLE_ALIAS};

use super::rows::plain_type;
use crate::Database;
use crate::database::TABLES;

/// Of the format: what columns look like on the wire.
const ARROW: &str = "1.5";

/// All answers to `GetSqlInfo`. JDBC asks for each of them, and takes none that is missing.
pub(super) fn server(database: &Database) -> Result<SqlInfoData, FlightError> {
    let mut told = SqlInfoDataBuilder::new();
    told.append(SqlInfo::FlightSqlServerName, "Icecore");
    told.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    told.append(SqlInfo::FlightSqlServerArrowVersion, ARROW);
    told.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "");
    told.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "");
    told.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    // Handles carry the statement: they never run out.
    told.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    told.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
    for (is_so, which) in [(true, &CAN[..]), (false, &CANNOT[..])] {
        which.iter().for_each(|info| told.append(*info, is_so));
    }
    // No length has a limit of its own.
    UNLIMITED.iter().for_each(|info| told.append(*info, 0_i64));
    told.append(SqlInfo::SqlMaxTablesInSelect, TABLES as i64);
    names(&mut told);
    grammar(&mut told);
    functions(&mut told, database);
    told.build()
}

/// What is so.
const CAN: [SqlInfo; 13] = [
    SqlInfo::FlightSqlServerReadOnly,
    SqlInfo::FlightSqlServerSql,
    SqlInfo::FlightSqlServerCancel,
    SqlInfo::SqlAllTablesAreSelectable,
    SqlInfo::SqlSupportsColumnAliasing,
    SqlInfo::SqlNullPlusNullIsNull,
    SqlInfo::SqlSupportsTableCorrelationNames,
    SqlInfo::SqlSupportsExpressionsInOrderBy,
    SqlInfo::SqlSupportsOrderByUnrelated,
    SqlInfo::SqlSupportsLikeEscapeClause,
    SqlInfo::SqlSupportsNonNullableColumns,
    SqlInfo::SqlCatalogAtStart,
    SqlInfo::SqlCorrelatedSubqueriesSupported,
];

/// What is not.
const CANNOT: [SqlInfo; 19] = [
    SqlInfo::FlightSqlServerSubstrait,
    SqlInfo::FlightSqlServerBulkIngestion,
    SqlInfo::FlightSqlServerIngestTransactionsSupported,
    SqlInfo::SqlDdlCatalog,
    SqlInfo::SqlDdlSchema,
    SqlInfo::SqlDdlTable,
    SqlInfo::SqlSupportsDifferentTableCorrelationNames,
    SqlInfo::SqlSupportsIntegrityEnhancementFacility,
    SqlInfo::SqlSelectForUpdateSupported,
    SqlInfo::SqlStoredProceduresSupported,
    SqlInfo::SqlMaxRowSizeIncludesBlobs,
    SqlInfo::SqlTransactionsSupported,
    SqlInfo::SqlDataDefinitionCausesTransactionCommit,
    SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
    SqlInfo::SqlBatchUpdatesSupported,
    SqlInfo::SqlSavepointsSupported,
    SqlInfo::SqlNamedParametersSupported,
    SqlInfo::SqlLocatorsUpdateCopy,
    SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
];

/// What has no limit, or one that is not known.
const UNLIMITED: [SqlInfo; 19] = [
    SqlInfo::SqlMaxBinaryLiteralLength,
    SqlInfo::SqlMaxCharLiteralLength,
    SqlInfo::SqlMaxColumnNameLength,
    SqlInfo::SqlMaxColumnsInGroupBy,
    SqlInfo::SqlMaxColumnsInIndex,
    SqlInfo::SqlMaxColumnsInOrderBy,
    SqlInfo::SqlMaxColumnsInSelect,
    SqlInfo::SqlMaxColumnsInTable,
    SqlInfo::SqlMaxConnections,
    SqlInfo::SqlMaxCursorNameLength,
    SqlInfo::SqlMaxIndexLength,
    SqlInfo::SqlDbSchemaNameLength,
    SqlInfo::SqlMaxProcedureNameLength,
    SqlInfo::SqlMaxCatalogNameLength,
    SqlInfo::SqlMaxRowSize,
    SqlInfo::SqlMaxStatementLength,
    SqlInfo::SqlMaxStatements,
    SqlInfo::SqlMaxTableNameLength,
    SqlInfo::SqlMaxUsernameLength,
];

fn names(told: &mut SqlInfoDataBuilder) {
    let any_case = SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32;
    told.append(SqlInfo::SqlIdentifierCase, any_case);
    told.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32,
    );
    told.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    told.append(SqlInfo::SqlSearchStringEscape, "\\");
    told.append(SqlInfo::SqlExtraNameCharacters, "");
    told.append(SqlInfo::SqlSchemaTerm, "schema");
    told.append(SqlInfo::SqlProcedureTerm, "procedure");
    told.append(SqlInfo::SqlCatalogTerm, "catalog");
    let reserved = RESERVED_FOR_COLUMN_ALIAS.iter().chain(RESERVED_FOR_TABLE_ALIAS);
    let mut reserved: Vec<String> = reserved.map(|keyword| format!("{keyword:?}")).collect();
    reserved.sort_unstable();
    reserved.dedup();
    told.append(SqlInfo::SqlKeywords, reserved);
}

fn grammar(told: &mut SqlInfoDataBuilder) {
    let bits = |bits: &[i32]| bits.iter().fold(0, |mask, bit| mask | 1 << bit);
    told.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    told.append(SqlInfo::SqlSupportsConvert, BTreeMap::<i32, Vec<i32>>::new());
    let beyond =
        [SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32];
    told.append(SqlInfo::SqlSupportedGroupBy, bits(&beyond));
    let core = [SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32];
    told.append(SqlInfo::SqlSupportedGrammar, bits(&core));
    // The entry level.
    told.append(SqlInfo::SqlAnsi92SupportedLevel, bits(&[0]));
    told.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        bits(&[SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32]),
    );
    for none in [
        SqlInfo::SqlSchemasSupportedActions,
        SqlInfo::SqlCatalogsSupportedActions,
        SqlInfo::SqlSupportedPositionedCommands,
        SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
    ] {
        told.append(none, 0_i32);
    }
    let subqueries = [
        SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
        SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
        SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
    ];
    told.append(SqlInfo::SqlSupportedSubqueries, bits(&subqueries));
    let unions = [SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32];
    told.append(SqlInfo::SqlSupportedUnions, bits(&unions));
    let no_transactions = SqlTransactionIsolationLevel::SqlTransactionNone as i32;
    told.append(SqlInfo::SqlDefaultTransactionIsolation, no_transactions);
    told.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, bits(&[no_transactions]));
    let forward = SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32;
    told.append(SqlInfo::SqlSupportedResultSetTypes, bits(&[forward]));
    let read_only = SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32;
    told.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, bits(&[read_only]));
}

/// The functions by what they are for, as the engine says it of each.
fn functions(told: &mut SqlInfoDataBuilder, database: &Database) {
    let functions = database.functions();
    let of = |sections: &[&str]| {
        let some = functions.iter().filter(|(_, section)| sections.contains(section));
        some.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    told.append(SqlInfo::SqlNumericFunctions, of(&["Math Functions"]));
    told.append(
        SqlInfo::SqlStringFunctions,
        of(&["String Functions", "Binary String Functions", "Regular Expression Functions"]),
    );
    told.append(SqlInfo::SqlDatetimeFunctions, of(&["Time and Date Functions"]));
    told.append(SqlInfo::SqlSystemFunctions, of(&["Conditional Functions", "Other Functions"]));
}

/// A type of columns.
struct Type {
    name: &'static str,
    of: XdbcDataType,
    /// Digits, characters or bits, where there is a number of them.
    size: Option<i32>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number { unsigned: bool, radix: i32 },
    Text,
    Bytes,
    Time,
    Other,
}

const INTEGER: Kind = Kind::Number { unsigned: false, radix: 10 };
const UNSIGNED: Kind = Kind::Number { unsigned: true, radix: 10 };
const FLOATING: Kind = Kind::Number { unsigned: false, radix: 2 };

const TYPES: [Type; 16] = [
    Type { name: "BOOLEAN", of: XdbcDataType::XdbcBit, size: Some(1), kind: Kind::Other },
    Type { name: "TINYINT", of: XdbcDataType::XdbcTinyint, size: Some(3), kind: INTEGER },
    Type { name: "SMALLINT", of: XdbcDataType::XdbcSmallint, size: Some(5), kind: INTEGER },
    Type { name: "INTEGER", of: XdbcDataType::XdbcInteger, size: Some(10), kind: INTEGER },
    Type { name: "BIGINT", of: XdbcDataType::XdbcBigint, size: Some(19), kind: INTEGER },
    Type { name: "TINYINT UNSIGNED", of: XdbcDataType::XdbcTinyint, size: Some(3), kind: UNSIGNED },
    Type { name: "SMALLINT UNSIGNED", of: XdbcDataType::XdbcSmallint, size: Some(5), kind: UNSIGNED },
    Type { name: "INTEGER UNSIGNED", of: XdbcDataType::XdbcInteger, size: Some(10), kind: UNSIGNED },
    Type { name: "BIGINT UNSIGNED", of: XdbcDataType::XdbcBigint, size: Some(20), kind: UNSIGNED },
    Type { name: "REAL", of: XdbcDataType::XdbcReal, size: Some(24), kind: FLOATING },
    Type { name: "DOUBLE", of: XdbcDataType::XdbcDouble, size: Some(53), kind: FLOATING },
    Type { name: "VARCHAR", of: XdbcDataType::XdbcVarchar, size: None, kind: Kind::Text },
    Type { name: "VARBINARY", of: XdbcDataType::XdbcVarbinary, size: None, kind: Kind::Bytes },
    Type { name: "DATE", of: XdbcDataType::XdbcDate, size: Some(10), kind: Kind::Time },
    Type { name: "TIMESTAMP", of: XdbcDataType::XdbcTimestamp, size: Some(30), kind: Kind::Time },
    Type { name: "ARRAY", of: XdbcDataType::XdbcUnknownType, size: None, kind: Kind::Other },
];

/// The answer to `GetXdbcTypeInfo`.
pub(super) fn types() -> Result<XdbcTypeInfoData, FlightError> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    for Type { name, of, size, kind } in TYPES {
        let quote = match kind {
            Kind::Text | Kind::Time => Some(("'", "'")),
            Kind::Bytes => Some(("X'", "'")),
            Kind::Number { .. } | Kind::Other => None,
        };
        let (unsigned, radix) = match kind {
            Kind::Number { unsigned, radix } => (Some(unsigned), Some(radix)),
            _ => (None, None),
        };
        let is_instant = name == "TIMESTAMP";
        types.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type: of,
            column_size: size,
            literal_prefix: quote.map(|(prefix, _)| prefix.to_owned()),
            literal_suffix: quote.map(|(_, suffix)| suffix.to_owned()),
            nullable: Nullable::NullabilityNullable,
            case_sensitive: kind == Kind::Text,
            searchable: Searchable::Full,
            unsigned_attribute: unsigned,
            auto_increment: Some(false),
            local_type_name: Some(name.to_owned()),
            maximum_scale: is_instant.then_some(9),
            sql_data_type: of,
            datetime_subcode: is_instant.then_some(XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone),
            num_prec_radix: radix,
            ..XdbcTypeInfo::default()
        });
    }
    types.build()
}

/// The name of a column's type.
pub(super) fn type_name(of: &DataType) -> &'static str {
    match plain_type(of) {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INTEGER UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 => "VARCHAR",
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "VARBINARY",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Timestamp(..) => "TIMESTAMP",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "ARRAY",
        _ => "OTHER",
    }
}

/// Whether it matters in which case values are compared.
pub(super) fn is_text(of: &DataType) -> bool {
    type_name(of) == "VARCHAR"
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, UInt32Array};
    use icecore_replay::Replay;

    use super::*;
    use crate::{Opened, Settings};

    #[test]
    fn everything_that_may_be_asked_of_the_server_has_an_answer() {
        let directory = std::env::temp_dir();
        let open = move || Ok(Opened::new(Replay::open(&directory)?.into()));
        let database = Database::new(open, Settings::default()).unwrap();
        let told = server(&database).unwrap().record_batch(None).unwrap();
        let ids = told.column(0).as_any().downcast_ref::<UInt32Array>().unwrap();
        let ids: Vec<u32> = ids.values().to_vec();
        let expected: Vec<u32> = (0..1_000).filter(|id| SqlInfo::try_from(*id as i32).is_ok()).collect();
        assert_eq!(ids, expected);
        assert_eq!(told.column(1).null_count(), 0);
    }

    #[test]
    fn every_type_of_a_column_is_among_the_types() {
        let types = [
            DataType::Boolean,
            DataType::UInt32,
            DataType::Int64,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Utf8,
            DataType::Binary,
            DataType::Timestamp(arrow_schema::TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::new_fixed_size_list(DataType::Int16, 3, false),
            DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8)),
        ];
        for of in types {
            assert!(TYPES.iter().any(|known| known.name == type_name(&of)), "{of}");
        }
        assert_eq!(super::types().unwrap().record_batch(None).unwrap().num_rows(), TYPES.len());
    }
}

//! Statements: one at a time, and only such as read.

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Statement as Sql;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::SqlError;

/// Keywords, operators and opening brackets that a statement may have, in a list of any length of names and values: what plans it goes down
/// its tree by recursion, on a stack that has an end.
const NESTING: usize = 1_000;

/// Reads the one statement of a text.
///
/// # Errors
/// When it is no SQL, too long, several statements, or one that does not only read.
pub(crate) fn parse(text: &str) -> Result<Statement, SqlError> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location();
    let mut tokens = tokens.map_err(|error| DataFusionError::from(ParserError::from(error)))?;
    if tokens.iter().filter(|token| nests(&token.token)).count() > NESTING {
        let message = format!(
            "the statement has more than {NESTING} keywords and operators: ask in several, or compare with IN (…)"
        );
        return Err(SqlError::statement(message));
    }
    number(&mut tokens);
    let mut statements = DFParserBuilder::new(tokens).with_dialect(&dialect).build()?.parse_statements()?;
    let first = statements.pop_front().ok_or_else(|| SqlError::statement("there is no statement"))?;
    if !statements.is_empty() {
        return Err(SqlError::statement("there are several statements; ask one at a time"));
    }
    check(&first)?;
    Ok(first)
}

/// Whether a token may make the tree of its statement deeper.
fn nests(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        token => !matches!(
            token,
            Token::Whitespace(_)
                | Token::Comma
                | Token::Period
                | Token::SemiColon
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::Placeholder(_)
                | Token::RParen
                | Token::RBracket
                | Token::RBrace
                | Token::EOF
        ),
    }
}

/// Writes `$1`, `$2` and so on for the parameters that are written `?`, as JDBC has them.
fn number(tokens: &mut [TokenWithSpan]) {
    let is_unnamed =
        |token: &&mut TokenWithSpan| matches!(&token.token, Token::Placeholder(name) if name == "?");
    let unnamed = tokens.iter_mut().filter(is_unnamed);
    for (token, number) in unnamed.zip(1..) {
        token.token = Token::Placeholder(format!("${number}"));
    }
}

fn check(statement: &Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Explain(explain) => check(&explain.statement),
        Statement::Statement(statement) if only_reads(statement) => Ok(()),
        statement => Err(SqlError::Writes(begin(&statement.to_string()))),
    }
}

fn only_reads(statement: &Sql) -> bool {
    matches!(
        statement,
        Sql::Query(_)
            | Sql::Explain { .. }
            | Sql::ExplainTable { .. }
            | Sql::ShowTables { .. }
            | Sql::ShowColumns { .. }
            | Sql::ShowFunctions { .. }
            | Sql::ShowVariable { .. }
            | Sql::ShowDatabases { .. }
            | Sql::ShowSchemas { .. }
    )
}

/// The first two words: what kind of statement it is.
fn begin(text: &str) -> String {
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_is_let_in() {
        for reads in
            ["SELECT 1", "select 1;", "WITH a AS (SELECT 1) SELECT * FROM a", "EXPLAIN ANALYZE SELECT 1"]
        {
            assert!(parse(reads).is_ok(), "{reads}");
        }
        for reads in ["VALUES (1)", "SHOW TABLES", "DESCRIBE weather", "SHOW COLUMNS FROM weather"] {
            assert!(parse(reads).is_ok(), "{reads}");
        }
        for writes in [
            "DROP TABLE weather",
            "INSERT INTO weather VALUES (1)",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "COPY weather TO 'weather.csv'",
            "SET datafusion.execution.batch_size = 1",
            "EXPLAIN DELETE FROM weather",
            "PREPARE p AS SELECT 1",
        ] {
            let said = parse(writes).map(|_| ()).expect_err(writes).to_string();
            assert!(said.contains("is refused"), "{writes}: {said}");
        }
    }

    #[test]
    fn parameters_without_names_are_numbered() {
        let parsed = parse("SELECT ? + ? FROM weather WHERE device LIKE 'a?' AND temp > ?").unwrap();
        let expected = "SELECT $1 + $2 FROM weather WHERE device LIKE 'a?' AND temp > $3";
        assert_eq!(parsed.to_string(), expected);
    }

    #[test]
    fn what_would_go_too_deep_is_refused() {
        let deep = ["1+", "NOT ", "(", "- ", "1 UNION ALL SELECT ", "CASE WHEN "];
        for deep in deep.map(|part| format!("SELECT {}1", part.repeat(100_000))) {
            let said = parse(&deep).map(|_| ()).unwrap_err().to_string();
            assert!(said.starts_with("the statement has more than 1000"), "{said}");
        }
        let long = format!("SELECT * FROM weather WHERE seq IN (1{})", ", 2".repeat(100_000));
        assert!(parse(&long).is_ok());
    }

    #[test]
    fn mistakes_are_told() {
        let said = |text: &str| parse(text).map(|_| ()).unwrap_err().to_string();
        assert!(
            said("SELECT avg( FROM weather").contains("(at line 1, column 18)"),
            "{}",
            said("SELECT avg( FROM w")
        );
        assert_eq!(said(""), "there is no statement");
        assert_eq!(said("SELECT 1; SELECT 2"), "there are several statements; ask one at a time");
    }
}

//! Statements from standard input, with a prompt on a terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::bail;

use super::Engine;

const HELP: &str = "\
Statements end with `;`. Beside them:
  \\d        list the tables
  \\d NAME   list the columns of a table
  \\q        quit";

const TABLES: &str = "SELECT table_name AS name, table_schema AS schema, table_type AS type \
     FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY schema, name";

/// Answers what comes, until it ends. Errors are told, and what comes behind them is answered.
pub(super) fn run(engine: &Engine, require_complete: bool) -> anyhow::Result<()> {
    let is_terminal = io::stdin().is_terminal();
    let mut session = Session { engine, require_complete, failed: 0 };
    let (mut text, mut lines) = (String::new(), io::stdin().lock().lines());
    if is_terminal {
        eprintln!("icecore {}: `\\?` for help", env!("CARGO_PKG_VERSION"));
    }
    loop {
        if is_terminal {
            eprint!("{}", if text.is_empty() { "icecore> " } else { "      -> " });
            io::stderr().flush()?;
        }
        let Some(line) = lines.next().transpose()? else { break };
        match line.trim() {
            "" if text.is_empty() => continue,
            "\\q" | "exit" | "quit" if text.is_empty() => return session.end(is_terminal),
            "\\?" | "help" if text.is_empty() => eprintln!("{HELP}"),
            "\\d" if text.is_empty() => session.answer(TABLES),
            command if text.is_empty() && command.starts_with("\\d ") => {
                let name = command["\\d ".len()..].trim();
                session.answer(&format!("DESCRIBE {}", name.trim_end_matches(';')));
            }
            _ => {
                text += &line;
                text.push('\n');
                while let Some((statement, rest)) = split(&text) {
                    session.answer(statement);
                    text = rest.trim_start().to_owned();
                }
            }
        }
    }
    if !text.trim().is_empty() {
        session.answer(&text);
    }
    session.end(is_terminal)
}

struct Session<'e> {
    engine: &'e Engine,
    require_complete: bool,
    /// Statements that were not answered.
    failed: usize,
}

impl Session<'_> {
    fn answer(&mut self, statement: &str) {
        let answer = async {
            tokio::select! {
                answer = self.engine.answer(statement, Path::new("-"), self.require_complete) => answer,
                _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            }
        };
        if let Err(error) = self.engine.runtime.block_on(answer) {
            eprintln!("error: {error:#}");
            self.failed += 1;
        }
    }

    /// Whoever types has seen what failed; a script has to be told.
    fn end(&self, is_terminal: bool) -> anyhow::Result<()> {
        match self.failed {
            0 => Ok(()),
            _ if is_terminal => Ok(()),
            1 => bail!("a statement was not answered"),
            failed => bail!("{failed} statements were not answered"),
        }
    }
}

/// The text before the first `;` that ends a statement, and what is behind it.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut inside = Inside::Statement;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let depth = if let Inside::Comment(depth) = inside { depth } else { 0 };
        inside = match (inside, character, next) {
            (Inside::Statement, ';', _) => return Some((&text[..at], &text[at + 1..])),
            (Inside::Statement, '\'' | '"' | '`', _) => Inside::Quotes(character),
            (Inside::Statement, '-', Some('-')) => Inside::Line,
            (Inside::Statement | Inside::Comment(_), '/', Some('*')) => {
                characters.next();
                Inside::Comment(depth + 1)
            }
            (Inside::Comment(_), '*', Some('/')) => {
                characters.next();
                if depth == 1 { Inside::Statement } else { Inside::Comment(depth - 1) }
            }
            (Inside::Quotes(open), character, _) if open == character => Inside::Statement,
            (Inside::Line, '\n', _) => Inside::Statement,
            _ => inside,
        };
    }
    None
}

/// What a character of a text stands in.
#[derive(Debug, Clone, Copy)]
enum Inside {
    Statement,
    /// A text or a name, up to the same quote.
    Quotes(char),
    /// A comment up to the end of the line.
    Line,
    /// So many comments inside of each other.
    Comment(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_where_they_say() {
        assert_eq!(split("SELECT 1"), None);
        assert_eq!(split("SELECT 1; SELECT 2;"), Some(("SELECT 1", " SELECT 2;")));
        assert_eq!(split("SELECT ';', \"a;b\" -- ;\n;"), Some(("SELECT ';', \"a;b\" -- ;\n", "")));
        assert_eq!(split("SELECT 'it''s;"), None);
        assert_eq!(split("SELECT 1 - 2;"), Some(("SELECT 1 - 2", "")));
        assert_eq!(split("SELECT `a;b`;"), Some(("SELECT `a;b`", "")));
        assert_eq!(split("SELECT 'a' -- it's;\n;"), Some(("SELECT 'a' -- it's;\n", "")));
    }

    #[test]
    fn statements_do_not_end_in_comments() {
        assert_eq!(split("SELECT /* ; it's */ 1;2"), Some(("SELECT /* ; it's */ 1", "2")));
        assert_eq!(split("SELECT /* /* ; */ ; */ 1;"), Some(("SELECT /* /* ; */ ; */ 1", "")));
        assert_eq!(split("SELECT /* /* */ 1;"), None);
        assert_eq!(split("SELECT /*/ ; */ 1;"), Some(("SELECT /*/ ; */ 1", "")));
        assert_eq!(split("SELECT /* -- */ 1;"), Some(("SELECT /* -- */ 1", "")));
        assert_eq!(split("SELECT -- /* \n 1;"), Some(("SELECT -- /* \n 1", "")));
        assert_eq!(split("SELECT '/*', 4 / 2 * 3;"), Some(("SELECT '/*', 4 / 2 * 3", "")));
    }
}

//! Statements from standard input, with a prompt on a terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::bail;

use super::Engine;
use crate::replay;

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
                answer = self.engine.answer(statement, Path::new("-")) => answer,
                _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            }
        };
        let told = self.engine.runtime.block_on(answer).and_then(|coverage| match coverage.is_complete() {
            true => Ok(()),
            false => replay::tell(&coverage, self.require_complete),
        });
        if let Err(error) = told {
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
    let mut quote: Option<char> = None;
    let mut in_comment = false;
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        match (quote, character) {
            _ if in_comment => in_comment = character != '\n',
            (Some(open), character) if open == character => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '-') if before == '-' => in_comment = true,
            (None, ';') => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
        before = character;
    }
    None
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
    }
}

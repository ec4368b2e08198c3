//! The words of an expression.

use super::ExpressionError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'t> {
    /// A field, a function or a word of the language.
    Word(&'t str),
    /// A field's name in double quotes.
    Quoted(String),
    Text(String),
    Integer(i128),
    Float(f64),
    /// An operator, a parenthesis or a comma.
    Sign(&'static str),
}

/// Longer ones first: `<=` is not `<` and `=`.
const SIGNS: [&str; 16] =
    ["!=", "<>", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ",", "=="];

/// The tokens of `text`, each with the byte where it begins.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>, ExpressionError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = token(&text[at..], first).map_err(|message| ExpressionError { at, message })?;
        tokens.push((at, token));
        at += length;
    }
    Ok(tokens)
}

/// The token at the start of `rest`, and its bytes.
fn token(rest: &str, first: char) -> Result<(Token<'_>, usize), String> {
    if first == '\'' || first == '"' {
        let (text, length) = quoted(&rest[1..], first)?;
        return Ok((if first == '"' { Token::Quoted(text) } else { Token::Text(text) }, length + 1));
    }
    if first.is_ascii_digit() || first == '.' {
        return number(rest);
    }
    if first.is_alphabetic() || first == '_' {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        return Ok((Token::Word(&rest[..end]), end));
    }
    let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
    sign.map(|sign| (Token::Sign(sign), sign.len())).ok_or_else(|| format!("unexpected {first:?}"))
}

/// The text up to the closing `quote`, which is doubled where it belongs to the text; and its bytes with the quote.
fn quoted(rest: &str, quote: char) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            text.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return Ok((text, at + 1));
        }
    }
    Err(format!("the closing {quote} is missing"))
}

fn number(rest: &str) -> Result<(Token<'_>, usize), String> {
    let mut end = 0;
    for (at, c) in rest.char_indices() {
        let is_sign_of_exponent = matches!(c, '+' | '-') && rest[..at].ends_with(['e', 'E']);
        if !(c.is_ascii_alphanumeric() || c == '.' || is_sign_of_exponent) {
            break;
        }
        end = at + 1;
    }
    let text = &rest[..end];
    let integer = text.parse().ok().filter(|number| *number <= i128::from(u64::MAX)).map(Token::Integer);
    let float = || text.parse().ok().filter(|number: &f64| number.is_finite()).map(Token::Float);
    let token = integer.or_else(float);
    token.map(|token| (token, end)).ok_or_else(|| format!("{text} is no number"))
}

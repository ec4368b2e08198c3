//! From text to a checked expression: precedence climbing.

use std::fmt::Write as _;

use icecore_wire::Schema;

use super::function::Function;
use super::token::{Token, tokens};
use super::{Expression, Node, Type};
use crate::Cell;
use crate::document::nearest;

/// Bytes of an expression. Longer ones are programs.
const MAX_BYTES: usize = 4096;

/// Parentheses, calls and signs within each other: it keeps hostile files from using up the stack.
const MAX_DEPTH: usize = 64;

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpressionError {
    /// The byte of the expression.
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// Reads an expression over the fields of `schema`.
pub(crate) fn parse(text: &str, schema: &Schema) -> Result<Expression, ExpressionError> {
    if text.len() > MAX_BYTES {
        return Err(ExpressionError { at: 0, message: format!("an expression may have {MAX_BYTES} bytes") });
    }
    let mut parser = Parser { schema, tokens: tokens(text)?, next: 0, end: text.len(), depth: 0 };
    let expression = parser.expression(0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(token) => Err(parser.error(format!("unexpected {}", shown(token)))),
    }
}

struct Parser<'t> {
    schema: &'t Schema,
    tokens: Vec<(usize, Token<'t>)>,
    next: usize,
    end: usize,
    depth: usize,
}

/// Two-place operators with how strongly they bind.
const BINARY: [(&str, u8, Function); 15] = [
    ("or", 1, Function::Or),
    ("and", 2, Function::And),
    ("==", 4, Function::Equal),
    ("=", 4, Function::Equal),
    ("!=", 4, Function::Unequal),
    ("<>", 4, Function::Unequal),
    ("<", 4, Function::Less),
    ("<=", 4, Function::AtMost),
    (">", 4, Function::More),
    (">=", 4, Function::AtLeast),
    ("+", 5, Function::Add),
    ("-", 5, Function::Subtract),
    ("*", 6, Function::Multiply),
    ("/", 6, Function::Divide),
    ("%", 6, Function::Remainder),
];

/// `not` takes a whole comparison.
const BINDING_OF_NOT: u8 = 3;
/// A sign takes only what is right behind it.
const BINDING_OF_SIGN: u8 = 7;

impl<'t> Parser<'t> {
    /// Reads operands and those operators that bind at least as strongly as `binding`.
    fn expression(&mut self, binding: u8) -> Result<Expression, ExpressionError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} levels deep")));
        }
        let mut left = self.operand()?;
        while let Some((strength, function)) = self.operator().filter(|(strength, _)| *strength >= binding) {
            let at = self.place();
            self.next += 1;
            let right = self.expression(strength + 1)?;
            left = call(at, function, vec![left, right])?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operator(&self) -> Option<(u8, Function)> {
        let (Token::Sign(sign) | Token::Word(sign)) = self.peek()? else { return None };
        let found = BINARY.iter().find(|(name, ..)| name.eq_ignore_ascii_case(sign));
        found.map(|(_, strength, function)| (*strength, *function))
    }

    fn operand(&mut self) -> Result<Expression, ExpressionError> {
        let at = self.place();
        let Some(token) = self.peek().cloned() else { return Err(self.error("the expression ends early")) };
        self.next += 1;
        match token {
            Token::Integer(number) => Ok(Expression::literal(Cell::Integer(number), Type::Integer)),
            Token::Float(number) => Ok(Expression::literal(Cell::Float(number), Type::Float)),
            Token::Text(text) => Ok(Expression::literal(Cell::Text(text.into()), Type::Text)),
            Token::Quoted(name) => self.field(at, &name),
            Token::Sign("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("-") => call(at, Function::Negate, vec![self.expression(BINDING_OF_SIGN)?]),
            Token::Word(word) if self.peek() == Some(&Token::Sign("(")) && word != "not" => {
                self.call(at, word)
            }
            Token::Word("not") => call(at, Function::Not, vec![self.expression(BINDING_OF_NOT)?]),
            Token::Word("null") => Ok(Expression::null()),
            Token::Word("true") => Ok(Expression::literal(Cell::Bool(true), Type::Bool)),
            Token::Word("false") => Ok(Expression::literal(Cell::Bool(false), Type::Bool)),
            Token::Word(name) => self.field(at, name),
            Token::Sign(_) => Err(ExpressionError { at, message: format!("unexpected {}", shown(&token)) }),
        }
    }

    fn call(&mut self, at: usize, name: &str) -> Result<Expression, ExpressionError> {
        let Some(function) = Function::named(name) else {
            let near = nearest(name, &Function::NAMES.map(|(name, _)| name));
            return Err(ExpressionError { at, message: format!("there is no function {name}{near}") });
        };
        self.expect("(")?;
        let mut arguments = Vec::new();
        if self.peek() != Some(&Token::Sign(")")) {
            arguments.push(self.expression(0)?);
            while self.peek() == Some(&Token::Sign(",")) {
                self.next += 1;
                arguments.push(self.expression(0)?);
            }
        }
        self.expect(")")?;
        call(at, function, arguments)
    }

    /// The field called `name`, in whichever case where only one can be meant (and names differ in more than case).
    fn field(&self, at: usize, name: &str) -> Result<Expression, ExpressionError> {
        let fields = self.schema.fields();
        let lower = name.to_lowercase();
        match fields.iter().position(|field| field.name().to_lowercase() == lower) {
            Some(number) => Ok(Expression::field(self.schema, number)),
            None => {
                let names: Vec<&str> = fields.iter().map(icecore_wire::Field::name).collect();
                let (schema, version) = (self.schema.name(), self.schema.version());
                let mut message = format!("{schema} version {version} has no field {name}");
                let _ = write!(message, "{}", nearest(name, &names));
                Err(ExpressionError { at, message })
            }
        }
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), ExpressionError> {
        match self.peek() {
            Some(Token::Sign(found)) if *found == sign => {
                self.next += 1;
                Ok(())
            }
            Some(token) => Err(self.error(format!("expected {sign}, not {}", shown(token)))),
            None => Err(self.error(format!("expected {sign}, but the expression ends"))),
        }
    }

    fn peek(&self) -> Option<&Token<'t>> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn place(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn error(&self, message: impl Into<String>) -> ExpressionError {
        ExpressionError { at: self.place(), message: message.into() }
    }
}

fn call(at: usize, function: Function, arguments: Vec<Expression>) -> Result<Expression, ExpressionError> {
    let (ty, nullable) = function.yields(&arguments).map_err(|message| ExpressionError { at, message })?;
    Ok(Expression { node: Node::Call(function, arguments), ty, nullable })
}

fn shown(token: &Token<'_>) -> String {
    match token {
        Token::Word(word) => (*word).to_owned(),
        Token::Quoted(name) => format!("\"{name}\""),
        Token::Text(text) => format!("'{text}'"),
        Token::Integer(number) => number.to_string(),
        Token::Float(number) => number.to_string(),
        Token::Sign(sign) => (*sign).to_owned(),
    }
}

//! Operators and functions: what they take, what they yield, and how.

use std::borrow::Cow;
use std::cmp::Ordering;

use icecore_wire::{ColumnType, Value};

use super::{Expression, Node, Type};
use crate::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Or,
    And,
    Not,
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Negate,
    If,
    Coalesce,
    IsNull,
    Abs,
    Min,
    Max,
    Round,
    Floor,
    Ceil,
    Sqrt,
    Sin,
    Cos,
    Atan2,
    Degrees,
    Radians,
    Concat,
    Split,
    Lower,
    Upper,
    Trim,
    Number,
    Text,
    Item,
}

impl Function {
    /// Those that are called by name.
    pub(super) const NAMES: [(&'static str, Self); 23] = [
        ("if", Self::If),
        ("coalesce", Self::Coalesce),
        ("is_null", Self::IsNull),
        ("abs", Self::Abs),
        ("min", Self::Min),
        ("max", Self::Max),
        ("round", Self::Round),
        ("floor", Self::Floor),
        ("ceil", Self::Ceil),
        ("sqrt", Self::Sqrt),
        ("sin", Self::Sin),
        ("cos", Self::Cos),
        ("atan2", Self::Atan2),
        ("degrees", Self::Degrees),
        ("radians", Self::Radians),
        ("concat", Self::Concat),
        ("split", Self::Split),
        ("lower", Self::Lower),
        ("upper", Self::Upper),
        ("trim", Self::Trim),
        ("number", Self::Number),
        ("text", Self::Text),
        ("item", Self::Item),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    /// The type that it yields for these arguments, and whether that may be null; or what is wrong with them.
    pub(super) fn yields(self, arguments: &[Expression]) -> Result<(Type, bool), String> {
        let types: Vec<Type> = arguments.iter().map(|argument| argument.ty).collect();
        let may_be_null = arguments.iter().any(|argument| argument.nullable);
        let number = |types: &[Type]| types.iter().all(|ty| ty.is_number());
        let text = |types: &[Type]| types.iter().all(|ty| matches!(ty, Type::Text | Type::Null));
        let truth = |types: &[Type]| types.iter().all(|ty| matches!(ty, Type::Bool | Type::Null));
        let common = |types: &[Type]| types.iter().try_fold(Type::Null, |ty, other| ty.or(*other));
        let found = match (self, types.as_slice()) {
            (Self::Or | Self::And, [_, _]) | (Self::Not, [_]) if truth(&types) => {
                Some((Type::Bool, may_be_null))
            }
            (
                Self::Equal | Self::Unequal | Self::Less | Self::AtMost | Self::More | Self::AtLeast,
                [_, _],
            ) => {
                common(&types).filter(|ty| !matches!(ty, Type::Opaque(_))).map(|_| (Type::Bool, may_be_null))
            }
            (Self::Add | Self::Subtract | Self::Multiply, [_, _]) | (Self::Negate | Self::Abs, [_]) => {
                common(&types).filter(|_| number(&types)).map(|ty| (ty, may_be_null))
            }
            (Self::Min | Self::Max, [_, _, ..]) if number(&types) => {
                common(&types).map(|ty| (ty, may_be_null))
            }
            (Self::Divide | Self::Atan2, [_, _]) if number(&types) => Some((Type::Float, may_be_null)),
            // Of integers by nothing there is none.
            (Self::Remainder, [_, _]) if number(&types) => {
                common(&types).map(|ty| (ty, may_be_null || ty == Type::Integer))
            }
            // What is no number, or beyond all, has no integer.
            (Self::Round | Self::Floor | Self::Ceil, [ty]) if number(&types) => {
                Some((Type::Integer, may_be_null || *ty == Type::Float))
            }
            (Self::Sqrt | Self::Sin | Self::Cos | Self::Degrees | Self::Radians, [_]) if number(&types) => {
                Some((Type::Float, may_be_null))
            }
            (Self::If, [condition, yes, no]) if truth(&[*condition]) => {
                yes.or(*no).map(|ty| (ty, arguments[1].nullable || arguments[2].nullable))
            }
            (Self::Coalesce, [_, _, ..]) => {
                common(&types).map(|ty| (ty, arguments.iter().all(|argument| argument.nullable)))
            }
            (Self::IsNull, [_]) => Some((Type::Bool, false)),
            (Self::Concat, [_, _, ..]) | (Self::Lower | Self::Upper | Self::Trim, [_]) if text(&types) => {
                Some((Type::Text, may_be_null))
            }
            (Self::Split, [_, _, Type::Integer]) if text(&types[..2]) => Some((Type::Text, true)),
            (Self::Number, [_]) if text(&types) => Some((Type::Float, true)),
            (Self::Text, [Type::Opaque(_)]) => None,
            (Self::Text, [_]) => Some((Type::Text, may_be_null)),
            (Self::Item, [Type::Opaque(list), Type::Integer]) => item(*list, &arguments[1], may_be_null),
            _ => None,
        };
        found.ok_or_else(|| {
            let types: Vec<String> = types.iter().map(Type::to_string).collect();
            format!(
                "{} not {}",
                self.takes(),
                if types.is_empty() { "nothing".into() } else { types.join(", ") }
            )
        })
    }

    /// What it takes, for messages.
    fn takes(self) -> &'static str {
        match self {
            Self::Or => "or takes two truth values,",
            Self::And => "and takes two truth values,",
            Self::Not => "not takes a truth value,",
            Self::Equal | Self::Unequal | Self::Less | Self::AtMost | Self::More | Self::AtLeast => {
                "a comparison takes two numbers, two texts or two truth values,"
            }
            Self::Add => "+ takes two numbers (texts are put together by concat),",
            Self::Subtract | Self::Negate => "- takes numbers,",
            Self::Multiply => "* takes two numbers,",
            Self::Divide => "/ takes two numbers,",
            Self::Remainder => "% takes two numbers,",
            Self::If => "if takes a truth value and two values of one type,",
            Self::Coalesce => "coalesce takes two or more values of one type,",
            Self::IsNull => "is_null takes one value,",
            Self::Abs => "abs takes a number,",
            Self::Min => "min takes two or more numbers,",
            Self::Max => "max takes two or more numbers,",
            Self::Round => "round takes a number,",
            Self::Floor => "floor takes a number,",
            Self::Ceil => "ceil takes a number,",
            Self::Sqrt => "sqrt takes a number,",
            Self::Sin => "sin takes a number, in radians,",
            Self::Cos => "cos takes a number, in radians,",
            Self::Atan2 => "atan2 takes two numbers, y and x,",
            Self::Degrees => "degrees takes a number, in radians,",
            Self::Radians => "radians takes a number, in degrees,",
            Self::Concat => "concat takes two or more texts,",
            Self::Split => "split takes a text, a separator and the number of a part (from 0),",
            Self::Lower => "lower takes a text,",
            Self::Upper => "upper takes a text,",
            Self::Trim => "trim takes a text,",
            Self::Number => "number takes a text,",
            Self::Text => "text takes a number, a truth value or a text,",
            Self::Item => "item takes a list and the number of an element (from 0),",
        }
    }

    /// Applies it to its arguments, which [`Function::yields`] has checked.
    pub(super) fn evaluate<'a>(self, arguments: &[Expression], row: &[Cell<'a>]) -> Cell<'a> {
        let argument = |n: usize| arguments[n].evaluate(row);
        match self {
            // These look at null themselves.
            Self::Or => either(&argument(0), &argument(1), true),
            Self::And => either(&argument(0), &argument(1), false),
            Self::If => argument(if argument(0) == Cell::Bool(true) { 1 } else { 2 }),
            Self::Coalesce => {
                let mut cells = arguments.iter().map(|argument| argument.evaluate(row));
                cells.find(|cell| *cell != Cell::Null).unwrap_or(Cell::Null)
            }
            Self::IsNull => Cell::Bool(argument(0) == Cell::Null),
            Self::Min | Self::Max | Self::Concat => {
                let cells = arguments[1..].iter().map(|argument| argument.evaluate(row));
                cells.fold(argument(0), |left, right| self.of_two(&left, &right))
            }
            Self::Split => split(&argument(0), &argument(1), &argument(2)),
            _ if arguments.len() == 1 => self.of_one(argument(0)),
            _ => self.of_two(&argument(0), &argument(1)),
        }
    }

    fn of_one<'a>(self, cell: Cell<'a>) -> Cell<'a> {
        match (self, cell) {
            (_, Cell::Null) => Cell::Null,
            (Self::Not, Cell::Bool(flag)) => Cell::Bool(!flag),
            (Self::Negate, Cell::Integer(number)) => Cell::Integer(number.saturating_neg()),
            (Self::Abs, Cell::Integer(number)) => Cell::Integer(number.saturating_abs()),
            (Self::Round | Self::Floor | Self::Ceil, Cell::Integer(number)) => Cell::Integer(number),
            (Self::Lower, Cell::Text(text)) => Cell::Text(text.to_lowercase().into()),
            (Self::Upper, Cell::Text(text)) => Cell::Text(text.to_uppercase().into()),
            (Self::Trim, Cell::Text(Cow::Borrowed(text))) => Cell::Text(text.trim().into()),
            (Self::Trim, Cell::Text(text)) => Cell::Text(text.trim().to_owned().into()),
            (Self::Number, Cell::Text(text)) => text.trim().parse().map_or(Cell::Null, Cell::Float),
            (Self::Text, Cell::Integer(number)) => Cell::Text(number.to_string().into()),
            (Self::Text, Cell::Float(number)) => Cell::Text(number.to_string().into()),
            (Self::Text, Cell::Bool(flag)) => Cell::Text(flag.to_string().into()),
            (Self::Text, cell) => cell,
            (Self::Round, Cell::Float(number)) => integer(number.round()),
            (Self::Floor, Cell::Float(number)) => integer(number.floor()),
            (Self::Ceil, Cell::Float(number)) => integer(number.ceil()),
            (_, cell) => float(&cell).map_or(Cell::Null, |number| {
                Cell::Float(match self {
                    Self::Negate => -number,
                    Self::Abs => number.abs(),
                    Self::Sqrt => number.sqrt(),
                    Self::Sin => number.sin(),
                    Self::Cos => number.cos(),
                    Self::Degrees => number.to_degrees(),
                    Self::Radians => number.to_radians(),
                    _ => unreachable!("{self:?} of one float was let through"),
                })
            }),
        }
    }

    fn of_two<'a>(self, left: &Cell<'_>, right: &Cell<'_>) -> Cell<'a> {
        if *left == Cell::Null || *right == Cell::Null {
            return Cell::Null;
        }
        match (self, left, right) {
            (Self::Equal | Self::Unequal | Self::Less | Self::AtMost | Self::More | Self::AtLeast, ..) => {
                Cell::Bool(self.holds(compared(left, right)))
            }
            (Self::Concat, Cell::Text(left), Cell::Text(right)) => {
                Cell::Text(format!("{left}{right}").into())
            }
            (Self::Item, Cell::Opaque(list), Cell::Integer(number)) => element(list, *number),
            (Self::Divide | Self::Atan2, ..) => self.of_floats(left, right),
            (_, Cell::Integer(left), Cell::Integer(right)) => match self {
                Self::Add => Cell::Integer(left.saturating_add(*right)),
                Self::Subtract => Cell::Integer(left.saturating_sub(*right)),
                Self::Multiply => Cell::Integer(left.saturating_mul(*right)),
                Self::Remainder => left.checked_rem(*right).map_or(Cell::Null, Cell::Integer),
                Self::Min => Cell::Integer(*left.min(right)),
                Self::Max => Cell::Integer(*left.max(right)),
                _ => unreachable!("{self:?} of two integers was let through"),
            },
            _ => self.of_floats(left, right),
        }
    }

    fn of_floats<'a>(self, left: &Cell<'_>, right: &Cell<'_>) -> Cell<'a> {
        let (Some(left), Some(right)) = (float(left), float(right)) else { return Cell::Null };
        Cell::Float(match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Remainder => left % right,
            Self::Min => left.min(right),
            Self::Max => left.max(right),
            Self::Atan2 => left.atan2(right),
            _ => unreachable!("{self:?} of two floats was let through"),
        })
    }

    /// Whether the comparison holds; of what has no order (NaN), only "unequal" does.
    fn holds(self, order: Option<Ordering>) -> bool {
        let Some(order) = order else { return self == Self::Unequal };
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::More => order.is_gt(),
            _ => order.is_ge(),
        }
    }
}

/// What [`Function::Item`] yields of a list of this type: null where the list has no such element.
fn item(list: ColumnType, number: &Expression, may_be_null: bool) -> Option<(Type, bool)> {
    let (ty, length) = match list {
        ColumnType::F32List(length) => (Type::Float, length),
        ColumnType::I16List(length) => (Type::Integer, length),
        _ => return None,
    };
    let is_there = matches!(&number.node, Node::Literal(Cell::Integer(n)) if (0..length.into()).contains(n));
    Some((ty, may_be_null || !is_there))
}

fn element<'a>(list: &Value<'_>, number: i128) -> Cell<'a> {
    let Ok(number) = usize::try_from(number) else { return Cell::Null };
    match list {
        Value::F32List(list) => list.get(number).map_or(Cell::Null, |element| Cell::Float((*element).into())),
        Value::I16List(list) => {
            list.get(number).map_or(Cell::Null, |element| Cell::Integer((*element).into()))
        }
        _ => Cell::Null,
    }
}

fn split<'a>(text: &Cell<'a>, separator: &Cell<'_>, part: &Cell<'_>) -> Cell<'a> {
    let (Cell::Text(text), Cell::Text(separator), Cell::Integer(part)) = (text, separator, part) else {
        return Cell::Null;
    };
    let Ok(part) = usize::try_from(*part) else { return Cell::Null };
    let found = match text {
        Cow::Borrowed(text) => text.split(&**separator).nth(part).map(Cow::Borrowed),
        Cow::Owned(text) => text.split(&**separator).nth(part).map(|part| Cow::Owned(part.to_owned())),
    };
    found.map_or(Cell::Null, Cell::Text)
}

/// Or (`decisive` is true) and and (false) of truth values that may be null.
fn either<'a>(left: &Cell<'_>, right: &Cell<'_>, decisive: bool) -> Cell<'a> {
    if *left == Cell::Bool(decisive) || *right == Cell::Bool(decisive) {
        return Cell::Bool(decisive);
    }
    if *left == Cell::Null || *right == Cell::Null { Cell::Null } else { Cell::Bool(!decisive) }
}

fn compared(left: &Cell<'_>, right: &Cell<'_>) -> Option<Ordering> {
    match (left, right) {
        (Cell::Integer(left), Cell::Integer(right)) => Some(left.cmp(right)),
        (Cell::Text(left), Cell::Text(right)) => Some(left.cmp(right)),
        (Cell::Bool(left), Cell::Bool(right)) => Some(left.cmp(right)),
        _ => float(left)?.partial_cmp(&float(right)?),
    }
}

fn float(cell: &Cell<'_>) -> Option<f64> {
    match cell {
        Cell::Integer(number) => Some(*number as f64),
        Cell::Float(number) => Some(*number),
        _ => None,
    }
}

/// The integer that a whole float is; null for what is none.
fn integer<'a>(number: f64) -> Cell<'a> {
    if number.is_finite() { Cell::Integer(number as i128) } else { Cell::Null }
}

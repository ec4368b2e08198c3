use icecore_wire::{ColumnType, Field, Schema, Value};
use proptest::prelude::*;

use super::{Expression, parse};
use crate::Cell;

fn schema() -> Schema {
    let field = Field::new;
    let fields = vec![
        field("a", ColumnType::I64),
        field("b", ColumnType::I64),
        field("x", ColumnType::F64),
        field("y", ColumnType::F64).nullable(),
        field("name", ColumnType::Text),
        field("on", ColumnType::Bool),
        field("wave", ColumnType::I16List(3)),
        field("Two words", ColumnType::U64),
    ];
    Schema::new("s", 1, fields).unwrap()
}

fn row() -> Vec<Cell<'static>> {
    let values = [
        Value::I64(7),
        Value::I64(-2),
        Value::F64(0.5),
        Value::Null,
        Value::Text("oslo/roof/3"),
        Value::Bool(true),
        Value::I16List(&[10, -20, 30]),
        Value::U64(u64::MAX),
    ];
    values.map(Cell::from).to_vec()
}

fn parsed(text: &str) -> Result<Expression, String> {
    parse(text, &schema()).map_err(|error| format!("{}: {}", error.at, error.message))
}

/// The value of an expression over the row, and whether it may be null.
fn value(text: &str) -> (Cell<'static>, bool) {
    let expression = parsed(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    (expression.evaluate(&row()), expression.nullable)
}

fn text(text: &'static str) -> Cell<'static> {
    Cell::Text(text.into())
}

#[test]
fn expressions_have_their_values() {
    use Cell::{Bool, Float, Integer, Null};
    let cases = [
        ("a", Integer(7), false),
        ("A + b * 3", Integer(1), false),
        ("(a + b) * 3", Integer(15), false),
        ("a - b - 1", Integer(8), false),
        ("-a", Integer(-7), false),
        ("-x * 2", Float(-1.0), false),
        ("a / 2", Float(3.5), false),
        ("a % 4", Integer(3), true),
        ("a % 0", Null, true),
        ("7.5 % 2", Float(1.5), false),
        ("(a - 32) / 1.8", Float(-25.0 / 1.8), false),
        ("1e3 + 2.5E-1", Float(1000.25), false),
        ("\"Two words\" + 1", Integer(u64::MAX as i128 + 1), false),
        ("a > b and not a = 7 or on", Bool(true), false),
        ("a <= 7 and b <> 0", Bool(true), false),
        ("y > 1", Null, true),
        ("y > 1 and a = 0", Bool(false), true),
        ("y > 1 or a = 7", Bool(true), true),
        ("name = 'oslo/roof/3'", Bool(true), false),
        ("'it''s' < 'z'", Bool(true), false),
        ("if(a > 5, 'high', 'low')", text("high"), false),
        ("if(y > 5, 1, 2.5)", Float(2.5), false),
        ("coalesce(y, x)", Float(0.5), false),
        ("coalesce(y, null)", Null, true),
        ("is_null(y)", Bool(true), false),
        ("abs(b)", Integer(2), false),
        ("min(a, b, 3)", Integer(-2), false),
        ("max(a, x)", Float(7.0), false),
        ("round(2.5)", Integer(3), true),
        ("round(0.0 / 0)", Null, true),
        ("floor(-x)", Integer(-1), true),
        ("ceil(a)", Integer(7), false),
        ("sqrt(x * x)", Float(0.5), false),
        ("round(degrees(atan2(1, 0)))", Integer(90), true),
        ("cos(radians(0))", Float(1.0), false),
        ("concat(name, '-', text(a))", text("oslo/roof/3-7"), false),
        ("split(name, '/', 1)", text("roof"), true),
        ("split(upper(name), '/', 0)", text("OSLO"), true),
        ("split(name, '/', 9)", Null, true),
        ("number(split(name, '/', 2)) + 1", Float(4.0), true),
        ("number('n/a')", Null, true),
        ("trim(lower(' Ab '))", text("ab"), false),
        ("text(x)", text("0.5"), false),
        ("text(on)", text("true"), false),
        ("item(wave, 1)", Integer(-20), false),
        ("item(wave, 3)", Null, true),
        ("item(wave, b)", Null, true),
        ("null", Null, true),
    ];
    for (expression, expected, nullable) in cases {
        let found = value(expression);
        // Part of the cases check order of evaluation by equal floats; none of them is NaN.
        assert_eq!(found, (expected, nullable), "{expression}");
    }
}

#[test]
fn mistakes_have_their_place() {
    let cases = [
        ("", "0: the expression ends early"),
        ("a +", "3: the expression ends early"),
        ("(a", "2: expected ), but the expression ends"),
        ("a b", "2: unexpected b"),
        ("a ? b", "2: unexpected '?'"),
        ("'x", "0: the closing ' is missing"),
        ("1.2.3", "0: 1.2.3 is no number"),
        ("nam", "0: s version 1 has no field nam; did you mean name?"),
        ("1 + rund(x)", "4: there is no function rund; did you mean round?"),
        ("a + name", "2: + takes two numbers (texts are put together by concat), not an integer, a text"),
        ("round()", "0: round takes a number, not nothing"),
        (
            "wave = wave",
            "5: a comparison takes two numbers, two texts or two truth values, not i16[3], i16[3]",
        ),
        (
            "if(a, 1, 2)",
            "0: if takes a truth value and two values of one type, not an integer, an integer, an integer",
        ),
        (
            "split(name, '/')",
            "0: split takes a text, a separator and the number of a part (from 0), not a text, a text",
        ),
    ];
    for (expression, message) in cases {
        assert_eq!(parsed(expression).unwrap_err(), message, "{expression}");
    }
    let deep = "(".repeat(100_000);
    assert!(parsed(&deep[..4000]).unwrap_err().contains("more than 64 levels deep"));
    assert!(parsed(&deep).unwrap_err().contains("may have 4096 bytes"));
}

proptest! {
    #[test]
    fn no_text_is_too_much(text in "[a-z0-9 ()+*/%<>=!,.'\"é-]{0,40}") {
        if let Ok(expression) = parsed(&text) {
            let cell = expression.evaluate(&row());
            prop_assert!(cell != Cell::Null || expression.nullable, "{text} is null and was not to be");
        }
    }

    #[test]
    fn whole_expressions_evaluate(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "a", "b", "x", "y", "on", "wave", "name", "1", "2.5", "'t'", "null", "(", ")", "+", "-", "*", "/", "%", "<", "=", "and",
                "not", "or", ",", "if(", "min(", "round(", "coalesce(", "item(", "text(",
            ]),
            1..12,
        )
    ) {
        let text = words.join(" ");
        if let Ok(expression) = parsed(&text) {
            let cell = expression.evaluate(&row());
            prop_assert!(cell != Cell::Null || expression.nullable, "{text} is null and was not to be");
        }
    }
}

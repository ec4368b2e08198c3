//! Grouping by numbers where texts are numbered already.
//!
//! Devices come as dictionaries: a number a row, and a few names. The engine groups by such a column by writing out the name of every row. So
//! it is told to group by the number instead, the same for the same name in all of a statement, and the names are put back where the
//! groups come out.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt32Type};
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray, UInt32Array};
use arrow_schema::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Groups by numbers where texts are numbered already.
#[derive(Debug)]
pub(crate) struct GroupByCodes;

impl OptimizerRule for GroupByCodes {
    fn name(&self) -> &'static str {
        "group_by_codes"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Aggregate(aggregate) if has_numbered_texts(&aggregate) => {
                Ok(Transformed::yes(by_codes(&aggregate)?))
            }
            plan => Ok(Transformed::no(plan)),
        }
    }
}

/// A text that is numbered.
fn numbered() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn is_numbered(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|ty| ty == numbered())
}

fn has_numbered_texts(aggregate: &Aggregate) -> bool {
    let group = &aggregate.group_expr;
    let is_plain = !group.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)));
    is_plain && group.iter().any(|expr| is_numbered(expr, aggregate.input.schema()))
}

/// The same groups, by numbers, and with the names put back.
fn by_codes(aggregate: &Aggregate) -> Result<LogicalPlan> {
    let input = aggregate.input.schema();
    let (mut group, mut put_back) = (Vec::new(), Vec::new());
    for (at, expr) in aggregate.group_expr.iter().enumerate() {
        if !is_numbered(expr, input) {
            group.push(expr.clone());
            put_back.push(None);
            continue;
        }
        let codes = Arc::new(Codes::default());
        let code = ScalarUDF::from(CodeOf::new(Arc::clone(&codes))).call(vec![expr.clone()]);
        group.push(code.alias(format!("code of group {at}")));
        put_back.push(Some(ScalarUDF::from(TextOf::new(codes))));
    }
    let grouped = LogicalPlanBuilder::from((*aggregate.input).clone())
        .aggregate(group, aggregate.aggr_expr.clone())?
        .build()?;
    let made: Vec<Expr> = grouped.schema().columns().into_iter().map(Expr::Column).collect();
    let columns = aggregate.schema.iter().zip(made).enumerate();
    let columns =
        columns.map(|(at, ((table, field), made))| match put_back.get(at).and_then(Option::as_ref) {
            Some(text) => text.call(vec![made]).alias_qualified(table.cloned(), field.name()),
            None if made == Expr::Column(Column::new(table.cloned(), field.name())) => made,
            None => made.alias_qualified(table.cloned(), field.name()),
        });
    LogicalPlanBuilder::from(grouped).project(columns.collect::<Vec<_>>())?.build()
}

/// The numbers of texts, given in the order in which these come.
#[derive(Debug, Default)]
struct Codes(Mutex<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    codes: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Codes {
    fn numbered(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encode(&self, texts: &DictionaryArray<Int32Type>) -> UInt32Array {
        let codes: Vec<u32> = {
            let numbered = &mut *self.numbered();
            texts.values().as_string::<i32>().iter().map(|text| numbered.code(text.unwrap_or(""))).collect()
        };
        // Behind a null there may be any key.
        let code =
            |key: &i32| usize::try_from(*key).ok().and_then(|key| codes.get(key)).copied().unwrap_or(0);
        let values: Vec<u32> = texts.keys().values().iter().map(code).collect();
        UInt32Array::new(values.into(), texts.logical_nulls())
    }

    fn decode(&self, codes: &UInt32Array) -> Result<DictionaryArray<Int32Type>> {
        let texts = StringArray::from_iter_values(self.numbered().texts.iter());
        let keys = codes.iter().map(|code| code.map(u32::cast_signed)).collect::<Int32Array>();
        Ok(DictionaryArray::try_new(keys, Arc::new(texts))?)
    }
}

impl Numbered {
    fn code(&mut self, text: &str) -> u32 {
        if let Some(code) = self.codes.get(text) {
            return *code;
        }
        let (text, code) = (Arc::<str>::from(text), self.texts.len() as u32);
        self.texts.push(Arc::clone(&text));
        self.codes.insert(text, code);
        code
    }
}

/// A function with codes of its own: it is equal to itself only.
macro_rules! function_with_codes {
    ($name:ident, $called:literal, $takes:expr, $gives:expr, $call:expr) => {
        #[derive(Debug)]
        struct $name {
            codes: Arc<Codes>,
            signature: Signature,
        }

        impl $name {
            fn new(codes: Arc<Codes>) -> Self {
                Self { codes, signature: Signature::exact(vec![$takes], Volatility::Immutable) }
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.codes, &other.codes)
            }
        }

        impl Eq for $name {}

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                Arc::as_ptr(&self.codes).hash(state);
            }
        }

        impl ScalarUDFImpl for $name {
            fn name(&self) -> &str {
                $called
            }

            fn signature(&self) -> &Signature {
                &self.signature
            }

            fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
                Ok($gives)
            }

            fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
                let arrays = ColumnarValue::values_to_arrays(&args.args)?;
                let [array] = &arrays[..] else {
                    return Err(DataFusionError::Internal(format!("{} takes one argument", $called)));
                };
                let call: fn(&Codes, &ArrayRef) -> Result<ArrayRef> = $call;
                Ok(ColumnarValue::Array(call(&self.codes, array)?))
            }
        }
    };
}

function_with_codes!(CodeOf, "code_of", numbered(), DataType::UInt32, |codes, texts| {
    Ok(Arc::new(codes.encode(texts.as_dictionary::<Int32Type>())))
});
function_with_codes!(TextOf, "text_of", DataType::UInt32, numbered(), |codes, numbers| {
    Ok(Arc::new(codes.decode(numbers.as_primitive::<UInt32Type>())?))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back() {
        let codes = Codes::default();
        let first: DictionaryArray<Int32Type> = [Some("b"), None, Some("a"), Some("b")].into_iter().collect();
        let second: DictionaryArray<Int32Type> = [Some("a"), Some(""), Some("b")].into_iter().collect();
        let (first, second) = (codes.encode(&first), codes.encode(&second.slice(0, 3)));
        assert_eq!(first.iter().collect::<Vec<_>>(), [Some(0), None, Some(1), Some(0)]);
        assert_eq!(second.values()[..], [1, 2, 0]);
        let back = codes.decode(&first).unwrap();
        let back: Vec<_> = back.downcast_dict::<StringArray>().unwrap().into_iter().collect();
        assert_eq!(back, [Some("b"), None, Some("a"), Some("b")]);
    }
}

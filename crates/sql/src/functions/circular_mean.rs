//! `circular_mean`: a mean direction, to which 359° and 1° are neighbours.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

/// Below this length of the mean vector there is no mean: what is left of opposite directions is rounding.
const NO_DIRECTION: f64 = 1e-9;

/// The mean of directions in degrees, from 0 to less than 360; NULL where there are none, or where they cancel out.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CircularMean {
    signature: Signature,
}

impl Default for CircularMean {
    fn default() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for CircularMean {
    fn name(&self) -> &'static str {
        "circular_mean"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name, ty| Arc::new(Field::new(format_state_name(args.name, name), ty, false));
        let double = DataType::Float64;
        Ok(vec![field("count", DataType::UInt64), field("sine", double.clone()), field("cosine", double)])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::<Directions>::default())
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::<Groups>::default())
    }
}

/// The sum of the unit vectors of directions.
#[derive(Debug, Clone, Copy, Default)]
struct Directions {
    count: u64,
    sine: f64,
    cosine: f64,
}

impl Directions {
    /// Takes in a direction. What is not finite points nowhere.
    fn take(&mut self, degrees: f64) {
        if degrees.is_finite() {
            // The same sums as those of a device's state: the remainder is exact, and `libm` is the same everywhere.
            let (sine, cosine) = libm::sincos((degrees % 360.0).to_radians());
            *self = self.and(Self { count: 1, sine, cosine });
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sine: self.sine + other.sine,
            cosine: self.cosine + other.cosine,
        }
    }

    fn mean(self) -> Option<f64> {
        if libm::hypot(self.sine, self.cosine) <= NO_DIRECTION * self.count as f64 {
            return None;
        }
        let degrees = libm::atan2(self.sine, self.cosine).to_degrees().rem_euclid(360.0);
        // A hair below north is north.
        Some(if degrees < 360.0 { degrees } else { 0.0 })
    }

    /// What stands in the columns of states.
    fn read(states: &[ArrayRef]) -> impl Iterator<Item = Self> {
        let counts = states[0].as_primitive::<UInt64Type>().values();
        let [sines, cosines] =
            [&states[1], &states[2]].map(|state| state.as_primitive::<Float64Type>().values());
        let sums = sines.iter().zip(cosines);
        counts.iter().zip(sums).map(|(&count, (&sine, &cosine))| Self { count, sine, cosine })
    }

    fn write(all: &[Self]) -> Vec<ArrayRef> {
        let doubles = |part: fn(&Self) -> f64| {
            Arc::new(Float64Array::from_iter_values(all.iter().map(part))) as ArrayRef
        };
        let counts = UInt64Array::from_iter_values(all.iter().map(|directions| directions.count));
        vec![Arc::new(counts), doubles(|directions| directions.sine), doubles(|directions| directions.cosine)]
    }
}

impl Accumulator for Directions {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|degrees| self.take(degrees));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        *self = Self::read(states).fold(*self, Self::and);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.mean()))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.count.into(), self.sine.into(), self.cosine.into()])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The directions of many groups.
#[derive(Default)]
struct Groups(Vec<Directions>);

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.0.resize(total, Directions::default());
        let degrees = values[0].as_primitive::<Float64Type>();
        for (row, &group) in groups.iter().enumerate() {
            if degrees.is_valid(row) && passes(filter, row) {
                self.0[group].take(degrees.value(row));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.0.resize(total, Directions::default());
        for (&group, directions) in groups.iter().zip(Directions::read(states)) {
            self.0[group] = self.0[group].and(directions);
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let means = emit_to.take_needed(&mut self.0).into_iter().map(Directions::mean);
        Ok(Arc::new(means.collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(Directions::write(&emit_to.take_needed(&mut self.0)))
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = vec![Directions::default(); values[0].len()];
        for (row, degrees) in values[0].as_primitive::<Float64Type>().iter().enumerate() {
            if let Some(degrees) = degrees
                && passes(filter, row)
            {
                each[row].take(degrees);
            }
        }
        Ok(Directions::write(&each))
    }

    fn size(&self) -> usize {
        self.0.capacity() * size_of::<Directions>()
    }
}

/// Whether a row counts: where the condition is NULL, it does not.
fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rows, session, table};

    #[tokio::test]
    async fn north_is_between_350_and_10_degrees() {
        let context = session();
        table(
            &context,
            "wind",
            &[
                ("a", "00:00:00", Some(350.0)),
                ("b", "00:00:00", Some(0.0)),
                ("c", "00:00:00", None),
                ("a", "01:00:00", Some(10.0)),
                ("b", "01:00:00", Some(180.0)),
                ("d", "00:00:00", Some(-90.0)),
                ("a", "02:00:00", None),
                ("d", "01:00:00", Some(f64::NAN)),
            ],
        );
        let mean = "round(circular_mean(value), 6)";
        let by_device = format!("SELECT device, {mean} FROM wind GROUP BY device ORDER BY device");
        assert_eq!(rows(&context, &by_device).await.unwrap(), ["a 0.0", "b -", "c -", "d 270.0"]);
        let filtered = format!(
            "SELECT {mean}, round(circular_mean(value) FILTER (WHERE value > 5 AND value < 20), 6) FROM wind WHERE device <> 'b'"
        );
        assert_eq!(rows(&context, &filtered).await.unwrap(), ["333.082489 10.0"]);
        let filtered = "SELECT device, round(circular_mean(value) FILTER (WHERE value > 5 AND value < 20), 6) FROM wind GROUP BY device ORDER BY 1";
        assert_eq!(rows(&context, filtered).await.unwrap(), ["a 10.0", "b -", "c -", "d -"]);
        assert_eq!(rows(&context, "SELECT circular_mean(value) FROM wind WHERE false").await.unwrap(), ["-"]);
        assert_eq!(
            rows(
                &context,
                "SELECT circular_mean(CAST(value AS INT)) FROM wind WHERE device = 'd' AND value < 0"
            )
            .await
            .unwrap(),
            ["270.0"]
        );
    }
}

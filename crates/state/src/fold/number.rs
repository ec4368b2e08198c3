//! The number types of columns, as far as statistics need them.

/// A number of a column. Differences are taken before anything is rounded to a double.
pub(crate) trait Number: Copy {
    /// Its bits, as an accumulator keeps them.
    fn to_bits(self) -> u64;
    /// The number with these bits.
    fn from_bits(bits: u64) -> Self;
    /// It less `other`.
    fn minus(self, other: Self) -> f64;
    /// It as a double.
    fn value(self) -> f64;
    /// The smaller one.
    fn lesser(self, other: Self) -> Self;
    /// The larger one.
    fn greater(self, other: Self) -> Self;
    /// It with one of the bit patterns that compare as equal: which of two zeros came first does not show.
    fn canonical(self) -> Self {
        self
    }
    /// Whether statistics can take it in: it is neither infinite nor NaN.
    fn is_finite(self) -> bool {
        true
    }
}

macro_rules! float {
    ($type:ty, $bits:ty) => {
        impl Number for $type {
            fn to_bits(self) -> u64 {
                <$type>::to_bits(self).into()
            }

            fn from_bits(bits: u64) -> Self {
                <$type>::from_bits(bits as $bits)
            }

            fn minus(self, other: Self) -> f64 {
                f64::from(self) - f64::from(other)
            }

            fn value(self) -> f64 {
                self.into()
            }

            fn lesser(self, other: Self) -> Self {
                if other < self { other } else { self }
            }

            fn greater(self, other: Self) -> Self {
                if other > self { other } else { self }
            }

            fn canonical(self) -> Self {
                self + 0.0
            }

            fn is_finite(self) -> bool {
                <$type>::is_finite(self)
            }
        }
    };
}

float!(f64, u64);
float!(f32, u32);

macro_rules! integer {
    ($type:ty) => {
        impl Number for $type {
            fn to_bits(self) -> u64 {
                self as u64
            }

            fn from_bits(bits: u64) -> Self {
                bits as $type
            }

            fn minus(self, other: Self) -> f64 {
                let difference = self.abs_diff(other) as f64;
                if self < other { -difference } else { difference }
            }

            fn value(self) -> f64 {
                self as f64
            }

            fn lesser(self, other: Self) -> Self {
                self.min(other)
            }

            fn greater(self, other: Self) -> Self {
                self.max(other)
            }
        }
    };
}

integer!(i64);
integer!(u64);

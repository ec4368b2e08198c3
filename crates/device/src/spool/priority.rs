//! What a full spool may let go of before other things.

use std::ops::{Index, IndexMut};

/// How important a recorder's events are beside those of the device's others, from the least to the most.
///
/// It matters only to a spool that is full under [`WhenFull::DropLeastImportant`](crate::WhenFull::DropLeastImportant);
/// nothing is sent earlier because of it. Few levels, because a spool on disk keeps each in files of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum Priority {
    /// Goes first.
    Lowest = -2,
    /// Goes before what is normal.
    Low = -1,
    /// Of a recorder that was told nothing else.
    #[default]
    Normal = 0,
    /// Stays longer than what is normal.
    High = 1,
    /// Goes last.
    Highest = 2,
}

impl Priority {
    pub(crate) const ALL: [Self; 5] = [Self::Lowest, Self::Low, Self::Normal, Self::High, Self::Highest];

    /// As a byte in files; 0, which older files have there, is [`Priority::Normal`].
    pub(crate) fn byte(self) -> u8 {
        (self as i8).cast_unsigned()
    }

    /// The reverse of [`Priority::byte`]; the nearest there is for bytes that are none.
    pub(crate) fn of(byte: u8) -> Self {
        match byte.cast_signed() {
            ..=-2 => Self::Lowest,
            -1 => Self::Low,
            0 => Self::Normal,
            1 => Self::High,
            2.. => Self::Highest,
        }
    }
}

/// One of something for each priority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ByPriority<T>([T; Priority::ALL.len()]);

impl<T> ByPriority<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T> Index<Priority> for ByPriority<T> {
    type Output = T;

    fn index(&self, priority: Priority) -> &T {
        &self.0[index(priority)]
    }
}

impl<T> IndexMut<Priority> for ByPriority<T> {
    fn index_mut(&mut self, priority: Priority) -> &mut T {
        &mut self.0[index(priority)]
    }
}

fn index(priority: Priority) -> usize {
    usize::from((priority as i8 - Priority::Lowest as i8).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back_and_unknown_ones_are_the_nearest() {
        assert!(Priority::ALL.is_sorted());
        assert!(Priority::ALL.iter().all(|priority| Priority::of(priority.byte()) == *priority));
        assert_eq!(Priority::of(0), Priority::default());
        assert_eq!([0x80, 0xf0, 3, 0x7f].map(Priority::of), {
            use Priority::{Highest, Lowest};
            [Lowest, Lowest, Highest, Highest]
        });
        let mut of: ByPriority<u32> = ByPriority::default();
        Priority::ALL.into_iter().zip(1..).for_each(|(priority, n)| of[priority] = n);
        assert_eq!(of.iter().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
}

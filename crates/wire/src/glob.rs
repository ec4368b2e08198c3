//! Glob patterns over names of devices and schemas.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A pattern over names: `*` stands for any run of characters, `/` included, and `?` for exactly one
/// character. Everything else stands for itself, so every string is a pattern and there is no escaping.
///
/// `*` crosses `/` because device names are flat: a `/` in one is part of the name, not a directory.
///
/// ```
/// use icecore_wire::Glob;
///
/// let pumps = Glob::new("plant-7/*/pump-?");
/// assert!(pumps.matches("plant-7/hall/2/pump-a"));
/// assert!(!pumps.matches("plant-7/hall/2/pump-10"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glob(Box<str>);

impl Glob {
    /// The pattern with this text.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// The pattern that every name matches.
    pub fn any() -> Self {
        Self::new("*")
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every name matches, as can be said without looking at one.
    pub fn is_any(&self) -> bool {
        &*self.0 == "*"
    }

    /// Whether `name` as a whole matches. Takes at most `pattern × name` steps.
    pub fn matches(&self, name: &str) -> bool {
        self.takes(name, |_| true)
    }

    /// Whether every name that `other` matches is matched by this one too, as far as their texts show it: `true` is
    /// certain, `false` is not where several `*` and `?` stand side by side.
    ///
    /// ```
    /// use icecore_wire::Glob;
    ///
    /// assert!(Glob::new("pump*").covers(&Glob::new("pump-?/*")));
    /// assert!(!Glob::new("pump-?").covers(&Glob::new("pump-*")));
    /// ```
    pub fn covers(&self, other: &Self) -> bool {
        // A `*` in the other's text stands for any run of characters, so only a `*` of this one can take it.
        self.takes(&other.0, |found| found != '*')
    }

    /// Whether this pattern takes all of `name`, where `?` takes the characters for which `one` holds.
    fn takes(&self, name: &str, one: impl Fn(char) -> bool) -> bool {
        let (mut pattern, mut rest) = (&*self.0, name);
        // Where to go on after a mismatch: behind the last `*`, which then takes one character more.
        // An earlier `*` never needs another try, since the last one can take whatever it could.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let mut pattern_chars = pattern.chars();
            let mut rest_chars = rest.chars();
            match (pattern_chars.next(), rest_chars.next()) {
                (Some('*'), _) => {
                    pattern = pattern_chars.as_str();
                    retry = Some((pattern, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(wanted), Some(found)) if wanted == found || (wanted == '?' && one(found)) => {
                    (pattern, rest) = (pattern_chars.as_str(), rest_chars.as_str());
                    continue;
                }
                _ => {}
            }
            let Some((after_star, taken_from)) = retry else { return false };
            let mut shorter = taken_from.chars();
            if shorter.next().is_none() {
                return false;
            }
            (pattern, rest) = (after_star, shorter.as_str());
            retry = Some((after_star, rest));
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Glob {
    type Err = Infallible;

    fn from_str(pattern: &str) -> Result<Self, Infallible> {
        Ok(Self::new(pattern))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_cross_slashes_and_may_be_empty() {
        assert!(Glob::any().matches(""));
        assert!(Glob::new("a*b*c").matches("a/x/b/y/c"));
        assert!(Glob::new("a*b*c").matches("abc"));
        assert!(Glob::new("**").matches("lab/1"));
        assert!(!Glob::new("a*b*c").matches("a/x/c/y/b"));
        assert!(!Glob::new("").matches("a"));
    }

    #[test]
    fn a_question_mark_is_one_character_not_one_byte() {
        assert!(Glob::new("ø?").matches("ø🦀"));
        assert!(!Glob::new("ø?").matches("ø"));
        assert!(!Glob::new("ø?").matches("ø12"));
    }

    /// The definition, in exponential time.
    fn matches_by_definition(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', after)), None) => matches_by_definition(after, name),
            (Some(('*', after)), Some((_, rest))) => {
                matches_by_definition(after, name) || matches_by_definition(pattern, rest)
            }
            (Some((wanted, after)), Some((found, rest))) => {
                (*wanted == '?' || wanted == found) && matches_by_definition(after, rest)
            }
            _ => false,
        }
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let covers = |wide: &str, narrow: &str| Glob::new(wide).covers(&Glob::new(narrow));
        assert!(
            covers("*", "lab-*") && covers("lab-*", "lab-*") && covers("a*c", "a?*c") && covers("?", "?")
        );
        assert!(
            !covers("lab-*", "*") && !covers("?*", "*") && !covers("lab", "la?") && !covers("a?c", "a*c")
        );
    }

    proptest! {
        #[test]
        fn what_covers_a_pattern_matches_its_names(
            wide in "[ab?*]{0,6}", narrow in "[ab?*]{0,6}", name in "[ab]{0,8}",
        ) {
            let (wide, narrow) = (Glob::new(&wide), Glob::new(&narrow));
            if wide.covers(&narrow) && narrow.matches(&name) {
                prop_assert!(wide.matches(&name), "{wide} covers {narrow} but takes no {name}");
            }
        }

        #[test]
        fn agrees_with_the_definition(pattern in "[ab?*]{0,8}", name in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                Glob::new(&pattern).matches(&name),
                matches_by_definition(&chars(&pattern), &chars(&name))
            );
        }
    }
}

//! Matching of device names against the globs of a grant.

/// Whether `name` matches `glob`: `*` stands for any run of characters, `/` included, and `?` for one character.
///
/// Linear in time and without allocation: on a mismatch only the last `*` is tried again, one character longer.
pub(super) fn glob_matches(glob: &str, name: &str) -> bool {
    let (mut glob, mut name) = (glob.chars(), name.chars());
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let before = name.clone();
        match (glob.next(), name.next()) {
            (Some('*'), _) => {
                retry = Some((glob.clone(), before.clone()));
                name = before;
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            (None, None) => return true,
            _ => {
                let Some((after_star, mut rest)) = retry.take() else { return false };
                if rest.next().is_none() {
                    return false;
                }
                retry = Some((after_star.clone(), rest.clone()));
                (glob, name) = (after_star, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn stars_cross_slashes_and_question_marks_take_one_character() {
        for (glob, name, expected) in [
            ("*", "", true),
            ("*", "a/b", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "a-b-b-c", true),
            ("?", "ø", true),
            ("?", "", false),
            ("pump-*", "pump-", true),
            ("*/1", "hall/2/1", true),
            ("*/1", "hall/12", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob_matches(glob, name), expected, "{glob:?} against {name:?}");
        }
    }
}

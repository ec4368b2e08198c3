//! The catalog from outside: lives of segments, what it refuses, its journal, crashes, rebuilding.

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod life;
#[cfg(test)]
mod many;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod support;

//! What the simulator is for.

#[cfg(test)]
mod bit_flips;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod seeds;

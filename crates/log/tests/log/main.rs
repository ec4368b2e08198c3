//! The log from outside: what is written, lost, damaged and read back.

#[cfg(test)]
mod active;
#[cfg(test)]
mod beside;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod follow;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod interrupted_seals;
#[cfg(test)]
mod lost;
#[cfg(test)]
mod points;
#[cfg(test)]
mod sealing;
#[cfg(test)]
mod support;
#[cfg(test)]
mod write_and_read;

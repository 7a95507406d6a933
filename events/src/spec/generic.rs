//! Generic resources: text form, claiming and releasing. A node offers a number (`fpga=2`) or a set of names (`gpu=a,gpu=b`); a
//! task requests a number and gets either the number or names.

use std::collections::BTreeMap;
use std::fmt;

use crate::schema::GenericResource;

/// Why a text is not a list of generic resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenericError {
    text: String,
    why: &'static str,
}

impl fmt::Display for GenericError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generic resource \"{}\" {}", self.text, self.why)
    }
}

impl std::error::Error for GenericError {}

/// Parses `fpga=2,gpu=UUID1,gpu=UUID2`: a number is an amount, anything else a name of a set.
///
/// # Errors
/// When an item is not `kind=value`, or a kind has both a number and names, or a name is repeated.
pub fn parse(text: &str) -> Result<Vec<GenericResource>, GenericError> {
    let mut kinds: BTreeMap<&str, GenericResource> = BTreeMap::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let error = |why| GenericError { text: item.to_owned(), why };
        let (kind, value) = item.split_once('=').ok_or_else(|| error("is not of the form kind=value"))?;
        let (kind, value) = (kind.trim(), value.trim());
        if kind.is_empty() || value.is_empty() {
            return Err(error("has an empty kind or value"));
        }
        let known = kinds.contains_key(kind);
        let resource =
            kinds.entry(kind).or_insert_with(|| GenericResource { kind: kind.to_owned(), ..Default::default() });
        match value.parse::<u64>() {
            Ok(0) => return Err(error("offers nothing")),
            Ok(_) if known => return Err(error("is given twice")),
            Ok(amount) => resource.amount = amount,
            Err(_) if value.parse::<i128>().is_ok() => return Err(error("has a number that is no amount")),
            Err(_) if resource.amount > 0 || resource.names.iter().any(|name| name == value) => {
                return Err(error("is given twice"));
            }
            Err(_) => resource.names.push(value.to_owned()),
        }
    }
    Ok(kinds.into_values().collect())
}

/// How much of a kind is in a list: the number, or the number of names.
pub fn available(list: &[GenericResource], kind: &str) -> u64 {
    list.iter().filter(|resource| resource.kind == kind).map(amount).sum()
}

/// The amount of one entry.
pub fn amount(resource: &GenericResource) -> u64 {
    if resource.names.is_empty() { resource.amount } else { resource.names.len() as u64 }
}

/// Takes `wanted` from `free`, first names first; `None`, with `free` unchanged, if there is not enough.
pub fn claim(free: &mut Vec<GenericResource>, wanted: &[GenericResource]) -> Option<Vec<GenericResource>> {
    if wanted.iter().any(|need| available(free, &need.kind) < amount(need)) {
        return None;
    }
    let mut taken = Vec::new();
    for need in wanted {
        let count = amount(need);
        let Some(source) = free.iter_mut().find(|resource| resource.kind == need.kind && amount(resource) >= count)
        else {
            continue;
        };
        let mut claim = GenericResource { kind: need.kind.clone(), ..Default::default() };
        if source.names.is_empty() {
            source.amount -= count;
            claim.amount = count;
        } else {
            claim.names = source.names.drain(..usize::try_from(count).unwrap_or(usize::MAX)).collect();
        }
        taken.push(claim);
    }
    free.retain(|resource| amount(resource) > 0);
    Some(taken)
}

/// What is left of `offered` after all `claims`; claims of resources that are no longer offered have no effect.
pub fn remaining<'a>(
    offered: &[GenericResource],
    claims: impl IntoIterator<Item = &'a GenericResource>,
) -> Vec<GenericResource> {
    let mut free = offered.to_vec();
    for claim in claims {
        for resource in free.iter_mut().filter(|resource| resource.kind == claim.kind) {
            resource.amount = resource.amount.saturating_sub(claim.amount);
            resource.names.retain(|name| !claim.names.contains(name));
        }
    }
    free.retain(|resource| amount(resource) > 0);
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_distinguished() {
        let list = parse("gpu=b, fpga=2,gpu=a").expect("a valid list");
        assert_eq!(available(&list, "fpga"), 2);
        assert_eq!(available(&list, "gpu"), 2);
        assert_eq!(list[1].names, ["b", "a"]);
    }

    #[test]
    fn malformed_lists_are_refused() {
        for text in [
            "gpu",
            "gpu=",
            "=1",
            "gpu=0",
            "gpu=-1",
            "gpu=18446744073709551616",
            "gpu=1,gpu=2",
            "gpu=a,gpu=a",
            "gpu=1,gpu=a",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_claim_takes_first_names_or_nothing() {
        let mut free = parse("gpu=a,gpu=b,fpga=1").expect("a valid list");
        assert_eq!(claim(&mut free, &parse("gpu=3").expect("valid")), None);
        assert_eq!(available(&free, "gpu"), 2);
        let taken = claim(&mut free, &parse("gpu=1,fpga=1").expect("valid")).expect("enough");
        assert_eq!(taken[1].names, ["a"]);
        assert_eq!(available(&free, "gpu"), 1);
        assert_eq!(available(&free, "fpga"), 0);
        assert_eq!(remaining(&parse("gpu=a,gpu=b,fpga=1").expect("valid"), &taken), free);
    }
}

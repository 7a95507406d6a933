//! Requests for generic resources: `fpga=2`.

use events::GenericResource;

use super::Invalid;

const HINT: &str = "write KIND=NUMBER, several separated by commas, such as gpu=1,fpga=2";

/// Reads a kind and a number. A task requests numbers only; for named resources, the scheduler picks the names.
///
/// # Errors
/// When the text is malformed, or names a single resource.
pub fn parse(text: &str) -> Result<GenericResource, Invalid> {
    let list = events::spec::generic::parse(text).map_err(|error| Invalid::new(error.to_string(), HINT))?;
    let [resource] = <[GenericResource; 1]>::try_from(list)
        .map_err(|_| Invalid::new(format!("generic resource \"{text}\" is not one kind and a number"), HINT))?;
    if !resource.names.is_empty() {
        return Err(Invalid::new(format!("generic resource \"{text}\" is not given as a number"), HINT));
    }
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_can_be_asked_for() {
        let resource = parse("fpga=2").expect("a valid resource");
        assert_eq!((resource.kind.as_str(), resource.amount), ("fpga", 2));
        for text in ["gpu=UUID1", "gpu", "gpu=0", "", "gpu=1,fpga=1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

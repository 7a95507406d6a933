//! Credential specs in the form of Docker's `--credential-spec`: `file://NAME`, `registry://NAME` or `config://NAME`.

use events::CredentialSpec;

use super::Invalid;

const HINT: &str = "write file://NAME for a file of the engine, registry://NAME for a value in the registry of the node, or config://NAME";

/// Reads the location of a credential spec.
///
/// # Errors
/// When it is none of these forms, or the name is empty.
pub fn parse(text: &str) -> Result<CredentialSpec, Invalid> {
    let mut made = CredentialSpec::default();
    let place = text.split_once("://").filter(|(_, name)| !name.is_empty());
    match place {
        Some(("file", name)) => made.file = name.to_owned(),
        Some(("registry", name)) => made.registry = name.to_owned(),
        Some(("config", name)) => made.config = name.to_owned(),
        _ => return Err(Invalid::new(format!("\"{text}\" is not a credential spec"), HINT)),
    }
    Ok(made)
}

/// Writes it in the same form.
pub fn show(CredentialSpec { file, registry, config }: &CredentialSpec) -> String {
    let places = [("file", file), ("registry", registry), ("config", config)];
    let given = places.into_iter().find(|(_, name)| !name.is_empty());
    given.map_or_else(String::new, |(place, name)| format!("{place}://{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_spec_is_in_one_of_three_places() {
        for text in ["file://web.json", "registry://web", "config://web"] {
            assert_eq!(show(&parse(text).expect(text)), text);
        }
        for text in ["", "web.json", "file://", "secret://web", "raw://{}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

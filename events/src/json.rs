//! JSON formats of enums and bytes: an enum as its short name in lower case (`running`), bytes in hexadecimal.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// An enum of the schema, whose values have short names.
pub trait Named: Copy + Sized + TryFrom<i32> + Into<i32> {
    /// The short name of the value: `running` for `TASK_STATE_RUNNING`.
    fn name(self) -> String;
    /// The value with this short name.
    fn from_name(name: &str) -> Option<Self>;
}

/// The short name of a number that may be unknown to this build.
fn short<E: Named>(number: i32) -> String {
    E::try_from(number).map_or_else(|_| number.to_string(), Named::name)
}

/// Serialises the number of an enum by its short name; for schemas that build on this one.
///
/// # Errors
/// When the serialiser fails.
pub fn serialize_name<E: Named, S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { to.serialize_str(&short::<E>(*number)) } else { to.serialize_i32(*number) }
}

/// Serialises the number of an optional enum as its short name; for schemas that build on this one.
///
/// # Errors
/// When the serialiser fails.
pub fn serialize_optional_name<E: Named, S: Serializer>(number: &Option<i32>, to: S) -> Result<S::Ok, S::Error> {
    let readable = to.is_human_readable();
    match number {
        Some(number) if readable => to.serialize_some(&short::<E>(*number)),
        Some(number) => to.serialize_some(number),
        None => to.serialize_none(),
    }
}

/// Serialises optional bytes in hexadecimal; for schemas that build on this one.
///
/// # Errors
/// When the serialiser fails.
pub fn serialize_optional_hex<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) if to.is_human_readable() => hex::serialize(bytes, to),
        Some(bytes) => to.serialize_some(bytes),
        None => to.serialize_none(),
    }
}

macro_rules! named {
    ($($name:ident $prefix:literal,)*) => { $(
        impl Named for crate::schema::$name {
            fn name(self) -> String { self.as_str_name().trim_start_matches($prefix).to_ascii_lowercase() }
            fn from_name(name: &str) -> Option<Self> {
                Self::from_str_name(&format!("{}{}", $prefix, name.to_ascii_uppercase()))
            }
        }

        #[allow(non_snake_case, dead_code)]
        pub(crate) mod $name {
            use super::*;
            pub(crate) mod one {
                use super::*;
                pub(crate) fn serialize<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
                    serialize_name::<crate::schema::$name, S>(number, to)
                }
                pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
                    if !from.is_human_readable() { return i32::deserialize(from) }
                    let name = String::deserialize(from)?;
                    let known = crate::schema::$name::from_name(&name);
                    known.map(Into::into).ok_or_else(|| D::Error::custom(format!("unknown {}: {name}", stringify!($name))))
                }
            }
            pub(crate) mod optional {
                use super::*;
                pub(crate) fn serialize<S: Serializer>(number: &Option<i32>, to: S) -> Result<S::Ok, S::Error> {
                    serialize_optional_name::<crate::schema::$name, S>(number, to)
                }
                pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i32>, D::Error> {
                    if !from.is_human_readable() { return Option::deserialize(from) }
                    let Some(name) = Option::<String>::deserialize(from)? else { return Ok(None) };
                    let known = crate::schema::$name::from_name(&name);
                    let error = || D::Error::custom(format!("unknown {}: {name}", stringify!($name)));
                    known.map(Into::into).map(Some).ok_or_else(error)
                }
            }
        }
    )* };
}

named! {
    ActorKind "ACTOR_KIND_",
    AppArmorMode "APP_ARMOR_MODE_",
    Availability "AVAILABILITY_",
    BindPropagation "BIND_PROPAGATION_",
    DesiredCause "DESIRED_CAUSE_",
    FailureAction "FAILURE_ACTION_",
    Isolation "ISOLATION_",
    MountConsistency "MOUNT_CONSISTENCY_",
    MountType "MOUNT_TYPE_",
    NetworkMode "NETWORK_MODE_",
    OperatorRole "OPERATOR_ROLE_",
    Overlap "OVERLAP_",
    PlacementStrategy "PLACEMENT_STRATEGY_",
    PortProtocol "PORT_PROTOCOL_",
    PublishMode "PUBLISH_MODE_",
    PullPolicy "PULL_POLICY_",
    Reconciler "RECONCILER_",
    RestartCondition "RESTART_CONDITION_",
    Role "ROLE_",
    SeccompMode "SECCOMP_MODE_",
    SkipCause "SKIP_CAUSE_",
    SpecChange "SPEC_CHANGE_",
    TaskAccess "TASK_ACCESS_",
    TaskCause "TASK_CAUSE_",
    TaskState "TASK_STATE_",
    UpdateOrder "UPDATE_ORDER_",
}

/// Whether a command has no id from its client.
pub(crate) fn is_no_command(id: &crate::CommandId) -> bool {
    *id == crate::CommandId::default()
}

/// Bytes as hexadecimal text.
pub(crate) mod hex {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return to.serialize_bytes(bytes);
        }
        to.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        if !from.is_human_readable() {
            return Vec::deserialize(from);
        }
        let text = String::deserialize(from)?;
        let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
        let digits =
            digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(|| D::Error::custom("not hexadecimal"))?;
        Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
    }
}

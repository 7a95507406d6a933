//! Deserializes trees with serde. Unknown keys are refused with their location, and never dropped.

use std::fmt;
use std::slice::Iter;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{At, Fault, Key, Node, Value};

/// Deserializes a tree.
///
/// # Errors
/// When it has an unknown key, or a value of the wrong type.
pub fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, Fault> {
    let reader = Reader { node, key: None };
    T::deserialize(reader).map_err(|error| {
        let at = error.at.unwrap_or_else(|| node.at.clone());
        Fault { at, sentence: error.sentence }
    })
}

/// An error, with its location as soon as that is known.
#[derive(Debug)]
struct Error {
    at: Option<At>,
    sentence: String,
}

impl Error {
    /// The innermost location wins.
    fn or_at(self, at: &At) -> Self {
        Self { at: self.at.or_else(|| Some(at.clone())), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { at: None, sentence: message.to_string() }
    }
}

/// A value, with its key.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    key: Option<&'a Key>,
}

impl Reader<'_> {
    /// Adds the location of this value to an error without one.
    fn placed<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| error.or_at(&self.node.at))
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(match &self.node.value {
            Value::Scalar { .. } if self.node.is_null() => visitor.visit_unit(),
            Value::Scalar { text, plain: false } => visitor.visit_str(text),
            Value::Scalar { text, plain: true } => match self.node.boolean() {
                Some(truth) => visitor.visit_bool(truth),
                None => number(text, visitor),
            },
            Value::List(items) => visitor.visit_seq(Items { items: items.iter() }),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), next: None }),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { self.placed(visitor.visit_some(self)) }
    }

    // In a text field, `version: 1.10` means these characters.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.text() {
            Some(text) => self.placed(visitor.visit_str(text)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    // Serde would accept a list as the fields in their order, which is never intended; null is a message without fields.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar { .. } if self.node.is_null() => {
                visitor.visit_map(Entries { entries: [].iter(), next: None })
            }
            Value::Map(_) => self.deserialize_any(visitor),
            Value::Scalar { .. } | Value::List(_) => {
                self.placed(Err(de::Error::custom(format!("a map is expected here, not {}", self.node.kind()))))
            }
        }
    }

    // Only unknown fields are deserialized like this.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        let unknown =
            |key: &Key| Error { at: Some(key.at.clone()), sentence: format!("there is no key {} here", key.text) };
        Err(self.key.map_or_else(|| de::Error::custom("a value that is not allowed here"), unknown))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.placed(match &self.node.value {
            Value::Map(entries) if entries.len() == 1 => visitor.visit_enum(Choice { entries }),
            Value::Map(_) | Value::List(_) | Value::Scalar { .. } => {
                Err(de::Error::custom(format!("a map with one key is expected here, not {}", self.node.kind())))
            }
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map identifier
    }
}

fn number<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, Error> {
    if let Ok(number) = text.parse() {
        return visitor.visit_u64(number);
    }
    if let Ok(number) = text.parse() {
        return visitor.visit_i64(number);
    }
    let looks_like_one = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    match text.parse() {
        Ok(number) if looks_like_one => visitor.visit_f64(number),
        Ok(_) | Err(_) => visitor.visit_str(text),
    }
}

struct Items<'a> {
    items: Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.items.next().map(|node| seed.deserialize(Reader { node, key: None })).transpose()
    }
}

struct Entries<'a> {
    entries: Iter<'a, (Key, Node)>,
    next: Option<&'a (Key, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.entries.next();
        let Some((key, _)) = self.next else { return Ok(None) };
        let read: StrDeserializer<'_, Error> = key.text.as_str().into_deserializer();
        seed.deserialize(read).map(Some).map_err(|error| error.or_at(&key.at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, node) = self.next.ok_or_else(|| <Error as de::Error>::custom("a value without a key"))?;
        seed.deserialize(Reader { node, key: Some(key) }).map_err(|error| error.or_at(&node.at))
    }
}

/// A map with one key, which selects the variant.
struct Choice<'a> {
    entries: &'a [(Key, Node)],
}

impl<'de, 'a> EnumAccess<'de> for Choice<'a> {
    type Error = Error;
    type Variant = Reader<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Reader<'a>), Error> {
        let (key, node) = self.entries.first().ok_or_else(|| <Error as de::Error>::custom("an empty map"))?;
        let read: StrDeserializer<'_, Error> = key.text.as_str().into_deserializer();
        let variant = seed.deserialize(read).map_err(|error| error.or_at(&key.at))?;
        Ok((variant, Reader { node, key: Some(key) }))
    }
}

impl<'de> VariantAccess<'de> for Reader<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        de::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use events::ServiceSpec;

    use super::*;

    fn read(text: &str) -> Result<ServiceSpec, String> {
        let node = crate::yaml::one("f", text).expect(text).expect(text);
        from_node(&node).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_spec_is_read_and_its_text_stays_text() {
        let spec = read(
            "annotations: {name: web, labels: {version: 1.10}}\nmode: {replicated: {replicas: 3}}\n\
             update: {parallelism: 2, failure_action: rollback}\ntask: {container: {image: nginx, tty: true, args: [1, '2']}}",
        )
        .expect("a spec");
        assert_eq!(spec.annotations().labels["version"], "1.10");
        assert_eq!(spec.replicas(), Some(3));
        assert_eq!(spec.template().container().args, ["1", "2"]);
        assert!(spec.template().container().tty);
        assert_eq!(spec.update.map(|update| update.failure_action()), Some(events::FailureAction::Rollback));
    }

    #[test]
    fn what_a_spec_does_not_have_is_refused_where_it_stands() {
        for (text, why) in [
            ("task:\n  container:\n    imag: x\n", "f:3:5: there is no key imag here"),
            ("task:\n  container:\n    tty: maybe\n", "f:3:10: invalid type: string \"maybe\", expected a boolean"),
            ("mode:\n  replicatd: {}\n", "f:2:3: unknown variant `replicatd`"),
            ("mode: replicated\n", "f:1:7: a map with one key is expected here, not a single value"),
            ("update: {order: sideways}\n", "f:1:17: unknown UpdateOrder: sideways"),
            ("annotations: [x]\n", "f:1:14: a map is expected here, not a list"),
        ] {
            let fault = read(text).expect_err(text);
            assert!(fault.contains(why), "{text}: {fault}");
        }
    }
}

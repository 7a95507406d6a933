//! Declares which objects a change affects, and so what is reconciled because of it.

use std::collections::BTreeSet;

/// Adds one set to another at the cost of the smaller one: what remains to be reconciled may be large, and a turn adds little to
/// it.
pub fn union_into<K: Ord>(all: &mut BTreeSet<K>, mut other: BTreeSet<K>) {
    if all.len() < other.len() {
        std::mem::swap(all, &mut other);
    }
    all.extend(other);
}

/// Declares what a change affects: sets of keys by noun, and flags. Each row is all that a noun needs here.
#[macro_export]
macro_rules! concerns {
    (
        $(#[$about:meta])*
        pub struct $name:ident
        sets { $($(#[$about_set:meta])* $set:ident: $key:ty,)+ }
        flags { $($(#[$about_flag:meta])* $flag:ident,)* }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$about_set])* pub $set: ::std::collections::BTreeSet<$key>,)+
            $($(#[$about_flag])* pub $flag: bool,)*
        }

        impl $name {
            /// Whether it is empty.
            pub fn is_empty(&self) -> bool {
                $(self.$set.is_empty())&&+ $(&& !self.$flag)*
            }

            /// Adds the contents of another.
            pub fn merge(&mut self, mut other: Self) {
                $($crate::concerns::union_into(&mut self.$set, ::std::mem::take(&mut other.$set));)+
                $(self.$flag |= other.$flag;)*
            }
        }
    };
}
